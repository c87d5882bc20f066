"""The certificate of a text task: verdicts, contestants, refusals, resumption."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from talking import CHAT, ScriptedEngine, ScriptedTeacher, ask, connected, said
from text_world import (
    NOW,
    Scripted,
    add_student,
    collect,
    read_again,
    right_answer,
    says,
    sums,
    write_recipe,
)

from overproof.config.load import LoadedTextRecipe
from overproof.config.teacher_file import load_teacher
from overproof.errors import DataError, LeakError, RunError, StudentError
from overproof.evaluate.serve_chat import build_chat_app
from overproof.evaluate.serve_chat_defer import Cascade
from overproof.evaluate.text import answers
from overproof.evaluate.text.certify import certify_text
from overproof.evaluate.text.deferral_rule import rule_of
from overproof.records.exchange import Completion, Outcome, Request, TokenLogprob
from overproof.records.hashing import file_sha256
from overproof.records.ledger import Ledger
from overproof.records.text_certificate import Contestant, TextCertificate, TextComparison


def weights(directory: Path, name: str) -> Path:
    """A directory that looks like weights; scripted tests never load them."""
    place = directory / name
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps({"name": name}))
    (place / "model.safetensors").write_bytes(name.encode())
    return place


def half_right(request: Request) -> str:
    answer = right_answer(request)
    return answer if int(answer) % 4 == 1 else "no idea"


class World:
    """A collected run; ``students`` says what each answers."""

    def __init__(
        self,
        directory: Path,
        monkeypatch: pytest.MonkeyPatch,
        students: dict[str, Any],
        base: Any = "no idea",
        teacher: Any = right_answer,
        **recipe: Any,
    ) -> None:
        self.loaded: LoadedTextRecipe = write_recipe(directory, students=students, **recipe)
        self.manifest = collect(monkeypatch, self.loaded, teacher)
        self.base = weights(directory, "base")
        for name in students:
            add_student(
                self.loaded, weights(directory / "made", name), self.base, name,
                method="sft" if name.startswith("sft") else "dense_kd",
            )  # fmt: skip
        told = {name: one if callable(one) else says(one) for name, one in students.items()}
        self.scripted = Scripted({"base": says(base), **told})
        monkeypatch.setattr(answers, "connect", self.scripted)

    def certify(self) -> TextCertificate:
        return certify_text(self.loaded, now=NOW, say=lambda _: None)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def contestant(certificate: TextCertificate, name: str) -> Contestant:
    return next(one for one in certificate.contestants if one.name == name)


def between(certificate: TextCertificate, first: str, second: str) -> TextComparison:
    return next(c for c in certificate.comparisons if (c.first, c.second) == (first, second))


WIDE = 'scorer = "exact"\nbootstrap = 200\nmargin = 0.2\nmachine_usd_per_hour = 0.36'


def test_a_student_as_good_as_its_teacher_is_certified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    students = {"sft": says(half_right), "good": says(right_answer)}
    world = World(tmp_path, monkeypatch, students, certificate=WIDE)
    found = world.certify()
    assert (found.verdict, found.certified) == ("certified", ("good",))
    assert found.verdict_text.startswith("good is not worse than its teacher by 20 points or more.")
    assert [c.role for c in found.contestants] == ["teacher", "student", "student", "baseline"]
    good, sft = contestant(found, "good"), contestant(found, "sft")
    assert (good.score.estimate, good.n) == (1.0, 20)
    assert good.retention is not None
    assert good.retention.estimate == 1.0
    assert sft.retention is not None
    assert sft.retention.low < sft.retention.estimate == sft.score.estimate < 1.0
    assert good.agreement is not None
    assert good.agreement.estimate == 1.0
    assert contestant(found, "untrained base").score.estimate == 0.0
    assert between(found, "good", "teacher").verdict == "non-inferior"
    assert between(found, "sft", "teacher").verdict == "inferior"
    assert between(found, "good", "untrained base").verdict == "better"
    assert between(found, "good", "sft").verdict == "better"
    assert len(found.comparisons) == 5
    assert found.looks == 1
    assert found.versions["overproof"]
    teacher = contestant(found, "teacher")
    assert (teacher.agreement, teacher.retention) == (None, None)
    assert teacher.mean_tokens == pytest.approx(1.95, abs=0.2)
    assert teacher.cost_per_million_usd == 0.0
    assert good.cost_per_million_usd is not None
    assert found.costs["making"]["training good"]["usd"] == pytest.approx(3.0 / 3600 * 0.36)
    assert json.loads(found.model_dump_json())["kind"] == "text"


def test_a_second_run_asks_nobody_and_is_the_same_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, {"good": says(right_answer)}, certificate=WIDE)
    first = world.certify()
    asked = len(world.scripted.asked)
    assert asked == 40
    again = world.certify()
    assert len(world.scripted.asked) == asked
    assert again == first
    looks = lines_of(world.loaded.run_dir / "looks.jsonl")
    assert [(look["repeat_of"], look["verdict"]) for look in looks] == [
        (None, "certified"), (1, "certified")
    ]  # fmt: skip
    with Ledger.open(world.loaded.run_dir / "ledger.sqlite") as ledger:
        assert len(list(ledger.notes("look"))) == 2
        assert ledger.verify().ok


def test_several_students_are_corrected_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone each would pass at a margin of 13 points; four of them do not."""
    wide = WIDE.replace("0.2", "0.13")
    alone = World(tmp_path / "a", monkeypatch, {"a": says(right_answer)}, certificate=wide)
    assert alone.certify().certified == ("a",)
    four = {name: says(right_answer) for name in "abcd"}
    found = World(tmp_path / "b", monkeypatch, four, certificate=wide).certify()
    assert all(between(found, name, "teacher").verdict == "non-inferior" for name in "abcd")
    assert (found.verdict, found.certified) == ("not certified", ())
    assert any("Holm" in said and "not certified among" in said for said in found.limits)


