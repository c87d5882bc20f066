"""Fitting what guard ships with: scorers on some simulated logs, calibrations on others.

    python studies/guard_fit.py --work runs/guard-fit --out src/overproof/guard/fitted

Three kinds of logs, all synthetic, all of the bank of templates called ``fit``:

* *fit*: attack levels L0 to L4 and every honest class; the scorers learn from them. L5 replays
  honest sessions and uses that are permitted look like L0 and L1 by their text: both are left out.
* *calibration*: honest traffic alone, other seeds. Every p-value of the shipped instruments is
  against these; a provider makes his own with ``overproof guard calibrate``.
* *test*: other seeds and the bank ``test``; bench/guard_quality.py reports on them. Nothing here
  reads them.

Each log is simulated and watched once; what is there already is kept.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from overproof.config.guard import GuardConfig
from overproof.config.traffic import TrafficPlan
from overproof.guard.instruments import FILES, new_recorder
from overproof.guard.pools import calibrate_accounts, calibrate_communities
from overproof.guard.recording import LookTable, read_looks
from overproof.guard.replay import replay
from overproof.guard.score_fit import fit_scorer
from overproof.guard.scorer import Scorer
from overproof.guard.signals.accounts import ACCOUNT_SIGNALS
from overproof.guard.signals.communities import COMMUNITY_SIGNALS
from overproof.proving.traffic.write import write_traffic

# Simulated logs have no customers to protect; the key is fixed so that they can be made again.
KEY = hashlib.sha256(b"guard, simulated logs").digest()
ATTACKS = ("L0", "L1", "L2", "L3", "L4")
UNCERTAIN = ("L5", "synthetic-permitted")
FIT: dict[str, Any] = {
    "campaigns": {"L0": 30, "L1": 6, "L2": 5, "L3": 5, "L4": 5, "L5": 2},
    "accounts": {"L2": (6, 10), "L3": (25, 40), "L4": (40, 60)},
    "each_class": 40,
    "groups": {"chat": 800},
    "contamination": None,
    "heavy_events": 400_000,
}
CALIBRATION: dict[str, Any] = {
    "campaigns": dict.fromkeys(("L0", "L1", "L2", "L3", "L4", "L5"), 0),
    "each_class": 60,
    "groups": {"chat": 1_200, "synthetic-permitted": 0},
    "contamination": None,
    "heavy_events": 700_000,
}
# A p-value of 1 / (n + 1) must be small enough for a handful of campaigns among some 250 honest
# communities to be reported: bands of fewer take in their neighbours.
LEAST_COMMUNITIES = 600
TEST: dict[str, Any] = {
    "accounts": {"L2": (6, 10), "L3": (25, 40), "L4": (40, 60)},
    "contamination": 0.01,
    "heavy_events": 700_000,
}


@dataclass(frozen=True)
class Log:
    """One simulated log in its directory."""

    home: Path
    truth: dict[str, dict[str, Any]]
    manifest: dict[str, Any]

    @property
    def until(self) -> float:
        """The moment after its last, in seconds since the epoch."""
        plan = TrafficPlan.model_validate(self.manifest["plan"])
        return plan.end_s

    def kind(self, account: str) -> str:
        """The level of an attacker, the class of an honest account."""
        truth = self.truth[account]
        return truth["level"] or truth["class"]

    def group(self, account: str) -> str:
        """The campaign or the honest group of an account, by itself where it has none."""
        truth = self.truth[account]
        return f"{self.home.name}/{truth['campaign'] or truth['group'] or account}"


def main() -> None:
    """Simulate, watch, fit, freeze."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/guard-fit"))
    parser.add_argument("--out", type=Path, default=Path("src/overproof/guard/fitted"))
    parser.add_argument("--fit", type=int, nargs="+", default=[101, 102])
    parser.add_argument("--calibrate", type=int, nargs="+", default=[201, 202])
    parser.add_argument("--jobs", type=int, default=1)
    asked = parser.parse_args()
    wanted = [(asked.work / f"fit{seed}", FIT, seed, "fit") for seed in asked.fit]
    wanted += [(asked.work / f"cal{seed}", CALIBRATION, seed, "fit") for seed in asked.calibrate]
    with ProcessPoolExecutor(asked.jobs) as pool:
        logs = list(pool.map(made_log, *zip(*wanted, strict=True)))
    fitted = [read_log_of(home) for home in logs[: len(asked.fit)]]
    frozen = [read_log_of(home) for home in logs[len(asked.fit) :]]
    asked.out.mkdir(parents=True, exist_ok=True)
    scorers = {kind: fit(fitted, kind) for kind in ("account", "community")}
    scorers["account"].save(asked.out / FILES[0])
    scorers["community"].save(asked.out / FILES[1])
    freeze(frozen, scorers, asked.out)


def made_log(home: Path, changes: dict[str, Any], seed: int, bank: str) -> Path:
    """Simulate and watch a log, as far as that is not done."""
    if not (home / "manifest.json").exists():
        write_traffic(TrafficPlan.standard(seed, bank=bank, sketch_key=KEY, **changes), home)
    watch(home)
    return home


