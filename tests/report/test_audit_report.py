"""The verdict page: complete, escaped, self-contained, and found out when a byte is changed."""

from __future__ import annotations

import dataclasses
import datetime
import html
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from overproof.audit.attestation import SPEAKS_FOR, Decision, attest
from overproof.audit.ghosts import GhostSettings, ghosts_test
from overproof.audit.preregistration import SealedPlan
from overproof.audit.quantities import HowMuch, not_identifiable, share_of_log
from overproof.audit.served import Answer, ServedRequest, pools_of
from overproof.config.audit import AuditPlan, parse_audit_plan
from overproof.errors import DataError, RunError, SecretError
from overproof.records.audit import (
    AuditVerdict,
    Effect,
    Exactness,
    Power,
    PValue,
    Standing,
    TestFinding,
)
from overproof.report import audit_view
from overproof.report.audit import write_audit_report
from overproof.report.audit_seal import (
    SealState,
    check_audit_report,
    document_text,
    sealed_document,
)
from overproof.report.audit_signers import HmacSigner, audit_key
from overproof.report.audit_words import (
    BADGES,
    KINDS,
    VERDICTS,
    effect_interval,
    effect_value,
    floor_words,
    odds,
    p_words,
    p_words_of,
)

KEY = b"sixteen bytes or more"
HOSTILE = "<script>alert(1)</script>\"'&\u202egnp.\0\ud800|`_*"
TOML = """
title = "Autumn"
suspect = "SUSPECT"
teacher = "helios"
alpha = 0.01
[[tests]]
kind = "ghosts"
[[tests]]
kind = "references"
[[tests]]
kind = "weights"
"""
MADE = "2026-11-23T15:00:00+00:00"
VOID = {"meta", "br"}


def plan_of(suspect: str = "S") -> AuditPlan:
    return parse_audit_plan(TOML).model_copy(update={"suspect": suspect})


def sealed_of(plan: AuditPlan) -> SealedPlan:
    at = datetime.datetime(2026, 11, 2, 12, tzinfo=datetime.UTC).isoformat()
    return SealedPlan(plan, at, "sha256:" + "ab" * 32)


def ghosts(share: float, n: int = 120, k: int = 3) -> TestFinding:
    """The real test on a simulated log of which the suspect used a share."""
    rng = np.random.default_rng(3)
    logp = -1.0 - 0.1 * np.abs(rng.standard_normal((n, k + 1)))
    teacher = -1.0 - 0.1 * np.abs(rng.standard_normal((n, k + 1)))
    logp[: round(share * n), 0] += 0.5
    requests = []
    for i in range(n):
        answers = [
            Answer(f"{i} {j} word", 20, {"suspect": float(20 * logp[i, j]),
                                         "teacher": float(20 * teacher[i, j])}, "stop")
            for j in range(k + 1)
        ]  # fmt: skip
        served = ServedRequest(f"r{i}", f"r{i}", f"prompt {i}", answers[0], tuple(answers[1:]),
                               position=int(rng.integers(k + 1)))  # fmt: skip
        requests.append(served)
    return ghosts_test(pools_of(requests), GhostSettings(alpha=0.01))


@pytest.fixture(scope="module")
def used() -> TestFinding:
    return ghosts(0.6)


REFUSED = TestFinding(
    "references", Standing.REFUSED, "no nearer than innocents", 8, "reference models",
    reasons=("4 innocents and 4 decoys: the floor of p is 0.2",),
)  # fmt: skip


def write(
    out: Path, findings: dict[str, TestFinding], plan: AuditPlan | None = None, **more: Any
) -> tuple[str, str, dict[str, Any]]:
    plan = plan or plan_of()
    low = next((e.low for f in findings.values() for e in f.effects if e.unit == "share"), None)
    log = share_of_log(low, 0.95)
    how = HowMuch(log, not_identifiable("training data", "unknown size"),
                  not_identifiable("dose equivalent", "no students"),
                  not_identifiable("output", "diluted"))  # fmt: skip
    attestation = attest(sealed_of(plan), findings, how_much=how.effects()).to_json()
    given = {"signer": HmacSigner(KEY), "made_at": MADE, **more}
    paths = write_audit_report(attestation, findings, out, plan=plan, **given)
    return (
        paths.html.read_text(),
        paths.markdown.read_text(),
        json.loads(paths.json.read_text()),
    )


