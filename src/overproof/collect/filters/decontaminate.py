"""Keeping test material out: shared word runs, whole short items, near-duplicates."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from overproof.collect.filters.benchmarks import read_benchmark, read_lines
from overproof.collect.filters.ngrams import Items, NgramIndex, words_of
from overproof.collect.filters.protocol import FilterTools
from overproof.collect.filters.texts import answered, without_shared_wording
from overproof.config.filters import Decontaminate
from overproof.records.text_dataset import TextExample
from overproof.stats.minhash import first_similar
from overproof.stats.shingles import jaccard_pairs

__all__ = ["HELD_OUT", "DecontaminateFilter"]

HELD_OUT = "held-out"
EXACT_CELLS = 1_000_000  # pairs of text and item up to which all are compared
FEWEST = 10  # prompts from which a run that most share is a template's

Reasons = dict[int, str]


class DecontaminateFilter:
    """Drops examples of the training split that share text with what a student is tested on."""

    def __init__(self, config: Decontaminate, tools: FilterTools) -> None:
        self.name = config.name or config.kind
        self.notes: list[str] = []
        self._config = config
        self._seed = tools.seed
        sets = [read_benchmark(file, tools.home) for file in config.files]
        self._held_out = Items(HELD_OUT, list(tools.held_out))
        self._sets = [self._held_out, *sets] if tools.held_out else sets
        ignore = read_lines(tools.home / config.ignore) if config.ignore else []
        self._indices = [
            NgramIndex(items, config.words, config.shortest, config.boilerplate, ignore)
            for items in self._sets
        ]

    async def drops(self, examples: Sequence[TextExample]) -> Reasons:
        """The first set, and the first measure, that finds an example is its reason."""
        looked_at = [i for i, example in enumerate(examples) if example.split == "train"]
        prompts: dict[str, list[int]] = defaultdict(list)  # equal texts are looked at once
        answers: dict[str, list[int]] = defaultdict(list)
        for index in looked_at:
            prompts[examples[index].asked].append(index)
            if said := answered(examples[index]):
                answers[said].append(index)
        reasons: Reasons = {}
        self.notes = []
        for items, ngrams in zip(self._sets, self._indices, strict=True):
            found = self._runs(ngrams, prompts, answers)
            for index, why in self._whole(items, prompts).items():
                found.setdefault(index, why)
            for part, texts in (("prompt", prompts), ("answer", answers)):
                for index, why in self._near(items, part, texts).items():
                    found.setdefault(index, why)
            self.notes.append(_note(items, ngrams, found))
            for index, why in found.items():
                reasons.setdefault(index, why)
        if not self._sets:
            self.notes.append("nothing to compare with: no held-out texts and no benchmark files")
        if skipped := len(examples) - len(looked_at):
            self.notes.append(f"{skipped} examples outside of the training split not looked at")
        return reasons

    def _runs(
        self, index: NgramIndex, prompts: dict[str, list[int]], answers: dict[str, list[int]]
    ) -> Reasons:
        """Shared runs of words; those in most prompts are the wording of a template."""
        asked, said = list(prompts), list(answers)
        in_prompts = list(index.shared(asked))
        spread = Counter(words for words, _ in {(hit.words, hit.text) for hit in in_prompts})
        most = self._config.boilerplate * len(asked) if len(asked) >= FEWEST else len(asked)
        wording = {words for words, count in spread.items() if count > most}
        index.ignored += len(wording)
        reasons: Reasons = {}
        for part, texts, owners, hits in (
            ("prompt", asked, prompts, in_prompts),
            ("answer", said, answers, index.shared(said)),
        ):
            for hit in hits:
                if hit.words in wording:
                    continue
                kind = "holds a whole item" if hit.whole else f"shares {hit.length} words"
                link = "of" if hit.whole else "with"
                why = f"{part} {kind} {link} {index.name}: {hit.words[:100]!r}"
                for owner in owners[texts[hit.text]]:
                    reasons.setdefault(owner, why)
        return reasons

    def _whole(self, items: Items, prompts: dict[str, list[int]]) -> Reasons:
        """Prompts that are an item too short to be looked for inside of texts."""
        short = {tuple(words_of(text)) for text in items.texts}
        short = {words for words in short if 0 < len(words) < self._config.shortest}
        return {
            index: f"prompt is an item of {items.name}: {' '.join(words)!r}"
            for text, indices in prompts.items()
            if (words := tuple(words_of(text))) in short
            for index in indices
        }

    def _near(self, items: Items, part: str, owners: dict[str, list[int]]) -> Reasons:
        texts, there = list(owners), list(items.texts)
        if part == "prompt":  # a template is not what prompts are told apart by
            together = without_shared_wording([*texts, *there])
            there = together[len(texts) :] if items is self._held_out else there
            texts = without_shared_wording(texts)
        there = [text for text in dict.fromkeys(there) if len(words_of(text)) >= 3]
        if not texts or not there:
            return {}
        threshold = self._config.near_duplicate
        if len(texts) * len(there) <= EXACT_CELLS:
            found = {
                i: similarity
                for i, _, similarity in jaccard_pairs(texts, there, threshold=threshold)
            }
        else:
            alike = first_similar(
                [[*there, *texts]], threshold=threshold, fixed=len(there), only_fixed=True,
                seed=self._seed,
            )  # fmt: skip
            found = {row - len(there): similarity for row, (_, similarity) in alike.items()}
        names = list(owners)
        return {
            index: f"{part} is a near-duplicate of an item of {items.name}: {similarity:.2f}"
            for place, similarity in found.items()
            for index in owners[names[place]]
        }


def _note(items: Items, ngrams: NgramIndex, found: Reasons) -> str:
    said = f"{items.name}: {len(items.texts):,} items; {len(found):,} examples found"
    if ngrams.ignored:
        said += f"; {ngrams.ignored:,} word runs ignored as wording of a template"
    return said