def watch(home: Path) -> None:
    """Replay a log without deciding anything, and keep what the looks saw."""
    looks = home / "looks.parquet"
    if looks.exists():
        return
    recorder = new_recorder()
    log = next(home.glob("events.*"))
    report = replay(log, home / "nothing.jsonl", GuardConfig(), recorder=recorder)
    recorder.save(looks)
    for name in ("nothing.jsonl", "nothing.communities.jsonl"):
        (home / name).unlink(missing_ok=True)
    print(f"{home.name}: {report.events:,} events, {report.events_per_second:,.0f} a second, "
          f"{report.guard.get('communities', 0):,} communities, "
          f"{report.guard.get('looks', 0):,} looks", flush=True)  # fmt: skip


def read_log_of(home: Path) -> Log:
    """The truth and the manifest of a log; its looks are read where they are needed."""
    lines = (home / "truth.jsonl").read_text(encoding="utf-8").splitlines()
    truth = {row["account"]: row for row in map(json.loads, lines)}
    return Log(home, truth, json.loads((home / "manifest.json").read_text(encoding="utf-8")))


# ---------------------------------------------------------------- fitting


def fit(logs: list[Log], kind: str, without: tuple[str, ...] = ()) -> Scorer:
    """One scorer from labelled looks of several logs."""
    rows: list[np.ndarray[Any, Any]] = []
    labels: list[bool] = []
    groups: list[str] = []
    for log in logs:
        table = read_looks(log.home / "looks.parquet")[kind == "community"]
        for vector, members in zip(table.vectors, table.members, strict=True):
            label, group = labelled(log, members)
            if label is not None:
                rows.append(vector)
                labels.append(label)
                groups.append(group)
    signals = ACCOUNT_SIGNALS if kind == "account" else COMMUNITY_SIGNALS
    scorer = fit_scorer(
        np.array(rows), np.array(labels), groups,
        [signal.name for signal in signals], [signal.family for signal in signals],
        kind="account" if kind == "account" else "community", without=without,
        made_from={"logs": [log.home.name for log in logs], "synthetic": True},
    )  # fmt: skip
    print(f"{kind}: {sum(labels):,} looks at attackers, {len(labels) - sum(labels):,} at honest")
    return scorer


def labelled(log: Log, members: tuple[str, ...]) -> tuple[bool | None, str]:
    """Attack, honest or neither; and the group. A community is what most of its members are."""
    kinds = [log.kind(member) for member in members]
    attackers = [m for m, kind in zip(members, kinds, strict=True) if kind in ATTACKS]
    if any(kind in UNCERTAIN for kind in kinds) and len(attackers) * 2 < len(members):
        return None, ""
    if len(attackers) * 2 >= len(members):
        return True, most_common([log.group(member) for member in attackers])
    if attackers:  # neither one nor the other: nothing to learn from
        return None, ""
    return False, most_common([log.group(member) for member in members])


def most_common(names: list[str]) -> str:
    """The first by name of those that come most often."""
    return max(sorted(set(names)), key=names.count)


# ---------------------------------------------------------------- freezing


def freeze(logs: list[Log], scorers: dict[str, Scorer], out: Path) -> None:
    """Both calibrations from several honest logs."""
    settings = GuardConfig()
    tables = [read_looks(log.home / "looks.parquet") for log in logs]
    # Accounts of one log live where those of another do: the first moment is moved to one.
    start = min(log.until for log in logs)
    joined = joined_accounts([table for table, _ in tables], logs, start)
    accounts = calibrate_accounts(
        joined, scorers["account"], settings.looks.ages_h, until=start,
        groups=dict(zip(joined.subjects, joined.groups, strict=True)),
    )  # fmt: skip
    days = max(TrafficPlan.model_validate(log.manifest["plan"]).days for log in logs)
    communities = calibrate_communities(
        [table for _, table in tables], scorers["community"], until=start, days=days,
        least=LEAST_COMMUNITIES,
    )  # fmt: skip
    accounts.save(out / FILES[2])
    communities.save(out / FILES[3])
    for line in (*accounts.describe(settings.looks.false_positive_rate),
                 *communities.describe(settings.communities.false_discovery_rate)):  # fmt: skip
        print(line)


def joined_accounts(tables: list[LookTable], logs: list[Log], until: float) -> LookTable:
    """The looks at accounts of several logs as one table; names are told apart by their log."""
    names = [f"{log.home.name}/{name}" for log, t in zip(logs, tables, strict=True)
             for name in t.subjects]  # fmt: skip
    return replace(
        tables[0],
        subjects=names,
        members=[(name,) for name in names],
        look=np.concatenate([t.look for t in tables]),
        at=np.concatenate(
            [t.at + (until - log.until) for log, t in zip(logs, tables, strict=True)]
        ),
        strata=[plan for t in tables for plan in t.strata],
        vectors=np.concatenate([t.vectors for t in tables]),
        groups=[
            log.group(name) for log, t in zip(logs, tables, strict=True) for name in t.subjects
        ],
    )


if __name__ == "__main__":
    main()
