"""A recipe for the fake teacher, with data of made-up words."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest

from overproof.clients.fake import FakeTeacher
from overproof.collect import session as session_module
from overproof.config.load import LoadedRecipe, load_recipe

RECIPE = """\
[run]
name = "fake"
dir = "run"
[teacher]
kind = "fake"
model = "fake"
concurrency = 4
[data]
file = "data.csv"
gold = "label"
train = 60
tune = 12
test = 20
examples = 20
[task]
labels = { yes = "agreement", no = "refusal" }
system = '''
Choose.
{% for option in options %}{{ option }}
{% endfor %}'''
examples_per_label = 1
repeats = 10
prior = "none"
"""
OTHER = RECIPE + "[certificate]\nmargin = 0.2\n"
WORDS = [f"{a}{b}" for a in ("ka", "lo", "mi", "ne", "pu", "ra", "si", "to") for b in "bdfgkmnprs"]


def make_recipe(directory: Path, text: str = RECIPE) -> LoadedRecipe:
    rng = random.Random(0)
    with (directory / "data.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for i in range(160):
            writer.writerow([" ".join(rng.sample(WORDS, 8)), ("yes", "no")[i % 2]])
    (directory / "recipe.toml").write_text(text)
    return load_recipe(directory)


def use(monkeypatch: pytest.MonkeyPatch, teacher: FakeTeacher) -> FakeTeacher:
    monkeypatch.setattr(session_module, "connect", lambda config, **_: teacher)
    return teacher
