"""Speed and memory of training language models: python bench/train.py [--quick] [--json].

Each of our methods against the trainer of TRL that does the same work: SFTTrainer for learning from
text, GKDTrainer without its own text for dense KD, DistillationTrainer for on-policy KD. For sparse
signals TRL has no trainer; they are set against its SFTTrainer, which reads the same tokens. The
model is a random Llama of 9 million parameters with a vocabulary of 16,384, its teacher one of 20
million, or both are ``--model DIR``. Weights, chats, precision (float32 on a CPU, bfloat16 on a
GPU), optimizer and tokens a step are the same, and all chats have one length, so that nobody gains
by packing. Where a setting is not shared each has its default: TRL's SFTTrainer measures entropy
and accuracy on the way.

Each run is a process of its own, the two in turns; train_once.py says what is counted. Figures are
medians of the ratios of runs that followed each other.

Targets: not slower than TRL by more than 3 %, nor larger by more than 5 %, on a CPU; a sparse
signal may take 10 % more time a step than plain cross-entropy (arXiv 2503.16870 reports less).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from train_inputs import Size, write_inputs

PEERS = {
    "sft": "trl:sft",
    "dense_kd": "trl:gkd",
    "sparse_kd": "trl:sft",
    "sampled_kd": "trl:sft",
    "on_policy": "trl:distillation",
}
NAMES = {
    "trl:sft": "SFTTrainer",
    "trl:gkd": "GKDTrainer",
    "trl:distillation": "DistillationTrainer",
}
# In this order a run of ours is near its peer.
TURNS = (
    "ours:sft", "trl:sft", "ours:sparse_kd", "ours:sampled_kd", "ours:dense_kd", "trl:gkd",
    "ours:on_policy", "trl:distillation",
)  # fmt: skip
SPEED, MEMORY, OVERHEAD = 0.97, 1.05, 10.0
FULL = Size(vocabulary=16_384, length=128, answer=96, micro=16, steps=6, warm_up=2, prompts=16)
QUICK = Size(vocabulary=8_192, length=64, answer=48, micro=8, steps=2, warm_up=1, prompts=8)
PATIENCE_S = 30.0  # of a quick bench: what has not begun by then is left out

Runs = dict[str, list[dict[str, Any]]]


def run_all(directory: Path, rounds: int, until: float) -> tuple[Runs, dict[str, str]]:
    """Results by name, the n-th of each from the same round; and why there is none."""
    runs: Runs = defaultdict(list)
    why: dict[str, str] = {}
    for _ in range(rounds):
        for name in TURNS:
            if name.startswith("trl") and importlib.util.find_spec("trl") is None:
                why[name] = "trl is not installed"
            elif time.monotonic() > until:
                why.setdefault(name, "the time of a quick run was up")
            else:
                runs[name].append(run_one(name, directory))
    return runs, why


def run_one(name: str, directory: Path) -> dict[str, Any]:
    script = Path(__file__).with_name("train_once.py")
    clock = ["clock"] if name.startswith("ours") else []
    done = subprocess.run(
        [sys.executable, str(script), name, str(directory), *clock],
        capture_output=True, text=True, check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{name:<20} {result['rate']:>9,.0f} tokens/s {result['memory_mib']:>8,.0f} MiB",
          file=sys.stderr)  # fmt: skip
    return result


def ratio(runs: Runs, a: str, b: str, key: str) -> float:
    """The median of the ratios of one round each."""
    pairs = zip(runs[a], runs[b], strict=False)  # the last round of a quick run may lack one
    return statistics.median(x[key] / y[key] for x, y in pairs)


def median(runs: Runs, name: str, key: str) -> float:
    return statistics.median(run[key] for run in runs[name])


def rows_of(runs: Runs, why: dict[str, str]) -> list[dict[str, Any]]:
    rows = []
    for method, peer in PEERS.items():
        mine = f"ours:{method}"
        for what, key, target, unit in (
            ("tokens a second", "rate", SPEED, "tokens/s"),
            ("peak memory", "memory_mib", MEMORY, "MiB"),
        ):
            missing = next((why.get(n, "it did not run") for n in (mine, peer) if not runs[n]), "")
            value = None if missing else ratio(runs, mine, peer, key)
            absolute = f"{median(runs, mine, key):,.0f} {unit}" if runs[mine] else "no run"
            theirs: dict[str, Any] = {
                "name": f"TRL {trl_version()} {NAMES[peer]}", "unit": unit,
                "value": round(median(runs, peer, key), 1) if runs[peer] else None,
            }  # fmt: skip
            if not runs[peer]:
                theirs["why"] = missing
            better = value is not None and (value >= target if key == "rate" else value <= target)
            metric = f"{method}: {what}, ours ({absolute}) to TRL's {NAMES[peer]}"
            rows.append(row(metric, value, target, "ratio", better, peer=theirs, why=missing))
    for method in ("sparse_kd", "sampled_kd"):
        pair = (f"ours:{method}", "ours:sft")
        missing = next((why.get(name, "it did not run") for name in pair if not runs[name]), "")
        value = None if missing else 100 * (ratio(runs, *pair, "step_seconds") - 1)
        metric = f"{method}: time of a step beyond plain cross-entropy"
        met = value is not None and value <= OVERHEAD
        rows.append(row(metric, value, OVERHEAD, "%", met, why=missing))
    for method in PEERS:
        rows += shares_of(method, runs[f"ours:{method}"])
    return rows


def shares_of(method: str, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Where the time of a step goes."""
    names = dict.fromkeys(name for result in results for name in result.get("shares", {}))
    return [
        row(
            f"{method}: share of a step's time: {name}",
            100 * statistics.median(result["shares"].get(name, 0.0) for result in results),
            None, "%", None, why="says where the time goes; there is no target",
        )
        for name in names
    ]  # fmt: skip


