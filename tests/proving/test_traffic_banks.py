"""The banks: disjoint, bilingual, whole; and the texts made of them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from random import Random

import pytest

from overproof.errors import MissingExtraError, ModelError
from overproof.proving.traffic import real
from overproof.proving.traffic.templates import SLOT
from overproof.proving.traffic.texts import ATTACKS, FAMILIES, Bank, Template, bank_dir, expand

RUN_WORDS = 8
RUN_SIGNS = 12


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in ("name", "language", "place"):
                yield from strings(item)


def runs(bank: str) -> set[tuple[str, ...] | str]:
    """Every run of eight words, or twelve Chinese signs, that a bank's templates can give."""
    found: set[tuple[str, ...] | str] = set()
    rng = Random(0)
    files = [tomllib.loads(path.read_text()) for path in sorted(bank_dir(bank).glob("*.toml"))]
    attacks = [family.text for kind in ATTACKS for family in Bank(bank).families[kind]]
    for text in strings([*files, attacks]):
        for _ in range(24):
            for fixed in SLOT.split(expand(text, rng))[::2]:
                words = re.findall(r"[a-z0-9]+", fixed.lower())
                found |= {tuple(words[n : n + RUN_WORDS]) for n in range(len(words) - 7)}
                for signs in re.findall(r"[\u4e00-\u9fff]+", fixed):
                    cuts = range(len(signs) - RUN_SIGNS + 1)
                    found |= {signs[n : n + RUN_SIGNS] for n in cuts}
    return found


def test_fit_and_test_share_no_run_of_eight_words() -> None:
    fit, test = runs("fit"), runs("test")
    assert len(fit) > 400
    assert len(test) > 400
    assert not fit & test


@pytest.mark.parametrize("name", ["fit", "test"])
def test_every_kind_is_there_in_english_and_in_chinese(name: str) -> None:
    bank = Bank(name)
    rng = Random(1)
    for kind in FAMILIES:
        assert {family.language for family in bank.families[kind]} == {"en", "zh"}, kind
        for family in bank.families[kind]:
            text = bank.written(family.text, rng, family.language)
            assert "<<" not in text
            assert not SLOT.search(text.replace("{gross}", "")), text
    assert {family.place for family in bank.families["elicitation"]} == {
        "before",
        "after",
        "system",
    }
    assert len({bank.payload(rng, 300) for _ in range(200)}) == 200
    assert len(bank.payload(rng, 2_000)) == pytest.approx(2_000, rel=0.3)
    assert re.search(r"[\u4e00-\u9fff]{5}", bank.payload(rng, 100, "zh"))


@pytest.mark.parametrize("kind", ATTACKS)
def test_attacks_have_dozens_of_families_in_each_bank_and_none_in_both(kind: str) -> None:
    fit, test = ({each.name for each in Bank(name).families[kind]} for name in ("fit", "test"))
    assert min(len(fit), len(test)) > 40
    assert not fit & test


def test_a_benchmark_is_the_same_for_everybody_and_another_in_another_bank() -> None:
    once, again = Bank("fit"), Bank("fit")
    assert once.benchmark("arith", 50) == again.benchmark("arith", 50)
    assert not set(once.benchmark("arith", 50)) & set(Bank("test").benchmark("arith", 50))
    assert len(set(once.benchmark("arith", 500))) == 500


def test_half_of_the_benchmarks_are_stretches_of_packaged_questions() -> None:
    asked = [f"question {n}" for n in range(2_000)]
    bank = Bank("fit", {"trec": asked})
    packaged = [name for name in map(str, range(60)) if set(bank.benchmark(name, 90)) < set(asked)]
    assert 15 < len(packaged) < 45
    assert len(bank.benchmark(packaged[0], 90)) == 90


def test_slots_are_filled_and_other_braces_and_percent_signs_stand() -> None:
    template = Template('100% of {"a": {n}} by {who}', {"who": lambda _: "them"})
    assert template.fill(Random(0), {"n": "5"}) == '100% of {"a": 5} by them'
    assert Template("no slot, 5 %", {}).fill(Random(0)) == "no slot, 5 %"


def test_packaged_questions_are_halved_between_the_banks() -> None:
    texts = {"trec": [f"question {n}" for n in range(100)]}
    fit, test = Bank("fit", texts), Bank("test", texts)
    ours = {text for text in fit.questions["en"] if text.startswith("question ")}
    theirs = {text for text in test.questions["en"] if text.startswith("question ")}
    assert len(ours) == len(theirs) == 50
    assert not ours & theirs
    assert fit.sources == {"trec": 100}


def test_a_missing_package_is_said_and_an_error_where_it_was_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone() -> list[str]:
        raise MissingExtraError("reasoning-gym", "tasks")

    def unpulled() -> list[str]:
        raise ModelError("model trec-questions", "was not pulled", "pull it")

    monkeypatch.setattr(real, "_gym", gone)
    monkeypatch.setattr(real, "_trec", unpulled)
    found, missing = real.packaged("auto")
    assert found == {}
    assert "built-in" in missing["gym"]
    assert "was not pulled" in missing["trec"]
    assert real.packaged(()) == ({}, {"gym": "not asked for", "trec": "not asked for"})
    with pytest.raises(MissingExtraError):
        real.packaged(("gym",))
    with pytest.raises(ModelError, match="not pulled"):
        real.packaged(("trec",))
