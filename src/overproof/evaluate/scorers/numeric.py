"""The last number of an answer against a known one."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

__all__ = ["Number", "last_number", "same_number"]

_GROUPED = (
    r"\d{1,3}(?:,\d{3})+|\d{1,3}(?:_\d{3})+(?!\d)|\d{1,3}(?:[\u2009\u202f]\d{3})+(?!\d)"
    r"|\d{1,3}(?:[ ]\d{3}){2,}(?!\d)"
)
_DIGITS = rf"(?:{_GROUPED}|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"""
    (?P<sign>(?<![\w.)\]%])[-+])?(?P<gap>\s?)[$€£¥]?\s?
    (?:(?P<whole>\d+)\s+(?=\d+\s?/\s?\d))?   # 1 3/4
    (?P<digits>{_DIGITS})
    (?:[eE](?P<power>[-+]?\d{{1,3}})(?!\w))?
    (?:\s?/\s?(?P<below>\d+(?:\.\d+)?)(?![\d/]))?
    (?P<percent>\s{{0,2}}%)?
    """,
    re.VERBOSE | re.ASCII,
)
_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(-?[\d.]+)\s*\}\s*\{\s*([\d.]+)\s*\}")
_VULGAR = re.compile(r"[\u00bc-\u00be\u2150-\u215e\u2189]")
_RAISED = re.compile(r"(?<=10)[\u207a\u207b]?[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+")
_TENS = r"10\s?(?:\^|\*\*)\s?\{?([-+]?\d{1,3})\}?(?!\d)"
_TIMES_TENS = re.compile(rf"(?<=\d)\s?(?:[x*\u00d7\u00b7\u22c5]|\\times|\\cdot)\s?{_TENS}")
_BARE_TENS = re.compile(rf"(?<![\w.,^*]){_TENS}")
_MINUS = str.maketrans({"\u2212": "-", "\u2013": "-", "\uff0d": "-", "\u00a0": " "})
_LONGEST = 400  # digits: beyond them nobody means a number


@dataclass(frozen=True)
class Number:
    """A number as it was written; of ``50 %`` the value is 50 and ``percent`` is true."""

    value: Fraction
    percent: bool = False


def last_number(text: str) -> Number | None:
    """The last number in a text, ``None`` where there is none.

    Read are signs (also U+2212), thousands separated by commas, underscores, thin or no-break
    spaces, decimals with a point, exponents as in ``3e4`` and ``3 x 10^4``, fractions such as
    ``3/4``, ``1 3/4``, ``1½`` and LaTeX's, currency before and percent after the digits. Plain
    spaces separate thousands from a million on alone: ``5 100`` may as well be two numbers, and
    the last of them is 100. A comma is never a decimal point. A minus sign after a digit is an
    operator.
    """
    text = re.sub(r"(?<=\d)\u00a0(?=\d{3}(?!\d))", "\u202f", text)
    plain = _FRACTION.sub(r" \1/\2 ", unicodedata.normalize("NFC", text).translate(_MINUS))
    plain = plain.replace("\\%", "%").replace("\\$", "$").replace("\\,", "").replace("{,}", ",")
    plain = _RAISED.sub(lambda found: "^" + unicodedata.normalize("NFKC", found[0]), plain)
    plain = plain.translate(_MINUS)  # a raised minus is U+2212 once it is lowered
    plain = _VULGAR.sub(_in_digits, plain)
    plain = _BARE_TENS.sub(r"1e\1 ", _TIMES_TENS.sub(r"e\1 ", plain))
    for found in reversed(list(_NUMBER.finditer(plain))):
        before = plain[: found.start()].rstrip()[-1:]
        number = _read(found, before)
        if number is not None:
            return number
    return None


def _in_digits(found: re.Match[str]) -> str:
    """One half as ``1/2``, apart from a whole number before it."""
    digits = unicodedata.normalize("NFKC", found[0]).replace("\u2044", "/")
    return f" {digits}" if found.string[: found.start()][-1:].isdigit() else digits


def _read(found: re.Match[str], before: str) -> Number | None:
    """``before`` is the last character before the match that is no space."""
    digits = re.sub(r"[,_\s]", "", found["digits"])
    if len(digits) > _LONGEST or len(found["below"] or "") > _LONGEST:
        return None
    value = Fraction("0" + digits if digits.startswith(".") else digits)
    if found["power"]:
        value *= Fraction(10) ** int(found["power"])
    if found["below"]:
        below = Fraction(found["below"])
        if not below:
            return None
        value /= below
    if found["whole"]:
        value += int(found["whole"][:_LONGEST])
    # With a space after it, a minus is a sign only where there is nothing to subtract from.
    is_sign = not found["gap"] or not (before.isalnum() or before in tuple(")]%"))
    return Number(
        -value if found["sign"] == "-" and is_sign else value, found["percent"] is not None
    )


def same_number(one: Number, other: Number, tolerance: float = 1e-6) -> bool:
    """Whether two numbers differ by at most ``tolerance``, an absolute difference.

    Where only one of them is a percentage, ``50 %`` is both 50 and 0.5.
    """
    most = Fraction(tolerance)
    if abs(one.value - other.value) <= most:
        return True
    if one.percent == other.percent:
        return False
    share, plain = (one, other) if one.percent else (other, one)
    return abs(share.value / 100 - plain.value) <= most
