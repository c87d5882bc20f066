"""The texts of a simulated log: template banks, payloads, questions; English and Chinese.

A bank is a directory of TOML. In a template ``<<a|b>>`` is a choice, made once for whoever uses it,
and ``{payload}``, ``{question}``, ``{person}`` … are slots, filled at every use. The banks ``fit``
and ``test`` share no run of eight words, so that what is fitted on one is unseen in the other.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

__all__ = ["Bank", "Family", "Template", "bank_dir", "expand"]

BANKS = Path(__file__).with_name("banks")
CHOICE = re.compile(r"<<(.*?)>>", re.S)
SLOT = re.compile(r"\{([a-z0-9]+)\}")
FAMILIES = ("elicitation", "synthesis", "rubric", "etl", "frameworks", "benchmarks", "techniques")
LANGUAGES = ("en", "zh")
QUESTIONS = 3_000
# Characters that a sentence of the payload grammar has on average, to know how many to draw.
SENTENCE_CHARS = {"en": 52, "zh": 20}
SPACE = {"en": " ", "zh": ""}

Filler = Callable[[Random], str]


@dataclass(frozen=True)
class Family:
    """One way to put something; ``place`` is where an injected instruction stands."""

    name: str
    language: str
    text: str
    place: str = "after"


def bank_dir(name: str) -> Path:
    """The directory of a bank's files."""
    return BANKS / name


def expand(text: str, rng: Random) -> str:
    """Make every choice of a template."""
    return CHOICE.sub(lambda found: rng.choice(found[1].split("|")), text)


class Template:
    """A template with its choices made, ready to be filled again and again.

    Args:
        text: with slots; every other brace stands for itself.
        fillers: what fills each slot that is not given at the time.
    """

    __slots__ = ("_draws", "_format", "names")

    def __init__(self, text: str, fillers: Mapping[str, Filler]) -> None:
        parts = SLOT.split(text)
        self.names = tuple(parts[1::2])
        self._draws = tuple(fillers.get(name) for name in self.names)
        literal = [part.replace("%", "%%") for part in parts[::2]]
        self._format = "%s".join(literal)

    def fill(self, rng: Random, given: Mapping[str, str] | None = None) -> str:
        """The text with its slots filled; ``given`` comes before what is drawn."""
        if not self.names:
            return self._format % ()
        if not given:
            return self._format % tuple([draw(rng) if draw else "" for draw in self._draws])
        return self._format % tuple(
            [
                given[name] if name in given else draw(rng) if draw else ""
                for name, draw in zip(self.names, self._draws, strict=True)
            ]
        )


def _word(words: Sequence[str]) -> Filler:
    n = len(words)
    return lambda rng: words[int(rng.random() * n)]


def _number(rng: Random) -> str:
    return str(int(2 + 10 ** (rng.random() * 4)))


def _code(rng: Random) -> str:
    return f"{rng.getrandbits(40):010x}"


class Bank:
    """All texts of one bank.

    Attributes:
        name: ``fit`` or ``test``.
        questions: by language; packaged ones among them where there are any.
        sources: where the questions come from, in words for the manifest.
    """

    def __init__(self, name: str, real: Mapping[str, Sequence[str]] | None = None) -> None:
        self.name = name
        words = _read(BANKS / "words.toml")
        self._fillers: dict[str, dict[str, Filler]] = {}
        for language in LANGUAGES:
            fillers: dict[str, Filler] = {
                slot: _word(values) for slot, values in words[language].items()
            }
            self._fillers[language] = fillers | {"num": _number, "code": _code}
        home = bank_dir(name)
        sentences = _read(home / "sentences.toml")
        self._sentences = {
            language: [Template(text, self._fillers[language]) for text in sentences[language]]
            for language in LANGUAGES
        }
        self.families = {
            kind: tuple(Family(**entry) for entry in _read(home / f"{kind}.toml")["family"])
            for kind in FAMILIES
        }
        self.chat = _read(home / "chat.toml")
        self.agents = _read(home / "agents.toml")
        self._benchmarks: dict[tuple[str, int], list[str]] = {}
        self.sources = {source: len(texts) for source, texts in (real or {}).items()}
        self.questions = self._all_questions(real or {})
        for language in LANGUAGES:
            asked = self.questions[language]
            self._fillers[language]["question"] = _asked(asked, self._fresh[language])
            self._fillers[language]["payload"] = lambda rng, lang=language: self.payload(  # type: ignore[misc]
                rng, 240, lang
            )

    def _all_questions(self, real: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        entries = _read(bank_dir(self.name) / "questions.toml")
        # The questions of a bank are the same in every log, as published ones would be.
        rng = Random(f"questions/{self.name}")
        questions = {}
        self._fresh = {
            language: [Template(text, self._fillers[language]) for text in entries[language]]
            for language in LANGUAGES
        }
        for language in LANGUAGES:
            templates = self._fresh[language]
            questions[language] = [rng.choice(templates).fill(rng) for _ in range(QUESTIONS)]
        half = 0 if self.name == "fit" else 1
        for source in sorted(real):
            questions["en"] += [text for at, text in enumerate(real[source]) if at % 2 == half]
        return questions

    def family(self, kind: str, rng: Random, language: str | None = None) -> Family:
        """One family of a kind, in a language where it has any in it."""
        known = self.families[kind]
        spoken = [family for family in known if family.language == language]
        return rng.choice(spoken or known)

    def template(self, text: str, language: str = "en") -> Template:
        """A text whose choices are made, to be filled with words of a language."""
        return Template(text, self._fillers[language])

    def written(self, text: str, rng: Random, language: str = "en") -> str:
        """A text with its choices made and its slots filled."""
        return Template(expand(text, rng), self._fillers[language]).fill(rng)

    def lines(self, part: str, language: str) -> list[Template]:
        """Templates of a part of the chat bank: ``open``, ``more``, ``reason``, ``app``."""
        return [self.template(text, language) for text in self.chat[language][part]]

    def payload(self, rng: Random, chars: int, language: str = "en") -> str:
        """Fresh text of about ``chars`` characters."""
        sentences = self._sentences[language]
        n = max(1, round(chars / SENTENCE_CHARS[language]))
        return SPACE[language].join([t.fill(rng) for t in rng.choices(sentences, k=n)])

    def benchmark(self, name: str, n: int) -> list[str]:
        """The items of a public benchmark: the same for everybody who runs it, in any log."""
        key = (name, n)
        if key not in self._benchmarks:
            rng = Random(f"benchmark/{self.name}/{name}")
            self._benchmarks[key] = rng.sample(self.questions["en"], n)
        return self._benchmarks[key]


def _asked(known: Sequence[str], fresh: Sequence[Template]) -> Filler:
    """People ask what others have asked one time in four, and otherwise something of their own."""

    def ask(rng: Random) -> str:
        if rng.random() < 0.25:
            return known[int(rng.random() * len(known))]
        return fresh[int(rng.random() * len(fresh))].fill(rng)

    return ask


def _read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))
