"""Open weights: how much probability the suspect puts on green tokens, instead of what it sampled.

Where the suspect's next-token probabilities can be had, the sum of p_S over the green tokens of a
context replaces one sampled hit, and the noise of sampling is gone (Sander et al., arXiv
2402.14904, section 4). Positions with the same window are averaged, so that each unique context
counts once. Only the ``top`` tokens of a position are kept: chosen without the key, so the test
stays valid, and the rest carries little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from overproof.audit.radioactivity import Plan, assess_pairs
from overproof.audit.watermarks.pairs import Pairs, densest_contexts, group_rows, unique_pairs
from overproof.audit.watermarks.schemes import Key, Progress, Scheme
from overproof.errors import DataError
from overproof.records.audit import TestFinding

__all__ = [
    "NextTokenProbabilities",
    "distributions",
    "green_mass_pairs",
    "green_mass_test",
    "most_probable",
    "positions",
    "tables_of",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# (prompt ids, text ids) -> p_S of every next token at each position of the text, (length, V).
NextTokenProbabilities = Callable[[Sequence[int], Sequence[int]], npt.ArrayLike]
ROUNDING = 1e-3


def green_mass_pairs(
    texts: Sequence[Sequence[int]],
    probabilities: Iterable[npt.ArrayLike] | NextTokenProbabilities,
    scheme: Scheme,
    *,
    prompts: Sequence[Sequence[int]] | None = None,
    top: int = 128,
    drop_prompt_windows: bool = True,
    first_places: bool = True,
) -> tuple[Pairs, int]:
    """Weighted (context, token) pairs, and how many unique contexts there are.

    Args:
        texts: ids that the suspect is asked about.
        probabilities: for each text an array (length, V), row i the suspect's distribution of
            token i given what precedes it; or a function that yields it. One text is held at once.
        scheme: the teacher's watermark.
        prompts: ids of each text's prompt.
        top: most probable tokens kept at each position.
        drop_prompt_windows: drop positions whose window stands in the prompt.
        first_places: of each window of a text, score its first place alone. Needed unless the texts
            cannot carry the mark: what followed a window before, green where it was marked, an
            innocent model copies too.

    Raises:
        DataError: arrays of another shape, rows that are not distributions, too few arrays.
    """
    if top < 1:
        raise DataError("top", f"is {top}", "keep 1 token a position or more")
    rows: list[Ints] = []
    weights: list[Floats] = []
    owners: list[Ints] = []
    scored = in_prompt = 0
    for index, (text, prompt, table) in enumerate(tables_of(texts, prompts, probabilities)):
        p = distributions(table, len(text), scheme.vocabulary, f"text {index + 1}")
        where, contexts, dropped = positions(
            text, prompt, scheme, drop_prompt_windows, first_places
        )
        scored, in_prompt = scored + len(where) + dropped, in_prompt + dropped
        kept, mass = most_probable(p[where], top)
        repeated = np.repeat(contexts, kept.shape[1], axis=0)
        rows.append(np.column_stack([repeated, kept.ravel()]))
        weights.append(mass.ravel())
        owners.append(np.full(kept.size, index, dtype=np.int64))
    table = np.concatenate(rows) if rows else np.zeros((0, scheme.width + 1), dtype=np.int64)
    mass = np.concatenate(weights) if weights else np.zeros(0)
    owner = np.concatenate(owners) if owners else np.zeros(0, dtype=np.int64)
    pairs, unique = _averaged(table, mass, owner)
    return replace(pairs, scored=scored, in_prompt=in_prompt, texts=len(texts)), unique


def tables_of(
    texts: Sequence[Sequence[int]],
    prompts: Sequence[Sequence[int]] | None,
    probabilities: Iterable[npt.ArrayLike] | NextTokenProbabilities,
) -> Iterator[tuple[Sequence[int], Sequence[int], npt.ArrayLike]]:
    """Each text with its prompt and its probabilities; one array is held at once."""
    if prompts is not None and len(prompts) != len(texts):
        raise DataError("prompts", f"are {len(prompts)} for {len(texts)} texts", "give one a text")
    if callable(probabilities):
        for index, text in enumerate(texts):
            prompt = prompts[index] if prompts is not None else ()
            yield text, prompt, probabilities(prompt, text)
        return
    ready = iter(probabilities)
    for index, text in enumerate(texts):
        try:
            table = next(ready)
        except StopIteration:
            raise DataError(
                f"text {index + 1}", "has no probabilities: the arrays are too few", "give all"
            ) from None
        yield text, prompts[index] if prompts is not None else (), table


def distributions(table: npt.ArrayLike, length: int, vocabulary: int, culprit: str) -> Floats:
    """The table as numbers, (length, V).

    Raises:
        DataError: another shape, or rows that are no distributions.
    """
    p = np.asarray(table, dtype=np.float64)
    if p.ndim != 2 or p.shape[0] != length or p.shape[1] < vocabulary:
        raise DataError(
            culprit,
            f"has probabilities of shape {p.shape}, not ({length}, {vocabulary})",
            "give p_S of every token at each position; is this the teacher's tokenizer?",
        )
    sums = p.sum(axis=1)
    if not np.isfinite(p).all() or (p < 0).any() or (np.abs(sums - 1) > ROUNDING).any():
        raise DataError(culprit, "has rows that are not probabilities", "give a softmax, no logits")
    return p[:, :vocabulary]


def positions(
    text: Sequence[int], prompt: Sequence[int], scheme: Scheme, drop: bool, first_places: bool
) -> tuple[Ints, Ints, int]:
    """Positions that are scored, their contexts, and how many stand in the prompt.

    See `green_mass_pairs` for what the last two arguments do.
    """
    # A marker in place of the token makes every position of one text a pair of its own.
    start = 0 if scheme.pad is not None else scheme.width
    one = unique_pairs(
        [text], None, width=scheme.width, pad=scheme.pad, vocabulary=scheme.vocabulary,
        number_positions=True,
    )  # fmt: skip
    contexts, where = one.contexts, one.tokens + start
    if first_places and scheme.width:
        first, _, _ = group_rows(contexts)
        contexts, where = contexts[first], where[first]
    if not drop or not scheme.width or len(prompt) < scheme.width:
        return where, contexts, 0
    there = {tuple(prompt[i : i + scheme.width]) for i in range(len(prompt) - scheme.width + 1)}
    keep = np.array([tuple(row) not in there for row in contexts.tolist()], dtype=bool)
    return where[keep], contexts[keep], int((~keep).sum())


def most_probable(p: Floats, top: int) -> tuple[Ints, Floats]:
    """Ids and probabilities of the most probable tokens of each row, (rows, at most ``top``)."""
    if p.shape[1] <= top:
        kept = np.broadcast_to(np.arange(p.shape[1]), p.shape)
    else:
        kept = np.argpartition(p, -top, axis=1)[:, -top:]
    return np.asarray(kept, dtype=np.int64), np.take_along_axis(p, kept, axis=1)


def _averaged(table: Ints, mass: Floats, owner: Ints) -> tuple[Pairs, int]:
    """Rows (context, token) with their mass, averaged so that each unique context weighs 1."""
    width = table.shape[1] - 1
    first, inverse, counts = group_rows(table)
    summed = np.bincount(inverse, mass, len(first)).astype(np.float64)
    _, context_of, _ = group_rows(table[first, :width])
    total = np.bincount(context_of, summed)
    weight = summed / np.maximum(total[context_of], 1e-300)
    contexts = np.ascontiguousarray(table[first, :width])
    pairs = Pairs(contexts, table[first, width], owner[first], counts, weight)
    return pairs.take(weight > 0), len(total)


def green_mass_test(
    texts: Sequence[Sequence[int]],
    probabilities: Iterable[npt.ArrayLike] | NextTokenProbabilities,
    scheme: Scheme,
    key: Key,
    *,
    prompts: Sequence[Sequence[int]] | None = None,
    plan: Plan | None = None,
    top: int = 128,
    progress: Progress | None = None,
) -> TestFinding:
    """Radioactivity from open weights. See `green_mass_pairs` and `Plan`.

    Raises:
        ConfigError: a default, published or short key.
        DataError: probabilities that do not fit the texts.
    """
    plan = plan or Plan()
    scheme.check_key(key)
    pairs, contexts = green_mass_pairs(
        texts, probabilities, scheme, prompts=prompts, top=top,
        drop_prompt_windows=plan.drop_prompt_windows, first_places=plan.first_places,
    )  # fmt: skip
    if plan.max_contexts is not None and contexts > plan.max_contexts:
        pairs, contexts = densest_contexts(pairs, plan.max_contexts), plan.max_contexts
    finding = assess_pairs(
        pairs, scheme, key, plan=plan, progress=progress, unit="unique contexts", n=contexts
    )
    finding.details["evidence"] = "next-token probabilities"
    return finding