def test_what_fails_or_never_stops_scores_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: Request) -> Completion:
        number = int(right_answer(request))
        if number % 3 == 0:
            return says(right_answer, outcome=Outcome.TRUNCATED)(request)
        if number % 3 == 1:
            return says("", outcome=Outcome.FAILED, error="too long")(request)
        return says("go on and on and on " * 10)(request) if number % 2 else says(" ")(request)

    found = World(tmp_path, monkeypatch, {"bad": answer}, certificate=WIDE).certify()
    bad = contestant(found, "bad")
    assert bad.score.estimate == 0.0
    assert bad.outcomes["truncated"] + bad.outcomes["failed"] + bad.outcomes["answered"] == 20
    broken = bad.degeneration
    assert broken.unstopped.estimate == bad.outcomes["truncated"] / 20
    assert broken.loops.estimate + broken.empty.estimate == bad.outcomes["answered"] / 20
    assert broken.any.estimate == 1 - bad.outcomes["failed"] / 20
    assert found.verdict == "not certified"
    assert "worse than its teacher by more than 20 points" in found.verdict_text
    assert any(said.startswith("Of the answers of bad") for said in found.limits)


def test_the_teachers_failures_count_against_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def teacher(request: Request) -> str:
        answer = right_answer(request)
        return "" if int(answer) % 11 == 0 else answer

    options: dict[str, Any] = {"teacher": teacher, "task": "[budget]\nmax_failed = 0.5"}
    world = World(
        tmp_path / "a", monkeypatch, {"good": says(right_answer)}, certificate=WIDE, **options
    )
    found = world.certify()
    failed = 20 - contestant(found, "teacher").outcomes["answered"]
    assert failed > 0
    assert contestant(found, "teacher").score.estimate == pytest.approx(1 - failed / 20)
    good = contestant(found, "good")
    assert good.score.estimate == 1.0
    assert good.agreement is not None
    assert good.agreement.n == 20 - failed
    told = WIDE.replace('"exact"', '"teacher"')
    world = World(
        tmp_path / "b", monkeypatch, {"good": says(right_answer)}, certificate=told, **options
    )
    found = world.certify()
    assert contestant(found, "good").n == contestant(found, "teacher").n == 20 - failed
    assert any("what the teacher said counts as right" in said for said in found.limits)


