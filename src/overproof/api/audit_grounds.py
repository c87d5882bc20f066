"""What a verdict rests on, checked: plan, findings, the list of data, the conclusion, the pages."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overproof import __version__
from overproof.api.audit_plans import PLAN
from overproof.errors import DataError, OverproofError

if TYPE_CHECKING:
    from overproof.audit.preregistration import SealedPlan
    from overproof.report.audit_seal import SealCheck

__all__ = ["FINDINGS", "CheckLine", "CheckState", "finding_digests", "grounds", "line"]

FINDINGS = "findings"


class CheckState(StrEnum):
    """What became of one check."""

    HOLDS = "holds"
    FAILS = "does not hold"
    UNCHECKED = "not checked"


@dataclass(frozen=True)
class CheckLine:
    """One check: of what, with what outcome, in plain words.

    Attributes:
        subject: what was checked.
        state: the outcome.
        words: a whole sentence.
        needed: whether the verdict counts as verified only where this holds.
    """

    subject: str
    state: CheckState
    words: str
    needed: bool = True


def finding_digests(directory: Path) -> dict[str, str]:
    """Of each finding beside a plan, by its file's name, the ``sha256:…`` of the file's bytes.

    Raises:
        DataError: a file cannot be read.
    """
    from overproof.records.hashing import file_sha256

    found = {}
    for path in sorted((directory / FINDINGS).glob("*.json")):
        if not path.is_file():
            raise DataError(str(path), "is not a file", "findings are files")
        try:
            found[path.stem] = "sha256:" + file_sha256(path)
        except OSError as error:
            raise DataError(str(path), f"cannot be read: {error.strerror or error}") from error
    return found


def line(subject: str, holds: bool, yes: str, no: str) -> CheckLine:
    """A check that holds or does not, with the sentence for either."""
    return CheckLine(subject, CheckState.HOLDS if holds else CheckState.FAILS, yes if holds else no)


def grounds(seal: SealCheck, case: Path, published: str | None) -> tuple[str, list[CheckLine]]:
    """What the verdict says, and the checks of what it rests on.

    Args:
        seal: of files that were not altered.
        case: the folder of plan and findings.
        published: the plan's hash as it was given away; None where it is not known.

    Raises:
        DataError: a finding cannot be read.
        LookupError, TypeError, ValueError, AttributeError: the record is not that of a verdict.
    """
    from overproof.records.audit import AuditVerdict

    record = seal.record
    attestation = record["attestation"]
    says = AuditVerdict(attestation["verdict"]).value
    plan_line, sealed = _plan(record, case)
    lines = [plan_line, _published_line(str(attestation["plan_sha256"]), published)]
    lines += _findings(record, case)
    if sealed is not None:
        lines += [_data_line(record, sealed), *_conclusion(seal, sealed)]
    return says, lines


def _published_line(named: str, published: str | None) -> CheckLine:
    if published is None:
        return CheckLine(
            "published plan", CheckState.UNCHECKED,
            "give --plan-hash with the hash that was published before the data were seen; without "
            "it, that the plan came first rests on the signer's word", needed=False,
        )  # fmt: skip
    return line(
        "published plan", named == published,
        "the verdict was given under the plan whose hash was published",
        f"the verdict was given under the plan {named}, not under the one published",
    )  # fmt: skip


def _plan(record: Mapping[str, Any], case: Path) -> tuple[CheckLine, SealedPlan | None]:
    """Whether the sealed plan in the folder is the one that the verdict names and shows."""
    from overproof.audit.preregistration import read_sealed_plan
    from overproof.config.audit import AuditPlan

    attestation = record["attestation"]
    if not (case / PLAN).exists():
        words = f"there is no {PLAN} in {case}: ask for it, or name its folder with --case"
        return CheckLine("plan", CheckState.UNCHECKED, words), None
    try:
        sealed = read_sealed_plan(case / PLAN)
    except DataError as error:
        return CheckLine("plan", CheckState.FAILS, f"{PLAN} {error.reason}"), None
    if sealed.sha256 != attestation["plan_sha256"]:
        words = f"{PLAN} is another plan ({sealed.sha256}) than the verdict's"
        return CheckLine("plan", CheckState.FAILS, words), None
    if (
        AuditPlan.model_validate(record["plan"]) != sealed.plan
        or attestation["sealed_at"] != sealed.sealed_at
    ):
        words = f"the verdict names the hash of {PLAN}, and shows other contents"
        return CheckLine("plan", CheckState.FAILS, words), None
    words = f"{PLAN} is unchanged since it was sealed, and is the verdict's ({sealed.sha256})"
    return CheckLine("plan", CheckState.HOLDS, words), sealed


def _findings(record: Mapping[str, Any], case: Path) -> list[CheckLine]:
    """Each finding of the verdict against its file, and each file against the verdict."""
    shown: Mapping[str, Any] = record["findings"]
    digests: Mapping[str, Any] = record["finding_files"]
    there = finding_digests(case)
    lines = []
    for name, finding in shown.items():
        if name not in there:
            state, words = CheckState.UNCHECKED, f"there is no {FINDINGS}/ file of it in {case}"
        elif digests.get(name) != there[name]:
            state, words = CheckState.FAILS, "its file is not the one that the verdict was made of"
        elif not _same(case / FINDINGS / f"{name}.json", finding):
            state, words = CheckState.FAILS, "its file holds other figures than the verdict shows"
        else:
            state = CheckState.HOLDS
            words = f"its file is the one that the verdict was made of ({there[name]})"
        lines.append(CheckLine(f"finding {name}", state, words))
    for name in there:
        if name not in shown:
            words = "is not in the verdict: it came later, or was left out"
            lines.append(CheckLine(f"finding {name}", CheckState.FAILS, words))
    return lines


def _same(path: Path, shown: Mapping[str, Any]) -> bool:
    """Whether the file holds what is shown; fields that a later version adds do not count."""
    try:
        held = json.loads(path.read_bytes())["finding"]
        return all(name in shown and shown[name] == value for name, value in held.items())
    except (ValueError, LookupError, TypeError, AttributeError):
        return False


def _data_line(record: Mapping[str, Any], sealed: SealedPlan) -> CheckLine:
    from overproof.audit.preregistration import read_data_digests

    return _attempt(
        "data",
        lambda: (
            [asdict(each) for each in read_data_digests(sealed)]
            # A verdict of an earlier version knows no settings.
            == [{"settings": ""} | dict(row) for row in record["data"]]
        ),
        "the list of what was tested is the one in the verdict; the data themselves are not here",
        "the list of what was tested is not the one in the verdict: a test was run later, or a "
        "line is missing",
    )


def _conclusion(seal: SealCheck, sealed: SealedPlan) -> list[CheckLine]:
    """The verdict drawn once more from plan and findings, and the pages from that."""
    from overproof.audit.attestation import attest
    from overproof.audit.finding_files import finding_of, plain
    from overproof.audit.preregistration import read_data_digests
    from overproof.records.audit import Effect
    from overproof.report.audit import pages_of

    record = seal.record
    shown = record["attestation"]
    findings = {name: finding_of(each) for name, each in record["findings"].items()}
    try:
        drawn = attest(
            replace(sealed, attested=bool(shown["attested"])),
            findings,
            how_much=tuple(Effect(**each) for each in shown["how_much"]),
            data=read_data_digests(sealed),
        )
        again = plain(drawn.to_json())
        pages = pages_of(record | {"attestation": again}, findings, seal.signed_by)
    except OverproofError as error:
        words = f"cannot be drawn from plan and findings: {error.culprit}: {error.reason}"
        return [CheckLine("conclusion", CheckState.FAILS, words)]
    core, theirs = (_core(each) for each in (again, shown))
    follows = line(
        "conclusion", core == theirs,
        "drawn once more from plan and findings by the planned rule, it is the same",
        "drawn once more from plan and findings by the planned rule, it is another",
    )  # fmt: skip
    hashes = {name: "sha256:" + sha256(text.encode()).hexdigest() for name, text in pages.items()}
    if hashes == dict(seal.files):
        words = "drawn once more from the record, they are the same to the byte"
        return [follows, CheckLine("pages", CheckState.HOLDS, words, needed=False)]
    words = (
        f"drawn once more by this copy of overproof ({__version__}; the verdict's was "
        f"{record['overproof']}) they differ: where pages and verdict.json disagree, the record "
        "in verdict.json is what was checked here"
    )
    return [follows, CheckLine("pages", CheckState.UNCHECKED, words, needed=False)]


def _core(attestation: Mapping[str, Any]) -> list[Any]:
    """What a verdict comes to, without its wording."""
    of_test = ("name", "kind", "decision", "p", "adjusted", "could_reject")
    tests = [[test[name] for name in of_test] for test in attestation["tests"]]
    return [attestation["verdict"], attestation["alpha"], tests]


def _attempt(subject: str, holds: Callable[[], bool], yes: str, no: str) -> CheckLine:
    """A check whose own errors are an answer: what cannot be read does not hold, and it says why.

    Errors of other kinds than overproof's own are those of a malformed record; the caller names it.
    """
    try:
        return line(subject, holds(), yes, no)
    except OverproofError as error:
        return CheckLine(subject, CheckState.FAILS, f"{error.culprit}: {error.reason}")
