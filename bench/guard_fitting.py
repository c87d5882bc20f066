"""Replays with verdicts, and what each signal adds: used by guard_quality and guard_adaptive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from overproof.config.guard import GuardConfig
from overproof.guard.exemptions import Exemptions, sign
from overproof.guard.fingerprints import Fingerprinter
from overproof.guard.instruments import Instruments, new_recorder
from overproof.guard.judging import Judge
from overproof.guard.replay import SnapshotPlan, replay
from overproof.guard.scorer import Scorer
from overproof.guard.signals.accounts import ACCOUNT_SIGNALS
from overproof.guard.signals.communities import COMMUNITY_SIGNALS
from overproof.guard.strata import BANDS, MARK, band_part
from overproof.proving.guard_fitting import UNCERTAIN, Watched, fit, fit_one, watched
from overproof.records.traffic import Truth
from peers.traffic_tracks import threshold_over

KEY = b"the key of this bench, not a secret"
RATE = 0.001


def replay_log(
    home: Path, verdicts: Path, config: GuardConfig, instruments: Path | None
) -> Watched:
    """Replay a simulated log; with instruments verdicts are taken, exemptions honoured."""
    events = next(iter(sorted(home.glob("events.*"))))
    judge = None
    if instruments is not None:
        entries = [
            sign({**entry, "until": "2999-01-01", "signed_by": "bench"}, KEY)
            for entry in msgspec.json.decode((home / "exempt.json").read_bytes())
        ]
        judge = Judge(config, Instruments(instruments), Exemptions(entries, KEY))
    recorder = new_recorder()
    replay(
        events, verdicts, config, judge=judge, sketcher=Fingerprinter(KEY), recorder=recorder,
        snapshots=SnapshotPlan(),
    )  # fmt: skip
    return watched(home, (recorder.accounts, recorder.communities))


def ablate(fits: Sequence[Watched], tests: Sequence[Watched]) -> list[dict[str, Any]]:
    """Power with all signals, and without each in turn, the scorer refitted.

    Accounts: the share of attackers whose highest score lies above what one honest account in a
    thousand of the test logs reaches, over the bands of requests. Communities: the share of
    campaigns of three or more accounts with a community, mostly of it, whose score lies above that
    of 99 % of honest communities. Both leave out L5 and makers of synthetic data, of whom no signal
    can tell. Both thresholds are set on the test logs, for every scorer alike: this compares
    signals, it does not report error rates.
    """
    own = {signal.name for signal in ACCOUNT_SIGNALS}
    shared = {signal.name for signal in COMMUNITY_SIGNALS}
    whole = fit(fits)
    accounts, campaigns = _account_power(whole[0], tests), _campaign_power(whole[1], tests)
    found = [{"without": None, "accounts": accounts, "campaigns": campaigns}]
    for name in [*own, *(shared - own)]:
        left = accounts, campaigns
        if name in own:
            left = _account_power(fit_one(fits, "account", without=[name]), tests), left[1]
        if name in shared:
            left = left[0], _campaign_power(fit_one(fits, "community", without=[name]), tests)
        found.append({"without": name, "accounts": left[0], "campaigns": left[1]})
    return sorted(found, key=lambda one: (one["without"] is not None, str(one["without"])))


def _account_power(scorer: Scorer, logs: Sequence[Watched]) -> float:
    """Judged as guard does: in every band of requests, at a share of the rate."""
    best: dict[str, dict[tuple[str, str], float]] = {name: {} for name, _ in BANDS}
    attacks: dict[tuple[str, str], bool] = {}
    for log in logs:
        table = log.accounts
        scores = scorer.score(table.vectors, table.strata).tolist()
        for name, stratum, score in zip(table.subjects, table.strata, scores, strict=True):
            if log.kind(name) in UNCERTAIN:
                continue
            key, here = (log.name, name), best[band_part(stratum).removeprefix(MARK)]
            here[key] = max(here.get(key, -np.inf), score)
            attacks[key] = log.truth[name].campaign is not None
    honest = [key for key, attack in attacks.items() if not attack]
    found: set[tuple[str, str]] = set()
    for here in best.values():
        least = threshold_over([here.get(key, -np.inf) for key in honest], RATE / len(BANDS))
        found |= {key for key, score in here.items() if attacks[key] and score >= least}
    return len(found) / max(sum(attacks.values()), 1)


def _campaign_power(scorer: Scorer, logs: Sequence[Watched]) -> float:
    honest: dict[tuple[str, str], float] = {}
    campaigns: dict[tuple[str, str], float] = {}
    for log in logs:
        sizes = Counter(told.campaign for told in log.truth.values() if told.campaign)
        campaigns |= {(log.name, name): -np.inf for name, size in sizes.items() if size >= 3}
        table = log.communities
        scores = scorer.score(table.vectors).tolist()
        for name, members, score in zip(table.subjects, table.members, scores, strict=True):
            main, share = _main(members, log.truth)
            if 2 * sum(log.kind(member) in UNCERTAIN for member in members) > len(members):
                continue
            if main is None or share < 0.5:
                key = (log.name, name)
                honest[key] = max(honest.get(key, -np.inf), score)
            elif (log.name, main) in campaigns:
                key = (log.name, main)
                campaigns[key] = max(campaigns[key], score)
    if not campaigns:
        return float("nan")
    return float(
        np.mean(np.array(list(campaigns.values())) >= threshold_over(honest.values(), 0.01))
    )


def _main(members: Sequence[str], truth: dict[str, Truth]) -> tuple[str | None, float]:
    counts = Counter(
        told.campaign for name in members if (told := truth.get(name)) and told.campaign
    )
    if not counts:
        return None, 0.0
    name, count = min(counts.items(), key=lambda each: (-each[1], str(each[0])))
    return name, count / len(members)
