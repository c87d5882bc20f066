"""The plan is sealed, nothing changes after, and the verdict says no more than its tests."""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path

import numpy as np
import pytest

from overproof.audit.attestation import Decision, adjusted_p_values, attest
from overproof.audit.preregistration import (
    SealedPlan,
    read_data_digests,
    read_sealed_plan,
    record_data,
    require_unchanged,
    require_used,
    seal_plan,
)
from overproof.config.audit import AuditPlan, Multiplicity, load_audit_plan, parse_audit_plan
from overproof.errors import ConfigError, DataError
from overproof.records.audit import (
    AuditVerdict,
    Exactness,
    Power,
    PValue,
    Standing,
    TestFinding,
)


def stepped_down(p_values: list[float], alpha: float) -> list[bool]:
    """Holm's procedure as he wrote it: from the smallest on, until one is too large."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    rejected = [False] * len(p_values)
    for rank, index in enumerate(order):
        if p_values[index] > alpha / (len(order) - rank):
            break
        rejected[index] = True
    return rejected


TEXT = """
suspect = "S"
teacher = "T"
alpha = 0.01

[[tests]]
kind = "ghosts"
ghosts = 3

[[tests]]
kind = "watermark"
scheme = "kgw"
keys = 9999
key_sha256 = "abababababababababababababababababababababababababababababababab"

[[tests]]
kind = "references"

