from __future__ import annotations

import tomllib

import pytest
from pydantic import ValidationError

from overproof.config.load import parse_text_recipe
from overproof.config.synthesize import (
    STYLES,
    Documents,
    Evolve,
    Expand,
    Paraphrase,
    ReasoningGym,
)
from overproof.config.text_recipe import TextRecipe
from overproof.errors import ConfigError

HEAD = """\
[run]
name = "made"
dir = "run"
[teacher]
kind = "fake"
model = "fake"
[task]
kind = "text"
"""
EVERY = """\
[[synthesize]]
kind = "documents"
files = "notes/*.md"
count = 50
[[synthesize]]
kind = "reasoning_gym"
tasks = ["chain_sum", "leg_counting"]
[[synthesize]]
kind = "expand"
from = "all"
diversity = "embedding"
[[synthesize]]
kind = "evolve"
from = "all"
[[synthesize]]
kind = "paraphrase"
styles = ["short", "long"]
near_duplicate = 0.9
[[synthesize]]
kind = "reasoning_gym"
seed = 3
[synthesize.tasks]
sudoku = 2
gcd = { weight = 0.5, config = { max_numbers = 3 } }
"""


def recipe(text: str) -> TextRecipe:
    return TextRecipe.model_validate(tomllib.loads(HEAD + text))


def test_every_kind_is_read_with_its_defaults() -> None:
    docs, gym, expand, evolve, paraphrase, weighted = recipe(EVERY).synthesize
    assert isinstance(docs, Documents)
    assert (docs.files, docs.count, docs.context, docs.evidence) == (
        ("notes/*.md",), 50, False, True,
    )  # fmt: skip
    assert isinstance(gym, ReasoningGym)
    assert {name: task.weight for name, task in gym.tasks.items()} == {
        "chain_sum": 1.0,
        "leg_counting": 1.0,
    }
    assert (gym.diversity, gym.threshold) == ("exact", 1.0)
    assert isinstance(expand, Expand)
    assert (expand.seeds_from, expand.threshold, expand.rouge_l) == ("all", 0.95, 0.7)
    assert isinstance(evolve, Evolve)
    assert isinstance(paraphrase, Paraphrase)
    assert (paraphrase.styles, paraphrase.threshold) == (("short", "long"), 0.9)
    assert (paraphrase.seeds_from, paraphrase.temperature) == ("data", 0.7)
    assert isinstance(weighted, ReasoningGym)
    assert weighted.tasks["sudoku"].weight == 2.0
    assert weighted.tasks["gcd"].config == {"max_numbers": 3}
    assert len(set(STYLES)) == len(STYLES)
    assert Paraphrase(kind="paraphrase").threshold == 0.8
    assert Paraphrase(kind="paraphrase", diversity="embedding").threshold == 0.98


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ('kind = "rephrase"', "rephrase|paraphrase"),
        ("count = 3", "kind"),
        ('kind = "paraphrase"\ncount = 0', "count"),
        ('kind = "paraphrase"\ntemperature = 0', "temperature: 0 gives one answer"),
        ('kind = "paraphrase"\nstyles = ["a", " "]', "styles: holds an empty style"),
        ('kind = "paraphrase"\nstyls = ["a"]', "did you mean 'styles'"),
        ('kind = "expand"\nform = "all"', "did you mean 'from'"),
        ('kind = "expand"\nfrom = "test"', "'data' or 'all'"),
        ('kind = "expand"\ngenerated = 8', "generated: 8 of 8 examples.*use at most 7"),
        ('kind = "expand"\nrouge_l = 1.2', "rouge_l"),
        ('kind = "evolve"\nper_request = 6', "per_request"),
        ('kind = "documents"', "files is missing"),
        ('kind = "documents"\nfiles = []', "files"),
        ('kind = "documents"\nfiles = "a.txt"\nfrom = "all"', "unknown key 'from'"),
        ('kind = "documents"\nfiles = "a.txt"\nmin_chunk = 2000', "min_chunk: 2000 is above chunk"),
        ('kind = "reasoning_gym"\ntasks = []', "tasks"),
        ('kind = "reasoning_gym"\ntasks = ["gcd", "gcd"]', "names a task twice"),
        ('kind = "reasoning_gym"\ntasks = [1]', "list of names"),
        ('kind = "reasoning_gym"\ntasks = { gcd = 0 }', "weight"),
        ('kind = "reasoning_gym"\ntasks = { gcd = { config = { seed = 1 } } }', "seed is set by"),
        ('kind = "reasoning_gym"\ntasks = { gcd = { config = { size = 1 } } }', "set by count"),
        ('kind = "reasoning_gym"\ntasks = "gcd"\nnear_duplicate = 0.9', "use 'shingles'"),
    ],
)
def test_nonsense_is_refused_with_the_field_and_the_alternative(entry: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_text_recipe(f'{HEAD}[[synthesize]]\nkind = "evolve"\n[[synthesize]]\n{entry}\n')
    line = int(str(caught.value).split(":")[1])
    assert line >= 11  # within the second entry, or at its head


def test_a_recipe_without_file_and_without_strategies_has_no_prompts() -> None:
    with pytest.raises(ValidationError, match="synthesize"):
        recipe("")