class Reader(HTMLParser):
    """Well-formedness, ids, links, tags and the text as it is read."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert not any(name.startswith("on") or name == "src" for name in given)
        self.tags.add(tag)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given["href"] or ""] if "href" in given else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).replace("\xa0", " ").split())


def test_every_number_is_on_both_pages(tmp_path: Path, used: TestFinding) -> None:
    page, card, record = write(tmp_path, {"ghosts": used, "references": REFUSED})
    reader = Reader(page)
    unescaped = html.unescape(card.replace("\\", ""))
    assert record["record"]["attestation"]["verdict"] == "trained on these outputs"
    assert "Trained on these outputs" in reader.text
    assert used.power is not None
    wanted = [
        used.power.words[1:], used.hypothesis[1:], "120 prompts", "0.01", "sha256:" + "ab" * 32,
        *REFUSED.reasons, "planned and not run", "refused", "Holm over all planned tests",
        *(line[1:] for line in used.not_proved), *(line[1:] for line in used.reasons),
    ]  # fmt: skip
    for p in used.p_values:
        wanted += [p_words_of(p), floor_words(p), p.assumption, p.method[1:]]
        wanted.append(BADGES[p.exactness].word)
    for effect in used.effects:
        wanted += [effect.name[1:], effect_value(effect), effect_interval(effect), effect.why[1:]]
    for text in (reader.text, unescaped):
        missing = [each for each in wanted if each not in text]
        assert not missing
        assert text.lower().count("not identifiable") >= 3
    assert record["record"]["findings"]["ghosts"]["p_values"][0]["value"] == used.p


def test_the_page_is_whole_and_loads_nothing(tmp_path: Path, used: TestFinding) -> None:
    page, _, _ = write(tmp_path, {"ghosts": used, "references": REFUSED})
    reader = Reader(page)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert all(link.startswith("#") and link[1:] in reader.ids for link in reader.links)
    assert not reader.tags & {"script", "img", "link", "iframe", "object", "form"}
    assert not re.search(r"https?:|url\(|@import|//", page)
    assert "svg" in reader.tags
    assert write(tmp_path / "again", {"ghosts": used, "references": REFUSED})[0] == page


def test_hostile_text_is_escaped_everywhere(tmp_path: Path) -> None:
    bad = TestFinding(
        "ghosts", Standing.FLAGGED, HOSTILE, 5, HOSTILE,
        (PValue(1e-9, Exactness.EXACT, HOSTILE, HOSTILE),),
        (Effect(HOSTILE, 0.1, 0.05, 0.2, 0.95, HOSTILE, HOSTILE),),
        Power(0.1, 0.9, 0.01, HOSTILE), (HOSTILE,), (HOSTILE,), {HOSTILE: [HOSTILE]},
    )  # fmt: skip
    data = [{"test": "ghosts", "at": MADE, "files": {HOSTILE: HOSTILE}}]
    page, card, record = write(
        tmp_path, {"ghosts": bad}, plan_of(HOSTILE.replace("\ud800", "")), data=data
    )
    reader = Reader(page)
    assert reader.open == []
    assert "script" not in reader.tags
    for text in (page, card):
        assert not re.search("[\0\u202e\ud800]", text)
    assert not re.search(r"(?<!\\)<script", card)
    assert record["record"]["findings"]["ghosts"]["hypothesis"].startswith("<script>")
    assert check_audit_report(tmp_path, KEY).ok


def test_a_changed_byte_is_found(tmp_path: Path, used: TestFinding) -> None:
    write(tmp_path, {"ghosts": used})
    assert check_audit_report(tmp_path, KEY).state is SealState.VERIFIED
    rng = np.random.default_rng(0)
    for name in ("verdict.html", "verdict.md", "verdict.json"):
        path = tmp_path / name
        whole = path.read_bytes()
        ends = [0, len(whole) - 1, *rng.integers(len(whole), size=12).tolist()]
        if name == "verdict.json":  # of the hashes and the signature, too
            ends += range(len(whole) - 420, len(whole), 7)
        for at in ends:
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            try:
                found = check_audit_report(tmp_path, KEY)
            except DataError as error:
                assert name == "verdict.json", error  # noqa: PT017
                continue
            assert not found.ok, (name, at)
        path.write_bytes(whole)
    (tmp_path / "verdict.md").unlink()
    assert "verdict.md cannot be read" in check_audit_report(tmp_path, KEY).reason


def test_keys_and_what_they_show(tmp_path: Path, used: TestFinding) -> None:
    page, _, _ = write(tmp_path, {"ghosts": used})
    assert check_audit_report(tmp_path).state is SealState.UNCHECKED
    assert check_audit_report(tmp_path, b"another key of 16").state is SealState.OTHER_KEY
    assert KEY.decode() not in page
    assert "does not show a third party" in Reader(page).text
    page, card, record = write(tmp_path, {"ghosts": used}, signer=None)
    assert record["signature"] is None
    assert check_audit_report(tmp_path, KEY).state is SealState.UNSIGNED
    assert not check_audit_report(tmp_path, KEY).ok
    assert "is not signed" in page
    assert "is not signed" in card
    # A forger without the key changes the record and hashes everything again.
    record["record"]["attestation"]["verdict"] = "no evidence"
    pages = {name: (tmp_path / name).read_text() for name in record["files"]}
    forged = sealed_document(record["record"], pages, HmacSigner(b"the forger's own key"))
    (tmp_path / "verdict.json").write_text(document_text(forged))
    assert check_audit_report(tmp_path, KEY).state is SealState.OTHER_KEY
    assert audit_key({}) is None
    assert audit_key({"OVERPROOF_AUDIT_KEY": "0123456789abcdef"}) == b"0123456789abcdef"
    with pytest.raises(SecretError, match="has 5 bytes"):
        audit_key({"OVERPROOF_AUDIT_KEY": "short"})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "other"}', "\xff"])
def test_what_is_no_verdict_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match="no such file"):
        check_audit_report(tmp_path)
    (tmp_path / "verdict.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"verdict\.json"):
        check_audit_report(tmp_path)


def test_each_verdict_has_its_page(tmp_path: Path, used: TestFinding) -> None:
    kept = dataclasses.replace(
        used,
        p_values=(PValue(0.4, Exactness.EXACT, "m", "a"),),
        power=Power(0.0331, 0.9, 0.01, "would have seen 3.3 %"),
    )
    weights = dataclasses.replace(used, test="weights")
    close = dataclasses.replace(
        used, test="references", p_values=(PValue(1e-4, Exactness.RANK, "m", "a", 1e-4),)
    )
    cases: dict[AuditVerdict, dict[str, TestFinding]] = {
        AuditVerdict.DESCENDS: {"weights": weights},
        AuditVerdict.TRAINED: {"ghosts": used},
        AuditVerdict.CLOSE: {"references": close},
        AuditVerdict.NO_EVIDENCE: {"ghosts": kept},
        AuditVerdict.CANNOT_SAY: {"references": REFUSED},
    }
    for verdict, findings in cases.items():
        page, card, _ = write(tmp_path / verdict.name, findings)
        text = Reader(page).text
        assert '<h1><span class="name">S, examined' in page
        assert f'<span class="verdict">{VERDICTS[verdict].headline}</span>' in page
        assert card.startswith(f"# {VERDICTS[verdict].headline}")
        assert VERDICTS[verdict].meaning in text
        assert page.count('aria-current="true"') == 1
        if verdict is AuditVerdict.DESCENDS:
            page, _, _ = write(tmp_path / "both", {**findings, "ghosts": used})
            assert '<span class="subline">and trained on these outputs</span>' in page
        if verdict is AuditVerdict.NO_EVIDENCE:
            assert "would have seen use of ≥ 3.3 % of the log's prompts" in text


def test_what_does_not_agree_is_refused(tmp_path: Path, used: TestFinding) -> None:
    plan, findings = plan_of(), {"ghosts": used}
    good = attest(sealed_of(plan), findings).to_json()
    other = {"ghosts": dataclasses.replace(used, p_values=(PValue(0.5, Exactness.EXACT, "", ""),))}
    without = {key: value for key, value in good.items() if key != "words"}
    cases: list[tuple[dict[str, Any], dict[str, TestFinding], str]] = [
        (good, other, "its finding 0.5"),
        (good, {}, "no finding"),
        (good, {**findings, "weights": used}, "planned and not run"),
        (good, {**findings, "extra": used}, "missing from the attestation"),
        (without, findings, "words: is not given"),
        (good | {"alpha": 0.05}, findings, r"0\.01 in the plan"),
        (good | {"verdict": "guilty"}, findings, "guilty"),
        (good | {"how_much": [{"value": 1}]}, findings, "holds no effect"),
        (good | {"tests": good["tests"][1:]}, findings, "missing from the attestation"),
    ]
    for attestation, given, why in cases:
        with pytest.raises(DataError, match=why):
            write_audit_report(attestation, given, tmp_path / "x", plan=plan)
    assert not (tmp_path / "x").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        write_audit_report(good, findings, tmp_path / "file", plan=plan)


def test_odd_numbers_do_not_break_the_page(tmp_path: Path, used: TestFinding) -> None:
    odd = dataclasses.replace(
        used,
        p_values=(PValue(0.0, Exactness.EXACT, "m", "a", 0.0, -412.3),
                  PValue(math.nan, Exactness.APPROXIMATE, "m", "a")),
        effects=tuple(Effect("e", *ends) for ends in (
            (math.nan, None, None), (math.inf, 0.0, math.inf), (0.0, 0.0, 0.0), (None, 0.1, None),
            (None, None, 0.3), (-3.0, -4.0, 5e9))),
        details={"array": np.arange(3), "nan": math.nan, "ids": [str(i) for i in range(500)]},
    )  # fmt: skip
    page, _, record = write(tmp_path, {"ghosts": odd})
    reader = Reader(page)
    assert "5.0 × 10⁻⁴¹³" in reader.text
    assert "not defined" in reader.text
    assert "… 500 in all" in reader.text
    assert record["record"]["findings"]["ghosts"]["details"]["array"] == [0, 1, 2]
    assert len(record["record"]["findings"]["ghosts"]["details"]["ids"]) == 500
    assert check_audit_report(tmp_path, KEY).ok


def test_numbers_in_words() -> None:
    assert [p_words(p) for p in (1.0, 0.31, 0.05, 0.0123, 9.5e-4, 9.99e-9, 0.0, -1.0)] == [
        "1.00", "0.31", "0.050", "0.012", "9.5 × 10⁻⁴", "1.0 × 10⁻⁸", "below 10⁻³⁰⁰", "not defined",
    ]  # fmt: skip
    assert [odds(p) for p in (1.0, 0.03, 0.01, 1 / 1999, 4.2e-43)] == [
        "1 in 1", "1 in 33", "1 in 100", "1 in 1,900", "1 in 2.3 × 10⁴²",
    ]  # fmt: skip
    for p in 10.0 ** -np.random.default_rng(1).uniform(0, 250, 300):
        said = odds(float(p)).removeprefix("1 in ").replace(",", "")
        mantissa, _, power = said.partition(" × 10")
        digits = power.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789"))
        times = float(mantissa) * 10.0 ** int(digits or 0)
        assert 0.88 / p <= times <= 1.001 / p + 1e-9  # never rarer than it is
    bound = Effect("e", 0.2, 0.2, None, 0.95)
    assert (effect_value(bound), effect_interval(bound)) == (
        "≥ 20.0 %", "95 % lower bound 20.0 %, no upper end",
    )  # fmt: skip
    assert effect_value(Effect("e", 0.0, 0.0, 1.0, 0.95)) == "0 % not excluded"
    dose = Effect("d", 12.0, 5.0, 40.0, 0.9, unit="percent of the training data")
    assert effect_interval(dose) == "90 % interval 5.0 % to 40.0 %"


def test_the_words_cover_what_an_audit_says() -> None:
    assert set(VERDICTS) == set(AuditVerdict)
    assert set(BADGES) == set(Exactness)
    assert set(audit_view.DECISIONS) == {str(each) for each in Decision}
    speaks = {kind: about.speaks_for for kind, about in KINDS.items() if about.speaks_for}
    assert speaks == SPEAKS_FOR
