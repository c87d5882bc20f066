"""How often do watermark tests convict text that nobody marked, and how often text that was?

    python bench/audit_marks.py [--quick] [--keys N] [--json]

Answers of three frames, as a customer-service model writes them, with words of real questions
between (TREC, where it was pulled; else the template bank's), tokenised by the demo's encoder and
counted as they are: no repetition is taken out. The text stays, the keys are drawn at random, so a
sound test at the level of 1 % finds one key in a hundred. Beside our rank among alternate keys and
our conditional tail stand the z-test of transformers' WatermarkDetector (over all n-grams, and with
``ignore_repeated_ngrams`` within each text), markllm's, and the usual tests of Gumbel-max and
SynthID-Text. Peers' green lists are kept from one text to the next, which changes no answer.

Of the keys a quarter is ranked under KGW, whose lists are dear, and a twelfth marks text: power is
that at the same nominal level, on the same frames with words that are exp(0.25) times as likely
where they are green. A peer counts where it is installed.
"""

from __future__ import annotations

import argparse
import csv
import gc
import importlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402 (one thread, set before)
from scipy.special import gammaincc, ndtri  # noqa: E402
from scipy.stats import beta  # noqa: E402

from bench_table import tell  # noqa: E402
from overproof.audit.alternate_keys import alternate_key_rank, alternate_keys  # noqa: E402
from overproof.audit.watermarks.gumbel import Gumbel  # noqa: E402
from overproof.audit.watermarks.kgw import Kgw  # noqa: E402
from overproof.audit.watermarks.pairs import Pairs, unique_pairs  # noqa: E402
from overproof.audit.watermarks.schemes import Scheme  # noqa: E402
from overproof.audit.watermarks.synthid import SynthId  # noqa: E402
from overproof.clients import registry  # noqa: E402
from overproof.errors import ModelError  # noqa: E402

LEVEL = 0.01
TEXTS, FREE = 100, 8  # answers, and words of each that no frame holds
BIAS = 0.25
FRAMES = (
    ("Certainly: thank you for reaching out to us. You asked about", "Is there anything else?"),
    ("I am sorry to hear that. Let us look at this step by step:", "Hope it is clear, take care."),
    ("Great question! Here is what we know for sure so far about", "Happy to help you further."),
)
Greens = Callable[[int], np.ndarray]
Test = Callable[[int, np.ndarray], bool]


class Words:
    """Frames and words as token ids of a real tokenizer."""

    def __init__(self) -> None:
        from tokenizers import Tokenizer

        folder = registry.resolve("all-MiniLM-L6-v2")
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()

        def ids(text: str) -> list[int]:
            return list(tokenizer.encode(text, add_special_tokens=False).ids)

        self.vocabulary = tokenizer.get_vocab_size()
        self.frames = [(ids(a), ids(b)) for a, b in FRAMES]
        self.source, questions = _questions()
        self.questions = [ids(text) for text in questions]
        pool = [word for question in self.questions for word in question]
        self.words, counts = np.unique(pool, return_counts=True)
        self.chance = counts / counts.sum()

    def unmarked(self, rng: np.random.Generator) -> np.ndarray:
        """Texts with the words of questions, shape (TEXTS, length)."""
        long = [question for question in self.questions if len(question) >= FREE]
        chosen = rng.choice(len(long), TEXTS, replace=False)
        return self._framed([long[i][:FREE] for i in chosen], rng)

    def marked(self, rng: np.random.Generator, green: Greens) -> np.ndarray:
        """Texts whose free words are drawn with the odds that a mark leaves."""
        tilted: dict[int, np.ndarray] = {}
        bodies, which = [], rng.integers(len(self.frames), size=TEXTS)
        for at in which:
            before, body = self.frames[at][0][-1], list[int]()
            for _ in range(FREE):
                if before not in tilted:
                    lean = self.chance * np.exp(BIAS * green(before)[self.words])
                    tilted[before] = np.cumsum(lean / lean.sum())
                place = np.searchsorted(tilted[before], rng.random() * tilted[before][-1], "right")
                before = int(self.words[min(int(place), len(self.words) - 1)])
                body.append(before)
            bodies.append(body)
        return self._framed(bodies, rng, which)

    def _framed(
        self, bodies: list[list[int]], rng: np.random.Generator, which: Any = None
    ) -> np.ndarray:
        which = rng.integers(len(self.frames), size=TEXTS) if which is None else which
        full = [[*self.frames[i][0], *body, *self.frames[i][1]] for i, body in
                zip(which, bodies, strict=True)]  # fmt: skip
        length = min(map(len, full))  # the detectors want rows of one length
        return np.array([text[:length] for text in full])


