"""A teacher's log-probs put onto another vocabulary, by bytes.

A teacher's tokens and their alternatives say something of the *bytes* that it would write; the
student's tokens are other pieces of the same bytes. At every token of the student the target is

    P(the student's tokenization of the teacher's text goes on with v | the bytes so far)

for the tokens v of which the alternatives tell something; the rest of the mass is the tail.

How it is read off, at a student's token that begins u bytes into the answer:

1. The teacher's token there may have begun earlier, so that some of its bytes w are said. The
   alternatives that begin with w are left, and their masses divided by what is left. Of the mass
   that was not listed, as large a share is left as the share of the student's tokens that begin
   with w: a listed token is not overruled by unlisted ones that nearly all begin otherwise. An
   alternative that *is* w leaves open what follows: its mass joins the tail. One that is a shorter
   piece of w is left out: who writes w in one piece does not write it in two.
2. Each alternative goes to the token that the student's tokenization of its bytes begins with. If
   that token is all of its bytes and a longer one begins with them, the text that follows could
   still be merged with it. It gets the share of cases in which a student's token was seen to end
   where this piece of the teacher ends (``Ends``, counted in the data itself; 1 for the same
   vocabulary); the rest is tail.
3. Where the student's own token spans several of the teacher's, the chain of those that were
   written is followed: their masses multiply, and the alternatives at each step join what was
   said before them. Where it ends with a piece that is often merged with the next, the next
   position's alternatives tell how often it would have been.
4. The teacher's end goes to the student's end.

Nothing is invented: listed tokens and tail sum to one, and for equal vocabularies they are the
teacher's numbers. A token is not known if more than half of its mass is open for one of these
reasons (rather than merely unlisted), and from where the bytes of teacher and student part.

Matching tokens one to one and suppressing the others is what makes GOLD collapse where teacher and
student cut numbers differently (X-Token, arXiv 2605.21699). Chains give such tokens their mass
here, and the tail suppresses nothing; no projection has to be learned.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from overproof.records.logprob_codec import SparseRow
from overproof.train.lm.teacher_text import TeacherText, TeacherToken

__all__ = ["Aligned", "Ends", "Placed", "StudentTokens", "align", "place"]

MOST_OPEN = 0.5
PRIOR = 2.0  # cases that the rate of all pieces counts for in the rate of one
RARELY_MERGED = 0.95  # of such a rate on, nothing is looked up of what might have been merged
NO_TAIL = 1e-9  # less than what rounding leaves of a sum of one


class StudentTokens(Protocol):
    """What alignment needs to know of a student's tokenizer; see ``student_tokens.TokenBytes``."""

    def bytes_of(self, token: int) -> bytes:
        """What a token stands for; nothing for a special one."""
        ...

    def first(self, data: bytes) -> int | None:
        """The token that the tokenization of ``data`` begins with, ``None`` if there is none."""
        ...

    def share_beginning(self, data: bytes) -> float:
        """The share of the vocabulary's tokens that begin with ``data`` and are longer."""
        ...


@dataclass(frozen=True)
class Placed:
    """Where a student's tokens lie in the teacher's bytes.

    ``spans`` has one entry a token: where it begins and ends, ``None`` for what is not to be found
    there. ``lead`` is what the first token has before the teacher's bytes begin: the space that
    SentencePiece puts before a text, or nothing. ``parted`` counts the tokens from where the bytes
    part; ``begin`` is where the answer begins.
    """

    spans: tuple[tuple[int, int] | None, ...]
    lead: bytes
    parted: int
    begin: int


@dataclass
class Ends:
    """How often a student's token ends where a piece of the teacher does, by the piece's bytes."""

    seen: Counter[bytes] = field(default_factory=Counter)
    met: Counter[bytes] = field(default_factory=Counter)
    _rates: dict[bytes, float] = field(default_factory=dict)
    _overall: float | None = None

    def observe(self, text: TeacherText, placed: Placed) -> None:
        """Count one answer."""
        ends = {span[1] for span in placed.spans if span is not None}
        last = max(ends, default=0)
        for token, end in zip(text.tokens, text.starts[1:], strict=True):
            if token is not None and placed.begin < end <= last:
                self.seen[token.data] += 1
                self.met[token.data] += end in ends
        self._rates.clear()
        self._overall = None

    def rate(self, piece: bytes) -> float:
        """The rate of ``piece``, drawn towards that of all pieces where it was rarely seen."""
        rate = self._rates.get(piece)
        if rate is None:
            if self._overall is None:
                self._overall = self.met.total() / max(1, self.seen.total()) if self.seen else 1.0
            rate = (self.met[piece] + PRIOR * self._overall) / (self.seen[piece] + PRIOR)
            self._rates[piece] = rate
        return rate


