"""A trace of the watermark beyond what a reference expects: far less noise, the same exact rank.

Green lists are few where contexts are, and a text is peaked: under any key, much of a green score
is luck of *which* likely tokens are green. A reference that never saw the key (the teacher without
its mark, or any other model of the same tokenizer) has the same luck, and taking its expectation
away leaves what the suspect does differently. With p_i the suspect's next-token distribution at
position i (or the token that it said) and r_i the reference's, of each unique context c

    D_c(t) = mean over i in c of (p_i(t) - r_i(t)),     h_c = mean of (1 - sum_t r_i(t)^2),
    score  = sum_c a_c sum_{t green in c} D_c(t),       a_c = h_c / (sum_t D_c(t)^2 + ROUGH).

h_c is the room that a mark had, the collision probability that Kirchenbauer et al. (arXiv
2301.10226) call spike entropy's cousin; the variance of a context's term under a random key is
proportional to sum_t D_c(t)^2, so a_c weighs by signal over variance. Nothing of it looks at the
key, so the rank among alternate keys stays exact, whatever the reference is worth.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from overproof.audit.alternate_keys import AlternateKeyRank
from overproof.audit.green_mass import (
    NextTokenProbabilities,
    distributions,
    most_probable,
    positions,
    tables_of,
)
from overproof.audit.radioactivity import Plan, assess_pairs
from overproof.audit.watermarks.pairs import Pairs
from overproof.audit.watermarks.schemes import Key, Progress, Scheme
from overproof.errors import DataError
from overproof.records.audit import Effect, Power, Standing, TestFinding
from overproof.stats.intervals import ratio_bootstrap

__all__ = ["Contrast", "contrast_of", "contrast_test"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Tables = Iterable[npt.ArrayLike] | NextTokenProbabilities

ROUGH = 1e-3  # keeps a context that suspect and reference agree on from weighing without end
HELD = 4_000_000  # entries held before equal ones are added up


@dataclass(frozen=True)
class Contrast:
    """What the suspect does beyond the reference, by unique context.

    Attributes:
        pairs: (context, token) with the signed weight a_c D_c(t).
        context_of: the context of each pair, shape (n,).
        room: a_c h_c of each context: what its term would be at an effect of 1.
    """

    pairs: Pairs
    context_of: Ints
    room: Floats


class _Sums:
    """Sums of D by (context, token), added up as they come."""

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.places: dict[bytes, int] = {}
        self.contexts: list[Ints] = []
        self.cells: Ints = np.zeros(0, dtype=np.int64)
        self.values: Floats = np.zeros(0)
        self.seen: list[Ints] = []
        self.room: list[Floats] = []
        self._cells: list[Ints] = []
        self._values: list[Floats] = []
        self._held = 0

    def place(self, contexts: Ints) -> Ints:
        """The number of each context, a new one where it was not met yet."""
        out = np.empty(len(contexts), dtype=np.int64)
        for row, context in enumerate(contexts):
            name = context.tobytes()
            at = self.places.get(name)
            if at is None:
                at = self.places[name] = len(self.contexts)
                self.contexts.append(context)
            out[row] = at
        return out

    def add(self, where: Ints, tokens: Ints, values: Floats) -> None:
        """Add values, each array (rows, tokens of a row), to the cells of the contexts."""
        if not where.size:
            return
        self._cells.append((where[:, None] * self.vocabulary + tokens).ravel())
        self._values.append(values.ravel())
        self._held += values.size
        if self._held > HELD:
            self.settle()

    def settle(self) -> None:
        """Add up equal cells."""
        cells = np.concatenate([self.cells, *self._cells])
        values = np.concatenate([self.values, *self._values])
        self.cells, inverse = np.unique(cells, return_inverse=True)
        self.values = np.bincount(inverse.ravel(), values, len(self.cells)).astype(np.float64)
        self._cells, self._values, self._held = [], [], 0


def contrast_of(
    texts: Sequence[Sequence[int]],
    reference: Tables,
    scheme: Scheme,
    *,
    suspect: Tables | None = None,
    prompts: Sequence[Sequence[int]] | None = None,
    top: int = 128,
    drop_prompt_windows: bool = True,
    first_places: bool = True,
) -> Contrast:
    """The suspect against the reference.

    Args:
        texts: ids of the teacher's tokenizer: what the suspect said, sampled at temperature 1; or,
            with ``suspect``, any texts that do not depend on the key, such as unmarked answers.
        reference: next-token probabilities of the reference on these texts, an array (length, V)
            each, or a function of prompt and text that yields it. They must not depend on the key.
        scheme: the teacher's watermark.
        suspect: the suspect's own probabilities, likewise; None to count what it said.
        prompts: ids of each text's prompt.
        top: most probable tokens kept at each position, of either.
        drop_prompt_windows: drop positions whose window stands in the prompt.
        first_places: with ``suspect``, of each window of a text score its first place alone, see
            `overproof.audit.green_mass.green_mass_pairs`.

    Raises:
        DataError: arrays of another shape, rows that are not distributions, too few arrays.
    """
    if top < 1:
        raise DataError("top", f"is {top}", "keep 1 token a position or more")
    sums = _Sums(scheme.vocabulary)
    scored = in_prompt = 0
    said = None if suspect is None else tables_of(texts, prompts, suspect)
    for index, (text, prompt, table) in enumerate(tables_of(texts, prompts, reference)):
        where, contexts, dropped = positions(
            text, prompt, scheme, drop_prompt_windows, first_places and suspect is not None
        )
        scored, in_prompt = scored + len(where) + dropped, in_prompt + dropped
        name = f"text {index + 1}"
        r = distributions(table, len(text), scheme.vocabulary, f"the reference's {name}")[where]
        at = sums.place(contexts)
        sums.seen.append(at)
        sums.room.append(1.0 - (r**2).sum(axis=1))
        kept, mass = most_probable(r, top)
        sums.add(at, kept, -mass)
        if said is None:
            tokens = np.asarray(text, dtype=np.int64)[where, None]
            sums.add(at, tokens, np.ones(tokens.shape))
        else:
            own = next(said)[2]
            p = distributions(own, len(text), scheme.vocabulary, f"the suspect's {name}")[where]
            sums.add(at, *most_probable(p, top))
    return _weighed(sums, scheme, scored, in_prompt, len(texts))


def _weighed(sums: _Sums, scheme: Scheme, scored: int, in_prompt: int, texts: int) -> Contrast:
    sums.settle()
    unique = len(sums.contexts)
    seen = np.concatenate(sums.seen) if sums.seen else np.zeros(0, dtype=np.int64)
    times = np.bincount(seen, minlength=unique).astype(np.float64)
    spare = np.concatenate(sums.room) if sums.room else np.zeros(0)
    room = np.bincount(seen, spare, unique) / np.maximum(times, 1)
    context_of, tokens = np.divmod(sums.cells, scheme.vocabulary)
    beyond = sums.values / times[context_of]
    weight = room / (np.bincount(context_of, beyond**2, unique) + ROUGH)
    contexts = np.array(sums.contexts, dtype=np.int64).reshape(unique, scheme.width)
    ones = np.ones(len(tokens), dtype=np.int64)
    pairs = Pairs(
        contexts[context_of], tokens, np.zeros(len(tokens), dtype=np.int64), ones,
        weight[context_of] * beyond, scored, in_prompt, texts,
    )  # fmt: skip
    return Contrast(pairs, context_of, weight * room)


def contrast_test(
    texts: Sequence[Sequence[int]],
    reference: Tables,
    scheme: Scheme,
    key: Key,
    *,
    suspect: Tables | None = None,
    prompts: Sequence[Sequence[int]] | None = None,
    plan: Plan | None = None,
    top: int = 128,
    progress: Progress | None = None,
) -> TestFinding:
    """Radioactivity beyond a reference, from text or from open weights. See `contrast_of`.

    The effect is the excess of green probability per unit of room: about the dose times what the
    mark itself shifts a context by in which all tokens are alike likely.

    Raises:
        ConfigError: a default, published or short key, or a scheme without a known tail.
        DataError: probabilities that do not fit the texts.
    """
    plan = plan or Plan()
    scheme.check_key(key)
    found = contrast_of(
        texts, reference, scheme, suspect=suspect, prompts=prompts, top=top,
        drop_prompt_windows=plan.drop_prompt_windows, first_places=plan.first_places,
    )  # fmt: skip
    # A reference that is always sure leaves no room, and so nothing to score.
    pairs = found.pairs if found.room.sum() > 0 else found.pairs.take(np.zeros(0, dtype=np.int64))
    finding = assess_pairs(
        pairs, scheme, key, plan=plan, progress=progress, unit="unique contexts",
        n=len(found.room),
        measured=lambda rank: (_effect(scheme, found, key, plan), _power(found, rank, plan)),
    )  # fmt: skip
    if finding.standing is Standing.REFUSED:
        return finding
    rank, tail = finding.p_values
    rank = replace(
        rank,
        method=f"{rank.method}, of what goes beyond the reference",
        assumption=f"{rank.assumption} The reference never saw text that was marked with the key.",
    )
    what = "the suspect's text" if suspect is None else "next-token probabilities"
    finding.details["evidence"] = f"{what}, beyond a reference's expectation"
    return replace(finding, p_values=(rank, tail))


def _effect(scheme: Scheme, found: Contrast, key: Key, plan: Plan) -> Effect:
    """The score per unit of room; contexts are the independent draws, so they are resampled."""
    hits = scheme.hits(found.pairs, key) - scheme.expected
    assert found.pairs.weights is not None
    top = np.bincount(found.context_of, hits * found.pairs.weights, len(found.room))
    share = ratio_bootstrap(top, found.room, resamples=plan.resamples, seed=[0x636F6E74, plan.seed])
    known = share.n > 1
    return Effect(
        "excess of the mark over the reference's expectation, per unit of room",
        share.estimate,
        share.low if known else None,
        share.high if known else None,
        share.confidence if known else None,
        "Percentile bootstrap over contexts." if known else "No interval: there is one context.",
        unit="share",
    )


def _power(found: Contrast, rank: AlternateKeyRank, plan: Plan) -> Power:
    spread = float(rank.alternates.std()) / float(found.room.sum())
    shift = float(ndtri(1 - plan.power_alpha) + ndtri(plan.power)) * spread
    return Power(
        shift,
        plan.power,
        plan.power_alpha,
        f"An excess of {shift:.4f} per unit of room would have been found with probability "
        f"{plan.power:g} at the level {plan.power_alpha:g}.",
    )