def test_extraction_is_certified_by_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    tmp_path.joinpath("schema.json").write_text(json.dumps(schema))
    rows = [
        row | {"answer": json.dumps({"sum": int(row["answer"]), "unit": 1})} for row in sums(40)
    ]

    def whole(request: Request) -> str:
        return json.dumps({"sum": int(right_answer(request)), "unit": 1})

    def part(request: Request) -> str:
        return json.dumps({"sum": int(right_answer(request))})

    found = World(
        tmp_path, monkeypatch, {"part": says(part)}, base='{"sum": "x"}', teacher=whole, rows=rows,
        task='answer = "json"\nschema = "schema.json"', certificate=WIDE.replace("exact", "json"),
    ).certify()  # fmt: skip
    student = contestant(found, "part")
    assert student.score.estimate == pytest.approx(2 / 3)
    assert student.details["valid"].estimate == 1.0
    assert student.details["exact"].estimate == 0.0
    assert student.details["field_f1_micro"].estimate == pytest.approx(2 / 3)
    assert student.details["field_precision_micro"].estimate == 1.0
    assert student.details["field_recall_micro"].estimate == 0.5
    assert contestant(found, "untrained base").details["valid"].estimate == 0.0
    assert between(found, "part", "teacher").difference.method == "score, nonparametric"


def test_when_to_ask_the_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: Request) -> Completion:
        text = half_right(request)
        sure = -0.01 if text != "no idea" else -2.0
        told = (TokenLogprob(token="x", logprob=sure),)
        return says(text, logprobs=told)(request)

    world = World(
        tmp_path, monkeypatch, {"unsure": answer}, n=90, data="train = 10\ntune = 40\ntest = 40",
        certificate=WIDE + "\nagreement = 0.9",
    )  # fmt: skip
    found = world.certify()
    [curve] = found.deferral
    assert (curve.student, curve.stated, curve.n_tune) == ("unsure", 0.9, 40)
    assert curve.chosen.agreement == 1.0
    assert 0.2 < curve.chosen.deferred < 0.9
    rule = rule_of(world.loaded.run_dir / "students" / "unsure")
    assert (rule.threshold, rule.max_tokens) == (curve.threshold, 8)
    assert len(world.scripted.asked) == 120
    world.certify()
    assert len(world.scripted.asked) == 120


async def served(world: World, name: str) -> tuple[Any, Any]:
    """What student and teacher are asked where a served student passes on a bare request."""
    directory = world.loaded.run_dir / "students" / name
    cut = said("no", outcome=Outcome.TRUNCATED, finish_reason="length")
    engine, teacher = ScriptedEngine({"hard": cut}), ScriptedTeacher([said("7")])
    named = load_teacher(world.loaded.path)
    answerer = Cascade(engine, name, rule_of(directory), teacher, stop=named.stop)
    async with connected(build_chat_app(engine, answerer, model_name=name)) as client:
        await client.post(CHAT, json=ask("hard"))
    return engine.asked[0], teacher.asked[0].parameters


def test_served_answers_stop_where_calibrated_ones_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(
        tmp_path, monkeypatch, {"good": says(right_answer)}, task='stop = ["##"]',
        certificate=WIDE + "\nagreement = 0.8",
    )  # fmt: skip
    world.certify()
    calibrated = {request.parameters.stop for _, request in world.scripted.asked}
    student, teacher = asyncio.run(served(world, "good"))
    assert calibrated == {student.stop} == {teacher.stop} == {("##",)}


@pytest.mark.parametrize("tune", [0, 5, 10])
def test_too_few_tune_prompts_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tune: int
) -> None:
    def sure(request: Request) -> Completion:
        told = (TokenLogprob(token="x", logprob=-0.01),)
        return says(right_answer, logprobs=told)(request)

    world = World(
        tmp_path, monkeypatch, {"good": sure}, data=f"train = 10\ntune = {tune}\ntest = 20",
        certificate=WIDE + "\nagreement = 0.9",
    )  # fmt: skip
    limits = " ".join(world.certify().limits)
    assert ("at least 9" in limits) == (tune < 9)
    assert ("tune prompts are too few" in limits) == (tune == 5)


