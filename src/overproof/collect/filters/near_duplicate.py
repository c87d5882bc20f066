"""Near-duplicates by shared character 5-grams: exact for few examples, MinHash for many."""

from __future__ import annotations

from collections.abc import Sequence

from overproof.collect.filters.texts import units
from overproof.config.filters import NearDuplicates
from overproof.records.text_dataset import TextExample
from overproof.stats.minhash import banding_for, first_similar
from overproof.stats.shingles import fold, jaccard_pairs

__all__ = ["NearDuplicate", "first_similar_exactly"]

EXACT_UP_TO = 2000  # examples; about two seconds of one core


class NearDuplicate:
    """Keeps the first of examples that are alike."""

    def __init__(self, config: NearDuplicates, seed: int = 0) -> None:
        self.name = config.name or config.kind
        self.notes: list[str] = []
        self._config = config
        self._seed = seed

    async def drops(self, examples: Sequence[TextExample]) -> dict[int, str]:
        """Examples like an earlier one that is kept, under the same system message."""
        config = self._config
        found = units(examples, config.on)
        exact = config.method == "exact" or (
            config.method == "auto" and len(found.members) <= EXACT_UP_TO
        )
        dropped: dict[int, str] = {}
        for numbers in found.by_setting():
            columns = [[column[number] for number in numbers] for column in found.columns]
            if exact:
                alike = first_similar_exactly(columns, config.threshold)
            else:
                alike = first_similar(
                    columns, threshold=config.threshold, recall=config.recall, seed=self._seed
                )
            for place, (other, similarity) in alike.items():
                known = examples[found.members[numbers[other]][0]]
                dropped[numbers[place]] = (
                    f"near-duplicate of an earlier {_called(config.on)}: similarity "
                    f"{similarity:.2f} to sample {known.sample} of {known.item}"
                )
        self.notes = [self._method(exact)]
        return found.spread(dropped)

    def _method(self, exact: bool) -> str:
        if exact:
            return "every pair was compared"
        banding = banding_for(self._config.threshold, self._config.recall)
        at, above = self._config.threshold, min(1.0, self._config.threshold + 0.05)
        return (
            f"MinHash, {banding.bands} bands of {banding.rows}: a pair of similarity {at:.2f} is "
            f"compared with probability {banding.recall(at):.3f}, one of {above:.2f} with "
            f"{banding.recall(above):.4f}; dropped pairs were all checked exactly"
        )


def _called(on: str) -> str:
    return "example" if on == "both" else on


def first_similar_exactly(
    columns: Sequence[Sequence[str]], threshold: float
) -> dict[int, tuple[int, float]]:
    """``stats.minhash.first_similar`` with every pair compared, for a few thousand rows.

    Returns:
        For each row to drop, the earlier row that stays and that it is like in every column, and
        the least of the columns' similarities.
    """
    names: list[list[int]] = []  # equal texts of a column have one number
    near: list[dict[int, dict[int, float]]] = []
    for column in columns:
        number: dict[str, int] = {}
        names.append([number.setdefault(fold(text), len(number)) for text in column])
        alike: dict[int, dict[int, float]] = {i: {i: 1.0} for i in range(len(number))}
        for i, j, similarity in jaccard_pairs(list(number), threshold=threshold):
            alike[i][j] = alike[j][i] = similarity
        near.append(alike)
    staying: dict[int, list[int]] = {}  # rows that stay, by their first column's text
    dropped: dict[int, tuple[int, float]] = {}
    for row in range(len(columns[0])):
        for text, similarity in near[0][names[0][row]].items():
            for other in staying.get(text, ()):
                least = similarity
                for own, alike in zip(names[1:], near[1:], strict=True):
                    least = min(least, alike[own[row]].get(own[other], 0.0))
                if least >= threshold - 1e-12 and least > dropped.get(row, (0, 0.0))[1]:
                    dropped[row] = (other, least)
        if row not in dropped:
            staying.setdefault(names[0][row], []).append(row)
    return dropped
