"""Fitting a `Scorer` on labelled traffic: rising curves by logistic regression, then family ranks.

Each signal is written as K - 1 ramps between K knots (quantiles of honest and of attacking
subjects), centred on what honest subjects show on average, so that a missing value is exactly
neutral. A logistic regression with a ridge and *no negative weight* over all ramps gives the
curves (a monotone additive model: Tutz and Leitenstorfer, Biostatistics 8, 2007); a second one
over the sorted family sub-scores gives the ranks' weights. Shapes: N subjects (or looks), S
signals, B ramps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from overproof.guard.parts import Family
from overproof.guard.scorer import Curve, Scorer

__all__ = ["ablations", "fit_scorer"]

Floats = npt.NDArray[np.float64]
HONEST_QUANTILES = (0.1, 0.5, 0.9, 0.97, 0.99, 0.997)
ATTACK_QUANTILES = (0.25, 0.5, 0.75)
FEW_QUANTILES = (0.25, 0.5, 0.9)  # where there are too few subjects for the tails
FEW = 300


def fit_scorer(
    x_ns: npt.ArrayLike,
    y_n: npt.ArrayLike,
    groups_n: Sequence[Any],
    names: Sequence[str],
    families: Sequence[Family],
    *,
    kind: Literal["account", "community"] = "account",
    ridge: float = 1e-3,
    without: Sequence[str] = (),
    made_from: Mapping[str, Any] | None = None,
) -> Scorer:
    """Fit a scorer.

    A group (a campaign, an honest organisation) weighs as the square root of its size, attacking
    and honest subjects as much as each other: so that one campaign of thousands does not drown
    thirty of hundreds.

    Args:
        x_ns: N x S signals, NaN where there was nothing to measure.
        y_n: N booleans, true for attacking subjects.
        groups_n: the group of each.
        names: S names.
        families: S families.
        kind: whose signals these are.
        ridge: penalty on squared weights, beside a log loss whose weights sum to 1.
        without: signals to leave out (they get a level curve), for an ablation.
        made_from: what to write into the file about the data.

    Raises:
        ValueError: shapes that do not fit, or one kind of subject only.
    """
    x, y = np.asarray(x_ns, dtype=np.float64), np.asarray(y_n, dtype=bool)
    if x.ndim != 2 or x.shape != (len(y), len(names)) or len(groups_n) != len(y):
        raise ValueError(f"{x.shape} signals, {len(y)} labels, {len(groups_n)} groups do not fit")
    if y.all() or not y.any():
        raise ValueError("needs attacking subjects and honest ones")
    if unknown := set(without) - set(names):
        raise ValueError(f"no such signal: {', '.join(sorted(unknown))}")
    weights = _weights(y, groups_n)
    columns, knots, centres = _ramps(x, y, weights, [name in without for name in names])
    slopes = _logistic(
        np.concatenate(columns, axis=1) if columns else np.zeros((len(y), 0)), y, weights, ridge
    )
    curves = _curves(knots, centres, slopes)
    flat = Scorer(kind, tuple(names), tuple(families), curves, (1.0,) * len(set(families)))
    sums = np.stack(list(flat.family_scores(x).values()), axis=1)
    ranks = _logistic(np.sort(sums, axis=1)[:, ::-1], y, weights, ridge, towards=1.0)
    about = {"honest": int((~y).sum()), "attacking": int(y.sum()), "ridge": ridge,
             "groups": len(set(groups_n)), "without": sorted(without)}  # fmt: skip
    return Scorer(
        kind,
        flat.names,
        flat.families,
        curves,
        tuple(ranks.tolist()),
        about | dict(made_from or {}),
    )


def ablations(
    x_ns: npt.ArrayLike,
    y_n: npt.ArrayLike,
    groups_n: Sequence[Any],
    names: Sequence[str],
    families: Sequence[Family],
    **how: Any,
) -> dict[str, Scorer]:
    """The scorer refitted without each signal in turn, by the signal's name."""
    return {
        name: fit_scorer(x_ns, y_n, groups_n, names, families, without=[name], **how)
        for name in names
    }


def _weights(y: npt.NDArray[np.bool_], groups_n: Sequence[Any]) -> Floats:
    """One a subject: the square root of its group's size over it, half the sum a class."""
    _, group, size = np.unique(
        np.asarray([str(group) for group in groups_n]), return_inverse=True, return_counts=True
    )
    weights = 1.0 / np.sqrt(size[group].astype(np.float64))
    for kind in (y, ~y):
        weights[kind] *= 0.5 / weights[kind].sum()
    return np.asarray(weights)


