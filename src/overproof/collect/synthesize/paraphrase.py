"""Paraphrase: the seeds said in other words, in several manners, keeping what they ask for."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence

from overproof.collect.synthesize.asking import AskingStrategy, Question, seeds_of
from overproof.collect.synthesize.lists import PROMPTS_SCHEMA, list_words, read_list, unusable
from overproof.collect.synthesize.protocol import Candidate
from overproof.config.synthesize import Paraphrase
from overproof.records.text_dataset import Prompt

__all__ = ["ParaphraseStrategy"]

WORDS = """\
Below is a prompt that somebody wrote to an assistant. Say it in other words, {manners}. Every \
version must ask for exactly the same: keep its language, and every name, number and quotation in \
it. Do not answer it. {form}

<prompt>
{prompt}
</prompt>
"""
# A number or an address that a version lacks, or has made up, means that it asks something else.
_FIXED = re.compile(r"https?://\S+|\d+(?:[.,:]\d+)*")


class ParaphraseStrategy(AskingStrategy[Paraphrase]):
    """Goes through the seeds in a random order, again and again, each time in other styles."""

    name = "paraphrase"

    def prepare(self, seeds: Sequence[Prompt]) -> None:
        """Put the seeds into an order of their own."""
        self._seeds = seeds_of(seeds, self.name, self.notes)
        random.Random(f"{self.tools.seed} {self.name}").shuffle(self._seeds)

    @property
    def per_answer(self) -> int:
        """So few that every seed is asked about, as far as ``count`` goes."""
        return min(self.config.per_request, math.ceil(self.config.count / len(self._seeds)))

    def question(self, number: int, made: Sequence[Prompt]) -> Question | None:  # noqa: ARG002
        """Ask about one seed in some of the styles."""
        turn, place = divmod(number, len(self._seeds))
        seed = self._seeds[place]
        rng = random.Random(f"{self.tools.seed} {seed.item} {turn}")
        n, styles = self.per_answer, self.config.styles
        chosen = rng.sample(styles, min(n, len(styles)))
        manners = f"in {n} different ways" if n > 1 else "once"
        manners += f" ({'; '.join(chosen)})"
        form = list_words(n, self.tools.structured)
        words = WORDS.format(manners=manners, form=form, prompt=seed.text)
        return Question(words, PROMPTS_SCHEMA, sample=turn, about=seed)

    def read(self, question: Question, text: str, *, cut: bool) -> list[Candidate]:
        """One candidate an entry; those that ask something else are rejected."""
        seed: Prompt = question.about
        kept = self.config.keep_reference
        return [
            Candidate(
                text=version,
                source=f"{seed.origin.source} in other words",
                parents=(seed.item,),
                reference=seed.reference if kept else None,
                facts=seed.facts if kept else {},
                rejected=unusable(version, self.config.max_chars, WORDS)
                or _altered(seed.text, version),
            )
            for version in read_list(text, cut=cut)[: self.per_answer]
        ]


def _altered(seed: str, version: str) -> str | None:
    """Why a version cannot mean what the seed means, as far as its figures tell."""
    before, after = set(_FIXED.findall(seed)), set(_FIXED.findall(version))
    if lost := sorted(before - after):
        return f"loses a number or address of its seed: {lost[0]}"
    if added := sorted(after - before):
        return f"adds a number or address to its seed: {added[0]}"
    return None
