"""A recipe cut into parts that several processes collect."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from collecting import RECIPE, make_recipe

from overproof import api
from overproof.collect.shards import Shard
from overproof.config.load import LoadedRecipe, load_recipe
from overproof.errors import ConfigError, RunError
from overproof.records.hashing import content_hash
from overproof.records.ledger import Ledger
from overproof.records.ledger_merge import merge_ledgers

ALL = [Shard(index, 3) for index in (1, 2, 3)]


def test_shards_are_named_as_people_do() -> None:
    assert Shard.parse(" 2 / 8 ") == Shard(2, 8)
    assert str(Shard(2, 8)) == "2/8"
    for text in ("", "2", "2-8", "0/8", "9/8", "-1/8", "1/0", "1/8/2", "a/b", "1.5/8", "1/1000000"):
        with pytest.raises(ConfigError, match="shard"):
            Shard.parse(text)


def test_every_key_is_of_one_shard_and_shards_are_alike_in_size() -> None:
    keys = [content_hash(number) for number in range(8000)]
    for of in (1, 2, 7, 8):
        shards = [Shard(index, of) for index in range(1, of + 1)]
        sizes = [sum(shard.holds(key) for key in keys) for shard in shards]
        assert all(sum(shard.holds(key) for shard in shards) == 1 for key in keys[:200])
        assert max(abs(size - 8000 / of) for size in sizes) < 5 * (8000 / of) ** 0.5


def test_caps_are_divided(tmp_path: Path) -> None:
    caps = "[budget]\nmax_calls = 10\nmax_cost_usd = 9.0\n"
    loaded = make_recipe(tmp_path, RECIPE + caps)
    parts = [shard.part_of(loaded) for shard in ALL]
    assert [part.recipe.budget.max_calls for part in parts] == [4, 3, 3]
    assert [part.recipe.budget.max_cost_usd for part in parts] == [3.0, 3.0, 3.0]
    assert {part.sha256 for part in parts} == {loaded.sha256}
    assert parts[0].run_dir == loaded.run_dir / "shards" / "1-of-3"
    assert loaded.recipe.budget.max_calls == 10
    assert loaded.beside is None
    with pytest.raises(ConfigError, match="leaves nothing for shard 11/11"):
        Shard(11, 11).part_of(loaded)


def asked(loaded: LoadedRecipe) -> list[str]:
    """Keys of the requests in a run's ledger, as often as they were asked."""
    with Ledger.open(loaded.run_dir / "ledger.sqlite") as ledger:
        return sorted(exchange.request.key for exchange in ledger.exchanges())


def ledger_of(loaded: LoadedRecipe) -> Path:
    return loaded.run_dir / "ledger.sqlite"


def test_shards_joined_are_the_whole(tmp_path: Path) -> None:
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = make_recipe(tmp_path / "whole")
    expected = api.collect(whole)
    loaded = make_recipe(tmp_path / "cut")
    for shard in ALL:
        assert api.collect_shard(loaded, shard) == shard.directory(loaded.run_dir)
    assert not loaded.run_dir.joinpath("ledger.sqlite").exists()
    parts = [shard.part_of(loaded) for shard in ALL]
    assert sorted(key for part in parts for key in asked(part)) == asked(whole)  # each once
    report = merge_ledgers(ledger_of(loaded), [ledger_of(part) for part in parts])
    assert report.asked_twice == 0
    before = asked(loaded)
    manifest = api.collect(loaded)
    assert asked(loaded) == before == asked(whole)  # nobody was asked again
    assert manifest.files == expected.files  # the same bytes
    assert manifest.outcomes == expected.outcomes
    with Ledger.open(ledger_of(loaded)) as ledger:
        assert ledger.verify().problems == ()
        assert len(list(ledger.notes("recipe"))) == 3  # one in each shard's chain
    api.collect_shard(loaded, ALL[0])  # frozen: nothing is left to ask
    (tmp_path / "cut/recipe.toml").write_text(RECIPE.replace("Choose.", "Choose well."))
    with pytest.raises(RunError, match="frozen under another recipe"):
        api.collect_shard(load_recipe(tmp_path / "cut"), ALL[0])


def test_what_the_run_knows_is_not_asked_by_a_shard(tmp_path: Path) -> None:
    loaded = make_recipe(tmp_path)
    api.collect(loaded)
    shutil.rmtree(loaded.run_dir / "dataset")
    known = set(asked(loaded))
    api.collect_shard(loaded, ALL[1])
    assert known
    assert asked(ALL[1].part_of(loaded)) == []
    manifest = api.collect(loaded)  # without a merge: the shard has nothing to bring
    assert set(asked(loaded)) == known
    assert manifest.counts["train"] == 60


def test_answers_that_are_imported_are_not_cut(tmp_path: Path) -> None:
    text = RECIPE.replace('kind = "fake"', 'kind = "ledger"').replace('"data.csv"', '"ledger"')
    text = text.replace('gold = "label"\n', "").replace("examples_per_label = 1", "")
    loaded = make_recipe(tmp_path, text.replace("examples = 20", ""))
    with pytest.raises(ConfigError, match="in the run's own ledger"):
        api.collect_shard(loaded, ALL[0])


def test_a_shard_that_fails_says_which_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from overproof.collect.signal import LabelAnswer, Questioner
    from overproof.errors import TooManyFailedError
    from overproof.records.exchange import Outcome

    async def no_answer(self: Questioner, text: str) -> LabelAnswer:
        import numpy as np

        zeros = np.zeros(2)
        return LabelAnswer(Outcome.FAILED, zeros, zeros, zeros, (), "no")

    monkeypatch.setattr(Questioner, "ask", no_answer)
    loaded = make_recipe(tmp_path)
    with pytest.raises(TooManyFailedError, match="have no answer"):
        api.collect_shard(loaded, ALL[0])
    lines = (ALL[0].directory(loaded.run_dir) / "failed.jsonl").read_text().splitlines()
    assert 10 < len(lines) < 60
    assert {json.loads(line)["reason"] for line in lines} == {"no"}
