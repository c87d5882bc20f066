"""Instruments from simulated logs, and what each signal adds: used by guard_quality.

Scorers are fitted on labelled logs of one family of templates; calibrations are made from the
honest accounts of other logs. Nothing here sees the logs that figures are reported on, but the
ablation, which scores them with scorers that were fitted elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from overproof.config.guard import GuardConfig
from overproof.guard.exemptions import Exemptions, sign
from overproof.guard.fingerprints import Fingerprinter
from overproof.guard.instruments import FILES, Instruments, new_recorder
from overproof.guard.judging import Judge
from overproof.guard.pools import calibrate_accounts, calibrate_communities
from overproof.guard.recording import LookTable
from overproof.guard.replay import SnapshotPlan, replay
from overproof.guard.score_fit import fit_scorer
from overproof.guard.scorer import Scorer
from overproof.guard.signals.accounts import ACCOUNT_SIGNALS
from overproof.guard.signals.communities import COMMUNITY_SIGNALS
from overproof.records.traffic import Truth
from peers.traffic_tracks import threshold_over

KEY = b"the key of this bench, not a secret"
RATE = 0.001


@dataclass(frozen=True)
class Looks:
    """What a replay of one log saw, with its truth; names are made different for every log."""

    accounts: LookTable
    communities: LookTable
    truth: dict[str, Truth]
    since: float
    until: float


def replay_log(home: Path, verdicts: Path, config: GuardConfig, instruments: Path | None) -> Looks:
    """Replay a simulated log; with instruments verdicts are taken, exemptions honoured."""
    events = next(iter(sorted(home.glob("events.*"))))
    truth = {
        told.account: told
        for line in (home / "truth.jsonl").read_bytes().splitlines()
        for told in (msgspec.json.decode(line, type=Truth),)
    }
    judge = None
    if instruments is not None:
        entries = [
            sign({**entry, "until": "2999-01-01", "signed_by": "bench"}, KEY)
            for entry in msgspec.json.decode((home / "exempt.json").read_bytes())
        ]
        judge = Judge(config, Instruments(instruments), Exemptions(entries, KEY))
    recorder = new_recorder()
    report = replay(
        events, verdicts, config, judge=judge, sketcher=Fingerprinter(KEY), recorder=recorder,
        snapshots=SnapshotPlan(),
    )  # fmt: skip
    mark = f"{home.name}/"
    return Looks(
        _marked(recorder.accounts, mark),
        _marked(recorder.communities, mark),
        {mark + account: told for account, told in truth.items()},
        report.since or 0.0,
        report.until or 0.0,
    )


def fit(logs: Sequence[Looks], *, without: Sequence[str] = ()) -> tuple[Scorer, Scorer]:
    """Scorers of accounts and of communities; an account's every look is one row."""
    made = []
    for kind, signals in (("account", ACCOUNT_SIGNALS), ("community", COMMUNITY_SIGNALS)):
        x, y, groups = _rows(logs, kind)
        names = [signal.name for signal in signals]
        made.append(fit_scorer(
            x, y, groups, names, [signal.family for signal in signals], kind=kind,
            without=[name for name in without if name in names],
        ))  # fmt: skip
    return made[0], made[1]


def freeze(
    scorers: tuple[Scorer, Scorer], pools: Sequence[Looks], out: Path, config: GuardConfig
) -> None:
    """Write the four files; the pools' honest accounts alone are trusted."""
    out.mkdir(parents=True, exist_ok=True)
    truth = {name: told for looks in pools for name, told in looks.truth.items()}
    honest = {name for name, told in truth.items() if told.campaign is None}
    until = max(looks.until for looks in pools)
    accounts = calibrate_accounts(
        _joined([looks.accounts for looks in pools]), scorers[0], config.looks.ages_h,
        until=until, trusted=honest,
        groups={name: told.group or name for name, told in truth.items()},
    )  # fmt: skip
    communities = calibrate_communities(
        [looks.communities for looks in pools], scorers[1], until=until,
        days=max((looks.until - looks.since) / 86_400 for looks in pools),
        honest=honest.issuperset,
    )  # fmt: skip
    scorers[0].save(out / FILES[0])
    scorers[1].save(out / FILES[1])
    accounts.save(out / FILES[2])
    communities.save(out / FILES[3])


