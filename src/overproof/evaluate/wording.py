"""Figures in words, the same everywhere in a certificate."""

from __future__ import annotations

from overproof.records.certificate import Interval

__all__ = ["dollars", "listed", "p_value", "percent", "points", "signed_points", "span"]


def percent(share: float) -> str:
    """``0.7134`` as ``71.3 %``."""
    return f"{100 * share:.1f} %"


def points(share: float) -> str:
    """``0.05`` as ``5 points``; a percentage point is a hundredth."""
    text = f"{100 * share:.1f}".removesuffix(".0")
    return f"{text} point" if text == "1" else f"{text} points"


def signed_points(share: float) -> str:
    """``-0.013`` as ``−1.3``, with a true minus sign."""
    text = f"{100 * share:+.1f}"
    return "0.0" if text in {"+0.0", "-0.0"} else text.replace("-", "−")


def span(interval: Interval) -> str:
    """An interval of a difference in points: ``90 % interval −1.3 to +2.0``."""
    return (
        f"{100 * interval.confidence:.4g} % interval {signed_points(interval.low)} to "
        f"{signed_points(interval.high)}"
    )


def p_value(p: float) -> str:
    """``p = 0.013``, or ``p < 0.001``, or ``p > 0.999``."""
    if p < 0.001:
        return "p < 0.001"
    return "p > 0.999" if p > 0.999 else f"p = {p:.3f}"


def dollars(usd: float) -> str:
    """``$0.034``, ``$12.50`` or ``$1,234``."""
    if usd >= 1000:
        return f"${usd:,.0f}"
    return f"${usd:.2f}" if usd >= 1 or usd == 0 else f"${usd:.3g}"


def listed(names: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
