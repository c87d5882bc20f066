"""What the shipped heads reach on held-out families, as `text_traits` sees them.

python studies/guard_text/measure.py                    the held-out families
python studies/guard_text/measure.py --honest FILE...   false positives, one text a line
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from corpus import Text, read_texts

from overproof.guard.text.heads import HEADS, read_heads
from overproof.guard.text.spotting import body_of
from overproof.guard.text.traits import text_traits

FPRS = (0.001, 0.01, 0.03)
DRAWS = 2_000


def share(found: list[bool]) -> float:
    """The share of true ones, to three digits."""
    return round(float(np.mean(found)), 3)


def interval(by_family: list[float]) -> list[float]:
    """The mean over families with its 95 % bootstrap interval, families drawn again."""
    rng = np.random.default_rng(0)
    means = rng.choice(by_family, (DRAWS, len(by_family))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return [round(float(x), 3) for x in (np.mean(by_family), low, high)]


def odds_of(texts: list[Text]) -> list[list[int]]:
    """The log-odds of each text by head, in the order of `HEADS`."""
    shipped = read_heads()
    bodies = [body_of(text.system, text.turn) for text in texts]
    return [shipped.odds(body, shipped.lexicon.spot(body)) for body in bodies]


def by_family_of(found: list[tuple[str, bool]]) -> dict[str, float]:
    """The share of true ones in each family."""
    families = sorted({family for family, _ in found})
    return {f: share([is_so for family, is_so in found if family == f]) for f in families}


def measure_head(texts: list[Text], odds: list[list[int]], head: str) -> dict[str, Any]:
    """Found at the shipped threshold and at false-positive rates on held-out honest texts."""
    of_head = [each[HEADS.index(head)] for each in odds]
    pairs = list(zip(of_head, texts, strict=True))
    honest = np.array([o for o, t in pairs if t.head == "ordinary"])
    raised = by_family_of([(t.family, o > 0) for o, t in pairs if t.head == "ordinary"])
    out: dict[str, Any] = {
        "honest_texts": len(honest),
        "false_positives": int((honest > 0).sum()),
        "false_positives_by_family": {f: rate for f, rate in raised.items() if rate},
    }
    cuts = {"shipped_threshold": 0.0}
    for fpr in FPRS:
        cuts[f"fpr_{fpr:g}"] = float(np.quantile(honest, 1 - fpr, method="higher"))
    own = [(o, t) for o, t in pairs if t.head == head]
    for name, cut in cuts.items():
        languages = sorted({t.language for _, t in own})
        out[f"tpr_{name}"] = {
            language: share([o > cut for o, t in own if t.language == language])
            for language in languages
        }
    out["tpr_by_family"] = by_family_of([(t.family, o > 0) for o, t in own])
    out["tpr_of_families_with_interval"] = interval(list(out["tpr_by_family"].values()))
    out["texts"] = len(own)
    return out


def measure() -> dict[str, Any]:
    """The figures of every head that has held-out families."""
    texts = [text for text in read_texts() if text.heldout]
    odds = odds_of(texts)
    return {"held_out": {head: measure_head(texts, odds, head) for head in HEADS}}


def honest_rates(lines: list[str]) -> dict[str, float]:
    """Of honest texts, the share that each trait calls suspicious."""
    traits = [text_traits("", line) for line in lines]
    return {
        "texts": len(lines),
        "elicitation": float(np.mean([t.elicitation > 0.5 for t in traits])),
        "rubric": float(np.mean([t.rubric > 0.5 for t in traits])),
        "synthesis": float(np.mean([t.synthesis > 0.5 for t in traits])),
        "technique": float(np.mean([t.technique > 0 for t in traits])),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--honest", nargs="*", default=[], type=Path)
    files = parser.parse_args().honest
    if not files:
        print(json.dumps(measure(), indent=1))
    for file in files:
        lines = [x for x in file.read_text("utf-8", "replace").splitlines() if x.strip()]
        print(file.name, json.dumps(honest_rates(lines)))