def test_students_of_another_recipe_are_not_certified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(
        tmp_path, monkeypatch, {"good": says(right_answer), "old": "no"}, certificate=WIDE
    )
    world.loaded = write_recipe(tmp_path, certificate=WIDE, students=["good"])
    heard: list[str] = []
    found = certify_text(world.loaded, now=NOW, say=heard.append)
    assert [one.name for one in found.contestants if one.role == "student"] == ["good"]
    assert "old: left out, for it is no longer in the recipe" in heard
    recipe = world.loaded.path
    recipe.write_text(recipe.read_text() + "epochs = 9\n")
    world.loaded = read_again(recipe)
    with pytest.raises(RunError, match=r"good.*another section of the recipe"):
        world.certify()
    # What decides nothing of the weights may change, and so may the place of all of it.
    recipe.write_text(recipe.read_text().replace("epochs = 9", "checkpoint_every = 3"))
    world.loaded = read_again(recipe)
    assert world.certify().certified == ("good",)
    world.loaded = write_recipe(tmp_path, certificate=WIDE, students=["new"])
    with pytest.raises(RunError, match="no finished student of this recipe"):
        world.certify()


def test_a_base_has_its_own_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(
        tmp_path, monkeypatch, {"good": says(right_answer), "sft": "no"}, certificate=WIDE
    )
    header = json.dumps({"w": {"dtype": "F32", "shape": [3, 5], "data_offsets": [0, 60]}}).encode()
    tensor = len(header).to_bytes(8, "little") + header + bytes(60)
    (world.base / "model.safetensors").write_bytes(tensor)
    card = world.loaded.run_dir / "students" / "sft" / "student.json"
    card.write_text(card.read_text().replace('"parameters": 100', '"parameters": 120'))
    assert contestant(world.certify(), "untrained base").parameters == 15


def test_test_prompts_in_training_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, {"good": says(right_answer)}, certificate=WIDE)
    dataset = world.loaded.run_dir / "dataset"
    (dataset / "train.parquet").write_bytes((dataset / "test.parquet").read_bytes())
    with pytest.raises(RunError, match="is not the file that was frozen"):
        world.certify()
    manifest = json.loads((dataset / "manifest.json").read_text())
    manifest["files"]["train.parquet"] = file_sha256(dataset / "train.parquet")
    (dataset / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(LeakError, match="the train split"):
        world.certify()
    assert not world.scripted.asked
    assert not (world.loaded.run_dir / "looks.jsonl").exists()


def test_what_cannot_be_measured_is_refused_before_anybody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = World(tmp_path / "none", monkeypatch, {}, certificate=WIDE)
    with pytest.raises(RunError, match="holds no finished student"):
        empty.certify()
    good = {"good": says(right_answer)}
    gym = World(tmp_path / "gym", monkeypatch, good, certificate='scorer = "reasoning_gym"')
    with pytest.raises(DataError, match="is no task of reasoning-gym"):
        gym.certify()
    untested = World(tmp_path / "no-test", monkeypatch, good, data="train = 10", certificate=WIDE)
    with pytest.raises(RunError, match="no test prompt"):
        untested.certify()
    other = World(tmp_path / "other", monkeypatch, good, certificate=WIDE)
    card = other.loaded.run_dir / "students" / "good" / "student.json"
    card.write_text(card.read_text().replace(other.manifest.dataset_sha256, "sha256:0"))
    with pytest.raises(StudentError, match="another dataset"):
        other.certify()
    gone = World(tmp_path / "gone", monkeypatch, good, certificate=WIDE)
    gone.base.rename(gone.base.with_name("moved"))
    with pytest.raises(StudentError, match="untrained base that is not there"):
        gone.certify()
    changed = World(tmp_path / "changed", monkeypatch, good, certificate=WIDE)
    recipe = write_recipe(
        tmp_path / "changed", certificate=WIDE.replace("0.2", "0.5"), students=["good"]
    )
    with pytest.raises(RunError, match="another recipe"):
        certify_text(recipe, now=NOW, say=lambda _: None)
    for world in (empty, gym, untested, other, gone, changed):
        assert not world.scripted.asked


def test_a_file_of_the_dataset_that_is_gone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, {"good": says(right_answer)}, certificate=WIDE)
    (world.loaded.run_dir / "dataset" / "references.parquet").unlink()
    with pytest.raises(RunError, match=r"references\.parquet"):
        world.certify()
