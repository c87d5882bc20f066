"""The texts of a simulated log: template banks, payloads, questions; English and Chinese.

A bank is a directory of TOML, one half of the pieces that honest prompts are composed of, and one
half of a pool of what attackers ask, written by somebody who knew nothing of the rest. In a
template ``<<a|b>>`` is a choice, made once for whoever uses it, and ``{payload}``, ``{question}``,
``{person}`` … are slots, filled at every use. The banks ``fit`` and ``test`` share no run of eight
words, so that what is fitted on one is unseen in the other.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from overproof.proving.traffic.pieces import KINDS, Pieces, half_of, halves, read_pool
from overproof.proving.traffic.templates import (
    LANGUAGES,
    Family,
    Filler,
    Template,
    expand,
    word,
)

__all__ = ["Bank", "Family", "Template", "bank_dir", "expand"]

BANKS = Path(__file__).with_name("banks")
FAMILIES = ("elicitation", "synthesis", "rubric", "etl", "frameworks", "benchmarks", "techniques")
ATTACKS = ("elicitation", "synthesis")
QUESTIONS = 3_000
# Some send what a published tutorial says, word for word; all others have words of their own.
COPIED = 1.0 / 8.0
# A published benchmark asks in a handful of ways.
STYLES = 8
PACKAGED = 0.5
# Characters that a sentence of the payload grammar has on average, to know how many to draw.
SENTENCE_CHARS = {"en": 78, "zh": 27}
SPACE = {"en": " ", "zh": ""}


def bank_dir(name: str) -> Path:
    """The directory of a bank's files."""
    return BANKS / name


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
                slot: word(values) for slot, values in words[language].items()
            }
            self._fillers[language] = fillers | {"num": _number, "code": _code}
        home = bank_dir(name)
        half = half_of(name)
        sentences, pooled = _read(home / "sentences.toml"), read_pool("sentences")
        self._sentences = {
            language: [
                Template(text, self._fillers[language])
                for text in [*sentences[language], *halves(pooled[language])[half]]
            ]
            for language in LANGUAGES
        }
        self.families = {
            kind: tuple(Family(**entry) for entry in _read(home / f"{kind}.toml")["family"])
            for kind in FAMILIES
        }
        for kind in ATTACKS:
            self.families[kind] += _pooled(kind, half)
        self.chat = _read(home / "chat.toml")
        said = read_pool("chat")
        for language in LANGUAGES:
            for part, pool in said[language].items():
                self.chat[language][part] += halves(pool)[half]
        self.families["app"] = tuple(
            Family(f"app-{language}-{at}", language, text)
            for language in LANGUAGES
            for at, text in enumerate(self.chat[language]["app"])
        )
        self._pieces = Pieces(name, self._fillers)
        self.agents = _read(home / "agents.toml")
        self._benchmarks: dict[tuple[str, int], list[str]] = {}
        self._packaged: list[str] = []
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
        pool = read_pool("questions")
        half = half_of(self.name)
        # The questions of a bank are the same in every log, as published ones would be.
        rng = Random(f"questions/{self.name}")
        self._fresh = {
            language: [
                Template(text, self._fillers[language])
                for text in [*entries[language], *halves(pool[language])[half]]
            ]
            for language in LANGUAGES
        }
        questions = {}
        for language in LANGUAGES:
            templates = self._fresh[language]
            questions[language] = [rng.choice(templates).fill(rng) for _ in range(QUESTIONS)]
        for source in sorted(real):
            self._packaged += [text for at, text in enumerate(real[source]) if at % 2 == half]
        questions["en"] += self._packaged
        return questions

    def family(self, kind: str, rng: Random, language: str | None = None) -> Family:
        """One way to put something, in a language where the bank has any in it.

        Honest kinds (``pieces.KINDS``) are composed for whoever asks, and one time in eight copied
        from a tutorial that others copy too; attacks are hand-written, each a family of its own.
        """
        if kind in KINDS and rng.random() >= COPIED:
            return self._pieces.family(kind, rng, language)
        known = self.families[kind]
        spoken = [family for family in known if family.language == language]
        return rng.choice(spoken or known)

    def app(self, rng: Random, language: str) -> str:
        """The system prompt of a company's own app."""
        return self.written(self.family("app", rng, language).text, rng, language)

    def template(self, text: str, language: str = "en") -> Template:
        """A text whose choices are made, to be filled with words of a language."""
        return Template(text, self._fillers[language])

    def written(self, text: str, rng: Random, language: str = "en") -> str:
        """A text with its choices made and its slots filled."""
        return Template(expand(text, rng), self._fillers[language]).fill(rng)

    def lines(self, part: str, language: str) -> list[Template]:
        """Templates of a part of the chat bank: ``open``, ``more``, ``reason``."""
        return [self.template(text, language) for text in self.chat[language][part]]

    def payload(self, rng: Random, chars: int, language: str = "en") -> str:
        """Fresh text of about ``chars`` characters."""
        sentences = self._sentences[language]
        n = max(1, round(chars / SENTENCE_CHARS[language]))
        return SPACE[language].join([t.fill(rng) for t in rng.choices(sentences, k=n)])

    def benchmark(self, name: str, n: int) -> list[str]:
        """The items of a public benchmark: the same for everybody who runs it, in any log.

        A stretch of the packaged questions for half of the benchmarks where there are enough, and
        questions in a handful of styles for the others, which overlap as little as published
        benchmarks do. Fewer than ``n`` where the styles do not give as many different ones.
        """
        key = (name, n)
        if key not in self._benchmarks:
            rng = Random(f"benchmark/{self.name}/{name}")
            packaged = self._packaged
            if rng.random() < PACKAGED and len(packaged) >= n:
                start = rng.randrange(len(packaged))
                items = (packaged[start:] + packaged[:start])[:n]
            else:
                styles = rng.sample(self._fresh["en"], STYLES)
                drawn = (rng.choice(styles).fill(rng) for _ in range(3 * n))
                items = list(dict.fromkeys(drawn))[:n]
            self._benchmarks[key] = items
        return self._benchmarks[key]


def _pooled(kind: str, half: int) -> tuple[Family, ...]:
    """A half of the pool of what attackers ask, by the salted hash of each text."""
    known = [Family(**entry) for entry in _read(BANKS / "attacks" / f"{kind}.toml")["family"]]
    own = set(halves([family.text for family in known])[half])
    return tuple(family for family in known if family.text in own)


def _asked(known: Sequence[str], fresh: Sequence[Template]) -> Filler:
    """People ask what others have asked one time in four, and otherwise something of their own."""

    def ask(rng: Random) -> str:
        if rng.random() < 0.25:
            return known[int(rng.random() * len(known))]
        return fresh[int(rng.random() * len(fresh))].fill(rng)

    return ask


def _read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))