@dataclass(frozen=True)
class Aligned:
    """An answer's signal in the student's tokens.

    ``row`` has one entry a student's token, likeliest first; ``parted`` of them are not known
    because the bytes of teacher and student part before them.
    """

    row: SparseRow
    parted: int


def place(
    text: TeacherText,
    answer: Sequence[int],
    student: StudentTokens,
    end: int,
    said_by_teacher: str = "",
) -> Placed:
    """Find a student's answer in the teacher's bytes.

    The answer may have been trimmed, reasoning may stand before it, the student's tokenizer may
    put a space before it, and its chat template something else (an empty thought). Where the
    bytes part, everything from there on has no place.

    Args:
        text: the answer in the teacher's tokens.
        answer: the student's tokens of the answer and what ends it.
        student: the student's tokens.
        end: the student's token that ends an answer.
        said_by_teacher: the answer's own text, by which it is found among what a template adds.
    """
    n = next((i for i, token in enumerate(answer) if token == end), len(answer))
    pieces = [student.bytes_of(token) for token in answer[:n]]
    said, data = b"".join(pieces), text.data
    skips = [0, 1] if said.startswith(b" ") else [0]
    if said_by_teacher and (inside := said.rfind(said_by_teacher.encode())) > 0:
        skips.append(inside)
    blanks = len(data) - len(data.lstrip())
    found: list[tuple[int, int, int]] = []
    for skip in skips:
        inside = data.rfind(said[skip:]) if len(said) > skip else -1
        found += [
            (_agreeing(said[skip:], data[begin:]), -skip, begin)
            for begin in (0, blanks, inside)
            if begin >= 0
        ]
    matched, minus, begin = max(found, key=lambda each: each[:2])
    lead = b" " if minus == -1 and said.startswith(b" ") else b""
    spans: list[tuple[int, int] | None] = []
    at, parted = minus, 0
    for i, piece in enumerate(pieces):
        start, at = at, at + len(piece)
        if i == 0 and lead:
            start = 0
        parted += at > matched
        is_there = 0 <= start < at <= matched
        spans.append((begin + start, begin + at) if is_there else None)
    if n < len(answer):
        is_whole = at == matched and begin + at == len(data)
        parted += at > matched
        spans.append((begin + at, begin + at) if is_whole else None)
        spans.extend(None for _ in answer[n + 1 :])
    return Placed(tuple(spans), lead, parted, begin)


def align(
    text: TeacherText,
    answer: Sequence[int],
    student: StudentTokens,
    *,
    end: int,
    k: int,
    ends: Ends,
    placed: Placed | None = None,
) -> Aligned:
    """Put the teacher's log-probs of an answer onto the student's tokens.

    Args:
        text: the answer in the teacher's tokens.
        answer: the student's tokens of the answer and what ends it, A of them.
        student: the student's tokens.
        end: the student's token that ends an answer.
        k: tokens kept at each place, the answer's own among them; the rest joins the tail.
        ends: what ``Ends.observe`` counted, in these answers or a sample of them.
        placed: what ``place`` found, if that is known already.
    """
    placed = placed or place(text, answer, student, end)
    n = len(answer)
    row = SparseRow(
        np.zeros((n, k), np.int32),
        np.full((n, k), -np.inf, np.float32),
        np.full(n, -np.inf, np.float32),
        np.zeros(n, np.bool_),
    )
    for i, (token, span) in enumerate(zip(answer, placed.spans, strict=True)):
        if span is None:
            continue
        walk = _Walk(text, student, ends, end, b"" if i else placed.lead)
        if walk.run(token, *span):
            _keep(row, i, walk.masses, token)
    return Aligned(row, placed.parted)


