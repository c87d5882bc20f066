"""Collecting, from recipe to frozen dataset, with the fake teacher standing in."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from collecting import OTHER, RECIPE, make_recipe, use

from overproof import api
from overproof.clients.fake import FakeTeacher
from overproof.clients.protocol import Capabilities
from overproof.collect.asker import Progress
from overproof.collect.collect import collect
from overproof.collect.plan import plan
from overproof.config.load import LoadedRecipe, load_recipe
from overproof.errors import (
    BudgetError,
    RunError,
    TeacherUnreachableError,
    TooManyFailedError,
)
from overproof.records.dataset import DatasetManifest, read_gold, read_split
from overproof.records.exchange import Completion, Outcome, Request
from overproof.records.ledger import Ledger


def test_a_dataset_is_frozen_with_the_teachers_exact_distribution(tmp_path: Path) -> None:
    loaded = make_recipe(tmp_path)
    manifest = asyncio.run(collect(loaded))
    assert manifest.counts == {"train": 60, "tune": 12, "test": 20, "examples": 20}
    assert manifest.outcomes["train"] == {"answered": 60}
    assert (manifest.signal, manifest.rendering) == ("log-probs", "letters")
    rows = read_split(loaded.run_dir / "dataset", "test")
    teacher = FakeTeacher()
    with Ledger.open(loaded.run_dir / "ledger.sqlite") as ledger:
        for row in rows:
            exchange = ledger.lookup(row.request_keys[0])
            assert exchange is not None
            truth = teacher.distribution(exchange.request)
            assert row.probabilities == pytest.approx([truth["A"], truth["B"]], abs=1e-4)
            assert all(low <= high for low, high in zip(row.low, row.high, strict=True))
        assert ledger.verify().ok
    gold = read_gold(loaded.run_dir / "dataset")
    assert set(gold) == {row.item for row in rows}
    assert sum(row.second is not None for row in rows) == 10


def test_running_again_asks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = make_recipe(tmp_path)
    teacher = use(monkeypatch, FakeTeacher())
    first = asyncio.run(collect(loaded))
    calls = teacher.calls
    assert calls == 60 + 12 + 20 + 10 + 10
    assert asyncio.run(collect(loaded)) == first
    (loaded.run_dir / "dataset" / "manifest.json").unlink()
    again = asyncio.run(collect(loaded))
    assert teacher.calls == calls
    assert again == first


def test_an_interrupted_collection_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = make_recipe(tmp_path)
    teacher = use(monkeypatch, FakeTeacher())

    def stop(progress: Progress) -> None:
        if progress.calls >= 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(collect(loaded, stop))
    with Ledger.open(loaded.run_dir / "ledger.sqlite") as ledger:
        kept = len(list(ledger.exchanges()))
        assert ledger.verify().ok
    assert kept >= 20
    asyncio.run(collect(loaded))
    # Only what was in flight when the interrupt came can have been asked twice.
    assert 112 <= teacher.calls <= 112 + 2 * loaded.recipe.teacher.concurrency


@pytest.mark.parametrize("stop", ["cap", "interrupt", "terminate", "failure"])
def test_answers_in_flight_are_kept_when_a_run_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    cap = "[budget]\nmax_calls = 30\n" if stop == "cap" else ""
    loaded = make_recipe(tmp_path, RECIPE + cap)
    teacher = use(monkeypatch, FakeTeacher(latency_s=0.01))
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("the handler of the program"))
    mine = signal.getsignal(signal.SIGTERM)

    signals = {"interrupt": [signal.SIGINT], "terminate": [signal.SIGTERM]}.get(stop, [])

    def changed(progress: Progress) -> None:
        if progress.done == 20 and stop == "failure":
            raise OSError("the terminal has gone")
        if progress.calls >= 30 and signals:
            os.kill(os.getpid(), signals.pop())

    expected = {"cap": BudgetError, "failure": OSError}.get(stop, KeyboardInterrupt)
    try:
        with pytest.raises(expected):
            api.collect(loaded, changed)
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)
    with Ledger.open(loaded.run_dir / "ledger.sqlite") as ledger:
        kept = [exchange.completion.outcome for exchange in ledger.exchanges()]
        assert ledger.verify().ok
    assert Outcome.FAILED not in kept
    assert len(kept) == teacher.calls
    assert 20 <= teacher.calls < 112
    (tmp_path / "recipe.toml").write_text(RECIPE)
    asyncio.run(collect(load_recipe(tmp_path)))
    assert teacher.calls == 112


def failing(share: int) -> FakeTeacher:
    """Fails for good on one request in ``share``."""
    good = FakeTeacher()

    def answer(request: Request) -> Completion:
        if int(request.key[-4:], 16) % share == 0:
            return Completion(outcome=Outcome.FAILED, status=400, error="no such thing")
        return good._by_words(request)

    return FakeTeacher(answer=answer)


def test_failures_are_rows_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = make_recipe(tmp_path, RECIPE + "[budget]\nmax_failed = 0.5\n")
    use(monkeypatch, failing(6))
    manifest = asyncio.run(collect(loaded))
    failed = sum(counts.get("failed", 0) for counts in manifest.outcomes.values())
    assert failed > 0
    lines = (loaded.run_dir / "failed.jsonl").read_text().splitlines()
    assert len(lines) == failed
    assert '"reason": "no such thing"' in lines[0]
    rows = read_split(loaded.run_dir / "dataset", "train")
    assert all(not row.probabilities for row in rows if row.outcome is Outcome.FAILED)


def test_too_many_failures_freeze_nothing_and_only_they_are_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = make_recipe(tmp_path, RECIPE)
    use(monkeypatch, failing(6))
    with pytest.raises(TooManyFailedError, match="max_failed") as caught:
        asyncio.run(collect(loaded))
    assert caught.value.exit_code == 3
    assert not (loaded.run_dir / "dataset").exists()
    assert (loaded.run_dir / "failed.jsonl").exists()
    mended = use(monkeypatch, FakeTeacher())
    asyncio.run(collect(loaded))
    assert 0 < mended.calls < 40
    assert not (loaded.run_dir / "failed.jsonl").exists()


def test_a_dead_teacher_is_given_up_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = make_recipe(tmp_path, RECIPE)
    teacher = use(monkeypatch, failing(1))
    with pytest.raises(TooManyFailedError, match="no such thing"):
        asyncio.run(collect(loaded))
    assert teacher.calls < 40


def test_a_teacher_that_answers_nonsense_is_malformed_not_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    can = Capabilities(tokenize=True)
    good = FakeTeacher(capabilities=can)

    def sometimes(request: Request) -> Completion:
        asked = hashlib.sha256(request.messages[-1].content.encode()).digest()[0]
        if asked < 80:
            return Completion(outcome=Outcome.ANSWERED, text="banana")
        return good._by_words(request)

    loaded = make_recipe(tmp_path, RECIPE.replace("repeats", "rendering = 'letters'\nrepeats"))
    use(monkeypatch, FakeTeacher(answer=sometimes, capabilities=can))
    manifest = asyncio.run(collect(loaded))
    assert 5 < manifest.outcomes["train"]["malformed"] < 40
    assert "banana" in (loaded.run_dir / "failed.jsonl").read_text()


def test_a_teacher_that_answers_nothing_but_nonsense_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nonsense(request: Request) -> Completion:
        return Completion(outcome=Outcome.ANSWERED, text="banana")

    loaded = make_recipe(tmp_path, RECIPE)
    can = Capabilities(tokenize=True)
    use(monkeypatch, FakeTeacher(answer=nonsense, capabilities=can))
    with pytest.raises(TooManyFailedError, match=r"92 of 92 inputs: have no valid answer.*banana"):
        asyncio.run(collect(loaded))
    assert not (loaded.run_dir / "dataset").exists()
    assert len((loaded.run_dir / "failed.jsonl").read_text().splitlines()) == 92


def test_votes_where_there_are_no_logprobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = RECIPE.replace("repeats = 10", "repeats = 5\nsamples = 4\nrendering = 'letters'")
    text += "[budget]\nreasks = 0\n"
    loaded = make_recipe(tmp_path, text)
    teacher = use(monkeypatch, FakeTeacher(capabilities=Capabilities(tokenize=True, seed=True)))
    manifest = asyncio.run(collect(loaded))
    assert manifest.signal == "votes"
    assert teacher.calls == 4 * (60 + 12 + 20 + 5 + 5)
    row = next(r for r in read_split(loaded.run_dir / "dataset", "train")
               if r.outcome is Outcome.ANSWERED)  # fmt: skip
    assert {low * 4 % 1 for low in row.low} == {0.0}
    assert manifest.second_asking.startswith("fresh votes")


def test_a_cap_on_calls_stops_and_can_be_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = make_recipe(tmp_path, RECIPE + "[budget]\nmax_calls = 30\n")
    teacher = use(monkeypatch, FakeTeacher())
    with pytest.raises(BudgetError, match="max_calls = 30"):
        asyncio.run(collect(loaded))
    assert teacher.calls == 30
    (tmp_path / "recipe.toml").write_text(RECIPE)
    asyncio.run(collect(load_recipe(tmp_path)))
    assert teacher.calls == 112


def test_a_frozen_run_refuses_another_recipe(tmp_path: Path) -> None:
    loaded = make_recipe(tmp_path)
    asyncio.run(collect(loaded))
    other = make_recipe(tmp_path, OTHER)
    with pytest.raises(RunError, match="another recipe"):
        asyncio.run(collect(other))
    (loaded.run_dir / "resolved.json").unlink()
    with pytest.raises(RunError, match="another recipe"):
        asyncio.run(collect(other))


def test_the_first_answer_freezes_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = Completion(outcome=Outcome.FAILED, error="no")
    loaded = make_recipe(tmp_path, RECIPE + "[budget]\nmax_calls = 1\n")
    use(monkeypatch, FakeTeacher(answer=lambda _: failed))
    with pytest.raises(BudgetError):
        asyncio.run(collect(loaded))
    with pytest.raises(RunError, match="another recipe"):
        asyncio.run(collect(make_recipe(tmp_path, OTHER)))
    use(monkeypatch, FakeTeacher())
    again = make_recipe(tmp_path, RECIPE + "[budget]\nmax_calls = 1000\n")
    asyncio.run(collect(again))  # caps may change
    assert recipes_of(again) == [again.sha256]


def test_until_something_is_collected_the_recipe_may_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = make_recipe(tmp_path)
    asyncio.run(plan(loaded, probe=6))
    assert not (loaded.run_dir / "resolved.json").exists()
    assert recipes_of(loaded) == []

    async def absent(_: Request, meter: object = None) -> Completion:
        raise TeacherUnreachableError("far", "nobody answers")

    teacher = use(monkeypatch, FakeTeacher())
    monkeypatch.setattr(teacher, "complete", absent)
    with pytest.raises(TeacherUnreachableError):
        asyncio.run(collect(loaded))
    use(monkeypatch, FakeTeacher())
    other = make_recipe(tmp_path, OTHER)
    asyncio.run(collect(other))
    assert recipes_of(other) == [loaded.sha256, other.sha256]


def test_a_copied_ledger_takes_another_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = make_recipe(tmp_path)
    asyncio.run(collect(loaded))
    (tmp_path / "new").mkdir()
    shutil.copy(loaded.run_dir / "ledger.sqlite", tmp_path / "new")
    teacher = use(monkeypatch, FakeTeacher(model="fake"))
    teacher.name = "another"
    other = make_recipe(tmp_path, OTHER.replace('dir = "run"', 'dir = "new"'))
    manifest = asyncio.run(collect(other))
    assert teacher.calls == 0
    assert manifest.provenance == {"fake@fake": 60}
    assert recipes_of(other) == [loaded.sha256, other.sha256]


def recipes_of(loaded: LoadedRecipe) -> list[str]:
    with Ledger.open(loaded.run_dir / "ledger.sqlite") as ledger:
        return [note["recipe_sha256"] for note in ledger.notes("recipe")]


def test_a_changed_dataset_is_noticed(tmp_path: Path) -> None:
    loaded = make_recipe(tmp_path)
    asyncio.run(collect(loaded))
    path = loaded.run_dir / "dataset" / "test.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(RunError, match=r"test\.parquet: is not the file"):
        DatasetManifest.load(loaded.run_dir / "dataset")


def test_plan_counts_what_is_left_and_names_what_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = make_recipe(tmp_path)
    before = asyncio.run(plan(loaded))
    assert (before.ok, before.calls, before.cached) == (True, 112, 0)
    assert before.underpowered
    assert before.needed_by_margin["0.02"] == pytest.approx(3090, rel=0.01)
    asyncio.run(collect(loaded))
    after = asyncio.run(plan(loaded))
    assert (after.calls, after.cached) == (0, 112)
    assert after.cost_usd == 0.0
    words = make_recipe(tmp_path, RECIPE.replace("agreement", "re do").replace(
        "repeats = 10", "rendering = 'words'").replace("refusal", "re try"))  # fmt: skip
    use(monkeypatch, FakeTeacher(capabilities=Capabilities(top_logprobs=5, tokenize=True)))
    refused = asyncio.run(plan(words))
    assert not refused.ok
    assert "begin alike" in refused.problems[0]


def test_an_input_longer_than_the_context_is_named_before_spending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = make_recipe(tmp_path)
    short = Capabilities(top_logprobs=20, tokenize=True, context_length=20)
    teacher = use(monkeypatch, FakeTeacher(capabilities=short))
    refused = asyncio.run(plan(loaded))
    assert not refused.ok
    assert "row" in refused.problems[0]
    assert "context of 20" in refused.problems[0]
    assert teacher.calls == 0


def test_the_prior_can_be_the_label_shares_of_the_examples(tmp_path: Path) -> None:
    loaded = make_recipe(tmp_path, RECIPE.replace('prior = "none"', 'prior = "examples"'))
    asyncio.run(collect(loaded))
    with (tmp_path / "data.csv").open() as stream:
        gold = {row["text"]: row["label"] for row in csv.DictReader(stream)}
    dataset = loaded.run_dir / "dataset"
    pool = [gold[row.text] for row in read_split(dataset, "examples")]
    share = (pool.count("yes") + 1) / (len(pool) + 2)
    rows = read_split(dataset, "train")
    masses = [np.array(row.low) for row in rows]
    calibration = DatasetManifest.load(dataset).calibration
    assert calibration.fitted_on == (
        "training inputs; the prior from the gold labels of 20 examples"
    )
    bias = np.array(calibration.bias)
    corrected = [m * np.exp(bias) / (m * np.exp(bias)).sum() for m in masses]
    assert np.mean(corrected, axis=0)[0] == pytest.approx(share, abs=1e-3)
