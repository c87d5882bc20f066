"""Fit the heads of guard's text traits and measure them on families of texts they never saw.

    python studies/guard_text/train.py            fit, write heads.toml and figures.json
    python studies/guard_text/train.py --check    fit and compare, write nothing

No seed is needed: nothing is random but the filling of slots, which hangs on the texts' names.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from corpus import Text, read_texts
from fitting import fit, spot_all, text_odds, windows_of

import overproof.guard.text.heads as shipped_heads
from overproof.guard.text.heads import HEADS, digest, head_features
from overproof.guard.text.spotting import Hits, Lexicon, read_lexicon

PACKAGE = Path(shipped_heads.__file__).parent
FOLDS = 10
# Of honest texts of unseen families, near misses all, this share lies below the threshold.
HONEST_BELOW = {"elicitation": 0.97, "rubric": 0.97, "synthesis": 0.97, "technique": 0.98}
UNIT = 64
FPRS = (0.001, 0.01)


def cross_odds(
    lexicon: Lexicon, hits: list[Hits], texts: list[Text], head: str, *, positives: bool
) -> npt.NDArray[np.float64]:
    """The log-odds of every text by a fit that left its family out.

    With ``positives`` false, only honest families are left out: for the threshold.
    """
    families = sorted({text.family for text in texts})
    fold = {name: i % FOLDS for i, name in enumerate(families)}
    folds = np.array([fold[t.family] if positives or t.head == "ordinary" else -1 for t in texts])
    odds = np.full(len(texts), -np.inf)
    for k in range(FOLDS):
        kept, left = np.flatnonzero(folds != k), np.flatnonzero(folds == k)
        known = windows_of(lexicon, [hits[i] for i in kept], head)
        weights, intercept = fit(known, [texts[i] for i in kept], head)
        unseen = windows_of(lexicon, [hits[i] for i in left], head)
        odds[left] = text_odds(unseen, weights, intercept)
    return odds


def fit_head(lexicon: Lexicon, hits: list[Hits], texts: list[Text], head: str) -> dict[str, int]:
    """Weights in 1/64 nat by feature; the intercept puts the threshold at even odds."""
    ordinary = np.array([text.head == "ordinary" for text in texts])
    odds = cross_odds(lexicon, hits, texts, head, positives=False)[ordinary]
    threshold = max(0.0, float(np.quantile(odds, HONEST_BELOW[head], method="higher")))
    weights, intercept = fit(windows_of(lexicon, hits, head), texts, head)
    out = {"intercept": round((intercept - threshold) * UNIT)}
    for (name, _), weight in zip(head_features(lexicon, head), weights, strict=True):
        if round(weight * UNIT):
            out[name] = round(weight * UNIT)
    return out


def rates(
    odds: npt.NDArray[np.float64], texts: list[Text], head: str
) -> dict[str, dict[str, float]]:
    """The share of a head's texts found, by language, at false-positive rates on honest texts."""
    honest = odds[[text.head == "ordinary" for text in texts]]
    out: dict[str, dict[str, float]] = {}
    for fpr in FPRS:
        cut = float(np.quantile(honest, 1 - fpr, method="higher"))
        row = {}
        for language in ("en", "zh", "es", "ru"):
            found = [
                odds[i] > cut
                for i, t in enumerate(texts)
                if t.head == head and t.language == language
            ]
            if found:
                row[language] = round(float(np.mean(found)), 3)
        out[f"tpr_at_fpr_{fpr:g}"] = row
    return out


def write_heads(weights: dict[str, dict[str, int]], sha256: str) -> str:
    """``heads.toml``."""
    lines = [
        "# Written by studies/guard_text/train.py. Weights in 1/64 nat; a+b counts where a window",
        "# names both concepts; even odds are the threshold.",
        f'sha256 = "{sha256}"',
    ]
    for head in HEADS:
        lines += ["", f"[weights.{head}]"]
        lines += [f'"{name}" = {value}' for name, value in weights[head].items()]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Fit, measure, write; 1 if a check finds other weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    check = parser.parse_args(argv).check
    lexicon = read_lexicon()
    texts = [text for text in read_texts() if not text.heldout]
    hits = spot_all(lexicon, texts)
    weights = {head: fit_head(lexicon, hits, texts, head) for head in HEADS}
    sha256 = digest((PACKAGE / "lexicon.toml").read_bytes(), weights)
    text = write_heads(weights, sha256)
    if check:
        same = (PACKAGE / "heads.toml").read_text("utf-8") == text
        print("the same bytes" if same else "heads.toml differs from what the texts give")
        return 0 if same else 1
    (PACKAGE / "heads.toml").write_text(text, "utf-8")
    from measure import measure

    figures = measure()
    figures["leave_family_out"] = {
        head: rates(cross_odds(lexicon, hits, texts, head, positives=True), texts, head)
        for head in HEADS
        if head != "technique"  # each of its families is a technique of its own
    }
    figures["texts"] = {"train": len(texts), "families": len({t.family for t in texts})}
    (Path(__file__).parent / "figures.json").write_text(
        json.dumps(figures, indent=1, sort_keys=True) + "\n", "utf-8"
    )
    print(json.dumps(figures, indent=1, sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
