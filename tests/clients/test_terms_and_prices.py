from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from overproof.clients import pricing
from overproof.clients.pricing import cost_usd, price_of
from overproof.clients.terms import check_terms
from overproof.config.recipe import PriceConfig, TeacherConfig
from overproof.errors import ConfigError, TermsError
from overproof.records.exchange import Usage


def config(kind: str = "openai", model: str = "m", **changes: Any) -> TeacherConfig:
    url = {"base_url": "http://127.0.0.1:8080/v1"} if kind == "openai" else {}
    return TeacherConfig.model_validate({"kind": kind, "model": model} | url | changes)


def test_a_pinned_model_is_allowed_by_its_licence() -> None:
    verdict = check_terms(config("embedded", "smollm2"))
    assert (verdict.basis, verdict.licence) == ("licence", "Apache-2.0")


@pytest.mark.parametrize(
    "teacher", [config(), config("embedded", "/models/x.gguf"), config("embedded", "org/name")]
)
def test_silence_is_no_permission(teacher: TeacherConfig) -> None:
    with pytest.raises(TermsError, match=r'\[teacher.terms\] either training = "allowed"'):
        check_terms(teacher)


def test_what_the_recipe_says_is_kept() -> None:
    said = {"training": "allowed", "licence": "MIT", "url": "https://HOST/terms"}
    verdict = check_terms(config(terms=said))
    assert (verdict.basis, verdict.licence) == ("stated", "MIT")
    assert "https://HOST/terms" in verdict.terms
    said = {"training": "attested", "attestation": "our own model, contract 7"}
    verdict = check_terms(config(terms=said))
    assert (verdict.basis, verdict.terms) == ("attested", "attested: our own model, contract 7")


def test_the_fake_and_the_ledger_need_nobody() -> None:
    assert check_terms(config("fake")).basis == "not needed"
    assert check_terms(config("ledger")).basis == "recorded"


def test_an_unknown_price_stays_unknown() -> None:
    assert price_of(config()) == PriceConfig()
    assert cost_usd(PriceConfig(), Usage(input_tokens=5)) is None
    assert cost_usd(PriceConfig(input=1.0), Usage(input_tokens=5)) is None
    assert cost_usd(PriceConfig(input=1.0, output=1.0), None) is None


def test_what_runs_here_costs_no_api_money() -> None:
    for kind in ("embedded", "fake", "ledger"):
        price = price_of(config(kind))
        assert (price.input, price.output) == (0.0, 0.0)
        assert cost_usd(price, None) == 0.0
        assert cost_usd(price, Usage(input_tokens=5, output_tokens=5)) == 0.0


def test_the_recipe_wins_over_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "prices.toml"
    said = 'as_of = "2026-01-31"\nsource = "x"\n'
    table.write_text(f'[[price]]\nmodel = "m"\ninput = 1.0\noutput = 4.0\n{said}')
    monkeypatch.setattr(pricing, "PRICES_FILE", table)
    assert price_of(config()) == PriceConfig(input=1.0, output=4.0)
    mine = price_of(config(price={"output": 2.0, "cached_input": 0.5}))
    assert mine == PriceConfig(input=1.0, output=2.0, cached_input=0.5)
    undated = tmp_path / "undated.toml"
    undated.write_text('[[price]]\nmodel = "m"\ninput = 1.0\n')
    monkeypatch.setattr(pricing, "PRICES_FILE", undated)
    with pytest.raises(ConfigError, match="as_of"):
        price_of(config())


def test_the_shipped_table_reads() -> None:
    assert price_of(config(model="no such model")) == PriceConfig()


def test_cost_by_kind_of_token() -> None:
    price = PriceConfig(input=2.0, output=8.0, cached_input=1.0)
    usage = Usage(input_tokens=1_000_000, cached_tokens=250_000, output_tokens=500_000)
    assert cost_usd(price, usage) == pytest.approx(0.75 * 2 + 0.25 * 1 + 0.5 * 8)
    without = PriceConfig(input=2.0, output=8.0)
    assert cost_usd(without, usage) == pytest.approx(2 + 4)
