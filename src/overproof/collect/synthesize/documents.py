"""Documents: questions that a passage answers, with the answer kept as their reference."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from typing import Any

from overproof.collect.synthesize.asking import AskingStrategy, Question
from overproof.collect.synthesize.lists import object_schema, read_objects, unusable
from overproof.collect.synthesize.passages import Passage, read_passages
from overproof.collect.synthesize.protocol import Candidate
from overproof.config.synthesize import Documents
from overproof.records.text_dataset import Prompt
from overproof.stats.shingles import fold

__all__ = ["DocumentsStrategy"]

WORDS = """\
Below is a passage of a document. Write {n} that the passage answers, unlike one another, in its \
language{alone}. Give each the answer, true to the passage and complete{evidence}. {form}

<passage>
{passage}
</passage>
"""
ALONE = (
    ", that somebody could ask who has never seen the passage: name what they are about, and do "
    "not speak of a passage, text or document"
)
EVIDENCE = ", and as quote the words of the passage that say so, copied letter by letter"
_SHOWN = re.compile(
    r"\b(?:the|this|that|given|above) (?:\w+ )?"
    r"(?:passage|text|excerpt|paragraph|context|document)\b"
    r"|\baccording to (?:the|this) (?:author|article)\b",
    re.IGNORECASE,
)
_MARKS = str.maketrans("“”„«»‘’‚–—‑", '"""""\'\'\'---')


class DocumentsStrategy(AskingStrategy[Documents]):
    """Goes through the passages in a random order, so that few prompts cover many documents."""

    name = "documents"

    def prepare(self, seeds: Sequence[Prompt]) -> None:  # noqa: ARG002
        """Read and cut the documents."""
        self._passages, notes = read_passages(self.config, self.tools.home)
        self.notes.extend(notes)
        random.Random(f"{self.tools.seed} {self.name}").shuffle(self._passages)
        self._fields = ("question", "answer", *(("quote",) if self.config.evidence else ()))

    @property
    def per_answer(self) -> int:
        """So few that every passage is asked about, as far as ``count`` goes."""
        return min(self.config.per_request, math.ceil(self.config.count / len(self._passages)))

    def question(self, number: int, made: Sequence[Prompt]) -> Question | None:  # noqa: ARG002
        """Ask about one passage."""
        turn, place = divmod(number, len(self._passages))
        passage = self._passages[place]
        words = WORDS.format(
            n=f"{self.per_answer} questions" if self.per_answer > 1 else "a question",
            alone="" if self.config.context else ALONE,
            evidence=EVIDENCE if self.config.evidence else "",
            form=self._form(),
            passage=passage.text,
        )
        text = {"type": "string"}
        pair = object_schema(**dict.fromkeys(self._fields, text))
        schema = object_schema(pairs={"type": "array", "items": pair})
        return Question(words, schema, sample=turn, about=passage)

    def read(self, question: Question, text: str, *, cut: bool) -> list[Candidate]:
        """One candidate a pair; those that the passage does not bear out are rejected."""
        passage: Passage = question.about
        pairs = read_objects(text, self._fields, cut=cut)[: self.per_answer]
        return [self._candidate(passage, pair) for pair in pairs]

    def _form(self) -> str:
        if self.tools.structured:
            keys = ", ".join(f'"{field}"' for field in self._fields)
            return f'Answer with a JSON object {{"pairs": [...]}} of objects with {keys}.'
        lines = ", ".join(f'"{field.capitalize()}: ..."' for field in self._fields)
        return f"Write each as lines that begin {lines}, and nothing else."

    def _candidate(self, passage: Passage, pair: dict[str, str]) -> Candidate:
        asked = pair["question"]
        about: dict[str, Any] = {
            "source": passage.source,
            "passage": passage.text,
            "start": passage.start,
        }
        if self.config.evidence:
            about["quote"] = pair["quote"]
        shown = f"{passage.text}\n\n{asked}" if self.config.context else asked
        return Candidate(
            text=shown,
            compared=asked,
            source=f"{passage.source}: passage {passage.number}",
            parents=(passage.item,),
            reference=pair["answer"],
            facts={"document": about},
            rejected=self._rejected(passage, pair),
        )

    def _rejected(self, passage: Passage, pair: dict[str, str]) -> str | None:
        if reason := unusable(pair["question"], self.config.max_chars, WORDS):
            return reason
        if not self.config.context and _SHOWN.search(pair["question"]):
            return "speaks of a passage that is not shown"
        if self.config.evidence and _plain(pair["quote"]) not in _plain(passage.text):
            return "its quotation is not in the passage"
        return None


def _plain(text: str) -> str:
    """Up to case, white space, kinds of quotes and dashes, and what a quotation ends with."""
    return fold(text.translate(_MARKS)).strip(" .,;:\"'").replace("...", "…").strip("…")
