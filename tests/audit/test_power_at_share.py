"""Power is stated at a test's own share of the level; refusals stay with the level of all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from overproof.api.audit_plans import audit_seal, model_name, setting_of
from overproof.audit.base_shift import AnswerScores, base_shift_test
from overproof.audit.radioactivity import Plan, watermark_test
from overproof.audit.reference_answers import Answers
from overproof.audit.references import references_test
from overproof.audit.watermarks.gumbel import Gumbel
from overproof.records.audit import Standing, TestFinding


def level_of(finding: TestFinding) -> float:
    assert finding.power is not None
    assert f"level {finding.power.alpha:g}" in finding.power.words
    return finding.power.alpha


def shift(finding: TestFinding) -> float:
    assert finding.power is not None
    assert finding.power.detectable is not None
    return finding.power.detectable


def test_the_share_of_a_plan(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    head = 'suspect = "s"\nteacher = "t"\nalpha = 0.02\n'
    tests = '[[tests]]\nkind = "weights"\n[[tests]]\nkind = "references"\n'
    for rule, share in (("holm", 0.01), ("fixed-sequence", 0.02)):
        plan.write_text(f'multiplicity = "{rule}"\n{head}{tests}')
        audit_seal(plan, tmp_path / rule)
        setting = setting_of("weights", tmp_path / rule)
        assert (setting.alpha, setting.share) == (0.02, share)
    assert setting_of("weights", None, alpha=0.03).share == 0.03


def test_watermark() -> None:
    rng = np.random.default_rng(0)
    texts = [[int(i) for i in rng.integers(500, size=40)] for _ in range(8)]
    whole, part = (
        watermark_test(texts, Gumbel(500), 7_640_891_576_956_012_809,
                       plan=Plan(alpha=0.05, share=share, alternates=99))
        for share in (None, 0.025)
    )  # fmt: skip
    assert (level_of(whole), level_of(part)) == (0.05, 0.025)
    assert shift(part) > shift(whole)
    assert part.p_values == whole.p_values
    with pytest.raises(ValueError, match="share of alpha"):
        Plan(alpha=0.01, share=0.02)


def test_base_shift_and_its_refusals() -> None:
    rng = np.random.default_rng(1)

    def scores(name: str) -> AnswerScores:
        return AnswerScores(name, -rng.random(30) * 20, -rng.random((30, 3)) * 20)

    tokens = (np.full(30, 10.0), np.full((30, 3), 10.0))
    suspect, base = scores("suspect"), scores("base")
    innocents = [scores(f"i{i}") for i in range(39)]
    whole, part = (
        base_shift_test(suspect, base, innocents, *tokens, alpha=0.05, share=share)
        for share in (None, 0.025)
    )
    assert (level_of(whole), level_of(part)) == (0.05, 0.025)
    assert shift(part) > shift(whole)
    few = base_shift_test(suspect, base, innocents[:19], *tokens, alpha=0.05, share=0.025)
    assert few.p is not None  # its floor reaches the level, if not its share
    assert few.power is not None
    assert few.power.detectable is None


def test_references() -> None:
    rng = np.random.default_rng(2)
    innocents, decoys = (tuple(f"{kind}{i}" for i in range(39)) for kind in "id")
    texts = tuple(
        tuple((f"{rng.integers(9)} {rng.integers(9)} words",) * 2 for _ in range(80))
        for _ in range(12)
    )
    prompts = tuple(f"p{i}" for i in range(12))
    answers = Answers("suspect", "teacher", decoys, innocents, prompts, texts, 2, 0)
    whole, part = (references_test(answers, alpha=0.05, share=share) for share in (None, 0.025))
    assert whole.standing is not Standing.REFUSED
    assert (level_of(whole), level_of(part)) == (0.05, 0.025)
    assert shift(part) > shift(whole)


def test_what_a_model_is_called_beside_its_files(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("")
    assert model_name(None) == model_name(str(tmp_path)) == ""
    assert model_name("m@http://127.0.0.1:1/v1") == model_name("m@http://127.0.0.1:2/v1") == "m"
    assert model_name("someone/model") == "someone/model"
