"""An answer in the teacher's tokens: where each lies in the bytes, and what else was likely there.

Servers differ in how they spell tokens. What is known of them is taken as it is; what is not is
left open, never guessed:

- ``bytes`` where there are some, else the token's text, unless it holds U+FFFD: a token that is a
  part of a character reads so, and its bytes are lost. Such a span is found again by the tokens
  after it.
- vLLM spells the parts of a character as empty tokens and the last part as the whole character
  (vllm-project/vllm issue 9463): those are one span of which only the bytes are known.
- llama.cpp's server gives one token for such a character, whole, with the log-prob and the
  alternatives of its last part: what was said of the parts before is lost.
- The end of an answer is a token with the name of an end, or an empty one; most servers give no
  log-prob of it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from overproof.records.exchange import TokenLogprob, TopLogprob

__all__ = ["TeacherText", "TeacherToken", "told"]

MOST_SUM = 1.01  # of listed probabilities: rounding may lift it a little above 1
RESYNC = 64  # bytes that must agree after a span of unknown tokens
SURE = 0.99


@dataclass(frozen=True)
class TeacherToken:
    """A token that the teacher wrote, and what it might have written in its place.

    ``data`` are its bytes and ``mass`` its probability. ``others`` are the alternatives with
    theirs, itself not among them. ``end`` is the mass of ending the answer there, ``open`` that of
    alternatives whose bytes are not known. ``is_end``: it is what ended the answer, and ``mass``
    is part of ``end``.
    """

    data: bytes
    mass: float
    others: tuple[tuple[bytes, float], ...] = ()
    end: float = 0.0
    open: float = 0.0
    is_end: bool = False

    @property
    def rest(self) -> float:
        """Mass that is not listed."""
        own = 0.0 if self.is_end else self.mass
        return max(0.0, 1.0 - own - self.end - self.open - sum(mass for _, mass in self.others))


@dataclass(frozen=True)
class TeacherText:
    """An answer in the teacher's tokens.

    ``tokens[i]`` covers ``data[starts[i]:starts[i + 1]]``; it is ``None`` where only the bytes are
    known. ``after`` is what the teacher wrote after the last byte, where that was told.
    """

    data: bytes
    tokens: tuple[TeacherToken | None, ...]
    starts: tuple[int, ...]
    after: TeacherToken | None = None

    def at(self, place: int) -> int:
        """Which token the byte at ``place`` belongs to."""
        return bisect_right(self.starts, place) - 1

    @classmethod
    def of(
        cls, tokens: Sequence[tuple[bytes, TeacherToken | None]], after: TeacherToken | None = None
    ) -> TeacherText:
        """Tokens with their bytes, in order."""
        starts = [0]
        for data, _ in tokens:
            starts.append(starts[-1] + len(data))
        return cls(
            data=b"".join(data for data, _ in tokens),
            tokens=tuple(token for _, token in tokens),
            starts=tuple(starts),
            after=after,
        )


def told(logprobs: Sequence[TokenLogprob], answer: str, end_names: frozenset[str]) -> TeacherText:
    """Read the log-probs of an answer.

    Args:
        logprobs: as the teacher gave them; those of reasoning may come before the answer's.
        answer: the text that they should spell, by which lost bytes are found again.
        end_names: how tokens that end an answer may be called.
    """
    spelled = [_data(token) for token in logprobs]
    last = len(logprobs)
    while last and _ends(logprobs[last - 1], end_names):
        last -= 1
    # Empty tokens before the end are parts of characters; then an empty alternative may be, too.
    in_parts = any(data == b"" for data in spelled[:last])
    after = None
    if last < len(logprobs):
        after = _token(logprobs[last], b"", end_names, in_parts, is_end=True)
    pieces: list[tuple[bytes, TeacherToken | None]] = []
    whole = answer.encode()
    i = 0
    while i < last:
        data = spelled[i]
        if data:
            pieces += _pieces(logprobs[i], data, end_names, in_parts)
            i += 1
            continue
        lost, i = i, _after_lost(spelled, i, last)
        span = b"".join(filter(None, spelled[lost:i]))
        if None in spelled[lost:i]:
            found = _found_again(pieces, spelled[i:last], whole)
            if found is None:  # where the others lie cannot be told
                return TeacherText.of(pieces)
            span = found
        pieces.append((span, None))
    return TeacherText.of(pieces, after)


def _data(token: TokenLogprob | TopLogprob) -> bytes | None:
    """A token's bytes; ``None`` where they are lost."""
    if token.data is not None:
        return bytes(token.data)
    return None if "\ufffd" in token.token or not token.token else token.token.encode()


