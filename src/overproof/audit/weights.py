"""Descent of weights: does the suspect start from the other model's weights?

Zhu, Ahmed, Kuditipudi and Liang, *Independence tests for language models* (ICML 2025, arXiv
2502.12292), section on the constrained setting: if a network's initialisation is exchangeable
under a group of transformations that leave the architecture's function alone, and its training
treats the transformed network as it would the original (SGD, Adam and every other elementwise
rule do), then under the null hypothesis "trained independently" the transformed copies of one
model, paired with the other, are exchangeable with the pair itself. Their PERMTEST (algorithm 1)
compares a statistic with its value on random copies: exact, but never below 1/(T + 1). Their MATCH
and SPEARMAN (algorithms 2 and 3) instead match hidden units by cosine and rank-correlate the match
with the identity, which under the same null is a uniform permutation.

Both tests here are PERMTEST over *all* copies at once, for a statistic whose law under the group is
known in closed form (`overproof.audit.matching.count_law`), so p-values go far below 1/(T + 1) and
stay exact:

* **units in place** (group: the hidden units of every MLP block, each block its own permutation).
  Hidden units are matched by their gate, up and down vectors; the statistic is how many matched
  pairs carry the same number. The group is a product over blocks, so given the other model the
  blocks' counts are independent: their sum is convolved, nothing is lost to Bonferroni.
* **residual dimensions in place** (group: the dimensions of the residual stream, one permutation
  for the whole network). A suspect whose hidden units were renumbered, pruned away or re-used at
  another width defeats the first test. Here hidden units are matched on one half of the residual
  dimensions, wherever they stand, and the *other* half of the dimensions is then matched by the
  units so aligned. Permuting that other half alone changes no step before the count: exact again.
  All blocks enter one statistic, because one permutation moves them all.

The first is ours in its count and theirs in its group; the second is their theorem applied to
another group. Their phi_MATCH for the unconstrained setting (gate match against up match) has no
exact p-value, as they say, and is not used. The two p-values are joined by Bonferroni, since both
look at the same weights. A suspect whose residual stream was rotated or permuted *and* whose
hidden units were renumbered is beyond both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from overproof.audit.matching import MatchTail, match_tail, mutual_pairs, pairs_from_products
from overproof.audit.weights_files import open_checkpoint, read_block
from overproof.errors import DataError
from overproof.records.audit import Effect, Exactness, Power, PValue, Standing, TestFinding

__all__ = ["UnitCounts", "Units", "place_counts", "weights_test", "weights_test_of_units"]

Floats = npt.NDArray[np.float32]
Units = Callable[[], Floats]
"""Yields a block's hidden units, H x K x D; called once, so that one block is held at a time."""

HYPOTHESIS = (
    "The suspect's weights were trained from an initialisation drawn independently of this model's."
)
ASSUMPTION = (
    "Training treats every numbering of {what} alike and the initialisation is exchangeable over "
    "them, as with independent identically distributed entries and an elementwise optimiser such "
    "as SGD or Adam (arXiv 2502.12292, constrained setting); it must hold for one of the two "
    "models, the training data may be anything."
)
NOT_PROVED = (
    "Which of the two models came first: both may descend from a third.",
    "That outputs of the one were used to train the other: only that weights are shared.",
    "Who copied the weights, or whether a licence allowed it.",
)


@dataclass(frozen=True)
class UnitCounts:
    """What was counted.

    Attributes:
        units: of each block, its hidden units (of the smaller model) and the pairs found.
        units_in_place: pairs of hidden units with equal numbers; None where widths differ.
        dimensions: residual dimensions compared, and pairs of them found.
        dimensions_in_place: pairs of residual dimensions with equal numbers.
    """

    units: tuple[tuple[int, int], ...]
    units_in_place: int | None
    dimensions: tuple[int, int]
    dimensions_in_place: int


