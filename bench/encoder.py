"""Speed of fine-tuning an encoder: python bench/encoder.py [--quick] [--json].

The encoder has the sizes of all-MiniLM-L6-v2 and random weights, which take as long as trained
ones, so nothing is fetched. Texts are random words whose lengths have a long tail. The peer, run
in turns with ours in the same process, is the usual loop: AutoModelForSequenceClassification,
shuffled batches padded to their longest text, AdamW over every weight, the same clipping.

Targets: the demo trains 600 texts for 6 epochs, and its learning curve three quarters of that
again; two minutes for it need 53 texts a second. And our loop may not be slower than the plain one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel

from overproof.config.recipe import EncoderConfig
from overproof.train.bases import Base
from overproof.train.batches import encode, pad
from overproof.train.compute import all_cores
from overproof.train.encoder import fine_tune
from overproof.train.signals import SoftLabels

N_LABELS = 6
VOCABULARY = 30_522
MAX_LENGTH = 128
BATCH = 16
LENGTHS = {"questions": (12, 0.3), "reviews": (30, 0.7)}  # median words, spread of their logarithm
CONFIG = BertConfig(
    vocab_size=VOCABULARY,
    hidden_size=384,
    num_hidden_layers=6,
    num_attention_heads=12,
    intermediate_size=1536,
    num_labels=N_LABELS,
)


def base() -> Base:
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(MAX_LENGTH)
    return Base("random", BertModel(CONFIG), tokenizer, MAX_LENGTH, "none")


def texts(size: int, kind: str) -> SoftLabels:
    """Random words with the frequencies of a language (Zipf's law)."""
    rng = np.random.default_rng(0)
    median, spread = LENGTHS[kind]
    lengths = np.exp(rng.normal(np.log(median), spread, size)).round().clip(1, MAX_LENGTH)
    words = [rng.zipf(1.3, int(n)) % VOCABULARY for n in lengths]
    return SoftLabels(
        tuple(" ".join(f"w{i}" for i in ids) for ids in words),
        rng.dirichlet(np.ones(N_LABELS), size),
        {},
    )


def ours(start: Base, data: SoftLabels) -> float:
    """Examples a second of one epoch, everything around it included."""
    tune = data.take(np.arange(8))
    config = EncoderConfig(epochs=1, batch_size=BATCH, max_length=MAX_LENGTH)
    began = time.perf_counter()
    fine_tune(start, data, tune, config, seed=0)
    return len(data) / (time.perf_counter() - began)


def plain(start: Base, data: SoftLabels) -> float:
    """Examples a second of one epoch of the plain loop."""
    model = AutoModelForSequenceClassification.from_config(CONFIG)
    target = torch.from_numpy(data.probabilities).float()
    began = time.perf_counter()
    tokens = encode(start.tokenizer, data.texts)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-5)
    model.train()
    with all_cores():
        for indices in torch.randperm(len(data)).split(BATCH):
            input_ids, attention_mask = pad([tokens[i] for i in indices])
            logits = model(input_ids=input_ids, attention_mask=attention_mask).logits
            loss = torch.nn.functional.cross_entropy(logits, target[indices])
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
    return len(data) / (time.perf_counter() - began)


def measure(size: int, rounds: int, patience_s: float) -> list[dict[str, Any]]:
    start = base()
    rows = []
    for kind in LENGTHS:
        data = texts(size, kind)
        ours(start, data.take(np.arange(2 * BATCH)))  # warm up
        began, rates = time.perf_counter(), []
        while len(rates) < rounds and (not rates or time.perf_counter() - began < patience_s):
            rates.append((ours(start, data), plain(start, data)))
        mine, peer = (float(np.median(column)) for column in zip(*rates, strict=True))
        target = 53.0 if kind == "questions" else peer
        words = LENGTHS[kind][0]
        rows.append(
            {
                "metric": f"fine-tuning, {kind} ({words} words, batches of {BATCH})",
                "value": round(mine, 1),
                "target": round(target, 1),
                "unit": "examples/s",
                "met": mine >= target,
                "peer": {
                    "name": "plain transformers loop",
                    "value": round(peer, 1),
                    "unit": "examples/s",
                },
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    torch.manual_seed(0)
    # On a busy machine threads wait for each other: quick stays quick with fewer rounds.
    size, rounds, patience_s = (64, 2, 10.0) if options.quick else (1920, 3, math.inf)
    rows = measure(size, rounds, patience_s)
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )
    if options.json:
        result = {"bench": "encoder", "machine": machine, "rounds": rounds, "size": size}
        print(json.dumps({**result, "rows": rows}))
        return
    print(f"{machine}; medians of up to {rounds} rounds of {size} texts")
    for row in rows:
        met = "met" if row["met"] else "MISSED"
        print(
            f"{row['metric']:<48} {row['value']:>7,.1f} {row['unit']}  target "
            f"{row['target']:,.1f} {met}; peer {row['peer']['value']:,.1f} ({row['peer']['name']})"
        )


if __name__ == "__main__":
    main()
