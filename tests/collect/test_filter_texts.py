"""Filters that look at one text: length, language, refusals, repetition, patterns, schemas."""

from __future__ import annotations

import json
import random
import time
import tomllib
from pathlib import Path

import pytest
from examples import answers, example, make

from overproof.collect.filters.refusals import refusal_in
from overproof.collect.filters.repetition import compression, final_loop, repeated_share
from overproof.errors import ConfigError, DataError, ModelError
from overproof.records.exchange import ToolCall

LABELLED = tomllib.loads((Path(__file__).parent / "refusal_answers.toml").read_text("utf-8"))


async def test_length_of_answers_prompts_and_reasoning() -> None:
    rows = [
        example("short", "one two three"),
        example("a prompt of more words", "one, two!", reasoning="because it is so"),
        example("x", ""),
    ]
    assert await make("length").drops(rows) == {2: "answer below 1 characters: 0"}
    words = make("length", unit="words", min=3, max=3)
    assert await words.drops(rows) == {
        1: "answer below 3 words: 2",
        2: "answer below 3 words: 0",
    }
    assert list(await make("length", on="prompt", unit="words", max=2).drops(rows)) == [1]
    assert list(await make("length", on="reasoning").drops(rows)) == [0, 2]


async def test_tokens_as_the_server_counted_them_or_as_a_tokenizer_does(tmp_path: Path) -> None:
    rows = [
        example("a", "b", output_tokens=9),
        example("c", "d"),
        example("e", "f", output_tokens=2),
    ]
    counted = make("length", unit="tokens", max=5)
    assert await counted.drops(rows) == {0: "answer above 5 tokens: 9"}
    assert "1 kept: the server did not count their tokens" in counted.notes
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    for name in (".", "tokenizer.json"):
        own = make("length", tmp_path, on="prompt", unit="tokens", max=2, tokenizer=name)
        assert list(await own.drops([example("one two"), example("one two three")])) == [1]
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ModelError, match="is no tokenizer"):
        make("length", tmp_path, unit="tokens", tokenizer="broken.json")
    with pytest.raises(ModelError, match="neither a file here"):
        make("length", tmp_path, unit="tokens", tokenizer="no-such-model")


async def test_language() -> None:
    rows = answers(
        "The quick brown fox jumps over the lazy dog, and nobody minds at all.",
        "Der schnelle braune Fuchs springt über den faulen Hund, und niemand stört sich daran.",
        "これは日本語で書かれた文章です。とても長いので、どの言語かはっきりと分かります。そう思います。",
        "Oui.",
        "```python\ndef springt(hund): return ['der', 'faule', 'Hund', 'und', 'so', 'weiter']\n```",
        "def add(self, x: int) -> None:\n    self._total += x  # noqa\n    return self._total[0:3]",
        "| Jahr | Wert |\n|---|---|\n" + "| zwölf | 12.50 |\n" * 10,
    )
    english = make("language", allowed=["en"])
    dropped = await english.drops(rows)
    assert list(dropped) == [1, 2]
    assert dropped[1].startswith("answer is in de: confidence ")
    assert english.notes == ["2 kept: too few letters for prose", "2 kept: too short to tell"]
    assert list(await make("language", allowed=["en", "de"]).drops(rows)) == [2]
    with pytest.raises(ConfigError, match="'xx' is no language that can be told"):
        make("language", allowed=["en", "xx"])


def test_refusals_on_a_labelled_set() -> None:
    """Both lists were written by whoever wrote the patterns: the figures flatter them."""
    refusals, others = LABELLED["refusals"], LABELLED["answers"]
    found = [text for text in refusals if refusal_in(text)]
    wrong = [text for text in others if refusal_in(text)]
    assert wrong == []
    missed = [text for text in refusals if text not in found]
    assert len(found) / len(refusals) >= 0.95, missed
    languages = {refusal_in(text)[0] for text in found}  # type: ignore[index]
    assert {"en", "de", "fr", "es", "it", "pt", "nl", "pl", "ru", "zh", "ja", "ko", "tr",
            "ar"} == languages  # fmt: skip


async def test_a_refusal_late_in_a_long_answer_is_an_answer() -> None:
    long = "Water boils at 100 °C at sea level. " * 20 + "I can't help with anything else."
    call = ToolCall(name="search", arguments="{}")
    calling = example("find", "I can't help with that.", tool_calls=(call,))
    rows = [*answers("Hm. I can't help with that.", long), calling]
    dropped = await make("refusals").drops(rows)
    assert dropped == {0: 'declines (en): "I can\'t help with"'}
    assert await make("refusals", short=10).drops(rows) == {}
    own = make("refusals", phrases=[r"water boils"])
    assert (await own.drops(rows))[1] == "declines (own): 'Water boils'"