def _knots(x_n: Floats, y: npt.NDArray[np.bool_]) -> Floats:
    """Where the curve of one signal may bend; fewer than two where it never varies."""
    finite = np.isfinite(x_n)
    honest, attack = x_n[finite & ~y], x_n[finite & y]
    places: list[Floats] = []
    for values, levels in ((honest, HONEST_QUANTILES), (attack, ATTACK_QUANTILES)):
        if len(values):
            # "lower" gives values that occur, so that counts keep their steps.
            few = FEW_QUANTILES if len(values) < FEW else levels
            places.append(np.quantile(values, few, method="lower"))
    if not places:
        return np.zeros(0)
    knots = np.unique(np.concatenate(places))
    if len(knots) < 2:
        knots = np.unique(np.append(knots, [x_n[finite].min(), x_n[finite].max()]))
    # Ramps too narrow for their slope to be computed are one step.
    apart = np.diff(knots) > 1e-12 * np.maximum(1.0, np.abs(knots[1:]))
    return np.asarray(knots[np.concatenate([[True], apart])])


def _ramps(
    x: Floats, y: npt.NDArray[np.bool_], weights: Floats, left_out: Sequence[bool]
) -> tuple[list[npt.NDArray[np.float32]], list[Floats], list[Floats]]:
    """For each signal: N x (K - 1) centred ramps, K knots, K - 1 centres.

    Signals that never vary, or are left out, have no knots, no centres and no column.
    """
    columns, all_knots, centres = [], [], []
    for column, out in enumerate(left_out):
        values = x[:, column]
        knots = np.zeros(0) if out else _knots(values, y)
        if len(knots) < 2:
            all_knots.append(np.zeros(0))
            centres.append(np.zeros(0))
            continue
        there = ~np.isnan(values)
        filled = np.where(there, values, knots[0])
        ramps = np.clip((filled[:, None] - knots[:-1]) / np.diff(knots), 0.0, 1.0)
        honest = there & ~y
        base = honest if honest.any() else there
        centre = np.average(ramps[base], axis=0, weights=weights[base])
        columns.append(np.where(there[:, None], ramps - centre, 0.0).astype(np.float32))
        all_knots.append(knots)
        centres.append(centre)
    return columns, all_knots, centres


def _curves(
    all_knots: Sequence[Floats], centres: Sequence[Floats], slopes: Floats
) -> tuple[Curve, ...]:
    curves, start = [], 0
    for knots, centre in zip(all_knots, centres, strict=True):
        mine = slopes[start : start + len(centre)]
        start += len(centre)
        if not len(knots) or not mine.any():
            curves.append(Curve())
            continue
        values = np.concatenate([[0.0], np.cumsum(mine)]) - float(mine @ centre)
        curves.append(Curve(tuple(knots.tolist()), tuple(values.tolist())))
    return tuple(curves)


def _logistic(
    columns_nb: npt.NDArray[Any],
    y: npt.NDArray[np.bool_],
    weights: Floats,
    ridge: float,
    towards: float = 0.0,
) -> Floats:
    """B weights, none negative, of a logistic regression with a free intercept."""
    from scipy.optimize import minimize

    features = columns_nb.shape[1]
    sign = np.where(y, 1.0, -1.0)

    def loss(theta: Floats) -> tuple[float, Floats]:
        margin = sign * (columns_nb @ theta[1:].astype(columns_nb.dtype) + theta[0])
        # d/dm log(1 + exp(-m)) = -1 / (1 + exp(m)), by tanh so that nothing overflows.
        pull = weights * sign * (0.5 * (np.tanh(margin / 2.0) - 1.0))
        off = theta[1:] - towards
        value = float(weights @ np.logaddexp(0.0, -margin)) + 0.5 * ridge * float(off @ off)
        slope = columns_nb.T @ pull.astype(columns_nb.dtype)
        return value, np.concatenate([[pull.sum()], slope + ridge * off])

    start = np.concatenate([[0.0], np.full(features, towards)])
    bounds = [(None, None)] + [(0.0, None)] * features
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds,
        options={"maxiter": 500, "ftol": 1e-9, "maxcor": 20},
    )  # fmt: skip
    return np.asarray(np.maximum(found.x[1:], 0.0), dtype=np.float64)
