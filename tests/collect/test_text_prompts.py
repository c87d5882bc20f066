"""Prompts of a text task: read, rendered, told apart and split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from overproof.collect.text_prompts import Prompts, read_prompts, split_prompts
from overproof.config.text_recipe import TextDataConfig, TextTaskConfig
from overproof.errors import ConfigError, DataError

TASK = TextTaskConfig(kind="text")


def read(tmp_path: Path, rows: list[dict[str, Any]], task: TextTaskConfig = TASK,
         **data: Any) -> Prompts:  # fmt: skip
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_prompts(path, TextDataConfig(file=path.name, **data), task)


def said(found: Prompts) -> list[list[tuple[str, str]]]:
    return [[(m.role, m.content) for m in prompt.messages] for prompt in found.prompts]


def test_a_row_becomes_a_prompt_with_its_origin_and_facts(tmp_path: Path) -> None:
    task = TextTaskConfig(kind="text", system="Be {{ tone }}.", prompt="Q: {{ input }}")
    rows = [{"text": "why?", "tone": "kind", "answer": "so", "n": 3}]
    found = read(tmp_path, rows, task, reference="answer")
    (prompt,) = found.prompts
    assert said(found) == [[("system", "Be kind."), ("user", "Q: why?")]]
    assert prompt.origin.kind == "file"
    assert prompt.origin.source == "prompts.jsonl: row 1"
    assert prompt.reference == "so"
    assert prompt.facts == {"tone": "kind", "n": 3}  # neither the input nor the answer


def test_the_reference_cannot_be_shown(tmp_path: Path) -> None:
    task = TextTaskConfig(kind="text", prompt="{{ input }} {{ answer }}")
    with pytest.raises(ConfigError, match="'answer' is undefined"):
        read(tmp_path, [{"text": "why?", "answer": "so"}], task, reference="answer")


def test_repeats_and_empty_rows_are_counted(tmp_path: Path) -> None:
    rows = [{"text": "a"}, {"text": " "}, {"text": "a"}, {"text": None}, {"text": "b"}]
    found = read(tmp_path, rows)
    assert [p.text for p in found.prompts] == ["a", "b"]
    assert found.empty_rows == [2, 4]
    assert found.exact_duplicates == 1


def test_user_messages_in_a_row_are_turns(tmp_path: Path) -> None:
    chat = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": "one"},
        {"role": "user", "content": "two"},
    ]
    found = read(tmp_path, [{"chat": chat}], messages="chat")
    assert said(found) == [[("user", "hello"), ("assistant", "hi"), ("user", "one")]]
    assert found.prompts[0].turns == ("two",)


def test_a_last_answer_is_the_reference(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
    found = read(tmp_path, [{"chat": chat}, {"chat": json.dumps(chat[:1])}], messages="chat")
    assert found.prompts[0].reference == "4"
    assert said(found)[0] == [("user", "2+2?")]
    assert found.exact_duplicates == 1  # the same question, as JSON text


@pytest.mark.parametrize(
    ("chat", "reason"),
    [
        ("no list", "not a list"),
        ([{"role": "user"}], "has no text"),
        ([{"role": "wizard", "content": "x"}], "unknown role"),
        ([{"role": "system", "content": "x"}], "does not end with the user"),
        (
            [{"role": "user", "content": "a"}, {"role": "user", "content": "b"},
             {"role": "system", "content": "c"}, {"role": "user", "content": "d"}],
            "another role",
        ),
    ],
)  # fmt: skip
def test_what_is_no_chat_is_named_with_its_row(tmp_path: Path, chat: Any, reason: str) -> None:
    good = [{"role": "user", "content": "x"}]
    with pytest.raises(DataError, match=r"prompts\.jsonl: row 2") as caught:
        read(tmp_path, [{"chat": good}, {"chat": chat}], messages="chat")
    assert reason in str(caught.value)


def test_a_number_is_no_prompt(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 1: column 'text' holds int"):
        read(tmp_path, [{"text": 5}])


def many(tmp_path: Path, size: int) -> Prompts:
    rows = [
        {"text": f"{i} " + " ".join(f"w{i * 31 % 97}x{k}" for k in range(9))} for i in range(size)
    ]
    return read(tmp_path, rows)


def test_pools_are_decided_by_content_not_by_order(tmp_path: Path) -> None:
    prompts = many(tmp_path, 60).prompts
    data = TextDataConfig(file="x", test=10, tune=5)
    forward, backward = split_prompts(prompts, data, 1), split_prompts(prompts[::-1], data, 1)
    assert forward == backward
    assert (len(forward.test), len(forward.tune), len(forward.train)) == (10, 5, 45)
    pools = [{p.item for p in pool} for pool in (forward.train, forward.tune, forward.test)]
    assert not pools[0] & pools[1]
    assert not pools[0] & pools[2]
    assert split_prompts(prompts, data, 2).test != forward.test
    capped = split_prompts(prompts, data.model_copy(update={"train": 7}), 1)
    assert (len(capped.train), capped.unused) == (7, 38)


def test_near_duplicates_never_straddle_pools(tmp_path: Path) -> None:
    base = "please tell me how a steam engine turns heat into motion, step by step"
    rows = [{"text": base + "!" * i} for i in range(6)] + [
        {"text": f"{chr(97 + i) * 12} other"} for i in range(20)
    ]
    found = read(tmp_path, rows)
    splits = split_prompts(found.prompts, TextDataConfig(file="x", test=5), 0)
    everything = [*splits.train, *splits.test]
    assert sum(base in p.text for p in everything) == 1
    assert splits.near_duplicates == 5


def test_too_few_prompts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="4 distinct prompts are too few for test = 4"):
        split_prompts(many(tmp_path, 4).prompts, TextDataConfig(file="x", test=4), 0)
