"""Scorers of known answers: exact, numeric, JSON fields, reasoning-gym, loops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_gym import install_fake_gym

from overproof.config.text_certificate import TextCertificateConfig
from overproof.errors import DataError
from overproof.evaluate.scorers import build
from overproof.evaluate.scorers.build import build_scorer
from overproof.evaluate.scorers.degenerate import is_loop
from overproof.evaluate.scorers.exact import exact_match, normalised
from overproof.evaluate.scorers.json_fields import compare_fields, parsed, same_json
from overproof.evaluate.scorers.numeric import last_number, same_number
from overproof.evaluate.scorers.protocol import Answer, Known
from overproof.records.exchange import ToolCall


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Paris", "  paris.\n"), ("\uff30aris", "paris"), ("**Paris**", '"Paris"'),
        ("the  Eiffel\tTower", "The Eiffel Tower!"), ("(Paris)", "Paris"), ("`x`", "x"),
        ("STRASSE", "stra\u00dfe"), ("...", "..."),
    ],
)  # fmt: skip
def test_exact_looks_past_form(one: str, other: str) -> None:
    assert exact_match(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("5", "-5"), ("5", "5%"), ("$5", "5"), ("C", "C++"), ("f(x)", "f(x"), ("", "."), ("a b", "ab"),
     ("!", "?"), ("(a)(b)", "a)(b")],
)  # fmt: skip
def test_exact_keeps_what_is_part_of_an_answer(one: str, other: str) -> None:
    assert not exact_match(one, other)
    assert normalised(one) == normalised(normalised(one))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("the answer is 42.", 42), ("1,234,567.5 dollars", 1234567.5), ("$1,000", 1000),
        ("-$5", -5), ("\u22127", -7), ("= -3", -3), ("10-5", 5), ("3 - 5", 5), ("(2)-5", 5),
        ("x - 5", 5), ("= - 5", -5),
        ("3/4", 0.75), ("1 3/4 cups", 1.75), (r"\frac{3}{4}", 0.75), (r"-\frac{1}{2}", -0.5),
        (r"\boxed{12}", 12), ("1e-3", 0.001), ("2.5E2", 250), (".5", 0.5), ("x = +8", 8),
        ("1, 2, 3", 3), ("1,2", 2), ("12\u202f345", 12345), ("2 + 3 = 5 apples", 5),
        ("50 %", 50), ("no. 7!", 7), ("-1/2", -0.5), ("0", 0), ("007", 7),
        ("it takes 5 100", 100), ("5\u00a0100", 5100), ("1 234 567", 1234567), ("1_000", 1000),
        ("\u00bd", 0.5), ("1\u00be cups", 1.75), ("-\u00bd", -0.5), ("x - 2\u00bd", 2.5),
        ("3 x 10^4", 30000), ("3.2\u00d710\u2074 m", 32000), (r"3 \times 10^{-2}", 0.03),
        ("6\u00b710\u207b\u00b2", 0.06), ("-2*10**3", -2000), ("10^6", 1e6), ("3 x 10", 10),
        ("25 m\u00b2", 25), ("50\u00a0%", 50),
    ],
)  # fmt: skip
def test_the_last_number(text: str, value: float) -> None:
    found = last_number(text)
    assert found is not None
    assert float(found.value) == pytest.approx(value)


@pytest.mark.parametrize("text", ["none", "", "1/0", "9" * 500, "minus", "---", "e5", "%"])
def test_no_number(text: str) -> None:
    found = last_number(text)
    assert found is None or float(found.value) in (1.0, 5.0)  # of 1/0 the 1 may count, of e5 the 5


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("50%", "0.5", True), ("50%", "50", True), ("0.5%", "50%", False),
        ("1/3", "0.333333", False), ("1/3", "0.3333333", True),
        ("1000000", "1000001", False), ("-4", "4", False),
        (str(10**30), str(10**30 + 1), False), ("1,000.0", "1000", True),
    ],
)  # fmt: skip
def test_same_numbers(one: str, other: str, same: bool) -> None:
    first, second = last_number(one), last_number(other)
    assert first is not None
    assert second is not None
    assert same_number(first, second, 1e-7) is same
    assert same_number(second, first, 1e-7) is same


def test_a_long_answer_of_digits_takes_no_time() -> None:
    assert last_number("1," * 20_000) is not None
    assert last_number("1 " * 20_000 + "1/") is not None
    assert last_number("-" * 50_000) is None
    assert last_number("7e999999999999") is not None


def fields(answer: Any, wanted: Any) -> tuple[int, int, int]:
    found = compare_fields(answer, wanted)
    return found.right, found.given, found.wanted


def test_fields_by_hand() -> None:
    wanted = {"name": "Ada", "address": {"city": "Rome", "zip": 187}, "tags": ["a", "b"]}
    assert fields(wanted, wanted) == (5, 5, 5)
    assert fields({"name": "ada"}, wanted) == (0, 1, 5)
    assert fields({"name": " Ada ", "address": {"zip": 187.0}, "x": 1}, wanted) == (2, 3, 5)
    found = compare_fields({"tags": ["b", "c"]}, wanted)
    assert (found.precision, found.recall, found.f1) == (1 / 2, 1 / 5, 2 / 7)
    assert fields([], wanted) == (0, 0, 5)
    assert fields("Ada", wanted) == (0, 1, 5)
    assert compare_fields({}, {}).f1 == 1.0
    assert compare_fields({"a": 1}, {}).precision == 0.0


def test_elements_of_lists_are_paired_so_that_most_agrees() -> None:
    wanted = {"people": [{"n": "Ada", "y": 1815}, {"n": "Bob", "y": 1900}]}
    turned = {"people": wanted["people"][::-1]}
    assert compare_fields(turned, wanted).f1 == 1.0
    assert not same_json(turned, wanted)
    assert fields({"people": wanted["people"][1:]}, wanted) == (2, 2, 4)
    mixed = {"people": [{"n": "Ada", "y": 1900}, {"n": "Bob", "y": 1815}]}
    assert fields(mixed, wanted) == (2, 4, 4)  # values of one person are not another's
    assert fields([1, 1, 2], [1, 2, 2]) == (2, 3, 3)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [(True, 1, False), (0, False, False), (None, "null", False), (1, 1.0, True), ([], {}, False),
     ({"a": []}, {"a": []}, True), ({"a": None}, {}, False), ("a", "a ", True)],
)  # fmt: skip
def test_json_values_are_equal_by_kind(one: Any, other: Any, same: bool) -> None:
    assert same_json(one, other) is same
    assert (compare_fields({"v": one}, {"v": other}).f1 == 1.0) is (same and other != {})


def test_many_objects_are_paired_as_few_are() -> None:
    rows = [{"id": i, "tags": ["x", "x", i % 7], "at": {"a": i % 5, "b": {}}} for i in range(180)]
    assert fields(rows[::-1], rows) == (180 * 6, 180 * 6, 180 * 6)
    wrong = [row | {"tags": ["x"], "at": 3} for row in rows]
    assert fields(wrong, rows) == (180 * 2, 180 * 3, 180 * 6)
    nested = [row | {"more": [[1], {"k": row["id"]}]} for row in rows[:9]]
    assert fields(nested[::-1], nested) == (9 * 8, 9 * 8, 9 * 8)


def test_deep_nesting_is_no_json_instead_of_a_crash() -> None:
    for text in ("[" * 100_000, "[" * 300 + "]" * 300, '{"a":' * 200 + "1" + "}" * 200):
        with pytest.raises(ValueError, match=r"nested|Expecting"):
            parsed(text)
    many = [{"a": i} for i in range(300)]
    assert compare_fields(many, many).f1 == 1.0


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
    "additionalProperties": False,
}


def scorer(kind: str, schema: Any = None, **changes: Any) -> Any:
    return build_scorer(TextCertificateConfig.model_validate({"scorer": kind} | changes), schema)


def test_extraction_is_scored_by_fields_and_validity_apart() -> None:
    judge = scorer("json", SCHEMA)
    known = Known("i", reference='{"name": "Ada", "age": 36}')
    right = judge.score(Answer('{"age": 36, "name": "Ada"}'), known)
    assert right.value == 1.0
    assert right.details == {
        "valid": 1.0, "exact": 1.0, "field_precision": 1.0, "field_recall": 1.0
    }  # fmt: skip
    fenced = judge.score(Answer('```json\n{"name": "Ada", "age": 36}\n```'), known)
    assert (fenced.value, fenced.details["valid"]) == (1.0, 0.0)
    half = judge.score(Answer('{"name": "Ada"}'), known)
    assert half.value == pytest.approx(2 / 3)
    assert half.counts == {"right": 1, "given": 1, "wanted": 2}
    broken = judge.score(Answer('{"name": "Ada"'), known)
    assert (broken.value, broken.counts) == (0.0, {"right": 0, "given": 0, "wanted": 2})
    assert set(broken.details) == set(right.details)
    with pytest.raises(DataError, match="no JSON"):
        judge.score(Answer("{}"), Known("i", reference="Ada"))
    with pytest.raises(DataError, match="no JSON Schema"):
        scorer("json")


def test_the_pattern_takes_the_answer_out() -> None:
    judge = scorer("exact", answer_pattern=r"<answer>(?P<answer>.*?)</answer>")
    known = Known("i", reference="7")
    assert judge.score(Answer("2? <answer>3</answer> no <answer> 7 </answer>"), known).value == 1.0
    none = judge.score(Answer("7"), known)
    assert (none.value, none.details) == (0.0, {"answer_found": 0.0})
    assert judge.same(Answer("a <answer>7</answer>"), Answer("<answer>7.</answer> b"))
    assert not judge.same(Answer("7"), Answer("7"))


def test_a_pattern_that_backtracks_forever_finds_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(build, "PATIENCE_S", 0.05)
    judge = scorer("exact", answer_pattern=r"(?P<answer>(a+)+)!")
    assert judge.score(Answer("a" * 60), Known("i", "a")).value == 0.0
    assert judge.score(Answer("z" * 60_000 + " aa!"), Known("i", "aa")).value == 1.0


def test_numeric_scorer() -> None:
    judge = scorer("numeric", tolerance=0.01)
    known = Known("i", reference="so #### 1,200")
    assert judge.score(Answer("1200.005 dollars"), known).value == 1.0
    assert judge.score(Answer("I do not know"), known).details == {"answer_found": 0.0}
    assert judge.same(Answer("it is 5"), Answer("5.00"))
    assert judge.same(Answer("none"), Answer("None."))
    assert not judge.same(Answer("none"), Answer("5"))
    with pytest.raises(DataError, match="without a number"):
        judge.score(Answer("1"), Known("i", reference="one"))
    with pytest.raises(DataError, match="no known right answer"):
        judge.score(Answer("1"), Known("i"))


def test_saying_what_the_teacher_said() -> None:
    judge = scorer("teacher")
    call = ToolCall(name="find", arguments='{"a": 1, "b": 2}')
    turned = ToolCall(name="find", arguments='{"b": 2.0, "a": 1}')
    said = Known("i", teacher=Answer("", (call,)))
    assert judge.score(Answer("", (turned,)), said).value == 1.0
    assert judge.score(Answer("Looking.", (turned,)), said).value == 1.0
    assert judge.score(Answer(""), said).value == 0.0
    assert judge.score(Answer("", (call, call)), said).value == 0.0
    assert judge.score(Answer("Yes."), Known("i", teacher=Answer("yes"))).value == 1.0
    as_json = scorer("teacher", SCHEMA)
    assert as_json.same(Answer('{"a": 1, "b": []}'), Answer('{"b":[],"a":1.0}'))
    with pytest.raises(DataError, match="no valid answer"):
        judge.score(Answer("x"), Known("i"))


def gym_entry(name: str) -> dict[str, Any]:
    import reasoning_gym

    return json.loads(json.dumps(reasoning_gym.create_dataset(name, seed=1, size=1)[0]))


@pytest.mark.slow
def test_the_tasks_own_verifier() -> None:
    judge = scorer("reasoning_gym")
    entry = gym_entry("leg_counting")
    known = Known("i", facts={"reasoning_gym": {"name": "leg_counting", "entry": entry}})
    right = judge.score(Answer(f" {entry['answer']}\n"), known)
    assert (right.value, right.details) == (1.0, {"right": 1.0})
    wrong = judge.score(Answer("-1"), known)
    assert wrong.value < 0.1
    assert wrong.details == {"right": 0.0}
    assert judge.score(Answer(""), known).value == 0.0
    with pytest.raises(DataError, match="is no task of reasoning-gym"):
        judge.score(Answer("1"), Known("i", facts={}))
    bad = {"reasoning_gym": {"name": "no_such_task", "entry": {}}}
    with pytest.raises(DataError, match="unknown to reasoning-gym"):
        judge.score(Answer("1"), Known("i", facts=bad))


def test_no_answer_is_evaluated_in_this_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    verifier = install_fake_gym(monkeypatch, tmp_path / "gym")
    fact = {"name": "evaluates", "entry": {"target": 4}}
    known, judge = Known("i", facts={"reasoning_gym": fact}), scorer("reasoning_gym")
    try:
        attack = f"__import__('os').system('touch {tmp_path / 'harmed'}')"
        assert judge.score(Answer(attack), known).value == 0.0
        assert not (tmp_path / "harmed").exists()
        assert judge.score(Answer("8 / 2"), known).value == 1.0
    finally:
        verifier.close()


LOOPS = [
    "I think that I think that I think that I think that I think that",
    "Sure! " + "na" * 40,
    "One. " + "The cat sat on the mat. " * 6,
    "\n".join(f"{i}. buy milk and eggs today" for i in range(20)),
    "\u732b" * 50,
]
FINE = [
    "", "no", "ha ha ha", "0" * 30, "A sentence that says something once and then ends.",
    "| a | b |\n| --- | --- |\n"
    + "\n".join(f"| row {i * 7919} | {i * i} is it |" for i in range(9)),
    "To find the sum of 12 and 30, add the tens, then the units: 12 + 30 = 42. The answer is 42.",
    "Title\n" + "=" * 45 + "\n"
    + " ".join(f"word{i * 31 % 97} then other{i * 17 % 89}" for i in range(60)),
]  # fmt: skip


@pytest.mark.parametrize("text", LOOPS)
def test_loops_are_found(text: str) -> None:
    assert is_loop(text)


@pytest.mark.parametrize("text", FINE)
def test_what_is_no_loop_is_let_be(text: str) -> None:
    assert not is_loop(text)
