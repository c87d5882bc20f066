"""The keyed fingerprint of one request's text: what is kept where the text is not.

Two requests with a system prompt, a template or an injected instruction in common have the same
64-bit numbers in common, and nobody without the key can test a guess at what they stand for. The
traits beside them (how much a prompt asks for its reasoning, what kind of task it is) are few and
coarse. What does show is how long a text is and which requests share something.

Numbers are below 2**63, so that Parquet, numpy and Java hold them as they are; 0 stands for
nothing to hash. Each field is hashed under a name of its own (blake2b's ``person``, RFC 7693), so
that equal texts in different fields cannot be told to be equal.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from struct import unpack
from typing import Any

import msgspec

from overproof.errors import SecretError
from overproof.guard.key_strength import STRONG, weakness_of
from overproof.guard.normal_text import CAP, HALF, cap, fold, squeeze, squeezed_and_single
from overproof.guard.templates import skeleton
from overproof.guard.text.traits import text_traits
from overproof.guard.winnow import Winnower
from overproof.records.traffic import Event, Sketch

__all__ = ["Fingerprinter", "check_key", "read_key"]

WORDS = 8  # of an opening or a closing
WIDE = 120  # bytes that as many words rarely exceed; wider pieces have no spaces
NARROW = 60  # bytes of an opening without spaces: 20 Chinese characters
REMEMBERED = 1_024  # system prompts, turns and tool lists that are not computed twice
WHOLE = 65_536  # characters of a turn that are hashed exactly; of a longer one, both ends

DIGITS = bytes(48 if 48 <= byte <= 57 else byte for byte in range(256))
# The fields of a sketch from ``turn`` to ``language``.
_Turn = tuple[int, int, int, int, tuple[int, ...], float, float, float, int, int, str]
SYSTEM_ROLES = frozenset({"system", "developer"})


def read_key(variable: str) -> bytes:
    """The provider's key of fingerprints from an environment variable.

    Raises:
        SecretError: it is not set, or no good; the error never shows it.
    """
    key = os.environb.get(os.fsencode(variable), b"").strip()
    if not key:
        raise SecretError(
            variable,
            "the key of fingerprints is not in the environment",
            f"set it, and keep it as long as the logs: export {variable}=$(openssl rand -hex 32)",
        )
    check_key(key, variable)
    return key


def check_key(key: bytes, name: str = "key") -> None:
    """Refuse a key that could be guessed.

    Raises:
        SecretError: it is short or regular (`weakness_of`).
    """
    if weakness := weakness_of(key):
        raise SecretError(name, f"the key of fingerprints {weakness}", STRONG)


class Fingerprinter:
    """Sketches requests; equal keys give equal sketches, on any machine.

    Args:
        key: at least 16 secret bytes.

    Raises:
        SecretError: the key is too short or too regular.
    """

    def __init__(self, key: bytes) -> None:
        check_key(key)
        secret = hashlib.blake2b(key, person=b"overproof.guard").digest()
        self._begin = {
            field: hashlib.blake2b(key=secret, digest_size=8, person=field.encode()).copy
            for field in (
                *("system", "tools", "prompt", "turn", "template"),
                *("opening", "closing", "shingle"),
            )
        }
        self._winnower = Winnower(secret)
        self._systems: dict[str, tuple[int, bytes]] = {}
        self._tools: dict[tuple[str, ...], int] = {}
        self._turns: dict[tuple[str, str], _Turn] = {}

    def sketch(self, event: Event) -> Sketch:
        """The fingerprint of an event; the one it came with, if it came with one.

        Time and memory are bounded by 4 KB of each text, but for the exact hashes of the whole
        request, which read it once.
        """
        if event.text_sketch is not None:
            return event.text_sketch
        tools = self._tools_hash(event.tools) if event.tools else 0
        if not event.messages:
            return Sketch(tools=tools)
        request = _Request(event.messages)
        system, squeezed_system = self._system(request.system)
        said = request.system, request.turn
        known = self._turns.get(said)
        if known is None:
            known = self._turn(request, squeezed_system)
            if len(said[0]) + len(said[1]) <= 2 * CAP:
                if len(self._turns) >= REMEMBERED:
                    self._turns.clear()
                self._turns[said] = known
        prompt = self._prompt(request, system, known[0])
        return Sketch(system, tools, prompt, *known, request.chars, request.turns)

    def _turn(self, request: _Request, squeezed_system: bytes) -> _Turn:
        """What system prompt and last turn say, whatever stands between them."""
        turn = cap(request.turn)
        folded = fold(turn)
        squeezed, single = squeezed_and_single(folded)
        opening, closing = _ends(squeezed)
        traits = text_traits(cap(request.system), turn)
        return (
            self._whole("turn", squeezed, request.turn),
            self._hash("template", skeleton(folded, single=single)),
            self._hash("opening", opening),
            self._hash("closing", closing),
            self._shingles(squeezed_system, squeezed),
            traits.elicitation,
            traits.rubric,
            traits.synthesis,
            traits.technique,
            traits.capability,
            traits.language,
        )

    def _prompt(self, request: _Request, system: int, turn: int) -> int:
        """The whole request; of system prompt and last turn, which have hashes, their hashes."""
        if not request.chars and not request.rest:
            return 0
        ends = system.to_bytes(8, "little") + turn.to_bytes(8, "little")
        return self._hash("prompt", ends + _exact("\0".join(request.rest)))

    def _hash(self, field: str, text: bytes) -> int:
        if not text:
            return 0
        hasher = self._begin[field]()
        hasher.update(text)
        return int.from_bytes(hasher.digest(), "little") >> 1 or 1

    def _whole(self, field: str, squeezed: bytes, text: str) -> int:
        """A normalised text's hash; of one beyond the cap its middle counts as it is written."""
        if len(text) > CAP:
            squeezed += b"\0" + _exact(text[HALF:-HALF])
        return self._hash(field, squeezed)

    def _system(self, text: str) -> tuple[int, bytes]:
        if not text:
            return 0, b""
        known = self._systems.get(text)
        if known is None:
            squeezed = squeeze(fold(cap(text)))
            known = self._whole("system", squeezed, text), squeezed
            if len(text) <= 2 * CAP:
                if len(self._systems) >= REMEMBERED:
                    self._systems.clear()
                self._systems[text] = known
        return known

    def _tools_hash(self, tools: Sequence[str]) -> int:
        names = tuple(tools)
        known = self._tools.get(names)
        if known is None:
            written = "\0".join(sorted(set(names)))
            known = self._hash("tools", written.encode("utf-8", "replace"))
            if len(written) <= CAP:
                if len(self._tools) >= REMEMBERED:
                    self._tools.clear()
                self._tools[names] = known
        return known

    def _shingles(self, system: bytes, turn: bytes) -> tuple[int, ...]:
        """Of the head and the tail of system prompt and turn together, 2 KB each."""
        text = system + b"\n" + turn if system else turn
        if len(text) > CAP:
            text = text[:HALF] + text[-HALF:]
        begin, digests = self._begin["shingle"], []
        for selected in self._winnower.select_bytes(text):
            hasher = begin()
            hasher.update(selected)
            digests.append(hasher.digest())
        numbers = unpack(f"<{len(digests)}Q", b"".join(digests))
        return tuple([number >> 1 or 1 for number in numbers])


