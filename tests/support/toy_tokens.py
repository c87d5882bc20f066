"""Toy tokenizers and teachers, small enough to add up everything that a teacher might write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from overproof.records.logprob_codec import SparseRow
from overproof.train.lm.alignment import Ends, align, place
from overproof.train.lm.teacher_text import TeacherText, TeacherToken

END = 0


class ToyTokens:
    """A greedy tokenizer, longest piece first; token 0 is the end."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = list(dict.fromkeys(pieces))
        self.ids = {piece: i + 1 for i, piece in enumerate(self.pieces)}

    def bytes_of(self, token: int) -> bytes:
        return self.pieces[token - 1] if token else b""

    def first(self, data: bytes) -> int | None:
        for length in range(len(data), 0, -1):
            if data[:length] in self.ids:
                return self.ids[data[:length]]
        return None

    def share_beginning(self, data: bytes) -> float:
        longer = [p for p in self.pieces if p.startswith(data) and p != data]
        return len(longer) / len(self.pieces)

    def tokenize(self, data: bytes) -> list[int]:
        ids = []
        while data:
            token = self.first(data)
            assert token is not None
            ids.append(token)
            data = data[len(self.bytes_of(token)) :]
        return ids


@dataclass
class ToyTeacher:
    """A teacher whose next piece depends on how many it has said; it ends after ``length``."""

    pieces: list[bytes]
    tables: np.ndarray  # (length, pieces): what it says when

    @property
    def length(self) -> int:
        return len(self.tables)

    def texts(self) -> dict[bytes, float]:
        """Every text that it might write, with its probability."""
        texts = {b"": 1.0}
        for table in self.tables:
            grown: dict[bytes, float] = {}
            for text, mass in texts.items():
                for piece, share in zip(self.pieces, table.tolist(), strict=True):
                    grown[text + piece] = grown.get(text + piece, 0.0) + mass * share
            texts = grown
        return texts

    def writes(self, choices: Sequence[int], listed: int | None = None) -> TeacherText:
        """A text that it wrote, with the ``listed`` likeliest alternatives at each place."""
        tokens: list[tuple[bytes, TeacherToken | None]] = []
        for table, choice in zip(self.tables, choices, strict=True):
            order = np.argsort(-table, kind="stable")[:listed].tolist()
            others = tuple((self.pieces[i], float(table[i])) for i in order if i != choice)
            piece = self.pieces[choice]
            tokens.append((piece, TeacherToken(piece, float(table[choice]), others)))
        return TeacherText.of(tokens, TeacherToken(b"", 1.0, end=1.0, is_end=True))


@dataclass
class CanonicalTeacher:
    """A teacher that writes each text in one way only, as its own tokenizer cuts it."""

    pieces: list[bytes]
    sequences: dict[tuple[int, ...], float]

    @classmethod
    def of(cls, teacher: ToyTeacher) -> CanonicalTeacher:
        """``teacher``, given that what it writes is cut as its tokenizer would."""
        tokenizer = ToyTokens(teacher.pieces)
        kept: dict[tuple[int, ...], float] = {}
        for choices in product(range(len(teacher.pieces)), repeat=teacher.length):
            text = b"".join(teacher.pieces[c] for c in choices)
            if tokenizer.tokenize(text) == [c + 1 for c in choices]:
                shares = [teacher.tables[n, c] for n, c in enumerate(choices)]
                kept[choices] = float(np.prod(shares))
        total = sum(kept.values())
        return cls(teacher.pieces, {c: mass / total for c, mass in kept.items()})

    def texts(self) -> dict[bytes, float]:
        """Every text that it might write, with its probability."""
        return {b"".join(self.pieces[c] for c in s): m for s, m in self.sequences.items()}

    def writes(self, choices: Sequence[int]) -> TeacherText:
        """A text that it wrote, with every alternative at each place."""
        tokens: list[tuple[bytes, TeacherToken | None]] = []
        left = dict(self.sequences)
        for n, choice in enumerate(choices):
            shares = np.zeros(len(self.pieces))
            for sequence, mass in left.items():
                shares[sequence[n]] += mass
            shares /= shares.sum()
            others = tuple(
                (piece, float(share))
                for i, (piece, share) in enumerate(zip(self.pieces, shares, strict=True))
                if i != choice and share > 0
            )
            piece = self.pieces[choice]
            tokens.append((piece, TeacherToken(piece, float(shares[choice]), others)))
            left = {s: m for s, m in left.items() if s[n] == choice}
        return TeacherText.of(tokens, TeacherToken(b"", 1.0, end=1.0, is_end=True))


def exactly(
    texts: dict[bytes, float], student: ToyTokens, answer: Sequence[int]
) -> list[dict[int, float]]:
    """At each token of ``answer``: how a text that begins with the bytes before it goes on."""
    tokenized = [(student.tokenize(text), text, mass) for text, mass in texts.items()]
    marginals = []
    before = b""
    for n, token in enumerate([*answer]):
        shares: dict[int, float] = {}
        for ids, text, mass in tokenized:
            if not text.startswith(before):
                continue
            said = b"".join(map(student.bytes_of, ids[:n]))
            if said != before or ids[:n] != list(answer[:n]):
                continue
            following = ids[n] if n < len(ids) else END
            shares[following] = shares.get(following, 0.0) + mass
        total = sum(shares.values())
        marginals.append({t: m / total for t, m in shares.items()})
        before += student.bytes_of(token)
    return marginals


def aligned(
    text: TeacherText,
    student: ToyTokens,
    answer: Sequence[int],
    *,
    k: int = 64,
    ends: Ends | None = None,
) -> SparseRow:
    """Align with where tokens end counted in this one answer."""
    if ends is None:
        ends = Ends()
        ends.observe(text, place(text, answer, student, END))
    return align(text, answer, student, end=END, k=k, ends=ends).row


def masses(row: SparseRow, a: int) -> dict[int, float]:
    """Token ``a``'s probabilities, by token."""
    used = row.logprobs[a] > -np.inf
    logs = row.logprobs[a][used].astype(float)
    return dict(zip(row.ids[a][used].tolist(), np.exp(logs).tolist(), strict=True))
