"""The label distribution is exact: checked against the enumeration of toy teachers."""

from __future__ import annotations

import asyncio
import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overproof.collect.labels import LabelTrie, parse_answer

END = b""


class ToyTeacher:
    """A language model over a few tokens with its own random distribution after each answer."""

    def __init__(self, tokens: list[bytes], seed: int) -> None:
        self.tokens = [*tokens, END]
        self._seed = seed

    def next(self, answer: bytes) -> dict[bytes, float]:
        rng = np.random.default_rng([self._seed, *answer])
        weights = rng.gamma(0.5, size=len(self.tokens)) + 1e-6
        return dict(zip(self.tokens, weights / weights.sum(), strict=True))

    async def top(self, begun: str, k: int | None = None) -> list[tuple[bytes, float]]:
        ranked = sorted(self.next(begun.encode()).items(), key=lambda item: -item[1])
        return ranked[:k]

    def enumerate(self, labels: list[str]) -> dict[str, float]:
        """Mass of each label, by walking through all answers token by token.

        An answer is judged when it ends, or when no label begins with it any more.
        """
        mass = dict.fromkeys(labels, 0.0)

        def walk(tokens: tuple[bytes, ...], probability: float) -> None:
            answer = b"".join(tokens).lstrip()
            ended = tokens[-1:] == (END,)
            longer = any(x.encode().startswith(answer) and len(x.encode()) > len(answer)
                         for x in labels)  # fmt: skip
            if ended or (answer and not longer):
                chosen = choose(tokens, labels)
                if chosen is not None:
                    mass[chosen] += probability
            elif len(tokens) < 12 and probability > 1e-12:
                for token, share in self.next(answer).items():
                    walk((*tokens, token), probability * share)

        walk((), 1.0)
        return mass


def choose(tokens: tuple[bytes, ...], labels: list[str]) -> str | None:
    """The definition, said of a whole answer: the longest label that it spells."""
    answer = b"".join(tokens)
    skipped = len(answer) - len(answer.lstrip())
    ends = {len(b"".join(tokens[:n])) - skipped for n in range(len(tokens) + 1)}
    answer = answer.lstrip()
    spelled = [
        label
        for label in labels
        if answer.startswith(label.encode())
        and (
            len(label.encode()) in ends
            or not re.match(r"\w", answer[len(label.encode()) :].decode(errors="replace"))
        )
    ]
    return max(spelled, key=len, default=None)


TOYS = [
    (["yes", "no"], [b"y", b"yes", b"n", b"no", b"e", b"s", b"o", b"t", b"."]),
    (["pos", "positive", "neg"], [b"pos", b"it", b"ive", b"p", b"os", b"neg", b"ne", b"g", b"!"]),
    (["a", "ab", "abc"], [b"a", b"b", b"c", b"ab", b"bc", b".", b"d"]),
    (["new york", "new jersey", "york"], [b"new", b" y", b"ork", b" york", b" j", b"ersey",
                                          b"york"]),
    (["no", "none", "nothing"], [b"no", b"n", b"ne", b"thing", b"o", b"t", b"not", b"e", b"."]),
    (["oui", "non"], [b"ou", b"i", b"non", b"n", b"on", b"!", b"o", b"u"]),
]  # fmt: skip


@pytest.mark.parametrize(("labels", "tokens"), TOYS)
@pytest.mark.parametrize("seed", range(10))
def test_the_trie_equals_the_enumeration_of_a_toy_model(
    labels: list[str], tokens: list[bytes], seed: int
) -> None:
    toy = ToyTeacher(tokens, seed)
    trie = LabelTrie({x: x for x in labels}, fold=True, expand_above=0.0, follow_all=True)
    mass = asyncio.run(trie.score(toy.top))
    assert mass is not None
    exact = toy.enumerate(labels)
    np.testing.assert_allclose(mass.low, [exact[label] for label in labels], atol=1e-6)
    np.testing.assert_allclose(mass.high - mass.low, 0, atol=1e-6)
    np.testing.assert_allclose(mass.point, mass.low, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    k=st.integers(1, 9),
    toy=st.sampled_from(TOYS),
    follow_all=st.booleans(),
)
def test_the_interval_holds_whatever_is_hidden(
    seed: int, k: int, toy: tuple[list[str], list[bytes]], follow_all: bool
) -> None:
    labels, tokens = toy
    teacher = ToyTeacher(tokens, seed)
    trie = LabelTrie({x: x for x in labels}, fold=True, expand_above=0.02, follow_all=follow_all)

    async def top(begun: str) -> list[tuple[bytes, float]]:
        return await teacher.top(begun, k)

    mass = asyncio.run(trie.score(top))
    assert mass is not None
    exact = teacher.enumerate(labels)
    values = np.array([exact[label] for label in labels])
    assert (mass.low <= values + 1e-9).all()
    assert (values <= mass.high + 1e-9).all()
    assert ((mass.point > 0) == (mass.high > 0)).all()  # never read as zero
    assert (mass.point <= mass.high).all()


async def score(labels: list[str], answers: dict[str, list[tuple[bytes, float]]], **options: bool):
    asked: list[str] = []

    async def top(begun: str) -> list[tuple[bytes, float]]:
        asked.append(begun)
        return answers[begun]

    trie = LabelTrie({x: x for x in labels}, **{"fold": True, **options})
    mass = await trie.score(top)
    assert mass is not None
    return mass, asked


