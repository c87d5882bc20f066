"""Numbers in words: one way of writing each kind of figure, for page, card and terminal alike."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from overproof.records.certificate import Candidate, Interval
from overproof.records.text_certificate import Contestant

__all__ = [
    "MINUS",
    "bounds",
    "capitalised",
    "count",
    "interval",
    "moment",
    "p_value",
    "percent",
    "point_bounds",
    "points",
    "points_interval",
    "rate",
    "requests",
    "seconds",
    "size",
    "usd",
]

MINUS = "\N{MINUS SIGN}"
UNKNOWN = "unknown"
UNDEFINED = "not defined"


def _fixed(value: float, digits: int) -> str:
    """``value`` with thousands commas, a true minus sign and never a negative zero."""
    text = f"{value:,.{digits}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def _signed(value: float, digits: int = 1) -> str:
    text = _fixed(value, digits)
    positive = not text.startswith(MINUS) and any(digit in text for digit in "123456789")
    return f"+{text}" if positive else text


def capitalised(text: str) -> str:
    """``text`` with its first letter in upper case and the rest as it was."""
    return text[:1].upper() + text[1:]


def percent(share: float | None, digits: int = 1) -> str:
    """A share in [0, 1] as ``71.4 %``."""
    if share is None:
        return UNKNOWN
    return f"{_fixed(100 * share, digits)} %" if math.isfinite(share) else UNDEFINED


def bounds(value: Interval) -> str:
    """The ends of an interval of shares in percent: ``[67.3, 75.2]``."""
    return f"[{_fixed(100 * value.low, 1)}, {_fixed(100 * value.high, 1)}]"


def interval(value: Interval | None, missing: str = "not measured") -> str:
    """An estimate with its interval: ``71.4 % [67.3, 75.2]``."""
    return missing if value is None else f"{percent(value.estimate)} {bounds(value)}"


def points(difference: float | None) -> str:
    """A difference of shares in percentage points: ``+2.4 points``."""
    if difference is None:
        return UNKNOWN
    return f"{_signed(100 * difference)} points" if math.isfinite(difference) else UNDEFINED


def point_bounds(value: Interval) -> str:
    """The ends of an interval of differences in points: ``[−1.0, +5.8]``."""
    return f"[{_signed(100 * value.low)}, {_signed(100 * value.high)}]"


def points_interval(value: Interval | None, missing: str = "not measured") -> str:
    """A difference with its interval: ``+2.4 points [−1.0, +5.8]``."""
    return missing if value is None else f"{points(value.estimate)} {point_bounds(value)}"


def count(number: float | None) -> str:
    """A whole number with thousands commas."""
    if number is None:
        return UNKNOWN
    return _fixed(number, 0) if math.isfinite(number) else UNDEFINED


def size(candidate: Candidate | Contestant) -> str:
    """The number of parameters: ``135 M``, ``22.7 M``, ``2,310``."""
    number = candidate.parameters
    if number is None:
        return "none" if candidate.role == "baseline" else UNKNOWN
    for scale, letter in ((1e9, "B"), (1e6, "M")):
        if number >= scale:
            digits = 0 if number >= 100 * scale else 1
            return f"{number / scale:.{digits}f} {letter}"
    return count(number)


def usd(amount: float | None) -> str:
    """US dollars to a sensible number of digits; an unknown price is never written as zero."""
    if amount is None:
        return UNKNOWN
    if not math.isfinite(amount):
        return UNDEFINED
    magnitude = abs(amount)
    if magnitude == 0 or magnitude >= 1000:
        return f"${_fixed(amount, 0)}"
    if magnitude >= 0.01:
        return f"${_fixed(amount, 2)}"
    return f"${amount:.2g}" if magnitude >= 1e-4 else f"${amount:.1e}"


def seconds(duration: float | None, missing: str = "not measured") -> str:
    """A duration: ``8.2 ms``, ``1.24 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if duration is None:
        return missing
    if not math.isfinite(duration):
        return UNDEFINED
    if duration < 0.9995:
        milliseconds = 1000 * duration
        return f"{milliseconds:.{2 if milliseconds < 1 else 1 if milliseconds < 99.95 else 0}f} ms"
    if duration < 59.95:
        return f"{duration:.{2 if duration < 10 else 1}f} s"
    whole = round(duration)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def rate(per_second: float | None, missing: str = "not measured") -> str:
    """Requests a second: ``4.8``, ``1,240``."""
    if per_second is None:
        return missing
    if not math.isfinite(per_second):
        return UNDEFINED
    return _fixed(per_second, 0 if per_second >= 100 else 1 if per_second >= 1 else 3)


def requests(number: float | None) -> str:
    """A number of requests, which may be unknown or never reached."""
    if number is not None and math.isinf(number):
        return "never"
    return count(number)


def p_value(value: float) -> str:
    """A p-value to three digits; below 0.001 only that it is."""
    if not math.isfinite(value):
        return UNDEFINED
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def moment(text: str) -> str:
    """An ISO 8601 time as ``3 May 2026, 14:05 UTC``; anything else as it is."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return text
    if time.tzinfo is not None:
        time = time.astimezone(UTC)
    zone = " UTC" if time.tzinfo is not None else ""
    return f"{time.day} {time:%B %Y, %H:%M}{zone}"
