"""Refusing to certify where training could have seen a test prompt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Literal

from overproof.evaluate.leaks import check_leaks
from overproof.evaluate.text.rows import HeldOutRow, asked_of, messages_of
from overproof.records.chat_dataset import read_chats
from overproof.records.exchange import Outcome

__all__ = ["check_text_leaks"]

MADE = 0.8  # the likeness by which collecting keeps made-up prompts apart from held-out ones
FEWEST = 10  # texts from which what all of them share is taken for a template
SHORTEST_SHARED = 24  # characters of it
FEWEST_WORDS = 3
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class _Prompt:
    """A prompt as leaks are told by; ``is_made`` where a program or a teacher wrote it."""

    item: str
    text: str
    is_made: bool = False


def check_text_leaks(test: Sequence[HeldOutRow], dataset: Path, threshold: float) -> None:
    """Check that no test prompt, nor a near-duplicate of one, is in ``train`` or ``tune``.

    Likeness is judged as it was when the prompts were collected: what all of them begin and end
    with is the wording of a template and no likeness; prompts from a file are held apart by the
    recipe's threshold, made-up ones by that of decontamination.

    Args:
        test: the test split.
        dataset: the frozen dataset's directory.
        threshold: Jaccard similarity of character 5-gram sets from which prompts are
            near-duplicates; equal ones (up to case, white space and Unicode form) always are.

    Raises:
        LeakError: naming the first offending pairs.
    """
    held = [_Prompt(row.item, row.text) for row in test]
    splits = {name: _prompts(dataset, name) for name in _SPLITS}
    bare = _unwrapped([p.text for p in held], *([p.text for p in ps] for ps in splits.values()))
    held_bare = [_Prompt(p.item, bare[p.text]) for p in held]
    worded = [p for p in held_bare if len(_WORD.findall(p.text)) >= FEWEST_WORDS]
    for name, prompts in splits.items():
        check_leaks(held, {name: prompts}, 1.0)
        stripped = [_Prompt(p.item, bare[p.text], p.is_made) for p in prompts]
        found = [prompt for prompt in stripped if not prompt.is_made]
        made = [prompt for prompt in stripped if prompt.is_made]
        check_leaks(held_bare, {name: found}, threshold)
        check_leaks(worded, {name: made}, max(threshold, MADE))


_SPLITS: tuple[Literal["train", "tune"], ...] = ("train", "tune")


def _prompts(dataset: Path, split: Literal["train", "tune"]) -> list[_Prompt]:
    if not (dataset / f"{split}.parquet").exists():
        return []
    prompts: dict[str, _Prompt] = {}
    for row in read_chats(dataset, split):
        messages = messages_of(row)
        if Outcome(row["outcome"]) is Outcome.ANSWERED:
            messages = messages[:-1]
        kind = str((row.get("origin") or {}).get("kind") or "file")
        item = str(row["item"])
        prompts[item] = _Prompt(item, asked_of(messages), kind not in ("file", "ledger"))
    return list(prompts.values())


def _unwrapped(*groups: Iterable[str]) -> dict[str, str]:
    """Every text without what all of them begin and end with."""
    texts = sorted({text for group in groups for text in group})
    if len(texts) < FEWEST:
        return {text: text for text in texts}
    head = _common_start(texts)
    tail = _common_start(sorted(text[head:][::-1] for text in texts))
    return {text: text[head : len(text) - tail] for text in texts}


def _common_start(ordered: Sequence[str]) -> int:
    """Characters that all of the sorted texts begin with; 0 where they are too few."""
    pairs = zip(ordered[0], ordered[-1], strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return shared if shared >= SHORTEST_SHARED else 0
