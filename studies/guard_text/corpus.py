"""The texts of this folder, with their slots filled: the same for everybody, by seed.

python studies/guard_text/corpus.py        counts by head, language and family
"""

from __future__ import annotations

import random
import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
HEADS = ("elicitation", "rubric", "synthesis", "technique", "ordinary")
FILES: dict[str, tuple[str, ...]] = {
    head: (f"{head}.toml", f"{head}_wider.toml", f"{head}_third.toml", f"heldout_{head}.toml")
    for head in HEADS
}
FILES["elicitation"] += ("elicitation_fourth.toml", "elicitation_tongues.toml")
FILES["synthesis"] += ("synthesis_fourth.toml", "synthesis_fifth.toml", "synthesis_tongues.toml")
FILES["rubric"] += ("rubric_fourth.toml", "rubric_judges.toml")
FILES["ordinary"] += ("ordinary_work.toml", "ordinary_reasoning.toml", "ordinary_bulk.toml")
FILES["ordinary"] += ("ordinary_jobs.toml",)
SLOTS = ("slots", *(f"slots_{of}" for of in ("work", "jobs", "judges", "systems")))
# More pieces of the pools above, by other hands.
SLOTS += ("slots_english", "slots_chinese", "slots_documents")
COPIES = 8  # fillings of one text
_SLOT = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Text:
    """One filled text. ``head`` is what it is an example of, or ``ordinary``."""

    head: str
    family: str
    language: str
    heldout: bool
    system: str
    turn: str


def _fill(text: str, slots: dict[str, list[str]], rng: random.Random) -> str:
    def one(match: re.Match[str]) -> str:
        name = match.group(1)
        if "|" in name:
            return rng.choice(name.split("|"))
        return rng.choice(slots[name]) if name in slots else match.group(0)

    for _ in range(3):  # pieces have slots of their own
        text = _SLOT.sub(one, text)
    return text


def _surround(text: str, slots: dict[str, list[str]], rng: random.Random) -> tuple[str, str]:
    """Where the text stands: alone, above or below a task or a document, or as the system."""
    tongue = "_zh" if re.search("[一-鿿]", text) else ""
    payload = rng.choice(
        slots[
            rng.choice(("task", "doc", "question"))
            if not tongue
            else rng.choice(("task_zh", "doc_zh"))
        ]
    )
    place = rng.randrange(10)
    if place < 5:
        return "", text
    if place < 7:
        return "", f"{text}\n\n{payload}"
    if place < 9:
        return "", f"{payload}\n\n{text}"
    return text, payload


def read_texts(copies: int = COPIES) -> list[Text]:
    """Every family's texts, ``copies`` fillings of each, without repeats."""
    slots: dict[str, list[str]] = {}
    for file in SLOTS:
        for slot, pieces in tomllib.loads((HERE / f"{file}.toml").read_text("utf-8")).items():
            slots[slot] = [*slots.get(slot, []), *pieces]
    out: dict[tuple[str, str], Text] = {}
    for head, files in FILES.items():
        for file in files:
            for family in tomllib.loads((HERE / file).read_text("utf-8"))["family"]:
                name = f"{head}/{family['name']}"
                heldout = file.startswith("heldout") or family.get("heldout", False)
                # Forms that are composed of pieces are composed many times.
                for i, text in enumerate(family["texts"] * family.get("times", 1)):
                    for copy in range(copies):
                        rng = random.Random(f"{name}/{i}/{copy}")
                        system, turn = _surround(_fill(text, slots, rng), slots, rng)
                        out[system, turn] = Text(
                            head, name, family["language"], heldout, system, turn
                        )
    return list(out.values())


if __name__ == "__main__":
    for key, count in sorted(
        Counter(
            (t.head, t.language, "held out" if t.heldout else "train") for t in read_texts()
        ).items()
    ):
        print(*key, count)
