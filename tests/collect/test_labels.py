"""The label distribution is exact: checked against the enumeration of toy teachers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping

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

    def enumerate(self, labels: Mapping[str, bytes], depth: int) -> dict[str, float]:
        """Mass of each label, by walking through every answer token by token.

        Independent of the trie: an answer chooses a label as soon as all of its continuations
        (over the toy's own tokens) that choose any label choose that one; else it goes on.
        """
        mass = dict.fromkeys(labels, 0.0)

        def boundary(rest: bytes) -> bool:
            return not rest or not (rest[:1].isalnum() or rest[:1] == b"_")

        def walk(answer: bytes, probability: float, left: int) -> None:
            for token, share in self.next(answer).items():
                said = (answer + token).lstrip() if not answer else answer + token
                reached = [n for n, w in labels.items() if said.startswith(w)
                           and boundary(said[len(w):])]  # fmt: skip
                longest = max(reached, key=lambda n: len(labels[n]), default=None)
                possible = {n for n, w in labels.items() if w.startswith(said) and w != said}
                possible |= {longest} if longest else set()
                if token == END:
                    if longest and labels[longest] == said:
                        mass[longest] += probability * share
                elif len(possible) == 1:
                    mass[possible.pop()] += probability * share
                elif possible:
                    assert left, "the toy's labels are deeper than the walk"
                    walk(said, probability * share, left - 1)

        walk(b"", 1.0, depth)
        return mass


TOYS = [
    (["yes", "no"], [b"y", b"yes", b"n", b"no", b"e", b"s", b"o", b"t", b"."]),
    (["pos", "positive", "neg"], [b"pos", b"it", b"ive", b"p", b"os", b"neg", b"ne", b"g", b"!"]),
    (["a", "ab", "abc"], [b"a", b"b", b"c", b"ab", b"bc", b".", b"d"]),
    (["new york", "new jersey", "york"], [b"new", b" y", b"ork", b" york", b" j", b"ersey",
                                          b"york", b" "]),
]  # fmt: skip


@pytest.mark.parametrize(("labels", "tokens"), TOYS)
@pytest.mark.parametrize("seed", range(10))
def test_the_trie_equals_the_enumeration_of_a_toy_model(
    labels: list[str], tokens: list[bytes], seed: int
) -> None:
    toy = ToyTeacher([t for t in tokens if t.strip()], seed)
    trie = LabelTrie({label: label for label in labels}, fold=True, expand_above=0.0)
    mass = asyncio.run(trie.score(toy.top))
    assert mass is not None
    exact = toy.enumerate({label: label.encode() for label in labels}, depth=12)
    np.testing.assert_allclose(mass.low, [exact[label] for label in labels], atol=1e-6)
    np.testing.assert_allclose(mass.high - mass.low, 0, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 8), toy=st.sampled_from(TOYS))
def test_the_interval_holds_whatever_the_top_k_hides(
    seed: int, k: int, toy: tuple[list[str], list[bytes]]
) -> None:
    labels, tokens = toy
    teacher = ToyTeacher([t for t in tokens if t.strip()], seed)
    trie = LabelTrie({label: label for label in labels}, fold=True, expand_above=0.02)

    async def top(begun: str) -> list[tuple[bytes, float]]:
        return await teacher.top(begun, k)

    mass = asyncio.run(trie.score(top))
    assert mass is not None
    exact = teacher.enumerate({label: label.encode() for label in labels}, depth=12)
    values = np.array([exact[label] for label in labels])
    assert (mass.low <= values + 1e-9).all()
    assert (values <= mass.high + 1e-9).all()
    assert (mass.point > 0).all() or mass.high.min() < 1e-12


async def score(labels: list[str], answers: dict[str, list[tuple[bytes, float]]], **options: bool):
    asked: list[str] = []

    async def top(begun: str) -> list[tuple[bytes, float]]:
        asked.append(begun)
        return answers[begun]

    trie = LabelTrie({x: x for x in labels}, fold=options.get("fold", True))
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


async def test_a_label_that_is_a_prefix_of_another_ends_at_a_boundary() -> None:
    answers = {
        "": [(b"no", 1.0)],
        "no": [(b"", 0.5), (b"ne", 0.2), (b"thing", 0.2), (b".", 0.1)],
    }
    mass, _ = await score(["no", "none"], answers)
    np.testing.assert_allclose(mass.low, [0.6, 0.2])


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
    ],
)
def test_whole_answers_are_parsed_at_word_boundaries(text: str, label: str | None) -> None:
    labels = ["positive", "negative", "new", "new york"]
    assert parse_answer(text, {x: x for x in labels}, fold=True) == label


def test_every_pair_of_toy_labels_is_covered() -> None:
    assert all(len(set(labels)) == len(labels) for labels, _ in TOYS)
    assert any(b.startswith(a) for labels, _ in TOYS for a, b in itertools.permutations(labels, 2))
