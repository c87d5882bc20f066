"""No secret that somebody writes into a recipe comes out of it again."""

from __future__ import annotations

import traceback

import pytest
from pydantic import ValidationError

from overproof.config.load import parse_recipe
from overproof.config.recipe import TeacherConfig
from overproof.errors import ConfigError

BASE = """\
[run]
name = "a run"
dir = "runs/a"

[data]
file = "data.csv"

[task]
labels = ["yes", "no"]

[teacher]
kind = "openai"
model = "m"
{teacher}
"""
URL = 'base_url = "http://127.0.0.1:1/v1"\n'
# Made up, in the shapes of well-known services.
KEYS = [
    "sk-proj-1234567890abcdefXYZ",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "hf_aBcDeFgHiJkLmNoPqRsTuVwXyZ01234567",
    "xoxb-123456789012-abcdefGHIJKL",
]
PLAIN = "q1w2e3r4t5-nothing-known"  # a secret without a known beginning


def written(teacher: str) -> str:
    return BASE.format(teacher=teacher)


def refusal(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse_recipe(text, "r.toml")
    return caught.value


def everything_said(error: ConfigError) -> str:
    """What a terminal, a log and a crash report would show of it."""
    return "\n".join([str(error), repr(error), *map(repr, _chain(error)),
                      *traceback.format_exception_only(error)])  # fmt: skip


def _chain(error: BaseException | None) -> list[BaseException]:
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


PLACES = {
    "api_key_env": URL + 'api_key_env = "{key}"',
    "api_key_header": URL + 'api_key_header = "{key}"',
    "base_url, path": 'base_url = "http://127.0.0.1:1/{key}/v1"',
    "base_url, query": 'base_url = "http://127.0.0.1:1/v1?key={key}"',
    "base_url, user": 'base_url = "http://{key}@127.0.0.1:1/v1"',
    "path, query": URL + 'path = "/chat/completions?api-version=1&code={key}"',
    "header by name": URL + 'headers = {{ X-Api-Key = "{key}" }}',
    "header by value": URL + 'headers = {{ X-Plain = "Bearer {key}" }}',
    "header, env": URL + 'headers = {{ X-Plain = "env:{key}" }}',
    "query by name": URL + 'query = {{ subscription-key = "{key}" }}',
    "query by value": URL + 'query = {{ q = "{key}" }}',
    "query, env": URL + 'query = {{ sig = "env:{key}" }}',
    "body by name": URL + 'body = {{ a = [{{ accessToken = "{key}" }}] }}',
    "body, list": URL + 'body = {{ a = {{ secret = ["{key}"] }} }}',
    "body by value": URL + 'body = {{ a = {{ b = ["x", "{key}"] }} }}',
    "a key of its own": URL + 'api_key = "{key}"',
    "as a key": URL + '"{key}" = 1',
    "of the wrong type": URL + 'concurrency = "{key}"',
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("place", PLACES)
def test_a_key_is_refused_wherever_it_stands_and_not_repeated(place: str, key: str) -> None:
    error = refusal(written(PLACES[place].format(key=key)))
    said = everything_said(error)
    assert key not in said
    assert key[:12] not in said
    assert error.culprit.startswith("r.toml:")


@pytest.mark.parametrize("place", [p for p in PLACES if "by name" in p or "query" in p])
def test_a_secret_without_a_known_beginning_is_told_by_its_name(place: str) -> None:
    if place in ("query by value", "query, env"):
        return
    said = everything_said(refusal(written(PLACES[place].format(key=PLAIN))))
    assert PLAIN not in said
    assert "env:VARIABLE" in said


@pytest.mark.parametrize(
    "name", ["key", "api-key", "apiKey", "token", "sig", "client_secret", "password", "code",
             "subscription-key", "Ocp-Apim-Subscription-Key"],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    for section in ("query", "body"):
        error = refusal(written(f'{URL}[teacher.{section}]\n"{name}" = "{PLAIN}"'))
        assert f"teacher.{section}: {name} looks like a secret" in str(error)
        assert PLAIN not in everything_said(error)


@pytest.mark.parametrize(
    "name",
    ["not a name", "1KEY", "A-KEY", "K" * 65, "", "abcdefghij0123456789klmnop",
     "aB3dE6gH9jK2mN5pQ8sT1vW4x"],
)  # fmt: skip
def test_what_is_no_name_of_a_variable(name: str) -> None:
    error = refusal(written(f'{URL}api_key_env = "{name}"'))
    assert "teacher.api_key_env" in str(error)
    assert "TEACHER_API_KEY" in str(error)
    assert not name or name not in everything_said(error)


@pytest.mark.parametrize(
    "name", ["TEACHER_API_KEY", "_k", "HF_TOKEN", "my_key", "AZURE_OPENAI_API_KEY_FOR_PROJECT_12"]
)
def test_names_of_variables(name: str) -> None:
    assert parse_recipe(written(f'{URL}api_key_env = "{name}"')).teacher.api_key_env == name


def test_a_recipe_that_names_its_secrets_holds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"SECRET_{i}" for i in range(len(KEYS))]
    for name, key in zip(names, KEYS, strict=True):
        monkeypatch.setenv(name, key)
    recipe = parse_recipe(
        written(
            f'{URL}api_key_env = "SECRET_0"\n'
            '[teacher.headers]\nX-Key = "env:SECRET_1"\n[teacher.query]\ncode = "env:SECRET_2"\n'
            "[teacher.body]\nmax_thinking_tokens = 5\nstop_token_ids = [2]\nstore = false\n"
            'token = { value = "env:SECRET_3", list = ["env:SECRET_4"] }'
        )
    )
    for text in (recipe.model_dump_json(), repr(recipe), str(recipe)):
        assert all(name in text for name in names)
        assert not any(key in text for key in KEYS)


def test_the_schema_by_itself_does_not_repeat_it_either() -> None:
    with pytest.raises(ValidationError) as caught:
        TeacherConfig.model_validate({"kind": "fake", "model": "m", "api_key_env": KEYS[0]})
    assert KEYS[0] not in str(caught.value)
    assert KEYS[0] not in repr(caught.value)


def test_a_query_string_belongs_into_its_section() -> None:
    for setting in ('base_url = "http://127.0.0.1:1/v1?api-version=2"',
                    URL + 'path = "/chat?api-version=2"'):  # fmt: skip
        assert "[teacher.query]" in str(refusal(written(setting)))


def test_a_password_may_not_be_a_number_either() -> None:
    assert "12345678" not in everything_said(
        refusal(written(f"{URL}[teacher.body]\npassword = 12345678"))
    )
