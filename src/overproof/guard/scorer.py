"""One score from many signals: each through its own rising curve, summed by family.

A `Scorer` is fitted on labelled traffic (guard/score_fit.py), frozen to a file with a hash, and
used on other traffic. Three properties hold whatever it was fitted on:

* *rising*: no signal that grows more suspicious ever lowers the score;
* *neutral*: a signal with nothing to measure (NaN) adds exactly nothing;
* *bounded*: no single signal adds more than its curve's end.

Family sub-scores are summed after sorting, each rank with its own weight that is not negative (an
ordered weighted average, Yager, IEEE SMC 18, 1988): so that the second-most suspicious family can
count for more than the first, which one honest habit can explain.

What is odd in a busy account is not what is odd in a quiet one, so that a scorer may have another
for each band of requests (strata.py); a calibration compares scores within a band alone.

Shapes: N subjects, S signals, F families.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from overproof.errors import DataError, HashMismatchError
from overproof.guard.parts import Family
from overproof.guard.strata import MARK, band_part
from overproof.records.files import write_atomically
from overproof.records.hashing import content_hash

__all__ = ["Curve", "Scorer"]

Floats = npt.NDArray[np.float64]
FORMAT = 1


@dataclass(frozen=True)
class Curve:
    """A rising curve: straight between its knots, level beyond them.

    Attributes:
        knots: K values of the signal, rising; none where it told nothing.
        values: K contributions, never falling; 0 is what a neutral signal adds.
    """

    knots: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        rises = all(a < b for a, b in zip(self.knots, self.knots[1:], strict=False))
        climbs = all(a <= b for a, b in zip(self.values, self.values[1:], strict=False))
        finite = all(map(math.isfinite, (*self.knots, *self.values)))
        if len(self.knots) != len(self.values) or not (rises and climbs and finite):
            raise ValueError("knots must rise, values never fall, and both be finite")

    def at(self, x: float) -> float:
        """The contribution of one value; 0 for NaN."""
        knots = self.knots
        if not knots or math.isnan(x):
            return 0.0
        place = bisect_right(knots, x)
        if place == 0:
            return self.values[0]
        if place == len(knots):
            return self.values[-1]
        low, high = knots[place - 1], knots[place]
        start, end = self.values[place - 1], self.values[place]
        return start + (end - start) * (x - low) / (high - low)

    def of(self, x_n: Floats) -> Floats:
        """The contributions of N values."""
        if not self.knots:
            return np.zeros(len(x_n))
        found = np.interp(np.nan_to_num(x_n, nan=0.0), self.knots, self.values)
        return np.where(np.isnan(x_n), 0.0, found)


@dataclass(frozen=True)
class Scorer:
    """Signals to one score, in nats of evidence; 0 where nothing could be measured.

    Attributes:
        kind: whose signals these are.
        names: S names of signals, in the order of a vector.
        families: S families.
        curves: S curves.
        ranks: F weights, for the most suspicious family first.
        made_from: what it was fitted on, in words and numbers.
        bands: the scorers of looks in some bands of requests, of the same signals; the others are
            scored by this one.
    """

    kind: Literal["account", "community"]
    names: tuple[str, ...]
    families: tuple[Family, ...]
    curves: tuple[Curve, ...]
    ranks: tuple[float, ...]
    made_from: Mapping[str, Any] = field(default_factory=dict)
    bands: Mapping[str, Scorer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.families) == len(self.curves):
            raise ValueError("one name, one family and one curve a signal")
        if len(set(self.names)) != len(self.names):
            raise ValueError("a signal is named twice")
        if len(self.ranks) != len(self.present) or any(rank < 0 for rank in self.ranks):
            raise ValueError("one weight a family, none negative")
        for band in self.bands.values():
            if (band.kind, band.names, band.families) != (self.kind, self.names, self.families):
                raise ValueError("the scorer of a band is of other signals")

    def at(self, stratum: str) -> Scorer:
        """The scorer of looks in a stratum."""
        return self.bands.get(band_part(stratum).removeprefix(MARK), self)

    @cached_property
    def present(self) -> tuple[Family, ...]:
        """The F families that have a signal, in the order of `Family`."""
        return tuple(family for family in Family if family in self.families)

    @cached_property
    def _plan(self) -> tuple[tuple[int, Curve], ...]:
        """For each signal with a curve: the place of its family, and the curve."""
        return tuple(
            (self.present.index(family), curve)
            for family, curve in zip(self.families, self.curves, strict=True)
        )

    def one(self, x: Sequence[float] | Floats) -> tuple[float, dict[Family, float]]:
        """The score and the families' sub-scores of one subject; some 20 µs for 30 signals.

        Raises:
            ValueError: a vector that is not S long.
        """
        sums = [0.0] * len(self.present)
        # A list of Python floats is several times as fast to walk as an array.
        values = x.tolist() if isinstance(x, np.ndarray) else x
        for (place, curve), value in zip(self._plan, values, strict=True):
            sums[place] += curve.at(value)
        total = 0.0
        for rank, value in zip(self.ranks, sorted(sums, reverse=True), strict=True):
            total += rank * value
        return total, dict(zip(self.present, sums, strict=True))

    def family_scores(
        self, x_ns: npt.ArrayLike, strata: Sequence[str] = ()
    ) -> dict[Family, Floats]:
        """Each family's sub-score of N subjects.

        Args:
            x_ns: N x S signals.
            strata: N strata, each scored by its band's scorer; by this one without them.
        """
        x = self._matrix(x_ns)
        sums = {family: np.zeros(len(x)) for family in self.present}
        for scorer, rows in self._rows(len(x), strata):
            mine = x[rows]
            for column, (family, curve) in enumerate(
                zip(scorer.families, scorer.curves, strict=True)
            ):
                sums[family][rows] += curve.of(mine[:, column])
        return sums

    def score(self, x_ns: npt.ArrayLike, strata: Sequence[str] = ()) -> Floats:
        """The score of N subjects; ``strata`` as for `family_scores`.

        Raises:
            ValueError: rows that are not S long.
        """
        x = self._matrix(x_ns)
        if not self.present:
            return np.zeros(len(x))
        sums = np.stack(list(self.family_scores(x, strata).values()), axis=1)
        sums = np.sort(sums, axis=1)[:, ::-1]
        total = np.zeros(len(x))
        for scorer, rows in self._rows(len(x), strata):
            total[rows] = sums[rows] @ np.asarray(scorer.ranks)
        return total

    def _rows(
        self, count: int, strata: Sequence[str]
    ) -> list[tuple[Scorer, npt.NDArray[np.int64]]]:
        """Who scores which of ``count`` rows."""
        if not strata or not self.bands:
            return [(self, np.arange(count))]
        if len(strata) != count:
            raise ValueError(f"{len(strata)} strata, {count} rows")
        bands = np.array([band_part(name).removeprefix(MARK) for name in strata], dtype=np.str_)
        return [
            (self.bands.get(band, self), np.flatnonzero(bands == band))
            for band in np.unique(bands).tolist()
        ]

    def explain(self, x: Sequence[float]) -> list[tuple[str, Family, float]]:
        """The signals that raise a subject's score: name, family, nats; the strongest first."""
        _, sums = self.one(x)
        order = sorted(self.present, key=lambda family: -sums[family])
        weight = dict(zip(order, self.ranks, strict=True))
        parts = [
            (name, family, weight[family] * curve.at(float(value)))
            for name, family, curve, value in zip(
                self.names, self.families, self.curves, x, strict=True
            )
        ]
        return sorted((part for part in parts if part[2] > 0), key=lambda part: -part[2])

    def _matrix(self, x_ns: npt.ArrayLike) -> Floats:
        x = np.asarray(x_ns, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.names):
            raise ValueError(f"{x.shape} signals, where rows of {len(self.names)} are scored")
        return x

    def _body(self) -> dict[str, Any]:
        bands = {name: scorer._body() for name, scorer in sorted(self.bands.items())}
        return {
            "format": FORMAT,
            "kind": self.kind,
            "signals": [
                {"name": name, "family": str(family), "knots": [*curve.knots],
                 "values": [*curve.values]}
                for name, family, curve in zip(
                    self.names, self.families, self.curves, strict=True
                )
            ],
            "ranks": [*self.ranks],
            "made_from": dict(self.made_from),
        } | ({"bands": bands} if bands else {})  # fmt: skip

    @classmethod
    def _of(cls, body: Mapping[str, Any]) -> Scorer:
        if body["format"] != FORMAT:
            raise ValueError(f"format {body['format']!r}, where {FORMAT} is read")
        return cls(
            body["kind"],
            tuple(signal["name"] for signal in body["signals"]),
            tuple(Family(signal["family"]) for signal in body["signals"]),
            tuple(
                Curve(tuple(map(float, signal["knots"])), tuple(map(float, signal["values"])))
                for signal in body["signals"]
            ),
            tuple(map(float, body["ranks"])),
            body["made_from"],
            {name: cls._of(inner) for name, inner in body.get("bands", {}).items()},
        )

    @cached_property
    def hash(self) -> str:
        """``sha256:`` and 64 digits over everything that the file holds."""
        return content_hash(self._body())

    def save(self, path: Path) -> None:
        """Write it as JSON with its hash, atomically."""
        body = self._body() | {"hash": self.hash}
        write_atomically(path, json.dumps(body, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> Scorer:
        """Read a frozen scorer.

        Raises:
            DataError: the file is missing, or is no scorer.
            HashMismatchError: it is not what was frozen.
        """
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(str(path), "there is no such file", "fit a scorer first") from None
        except (OSError, ValueError) as error:
            raise DataError(str(path), f"is no scorer: {error}", "fit it again") from error
        try:
            told = body.pop("hash")
            found = content_hash(body)
            scorer = cls._of(body)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(str(path), f"is no scorer: {error!r}", "fit it again") from error
        if told != found:
            raise HashMismatchError(
                str(path), f"says {told} and is {found}", "restore the frozen file, or fit again"
            )
        return scorer
