"""Four pools by content hash, with near-duplicates removed across them.

The order of the inputs is the order of their salted hashes, so a pool depends on the contents
and the seed alone, never on the order of the file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from overproof.collect.inputs import InputItem
from overproof.config.recipe import DataConfig
from overproof.errors import DataError
from overproof.stats.shingles import jaccard_pairs

__all__ = ["Splits", "make_splits"]


@dataclass(frozen=True)
class Splits:
    """The pools. ``near_duplicates`` inputs were left out, ``unused`` were not needed."""

    test: list[InputItem]
    tune: list[InputItem]
    examples: list[InputItem]
    train: list[InputItem]
    near_duplicates: int
    unused: int

    def counts(self) -> dict[str, int]:
        """Sizes by split."""
        return {name: len(getattr(self, name)) for name in ("train", "tune", "test", "examples")}


def make_splits(
    items: list[InputItem], data: DataConfig, seed: int, test_items: list[InputItem] | None = None
) -> Splits:
    """Divide ``items`` into test, examples, tune and train, in this order of precedence.

    ``test_items`` are the test pool where it has a file of its own; then nothing of ``items``
    that repeats them is used.

    Raises:
        DataError: fewer than ten inputs are left for training, or a pool cannot be filled.
    """
    pool, near = _without_near_duplicates(
        [*_by_hash(test_items or [], seed), *_by_hash(items, seed)], data.near_duplicate
    )
    own = {item.item for item in test_items or []}
    test = [item for item in pool if item.item in own] if own else pool
    test = test[: data.test]
    taken = {item.item for item in test}
    rest = [item for item in pool if item.item not in taken and item.item not in own]
    examples, rest = rest[: data.examples], rest[data.examples :]
    tune, rest = rest[: data.tune], rest[data.tune :]
    train = rest[: data.train]
    short = {"test": data.test - len(test), "tune": data.tune - len(tune)}
    missing = {name: count for name, count in short.items() if count > 0}
    if own and "test" in missing:
        raise DataError(
            data.test_file or data.file,
            f"has {len(test)} distinct inputs, fewer than test = {data.test}",
            "bring more, or lower [data] test (plan shows what that costs in power)",
        )
    if missing or len(train) < 10:
        raise DataError(
            data.file,
            f"has {len(pool)} distinct inputs, too few for examples = {data.examples}, "
            f"tune = {data.tune}, test = {data.test} and at least 10 to train on",
            "bring more inputs, or lower the sizes in [data] (plan shows what that costs in power)",
        )
    unused = len(rest) - len(train)
    return Splits(test, tune, examples, train, near_duplicates=near, unused=unused)


def _by_hash(items: list[InputItem], seed: int) -> list[InputItem]:
    def order(item: InputItem) -> str:
        return hashlib.sha256(f"{seed}:{item.item}".encode()).hexdigest()

    return sorted(items, key=order)


def _without_near_duplicates(
    items: list[InputItem], threshold: float
) -> tuple[list[InputItem], int]:
    """Keep the first of each two inputs whose shingles overlap by ``threshold`` or more."""
    unique: dict[str, InputItem] = {}
    for item in items:
        unique.setdefault(item.item, item)
    items = list(unique.values())
    dropped: set[int] = set()
    pairs = jaccard_pairs([item.text for item in items], threshold=threshold)
    for first, second, _ in sorted(pairs):
        if first not in dropped:
            dropped.add(second)
    return [item for i, item in enumerate(items) if i not in dropped], len(dropped)
