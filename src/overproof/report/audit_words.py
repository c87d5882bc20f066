"""How an audit's verdict page says things: verdicts, kinds of test, exactness, numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from overproof.records.audit import AuditVerdict, Effect, Exactness, PValue
from overproof.report.formats import MINUS, percent

__all__ = [
    "BADGES",
    "GLOSSARY",
    "KINDS",
    "NOT_IDENTIFIABLE",
    "SHARE",
    "VERDICTS",
    "Badge",
    "Kind",
    "Wording",
    "confidence",
    "effect_interval",
    "effect_value",
    "floor_words",
    "odds",
    "p_said",
    "p_words",
    "p_words_of",
    "quantity",
    "seen",
]

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NOT_IDENTIFIABLE = "not identifiable"
UNDEFINED = "not defined"
PERCENT = "percent"  # units that begin so are in percent already
SHARE = "share"


@dataclass(frozen=True)
class Wording:
    """A verdict for the reader: headline, what it means, and the class of its colour."""

    headline: str
    meaning: str
    style: str


@dataclass(frozen=True)
class Kind:
    """A kind of test in plain words.

    Attributes:
        title: what it is called.
        asks: the question that it answers.
        speaks_for: the verdict that a rejection supports.
        seen: what its power counts; ``{}`` stands for the number.
        share: whether that number is a share, written in percent.
    """

    title: str
    asks: str
    speaks_for: AuditVerdict | None = None
    seen: str = ""
    share: bool = False


@dataclass(frozen=True)
class Badge:
    """What kind of number a p-value is: a sign and a word, so that colour is never alone."""

    sign: str
    word: str
    meaning: str
    style: str


VERDICTS = {
    AuditVerdict.DESCENDS: Wording(
        "Descends from the weights",
        "The suspect's weights and this model's share an origin: one starts from the other, or "
        "both from a common ancestor.",
        "strong",
    ),
    AuditVerdict.TRAINED: Wording(
        "Trained on these outputs",
        "The suspect carries a trace that the provider's own random draw put into these outputs. "
        "Training on them explains it, directly or through another model.",
        "strong",
    ),
    AuditVerdict.CLOSE: Wording(
        "Stylistically close",
        "The suspect is nearer to this teacher than comparable models are. That is a likeness, "
        "not a proof of training on its outputs.",
        "close",
    ),
    AuditVerdict.NO_EVIDENCE: Wording(
        "No evidence",
        "A test that could have found a trace found none. That is no acquittal: a weaker trace "
        "would have been missed.",
        "none",
    ),
    AuditVerdict.CANNOT_SAY: Wording(
        "Cannot say",
        "No planned test was able to decide. This speaks neither for the suspect nor against it.",
        "silent",
    ),
}

KINDS = {
    "ghosts": Kind(
        "Served answers against unserved ones",
        "Does the suspect prefer the answers that were served to answers just like them that "
        "nobody was ever shown?",
        AuditVerdict.TRAINED,
        "use of ≥ {} of the log's prompts",
        share=True,
    ),
    "watermark": Kind(
        "Trace of a watermark",
        "Does the suspect's text follow the secret key, more than it follows random keys?",
        AuditVerdict.TRAINED,
        "a mean score ≥ {} above that of unmarked text",
    ),
    "weights": Kind(
        "Descent of the weights",
        "Do hidden units stand where the other model has them, as in no independent training?",
        AuditVerdict.DESCENDS,
        "≥ {} of the units kept in their place",
        share=True,
    ),
    "references": Kind(
        "Likeness beyond reference models",
        "Is the suspect more like this teacher than innocent models are, and than it is like "
        "other teachers?",
        AuditVerdict.CLOSE,
        "a likeness ≥ {} beyond that of innocents (cosine)",
    ),
    "base-shift": Kind(
        "Shift from a known base",
        "Did the suspect move from its public base towards this teacher's answers, further than "
        "innocent fine-tunes did?",
        AuditVerdict.CLOSE,
        "a shift of ≥ {} nats a token beyond the innocents'",
    ),
    "phrasings": Kind(
        "Phrasings chosen by an account's key",
        "Does the suspect prefer the phrasings that the account's secret key chose?",
        AuditVerdict.TRAINED,
    ),
}

BADGES = {
    Exactness.EXACT: Badge(
        "=",
        "exact",
        "Computed in full from a random draw that was really made. It holds at any sample size, "
        "whatever else the suspect was trained on, as long as the draw was made as stated.",
        "exact",
    ),
    Exactness.BOUND: Badge(
        "≤",
        "upper bound",
        "The true p-value is at most this. Safe for a verdict, larger than need be.",
        "bound",
    ),
    Exactness.RANK: Badge(
        "#",
        "rank",
        "A place among others: of the suspect among reference models, or of the real key among "
        "random ones. Among models it rests on their being comparable, among keys on the real one "
        "having been drawn like them. It cannot go below one in their number plus one.",
        "rank",
    ),
    Exactness.CONDITIONAL: Badge(
        "ƒ",
        "conditional",
        "Computed as if the watermark's pseudo-random function gave independent values. Sound for "
        "a good function; a second number with an assumption of its own.",
        "conditional",
    ),
    Exactness.APPROXIMATE: Badge(
        "≈",
        "approximate",
        "A formula that is right for large samples. Shown for comparison; it decides nothing.",
        "approximate",
    ),
}


GLOSSARY = (  # for a reader who meets these words for the first time
    ("Suspect", "the model that is examined."),
    ("Teacher", "the model whose answers the suspect may have been trained on."),
    ("Log", "the record of what the teacher was asked, and what it answered."),
    (
        "Ghost",
        "an answer drawn in the same way as the one that was served, and shown to nobody. A model "
        "that clearly prefers the served ones to their ghosts has met them, be it through others.",
    ),
    ("Watermark", "a faint pattern that a secret key leaves in a text, too weak to be read."),
    (
        "Null hypothesis",
        "the innocent explanation. A test can reject it, and never prove it.",
    ),
    ("Level α", "the risk of a wrong accusation that was accepted beforehand."),
    ("Lower bound", "at least so much, but for the small risk stated; the truth may be more."),
    (
        "Hash, fingerprint",
        "a short number computed from a file or a key. Another file has another hash, so equal "
        "hashes mean equal files.",
    ),
)


def p_words(value: float, log10: float | None = None) -> str:
    """A p-value; small ones keep their size: ``0.034``, ``4.1 × 10⁻¹³``.

    Args:
        value: between 0 and 1; anything else is ``not defined``.
        log10: of the value, used where the value itself is too small for a float.
    """
    if not 0 <= value <= 1:
        return UNDEFINED
    if value >= 0.001:
        return f"{value:.3f}" if value < 0.0995 else f"{value:.2f}"
    if value >= 1e-290:
        log10 = math.log10(value)
    if log10 is None or not math.isfinite(log10):
        return "below 10⁻³⁰⁰"
    power = math.floor(log10)
    digits = f"{10 ** (log10 - power):.1f}"
    if digits == "10.0":
        digits, power = "1.0", power + 1
    return f"{digits} × 10{str(power).translate(SUPERSCRIPT)}"


def p_words_of(p: PValue) -> str:
    """A p-value as `p_words`, with the sign of its kind where it is a bound or an approximation."""
    sign = {Exactness.BOUND: "≤ ", Exactness.APPROXIMATE: "≈ "}.get(p.exactness, "")
    return sign + p_words(p.value, p.log10)


def p_said(p: PValue) -> str:
    """A p-value as an equation: ``p = 0.034``, ``p ≤ 4.1 × 10⁻¹³``."""
    words = p_words_of(p)
    return f"p {words}" if words[:1] in "≤≈" else f"p = {words}"


def floor_words(p: PValue) -> str:
    """The smallest value that the test could have given."""
    return p_words(p.floor) if p.floor > 0 else "no floor above 10⁻³⁰⁰"


def odds(value: float, log10: float | None = None) -> str:
    """A small chance as ``1 in 250``; very small ones as ``1 in 2.4 × 10¹²``."""
    if not 0 <= value <= 1:
        return UNDEFINED
    exponent = math.log10(value) if value >= 1e-290 else log10
    if exponent is None or not math.isfinite(exponent):
        return "less than 1 in 10³⁰⁰"
    if exponent > -6:
        times = 10**-exponent
        # Rounded down: the chance is never made to look smaller than it is.
        step = 10 ** max(math.floor(math.log10(times)) - 1, 0) if times >= 1 else 1
        return f"1 in {math.floor(times / step + 1e-9) * step:,}"
    power = math.floor(-exponent)
    digits = math.floor(10 ** (-exponent - power) * 10 + 1e-9) / 10
    return f"1 in {digits:.1f} × 10{str(power).translate(SUPERSCRIPT)}"


def quantity(value: float | None, unit: str) -> str:
    """A number with its unit; shares and percentages in percent."""
    if value is None:
        return NOT_IDENTIFIABLE
    if not math.isfinite(value):
        return UNDEFINED
    if unit == SHARE or unit.startswith(PERCENT):
        share = value if unit == SHARE else value / 100
        digits = 1 if abs(share) >= 0.0095 or share == 0 else 2 if abs(share) >= 0.00095 else 3
        return percent(share, digits)
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    said = text.replace("-", MINUS)
    return said if unit in {"", "probability"} else f"{said} {unit}"


def _bare(value: float, unit: str) -> str:
    """A number without its unit, for the ends of an interval."""
    text = quantity(value, unit)
    return text if text.endswith("%") else text.removesuffix(f" {unit}")


def effect_value(effect: Effect) -> str:
    """The estimate in words; a one-sided bound says so."""
    if effect.value is None and (effect.low is not None or effect.high is not None):
        return "no single value"
    said = quantity(effect.value, effect.unit)
    bounded = effect.low is not None and effect.low == effect.value
    if not (bounded and _open_above(effect)):
        return said
    return "0 % not excluded" if effect.value == 0 and "%" in said else f"≥ {said}"


def _open_above(effect: Effect) -> bool:
    """No upper end, or one that says nothing."""
    return effect.high is None or (effect.unit == SHARE and effect.high >= 1)


def confidence(level: float | None) -> str:
    """``95 %``, without digits that say nothing; empty for none."""
    return "" if level is None else f"{100 * level:.4g} %"


def effect_interval(effect: Effect) -> str:
    """The interval in words; empty where there is none."""
    low, high, unit = effect.low, effect.high, effect.unit
    if low is None and high is None:
        return "" if effect.value is None else "no interval"
    level = confidence(effect.confidence)
    kind = f"{level} interval" if level else "interval"
    if low is not None and _open_above(effect):
        bound = f"{level} lower bound" if level else "lower bound"
        return f"{bound} {_bare(low, unit)}, no upper end"
    if low is None and high is not None:
        return f"{level} upper bound {_bare(high, unit)}".strip()
    if low is None or high is None:
        return "no interval"
    return f"{kind} {_bare(low, unit)} to {_bare(high, unit)}"


def seen(kind: str, detectable: float | None) -> str:
    """The smallest effect that a test would have found, in words; empty where unknown."""
    known = KINDS.get(kind)
    if known is None or not known.seen or detectable is None or not math.isfinite(detectable):
        return ""
    number = f"{100 * detectable:.2g} %" if known.share else f"{detectable:.2g}"
    return known.seen.format(number)
