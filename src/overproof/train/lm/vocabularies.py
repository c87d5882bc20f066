"""Whether two tokenizers mean the same by their ids.

Families pad their embeddings differently (Qwen2.5: 151,936 and 152,064 rows for the same 151,665
tokens), and unrelated vocabularies may have the same size: neither number of rows says anything.
Only the tokens' own strings do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from overproof.errors import CapabilityError, ModelError

__all__ = [
    "SharedVocabulary",
    "check_tokenizer",
    "require_same_vocabulary",
    "same_vocabulary",
    "tokens_by_id",
]


@dataclass(frozen=True)
class SharedVocabulary:
    """How two vocabularies, a and b, agree.

    ``shared`` is how many ids from 0 on both give the same token (or both leave unused), ``sizes``
    are the highest id of each plus one. ``differs`` is the first id that both know and spell
    differently or that only one of them uses below the end of the shorter, with both spellings.
    ``overlap`` is the share of a's tokens that b knows as well, under whatever id.
    """

    shared: int
    sizes: tuple[int, int]
    differs: tuple[int, str | None, str | None] | None
    overlap: float

    @property
    def same(self) -> bool:
        """Whether every id that both reach is the same token; one may go on after the other."""
        return self.differs is None


def tokens_by_id(tokenizer: Any) -> list[str | None]:
    """Every token's string at its id, ``None`` where an id is unused; added tokens included."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    tokens: list[str | None] = [None] * (max(vocabulary.values(), default=-1) + 1)
    for token, i in vocabulary.items():
        tokens[i] = token
    return tokens


def same_vocabulary(a: Any, b: Any) -> SharedVocabulary:
    """Compare two tokenizers token by token.

    Args:
        a: a Hugging Face tokenizer.
        b: another.
    """
    of_a, of_b = tokens_by_id(a), tokens_by_id(b)
    differs = None
    shared = min(len(of_a), len(of_b))
    for i, (token_a, token_b) in enumerate(zip(of_a, of_b, strict=False)):
        if token_a != token_b:
            shared, differs = i, (i, token_a, token_b)
            break
    strings_a, strings_b = set(of_a) - {None}, set(of_b) - {None}
    return SharedVocabulary(
        shared=shared,
        sizes=(len(of_a), len(of_b)),
        differs=differs,
        overlap=len(strings_a & strings_b) / max(1, len(strings_a)),
    )


def require_same_vocabulary(
    student: Any, teacher: Any, *, student_name: str, teacher_name: str, method: str
) -> SharedVocabulary:
    """The shared vocabulary of a student and its teacher.

    Args:
        student: the student's tokenizer.
        teacher: the teacher's.
        student_name: as the recipe calls it.
        teacher_name: likewise.
        method: which needs it.

    Raises:
        CapabilityError: an id means different tokens to them.
    """
    found = same_vocabulary(student, teacher)
    if found.differs is not None:
        i, ours, theirs = found.differs
        raise CapabilityError(
            f"student {student_name}",
            f"token {i} is {ours!r} to it and {theirs!r} to {teacher_name}: method '{method}' "
            f"compares the two token by token ({found.overlap:.0%} of its tokens are known to "
            "the teacher, under whatever id)",
            "take a base of the teacher's own family, or method = 'sparse_kd', which maps "
            "log-probs onto any vocabulary by bytes",
        )
    return found


def check_tokenizer(tokenizer: Any, rows: int, name: str) -> None:
    """Check that every token has an embedding; rows beyond the last token are padding, and fine.

    Args:
        tokenizer: a Hugging Face tokenizer.
        rows: of the embedding.
        name: of the base, for the error.

    Raises:
        ModelError: a token, added ones included, lies outside of the embedding.
    """
    tokens = tokens_by_id(tokenizer)
    outside = [(i, token) for i, token in enumerate(tokens) if i >= rows and token is not None]
    if outside:
        i, token = outside[0]
        raise ModelError(
            name,
            f"its tokenizer disagrees with its weights: {len(outside)} of its tokens, {token!r} "
            f"({i}) first, have no row in the embedding of {rows} rows",
            "use the tokenizer that the weights were made with; if tokens were added on purpose, "
            "save the weights with model.resize_token_embeddings(len(tokenizer))",
        )