class _Request:
    """A request's texts: of the system, of the last user turn, and all the others.

    ``rest`` holds the roles in their order, the other turns as they are, and digests of pictures
    and the like: what makes two requests with equal system prompt and last turn different.
    """

    def __init__(self, messages: Sequence[Mapping[str, Any]]) -> None:
        systems: list[str] = []
        others: list[str] = []
        self.rest: list[str] = []
        self.chars = 0
        self.turns = 0
        turn = last = -1
        for message in messages:
            role = message.get("role")
            content = message.get("content")
            text, typed = (content, True) if isinstance(content, str) else _text(content)
            self.chars += len(text)
            if content.__class__ is list and (seen := _rest(content)):
                self.rest.append(seen)
            if isinstance(role, str) and role in SYSTEM_ROLES:
                systems.append(text)
                continue
            self.rest.append(role if isinstance(role, str) else "")
            if text:
                last = self.turns
                if typed and role == "user":
                    turn = last
            others.append(text)
            self.turns += 1
        turn = turn if turn >= 0 else last
        self.turn = others.pop(turn) if turn >= 0 else ""
        self.rest += others
        self.system = systems[0] if len(systems) == 1 else "\n".join(systems)


def _exact(text: str) -> bytes:
    """A text as it is written; of one beyond 64 Ki characters both halves of that, and its length.

    Hashing ten megabytes would take longer than everything else together.
    """
    if len(text) > WHOLE:
        text = f"{text[: WHOLE // 2]}\0{len(text)}\0{text[-(WHOLE // 2) :]}"
    return text.encode("utf-8", "replace")


def _text(content: Any) -> tuple[str, bool]:
    """The text of content in parts, as OpenAI, Anthropic and the responses API write them.

    Returns:
        The text, and whether somebody typed it; otherwise it is what a tool gave back.
    """
    if not isinstance(content, list | tuple):
        return "", False
    said, given = [], []
    for part in content:
        if isinstance(part, str):
            said.append(part)
        elif isinstance(part, Mapping):
            text = part.get("text")
            if isinstance(text, str):
                said.append(text)
            elif isinstance(inner := part.get("content"), str):
                given.append(inner)
            elif isinstance(inner, list):
                given += [
                    piece["text"]
                    for piece in inner
                    if isinstance(piece, Mapping) and isinstance(piece.get("text"), str)
                ]
    return "\n".join(said or given), bool(said)


def _rest(content: Any) -> str:
    """Pictures and the like, which make two requests different though their texts agree."""
    if not isinstance(content, list | tuple):
        return ""
    parts = [
        part
        for part in content
        if isinstance(part, Mapping) and not isinstance(part.get("text"), str)
    ]
    if not parts:
        return ""
    try:
        return hashlib.blake2b(msgspec.json.encode(parts, enc_hook=_kind)).hexdigest()
    except (RecursionError, ValueError, TypeError):
        return "?"


def _kind(value: Any) -> str:
    return type(value).__name__


def _ends(squeezed: bytes) -> tuple[bytes, bytes]:
    """The first and the last words, digits alike; nothing where they would be the whole turn."""
    first = squeezed.split(b" ", WORDS)
    if len(first) <= WORDS:
        if len(squeezed) <= WIDE:
            return b"", b""
        return squeezed[:NARROW].translate(DIGITS), squeezed[-NARROW:].translate(DIGITS)
    last = squeezed.rsplit(b" ", WORDS)
    opening, closing = b" ".join(first[:WORDS]), b" ".join(last[1:])
    if len(opening) > WIDE:
        opening = squeezed[:NARROW]
    if len(closing) > WIDE:
        closing = squeezed[-NARROW:]
    return opening.translate(DIGITS), closing.translate(DIGITS)