async def test_one_request_where_first_tokens_are_distinct() -> None:
    top = [(b" Person", 0.5), (b"place", 0.3), (b"The", 0.1)]
    mass, asked = await score(["person", "place"], {"": top})
    assert asked == [""]
    np.testing.assert_allclose(mass.low, [0.5, 0.3])
    np.testing.assert_allclose(mass.high, [0.6, 0.4])


async def test_one_more_request_for_an_ambiguous_node() -> None:
    answers = {"": [(b"bill", 0.9), (b"other", 0.1)], "bill": [(b"ing", 0.75), (b"s", 0.25)]}
    mass, asked = await score(["billing", "bills", "other"], answers)
    assert asked == ["", "bill"]
    np.testing.assert_allclose(mass.low, [0.675, 0.225, 0.1])


async def test_a_label_that_is_a_prefix_of_another_is_told_apart() -> None:
    answers = {
        "": [(b"no", 0.8), (b"nothing", 0.1), (b"no,", 0.1)],
        "no": [(b"", 0.5), (b"ne", 0.3), (b".", 0.2)],
    }
    mass, asked = await score(["no", "none"], answers)
    assert asked == ["", "no"]
    np.testing.assert_allclose(mass.low, [0.8 * 0.7 + 0.1, 0.8 * 0.3])


async def test_a_beginning_that_one_label_alone_can_complete_is_an_interval() -> None:
    top = {"": [(b"ab", 0.6), (b"place", 0.4)], "ab": [(b"breviation", 0.5), (b"out", 0.5)]}
    mass, asked = await score(["abbreviation", "place"], top)
    assert asked == [""]
    np.testing.assert_allclose(mass.low, [0.0, 0.4])
    np.testing.assert_allclose(mass.high, [0.6, 0.4])
    np.testing.assert_allclose(mass.point, [0.6, 0.4])
    mass, asked = await score(["abbreviation", "place"], top, follow_all=True)
    assert asked == ["", "ab"]
    np.testing.assert_allclose(mass.low, [0.3, 0.4])
    np.testing.assert_allclose(mass.high, [0.3, 0.4])


async def test_half_a_character_is_never_prefilled() -> None:
    cat, dog = "猫".encode(), "狗".encode()
    assert cat[:1] == dog[:1]
    mass, asked = await score(["猫", "狗"], {"": [(cat[:1], 0.9), (cat, 0.1)]})
    assert asked == [""]
    np.testing.assert_allclose(mass.low, [0.1, 0.0])
    np.testing.assert_allclose(mass.high, [1.0, 0.9])
    assert mass.point[1] > 0
    tied, _ = await score(["猫", "狗"], {"": [(cat[:1], 1.0)]})
    assert tied.known == 0.0  # tells neither from the other


async def test_white_space_before_the_answer_is_followed() -> None:
    answers = {"": [(b"\n", 0.9), (b"yes", 0.1)], "\n": [(b"yes", 0.25), (b"no", 0.75)]}
    mass, asked = await score(["yes", "no"], answers)
    assert asked == ["", "\n"]
    np.testing.assert_allclose(mass.low, [0.325, 0.675])


async def test_letters_are_case_sensitive_and_words_are_not() -> None:
    top = {"": [(b"a", 0.6), (b"A", 0.3), (b"B", 0.1)]}
    letters, _ = await score(["A", "B"], top, fold=False)
    words, _ = await score(["A", "B"], top, fold=True)
    np.testing.assert_allclose(letters.low, [0.3, 0.1])
    np.testing.assert_allclose(words.low, [0.9, 0.1])


async def test_mass_that_is_not_seen_is_never_zero() -> None:
    mass, _ = await score(["x", "y"], {"": [(b"x", 0.5), (b"z", 0.4)]})
    np.testing.assert_allclose(mass.low, [0.5, 0.0])
    np.testing.assert_allclose(mass.high, [0.6, 0.1])
    np.testing.assert_allclose(mass.point, [0.5, 0.05])


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Positive.", "positive"),
        ("  **negative**", "negative"),
        ('"positive" because it is', "positive"),
        ("positively", None),
        ("I think positive", None),
        ("", None),
        ("new york city", "new york"),
        ("new", "new"),
        ("newer", None),
        ("“positive”…", "positive"),
        ("猫。", "猫"),
        ("是猫", None),
        ("_NEGATIVE_", "negative"),
        ("negative_sentiment", None),
        ("`new york`!", "new york"),
    ],
)
def test_whole_answers_are_parsed_at_word_boundaries(text: str, label: str | None) -> None:
    labels = ["positive", "negative", "new", "new york", "猫"]
    assert parse_answer(text, {x: x for x in labels}, fold=True) == label


def test_every_pair_of_toy_labels_is_covered() -> None:
    assert all(len(set(labels)) == len(labels) for labels, _ in TOYS)
    assert any(b.startswith(a) for labels, _ in TOYS for a, b in itertools.permutations(labels, 2))


@pytest.mark.parametrize(
    ("text", "label"),
    [("A", "x"), ("B.", "y"), ("**A**", "x"), ("(B) because", "y"), ("A) x", "x"), ("a", None),
     ("A difficult question, but B.", None), ("Because", None), ("A: x", "x")],
)  # fmt: skip
def test_a_letter_must_stand_alone(text: str, label: str | None) -> None:
    assert parse_answer(text, {"x": "A", "y": "B"}, fold=False) == label