class _Walk:
    """The masses of one student's token and of what could stand in its place.

    ``masses`` is by token; ``open`` is mass that may belong to any of them, or to none.
    """

    def __init__(
        self, text: TeacherText, student: StudentTokens, ends: Ends, end: int, lead: bytes
    ) -> None:
        self.masses: defaultdict[int, float] = defaultdict(float)
        self.open = 0.0
        self._text, self._student, self._ends, self._end = text, student, ends, end
        self._said = lead  # bytes since the student's token began
        self._own, self._token = b"", end

    def run(self, token: int, start: int, stop: int) -> bool:
        """Follow the teacher's tokens from ``start`` to ``stop``; whether that tells something."""
        text = self._text
        if start == stop:
            if text.after is None:
                return False
            self._others(text.after, b"", 1.0, is_first=True)
            return self.open <= MOST_OPEN
        self._own, self._token = self._said + text.data[start:stop], token
        i = text.at(start)
        before = text.data[text.starts[i] : start]
        weight, is_first = 1.0, True
        while True:
            teacher = text.tokens[i]
            if teacher is None:
                self.open += weight
                break
            total = self._others(teacher, before, weight, is_first=is_first)
            if total <= 0.0:
                return False
            weight *= teacher.mass / total
            self._said += teacher.data[len(before) :]
            before, is_first, i = b"", False, i + 1
            if len(self._said) > len(self._own):
                self.masses[token] += weight
                break
            if len(self._said) == len(self._own):
                following = text.tokens[i] if i < len(text.tokens) else text.after
                self._ended(weight, self._rate(self._own, teacher.data), following)
                break
        return self.open <= MOST_OPEN

    def _others(
        self, teacher: TeacherToken, before: bytes, weight: float, *, is_first: bool
    ) -> float:
        """Share out what might have been written instead; returns the mass that all have left.

        ``before`` are the bytes of ``teacher`` that are said already.
        """
        n = len(before)
        left = [(p, m) for p, m in teacher.others if not n or p.startswith(before)]
        share = self._student.share_beginning(before) if n else 1.0
        rest, unknown = teacher.rest * share, teacher.open * share
        end = 0.0 if n else teacher.end
        written = 0.0 if teacher.is_end else teacher.mass
        total = written + sum(mass for _, mass in left) + rest + unknown + end
        if total <= 0.0:
            return 0.0
        weight /= total
        for piece, mass in left:
            if n and piece == before:
                self.open += weight * mass  # what follows it is not told
            else:
                self._give(self._said + piece[n:], piece, weight * mass)
        if end:
            first = self._end if is_first else self._student.first(self._said)
            if first is not None:
                self.masses[first] += weight * end
        self.open += weight * unknown
        if n or not is_first:
            self.open += weight * rest  # it begins as what is said, and goes on in any way
        return total

    def _give(self, data: bytes, piece: bytes, mass: float) -> None:
        """Mass of a text that goes on with ``data``, of which ``piece`` is the teacher's last."""
        token = self._token if data == self._own else self._student.first(data)
        if token is None:
            self.open += mass
            return
        is_all = len(self._student.bytes_of(token)) >= len(data)
        rate = self._rate(data, piece) if is_all else 1.0
        self.masses[token] += mass * rate
        self.open += mass * (1.0 - rate)

    def _rate(self, data: bytes, piece: bytes) -> float:
        """How often a token ends with ``data``, the last of it ``piece``, and is not merged."""
        return self._ends.rate(piece) if self._student.share_beginning(data) else 1.0

    def _ended(self, weight: float, rate: float, following: TeacherToken | None) -> None:
        """Mass of the student's own token, which ends where the teacher's does.

        Had the teacher gone on otherwise, the two might have been one token of the student.
        """
        if rate >= RARELY_MERGED:
            self.masses[self._token] += weight
            return
        if following is None:
            self.masses[self._token] += weight * rate
            self.open += weight * (1.0 - rate)
            return
        written = 0.0 if following.is_end else following.mass
        vague = following.rest + following.open
        total = written + sum(m for _, m in following.others) + vague + following.end
        weight /= total or 1.0
        for piece, mass in following.others:
            self._give(self._own + piece, piece, weight * mass)
        self.masses[self._token] += weight * (written + following.end + vague * rate)
        self.open += weight * vague * (1.0 - rate)


def _keep(row: SparseRow, i: int, masses: Mapping[int, float], own: int) -> None:
    """Enter the likeliest tokens, the answer's own among them; the others join the tail."""
    k = row.ids.shape[1]
    likeliest = heapq.nlargest(k, masses.items(), key=lambda item: item[1])
    if own in masses and all(token != own for token, _ in likeliest):
        likeliest[-1] = (own, masses[own])
    kept = [(token, mass) for token, mass in likeliest if mass > 0.0]
    for place_, (token, mass) in enumerate(kept):
        row.ids[i, place_] = token
        row.logprobs[i, place_] = math.log(mass)
    left = 1.0 - sum(mass for _, mass in kept)
    row.tail[i] = math.log(left) if left > NO_TAIL else -math.inf
    row.known[i] = True


def _agreeing(one: bytes, other: bytes) -> int:
    """How many bytes the beginnings of both share."""
    if other.startswith(one):
        return len(one)
    n = min(len(one), len(other))
    parts = np.frombuffer(one[:n], np.uint8) != np.frombuffer(other[:n], np.uint8)
    return int(parts.argmax()) if parts.any() else n