def _ends(token: TokenLogprob | TopLogprob, end_names: frozenset[str]) -> bool:
    return token.token in end_names or (not token.token and token.data in ((), None))


def _after_lost(spelled: Sequence[bytes | None], i: int, last: int) -> int:
    """The first token after those that belong to the lost span which begins at ``i``."""
    while i < last and not spelled[i]:
        in_parts = spelled[i] == b""
        i += 1
        if in_parts and i < last and spelled[i]:
            return i + 1  # the last part, which stands for the whole character
    return i


def _pieces(
    token: TokenLogprob, data: bytes, end_names: frozenset[str], in_parts: bool
) -> list[tuple[bytes, TeacherToken | None]]:
    """A token as it was written; of a character that llama.cpp put together, the last part."""
    listed = any(top.data == token.data for top in token.top)
    if not listed and not data.isascii():
        parts = [top for top in token.top if top.data and 0x80 <= top.data[0] < 0xC0]
        for top in parts:
            part = bytes(top.data or ())
            if top.logprob == token.logprob and data.endswith(part) and part != data:
                last = token.model_copy(update={"token": top.token, "data": top.data})
                said = data[: -len(part)]
                return [(said, None), (part, _token(last, part, end_names, in_parts))]
        if parts:
            return [(data, None)]
    return [(data, _token(token, data, end_names, in_parts))]


def _found_again(
    pieces: Sequence[tuple[bytes, TeacherToken | None]],
    rest: Sequence[bytes | None],
    answer: bytes,
) -> bytes | None:
    """The bytes of a lost span: those of the answer up to where the next known tokens stand."""
    said = b"".join(data for data, _ in pieces)
    if not answer.startswith(said):
        said = said.lstrip()  # the answer was trimmed
        if not answer.startswith(said):
            return None
    known = b""
    for data in rest:
        if not data or len(known) >= RESYNC:
            break
        known += data
    start = len(said)
    stop = answer.find(known, start + 1) if known else len(answer)
    if stop <= start:
        return None
    span = answer[start:stop]
    try:
        span.decode()
    except UnicodeDecodeError:
        return None
    return span


def _token(
    token: TokenLogprob,
    data: bytes,
    end_names: frozenset[str],
    in_parts: bool,
    *,
    is_end: bool = False,
) -> TeacherToken | None:
    """A token with its alternatives by their bytes; ``None`` for numbers that cannot be."""
    tops = list(token.top)
    own = next((t for t in tops if t.token == token.token and t.data == token.data), None)
    if own is not None:
        tops.remove(own)
    mass = math.exp(token.logprob if own is None else own.logprob)
    others: dict[bytes, float] = {}
    empties = [0.0]
    end = unknown = 0.0
    for top in tops:
        share, spelled = math.exp(top.logprob), _data(top)
        if top.token in end_names:
            end += share
        elif spelled:
            others[spelled] = others.get(spelled, 0.0) + share
        elif spelled is None:
            unknown += share
        elif not top.token:
            empties.append(share)
    # One empty alternative is the end; of several, it cannot be told which.
    if not in_parts and not is_end and max(empties) >= SURE * sum(empties):
        end += sum(empties)
    else:
        unknown += sum(empties)
    if is_end:
        end += mass
    total = (0.0 if is_end else mass) + end + unknown + sum(others.values())
    if not total <= MOST_SUM:
        return None
    return TeacherToken(data, mass, tuple(others.items()), end, unknown, is_end)