def ablate(fits: Sequence[Looks], tests: Sequence[Looks]) -> list[dict[str, Any]]:
    """Power with all signals, and without each in turn, the scorer refitted.

    Accounts: the share of attackers whose highest score of all looks lies above that of 99.9 % of
    the test logs' honest accounts. Communities: the share of campaigns of three or more accounts
    with a community, mostly of it, whose score lies above that of 95 % of honest communities. Both
    thresholds are set on the test logs, for every scorer alike: this compares signals, it
    does not report error rates.
    """
    found = []
    names = [
        None,
        *(signal.name for signal in ACCOUNT_SIGNALS),
        *(s.name for s in COMMUNITY_SIGNALS if s.name not in {a.name for a in ACCOUNT_SIGNALS}),
    ]
    for name in names:
        scorers = fit(fits, without=[name] if name else ())
        found.append({
            "without": name,
            "accounts": _account_power(scorers[0], tests),
            "campaigns": _campaign_power(scorers[1], tests),
        })  # fmt: skip
    return found


def _account_power(scorer: Scorer, logs: Sequence[Looks]) -> float:
    best: dict[str, float] = {}
    truth: dict[str, Truth] = {}
    for looks in logs:
        truth |= looks.truth
        for name, score in zip(
            looks.accounts.subjects, scorer.score(looks.accounts.vectors).tolist(), strict=True
        ):
            best[name] = max(best.get(name, -np.inf), score)
    honest = [score for name, score in best.items() if truth[name].campaign is None]
    attackers = [score for name, score in best.items() if truth[name].campaign is not None]
    return float(np.mean(np.array(attackers) >= threshold_over(honest, RATE)))


def _campaign_power(scorer: Scorer, logs: Sequence[Looks]) -> float:
    honest: dict[str, float] = {}
    campaigns: dict[tuple[int, str], float] = {}
    for number, looks in enumerate(logs):
        sizes = Counter(told.campaign for told in looks.truth.values() if told.campaign)
        campaigns |= {(number, name): -np.inf for name, size in sizes.items() if size >= 3}
        scores = scorer.score(looks.communities.vectors).tolist()
        for name, members, score in zip(
            looks.communities.subjects, looks.communities.members, scores, strict=True
        ):
            main, share = _main(members, looks.truth)
            if main is None or share < 0.5:
                honest[name] = max(honest.get(name, -np.inf), score)
            elif (number, main) in campaigns:
                campaigns[number, main] = max(campaigns[number, main], score)
    if not campaigns:
        return float("nan")
    return float(
        np.mean(np.array(list(campaigns.values())) >= threshold_over(honest.values(), 0.05))
    )


def _main(members: Sequence[str], truth: dict[str, Truth]) -> tuple[str | None, float]:
    counts = Counter(
        told.campaign for name in members if (told := truth.get(name)) and told.campaign
    )
    if not counts:
        return None, 0.0
    name, count = min(counts.items(), key=lambda each: (-each[1], str(each[0])))
    return name, count / len(members)


def _rows(logs: Sequence[Looks], kind: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    x, y, groups = [], [], []
    for number, looks in enumerate(logs):
        table = looks.accounts if kind == "account" else looks.communities
        for subject, members, vector in zip(
            table.subjects, table.members, table.vectors, strict=True
        ):
            campaign, share = _main(members, looks.truth)
            attacks = campaign is not None and share >= 0.5
            told = looks.truth.get(members[0])
            group = campaign if attacks else (told.group if told else None) or subject
            x.append(vector)
            y.append(attacks)
            groups.append(f"{number}/{group}")
    return np.array(x), np.array(y), groups


def _marked(table: LookTable, mark: str) -> LookTable:
    return replace(
        table,
        subjects=[mark + name for name in table.subjects],
        members=[tuple(mark + name for name in members) for members in table.members],
    )


def _joined(tables: Sequence[LookTable]) -> LookTable:
    return replace(
        tables[0],
        subjects=[name for table in tables for name in table.subjects],
        members=[members for table in tables for members in table.members],
        look=np.concatenate([table.look for table in tables]),
        at=np.concatenate([table.at for table in tables]),
        strata=[plan for table in tables for plan in table.strata],
        vectors=np.concatenate([table.vectors for table in tables]),
        groups=[group for table in tables for group in table.groups],
    )
