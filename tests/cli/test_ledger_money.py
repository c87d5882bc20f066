"""`overproof ledger cost`, `ledger provenance`, `terms` and the figures of `plan`, as printed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner, Result

from overproof.cli.ledger import app as ledger_app
from overproof.cli.plan import print_estimate
from overproof.cli.terms import terms_command
from overproof.collect.estimate import Estimate, Range
from overproof.collect.forecast import Forecast
from overproof.records.exchange import Completion, Exchange, Message, Outcome, Request, Usage
from overproof.records.ledger import Ledger

app = typer.Typer(pretty_exceptions_enable=False)
app.add_typer(ledger_app, name="ledger")
app.command("terms")(terms_command)


def call(*words: object, code: int = 0) -> Result:
    said = [str(word) for word in words]
    result = CliRunner().invoke(app, said, env={"COLUMNS": "200"}, terminal_width=200)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def exchange(text: str, **said: Any) -> Exchange:
    usage = Usage(input_tokens=1000, output_tokens=50, cached_tokens=400, reasoning_tokens=20)
    completion = said.pop("completion", {})
    return Exchange(
        request=Request(model="m", messages=(Message(role="user", content=text),)),
        completion=Completion(**{"outcome": Outcome.ANSWERED, "usage": usage} | completion),
        teacher="[bold]t\x1b[31m",
        created_at="2026-01-01T00:00:00Z",
        **{"cost_usd": 0.0156, "licence": "own", "terms": "attested: [red]ours"} | said,
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    lost = {"outcome": Outcome.FAILED, "usage": None, "uncertain_attempts": 3}
    with Ledger.open(tmp_path / "ledger.sqlite", write=True) as ledger:
        ledger.submit(exchange("one"))
        ledger.submit(exchange("two"))
        ledger.submit(exchange("three", completion=lost, cost_usd=0.0, uncertain_usd=0.004))
        ledger.note("attestation", {"teacher": "m", "attestation": "ours \x1b[2J"})
        ledger.note("terms", {"teacher": "m", "terms_version": "2026-11-23 sha256:abc"})
    return tmp_path


def test_cost_shows_what_is_there_and_says_what_is_uncertain(run: Path) -> None:
    said = call("ledger", "cost", run).output
    assert "cached" in said
    assert "reasoning" in said
    assert "batch" not in said  # nothing went through one
    assert "cache writes" not in said
    assert "0.031200" in said
    assert "$0.0312, and up to $0.0040 more for 1 call that timed out or broke off" in said
    assert "\x1b[31m" not in said
    assert "[bold]" in said
    total = json.loads(call("ledger", "cost", run, "--json").output)["total"]
    assert total["cached_tokens"] == 800
    assert total["uncertain_usd"] == pytest.approx(0.004)


def test_provenance_in_words_and_as_json(run: Path) -> None:
    said = call("ledger", "provenance", run).output
    assert "every answer of the ledger" in said
    assert "2 (100%)" in said
    assert "attested: [red]ours" in said
    assert "attested for m: ours" in said
    assert "\x1b" not in said
    assert "terms read in version 2026-11-23 sha256:abc" in said
    assert "and up to $0.0040 more" in said
    plain = json.loads(call("ledger", "provenance", run, "--json").output)
    assert plain["of"] == "ledger"
    assert plain["lines"][0]["share_of_rows"] == 1.0


def test_provenance_of_nothing(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.sqlite", write=True):
        pass
    assert "nothing was collected or imported" in call("ledger", "provenance", tmp_path).output


def test_terms_of_a_model_a_host_and_all() -> None:
    said = call("terms", "gpt-4o").output
    assert "conditions: on a condition" in said
    assert "not legal advice" in said
    assert "https://openai.com/policies/services-agreement/" in said
    assert "forbidden" in call("terms", "https://api.x.ai/v1").output
    assert "outputs may train another model" in call("terms", "apache-2.0").output
    assert "Apache" in call("terms", "smollm2").output
    listed = call("terms").output
    assert listed.count("\n") > 20
    assert "anthropic-api" in listed
    everything = json.loads(call("terms", "list", "--json").output)
    assert everything["version"].startswith("2026-11-23")
    assert len(everything["terms"]) > 20


def test_terms_of_nobody() -> None:
    result = call("terms", "nobody", code=1)
    assert "nothing is known of 'nobody'" in result.output


def printed(made: Estimate, **said: Any) -> str:
    table = Table(show_header=False, box=None)
    table.add_column()
    table.add_column()
    print_estimate(Forecast(estimate=made, **said), table)
    out = io.StringIO()
    Console(file=out, width=200).print(table)
    return out.getvalue()


def figures(**changes: Any) -> Estimate:
    said: dict[str, Any] = {
        "prompts": 1000, "sampled": 64, "asked": 32,
        "calls": Range(estimate=1000, low=1000, high=1000),
        "input_tokens": Range(estimate=50_000, low=48_000, high=52_500),
        "output_tokens": Range(estimate=9_000, low=7_000, high=12_000),
        "cost_usd": Range(estimate=1.5, low=1.25, high=1.75),
        "full_usd": Range(estimate=3.0, low=2.5, high=3.5),
        "worst_tokens": 152_500, "worst_usd": 9.0,
        "seconds": Range(estimate=600, low=500, high=9000),
    }  # fmt: skip
    return Estimate(**said | changes)


def test_a_forecast_is_printed_with_its_intervals() -> None:
    said = printed(figures(), asked=32, answered=31, cached=7, price="price as of 2026-01-31")
    assert "1,000 to make, 7 known to the ledger" in said
    assert "about 50,000 (48,000 to 52,500)" in said
    assert "about $1.50 ($1.25 to $1.75)" in said
    assert "at the worst 152,500 in all" in said
    assert "at the worst $9.00" in said
    assert "about 10 min (8 min to 2.5 h)" in said
    assert "price as of 2026-01-31" in said
    assert "64 prompts, 32 of them asked (31 answered)" in said


def test_a_forecast_without_answers_is_printed_as_bounds() -> None:
    said = printed(
        figures(
            asked=0,
            output_tokens=Range(low=0, high=100_000),
            cost_usd=Range(low=0.05, high=0.45),
            seconds=Range(low=1000.0),
        ),
        counted=False,
    )
    assert "at most 100,000" in said
    assert "at most $0.45, at least $0.0500" in said
    assert "at least 17 min" in said
    assert "guessed from their length" in said
    assert "none of them asked" in said


def test_a_batch_is_printed_with_both_prices() -> None:
    said = printed(figures(batch=True, seconds=None))
    assert (
        "about $1.50 ($1.25 to $1.75) through the batch API; about $3.00 ($2.50 to $3.50) without"
    ) in said
    assert "unknown: no price is known" in printed(figures(cost_usd=None, full_usd=None))
