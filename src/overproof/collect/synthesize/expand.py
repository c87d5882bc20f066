"""Expand: new prompts of the kind of a few seeds (Self-Instruct, arXiv 2212.10560)."""

from __future__ import annotations

import random
from collections.abc import Sequence

from overproof.collect.synthesize.asking import AskingStrategy, Question, seeds_of
from overproof.collect.synthesize.lists import PROMPTS_SCHEMA, list_words, read_list, unusable
from overproof.collect.synthesize.protocol import Candidate
from overproof.config.synthesize import Expand
from overproof.records.text_dataset import Prompt

__all__ = ["ExpandStrategy"]

WORDS = """\
Below are {shown} prompts that people wrote to an assistant. Write {n} new ones of the same kind: \
the same sort of wish, in the same language and tone, but about other subjects, and unlike one \
another in wording and length. Each must make sense by itself. Do not answer them. {form}

{examples}
"""


class ExpandStrategy(AskingStrategy[Expand]):
    """Each request shows a few seeds and earlier new prompts, drawn at random."""

    name = "expand"
    builds_on_answers = True

    @property
    def rouge(self) -> float | None:
        """The novelty threshold of the paper."""
        return self.config.rouge_l

    def prepare(self, seeds: Sequence[Prompt]) -> None:
        """Keep the seeds that can be shown."""
        self._seeds = seeds_of(seeds, self.name, self.notes)

    def question(self, number: int, made: Sequence[Prompt]) -> Question | None:
        """Ask with examples of its own."""
        rng = random.Random(f"{self.tools.seed} {self.name} {number}")
        generated = min(self.config.generated, len(made))
        own = min(self.config.examples - generated, len(self._seeds))
        shown = [*rng.sample(self._seeds, own), *rng.sample(list(made), generated)]
        rng.shuffle(shown)
        words = WORDS.format(
            shown=len(shown),
            n=self.per_answer,
            form=list_words(self.per_answer, self.tools.structured),
            examples="\n\n".join(f"<prompt>\n{prompt.text}\n</prompt>" for prompt in shown),
        )
        return Question(words, PROMPTS_SCHEMA, sample=number, about=(number, shown))

    def read(self, question: Question, text: str, *, cut: bool) -> list[Candidate]:
        """One candidate an entry; its parents are the prompts that were shown."""
        number, shown = question.about
        return [
            Candidate(
                text=entry,
                source=f"request {number}, entry {place}",
                parents=tuple(prompt.item for prompt in shown),
                rejected=unusable(entry, self.config.max_chars, WORDS),
            )
            for place, entry in enumerate(read_list(text, cut=cut)[: self.per_answer], start=1)
        ]
