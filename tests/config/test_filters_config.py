"""``[[filters]]``: vetted defaults, and nonsense refused with the alternative."""

from __future__ import annotations

import tomllib
from typing import get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from overproof.config import filters
from overproof.config.filters import FilterConfig

ADAPTER: TypeAdapter[tuple[FilterConfig, ...]] = TypeAdapter(tuple[FilterConfig, ...])

SHOWN = r"""
[[filters]]
kind = "exact"
[[filters]]
kind = "near_duplicate"
on = "prompt"
threshold = 0.7
[[filters]]
kind = "semantic_duplicate"
[[filters]]
kind = "length"
unit = "words"
min = 3
[[filters]]
kind = "language"
allowed = ["en", "de"]
[[filters]]
kind = "refusals"
[[filters]]
kind = "repetition"
[[filters]]
kind = "regex"
must = ['^\d+$']
[[filters]]
kind = "json_schema"
schema = "answer.json"
[[filters]]
kind = "reasoning_gym"
extract = "tags"
[[filters]]
kind = "unit_tests"
[[filters]]
kind = "self_consistency"
pattern = 'answer is (\w+)'
[[filters]]
kind = "judge"
[[filters]]
kind = "decontaminate"
files = [{ path = "mmlu.jsonl", columns = ["question"] }]
"""


def test_every_kind_can_be_written_in_toml() -> None:
    read = ADAPTER.validate_python(tomllib.loads(SHOWN)["filters"])
    union = get_args(get_args(FilterConfig)[0])
    assert [type(one) for one in read] == list(union)
    assert {one.__name__ for one in union} <= set(filters.__all__)
    again = [one.model_dump(mode="json", by_alias=True) for one in read]
    assert ADAPTER.validate_python(again) == read


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "nonsense"}, "'near_duplicate'"),
        ({"kind": "near_duplicate", "threshold": 0.1}, "greater than or equal to 0.3"),
        ({"kind": "near_duplicate", "treshold": 0.8}, "Extra inputs"),
        ({"kind": "length", "min": 5, "max": 4}, "nothing could be kept"),
        ({"kind": "length", "unit": "tokens", "on": "prompt"}, "name one; a server counts no"),
        ({"kind": "length", "tokenizer": "x"}, "no meaning without unit = 'tokens'"),
        ({"kind": "language", "allowed": ["English"]}, "write 'en' for English"),
        ({"kind": "language", "allowed": []}, "at least 1 item"),
        ({"kind": "regex"}, "give a pattern in must or in must_not"),
        ({"kind": "regex", "must": ["("]}, "is no regular expression"),
        ({"kind": "regex", "must": [""]}, "matches everything"),
        ({"kind": "refusals", "phrases": ["*"]}, "is no regular expression"),
        ({"kind": "self_consistency", "pattern": "no group"}, "needs exactly one group"),
        ({"kind": "self_consistency", "min_samples": 1}, "greater than or equal to 2"),
        ({"kind": "judge", "keep": ["unjudged"]}, "see on_unjudged"),
        ({"kind": "judge", "keep": ["win", "loss"]}, "would keep nothing or everything"),
        ({"kind": "judge", "keep": []}, "would keep nothing or everything"),
        ({"kind": "judge", "probes": 0}, "greater than or equal to 5"),
        ({"kind": "decontaminate", "words": 6, "shortest": 7}, "use at most that"),
        ({"kind": "json_schema"}, "Field required"),
    ],
)
def test_nonsense_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ADAPTER.validate_python([settings])
