"""What is refused, and what is estimated, before anything is spent."""

from __future__ import annotations

import asyncio
import csv
import random
from pathlib import Path

import pytest

from overproof.clients.fake import FakeTeacher
from overproof.clients.protocol import Capabilities
from overproof.collect import session as session_module
from overproof.collect.plan import plan
from overproof.config.load import LoadedRecipe, load_recipe

RECIPE = """\
[run]
name = "before"
dir = "run"
[teacher]
kind = "fake"
model = "fake"
[data]
file = "data.csv"
train = 40
tune = 8
test = 12
[task]
labels = { yes = "agreement", no = "agree not" }
prior = "none"
repeats = 4
"""


@pytest.fixture
def recipe(tmp_path: Path):
    rng = random.Random(0)
    for name, length in (("data.csv", 8), ("test.csv", 9)):
        with (tmp_path / name).open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["text"])
            for _ in range(80):
                writer.writerow([" ".join(f"{rng.getrandbits(30):x}" for _ in range(length))])

    def make(text: str = RECIPE) -> LoadedRecipe:
        (tmp_path / "recipe.toml").write_text(text)
        return load_recipe(tmp_path)

    return make


def use(monkeypatch: pytest.MonkeyPatch, teacher: FakeTeacher) -> FakeTeacher:
    monkeypatch.setattr(session_module, "connect", lambda config, **_: teacher)
    return teacher


@pytest.mark.parametrize(
    ("task", "temperature", "problem"),
    [
        ("top_logprobs = 0", False, "offers no temperature, so its votes"),
        ("top_logprobs = 5", False, "offers neither log-probs nor a temperature"),
        ("top_logprobs = 0\ntemperature = 0", True, "task.temperature = 0: at this temperature"),
        ("top_logprobs = 0\nsamples = 1", False, None),
        ("top_logprobs = 0\nsamples = 1\ntemperature = 0", True, None),
        ("top_logprobs = 0", True, None),
    ],
)
def test_votes_that_would_all_be_the_same_are_refused(
    recipe, monkeypatch: pytest.MonkeyPatch, task: str, temperature: bool, problem: str | None
) -> None:
    use(monkeypatch, FakeTeacher(capabilities=Capabilities(temperature=temperature)))
    planned = asyncio.run(plan(recipe(RECIPE + task)))
    assert planned.ok is (problem is None)
    if problem:
        assert problem in planned.problems[0]
        assert "samples = 1 (hard labels)" in planned.problems[0]


def test_the_longest_of_several_inputs_is_found_and_its_file_named(
    recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = " ".join(["ab"] * 30)  # 30 tokens in fewer characters than others have
    with (tmp_path / "test.csv").open("a") as stream:
        stream.write(f"{text}\n")
    loaded = recipe(RECIPE.replace('"data.csv"', '"data.csv"\ntest_file = "test.csv"\ntest = 81'
                                   ).replace("test = 12\n", ""))  # fmt: skip
    can = Capabilities(top_logprobs=5, tokenize=True, assistant_prefill=True, context_length=28)
    use(monkeypatch, FakeTeacher(capabilities=can))
    (problem,) = asyncio.run(plan(loaded)).problems
    assert "test.csv: row 81: its prompt has 30 tokens" in problem


def test_calls_are_those_that_probed_inputs_took(recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = use(monkeypatch, FakeTeacher(labels=["agreement", "agree not"]))
    loaded = recipe(RECIPE.replace("prior", 'rendering = "words"\nprior'))
    blind = asyncio.run(plan(loaded, probe=0))
    assert blind.calls == 40 + 8 + 12 + 4 + 4
    planned = asyncio.run(plan(loaded, probe=6))
    an_input = teacher.calls / 6
    assert an_input > 1
    assert planned.calls == pytest.approx(an_input * 62, abs=1)  # the six are answered now
    assert asyncio.run(plan(loaded, probe=6)).calls == planned.calls
    assert teacher.calls == an_input * 6


def test_a_cap_on_money_without_a_price_is_a_problem(recipe, monkeypatch) -> None:
    teacher = use(monkeypatch, FakeTeacher())
    text = RECIPE.replace('"fake"', '"openai"', 1).replace(
        "[data]",
        'base_url = "http://127.0.0.1:9/v1"\nterms = { training = "allowed" }\n'
        "[budget]\nmax_cost_usd = 1\n[data]",
    )
    planned = asyncio.run(plan(recipe(text)))
    assert not planned.ok
    assert "price is unknown" in planned.problems[0]
    assert teacher.calls == 0


PAID = RECIPE.replace('"fake"', '"openai"', 1).replace(
    "[data]",
    'base_url = "http://127.0.0.1:9/v1"\nterms = { training = "allowed" }\n'
    "price = { input = 2.0, output = 8.0 }\n{more}\n[data]",
)


def paid(more: str = "") -> str:
    return PAID.replace("{more}", more)


def test_a_paid_teacher_is_asked_only_when_told_to(recipe, monkeypatch) -> None:
    teacher = use(monkeypatch, FakeTeacher())
    blind = asyncio.run(plan(recipe(paid()), probe=6))
    assert teacher.calls == 0
    assert blind.forecast is not None
    assert blind.forecast.asked == 0
    assert blind.cost_usd == blind.forecast.estimate.cost_usd.high  # at most
    assert blind.forecast.estimate.cost_usd.estimate is None
    assert blind.terms == "allowed, says the recipe"
    asked = asyncio.run(plan(recipe(paid()), ask=12))
    assert teacher.calls > 0
    assert (asked.probed, asked.probe_answered) == (12, 12)
    cost = asked.forecast.estimate.cost_usd
    assert cost.low <= cost.estimate <= cost.high < blind.cost_usd * 2
    calls = teacher.calls
    assert asyncio.run(plan(recipe(paid()), ask=12)).calls == asked.calls
    assert teacher.calls == calls  # the answers were kept


def test_the_budget_holds_for_what_plan_asks_and_is_forecast(recipe, monkeypatch) -> None:
    teacher = use(monkeypatch, FakeTeacher())
    planned = asyncio.run(plan(recipe(paid("[budget]\nmax_calls = 40")), ask=4))
    assert 0 < teacher.calls < 40
    (verdict,) = planned.verdicts
    assert verdict.startswith("the cap of 40 calls would stop it after about")
    stopped = asyncio.run(plan(recipe(paid("[budget]\nmax_calls = 20")), ask=40))
    assert not stopped.ok
    assert "budget.max_calls = 20" in stopped.problems[0]
    assert teacher.calls == 20


def test_terms_are_settled_before_anybody_is_asked(recipe, monkeypatch) -> None:
    teacher = use(monkeypatch, FakeTeacher())
    text = paid().replace("http://127.0.0.1:9/v1", "https://api.x.ai/v1")
    planned = asyncio.run(plan(recipe(text), ask=4))
    assert not planned.ok
    assert "forbids it" in planned.problems[0]
    assert teacher.calls == 0
