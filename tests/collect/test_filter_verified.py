"""Filters that verify: final answers, reasoning-gym, votes, unit tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from examples import answers, example, make
from fake_gym import install_fake_gym

from overproof.clients import gym_verifier
from overproof.collect.filters.extraction import final_answer, normalised
from overproof.collect.filters.unit_tests import code_in
from overproof.config.filters import ReasoningGym
from overproof.errors import ConfigError, DataError, MissingExtraError


@pytest.mark.parametrize(
    ("text", "settings", "answer"),
    [
        ("6 * 7 = 42\n#### 42", {}, "42"),
        ("<answer>1</answer> no, <answer> 2 </answer>", {}, "2"),
        (r"so \boxed{\frac{1}{2}} holds", {}, r"\frac{1}{2}"),
        (r"\boxed{1} and then #### 3" "\n#### 4", {}, "4"),
        ("#### 4\nwhich is \\boxed{5}", {}, "5"),
        ("just 42", {}, "just 42"),
        ("just 42", {"extract": "boxed"}, None),
        ("#### 42", {"extract": "tags"}, None),
        (r"\boxed{never closed", {"extract": "boxed"}, None),
        ("The answer is 4. The answer is 5.", {"pattern": r"answer is (\d+)"}, "5"),
        ("nothing", {"pattern": r"answer is (\d+)"}, None),
        ("  #### 1 ", {"extract": "whole"}, "#### 1"),
        ("", {}, ""),
    ],
)
def test_the_final_answer(text: str, settings: dict[str, str], answer: str | None) -> None:
    assert final_answer(text, ReasoningGym(kind="reasoning_gym", **settings)) == answer


@pytest.mark.parametrize(
    ("one", "other"),
    [("1,000", "1000"), ("$1,000.00", "1000"), ("Paris.", "paris"), ("+7", "7"), ("-0", "0"),
     ("007", "7"), (r"\text{Yes}", "yes"), ("**B**", "b"), ("0.50", "0.5"), ("４２", "42")],
)  # fmt: skip
def test_equal_answers(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1,5", "15"),
        ("-7", "7"),
        ("1.5", "15"),
        ("12", "1 2"),
        ("1000", "1000 apples"),
        ("a b", "ab"),
    ],
)
def test_different_answers(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


async def test_reasoning_gym_scores_answers() -> None:
    gym = pytest.importorskip("reasoning_gym")
    entry = gym.create_dataset("basic_arithmetic", size=1, seed=1)[0]
    fact = {"reasoning_gym": {"name": "basic_arithmetic", "entry": entry}}
    right = entry["answer"]
    said = [f"<answer>{right}</answer>", "#### 123456", f"It is {right}.", ""]
    rows = [example(entry["question"], text, n, facts=fact) for n, text in enumerate(said)]
    rows.append(example("What is love?", "A song."))
    verified = make("reasoning_gym")
    dropped = await verified.drops(rows)
    assert list(dropped) == [1, 2, 3]
    assert dropped[1] == "scored below 1: 0 for '123456'"
    assert verified.notes == ["4 verified", "1 kept unverified: no tasks of reasoning-gym"]
    tolerant = make("reasoning_gym", min_score=0.1, on_missing="drop")
    assert list(await tolerant.drops(rows)) == [1, 3, 4]
    with pytest.raises(DataError, match="no task of reasoning-gym"):
        await make("reasoning_gym", on_missing="fail").drops(rows)
    broken = example("?", "1", facts={"reasoning_gym": {"name": "no_such_task", "entry": {}}})
    assert (await verified.drops([broken]))[0].startswith("could not be verified: task 'no_su")


async def test_no_answer_is_evaluated_in_this_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    verifier = install_fake_gym(monkeypatch, tmp_path / "gym")
    facts = {"reasoning_gym": {"name": "evaluates", "entry": {"target": 4}}}
    attack = f"__import__('os').system('touch {tmp_path / 'harmed'}')"
    rows = [example("2 + 2", text, n, facts=facts) for n, text in enumerate((attack, "8 / 2"))]
    try:
        dropped = await make("reasoning_gym").drops(rows)
    finally:
        verifier.close()
    assert list(dropped) == [0]
    assert "double underscore" in dropped[0]
    assert not (tmp_path / "harmed").exists()


async def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gym_verifier, "_shared", gym_verifier.GymVerifier())
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    fact = {"reasoning_gym": {"name": "basic_arithmetic", "entry": {}}}
    with pytest.raises(MissingExtraError, match="overproof\\[tasks\\]"):
        await make("reasoning_gym").drops([example("1+1", "2", facts=fact)])


async def test_votes() -> None:
    said = {
        "clear": ["#### 4", "so \\boxed{4.0}", "<answer>5</answer>"],
        "tie": ["1", "2", "1", "2"],
        "split": ["1", "2", "3", "1", "5"],
        "few": ["7", "7"],
        "empty": ["", "", ""],
        "all": ["9", "9", "9"],
    }
    rows = [example(p, text, n) for p, texts in said.items() for n, text in enumerate(texts)]
    at = {p: [i for i, row in enumerate(rows) if row.asked == p] for p in said}
    vote = make("self_consistency")
    dropped = await vote.drops(rows)
    kept = [i for i in range(len(rows)) if i not in dropped]
    assert kept == [*at["clear"][:2], *at["all"]]
    assert dropped[at["clear"][2]] == "outvoted: '5' against '4' with 67%"
    assert {dropped[i] for i in at["tie"]} == {"the vote is a tie: 2 each"}
    assert {dropped[i] for i in at["split"]} == {"no answer has 50% of the votes: at most 40%"}
    assert {dropped[i] for i in at["few"]} == {"fewer than 3 samples: 2"}
    assert {dropped[i] for i in at["empty"]} == {"no sample has an answer of the wanted form"}
    assert vote.notes[0].startswith("share of the commonest answer over 5 prompts: mean 51%")
    assert "1 prompts dropped: too few samples" in vote.notes
    first = await make("self_consistency", keep="first", on_few="keep").drops(rows)
    kept = [i for i in range(len(rows)) if i not in first]
    assert kept == [at["clear"][0], *at["few"], at["all"][0]]


async def test_samples_without_an_answer_count_against_the_majority() -> None:
    texts = ["\\boxed{1}", "\\boxed{1}", "?", "?", "?"]
    rows = [example("p", text, n) for n, text in enumerate(texts)]
    assert len(await make("self_consistency", extract="boxed").drops(rows)) == 5
    loose = make("self_consistency", extract="boxed", min_share=0.4)
    assert list(await loose.drops(rows)) == [2, 3, 4]


def test_the_code_of_an_answer() -> None:
    answer = "Here:\n```python\nx = 1\n```\nand\n```bash\nrm -rf .\n```\n```\ny = 2\n```\nDone."
    assert code_in(answer) == "x = 1\n\ny = 2\n"
    assert code_in("x = 1") == "x = 1"


CHECK = "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-3) == 9\n"


async def test_unit_tests_keep_what_passes() -> None:
    facts = {"test": CHECK, "entry_point": "square"}
    said = [
        "Sure:\n```python\ndef square(x):\n    return x * x\n```",
        "```python\ndef square(x):\n    return x + x\n```",
        "def square(x): return x ** 2",
        "I would rather not.",
        "```python\nimport sys\nsys.exit(0)\n```",
    ]
    rows = [example("Square it", text, n, facts=facts) for n, text in enumerate(said)]
    filter_ = make("unit_tests", timeout_s=20, isolation="best_effort")
    dropped = await filter_.drops(rows)
    assert list(dropped) == [1, 3, 4]
    assert dropped[1] == "tests failed: AssertionError"
    assert dropped[3].startswith("tests failed: SyntaxError")
    assert dropped[4] == "tests failed: SystemExit: 0"
    assert filter_.notes[0] == "3 failed, 2 passed"


async def test_tests_that_prove_nothing_are_told() -> None:
    idle = {"test": "def check(candidate):\n    pass\n", "entry_point": "f"}
    never = {"test": "def check(candidate):\n    assert candidate() == 1\n"}
    rows = [
        example("a", "def f(): return 1", facts=idle),
        example("b", "def f(): return 1", facts=never),
        example("c", "def f(): return 1", facts={"test": "assert f() == 1"}),
        example("d", "def f(): return 1", facts={"test": "x = 1"}),
        example("e", "def f(): return 1", reference="assert f() == 1"),
    ]
    dropped = await make(
        "unit_tests", timeout_s=20, isolation="best_effort", on_missing="keep"
    ).drops(rows)
    assert dropped[0] == "tests pass without any code, so they prove nothing"
    assert "check(candidate) is never called" in dropped[1]
    assert list(dropped) == [1, 0, 3]
    by_reference = make("unit_tests", tests="reference", isolation="best_effort", on_missing="drop")
    assert list(await by_reference.drops(rows)) == [0, 1, 2, 3]
    with pytest.raises(DataError, match="has no tests in 'test'"):
        await make("unit_tests").drops(answers("x = 1"))


async def test_no_walls_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from overproof.collect.filters import unit_tests

    async def problem() -> str:
        return "unshare: Operation not permitted"

    monkeypatch.setattr(unit_tests, "isolation_problem", problem)
    rows = [example("a", "def f(): return 1", facts={"test": "assert f() == 1"})]
    with pytest.raises(ConfigError, match="nothing walls off the code"):
        await make("unit_tests").drops(rows)
    anyway = make("unit_tests", isolation="best_effort", timeout_s=20)
    assert await anyway.drops(rows) == {}
    assert anyway.notes[1].startswith("NOT walled off: unshare")
