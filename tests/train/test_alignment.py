"""Alignment by bytes against exact marginals: all that a toy teacher might write, added up."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_tokens import END, CanonicalTeacher, ToyTeacher, ToyTokens, aligned, exactly, masses

from overproof.records.logprob_codec import SparseRow
from overproof.train.lm.alignment import Ends, place
from overproof.train.lm.teacher_text import TeacherText, TeacherToken

LETTERS = (b"a", b"b", b"c")
PAIRS = [x + y for x, y in product(LETTERS, LETTERS)]


def teacher_of(rng: np.random.Generator, pieces: list[bytes], length: int) -> ToyTeacher:
    return ToyTeacher(pieces, rng.dirichlet(np.full(len(pieces), 0.7), size=length))


def sums(row: SparseRow) -> np.ndarray:
    return np.exp(row.logprobs.astype(float)).sum(1) + np.exp(row.tail.astype(float))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), listed=st.integers(1, 12))
def test_equal_vocabularies_give_the_teachers_own_numbers(seed: int, listed: int) -> None:
    rng = np.random.default_rng(seed)
    pieces = [*LETTERS, *PAIRS]
    teacher = teacher_of(rng, pieces, 5)
    choices = rng.integers(0, len(pieces), 5).tolist()
    student = ToyTokens(pieces)
    answer = [*(c + 1 for c in choices), END]  # the same tokens, however else they could be cut
    row = aligned(teacher.writes(choices, listed), student, answer)
    assert row.known.all()
    for n, (table, choice) in enumerate(zip(teacher.tables, choices, strict=True)):
        told = {choice, *np.argsort(-table, kind="stable")[:listed].tolist()}
        assert masses(row, n) == pytest.approx({i + 1: table[i] for i in told}, rel=1e-5)
        rest = max(0.0, 1.0 - sum(table[i] for i in told))
        assert np.exp(row.tail[n]) == pytest.approx(rest, abs=1e-6)
    assert masses(row, 5) == {END: 1.0}


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_finer_student_gets_the_exact_marginals(seed: int) -> None:
    rng = np.random.default_rng(seed)
    teacher = teacher_of(rng, PAIRS, 3)  # no piece begins another: nothing is left open
    student = ToyTokens(LETTERS)
    choices = rng.integers(0, 9, 3).tolist()
    text = teacher.writes(choices)
    answer = [*student.tokenize(text.data), END]
    row = aligned(text, student, answer)
    assert row.known.all()
    for n, marginal in enumerate(exactly(teacher.texts(), student, answer)):
        assert masses(row, n) == pytest.approx(marginal, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_coarser_student_gets_exact_masses_and_a_tail(seed: int) -> None:
    rng = np.random.default_rng(seed)
    teacher = teacher_of(rng, list(LETTERS), 6)
    student = ToyTokens(PAIRS)
    choices = rng.integers(0, 3, 6).tolist()
    text = teacher.writes(choices)
    answer = [*student.tokenize(text.data), END]
    row = aligned(text, student, answer)
    for n, marginal in enumerate(exactly(teacher.texts(), student, answer)):
        # What begins with another letter than was written could go on to any pair.
        first = choices[2 * n] if n < 3 else 0
        assert row.known[n] == (n == 3 or teacher.tables[2 * n][first] >= 0.5)
        if row.known[n]:
            assert (
                masses(row, n).items()
                <= {t: pytest.approx(m, abs=1e-6) for t, m in marginal.items()}.items()
            )
            assert answer[n] in masses(row, n)


def test_any_two_vocabularies_come_near_the_exact_marginals() -> None:
    """Where pieces overlap in every way, masses are estimates: near on average, one in sum."""
    rng = np.random.default_rng(5)
    distances, from_one_hot = [], []
    for _ in range(20):
        theirs = [*LETTERS, *(PAIRS[i] for i in rng.choice(9, 3, replace=False))]
        ours = ToyTokens([*LETTERS, *(PAIRS[i] for i in rng.choice(9, 3, replace=False))])
        teacher = CanonicalTeacher.of(teacher_of(rng, theirs, 4))
        texts, ends, written = teacher.texts(), Ends(), []
        sequences, shares = list(teacher.sequences), list(teacher.sequences.values())
        for i in rng.choice(len(sequences), 30, p=shares).tolist():
            text = teacher.writes(sequences[i])
            answer = [*ours.tokenize(text.data), END]
            ends.observe(text, place(text, answer, ours, END))
            written.append((text, answer))
        for text, answer in written[:4]:
            row = aligned(text, ours, answer, ends=ends)
            assert sums(row)[row.known] == pytest.approx(1.0, abs=1e-5)
            for n, marginal in enumerate(exactly(texts, ours, answer)[:-1]):
                if row.known[n]:
                    got = masses(row, n)
                    listed = sum(abs(m - marginal.get(t, 0.0)) for t, m in got.items())
                    distances.append(listed)
                    from_one_hot.append(2 * (1 - marginal[answer[n]]))
    assert len(distances) > 150
    assert np.mean(distances) < 0.25 * np.mean(from_one_hot)


def test_inside_a_token_unlisted_mass_does_not_overrule_what_is_listed() -> None:
    student = ToyTokens([bytes([i]) for i in range(97, 123)])
    # "hello" was written though 2 % is unlisted; after "hel" hardly any of that begins so.
    text = TeacherText.of([(b"hello", TeacherToken(b"hello", 0.01, ((b"well", 0.97),)))])
    row = aligned(text, student, student.tokenize(b"hello"))
    assert masses(row, 0)[student.ids[b"h"]] == pytest.approx(0.01, rel=1e-5)
    assert np.exp(row.tail[0]) == pytest.approx(0.02, rel=1e-4)
    for n in range(1, 5):
        assert masses(row, n) == {student.ids[b"hello"[n : n + 1]]: pytest.approx(1.0)}


def test_an_alternative_that_is_all_that_was_said_leaves_open_what_follows() -> None:
    student = ToyTokens([b" in", b"side", b" ", b"i", b"n"])
    text = TeacherText.of(
        [(b" inside", TeacherToken(b" inside", 0.6, ((b" in", 0.2), (b" i", 0.1), (b"x", 0.1))))]
    )
    row = aligned(text, student, student.tokenize(b" inside"))
    # " i" would not be followed by "n": the teacher has a piece for both.
    assert masses(row, 1) == {student.ids[b"side"]: pytest.approx(0.75)}
    assert np.exp(row.tail[1]) == pytest.approx(0.25)


def test_numbers_cut_otherwise_keep_their_mass() -> None:
    """Digit by digit against whole numbers: where one-to-one matching loses the token."""
    digits = [str(i).encode() for i in range(10)]
    student = ToyTokens([*digits, b"201", b"20", b"21", b"207"])
    text = TeacherText.of(
        [
            (b"2", TeacherToken(b"2", 0.9, ((b"3", 0.1),))),
            (b"0", TeacherToken(b"0", 0.8, ((b"1", 0.2),))),
            (b"1", TeacherToken(b"1", 0.5, ((b"7", 0.5),))),
        ],
        TeacherToken(b"", 1.0, end=1.0, is_end=True),
    )
    row = aligned(text, student, [student.ids[b"201"], END])
    got = masses(row, 0)
    assert got[student.ids[b"201"]] == pytest.approx(0.9 * 0.8 * 0.5)
    assert got[student.ids[b"207"]] == pytest.approx(0.9 * 0.8 * 0.5)
    assert got[student.ids[b"21"]] == pytest.approx(0.9 * 0.2)
    assert sums(row) == pytest.approx(np.ones(2), abs=1e-6)
