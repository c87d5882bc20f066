"""A test that is run again: no finding is lost, and its p-value counts as often as it was run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from overproof.audit.attestation import Attestation, Decision, attest
from overproof.audit.finding_files import read_findings, write_finding
from overproof.audit.preregistration import (
    SealedPlan,
    read_data_digests,
    read_sealed_plan,
    record_data,
    runs_of,
    seal_plan,
)
from overproof.config.audit import parse_audit_plan
from overproof.errors import DataError
from overproof.records.audit import (
    AuditVerdict,
    Exactness,
    Power,
    PValue,
    Standing,
    TestFinding,
)
from overproof.records.hashing import content_hash

HEAD = 'suspect = "S"\nteacher = "T"\nalpha = 0.01\n[[tests]]\nkind = "ghosts"\n'


def found(p: float, floor: float = 0.0) -> TestFinding:
    return TestFinding(
        "ghosts", Standing.DONE, "none", 10, "prompts",
        (PValue(p, Exactness.EXACT, "m", "a", floor),),
        power=Power(0.05, 0.9, 0.01, "Would have seen 5 %."),
    )  # fmt: skip


@pytest.fixture
def sealed(tmp_path: Path) -> SealedPlan:
    return seal_plan(parse_audit_plan(HEAD), tmp_path / "plan.json")


def judged(sealed: SealedPlan, p: float, floor: float = 0.0) -> Attestation:
    return attest(sealed, {"ghosts": found(p, floor)}, data=read_data_digests(sealed))


def test_an_earlier_finding_is_set_aside(tmp_path: Path) -> None:
    for p in (0.5, 0.4, 0.4, 0.3):
        write_finding(tmp_path, "a test", "sha256:1", found(p))
    folder = tmp_path / "findings"
    assert read_findings(tmp_path, "sha256:1")["a test"].p == 0.3
    kept = sorted((folder / "earlier").iterdir())
    assert [each.name for each in kept] == ["a test.1.json", "a test.2.json"]
    values = [json.loads(each.read_text())["finding"]["p_values"][0]["value"] for each in kept]
    assert values == [0.5, 0.4]  # the same finding again is no new one
    (folder / "earlier" / "a test.3.json").write_text("taken")
    write_finding(tmp_path, "a test", "sha256:1", found(0.2))
    assert (folder / "earlier" / "a test.3.json").read_text() == "taken"
    assert (folder / "earlier" / "a test.4.json").exists()


def test_nothing_is_replaced_where_the_earlier_one_cannot_be_kept(tmp_path: Path) -> None:
    path = write_finding(tmp_path, "ghosts", "sha256:1", found(0.5))
    (path.parent / "earlier").write_text("a file in the way")
    with pytest.raises(DataError, match="cannot be written"):
        write_finding(tmp_path, "ghosts", "sha256:1", found(0.001))
    assert read_findings(tmp_path, "sha256:1")["ghosts"].p == 0.5


def test_runs_are_told_by_data_and_settings(sealed: SealedPlan, tmp_path: Path) -> None:
    one, copy, two = (tmp_path / name for name in ("one", "copy", "two"))
    for path, text in ((one, "1"), (copy, "1"), (two, "2")):
        path.write_text(text)
    for files, used in (
        ([one], {}), ([one], {}), ([copy], {}), ([two], {}),
        ([two], {"key_sha256": "ab"}), ([two], {"key_sha256": "cd"}), ([two], {"key_sha256": "cd"}),
    ):  # fmt: skip
        record_data(sealed, "ghosts", files, used=used)
    assert runs_of("ghosts", read_data_digests(sealed)) == 4
    assert runs_of("other", read_data_digests(sealed)) == 0


def test_a_p_value_counts_as_often_as_its_test_was_run(sealed: SealedPlan, tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert judged(sealed, 0.004).verdict is AuditVerdict.TRAINED
    for i in range(3):
        data.write_text(str(i))
        record_data(sealed, "ghosts", [data])
    short = judged(sealed, 0.004)
    assert short.tests[0].adjusted == pytest.approx(0.012)
    assert (short.tests[0].decision, short.tests[0].runs) == (Decision.KEPT, 3)
    assert short.verdict is AuditVerdict.CANNOT_SAY  # small by itself: no absence either
    enough = judged(sealed, 0.003)
    assert enough.verdict is AuditVerdict.TRAINED
    said = (
        "ghosts was run on 3 different sets of data or settings, so its p-value counts three times"
    )
    assert said in enough.words
    assert any(said in line for line in enough.caveats)
    none = judged(sealed, 0.5)
    assert none.verdict is AuditVerdict.NO_EVIDENCE
    assert "stated for a single run" in none.words
    assert not judged(sealed, 0.5, floor=0.005).tests[0].could_reject


def test_looks_of_a_staged_test_are_one_run(tmp_path: Path) -> None:
    plan = parse_audit_plan(HEAD + "prompts = 40\nlooks = 2\n")
    sealed = seal_plan(plan, tmp_path / "plan.json")
    for i in range(2):
        (tmp_path / "log").write_text(str(i))
        record_data(sealed, "ghosts", [tmp_path / "log"])
    looked = judged(sealed, 0.009)
    assert looked.verdict is AuditVerdict.TRAINED
    assert looked.tests[0].adjusted == 0.009


def test_shopping_among_forty_data_sets_keeps_the_level(sealed: SealedPlan, tmp_path: Path) -> None:
    """The smallest of 40 p-values of nothing: rejected a third of the time before it counted."""
    for i in range(40):
        (tmp_path / "data").write_text(str(i))
        record_data(sealed, "ghosts", [tmp_path / "data"])
    data = read_data_digests(sealed)
    smallest = np.random.default_rng(1).random((400, 40)).min(axis=1)
    wrong = sum(
        attest(sealed, {"ghosts": found(float(p))}, data=data).verdict is AuditVerdict.TRAINED
        for p in smallest
    )
    assert (smallest <= 0.01).mean() > 0.25
    assert wrong / 400 <= 0.01 + 3 * np.sqrt(0.01 * 0.99 / 400)


def test_a_whole_plan_of_another_version_is_not_called_altered(tmp_path: Path) -> None:
    plan = {"suspect": "s", "teacher": "t", "tests": [{"kind": "watermark", "scheme": "kgw"}]}
    body = {"format": "overproof-audit-plan/1", "sealed_at": "2026-01-01", "plan": plan}
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(body | {"sha256": content_hash(body)}))
    with pytest.raises(DataError, match="is whole, but") as caught:
        read_sealed_plan(path)
    assert "key_sha256" in str(caught.value)
