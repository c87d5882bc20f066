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
from fitting import spot_all

from overproof.guard.text.heads import read_heads, windows_for
from overproof.guard.text.traits import text_traits

HELD_OUT_HEADS = ("elicitation", "rubric", "synthesis")


def share(found: list[bool]) -> float:
    """The share of true ones, to three digits."""
    return round(float(np.mean(found)), 3)


def measure_head(texts: list[Text], head: str) -> dict[str, Any]:
    """Found at the shipped threshold and at two false-positive rates on held-out honest texts."""
    shipped = read_heads()
    odds = [
        shipped.by_name[head].odds(windows_for(head, hits))
        for hits in spot_all(shipped.lexicon, texts)
    ]
    honest = np.array([o for o, t in zip(odds, texts, strict=True) if t.head == "ordinary"])
    out: dict[str, Any] = {"honest_texts": len(honest), "false_positives": int((honest > 0).sum())}
    cuts = {"shipped_threshold": 0.0}
    for fpr in (0.001, 0.01):
        cuts[f"fpr_{fpr:g}"] = float(np.quantile(honest, 1 - fpr, method="higher"))
    own = [(o, t) for o, t in zip(odds, texts, strict=True) if t.head == head]
    for name, cut in cuts.items():
        languages = sorted({t.language for _, t in own})
        out[f"tpr_{name}"] = {
            language: share([o > cut for o, t in own if t.language == language])
            for language in languages
        }
    families = sorted({t.family for _, t in own})
    out["tpr_by_family"] = {f: share([o > 0 for o, t in own if t.family == f]) for f in families}
    out["texts"] = len(own)
    return out


def measure() -> dict[str, Any]:
    """The figures of every head that has held-out families."""
    texts = [text for text in read_texts() if text.heldout]
    return {"held_out": {head: measure_head(texts, head) for head in HELD_OUT_HEADS}}


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
