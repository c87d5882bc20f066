"""Inputs and pools: told apart by content, never by the order of a file."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from overproof.collect.inputs import InputItem, read_inputs
from overproof.collect.splits import make_splits
from overproof.config.recipe import DataConfig
from overproof.errors import DataError
from overproof.records.hashing import text_hash

WORDS = [
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "haven",
    "inlet",
    "joint",
    "kiosk",
    "lemon",
    "mango",
]


def items(n: int, seed: int = 0) -> list[InputItem]:
    rng = random.Random(seed)
    texts = {" ".join(rng.choices(WORDS, k=9)) + f" {i * 7919}" for i in range(n)}
    return [InputItem(text_hash(t), t, "a", i) for i, t in enumerate(sorted(texts), 1)]


def config(**changes: object) -> DataConfig:
    return DataConfig(
        **{"file": "f.csv", "train": 100, "tune": 20, "test": 40, "examples": 5, **changes}
    )


def test_pools_are_disjoint_and_as_large_as_asked() -> None:
    splits = make_splits(items(300), config(), seed=1)
    assert splits.counts() == {"train": 100, "tune": 20, "test": 40, "examples": 5}
    pools = [splits.train, splits.tune, splits.test, splits.examples]
    assert len({item.item for pool in pools for item in pool}) == 165


def test_pools_do_not_depend_on_the_order_of_the_file() -> None:
    forwards = items(300)
    backwards = list(reversed(forwards))
    a, b = (make_splits(x, config(), seed=1) for x in (forwards, backwards))
    assert [i.item for i in a.test] == [i.item for i in b.test]
    assert [i.item for i in a.train] == [i.item for i in b.train]
    other = make_splits(forwards, config(), seed=2)
    assert [i.item for i in a.test] != [i.item for i in other.test]


def test_near_duplicates_are_kept_once_across_all_pools() -> None:
    originals = items(200)
    text = "what is the longest river that flows through three countries of europe"
    twins = [InputItem(text_hash(t), t, "a", i) for i, t in enumerate(
        [text, text + "?", text.replace("what", "What is it:")])]  # fmt: skip
    splits = make_splits([*originals, *twins], config(train=1000), seed=1)
    kept = [i for pool in (splits.train, splits.tune, splits.test, splits.examples) for i in pool]
    assert sum("longest river" in item.text for item in kept) == 1
    assert splits.near_duplicates >= 2


def test_a_test_file_keeps_its_inputs_out_of_training() -> None:
    pool = items(300)
    test = pool[:50]
    splits = make_splits(pool, config(), seed=1, test_items=test)
    assert {i.item for i in splits.test} <= {i.item for i in test}
    assert not {i.item for i in test} & {i.item for i in [*splits.train, *splits.tune]}


def test_too_few_inputs_are_refused_with_the_sizes() -> None:
    with pytest.raises(DataError, match="too few for examples = 5, tune = 20, test = 40"):
        make_splits(items(60), config(), seed=1)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_empty_and_repeated_inputs_are_left_out_and_counted(tmp_path: Path) -> None:
    file = write(tmp_path / "d.csv", "text,label\nHello,a\n,a\n  ,b\nhello,b\nother,b\n")
    inputs = read_inputs(file, config(gold="label"), ["a", "b"])
    assert [item.text for item in inputs.items] == ["Hello", "other"]
    assert inputs.empty_rows == [2, 3]
    assert (inputs.exact_duplicates, inputs.conflicting_gold) == (1, 1)
    assert len(inputs.notes()) == 3


def test_an_unknown_gold_label_names_file_row_and_label(tmp_path: Path) -> None:
    file = write(tmp_path / "d.csv", "text,label\nHello,a\nthere,c\n")
    with pytest.raises(DataError, match=r"d\.csv: row 2: gold label 'c'"):
        read_inputs(file, config(gold="label"), ["a", "b"])
    mapped = read_inputs(file, config(gold="label", gold_map={"c": "b"}), ["a", "b"])
    assert [item.gold for item in mapped.items] == ["a", "b"]


def test_a_file_without_a_single_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no input"):
        read_inputs(write(tmp_path / "d.csv", 'text\n""\n'), config(), ["a", "b"])
