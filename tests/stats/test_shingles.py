from __future__ import annotations

import itertools
import random

import pytest

from overproof.records.hashing import text_hash
from overproof.stats import shingles
from overproof.stats.shingles import fold, jaccard_pairs, shingle_matrix


def shingle_set(text: str, size: int = 5) -> set[str]:
    folded = fold(text).ljust(size, "\0")
    return {folded[i : i + size] for i in range(len(folded) - size + 1)}


def jaccard(a: str, b: str) -> float:
    x, y = shingle_set(a), shingle_set(b)
    return len(x & y) / len(x | y)


def some_texts(n: int, seed: int, alphabet: str = "abcdef ") -> list[str]:
    rng = random.Random(seed)
    texts = ["".join(rng.choices(alphabet, k=rng.randint(0, 60))) for _ in range(n)]
    for i in range(0, n, 3):  # copies with a slip of the pen
        source = list(texts[rng.randrange(n)])
        if source:
            source[rng.randrange(len(source))] = rng.choice(alphabet)
        texts[i] = "".join(source)
    return texts


def test_matrix_holds_each_shingle_once_and_the_rarest_first() -> None:
    matrix = shingle_matrix(["aaaaaaaa", "aaaaab", "xy"])
    assert matrix.shape == (3, 3)
    assert matrix.sum(axis=1).ravel().tolist() == [[1, 2, 1]]
    assert matrix.sum(axis=0).ravel().tolist() == [[1, 1, 2]]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("alphabet", ["abcdef ", "äßçéΩж字漢🙂 "])
def test_self_pairs_are_those_of_the_definition(threshold: float, alphabet: str) -> None:
    texts = some_texts(80, 1, alphabet)
    expected = {
        (i, j)
        for i, j in itertools.combinations(range(len(texts)), 2)
        if jaccard(texts[i], texts[j]) >= threshold
    }
    found = jaccard_pairs(texts, threshold=threshold)
    assert {(i, j) for i, j, _ in found} == expected
    assert expected
    for i, j, similarity in found:
        assert similarity == pytest.approx(jaccard(texts[i], texts[j]))


def test_cross_pairs_in_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = some_texts(70, 2), some_texts(50, 2)
    whole = jaccard_pairs(a, b, threshold=0.6)
    expected = {(i, j) for i in range(len(a)) for j in range(len(b)) if jaccard(a[i], b[j]) >= 0.6}
    assert {(i, j) for i, j, _ in whole} == expected
    monkeypatch.setattr(shingles, "_CELLS", 100)
    monkeypatch.setattr(shingles, "_PAIRS", 7)
    assert jaccard_pairs(a, b, threshold=0.6) == whole


def test_windows_stay_exact_when_the_codes_would_overflow() -> None:
    wide = [chr(0x4E00 + i) for i in range(7000)]  # 7000**5 > 2**62
    text = "".join(wide)
    assert shingle_matrix([text]).nnz == 7000 - 4
    assert jaccard_pairs([text], [text[1:] + "!"], threshold=0.9)


def test_folding_agrees_with_the_exact_hash() -> None:
    a, b = "Ｈello\u00a0 WORLD", "hello world"
    assert fold(a) == fold(b)
    assert text_hash(a) == text_hash(b)
    assert jaccard_pairs([a], [b], threshold=1.0) == [(0, 0, 1.0)]


def test_nothing_to_compare() -> None:
    assert jaccard_pairs([], threshold=0.8) == []
    assert jaccard_pairs(["a"], [], threshold=0.8) == []
    assert jaccard_pairs(["", ""], threshold=0.8) == [(0, 1, 1.0)]
    assert shingle_matrix([]).shape == (0, 0)
    with pytest.raises(ValueError, match="threshold"):
        jaccard_pairs(["a"], threshold=0.0)
    with pytest.raises(ValueError, match="size"):
        shingle_matrix(["a"], 0)
