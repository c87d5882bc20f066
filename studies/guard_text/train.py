"""Fit the heads of guard's text traits and measure them on families of texts they never saw.

    python studies/guard_text/train.py            fit, write heads.toml, words.npz, figures.json
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
from fitting import Windows, best_windows, fit, spot, text_odds, windows_of

import overproof.guard.text.heads as shipped_heads
from overproof.guard.text.heads import HEADS, Table, digest, head_features
from overproof.guard.text.spotting import Lexicon, read_lexicon

PACKAGE = Path(shipped_heads.__file__).parent
FOLDS = 5
COPIES = 4  # fillings of a text to fit on; figures are taken on more
# Of honest texts of unseen families, near misses all, this share lies below the threshold.
HONEST_BELOW = {"elicitation": 0.97, "rubric": 0.975, "synthesis": 0.98, "technique": 0.99}
# How large a word is beside a concept: the smaller, the harder it is held down by the penalty.
WORD_SIZE = {"elicitation": 1.0, "rubric": 0.35, "synthesis": 1.0, "technique": 1.0}
UNIT = 64
MOST = 127  # a word, in 1/64 nat
# Of what a head finds, this share may be lost to its gate: words cost more than all the rest.
UNGATED = {"elicitation": 0.08, "rubric": 0.25, "synthesis": 0.1, "technique": 0.2}
FAINT = 2  # weights of concepts that are left out, in 1/64 nat
FPRS = (0.001, 0.01)


def cross_odds(
    windows: Windows, texts: list[Text], head: str, *, positives: bool
) -> npt.NDArray[np.float64]:
    """The log-odds of every text by a fit that left its family out.

    With ``positives`` false, only honest families are left out: for the threshold.
    """
    families = sorted({text.family for text in texts})
    fold = {name: i % FOLDS for i, name in enumerate(families)}
    folds = np.array([fold[t.family] if positives or t.head == "ordinary" else -1 for t in texts])
    odds = np.full(len(texts), -np.inf)
    for k in range(FOLDS):
        weights, intercept = fit(windows, texts, head, np.flatnonzero(folds != k))
        left = np.flatnonzero(folds == k)
        odds[left] = text_odds(windows, weights, intercept, left)
    return odds


def fit_head(
    lexicon: Lexicon, windows: Windows, texts: list[Text], head: str
) -> tuple[dict[str, int], Table]:
    """Weights in 1/64 nat by feature, and by bucket; even odds are the threshold."""
    ordinary = np.array([text.head == "ordinary" for text in texts])
    odds = cross_odds(windows, texts, head, positives=False)[ordinary]
    threshold = max(0.0, float(np.quantile(odds, HONEST_BELOW[head], method="higher")))
    weights, intercept = fit(windows, texts, head, np.arange(len(texts)))
    names = [name for name, _ in head_features(lexicon, head)]
    size = np.ones(len(weights))
    size[len(names) :] = WORD_SIZE[head]
    rounded = np.rint(weights * size * UNIT).astype(np.int16)
    own = np.flatnonzero([text.head == head for text in texts])
    best = windows.x[best_windows(windows, windows.x @ weights, own)]
    found = best @ weights + intercept > threshold
    by_concepts = best[:, : len(names)] @ weights[: len(names)] + intercept - threshold
    gate = float(np.quantile(by_concepts[found], UNGATED[head], method="lower"))
    out = {"intercept": round((intercept - threshold) * UNIT), "gate": round(gate * UNIT) - 1}
    out |= {n: int(w) for n, w in zip(names, rounded[: len(names)], strict=True) if abs(w) > FAINT}
    return out, np.clip(rounded[len(names) :], -MOST, MOST)


def rates(
    odds: npt.NDArray[np.float64], texts: list[Text], head: str
) -> dict[str, dict[str, float]]:
    """The share of a head's texts found, by language, at false-positive rates on honest texts."""
    honest = odds[[text.head == "ordinary" for text in texts]]
    out: dict[str, dict[str, float]] = {}
    for fpr in FPRS:
        cut = float(np.quantile(honest, 1 - fpr, method="higher"))
        row = {}
        for language in sorted({t.language for t in texts if t.head == head}):
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
    texts = [text for text in read_texts(COPIES) if not text.heldout]
    spotted = [spot(lexicon, text) for text in texts]
    windows = {head: windows_of(lexicon, spotted, head, WORD_SIZE[head]) for head in HEADS}
    fitted = {head: fit_head(lexicon, windows[head], texts, head) for head in HEADS}
    weights = {head: of_concepts for head, (of_concepts, _) in fitted.items()}
    table = np.stack([of_words for _, of_words in fitted.values()])
    sha256 = digest((PACKAGE / "lexicon.toml").read_bytes(), weights, table)
    text = write_heads(weights, sha256)
    if check:
        same = (PACKAGE / "heads.toml").read_text("utf-8") == text  # its digest is of all weights
        print("the same bytes" if same else "heads.toml differs from what the texts give")
        return 0 if same else 1
    (PACKAGE / "heads.toml").write_text(text, "utf-8")
    np.savez_compressed(PACKAGE / "words.npz", weights=table)
    from measure import measure

    figures = measure()
    figures["leave_family_out"] = {
        head: rates(cross_odds(windows[head], texts, head, positives=True), texts, head)
        for head in HEADS
    }
    figures["texts"] = {"train": len(texts), "families": len({t.family for t in texts})}
    (Path(__file__).parent / "figures.json").write_text(
        json.dumps(figures, indent=1, sort_keys=True) + "\n", "utf-8"
    )
    print(json.dumps(figures, indent=1, sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
