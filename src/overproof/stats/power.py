"""Power of the non-inferiority tests, and the number of test inputs that they need.

Normal approximation at a true difference of zero: the difference of two paired shares then has
variance ``discordance / n`` (Liu, Hsueh, Hsieh and Chen, *Tests for equivalence or non-inferiority
for paired binary data*, Statistics in Medicine 21, 2002).
"""

from __future__ import annotations

import math

from scipy.special import ndtr, ndtri

__all__ = ["items_needed", "non_inferiority_power", "partly_paired_power"]


def non_inferiority_power(
    n: int, margin: float, discordance: float = 0.2, alpha: float = 0.05
) -> float:
    """Chance that ``n`` paired inputs show non-inferiority of a student as good as its teacher.

    Args:
        n: test inputs.
        margin: non-inferiority margin, a share.
        discordance: share of inputs that exactly one of the two gets right.
        alpha: one-sided level.
    """
    _check(margin, alpha)
    if n < 1:
        return 0.0
    if discordance <= 0:
        return 1.0
    return float(ndtr(margin * math.sqrt(n / discordance) - ndtri(1 - alpha)))


def items_needed(
    margin: float, discordance: float = 0.2, alpha: float = 0.05, power: float = 0.8
) -> int:
    """Test inputs needed for ``power``: (z_alpha + z_beta)^2 discordance / margin^2, rounded up."""
    _check(margin, alpha)
    if not 0 < power < 1:
        raise ValueError(f"power must lie in (0, 1), not {power}")
    z = float(ndtri(1 - alpha) + ndtri(power))
    return max(1, math.ceil(z * z * discordance / margin**2 - 1e-9))


def partly_paired_power(
    n: int, n_second: int, share: float, margin: float, alpha: float = 0.05
) -> float:
    """Power where two shares, both truly ``share``, come from ``n`` and from ``n_second`` inputs.

    The two are taken as uncorrelated, as the test does.
    """
    _check(margin, alpha)
    if n < 1 or n_second < 1:
        return 0.0
    variance = share * (1 - share) * (1 / n + 1 / n_second)
    if variance <= 0:
        return 1.0
    return float(ndtr(margin / math.sqrt(variance) - ndtri(1 - alpha)))


def _check(margin: float, alpha: float) -> None:
    if not 0 < margin < 1:
        raise ValueError(f"margin must lie in (0, 1), not {margin}")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must lie in (0, 0.5), not {alpha}")
