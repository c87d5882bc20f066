"""Test prompts where training could have seen them, and templates that only look alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from text_world import WORDS

from overproof.errors import LeakError
from overproof.evaluate.text.leak_check import check_text_leaks
from overproof.evaluate.text.rows import read_held_out
from overproof.records.chat_dataset import write_chats
from overproof.records.exchange import Message, Outcome
from overproof.records.text_dataset import Origin, TextExample


def prompts(directory: Path, split: Any, texts: list[str], kind: str = "file") -> None:
    examples = [
        TextExample(
            item=f"{split} {i}", sample=0, split=split,
            messages=(Message(role="user", content=text),), outcome=Outcome.ANSWERED, answer="yes",
            origin=Origin(kind=kind, source="here"),
        )
        for i, text in enumerate(texts)
    ]  # fmt: skip
    directory.mkdir(exist_ok=True)
    write_chats(directory, split, examples)


def test_the_wording_of_a_template_is_no_leak(tmp_path: Path) -> None:
    long = "Please say in one short sentence what you think of the animal that is called: "
    train = [f"{long}{word} of the {word[::-1]}?" for word in WORDS]
    test = [
        f"{long}{word * 2} from the old house of the {word * 3} beyond the hills?" for word in WORDS
    ]
    for kind in ("file", "expand"):
        prompts(tmp_path / kind, "train", train, kind)
        prompts(tmp_path / kind, "test", test)
        rows = read_held_out(tmp_path / kind, "test")
        check_text_leaks(rows, tmp_path / kind, 0.8)
        for leak in (test[3].upper(), test[4][:-1] + "!"):
            prompts(tmp_path / kind, "train", [*train, leak], kind)
            with pytest.raises(LeakError, match="1 test input or near-dup"):
                check_text_leaks(rows, tmp_path / kind, 0.8)
        prompts(tmp_path / kind, "train", train, kind)
        prompts(tmp_path / kind, "tune", [test[0]], kind)
        with pytest.raises(LeakError, match="the tune split"):
            check_text_leaks(rows, tmp_path / kind, 1.0)
