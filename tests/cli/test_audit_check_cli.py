"""``overproof audit check`` and ``signing-key``: what a third party finds and is told."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from overproof.api.audit import audit_seal, audit_verdict
from overproof.audit.finding_files import read_findings, write_finding
from overproof.audit.preregistration import read_sealed_plan, record_data
from overproof.cli.audit_check import check_command, signing_key_command
from overproof.cli.audit_ends import verdict_command
from overproof.errors import ConfigError, DataError, OverproofError, SecretError
from overproof.records.audit import Exactness, Power, PValue, Standing, TestFinding
from overproof.records.hashing import content_hash
from overproof.report.audit import write_audit_report
from overproof.report.audit_key_files import read_signing_key
from overproof.report.audit_seal import check_audit_report, document_text, sealed_document

PLAN = """
suspect = "their-model"
teacher = "our-model"
alpha = 0.01
[[tests]]
kind = "ghosts"
[[tests]]
kind = "weights"
"""
TEST = TestFinding(
    "ghosts", Standing.DONE, "which answer was served made no difference", 400, "prompts",
    (PValue(3e-7, Exactness.EXACT, "convolution", "the draw was made as stated."),),
    power=Power(0.1, 0.9, 0.01, "would have seen use of 10 % of the log"),
    not_proved=("intent",),
)  # fmt: skip
app = typer.Typer()
app.command("check")(check_command)
app.command("signing-key")(signing_key_command)
app.command("verdict")(verdict_command)


def run(*arguments: object, code: int = 0) -> Any:
    """Run it; returns what it printed, or the error that it ended with."""
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    if isinstance(done.exception, OverproofError):
        return done.exception
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout


def states(said: str) -> dict[str, str]:
    """The sign of each check, by its subject."""
    lines = (re.fullmatch(r"([+!?]) (.{15}\S*) +\S.*", line) for line in said.splitlines())
    return {found[2].strip(): found[1] for found in lines if found}


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sealed plan, two findings, the list of data; nothing signed yet."""
    for name in ("OVERPROOF_AUDIT_KEY", "OVERPROOF_AUDIT_SIGNING_KEY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "plan.toml").write_text(PLAN)
    folder = tmp_path / "case"
    sealed = audit_seal(tmp_path / "plan.toml", folder)
    (tmp_path / "log.jsonl").write_text("{}\n")
    for name in ("ghosts", "weights"):
        record_data(sealed, name, [tmp_path / "log.jsonl"])
    write_finding(folder, "ghosts", sealed.sha256, TEST)
    kept = dataclasses.replace(
        TEST, test="weights", p_values=(PValue(0.4, Exactness.EXACT, "m", "a"),)
    )
    write_finding(folder, "weights", sealed.sha256, kept)
    return folder


@pytest.fixture
def key(tmp_path: Path) -> tuple[Path, str]:
    """A private key's file, and the fingerprint that was printed."""
    said = run("signing-key", "--out", tmp_path / "keys" / "court.pem")
    path = tmp_path / "keys" / "court.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return path, said.splitlines()[-1]


def test_a_signed_verdict_is_verified(case: Path, key: tuple[Path, str], tmp_path: Path) -> None:
    said = run("verdict", case, "--signing-key", key[0])
    assert "TRAINED ON THESE OUTPUTS" in said
    assert said.splitlines()[-1] == f"signed with Ed25519, key {key[1]}"
    plan_hash = json.loads((case / "plan.json").read_text())["sha256"]
    said = run("check", case, "--fingerprint", key[1], "--plan-hash", plan_hash)
    assert "VERIFIED; the verdict: trained on these outputs" in said.splitlines()[-1]
    assert states(said) == dict.fromkeys(
        ("files", "signature", "plan", "published plan", "finding ghosts", "finding weights",
         "data", "conclusion", "pages"), "+",
    )  # fmt: skip
    said = run("check", case, "--public-key", f"{key[0]}.pub")
    assert said.splitlines()[-1].startswith("VERIFIED, but for what is marked with ?")
    found = json.loads(run("check", case, "--fingerprint", key[1], "--json"))
    assert found["verified"] is True
    assert found["signed_by"] == {"algorithm": "Ed25519", "name": key[1], "public": True}
    # Another person needs the folder, not the machine.
    moved = shutil.copytree(case, tmp_path / "to the court")
    assert "NOT VERIFIED" not in run("check", moved, "--fingerprint", key[1])
    page = (case / "verdict.html").read_text()
    for text in (page, (case / "verdict.md").read_text()):
        assert key[1] in text
        assert "Ed25519" in text
    assert key[0].read_text().splitlines()[1] not in page


def test_without_a_pinned_key_nothing_is_verified(case: Path, key: tuple[Path, str]) -> None:
    run("verdict", case, "--signing-key", key[0])
    said = run("check", case, code=1)
    assert states(said)["signature"] == "?"
    assert f"signed by some key (Ed25519, key {key[1]})" in said
    assert "nothing was found wrong" in said
    assert json.loads(run("check", case, "--json", code=1))["verified"] is False
    other = "sha256:" + "0" * 64
    said = run("check", case, "--fingerprint", other, code=1)
    assert states(said)["signature"] == "!"
    assert "what is marked with ! does not hold" in said


def test_the_other_ways_to_sign(
    case: Path, key: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("verdict", case).splitlines()[-1] == "not signed"
    said = run("check", case, code=1)
    assert states(said)["signature"] == "!"
    assert "whoever has these files" in said
    monkeypatch.setenv("OVERPROOF_AUDIT_KEY", "a secret of the parties")
    run("verdict", case)
    assert states(run("check", case, code=1))["signature"] == "?"
    assert "VERIFIED" in run("check", case, "--key-env", "OVERPROOF_AUDIT_KEY")
    assert "not with a public key" in run("check", case, "--fingerprint", key[1], code=1)
    monkeypatch.setenv("OVERPROOF_AUDIT_SIGNING_KEY", key[0].read_text())
    error = run("verdict", case)
    assert isinstance(error, ConfigError)
    assert "are both set" in error.reason
    run("verdict", case, "--signing-key", key[0])
    monkeypatch.delenv("OVERPROOF_AUDIT_KEY")
    run("verdict", case)
    assert "NOT VERIFIED" not in run("check", case, "--fingerprint", key[1])


def test_each_change_is_named(case: Path, key: tuple[Path, str], tmp_path: Path) -> None:
    run("verdict", case, "--signing-key", key[0])

    def after(path: str, old: str, new: str) -> str:
        folder = shutil.copytree(case, tmp_path / "altered", dirs_exist_ok=True)
        text = (folder / path).read_text()
        assert old in text
        (folder / path).write_text(text.replace(old, new, 1))
        said: str = run("check", folder, "--fingerprint", key[1], code=1)
        shutil.rmtree(folder)
        return said

    assert "verdict.html does not have the hash" in after("verdict.html", "Trained", "Not trained")
    assert "verdict.md does not have the hash" in after("verdict.md", "Trained", "Not trained")
    assert "the record in verdict.json" in after("verdict.json", "3e-07", "4e-07")
    assert "not written as it was" in after("verdict.json", '"value": "', '"value": "A')
    assert states(after("findings/ghosts.json", "3e-07", "3e-02"))["finding ghosts"] == "!"
    assert states(after("findings/ghosts.json", "}", "} "))["finding ghosts"] == "!"
    said = after("plan.json", "0.01", "0.05")
    assert (states(said)["plan"], "changed after it was sealed" in said) == ("!", True)
    assert states(after("plan.json.data.jsonl", "weights", "ghosts"))["data"] == "!"
    assert states(after("plan.json.data.jsonl", '"test"', '"rest"'))["data"] == "!"


def test_what_is_missing_or_new_is_named(case: Path, key: tuple[Path, str], tmp_path: Path) -> None:
    out = tmp_path / "pages"
    run("verdict", case, "--signing-key", key[0], "--out", out)
    pinned = ("--fingerprint", key[1])
    said = run("check", out, *pinned, code=1)
    assert {states(said)[each] for each in ("plan", "finding ghosts")} == {"?"}
    assert "name its folder with --case" in said
    assert "NOT VERIFIED" not in run("check", out, *pinned, "--case", case)
    sealed = read_sealed_plan(case / "plan.json")
    write_finding(case, "late", sealed.sha256, TEST)
    said = run("check", out, *pinned, "--case", case, code=1)
    assert states(said)["finding late"] == "!"
    (case / "findings" / "late.json").unlink()
    (tmp_path / "plan.toml").write_text(PLAN.replace("0.01", "0.05"))
    other = audit_seal(tmp_path / "plan.toml", tmp_path / "other")
    said = run("check", out, *pinned, "--case", case, "--plan-hash", other.sha256, code=1)
    assert states(said)["published plan"] == "!"
    shutil.copy(tmp_path / "other" / "plan.json", case / "plan.json")
    assert states(run("check", out, *pinned, "--case", case, code=1))["plan"] == "!"


def test_a_verdict_that_does_not_follow_is_found(case: Path, key: tuple[Path, str]) -> None:
    """The signer writes what the findings do not say, and signs it well."""
    verdict = audit_verdict(case, signing_key=key[0])
    document = json.loads((case / "verdict.json").read_text())
    attestation = verdict.attestation.to_json()
    sealed = read_sealed_plan(case / "plan.json")
    lie = {
        **attestation,
        "verdict": "descends from the weights",
        "tests": [{**each, "decision": "null hypothesis rejected", "adjusted": 0.001}
                  for each in attestation["tests"]],
    }  # fmt: skip
    write_audit_report(
        lie, read_findings(case, sealed.sha256), case, plan=sealed.plan,
        data=document["record"]["data"], finding_files=document["record"]["finding_files"],
        signer=read_signing_key(key[0]),
    )  # fmt: skip
    assert check_audit_report(case, fingerprint=key[1]).ok
    said = run("check", case, "--fingerprint", key[1], code=1)
    wrong = [name for name, sign in states(said).items() if sign == "!"]
    assert wrong == ["conclusion"]
    # Figures that differ from the finding's file, with the file's own digest beside them.
    document["record"]["findings"]["ghosts"]["n"] = 4000
    pages = {name: (case / name).read_text() for name in document["files"]}
    forged = sealed_document(document["record"], pages, read_signing_key(key[0]))
    (case / "verdict.json").write_text(document_text(forged))
    said = run("check", case, "--fingerprint", key[1], code=1)
    assert "holds other figures than the verdict shows" in said
    assert states(said)["pages"] == "?"


def test_records_that_no_verdict_has(case: Path, key: tuple[Path, str], tmp_path: Path) -> None:
    run("verdict", case, "--signing-key", key[0])
    good = json.loads((case / "verdict.json").read_text())
    pages = {name: (case / name).read_text() for name in good["files"]}
    outside = tmp_path / "outside.json"
    outside.write_text("{}")
    named = {"../../outside": good["record"]["findings"]["ghosts"], "\x1b[2Jgone": {}}
    cases: list[dict[str, Any]] = [
        {}, {"attestation": {}}, {"attestation": []}, {"findings": []}, {"findings": {"ghosts": 1}},
        {"plan": 3}, {"plan": {}}, {"data": 0}, {"finding_files": None},
        {"attestation": {**good["record"]["attestation"], "tests": [1]}},
        {"attestation": {**good["record"]["attestation"], "how_much": [{"value": {}}]}},
        {"attestation": {**good["record"]["attestation"], "verdict": "guilty"}},
        {"findings": named, "finding_files": dict.fromkeys(named, content_hash({}))},
    ]  # fmt: skip
    for number, change in enumerate(cases):
        record = good["record"] | change if number else {}
        forged = sealed_document(record, pages, read_signing_key(key[0]))
        (case / "verdict.json").write_text(document_text(forged))
        found = CliRunner().invoke(app, ["check", str(case), "--fingerprint", key[1]])
        if isinstance(found.exception, DataError):
            assert "lacks a part" in found.exception.reason
        else:
            assert found.exit_code == 1, (change, found.exception)
            assert "\x1b" not in found.output


def test_wrong_input_ends_before_anything_is_said(
    case: Path, key: tuple[Path, str], tmp_path: Path
) -> None:
    assert "no such file" in run("check", case).reason
    run("verdict", case, "--signing-key", key[0])
    for arguments, kind, why in (
        (("--fingerprint", "sha256:12ab"), ConfigError, "not a whole SHA-256"),
        (("--plan-hash", "12ab"), ConfigError, "not a whole SHA-256"),
        (("--public-key", key[0]), DataError, "is a private key"),
        (("--public-key", tmp_path / "none"), DataError, "no such file"),
        (("--case", tmp_path / "none"), DataError, "no such folder"),
        (("--key-env", "OVERPROOF_NOT_SET"), SecretError, "not set"),
        (("--fingerprint", key[1], "--key-env", "HOME"), ConfigError, "more than once"),
    ):  # fmt: skip
        error = run("check", case, *arguments)
        assert isinstance(error, kind)
        assert why in error.reason
        assert error.exit_code == 2
    assert "exists already" in run("signing-key", "--out", key[0]).reason
    assert isinstance(run("verdict", case, "--signing-key", tmp_path / "none"), DataError)
    # A copied finding would stand under two names.
    shutil.copy(case / "findings" / "ghosts.json", case / "findings" / "copy.json")
    assert "copied or renamed" in run("verdict", case, "--signing-key", key[0]).reason
