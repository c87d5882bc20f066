"""Prompts: sandboxed templates, examples in their place, a second asking that differs."""

from __future__ import annotations

import pytest

from overproof.collect.inputs import InputItem
from overproof.collect.prompts import Prompter, choose_examples
from overproof.config.recipe import TaskConfig
from overproof.errors import ConfigError

SYSTEM = "{% for option in options %}{{ option }};{% endfor %} one of {{ labels | join('/') }}"


def task(**changes: object) -> TaskConfig:
    fields = {
        "labels": {"pos": "good", "neg": "bad"},
        "system": SYSTEM,
        "prompt": "T: {{ input }}!",
    }
    return TaskConfig(**{**fields, **changes})


def examples(n: int = 4) -> list[InputItem]:
    return [InputItem(f"i{k}", "x" * (k + 1), ("pos", "neg")[k % 2], k) for k in range(n)]


def test_letters_and_words_are_shown_as_options() -> None:
    letters = Prompter(task(), "letters", ())
    words = Prompter(task(), "words", ())
    assert letters.messages("hi")[0].content == "A. good;B. bad; one of A/B"
    assert words.messages("hi")[0].content == "good;bad; one of good/bad"
    assert letters.messages("hi")[-1].content == "T: hi!"
    assert letters.answers == {"pos": "A", "neg": "B"}


def test_examples_come_before_the_input_and_a_prefill_after() -> None:
    prompter = Prompter(task(), "words", examples(2))
    messages = prompter.messages("hi", prefill="go")
    assert [m.role for m in messages] == ["system", *["user", "assistant"] * 3]
    assert [m.content for m in messages[1:]] == ["T: x!", "good", "T: xx!", "bad", "T: hi!", "go"]


def test_the_second_asking_shuffles_examples_and_letters() -> None:
    first, second = (Prompter(task(), "letters", examples(6), variant=v) for v in (0, 1))
    assert second.answers == {"pos": "B", "neg": "A"}
    assert [m.content for m in first.messages("q")] != [m.content for m in second.messages("q")]
    assert sorted(m.content[-4:] for m in first.messages("q")[1::2]) == sorted(
        m.content[-4:] for m in second.messages("q")[1::2]
    )
    assert "letters" in second.varies()
    assert Prompter(task(), "words", (), variant=1).varies() == "the same prompt again"


def test_a_template_can_reach_nothing_of_the_system() -> None:
    for attack in (
        "{{ ''.__class__.__mro__ }}",
        "{{ labels.append(1) }}",
        "{{ cycler.__init__ }}",
        "{{ range(10 ** 9) }}",
        "{{ input / 2 }}",
        "{{ 1 / 0 }}",
        "{% include 'x' %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ):
        with pytest.raises(ConfigError, match="cannot be rendered"):
            Prompter(task(system=attack), "words", ())


@pytest.mark.parametrize(
    ("template", "words"), [("{{ inputt }}", "inputt"), ("{{ input", "is no template")]
)
def test_a_mistake_in_a_template_is_named(template: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Prompter(task(prompt=template), "words", ()).messages("hi")


def test_what_stands_around_the_input_is_known() -> None:
    assert Prompter(task(), "words", ()).around_input() == ("T: ", "!")
    assert Prompter(task(prompt="{{ input | upper }}"), "words", ()).around_input() is None


def test_examples_are_short_and_of_each_label_in_turn() -> None:
    chosen = choose_examples(examples(10), task(examples_per_label=2))
    assert [item.gold for item in chosen] == ["pos", "neg", "pos", "neg"]
    assert [len(item.text) for item in chosen] == [1, 2, 3, 4]
    with pytest.raises(ConfigError, match=r"fewer of label 'neg'"):
        choose_examples(examples(1), task(examples_per_label=1))


def test_a_prompt_that_never_shows_the_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="never shows the input"):
        Prompter(task(prompt="Classify!"), "words", ())
