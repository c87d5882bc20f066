"""Many hypotheses at once: which to report so that few of the reports are false.

The false-discovery rate is the expected share of false ones among the reported (0 where none is);
Holm's adjustment bounds the chance of a single false one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["adjusted_p", "benjamini_hochberg", "e_bh", "holm_adjusted_p"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
ROUNDING = 1e-12


def _hypotheses(given: int, m: int | None) -> int:
    if m is not None and m < given:
        raise ValueError(f"{given} hypotheses given, of {m} in all")
    return given if m is None else m


def benjamini_hochberg(p_values: npt.ArrayLike, alpha: float, *, m: int | None = None) -> Bools:
    """Which hypotheses to reject: the k smallest p-values with ``p_(k) <= alpha k / m``.

    Benjamini and Hochberg, JRSS B 57, 1995: the false-discovery rate is at most ``alpha`` for
    p-values that are independent or positively dependent (PRDS; Benjamini and Yekutieli, 2001),
    as conformal ones against one shared pool are (arXiv 2104.08279, theorem 2).

    Args:
        p_values: in [0, 1].
        alpha: the false-discovery rate that is allowed, in (0, 1).
        m: how many hypotheses there are in all, where some are not given (they count as p = 1).

    Raises:
        ValueError: p-values outside of [0, 1] or not numbers; ``m`` smaller than what is given.
    """
    p = np.asarray(p_values, dtype=np.float64).ravel()
    if not ((p >= 0) & (p <= 1)).all() or not 0 < alpha < 1:
        raise ValueError("p-values lie in [0, 1], alpha between 0 and 1")
    total = _hypotheses(len(p), m)
    if not len(p):
        return np.zeros(0, dtype=bool)
    ordered = np.sort(p)
    fits = ordered <= alpha * np.arange(1, len(p) + 1) / total + ROUNDING * ordered
    if not fits.any():
        return np.zeros(len(p), dtype=bool)
    return np.asarray(p <= ordered[np.flatnonzero(fits)[-1]])


def adjusted_p(p_values: npt.ArrayLike, *, m: int | None = None) -> Floats:
    """The lowest false-discovery rate at which each would be reported; at most 1."""
    p = np.asarray(p_values, dtype=np.float64).ravel()
    total = _hypotheses(len(p), m)
    order = np.argsort(p, kind="stable")
    raised = p[order] * total / np.arange(1, len(p) + 1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1.0)
    return adjusted


def holm_adjusted_p(p_values: npt.ArrayLike) -> Floats:
    """The lowest chance of any false rejection at which each is rejected (Holm 1979); at most 1.

    Valid under any dependence.

    Raises:
        ValueError: p-values outside of [0, 1] or not numbers.
    """
    p = np.asarray(p_values, dtype=np.float64).ravel()
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p-values lie in [0, 1]")
    order = np.argsort(p, kind="stable")
    raised = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(raised, 1.0)
    return adjusted


def e_bh(e_values: npt.ArrayLike, alpha: float, *, m: int | None = None) -> Bools:
    """Which hypotheses to reject by e-values: the k largest with ``e_(k) >= m / (alpha k)``.

    Wang and Ramdas, JRSS B 84, 2022, arXiv 2009.02824: at most ``alpha`` under *any* dependence.
    A conformal e-value is at most ``n + 1``: with ``n`` under ``m / (alpha k)`` it reports nothing.

    Raises:
        ValueError: negative e-values; ``m`` smaller than what is given.
    """
    e = np.asarray(e_values, dtype=np.float64).ravel()
    if not (e >= 0).all() or not 0 < alpha < 1:
        raise ValueError("e-values are not negative, alpha lies between 0 and 1")
    total = _hypotheses(len(e), m)
    ordered = np.sort(e)[::-1]
    fits = ordered * (1 + ROUNDING) >= total / (alpha * np.arange(1, len(e) + 1))
    if not fits.any():
        return np.zeros(len(e), dtype=bool)
    return np.asarray(e >= ordered[np.flatnonzero(fits)[-1]])
