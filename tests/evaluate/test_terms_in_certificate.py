"""Certificate, model card and report say under which terms a student was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from certified_world import World, certify

from overproof.clients.terms import check_terms
from overproof.config.teacher import TeacherConfig
from overproof.records.certificate import Certificate, CostLine
from overproof.report.markdown import render_model_card
from overproof.report.write import write_reports


def made(teacher: TeacherConfig, **changes: Any) -> Certificate:
    world = World()
    verdict = check_terms(teacher).model_dump(mode="json")
    told = {"name": "teacher-1", "model": teacher.model, **verdict}
    manifest = world.manifest().model_copy(update={"teacher": told})
    return certify(world, manifest=manifest, **changes)


def attested() -> TeacherConfig:
    return TeacherConfig.model_validate(
        {
            "kind": "anthropic",
            "model": "claude-haiku-4-5",
            "terms": {"training": "attested", "attestation": "approved on 2026-02-01"},
        }
    )


def test_version_clause_source_and_attestation_are_in_the_certificate(tmp_path: Path) -> None:
    certificate = made(attested())
    teacher = certificate.provenance["teacher"]
    assert teacher["attestation"] == "approved on 2026-02-01"
    assert teacher["terms"] == "attested: approved on 2026-02-01"
    assert teacher["terms_say"] == "no"
    assert teacher["terms_version"].startswith("2026-")
    assert teacher["source"].startswith("https://www.anthropic.com/")
    card = render_model_card(certificate)
    for said in ("Terms version", "sha256:", "approved on 2026-02-01", "competing AI models"):
        assert said in card, said
    write_reports(certificate, tmp_path)
    page = next(tmp_path.glob("*.html")).read_text()
    assert "Terms version" in page
    assert "approved on 2026-02-01" in page


def test_what_known_terms_forbid_is_among_the_limits() -> None:
    limits = " ".join(made(attested()).limits)
    assert "The teacher's terms as they are known (2026-" in limits
    assert "forbid it: Anthropic API" in limits
    free = TeacherConfig.model_validate(
        {"kind": "openai", "model": "deepseek-chat", "base_url": "https://api.deepseek.com"}
    )
    assert "as they are known" not in " ".join(made(free).limits)


def test_an_older_dataset_has_no_version_and_says_so() -> None:
    assert certify(World()).provenance["teacher"]["terms_version"] == "not recorded"


def test_money_that_is_uncertain_is_not_left_out_of_the_card() -> None:
    lost = CostLine(what="m: failed", calls=3, usd=0.0, uncertain_usd=0.004, uncertain_calls=3)
    paid = CostLine(what="m: answered", calls=9, usd=2.0)
    card = render_model_card(made(attested(), costs=[paid, lost]))
    assert "and up to $0.004 more for 3 calls that may have been billed" in card
    assert "may have been billed" not in render_model_card(made(attested(), costs=[paid]))
