"""Which text of an example a filter looks at."""

from __future__ import annotations

from collections.abc import Sequence

from overproof.config.filters import Part
from overproof.records.text_dataset import TextExample

__all__ = ["Units", "answered", "part_of", "units", "without_shared_wording"]

FEWEST = 10  # texts from which what all of them share is taken for a template
SHORTEST_SHARED = 24  # characters of it


def answered(example: TextExample) -> str:
    """The whole answer: its text and the calls that it makes."""
    calls = [f"{call.name}({call.arguments})" for call in example.tool_calls]
    return "\n".join([example.answer, *calls] if example.answer else calls)


def part_of(example: TextExample, on: str) -> str:
    """The ``prompt``, ``answer`` or ``reasoning``; empty where there is none."""
    if on == "prompt":
        return example.asked
    return answered(example) if on == "answer" else example.reasoning or ""


class Units:
    """What duplicates are told by: examples, or prompts with all their samples.

    Attributes:
        members: indices of the examples of each unit.
        columns: one or two texts of each unit, a list a column.
        settings: the system messages of each unit: where they differ, nothing is a duplicate.
    """

    def __init__(self, members: list[list[int]], columns: list[list[str]], settings: list[str]):
        self.members = members
        self.columns = columns
        self.settings = settings

    def by_setting(self) -> list[list[int]]:
        """Numbers of the units under the same system messages, in order."""
        groups: dict[str, list[int]] = {}
        for number, setting in enumerate(self.settings):
            groups.setdefault(setting, []).append(number)
        return list(groups.values())

    def spread(self, dropped: dict[int, str]) -> dict[int, str]:
        """Reasons by example from reasons by unit."""
        return {index: why for number, why in dropped.items() for index in self.members[number]}


def units(examples: Sequence[TextExample], on: Part) -> Units:
    """The units of ``examples``, in order. Samples of one prompt are one unit ``on = "prompt"``."""
    members: dict[object, list[int]] = {}
    for index, example in enumerate(examples):
        members.setdefault(example.item if on == "prompt" else index, []).append(index)
    firsts = [examples[indices[0]] for indices in members.values()]
    prompts = without_shared_wording([first.asked for first in firsts]) if on != "answer" else []
    columns = {
        "prompt": [prompts],
        "answer": [[answered(first) for first in firsts]],
        "both": [prompts, [answered(first) for first in firsts]],
    }[on]
    settings = ["" if on == "answer" else _setting(first) for first in firsts]
    return Units(list(members.values()), columns, settings)


def _setting(example: TextExample) -> str:
    return "\n".join(m.content for m in example.messages if m.role == "system")


def without_shared_wording(texts: Sequence[str]) -> list[str]:
    """``texts`` without what all of them begin and end with: the wording of a prompt template.

    A long template makes any two prompts look alike. Less than 24 characters, or what fewer than
    10 different texts share, is left alone.
    """
    distinct = sorted(set(texts))
    if len(distinct) < FEWEST:
        return list(texts)
    head = _common_start(distinct)
    tail = _common_start(sorted(text[head:][::-1] for text in distinct))
    return [text[head : len(text) - tail] for text in texts]


def _common_start(ordered: Sequence[str]) -> int:
    """Characters that all of the sorted texts begin with; 0 where they are too few."""
    first, last = ordered[0], ordered[-1]
    pairs = enumerate(zip(first, last, strict=False))
    shared = next((i for i, (a, b) in pairs if a != b), min(len(first), len(last)))
    return shared if shared >= SHORTEST_SHARED else 0