[[tests]]
kind = "weights"
"""
NOON = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)


@pytest.fixture
def sealed(tmp_path: Path) -> SealedPlan:
    return seal_plan(parse_audit_plan(TEXT), tmp_path / "plan.json", NOON)


def finding(
    test: str,
    p: float | None,
    *,
    floor: float = 0.0,
    exactness: Exactness = Exactness.EXACT,
    detectable: float | None = 0.05,
) -> TestFinding:
    return TestFinding(
        test=test,
        standing=Standing.REFUSED if p is None else Standing.DONE,
        hypothesis="none",
        n=10,
        unit="prompts",
        p_values=() if p is None else (PValue(p, exactness, "m", "a", floor),),
        power=Power(detectable, 0.9, 0.01, "Would have seen 5 %."),
        not_proved=(f"limits of {test}",),
        reasons=("too short",) if p is None else (),
    )


def verdict(sealed: SealedPlan, **p: float | None) -> AuditVerdict:
    return attest(sealed, {name: finding(name, value) for name, value in p.items()}).verdict


def test_seal_and_read_back(sealed: SealedPlan) -> None:
    assert sealed.path is not None
    again = read_sealed_plan(sealed.path)
    assert (again.plan, again.sha256, again.attested) == (sealed.plan, sealed.sha256, False)
    assert read_sealed_plan(sealed.path, sealed.sha256.removeprefix("sha256:")).attested
    with pytest.raises(ConfigError, match="is sealed already"):
        seal_plan(sealed.plan, sealed.path, NOON)
    with pytest.raises(DataError, match="not the plan that was given away"):
        read_sealed_plan(sealed.path, "0" * 64)
    assert [p.name for p in sealed.path.parent.iterdir()] == ["plan.json"]


def test_altered_files_are_refused(sealed: SealedPlan, tmp_path: Path) -> None:
    assert sealed.path is not None
    raw = json.loads(sealed.path.read_text())
    for change in ({"alpha": 0.05}, {"alpha": "high"}, {"extra": 1}):
        bad = tmp_path / "bad.json"
        bad.write_text(json.dumps(raw | {"plan": raw["plan"] | change}))
        with pytest.raises(DataError, match="changed after it was sealed"):
            read_sealed_plan(bad)
    for text in ("", "[]", "{}", '{"format": "other"}'):
        bad.write_text(text)
        with pytest.raises(DataError, match="is not a sealed plan"):
            read_sealed_plan(bad)
    with pytest.raises(ConfigError, match="no such plan"):
        read_sealed_plan(tmp_path / "missing.json")


def test_anything_changed_after_is_named(sealed: SealedPlan) -> None:
    require_unchanged(sealed, parse_audit_plan(TEXT))
    with pytest.raises(ConfigError, match=r"alpha: was 0.01 when .* is 0.05 now"):
        require_unchanged(sealed, parse_audit_plan(TEXT.replace("0.01", "0.05")))
    with pytest.raises(ConfigError, match=r"tests\.1\.keys: was 9999 .* is 999 now"):
        require_unchanged(sealed, parse_audit_plan(TEXT.replace("9999", "999")))
    with pytest.raises(ConfigError, match="tests: was"):
        require_unchanged(sealed, parse_audit_plan(TEXT + '[[tests]]\nkind = "base-shift"\n'))
    require_used(sealed, "ghosts", {"ghosts": 3, "alpha": 0.01})
    with pytest.raises(ConfigError, match=r"ghosts\.ghosts: was planned as 3, is 15 now"):
        require_used(sealed, "ghosts", {"ghosts": 15})
    with pytest.raises(ConfigError, match="is not in the sealed plan"):
        require_used(sealed, "guess", {})


def test_data_are_recorded_and_a_second_set_shows(sealed: SealedPlan, tmp_path: Path) -> None:
    data = tmp_path / "log.jsonl"
    for text in ("one", "two"):
        data.write_text(text)
        record_data(sealed, "ghosts", [data], NOON)
    digests = read_data_digests(sealed)
    assert [d.test for d in digests] == ["ghosts", "ghosts"]
    result = attest(sealed, {"ghosts": finding("ghosts", 1e-9)}, data=digests)
    assert any("2 different sets" in line for line in result.caveats)
    assert "counts twice" in result.words
    with pytest.raises(DataError, match="cannot be read"):
        record_data(sealed, "ghosts", [tmp_path / "missing"])
    assert sealed.path is not None
    journal = sealed.path.with_name("plan.json.data.jsonl")
    journal.write_bytes(journal.read_bytes() + b'{"test": "gho')
    with pytest.raises(DataError, match=r"data\.jsonl:3: is no record"):
        read_data_digests(sealed)


def test_verdicts_follow_what_was_random(sealed: SealedPlan) -> None:
    assert verdict(sealed, weights=1e-9, ghosts=1e-9) is AuditVerdict.DESCENDS
    assert verdict(sealed, ghosts=1e-9, references=0.5) is AuditVerdict.TRAINED
    assert verdict(sealed, watermark=1e-9) is AuditVerdict.TRAINED
    assert verdict(sealed, references=1e-9) is AuditVerdict.CLOSE
    assert verdict(sealed, ghosts=0.4, references=0.3) is AuditVerdict.NO_EVIDENCE
    assert verdict(sealed, ghosts=None, references=None) is AuditVerdict.CANNOT_SAY
    assert verdict(sealed) is AuditVerdict.CANNOT_SAY


def test_refused_and_missing_tests_stay_in_the_family(sealed: SealedPlan) -> None:
    # Four tests at .01: the smallest p must reach .0025, whoever was left out.
    short = attest(sealed, {"ghosts": finding("ghosts", 0.0026)})
    assert short.verdict is AuditVerdict.CANNOT_SAY
    assert any("ghosts has p = 0.0026 by itself" in line for line in short.would_change)
    assert verdict(sealed, ghosts=0.0025, weights=None) is AuditVerdict.TRAINED
    result = attest(sealed, {"ghosts": finding("ghosts", 0.5), "weights": finding("weights", None)})
    decisions = {each.name: each.decision for each in result.tests}
    assert decisions["weights"] is Decision.REFUSED
    assert decisions["watermark"] is Decision.NOT_RUN
    assert any("weights was refused: too short" in line for line in result.would_change)


def test_what_may_not_decide(sealed: SealedPlan) -> None:
    vague = finding("ghosts", 1e-9, exactness=Exactness.APPROXIMATE)
    result = attest(sealed, {"ghosts": vague})
    assert result.verdict is AuditVerdict.CANNOT_SAY
    assert result.tests[0].decision is Decision.APPROXIMATE
    extra = attest(sealed, {"second look": finding("ghosts", 1e-9)})
    assert extra.verdict is AuditVerdict.CANNOT_SAY
    assert extra.tests[-1].decision is Decision.UNPLANNED
    blunt = attest(sealed, {"references": finding("references", 0.05, floor=0.05)})
    assert blunt.verdict is AuditVerdict.CANNOT_SAY
    assert any("lower its floor" in line for line in blunt.would_change)
    blind = attest(sealed, {"ghosts": finding("ghosts", 0.5, detectable=None)})
    assert blind.verdict is AuditVerdict.CANNOT_SAY
    with pytest.raises(ConfigError, match="is a ghosts test in the plan, a weights test here"):
        attest(sealed, {"ghosts": finding("weights", 0.5)})


def test_words_limits_and_json(sealed: SealedPlan) -> None:
    result = attest(sealed, {"ghosts": finding("ghosts", 1e-9)})
    assert "trained, directly or through another" in result.words
    assert result.not_proved == ("limits of ghosts",)
    assert any("rests on ghosts alone" in line for line in result.would_change)
    assert any("auditor's word" in line for line in result.caveats)
    none = attest(sealed, {"ghosts": finding("ghosts", 0.5)})
    assert none.words == "No evidence. Would have seen 5 %."
    assert json.loads(json.dumps(result.to_json()))["verdict"] == "trained on these outputs"


def test_fixed_sequence_stops_at_the_first_that_does_not_reject(sealed: SealedPlan) -> None:
    text = 'multiplicity = "fixed-sequence"\n' + TEXT
    ordered = dataclasses.replace(sealed, plan=parse_audit_plan(text))
    assert verdict(ordered, ghosts=0.009) is AuditVerdict.TRAINED
    assert verdict(ordered, ghosts=0.5, watermark=1e-9) is AuditVerdict.CANNOT_SAY
    assert verdict(ordered, ghosts=None, watermark=1e-9) is AuditVerdict.CANNOT_SAY


def test_both_rules_keep_the_family_wise_level() -> None:
    rng = np.random.default_rng(0)
    for rule in Multiplicity:
        wrong = 0
        for _ in range(2000):
            p = rng.random(4)
            p[0] *= 1e-9  # a true effect does not loosen the rest beyond alpha
            adjusted = adjusted_p_values(p.tolist(), rule)
            wrong += any(a <= 0.1 for a in adjusted[1:])
            if rule is Multiplicity.HOLM:
                assert [a <= 0.1 for a in adjusted] == stepped_down(p.tolist(), 0.1)
        assert wrong / 2000 <= 0.1 + 3 * np.sqrt(0.09 / 2000)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("alpha = 0.01", "alpha = 0.5", "3|4"),
        ("alpha = 0.01", "alfa = 0.01", "did you mean 'alpha'"),
        ('kind = "weights"', 'kind = "wieghts"', "did you mean 'weights'"),
        ('kind = "weights"', 'kind = "ghosts"', "two are named 'ghosts'"),
        ('scheme = "kgw"', 'scheme = "kgv"', "scheme"),
        ('key_sha256 = "ab', '# "ab', "overproof audit key"),
        ('key_sha256 = "ab', 'key_sha256 = "x', "64 hex digits"),
        ("ghosts = 3", "ghosts = 0", "ghosts"),
        ('suspect = "S"', "", "suspect is missing"),
        ("alpha = 0.01", "alpha = ", "is not TOML"),
    ],
)
def test_mistakes_in_a_plan_are_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(ConfigError, match=words) as caught:
        load_audit_plan(path)
    assert caught.value.culprit.startswith(str(path))


def test_a_model_has_one_role_and_a_missing_plan_is_said() -> None:
    text = TEXT.replace(
        'kind = "references"', 'kind = "references"\ninnocents = ["a"]\ndecoys = ["a"]'
    )
    with pytest.raises(ConfigError, match="'a' is an innocent too"):
        parse_audit_plan(text)
    with pytest.raises(ConfigError, match="no such plan"):
        load_audit_plan(Path("nowhere.toml"))
    assert isinstance(parse_audit_plan(TEXT), AuditPlan)
