"""MinHash: unbiased signatures, the recall that was promised, and nothing below the threshold."""

from __future__ import annotations

import random

import numpy as np
import pytest
from datasketch import MinHash

from overproof.stats.minhash import Banding, banding_for, first_similar, shingle_set, signatures
from overproof.stats.shingles import jaccard_pairs

LETTERS = "abcdefghijklmnopqrstuvwxyz "


def noise(rng: random.Random, length: int) -> str:
    return "".join(rng.choices(LETTERS, k=length)).strip() or "x"


def changed(rng: random.Random, text: str, times: int) -> str:
    letters = list(text)
    for place in rng.sample(range(len(letters)), times):
        letters[place] = rng.choice("0123456789")
    return "".join(letters)


def jaccard(a: str, b: str) -> float:
    x, y = shingle_set(a), shingle_set(b)
    return len(x & y) / len(x | y)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("recall", [0.9, 0.99, 0.999])
def test_a_banding_reaches_its_recall(threshold: float, recall: float) -> None:
    banding = banding_for(threshold, recall)
    assert banding.recall(threshold) >= recall
    assert banding.recall(threshold + 0.04) > banding.recall(threshold)
    assert Banding(banding.bands - 1, banding.rows).recall(threshold) < recall


def test_equal_texts_only_need_one_band() -> None:
    assert banding_for(1.0).recall(1.0) == 1.0
    with pytest.raises(ValueError, match="out of range"):
        banding_for(0.0)
    with pytest.raises(ValueError, match="out of range"):
        banding_for(0.8, 1.0)


def test_agreement_of_signatures_is_an_unbiased_estimate_of_jaccard() -> None:
    rng = random.Random(1)
    errors, peer_errors = [], []
    for seed in range(40):
        text = noise(rng, 300)
        other = changed(rng, text, 15)
        truth = jaccard(text, other)
        one, two = signatures([text, other], 128, seed=seed)
        errors.append(float((one == two).mean()) - truth)
        peers = [MinHash(num_perm=128, seed=seed + 1) for _ in range(2)]
        for peer, said in zip(peers, (text, other), strict=True):
            peer.update_batch([shingle.encode() for shingle in shingle_set(said)])
        peer_errors.append(peers[0].jaccard(peers[1]) - truth)
    spread = np.std(errors)
    assert abs(np.mean(errors)) < 3 * spread / np.sqrt(40)
    assert spread < 0.06  # sqrt(J (1 - J) / 128) is 0.044 at most
    assert spread < 1.5 * np.std(peer_errors)  # datasketch is no better


def test_a_signature_is_of_the_set_whatever_text_stands_beside_it() -> None:
    rng = random.Random(2)
    texts = [noise(rng, rng.randint(0, 6000)) for _ in range(30)]
    together = signatures(texts, 32)
    alone = np.concatenate([signatures([text], 32) for text in texts])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(
        signatures(["ABC  def ghi"], 32), signatures([" abc def\nGHI"], 32)
    )
    assert signatures([], 32).shape == (0, 32)


def test_recall_at_the_threshold_is_what_was_promised() -> None:
    """Pairs just above the threshold; the promise is for pairs right at it."""
    rng = random.Random(3)
    texts: list[str] = []
    while len(texts) < 1600:
        text = noise(rng, 200)
        other = changed(rng, text, 5)
        if 0.80 <= jaccard(text, other) <= 0.83:
            texts += [text, other]
    found = first_similar([texts], threshold=0.8, recall=0.99)
    assert all(found[odd][0] == odd - 1 for odd in found)
    # 800 pairs, each missed with probability below 0.01: 20 misses have probability 1e-4.
    assert len(found) >= 780
    loose = first_similar([texts], threshold=0.8, recall=0.6)
    assert len(loose) < len(found)


def test_nothing_below_the_threshold_is_dropped_and_similarities_are_exact() -> None:
    rng = random.Random(4)
    texts = []
    for _ in range(150):
        text = noise(rng, 150)
        texts += [text, changed(rng, text, rng.randint(1, 20))]
    found = first_similar([texts], threshold=0.7, recall=0.999)
    exact = {(i, j): s for i, j, s in jaccard_pairs(texts, threshold=0.7)}
    assert {row for row, _ in found.items()} == {j for _, j in exact}
    for row, (other, similarity) in found.items():
        assert exact[other, row] == pytest.approx(similarity)
        assert similarity == pytest.approx(jaccard(texts[row], texts[other]))


def test_what_is_dropped_drops_nothing() -> None:
    rng = random.Random(5)
    first = noise(rng, 400)
    second = changed(rng, first, 12)
    third = changed(rng, second, 12)
    assert jaccard(first, second) > 0.7 < jaccard(second, third)
    assert jaccard(first, third) < 0.7
    found = first_similar([[first, second, third]], threshold=0.7, recall=0.9999)
    assert list(found) == [1]


def test_every_column_must_be_alike() -> None:
    rng = random.Random(6)
    prompt, answer = noise(rng, 200), noise(rng, 200)
    prompts = [prompt, prompt, prompt, noise(rng, 200)]
    texts = [answer, changed(rng, answer, 2), noise(rng, 200), answer]
    found = first_similar([prompts, texts], threshold=0.8)
    assert list(found) == [1]
    assert found[1][1] == pytest.approx(jaccard(texts[0], texts[1]))


def test_fixed_rows_stay_and_others_may_be_left_alone() -> None:
    rng = random.Random(7)
    item, text = noise(rng, 200), noise(rng, 200)
    rows = [item, item, changed(rng, item, 1), text, text]
    assert set(first_similar([rows], threshold=0.8, fixed=2)) == {2, 4}
    assert set(first_similar([rows], threshold=0.8, fixed=2, only_fixed=True)) == {2}


def test_odd_texts() -> None:
    texts = ["", " ", "a", "A", "日本語のテキスト", "日本語のテキスト!", "\ud800", "x" * 10_000]
    found = first_similar([texts], threshold=1.0)
    assert found == {1: (0, 1.0), 3: (2, 1.0)}
    assert first_similar([[]], threshold=0.8) == {}


def test_a_crowd_of_equal_texts_is_quick() -> None:
    """Ten thousand copies are fifty million pairs; only those with the first are looked at."""
    found = first_similar([["the same text again and again"] * 10_000], threshold=0.8)
    assert len(found) == 9_999
    assert {other for other, _ in found.values()} == {0}
