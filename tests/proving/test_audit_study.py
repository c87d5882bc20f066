"""The audit's study: its parts in small, and all of it once from end to end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from long_runs import LONG

from overproof.audit.watermarks.kgw import Kgw
from overproof.audit.watermarks.pairs import unique_pairs
from overproof.errors import ConfigError, DataError, RunError
from overproof.proving.audit import study
from overproof.proving.audit.attacks import paraphrase
from overproof.proving.audit.cast import Arm, Source, lineup
from overproof.proving.audit.ghost_stage import bound_coverage, null_redraws
from overproof.proving.audit.mark_stage import null_keys
from overproof.proving.audit.plan import Size, StudyPlan
from overproof.proving.audit.remembered import RememberedKgw
from overproof.proving.audit.serving import bonus_table, marking_key, scheme_of, sealed_log
from overproof.proving.audit.tables import share
from overproof.proving.audit.texts import STYLES
from overproof.proving.audit.world import World, finite, read_json

TINY = replace(
    StudyPlan.of(Size.SMALL), width=16, layers=1, hidden=32, base_examples=80, base_epochs=1.0,
    teacher_examples=24, teacher_epochs=1.0, log=12, student_epochs=1.0, doses=(1.0,),
    judged_prompts=4, null_prompts=12, redraws=10, null_keys=1, alternates=99, replicates=5,
    shadow_doses=(0.0, 0.5, 1.0), innocents=3, decoys=4,
)  # fmt: skip


def test_every_start_stands_in_an_earlier_wave_and_names_are_unique() -> None:
    for size in Size:
        plan = StudyPlan.of(size)
        known: set[str] = set()
        for wave in lineup(plan):
            names = [member.name for member in wave]
            assert len(set(names)) == len(names)
            assert all(member.start is None or member.start in known for member in wave)
            assert not known & set(names)
            known |= set(names)


def test_the_standard_plan_has_what_the_tests_need() -> None:
    plan = StudyPlan.of(Size.STANDARD)
    members = [member for wave in lineup(plan) for member in wave]
    arms = [member.arm for member in members]
    assert arms.count(Arm.INNOCENT) >= 20  # 19 are left where one of them is the suspect
    assert arms.count(Arm.DECOY) >= 19
    assert plan.seeds >= 3
    assert plan.doses == (0.01, 0.05, 0.2, 0.5, 1.0)
    for member in members:
        if member.arm is Arm.SERVED:
            taken = sum(part.count for part in member.parts if part.source is Source.SERVED)
            assert taken == round(member.dose * plan.log)
            assert sum(part.count for part in member.parts) == plan.log


def test_remembered_lists_score_as_the_scheme_does() -> None:
    rng = np.random.default_rng(8)
    scheme, kept = Kgw(48, share=0.25), RememberedKgw(48, share=0.25)
    pairs = unique_pairs(
        rng.integers(48, size=(9, 14)).tolist(), None, width=1, pad=None, vocabulary=48
    )
    pairs = replace(pairs, weights=rng.normal(size=len(pairs)))
    keys = [scheme.draw(rng) for _ in range(70)]
    assert np.allclose(kept.scan(pairs, keys), scheme.scan(pairs, keys))
    plain = replace(pairs, weights=None)
    assert np.array_equal(kept.scan(plain, keys[:3]), scheme.scan(plain, keys[:3]))


def test_no_two_styles_share_an_opening_or_a_closing() -> None:
    assert len({style.opening for style in STYLES}) == len(STYLES)
    assert len({style.closing for style in STYLES}) == len(STYLES)


def test_paraphrase_changes_most_words_it_knows_and_is_seeded() -> None:
    text = "Certainly: A survey in Cork put inflation at 62 percent. Ask me more."
    made = paraphrase(text, Random(1))
    assert made == paraphrase(text, Random(1)) != text
    assert "Cork" in made
    assert "62" in made
    assert "survey" not in paraphrase(text, Random(1), share=1.0)


def test_redrawn_served_answers_are_rejected_at_the_level() -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(200, 8)).round(1)  # with ties
    found = null_redraws(scores, 4000, 0.05, rng)
    low, high = 0.05 - 4 * np.sqrt(0.05 * 0.95 / 4000), 0.05 + 4 * np.sqrt(0.05 * 0.95 / 4000)
    assert low <= found["rejected"] / found["redraws"] <= high


def test_bound_coverage_reaches_its_level_and_is_not_idle() -> None:
    rows = bound_coverage([7] * 90 + [3] * 10, 7, 400, 100, np.random.default_rng(4))
    assert [row["share"] for row in rows] == [0.0, 0.05, 0.2, 0.5, 1.0]
    assert all(row["covered"] >= 88 for row in rows)  # 95 expected, 88 at three deviations
    assert rows[3]["median"] > 0.35


def test_the_plain_z_test_is_fooled_by_templates_and_the_tail_is_not() -> None:
    rng = np.random.default_rng(5)
    line = rng.integers(2, 256, 12).tolist()
    pairs = unique_pairs([line] * 60, None, width=1, pad=None, vocabulary=256)
    found = null_keys(pairs, scheme_of(TINY, 256), 60, 0.01, 9)
    assert found["plain_z"] >= 10
    assert found["tail"] <= 4


def test_bonus_table_is_the_schemes_own_green_list() -> None:
    scheme = scheme_of(TINY, 256)
    key = marking_key(TINY, scheme)
    table = bonus_table(scheme, key, 2.0)
    for context in (0, 3, 255):
        green = np.flatnonzero(table[context])
        assert set(green) == set(scheme.greenlist([context], key).tolist())
        assert (table[context][green] == 2.0).all()


def test_finite_and_share() -> None:
    assert finite({"a": (np.float64("nan"), np.int64(3)), "b": -np.inf}) == {"a": [None, 3],
                                                                             "b": None}  # fmt: skip
    assert share(0, 0)["low"] is None
    assert share(1, 19)["low"] < 1 / 19 < share(1, 19)["high"]


def test_a_damaged_file_names_itself(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"half": ')
    with pytest.raises(RunError, match=r"x\.json"):
        read_json(tmp_path / "x.json")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(RunError, match="is no directory"):
        study.run_study(TINY, file)
    with pytest.raises(ConfigError, match="jobs"):
        study.run_study(TINY, tmp_path, jobs=0)


@pytest.mark.slow
def test_model_scores_what_it_samples() -> None:
    from overproof.train import tiny_lm, tiny_use

    rng = np.random.default_rng(0)
    rows = [tiny_lm.Example(rng.integers(2, 40, 1 + i % 5).tolist(), [5, 6, 7]) for i in range(64)]
    config = tiny_lm.TinyConfig(vocabulary=40, width=16, layers=2, heads=2, hidden=32, context=16)
    model, loss = tiny_lm.train_tiny(
        rows, tiny_lm.TrainingPlan(epochs=15, batch=8, rate=1e-2), config=config
    )
    again, _ = tiny_lm.train_tiny(
        rows, tiny_lm.TrainingPlan(epochs=15, batch=8, rate=1e-2), config=config
    )
    assert loss < 0.05
    answers = tiny_use.sample_answers(model, [row.prompt for row in rows], longest=8, seed=1)
    assert sum(answer == [5, 6, 7] for answer in answers) >= 60
    scores = tiny_use.answer_logprobs(model, rows)
    np.testing.assert_allclose(scores, tiny_use.answer_logprobs(again, rows))
    np.testing.assert_allclose(scores, tiny_use.answer_logprobs(model, rows, batch=3), atol=1e-4)
    tables = list(tiny_use.next_token_tables(model, rows[:4]))
    for row, table, score in zip(rows, tables, scores, strict=False):
        assert table.shape == (3, 40)
        chosen = np.log(table[np.arange(3), row.answer]).sum()
        assert score <= chosen + 1e-4  # the end costs something as well
    with pytest.raises(DataError, match="tokens"):
        tiny_use.answer_logprobs(model, [tiny_lm.Example([2] * 20, [3])])


@pytest.mark.slow
@LONG[1]
def test_the_study_runs_through_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int, int]] = []
    first = study.run_study(TINY, tmp_path, progress=lambda *at: seen.append(at))
    tables: dict[str, Any] = first.tables
    assert json.loads(first.json.read_text()) == tables
    for name in ("power", "false_positives", "redraws", "shares", "coverage", "weights"):
        assert tables[name], name
    assert {row["arm"] for row in tables["false_positives"]} >= {"decoy", "innocent"}
    by_test = {row["test"]: row for row in tables["false_positives"] if "all" in row["arm"]}
    assert by_test["references"]["n"] == 0 < by_test["references"]["refused"]  # too few models
    assert by_test["ghosts"]["n"] == 9
    assert all(row["standing"] for row in tables["controls"])
    assert "## False positives" in first.markdown.read_text()
    assert {stage for stage, _, _ in seen} == {"train", "answer", "judge"}

    world = World(TINY, tmp_path.resolve())
    requests, log, indices = sealed_log(world.log("served"))
    assert len(requests) == TINY.log == len(log.leaves) == len(indices.leaves)

    study._world.cache_clear()
    monkeypatch.setattr(study, "mark_findings", _never)
    monkeypatch.setattr(study, "ghost_finding", _never)
    monkeypatch.setattr("overproof.train.tiny_lm.train_tiny", _never)
    assert study.run_study(TINY, tmp_path).tables == tables


def _never(*_: object, **__: object) -> None:
    raise AssertionError("done before")
