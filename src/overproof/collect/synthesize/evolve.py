"""Evolve: prompts made harder step by step (Evol-Instruct, WizardLM, arXiv 2304.12244)."""

from __future__ import annotations

import random
from collections.abc import Sequence

from overproof.collect.synthesize.asking import AskingStrategy, Question, seeds_of
from overproof.collect.synthesize.lists import PROMPTS_SCHEMA, list_words, read_list, unusable
from overproof.collect.synthesize.protocol import Candidate
from overproof.config.synthesize import Evolve
from overproof.records.text_dataset import Prompt

__all__ = ["EvolveStrategy"]

# The paper's in-depth operations and its one in breadth, without "complicate the input".
WAYS = (
    "add one more constraint or requirement to it",
    "ask for more depth or breadth of the same thing",
    "replace its general notions by more specific ones",
    "make it need several steps of reasoning, where one was enough",
    "write a sibling of the same field instead, about something rarer",
)
WORDS = """\
Below is a prompt that somebody wrote to an assistant. Turn it into a somewhat harder one, which \
people can still understand and answer, by adding at most twenty words or so; in {n} different \
ways:
{ways}
Keep its language. Do not answer it. {form}

<prompt>
{prompt}
</prompt>
"""


class EvolveStrategy(AskingStrategy[Evolve]):
    """Each request rewrites a seed or an earlier rewrite, so that some go through many steps."""

    name = "evolve"
    builds_on_answers = True

    def prepare(self, seeds: Sequence[Prompt]) -> None:
        """Keep the seeds that can be rewritten."""
        self._seeds = seeds_of(seeds, self.name, self.notes)

    def question(self, number: int, made: Sequence[Prompt]) -> Question | None:
        """Ask for rewrites of one prompt."""
        rng = random.Random(f"{self.tools.seed} {self.name} {number}")
        parent = rng.choice([*self._seeds, *made])
        ways = rng.sample(WAYS, self.per_answer)
        words = WORDS.format(
            n=self.per_answer,
            ways="\n".join(f"- {way}" for way in ways),
            form=list_words(self.per_answer, self.tools.structured),
            prompt=parent.text,
        )
        return Question(words, PROMPTS_SCHEMA, sample=number, about=(number, parent))

    def read(self, question: Question, text: str, *, cut: bool) -> list[Candidate]:
        """One candidate an entry."""
        number, parent = question.about
        return [
            Candidate(
                text=entry,
                source=f"request {number}, entry {place}",
                parents=(parent.item,),
                rejected=unusable(entry, self.config.max_chars, WORDS),
            )
            for place, entry in enumerate(read_list(text, cut=cut)[: self.per_answer], start=1)
        ]
