"""Recipes: parsed once, rejected loudly, with the line and the nearest key."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from overproof.config.load import LoadedRecipe, load_recipe, parse_recipe
from overproof.config.teacher import TermsConfig
from overproof.errors import ConfigError

RECIPE = """\
[run]
name = "a run"
dir = "runs/a"

[teacher]
kind = "openai"
model = "m"
base_url = "http://127.0.0.1:1/v1"
concurrency = 4

[data]
file = "data.csv"
gold = "label"

[task]
labels = ["yes", "no"]
"""


def test_a_minimal_recipe_gets_the_vetted_defaults() -> None:
    recipe = parse_recipe(RECIPE)
    assert recipe.task.labels == {"yes": "yes", "no": "no"}
    assert recipe.certificate.margin == 0.02
    assert recipe.certificate.alpha == 0.05


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("concurrency", "concurency", 9, "did you mean 'concurrency'"),
        ("gold =", "golden =", 13, "did you mean 'gold'"),
        ("[task]", "[taks]", 15, "did you mean 'task'"),
        ("concurrency = 4", "concurrency = 0", 9, "teacher.concurrency: Input should be greater"),
        ('kind = "openai"', 'kind = "opnai"', 6, "teacher.kind"),
        ('["yes", "no"]', '["yes"]', 16, "at least two"),
        ('["yes", "no"]', '["yes", "Yes"]', 16, "same words"),
        ('["yes", "no"]', '["yes", "yes"]', 16, "named twice"),
        ('base_url = "http://127.0.0.1:1/v1"\n', "", 5, "needs base_url"),
    ],
)
def test_a_mistake_is_named_with_its_line(old: str, new: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_recipe(RECIPE.replace(old, new), "r.toml")
    assert caught.value.culprit == f"r.toml:{line}"
    assert words in str(caught.value)


def test_broken_toml_is_named_with_line_and_column() -> None:
    with pytest.raises(ConfigError, match=r"^r\.toml:6:\d+: is not TOML"):
        parse_recipe(RECIPE.replace('kind = "openai"', "kind = openai"), "r.toml")


def test_a_literal_secret_in_a_header_is_refused() -> None:
    header = '[teacher.headers]\nX-Api-Key = "sk-123456"\n'
    with pytest.raises(ConfigError, match="env:VARIABLE") as caught:
        parse_recipe(RECIPE + header, "r.toml")
    assert "sk-123456" not in str(caught.value)


def test_a_password_in_the_url_is_refused() -> None:
    text = RECIPE.replace("http://127", "http://user:secret99@127")
    with pytest.raises(ConfigError, match="api_key_env") as caught:
        parse_recipe(text, "r.toml")
    assert "secret99" not in str(caught.value)


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    loaded = load_recipe(tmp_path)
    assert loaded.input_file == tmp_path / "data.csv"
    assert loaded.run_dir == tmp_path / "runs/a"


def test_a_missing_recipe_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="overproof init"):
        load_recipe(tmp_path / "none.toml")


def test_speed_may_change_between_runs_but_the_margin_may_not() -> None:
    first = LoadedRecipe(parse_recipe(RECIPE), Path("r.toml"))
    faster = RECIPE.replace("concurrency = 4", "concurrency = 9")
    laxer = RECIPE + "[certificate]\nmargin = 0.1\n"
    assert LoadedRecipe(parse_recipe(faster), Path("r.toml")).sha256 == first.sha256
    assert LoadedRecipe(parse_recipe(laxer), Path("r.toml")).sha256 != first.sha256


def test_examples_need_gold_and_a_pool() -> None:
    text = RECIPE + "examples_per_label = 2\n"
    with pytest.raises(ConfigError, match=r"data\.examples"):
        parse_recipe(text)
    with pytest.raises(ConfigError, match=r"data\.gold"):
        parse_recipe(text.replace('gold = "label"\n', ""))


def test_a_mistake_that_shows_in_use_names_its_line(tmp_path: Path) -> None:
    from overproof.config.mistakes import located

    path = tmp_path / "recipe.toml"
    path.write_text("[run]\nname = 'x'\n[task]\nprompt = '{{ nothing'\n")
    found = located(ConfigError("task.prompt: line 1", "is no template", "mend it"), path)
    assert found.culprit == f"{path}:4: task.prompt: line 1"
    assert found.way_out == "mend it"
    other = ConfigError("schema.json", "is not JSON")
    assert located(other, path) is other


@pytest.mark.parametrize("attestation", ["", "   ", "\t\n"])
def test_an_attestation_says_something(attestation: str) -> None:
    with pytest.raises(ValidationError, match="say which right you hold"):
        TermsConfig(training="attested", attestation=attestation)
    assert TermsConfig(training="attested", attestation=" mine ").attestation == " mine "
