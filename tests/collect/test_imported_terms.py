"""Imported logs keep their terms, and say who answered the training rows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from overproof.collect.collect import collect
from overproof.collect.plan import plan
from overproof.collect.terms_note import record_terms
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


ALLOWED = RECIPE + '[teacher.terms]\ntraining = "allowed"\nlicence = "MIT"\n'


def logs(
    directory: Path,
    said: Sequence[tuple[str, str, str]],
    text: str = RECIPE,
    model: str = "m",
) -> LoadedRecipe:
    """40 answers, by each ``(teacher, licence, terms)`` in turn."""
    rng = random.Random(0)
    (directory / "run").mkdir()
    with Ledger.open(directory / "run" / "ledger.sqlite", write=True) as ledger:
        for i in range(40):
            teacher, licence, terms = said[i % len(said)]
            words = " ".join(f"{rng.getrandbits(40):x}" for _ in range(8))
            ledger.submit(
                Exchange(
                    request=Request(model=model, messages=(Message(role="user", content=words),)),
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


@pytest.mark.parametrize("terms", ["forbidden", "not allowed", "no training"])
def test_what_a_log_forbids_yields_to_an_attestation_alone(tmp_path: Path, terms: str) -> None:
    loaded = logs(tmp_path, [("a", "MIT", "allowed"), ("b", "MIT", terms)], ALLOWED)
    with pytest.raises(TermsError, match="nobody has said") as caught:
        collected(loaded)
    assert "does not override" in caught.value.way_out
    assert 'training = "attested"' in caught.value.way_out
    (tmp_path / "recipe.toml").write_text(ATTESTED)
    manifest = collected(load_recipe(tmp_path))
    assert f"{terms}; attested: contract 7" in manifest.teacher["terms"]


def test_what_a_log_leaves_open_may_be_stated(tmp_path: Path) -> None:
    manifest = collected(logs(tmp_path, [("a", "unknown", "unknown")], ALLOWED))
    assert manifest.teacher["terms"] == "allowed, says the recipe"
    assert manifest.teacher["basis"] == "stated"


@pytest.mark.parametrize("terms", ["allowed", "unknown"])
def test_answers_of_a_model_whose_terms_are_known(tmp_path: Path, terms: str) -> None:
    """Calling a log allowed does not make it so where the provider's terms are known."""
    loaded = logs(tmp_path, [("gpt", "unknown", terms)], ALLOWED, "gpt-4o-mini")
    with pytest.raises(TermsError, match="on a condition only") as caught:
        collected(loaded)
    assert caught.value.culprit == "log.csv (answers of gpt)"
    (tmp_path / "recipe.toml").write_text(ATTESTED)
    manifest = collected(load_recipe(tmp_path))
    assert manifest.teacher["terms_say"] == "conditions"
    assert "compete with OpenAI" in manifest.teacher["clause"]
    assert manifest.teacher["attestation"] == "contract 7"


def test_a_right_attested_at_import_is_enough(tmp_path: Path) -> None:
    said = [("gpt", "unknown", "attested: permission of 2026-02-01")]
    manifest = collected(logs(tmp_path, said, model="gpt-4o"))
    assert manifest.teacher["terms"] == "attested: permission of 2026-02-01"


def test_verdict_and_version_stand_in_the_ledger_once(tmp_path: Path) -> None:
    loaded = logs(tmp_path, [("a", "MIT", "unknown")], ATTESTED)
    manifest = collected(loaded)
    with Ledger.open(loaded.run_dir / "ledger.sqlite") as ledger:
        (note,) = ledger.notes("terms")
        assert len(list(ledger.notes("attestation"))) == 1
        assert ledger.verify().ok
    assert note["basis"] == "attested"
    assert note["terms_version"] == manifest.teacher["terms_version"]
    assert note["terms_version"].startswith("2026-")
    with Ledger.open(loaded.run_dir / "ledger.sqlite", write=True) as ledger:
        record_terms(ledger, loaded.recipe.teacher)  # nothing new to say
        assert len(list(ledger.notes("terms"))) == 1
        said = loaded.recipe.teacher.terms.model_copy(update={"attestation": "contract 8"})
        record_terms(ledger, loaded.recipe.teacher.model_copy(update={"terms": said}))
        assert [n["attestation"] for n in ledger.notes("attestation")] == [
            "contract 7",
            "contract 8",
        ]
