"""Guard's instruments from simulated logs: scorers fitted on some, calibrations frozen on others.

A *watched* log is a simulated one after a replay that decided nothing: what every look saw, beside
the truth. The scorers learn from watched logs with attackers in them; the calibrations are made
from watched logs without any. Nothing here sees the logs that figures are reported on.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from overproof.config.guard import GuardConfig
from overproof.config.toml_file import read_toml
from overproof.config.traffic import TrafficPlan
from overproof.guard.calibration import Calibration
from overproof.guard.community_calibration import CommunityCalibration
from overproof.guard.instruments import FILES, new_recorder
from overproof.guard.parts import CommunitySignal, Signal
from overproof.guard.pools import calibrate_accounts, calibrate_communities
from overproof.guard.recording import LookTable, read_looks
from overproof.guard.replay import replay
from overproof.guard.score_fit import fit_scorer
from overproof.guard.scorer import Scorer
from overproof.guard.signals.accounts import ACCOUNT_SIGNALS
from overproof.guard.signals.communities import COMMUNITY_SIGNALS
from overproof.guard.strata import BANDS, MARK, band_part
from overproof.proving.traffic.write import TrafficCounts, write_traffic
from overproof.records.traffic import Truth

__all__ = [
    "KEY",
    "LEAST_COMMUNITIES",
    "UNCERTAIN",
    "Watched",
    "fit",
    "fit_one",
    "freeze",
    "labelled",
    "simulated",
    "watch",
    "watched",
]

LOOKS = "looks.parquet"
# Simulated logs have no customers to protect; the key is fixed so that they can be made again.
KEY = hashlib.sha256(b"guard, simulated logs").digest()
ATTACKS = ("L0", "L1", "L2", "L3", "L4")
# L5 replays honest sessions, and permitted makers of synthetic data ask what L0 and L1 ask: a
# scorer can learn nothing from either but noise.
UNCERTAIN = ("L5", "synthetic-permitted", "synthetic-unsigned")
# A p-value of 1 / (n + 1) must be small enough for a handful of campaigns among some hundred honest
# communities to be reported: bands of fewer take in their neighbours.
LEAST_COMMUNITIES = 600
# Members of a community send one template, and where the text model is wrong about it, it is wrong
# about them all: honest communities with templates that a scorer has not met are not exchangeable
# with those that it has. What the model says counts in the members' own conduct.
TEXT_SHARES = ("group_elicitation", "group_rubric", "group_synthesis")
LEAST_CAMPAIGNS = 10  # in a band of requests, for it to have a scorer of its own


@dataclass(frozen=True)
class Watched:
    """One simulated log, watched.

    Attributes:
        name: of its directory; tells accounts of several logs apart.
        accounts: looks at accounts.
        communities: looks at communities.
        truth: by account.
        days: length of the log.
        until: the moment after its last, seconds since the epoch.
    """

    name: str
    accounts: LookTable
    communities: LookTable
    truth: dict[str, Truth]
    days: float
    until: float

    def kind(self, account: str) -> str:
        """The level of an attacker, the class of an honest account."""
        told = self.truth[account]
        return told.level or told.kind

    def group(self, account: str) -> str:
        """The campaign or the honest group of an account, the account where it has none."""
        told = self.truth[account]
        return f"{self.name}/{told.campaign or told.group or account}"


def simulated(plan: Path, seed: int, home: Path) -> TrafficCounts | None:
    """Simulate a log of a plan file with sketches in place of text; None if it is there already.

    Args:
        plan: TOML, what differs from `TrafficPlan.standard`.
        seed: of the log.
        home: a directory, new or empty.
    """
    if (home / "manifest.json").exists():
        return None
    _, changes = read_toml(plan, "name the plan of a log")
    return write_traffic(TrafficPlan.standard(seed, sketch_key=KEY, **changes), home)


def watch(home: Path, config: GuardConfig | None = None) -> None:
    """Replay a simulated log without deciding anything, and keep what the looks saw beside it.

    Args:
        home: what `write_traffic` wrote; it is left alone if it was watched before.
        config: ages of looks and passes; the defaults if None.
    """
    if (home / LOOKS).exists():
        return
    recorder = new_recorder()
    verdicts = home / "nothing.jsonl"
    replay(next(iter(sorted(home.glob("events.*")))), verdicts, config or GuardConfig(),
           recorder=recorder)  # fmt: skip
    recorder.save(home / LOOKS)
    for left in home.glob("nothing.*"):
        left.unlink()


def watched(home: Path, tables: tuple[LookTable, LookTable] | None = None) -> Watched:
    """A log with what its looks saw.

    Args:
        home: its directory.
        tables: looks at accounts and at communities; what `watch` kept if None.
    """
    accounts, communities = tables or read_looks(home / LOOKS)
    lines = (home / "truth.jsonl").read_bytes().splitlines()
    truth = {told.account: told for told in (msgspec.json.decode(x, type=Truth) for x in lines)}
    manifest = msgspec.json.decode((home / "manifest.json").read_bytes())
    plan = TrafficPlan.model_validate(manifest["plan"])
    return Watched(home.name, accounts, communities, truth, plan.days, plan.end_s)


def labelled(log: Watched, members: Sequence[str]) -> tuple[bool | None, str]:
    """Attack, honest or neither, and the group: a community is what most of its members are."""
    kinds = [log.kind(member) for member in members]
    attackers = [m for m, kind in zip(members, kinds, strict=True) if kind in ATTACKS]
    if len(attackers) * 2 >= len(members):
        return True, _most_common([log.group(member) for member in attackers])
    if attackers or any(kind in UNCERTAIN for kind in kinds):
        return None, ""  # neither one nor the other: nothing to learn from
    return False, _most_common([log.group(member) for member in members])


def _most_common(names: Sequence[str]) -> str:
    counts = Counter(names)
    return min(counts, key=lambda name: (-counts[name], name))


def fit(logs: Sequence[Watched], *, without: Collection[str] = ()) -> tuple[Scorer, Scorer]:
    """Scorers of accounts and of communities; every look is a row.

    Args:
        logs: with attackers of L0 to L4 and honest classes.
        without: signals to leave out, for an ablation.
    """
    return fit_one(logs, "account", without=without), fit_one(logs, "community", without=without)


def fit_one(
    logs: Sequence[Watched],
    kind: Literal["account", "community"],
    *,
    without: Collection[str] = (),
) -> Scorer:
    """One of the two scorers of `fit`; that of accounts has one more for each band of requests."""
    signals: Sequence[Signal | CommunitySignal] = (
        ACCOUNT_SIGNALS if kind == "account" else COMMUNITY_SIGNALS
    )
    rows: list[npt.NDArray[np.float64]] = []
    labels: list[bool] = []
    groups: list[str] = []
    bands: list[str] = []
    for log in logs:
        table = log.accounts if kind == "account" else log.communities
        for vector, members, stratum in zip(
            table.vectors, table.members, table.strata, strict=True
        ):
            label, group = labelled(log, members)
            if label is not None:
                rows.append(vector)
                labels.append(label)
                groups.append(group)
                bands.append(band_part(stratum).removeprefix(MARK))
    names = [signal.name for signal in signals]
    left_out = {*without, *(TEXT_SHARES if kind == "community" else ())}
    x, y, band = np.array(rows), np.array(labels), np.array(bands)

    def fitted(kept: npt.NDArray[np.int64], which: str) -> Scorer:
        return fit_scorer(
            x[kept], y[kept], [groups[at] for at in kept.tolist()], names,
            [signal.family for signal in signals],
            kind=kind, without=[name for name in names if name in left_out],
            made_from={"logs": [log.name for log in logs], "synthetic": True, "looks": which},
        )  # fmt: skip

    whole = fitted(np.arange(len(y)), "all")
    own = {}
    for name, _ in BANDS if kind == "account" else ():
        kept = np.flatnonzero(band == name)
        attackers = {groups[at] for at in kept[y[kept]].tolist()}
        if len(attackers) >= LEAST_CAMPAIGNS and not y[kept].all():
            own[name] = fitted(kept, name)
    return replace(whole, bands=own)


def freeze(
    scorers: tuple[Scorer, Scorer],
    logs: Sequence[Watched],
    out: Path,
    config: GuardConfig | None = None,
    *,
    least_communities: int = LEAST_COMMUNITIES,
    version: str = "1",
) -> tuple[Calibration, CommunityCalibration]:
    """Calibrate on honest logs and write the four frozen files.

    Args:
        scorers: of accounts and of communities.
        logs: without attackers; accounts of a campaign are left out where there are any, with
            every community that one of them belongs to.
        out: a directory; made where it is missing.
        config: the preset ages; the defaults if None.
        least_communities: how many a band of sizes must have.
        version: a name for the calibrations.
    """
    config = config or GuardConfig()
    # Accounts of one log live where those of another do: all logs are moved to one end.
    until = min(log.until for log in logs)
    joined = _joined(logs, until)
    accounts = calibrate_accounts(
        joined, scorers[0], config.looks.ages_h, until=until, version=version,
        trusted={f"{log.name}/{name}" for log in logs for name, told in log.truth.items()
                 if told.campaign is None},
        groups=dict(zip(joined.subjects, joined.groups, strict=True)),
    )  # fmt: skip
    communities = calibrate_communities(
        [_honest(log) for log in logs], scorers[1], until=until,
        days=max(log.days for log in logs), least=least_communities, version=version,
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    for file, scorer in zip(FILES, scorers, strict=False):
        scorer.save(out / file)
    accounts.save(out / FILES[2])
    communities.save(out / FILES[3])
    return accounts, communities


def _honest(log: Watched) -> LookTable:
    """The looks at communities without any account of a campaign."""
    table = log.communities
    kept = [
        place for place, members in enumerate(table.members)
        if all(log.truth[member].campaign is None for member in members)
    ]  # fmt: skip
    return replace(
        table,
        subjects=[table.subjects[place] for place in kept],
        members=[table.members[place] for place in kept],
        look=table.look[kept],
        at=table.at[kept],
        strata=[table.strata[place] for place in kept],
        vectors=table.vectors[kept],
        groups=[table.groups[place] for place in kept],
    )


def _joined(logs: Sequence[Watched], until: float) -> LookTable:
    """The looks at accounts of several logs as one table; names are told apart by their log."""
    tables = [log.accounts for log in logs]
    names = [f"{log.name}/{name}" for log in logs for name in log.accounts.subjects]
    return replace(
        tables[0],
        subjects=names,
        members=[(name,) for name in names],
        look=np.concatenate([table.look for table in tables]),
        at=np.concatenate([log.accounts.at + (until - log.until) for log in logs]),
        strata=[plan for table in tables for plan in table.strata],
        vectors=np.concatenate([table.vectors for table in tables]),
        groups=[log.group(name) for log in logs for name in log.accounts.subjects],
    )