def _questions() -> tuple[str, list[str]]:
    try:
        path = registry.resolve("trec-questions")
    except ModelError:
        from overproof.proving.traffic.texts import Bank

        return "the template bank", list(Bank("fit").questions["en"])
    with Path(path).open(encoding="utf-8", newline="") as stream:
        return "TREC", [row["text"] for row in csv.DictReader(stream)]


def counted(texts: np.ndarray, scheme: Scheme) -> Pairs:
    """Every pair as often as it stands there."""
    pairs = unique_pairs(texts.tolist(), None, width=scheme.width, pad=None,
                         vocabulary=scheme.vocabulary)  # fmt: skip
    return replace(pairs, weights=pairs.counts.astype(np.float64))


def share(found: int, of: int) -> tuple[float, float, float]:
    """Share and its 95 % interval (Clopper and Pearson 1934)."""
    low = float(beta.ppf(0.025, found, of - found + 1)) if found else 0.0
    high = float(beta.ppf(0.975, found + 1, of - found)) if found < of else 1.0
    return found / of, low, high


def named(name: str, found: list[bool]) -> tuple[str, float, float, float]:
    value, low, high = share(sum(found), len(found))
    return f"{name} ({len(found):,} keys: {low:.2%} to {high:.2%})", value, low, high


# What each test says of a text under a key that was not drawn to mark it.


def our_tail(scheme: Kgw) -> Test:
    def test(key: int, texts: np.ndarray) -> bool:
        once = replace(counted(texts, scheme), weights=None)
        score = float(scheme.hits(once, key).sum())
        return bool(scheme.tail(once, key, score).value <= LEVEL)

    return test


def our_rank(scheme: Kgw, alternates: int, *, once: bool) -> Test:
    def test(key: int, texts: np.ndarray) -> bool:
        pairs = counted(texts, scheme)
        pairs = replace(pairs, weights=None) if once else pairs
        found = alternate_key_rank(scheme, pairs, key, alternates=alternates, seed=key % 2**31)
        return found.p <= LEVEL + 1e-12

    return test


class Transformers:
    """transformers' detector; what it counts in each text is added up."""

    def __init__(self, vocabulary: int) -> None:
        self._model = SimpleNamespace(bos_token_id=-1, is_encoder_decoder=False,
                                      vocab_size=vocabulary)  # fmt: skip
        self._made: tuple[int, Any] | None = None

    def test(self, *, unique: bool) -> Test:
        import torch
        from transformers import WatermarkDetector, WatermarkingConfig

        def test(key: int, texts: np.ndarray) -> bool:
            if self._made is None or self._made[0] != key:
                self._made = None
                gc.collect()  # detectors hold caches that hold them: lists of all keys pile up
                detector = WatermarkDetector(
                    self._model, "cpu", WatermarkingConfig(hashing_key=key)
                )
                kept(detector.processor, "_get_greenlist_ids")
                self._made = key, detector
            detector = self._made[1]
            detector.ignore_repeated_ngrams = unique
            found = detector(torch.tensor(texts), return_dict=True)
            green, scored = found.num_green_tokens.sum(), found.num_tokens_scored.sum()
            return bool(detector._compute_pval(detector._compute_z_score(green, scored)) <= LEVEL)

        return test