def row(
    metric: str,
    value: float | None,
    target: float | None,
    unit: str,
    met: bool | None,
    *,
    peer: dict[str, Any] | None = None,
    why: str = "",
) -> dict[str, Any]:
    rounded = None if value is None else round(value, 3 if unit == "ratio" else 1)
    made = {
        "metric": metric, "value": rounded, "target": target, "unit": unit,
        "met": None if why else met, "peer": peer,
    }  # fmt: skip
    return made | ({"why": why} if why else {})


def trl_version() -> str:
    try:
        return importlib.metadata.version("trl")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def machine() -> str:
    import torch
    import transformers

    gpu = f", {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else ""
    return (
        f"{platform.machine()}, {os.cpu_count()} cores{gpu}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of a few small steps")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--model", type=Path, help="a directory of weights, as student and teacher")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (5)")
    parser.add_argument("--chats", type=int, help="chats at a time, two times a step")
    options = parser.parse_args()
    began = time.monotonic()
    size, rounds = (QUICK, 1) if options.quick else (FULL, options.rounds)
    if options.chats:
        size = replace(size, micro=options.chats, prompts=options.chats)
    with tempfile.TemporaryDirectory() as directory:
        write_inputs(Path(directory), size, options.model)
        until = began + PATIENCE_S if options.quick else float("inf")
        runs, why = run_all(Path(directory), rounds, until)
    rows = rows_of(runs, why)
    if options.json:
        result = {"bench": "train", "machine": machine(), "rounds": rounds, "runs": runs}
        print(json.dumps({**result, "rows": rows}))
        return
    print(f"{machine()}; medians of {rounds} rounds, {2 * size.micro * size.length} tokens a step")
    for each in rows:
        met = {True: "met", False: "MISSED", None: each.get("why", "")}[each["met"]]
        value = "-" if each["value"] is None else f"{each['value']:,}"
        unit = "" if each["unit"] == "ratio" else each["unit"]
        target = "" if each["target"] is None else f"target {each['target']:g} "
        print(f"{each['metric']:<84} {value:>7} {unit:<2} {target}{met}")


if __name__ == "__main__":
    main()