def place_counts(first: list[Units], second: list[Units], width: int, seed: int = 0) -> UnitCounts:
    """Count the hidden units and the residual dimensions that stand in the same place.

    Args:
        first: blocks of one model, each H x K x D.
        second: the same blocks of the other, H' x K x D.
        width: D.
        seed: of the split of the residual dimensions into halves.
    """
    order = np.random.default_rng(seed).permutation(width)
    align, compare = np.sort(order[: width // 2]), np.sort(order[width // 2 :])
    products = np.zeros((len(compare), len(compare)))
    norm_first, norm_second = np.zeros(len(compare)), np.zeros(len(compare))
    groups: list[tuple[int, int]] = []
    in_place: int | None = 0
    for read_first, read_second in zip(first, second, strict=True):
        a, b = read_first(), read_second()
        if a.shape[0] == b.shape[0]:
            pairs = mutual_pairs(_flat(a), _flat(b))
            groups.append((a.shape[0], len(pairs)))
            if in_place is not None:
                in_place += int((pairs[:, 0] == pairs[:, 1]).sum())
        else:
            groups.append((min(a.shape[0], b.shape[0]), 0))
            in_place = None
        aligned = mutual_pairs(_flat(a[:, :, align]), _flat(b[:, :, align]))
        left = a[aligned[:, 0]][:, :, compare].reshape(-1, len(compare)).astype(np.float64)
        right = b[aligned[:, 1]][:, :, compare].reshape(-1, len(compare)).astype(np.float64)
        products += left.T @ right
        norm_first += np.square(left).sum(axis=0)
        norm_second += np.square(right).sum(axis=0)
    found = pairs_from_products(products, norm_first, norm_second)
    return UnitCounts(
        tuple(groups),
        in_place,
        (len(compare), len(found)),
        int((found[:, 0] == found[:, 1]).sum()),
    )


def _flat(units: Floats) -> Floats:
    """H x (K D), each of the K vectors of a unit scaled to length one, so that none drowns."""
    norm = np.linalg.norm(units, axis=2, keepdims=True)
    scaled = np.divide(units, norm, out=np.zeros_like(units), where=norm > 0)
    return np.asarray(scaled.reshape(len(units), -1))


def _p(tail: MatchTail, what: str, moved: str, floor: float) -> PValue:
    law = "exact law of coincidences" if tail.exact else "Chernoff bound on the coincidences"
    return PValue(
        value=tail.p,
        exactness=Exactness.EXACT if tail.exact else Exactness.BOUND,
        method=f"{what}: permutation test over all numberings, {law}",
        assumption=ASSUMPTION.format(what=moved),
        floor=floor,
        log10=tail.log10,
    )


def weights_test_of_units(
    first: list[Units], second: list[Units], width: int, *, seed: int = 0, alpha: float = 0.01
) -> TestFinding:
    """Test two models, given block by block, for independence of their initialisations.

    Args:
        first: blocks of the suspect; see `place_counts`.
        second: the same blocks of the model it may descend from.
        width: residual width.
        seed: of the split of the residual dimensions.
        alpha: level for which the power is stated; among several tests, this one's share.

    Raises:
        DataError: blocks that do not correspond.
    """
    if not first or len(first) != len(second) or width < 4:
        raise DataError(
            "the two models",
            f"have {len(first)} and {len(second)} MLP blocks of width {width}",
            "descent of weights compares models of one architecture",
        )
    counts = place_counts(first, second, width, seed)
    tails: list[PValue] = []
    if counts.units_in_place is not None:
        most = sum(units for units, _ in counts.units)
        floor = match_tail(most, [(h, h) for h, _ in counts.units])
        tail = match_tail(counts.units_in_place, list(counts.units))
        tails.append(_p(tail, "units in place", "the hidden units", floor.p))
    tail = match_tail(counts.dimensions_in_place, [counts.dimensions])
    size = counts.dimensions[0]
    floor = match_tail(size, [(size, size)])
    moved = "the dimensions of the residual stream"
    tails.append(_p(tail, "residual dimensions in place", moved, floor.p))
    reasons: tuple[str, ...] = ()
    if counts.units_in_place is None:
        reasons = ("hidden widths differ: only the residual dimensions could be compared",)
    return TestFinding(
        test="weights",
        standing=Standing.FLAGGED if reasons else Standing.DONE,
        hypothesis=HYPOTHESIS,
        n=sum(units for units, _ in counts.units),
        unit="hidden units",
        p_values=_joined(tails),
        effects=_effects(counts),
        power=_power(counts, alpha / len(tails), alpha),
        not_proved=NOT_PROVED,
        reasons=reasons,
        details={
            "blocks": len(counts.units),
            "units_matched": sum(pairs for _, pairs in counts.units),
            "units_in_place": counts.units_in_place,
            "dimensions_compared": counts.dimensions[0],
            "dimensions_matched": counts.dimensions[1],
            "dimensions_in_place": counts.dimensions_in_place,
            "expected_by_chance": "about 1 unit a block, about 1 dimension in all",
        },
    )


def _joined(tails: list[PValue]) -> tuple[PValue, ...]:
    """Bonferroni over both tests first, then each by itself."""
    if len(tails) == 1:
        return tuple(tails)
    best = min(tails, key=lambda tail: tail.log10 if tail.log10 is not None else 0.0)
    assert best.log10 is not None
    joined = PValue(
        value=min(1.0, 2 * best.value),
        exactness=best.exactness if best.exactness is Exactness.BOUND else Exactness.EXACT,
        method="twice the smaller of the two p-values below (Bonferroni)",
        assumption=" ".join(dict.fromkeys(tail.assumption for tail in tails)),
        floor=min(1.0, 2 * min(tail.floor for tail in tails)),
        log10=min(0.0, best.log10 + float(np.log10(2))),
    )
    return (joined, *tails)


def _effects(counts: UnitCounts) -> tuple[Effect, ...]:
    why = "a count of all that could be compared, so there is no sampling error"
    total = sum(units for units, _ in counts.units)
    effects = []
    if counts.units_in_place is not None:
        name = "share of hidden units that stand where the other model has them"
        effects.append(Effect(name, counts.units_in_place / total, why=why))
    name = "share of residual dimensions that stand where the other model has them"
    effects.append(Effect(name, counts.dimensions_in_place / counts.dimensions[0], why=why))
    return tuple(effects)


def _power(counts: UnitCounts, level: float, alpha: float) -> Power:
    """The smallest share of kept units that is certain to reject at ``alpha``."""
    groups = list(counts.units) if counts.units_in_place is not None else [counts.dimensions]
    total = sum(units for units, _ in groups)
    full = [(units, units) for units, _ in groups]
    needed = next((k for k in range(1, total + 1) if match_tail(k, full).p <= level), None)
    if needed is None:
        words = f"Too few units for level {alpha:g}: this test could not have rejected."
        return Power(None, 1.0, alpha, words)
    kind = "hidden units" if counts.units_in_place is not None else "residual dimensions"
    words = (
        f"Rejects for certain at level {alpha:g} once {needed} of {total} {kind} "
        f"({needed / total:.1%}) are matched in their place."
    )
    return Power(needed / total, 1.0, alpha, words)


def weights_test(suspect: Path, other: Path, *, seed: int = 0, alpha: float = 0.01) -> TestFinding:
    """Test two checkpoints on disk for independence of their initialisations.

    Args:
        suspect: a safetensors file, or a directory of them.
        other: the model that it may descend from.
        seed: of the split of the residual dimensions.
        alpha: level for which the power is stated; among several tests, this one's share.

    Returns:
        A finding; refused where the architectures differ.

    Raises:
        DataError: a file that cannot be read.
    """
    ours, theirs = open_checkpoint(suspect), open_checkpoint(other)
    reason = ""
    if ours.width != theirs.width:
        reason = f"the residual stream is {ours.width} wide here and {theirs.width} there"
    elif set(ours.blocks) != set(theirs.blocks):
        missing = sorted(set(ours.blocks) ^ set(theirs.blocks))[0]
        reason = (
            f"{len(ours.blocks)} MLP blocks here, {len(theirs.blocks)} there; "
            f"block {missing!r} stands in only one of them"
        )
    else:
        for block in ours.blocks:
            if set(ours.blocks[block]) != set(theirs.blocks[block]):
                reason = f"block {block!r} is built of other projections"
    if reason:
        return TestFinding(
            test="weights",
            standing=Standing.REFUSED,
            hypothesis=HYPOTHESIS,
            n=0,
            unit="hidden units",
            not_proved=NOT_PROVED,
            reasons=(f"different architectures: {reason}",),
        )
    names = sorted(ours.blocks)
    # Default arguments: each closure keeps its own block.
    first: list[Units] = [lambda b=name: read_block(ours, b) for name in names]  # type: ignore[misc]
    second: list[Units] = [lambda b=name: read_block(theirs, b) for name in names]  # type: ignore[misc]
    return weights_test_of_units(first, second, ours.width, seed=seed, alpha=alpha)