def kept(owner: Any, method: str) -> None:
    """Remember the lists: they depend on the last token alone."""
    draw, lists = getattr(owner, method), dict[int, Any]()

    def answer(ids: Any) -> Any:
        last = int(ids[-1])
        if last not in lists:
            lists[last] = draw(ids)
        return lists[last]

    setattr(owner, method, answer)


class Markllm:
    """markllm's KGW, left hash, at our share of green words."""

    def __init__(self, vocabulary: int) -> None:
        kgw = importlib.import_module("markllm.watermark.kgw.kgw")

        self._module, self._vocabulary = kgw, vocabulary
        self._made: tuple[int, Any] | None = None

    def utils(self, key: int) -> Any:
        if self._made is None or self._made[0] != key:
            settings = {
                "algorithm_name": "KGW", "gamma": 0.25, "delta": BIAS, "hash_key": key,
                "prefix_length": 1, "z_threshold": 4.0, "f_scheme": "time",
                "window_scheme": "left",
            }  # fmt: skip
            with tempfile.NamedTemporaryFile("w", suffix=".json") as stream:
                json.dump(settings, stream)
                stream.flush()
                model = SimpleNamespace(model=None, tokenizer=None, vocab_size=self._vocabulary,
                                        device="cpu", gen_kwargs={})  # fmt: skip
                made = self._module.KGWUtils(self._module.KGWConfig(stream.name, model))
            kept(made, "get_greenlist_ids")
            self._made = key, made
        return self._made[1]

    def test(self, key: int, texts: np.ndarray) -> bool:
        import torch

        z, _ = self.utils(key).score_sequence(torch.tensor(texts.ravel()))
        return bool(z >= ndtri(1 - LEVEL))

    def green(self, key: int) -> Greens:
        import torch

        def mask(context: int) -> np.ndarray:
            found = np.zeros(self._vocabulary, dtype=bool)
            found[self.utils(key).get_greenlist_ids(torch.tensor([context])).numpy()] = True
            return found

        return mask


