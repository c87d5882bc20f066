"""Imported logs keep their terms, and say who answered the training rows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from overproof.collect.collect import collect
from overproof.collect.plan import plan
from overproof.config.load import LoadedRecipe, load_recipe
from overproof.errors import TermsError
from overproof.records.dataset import DatasetManifest
from overproof.records.exchange import Completion, Exchange, Message, Outcome, Request
from overproof.records.ledger import Ledger

RECIPE = """\
[run]
name = "logs"
dir = "run"
[teacher]
kind = "ledger"
model = "m"
[data]
file = "ledger"
train = 20
tune = 6
test = 8
[task]
labels = ["yes", "no"]
"""
ATTESTED = RECIPE + '[teacher.terms]\ntraining = "attested"\nattestation = "contract 7"\n'


def logs(directory: Path, said: Sequence[tuple[str, str, str]], text: str = RECIPE) -> LoadedRecipe:
    """40 answers, by each ``(teacher, licence, terms)`` in turn."""
    rng = random.Random(0)
    (directory / "run").mkdir()
    with Ledger.open(directory / "run" / "ledger.sqlite", write=True) as ledger:
        for i in range(40):
            teacher, licence, terms = said[i % len(said)]
            words = " ".join(f"{rng.getrandbits(40):x}" for _ in range(8))
            ledger.submit(
                Exchange(
                    request=Request(model="m", messages=(Message(role="user", content=words),)),
                    completion=Completion(outcome=Outcome.ANSWERED, text=("yes", "no")[i % 2]),
                    teacher=teacher,
                    created_at="2026-01-01T00:00:00Z",
                    source="imported:log.csv",
                    licence=licence,
                    terms=terms,
                )
            )
    (directory / "recipe.toml").write_text(text)
    return load_recipe(directory)


def collected(loaded: LoadedRecipe) -> DatasetManifest:
    return asyncio.run(collect(loaded))


@pytest.mark.parametrize("terms", ["unknown", "forbidden", "not allowed", ""])
def test_a_log_without_a_right_is_refused(tmp_path: Path, terms: str) -> None:
    loaded = logs(tmp_path, [("a", "MIT", "allowed"), ("b", "MIT", terms)])
    planned = asyncio.run(plan(loaded))
    assert not planned.ok
    with pytest.raises(TermsError) as caught:
        collected(loaded)
    assert planned.problems == (str(caught.value),)
    assert caught.value.culprit == "log.csv (answers of b)"
    assert repr(terms) in caught.value.reason
    assert "[teacher.terms]" in caught.value.way_out
    assert not (loaded.run_dir / "resolved.json").exists()
    # Nothing was collected: the recipe may say more.
    (tmp_path / "recipe.toml").write_text(ATTESTED)
    collected(load_recipe(tmp_path))
    with Ledger.open(loaded.run_dir / "ledger.sqlite") as ledger:
        assert [note["attestation"] for note in ledger.notes("attestation")] == ["contract 7"]


def test_licence_terms_and_provenance_are_those_of_the_answers(tmp_path: Path) -> None:
    said = [("a", "MIT", "allowed by MIT"), ("b", "own", "attested: mine"), ("b", "own", "Allowed")]
    loaded = logs(tmp_path, said)
    assert asyncio.run(plan(loaded)).ok
    manifest = collected(loaded)
    assert manifest.teacher["licence"] == "MIT; own"
    assert manifest.teacher["terms"] == "allowed by MIT; attested: mine; Allowed"
    assert sum(manifest.provenance.values()) == manifest.counts["train"] == 20
    assert set(manifest.provenance) == {"a", "b"}
    assert manifest.teacher["name"] == "b"


def test_the_recipe_speaks_for_what_the_log_leaves_open(tmp_path: Path) -> None:
    said = [("a", "unknown", "unknown"), ("b", "own", "allowed"), ("c", "own", "forbidden")]
    manifest = collected(
        logs(tmp_path, said, ATTESTED.replace("training =", 'licence = "ours"\ntraining ='))
    )
    assert manifest.teacher["licence"] == "ours; own"
    assert manifest.teacher["terms"] == (
        "attested: contract 7; allowed; forbidden; attested: contract 7"
    )
