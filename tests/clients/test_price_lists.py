"""Lists of prices: exact names, hosts, dates, the user's own file, and every kind of token."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from overproof.clients import price_list, pricing
from overproof.clients.price_list import read_prices
from overproof.clients.pricing import age_of_price, cost_usd, price_of, priced
from overproof.config.teacher import LongPrice, PriceConfig, TeacherConfig
from overproof.errors import ConfigError
from overproof.records.exchange import Usage

ENTRY = 'model = "m"\ninput = 1.0\noutput = 4.0\nas_of = "2026-01-31"\nsource = "x"\n'


def config(model: str, host: str = "api.openai.com", **changes: Any) -> TeacherConfig:
    said = {"kind": "openai", "model": model, "base_url": f"https://{host}/v1"} | changes
    return TeacherConfig.model_validate(said)


@pytest.fixture(autouse=True)
def nobodys_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price_list, "_HOME", tmp_path / "home" / "prices.toml")
    monkeypatch.delenv("OVERPROOF_PRICES", raising=False)


def own_file(path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    path.write_text(text)
    monkeypatch.setenv("OVERPROOF_PRICES", str(path))
    return path


def test_every_shipped_entry_is_whole() -> None:
    entries = {id(e): e for e in read_prices(pricing.PRICES_FILE).values()}.values()
    assert len(entries) > 50
    assert {"openai", "anthropic", "google", "xai", "mistral", "deepseek"} == {
        entry.provider for entry in entries
    }
    for entry in entries:
        assert entry.source.startswith("https://"), entry.model
        assert entry.hosts, entry.model
        assert entry.price.input, entry.model
        assert entry.price.output, entry.model
        assert entry.price.output >= entry.price.input, entry.model
        assert (entry.price.cached_input or 0) < entry.price.input, entry.model
        assert entry.as_of == "undated" or (entry.age_days(date(2026, 11, 23)) or 0) >= 0


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("gpt-4o", True),
        ("gpt-4o-2024-08-06", True),  # an alias that the entry lists
        ("gpt-4o-2024-05-13", False),  # that one cost more: no guess by prefix
        ("gpt-4o-audio-preview", False),
        ("ft:gpt-4o:mine", False),
        ("GPT-4o", False),
    ],
)
def test_only_the_exact_name_finds_a_price(model: str, found: bool) -> None:
    assert (price_of(config(model)).input is not None) is found


def test_a_reseller_or_a_proxy_has_no_listed_price() -> None:
    assert price_of(config("gpt-4o")).input == 2.5
    assert priced(config("gpt-4o", "127.0.0.1:8000")).origin == "unknown"
    assert priced(config("gpt-4o", "openrouter.ai")).origin == "unknown"
    claude = TeacherConfig(kind="anthropic", model="claude-haiku-4-5")
    assert price_of(claude) == PriceConfig(input=1, output=5, cached_input=0.1, batch=0.5)
    elsewhere = claude.model_copy(update={"base_url": "https://gateway.example/v1"})
    assert priced(elsewhere).origin == "unknown"


def test_the_users_own_file_comes_first_and_replaces_the_whole_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"[[price]]\n{ENTRY}".replace('"m"', '"gpt-4o"')
    own = own_file(tmp_path / "mine.toml", text, monkeypatch)
    found = priced(config("gpt-4o", "127.0.0.1:8000"))
    assert found.price == PriceConfig(input=1.0, output=4.0)  # no cached price left of the other
    assert found.entry is not None
    assert found.entry.file == "mine.toml"
    assert price_of(config("gpt-4o-mini")).input == 0.15  # the rest is the shipped list's
    own.write_text(text.replace("1.0", "3.0"))
    os.utime(own, ns=(1, 1))
    assert price_of(config("gpt-4o")).input == 3.0  # a changed file is read again


def test_the_file_in_the_home_directory(tmp_path: Path) -> None:
    home = tmp_path / "home" / "prices.toml"
    home.parent.mkdir()
    home.write_text(f"[[price]]\n{ENTRY}")
    assert price_of(config("m")).output == 4.0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("price = 3", "is not a list"),
        ("[[price]", "is not TOML"),
        (f"[[price]]\n{ENTRY}".replace('model = "m"\n', ""), r"price 1 \(no model\): has no model"),
        (f"[[price]]\n{ENTRY}".replace('source = "x"\n', ""), r"price 1 \(m\): has no source"),
        (f"[[price]]\n{ENTRY}ouput = 3", "unknown key 'ouput'"),
        (f"[[price]]\n{ENTRY}provider = 'p'", r"\[hosts\] has no 'p'"),
        (f"[[price]]\n{ENTRY}".replace("1.0", "-1.0"), "input: "),
        (f"[[price]]\n{ENTRY}".replace("input = 1.0\n", ""), "no input or no output"),
        (f"[[price]]\n{ENTRY}".replace("2026-01-31", "2026-13-31"), "as_of is '2026-13-31'"),
        (f"[[price]]\n{ENTRY}".replace("2026-01-31", "lately"), "as_of is 'lately'"),
        (f"[[price]]\n{ENTRY}[[price]]\n{ENTRY}", "'m' has a price already"),
    ],
)
def test_a_bad_file_is_refused_with_its_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    own_file(tmp_path / "mine.toml", text, monkeypatch)
    with pytest.raises(ConfigError, match=says) as caught:
        price_of(config("m"))
    assert "mine.toml" in caught.value.culprit


def test_a_file_that_is_named_and_missing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERPROOF_PRICES", str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match="No such file"):
        price_of(config("m"))


def test_the_age_of_a_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    today = date(2026, 11, 23)
    mine = own_file(tmp_path / "p.toml", f"[[price]]\n{ENTRY}", monkeypatch)
    words = age_of_price(priced(config("m")), today)
    assert words == "price as of 2026-01-31, 296 days old: check it against x"
    mine.write_text(f"[[price]]\n{ENTRY}".replace("2026-01-31", "2026-01"))
    assert "as of 2026-01, 326 days old" in age_of_price(priced(config("m")), today)
    mine.write_text(f"[[price]]\n{ENTRY}".replace("2026-01-31", "undated"))
    assert "without a date" in age_of_price(priced(config("m")), today)
    assert "no price is known" in age_of_price(priced(config("other")), today)
    said = config("m", price={"input": 9, "output": 9})
    assert age_of_price(priced(said), today) == "price as the recipe says"


def test_a_price_that_the_recipe_says_whole_takes_nothing_from_a_list() -> None:
    said = config("gpt-4o", price={"input": 1, "output": 1})
    assert price_of(said) == PriceConfig(input=1, output=1)


def test_every_kind_of_token_has_its_price() -> None:
    price = PriceConfig(input=2, output=8, cached_input=0.5, cache_write=2.5, reasoning=4)
    million = 1_000_000
    usage = Usage(
        input_tokens=10 * million,
        cached_tokens=4 * million,
        cache_write_tokens=1 * million,
        output_tokens=3 * million,
        reasoning_tokens=2 * million,
    )
    whole = 5 * 2 + 4 * 0.5 + 1 * 2.5 + 1 * 8 + 2 * 4
    assert cost_usd(price, usage) == pytest.approx(whole)
    assert cost_usd(price, usage, batch=True) == pytest.approx(whole / 2)
    third = price.model_copy(update={"batch": 0.3})
    assert cost_usd(third, usage, batch=True) == pytest.approx(0.3 * whole)
    plain = PriceConfig(input=2, output=8)
    assert cost_usd(plain, usage) == pytest.approx(10 * 2 + 3 * 8)


def test_parts_never_exceed_their_whole() -> None:
    price = PriceConfig(input=2, output=8, cached_input=0.5, cache_write=2.5, reasoning=4)
    odd = Usage(input_tokens=10, cached_tokens=50, cache_write_tokens=50, reasoning_tokens=9)
    assert cost_usd(price, odd) == pytest.approx(10 * 0.5 / 1e6)
    minus = Usage(input_tokens=10, cached_tokens=-5, output_tokens=1, reasoning_tokens=-1)
    assert cost_usd(price, minus) == pytest.approx((10 * 2 + 8) / 1e6)


def test_a_long_prompt_costs_its_own_price_on_every_token() -> None:
    long = LongPrice(tokens=1000, input=4, output=12)
    price = PriceConfig(input=2, output=8, cached_input=0.2, reasoning=8, long=long)
    assert cost_usd(price, Usage(input_tokens=1000, output_tokens=10)) == pytest.approx(
        (1000 * 2 + 10 * 8) / 1e6
    )
    usage = Usage(input_tokens=1001, cached_tokens=1, output_tokens=10, reasoning_tokens=10)
    assert cost_usd(price, usage) == pytest.approx((1000 * 4 + 1 * 0.4 + 10 * 12) / 1e6)