def kgw_rows(words: Words, keys: int) -> list[dict[str, Any]]:
    ranked, marks = max(4, keys // 4), max(4, keys // 12)
    others = 99 if keys < 100 else 199
    scheme, text = Kgw(words.vocabulary), words.unmarked(np.random.default_rng(1))
    secret = [int(key) for key in alternate_keys(scheme, keys, 5)]  # type: ignore[call-overload]
    detector = Transformers(words.vocabulary)
    tests: dict[str, Test] = {
        "conditional tail": our_tail(scheme),
        "transformers, z": detector.test(unique=False),
        "transformers, z, unique in a text": detector.test(unique=True),
    }
    why = ""
    try:
        theirs = Markllm(words.vocabulary)
        tests["markllm, z"] = theirs.test
    except ImportError as error:
        why = f"markllm is not installed: {error}"
    rank, all_tokens = our_rank(scheme, others, once=True), our_rank(scheme, 99, once=False)
    false = {"rank among 99 alternates, repetitions counted": [
        all_tokens(key, text) for key in secret[:ranked]
    ]}  # fmt: skip
    false |= {name: list[bool]() for name in tests}
    for key in secret:
        for name, test in tests.items():
            false[name].append(test(key, text))
    tests[f"rank among {others} alternates, unique pairs"] = rank
    true = {name: list[bool]() for name in tests}
    for number, key in enumerate(secret[:marks]):
        rng = np.random.default_rng([2, number])

        def green(context: int, key: int = key) -> np.ndarray:
            found = np.zeros(words.vocabulary, dtype=bool)
            found[scheme.greenlist([context], key)] = True
            return found

        marked = words.marked(rng, green)
        for name, test in tests.items():
            if name.startswith("markllm"):
                true[name].append(test(key, words.marked(rng, theirs.green(key))))
            else:
                true[name].append(test(key, marked))
    return table("kgw", false, why) + table("kgw", true, why, power=True)


def other_rows(words: Words, count: int) -> list[dict[str, Any]]:
    """Gumbel-max and SynthID-Text, whose scans are cheap: 999 alternates for each key."""
    rows = []
    text = words.unmarked(np.random.default_rng(1))
    for scheme in (Gumbel(words.vocabulary), SynthId(words.vocabulary, pad=None)):
        pairs = counted(text, scheme)
        assert pairs.weights is not None
        keys = alternate_keys(scheme, count, 5)
        n, found = pairs.weights.sum(), dict[str, list[bool]]()
        ranks = [alternate_key_rank(scheme, pairs, key, alternates=999, seed=number)
                 for number, key in enumerate(keys)]  # fmt: skip
        found["rank among 999 alternates, repetitions counted"] = [r.p <= LEVEL for r in ranks]
        once = [float(scheme.hits(pairs, key).sum()) for key in keys]
        plain = replace(pairs, weights=None)
        found["conditional tail"] = [
            scheme.tail(plain, key, score).value <= LEVEL
            for key, score in zip(keys, once, strict=True)
        ]
        if scheme.name == "gumbel":
            usual = [float(gammaincc(n, rank.score)) for rank in ranks]
            found["usual Gamma test of all tokens"] = [p <= LEVEL for p in usual]
        else:
            found["z of transformers' g-values"] = [g_values_z(text, key) for key in keys]
        rows += table(scheme.name, found, "")
    return rows


def g_values_z(texts: np.ndarray, key: Any) -> bool:
    """Mean of all g-values as transformers computes them, as independent bits."""
    import torch
    from transformers import SynthIDTextWatermarkLogitsProcessor

    processor = SynthIDTextWatermarkLogitsProcessor(5, list(key), 1 << 16, 0, 1024, "cpu")
    g = processor.compute_g_values(torch.tensor(texts)).double()
    return bool((float(g.mean()) - 0.5) * 2 * g.numel() ** 0.5 >= ndtri(1 - LEVEL))


def table(
    scheme: str, found: dict[str, list[bool]], why: str, *, power: bool = False
) -> list[dict[str, Any]]:
    """Our tests a row each, others as the peers of the first."""
    ours = [name for name in found if name.startswith(("rank", "conditional"))]
    peers = []
    for name in found.keys() - set(ours):
        label, value, _, _ = named(name, found[name])
        peers.append({"name": label, "value": value, "unit": "of keys"})
    if why:
        peers.append({"name": "markllm", "value": None, "why": why})
    rows = []
    for number, name in enumerate(ours):
        label, value, low, high = named(name, found[name])
        what = "power" if power else "false positives"
        each: dict[str, Any] = {
            "metric": f"{scheme}, {what} at 1 %: {label}", "value": value, "unit": "of keys",
            "target": None if power else LEVEL, "met": None if power else low <= LEVEL <= high,
            "peer": sorted(peers, key=lambda peer: str(peer["name"])) if number == 0 else None,
        }  # fmt: skip
        if power:
            each["why"] = "no target: it shows that a test which holds its level is not blind"
        rows.append(each)
    return rows


def line(row: Any) -> str:
    met = {True: "met", False: "MISSED", None: "-"}[row["met"]]
    lines = [f"  {row['metric']:<100} {row['value']:>7.2%} {met}"]
    for peer in row["peer"] or []:
        value = f"{peer['value']:>7.2%}" if peer["value"] is not None else peer["why"]
        lines.append(f"      {peer['name']:<96} {value}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few keys: intervals are wide")
    parser.add_argument("--keys", type=int, help="how many; 1,000, or 24 if quick")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    words = Words()
    keys = options.keys or (24 if options.quick else 1000)
    if keys < 19:
        parser.error("--keys is 19 or more")
    rows = kgw_rows(words, keys) + other_rows(words, keys)
    about = f", words of {words.source}"
    tell("audit_marks", rows, line, as_json=options.json, about=about)


if __name__ == "__main__":
    main()