def test_hostile_answers_do_not_stall_the_patterns() -> None:
    hostile = ["I'm sorry " * 5000, "a" * 100_000, "ich kann " * 5000, "." * 50_000, "\n" * 50_000,
               "I understand " + "w " * 20_000]  # fmt: skip
    begin = time.process_time()
    for text in hostile:
        refusal_in(text)
        final_loop(text)
        repeated_share(text)
    assert time.process_time() - begin < 20  # quadratic patterns would take minutes


LOOPS = {
    "sentence": "The capital is Paris. " + "I hope this helps! " * 30,
    "cut": "The capital is Paris. " + "I hope this helps! " * 30 + "I hope th",
    "word": "The answer is " + "very " * 100,
    "lines": "Items:\n" + "- eggs\n- milk\n" * 20,
    "unicode": "答えは" + "そうですね、" * 40,
    "one letter": "Yes" + "s" * 200,
    # What SmolLM2-135M-Instruct said at temperature 0, asked for the capital of France ...
    "a model's": "L'Étoile, la Marseillaise, la femme" + ", la femme au martyre" * 55,
    # ... and for a haiku about the sea.
    "a model's haiku": "In the depths of the ocean, a lone soul,\nA lone soul, a lone soul,\n"
    "The sea, a solitary soul" + ",\nA lone soul, a lone soul" * 40 + ",\nA lone",
}
NO_LOOPS = {
    "prose": "It was the best of times, it was the worst of times, it was the age of wisdom.",
    "rule": "# Title\n\nSome text.\n\n" + "-" * 200,
    "laugh": "That is funny, ha ha ha ha!",
    "chorus": "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, "
    "merrily, life is but a dream.",
    "empty": "",
}


@pytest.mark.parametrize("name", LOOPS)
async def test_loops_are_found(name: str) -> None:
    assert final_loop(LOOPS[name]) is not None
    dropped = await make("repetition").drops(answers(LOOPS[name]))
    assert dropped[0].startswith("ends in a loop: ")


@pytest.mark.parametrize("name", NO_LOOPS)
async def test_what_is_no_loop_is_kept(name: str) -> None:
    assert final_loop(NO_LOOPS[name]) is None
    assert await make("repetition").drops(answers(NO_LOOPS[name])) == {}


def test_the_loop_is_told_exactly() -> None:
    loop = final_loop("Well. " + "abc def " * 25)
    assert loop is not None
    assert (loop.unit, loop.times) in {("abc def", 24), ("abc def", 25), ("def abc", 24)}
    assert final_loop("x " * 39, characters=80) is None
    assert final_loop("x " * 41, characters=80) is not None


async def test_repetition_that_is_no_loop_at_the_end() -> None:
    rng = random.Random(0)
    middle = (
        "As I said, the cat sat on the mat and looked at me. " * 20 + "And so it ended, finally."
    )
    dropped = await make("repetition").drops(answers(middle))
    assert dropped[0].startswith("repeats its word sequences: ")
    table = "| n | n squared |\n|---|---|\n" + "".join(f"| {n} | {n * n} |\n" for n in range(60))
    code = "".join(
        f"def test_{n}():\n    assert add({n}, {rng.randint(0, 99)}) == {rng.randint(0, 99)}\n\n"
        for n in range(12)
    )
    listed = json.dumps([{"id": n, "name": f"user{rng.randint(0, 9999)}"} for n in range(40)])
    assert await make("repetition").drops(answers(table, code, listed)) == {}
    assert compression("no repetition here, or hardly any") < 1.5


async def test_patterns() -> None:
    rows = answers("Sum: 4\nDone.", "The sum is 4.", "As an AI, sum: 4")
    regex = make("regex", must=[r"(?m)^Sum: \d+$"])
    assert await regex.drops(rows) == {
        1: r"answer without a match of (?m)^Sum: \d+$",
        2: r"answer without a match of (?m)^Sum: \d+$",
    }
    against = make("regex", must_not=["as an ai"], ignore_case=True)
    assert await against.drops(rows) == {2: "answer matches as an ai: 'As an AI' at 0"}
    assert await make("regex", must_not=["as an ai"]).drops(rows) == {}
    on_prompt = make("regex", on="prompt", must=["number [01]$"])
    assert list(await on_prompt.drops(rows)) == [2]


async def test_json_of_a_schema(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    (tmp_path / "s.json").write_text(json.dumps(schema))
    rows = answers('{"n": 1}', '{"n": "1"}', "one", "{}", '{"n": 1} and more')
    dropped = await make("json_schema", tmp_path, schema="s.json").drops(rows)
    assert list(dropped) == [1, 2, 3, 4]
    assert all(why.startswith("answer does not follow the schema: ") for why in dropped.values())
    (tmp_path / "bad.json").write_text('{"type": 3}')
    with pytest.raises(ConfigError, match="no JSON Schema"):
        make("json_schema", tmp_path, schema="bad.json")
    (tmp_path / "half.json").write_text('{"type": ')
    with pytest.raises(DataError, match="is not JSON"):
        make("json_schema", tmp_path, schema="half.json")
    with pytest.raises(DataError, match="cannot be read"):
        make("json_schema", tmp_path, schema="missing.json")
