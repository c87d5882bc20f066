from __future__ import annotations

import pytest

from overproof.errors import LeakError
from overproof.evaluate.leaks import check_leaks
from overproof.records.dataset import LabelRow
from overproof.records.exchange import Outcome


def row(item: str, text: str) -> LabelRow:
    return LabelRow(item=item, text=text, outcome=Outcome.ANSWERED)


TEST = [row("t1", "What is the capital of France?"), row("t2", "How tall is Mount Everest?")]


def test_nothing_alike_passes() -> None:
    check_leaks(TEST, {"train": [row("a", "Who wrote Hamlet?")], "examples": []}, 0.8)


def test_an_exact_copy_is_named_with_both_texts() -> None:
    others = {"tune": [row("a", "  HOW tall is\tMount Everest? ")]}
    with pytest.raises(LeakError) as caught:
        check_leaks(TEST, others, 1.0)
    said = str(caught.value)
    assert "tune split" in said
    assert "test t2 'How tall is Mount Everest?'" in said
    assert "tune a 'HOW tall is Mount Everest?'" in said


def test_a_near_copy_counts_from_the_threshold() -> None:
    others = {"examples": [row("a", "What is the capital of France, please?")]}
    with pytest.raises(LeakError, match="examples split: holds 1 test input or"):
        check_leaks(TEST, others, 0.6)
    check_leaks(TEST, others, 0.9)


def test_long_texts_and_long_lists_are_shortened() -> None:
    many = [row(f"t{i}", f"{i} " + "word " * 100 + str(i) * 9) for i in range(10)]
    with pytest.raises(LeakError) as caught:
        check_leaks(many, {"train": [row(f"a{r.item}", r.text) for r in many]}, 0.8)
    said = str(caught.value)
    assert "holds 10 test inputs" in said
    assert said.count("similarity") == 3
    assert "…" in said
    assert max(map(len, said.splitlines())) < 300
