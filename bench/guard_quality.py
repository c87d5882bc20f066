"""How well the detector does on logs that it has not seen, with targets and peers beside.

    python bench/guard_quality.py [--quick] [--json] [--seeds 311,312,…] [--home DIR]

For every seed: simulate with the *test* bank of templates (studies/guard/test.toml), replay, score.
The scorers and the calibrations are frozen beforehand: the shipped ones, those given with
--calibration, or, where there are none, made here as studies/guard_fit.py makes them, from logs of
other seeds and the *fit* bank (--fit-seeds, --pool-seeds).
Figures are over all test seeds together, intervals by campaign and by honest group. Targets are
those that the design set itself before any figure was known.

--quick checks that the road is open, on small logs: two or three campaigns and a pool of some
hundred accounts decide nothing. A pool that is too small for the rate asked accuses nobody; the row
"smallest p of the calibration" says when that is so.
"""

from __future__ import annotations

import argparse
import json
import math
import pickle
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import guard_fitting as fitting
import guard_peers
from bench_table import tell
from overproof.config.guard import GuardConfig
from overproof.errors import OverproofError
from overproof.guard.instruments import SHIPPED, Instruments
from overproof.guard.scoring import (
    Outcomes,
    Scores,
    Share,
    outcomes_of,
    read_verdicts,
    score_outcomes,
)
from overproof.proving.guard_fitting import Watched, fit, freeze, simulated, watch, watched
from overproof.proving.traffic.honest.synthetic_permitted import UNSIGNED
from overproof.records.files import write_atomically
from overproof.records.hashing import content_hash, file_sha256
from overproof.records.traffic import Action
from overproof.stats.intervals import wilson

PLANS = Path(__file__).resolve().parent.parent / "studies" / "guard"
CAUGHT = {"L0": 0.98, "L1": 0.98, "L2": 0.98, "L3": 0.95, "L4": 0.60}
WITHIN = {"L2": 0.95, "L3": 0.90}
LEAKED = {"L2": 0.10, "L3": 0.10, "L4": 0.40}
WORST, FDR = 0.01, 0.05
UNREACHED = "no target was set"
GUARD = SHIPPED.parent


# Of one log: what the looks saw, what became of everybody in it, and the verdicts' file.
Judged = tuple[Watched, Outcomes, Path]


@dataclass
class Bench:
    """Where things lie, and how large logs are."""

    home: Path
    config: GuardConfig
    small: bool

    def log(self, seed: int, kind: str) -> Path:
        """A simulated log of the study's plan; one that is there already is used again."""
        out = self.home / f"{kind}-{seed}"
        if not (out / "manifest.json").exists():
            _say(f"simulating {out.name}")
            if self.small:
                guard_peers.write(seed, "test" if kind == "test" else "fit", out, small=True)
            else:
                simulated(PLANS / f"{kind}.toml", seed, out)
        return out

    def watched(self, seed: int, kind: str) -> Watched:
        """What the looks saw in a log, nothing being decided."""
        home = self.log(seed, kind)
        _say(f"watching {home.name}")
        watch(home, self.config)
        return watched(home)

    def judged(self, homes: Sequence[Path], instruments: Path, jobs: int) -> list[Judged]:
        """Logs replayed with verdicts, and what the looks saw on the way."""
        with ProcessPoolExecutor(jobs, max_tasks_per_child=1) as pool:
            return list(pool.map(judge, homes, repeat(instruments), repeat(self.config)))

    def instruments(self, fits: Sequence[Watched], pools: Sequence[int]) -> Path:
        """Fitted and frozen here, from seeds that nothing is reported on."""
        out = self.home / "instruments"
        honest = [self.watched(seed, "fit" if self.small else "honest") for seed in pools]
        freeze(fit(fits), honest, out, self.config)
        return out


def judge(home: Path, instruments: Path, config: GuardConfig) -> Judged:
    """Replay a log with verdicts, once for the same log, instruments, settings and code."""
    told = content_hash([
        Instruments(instruments).identity(), config.model_dump(mode="json"),
        file_sha256(home / "manifest.json"), *map(file_sha256, sorted(GUARD.rglob("*.py"))),
    ])  # fmt: skip
    verdicts = home.with_name(f"{home.name}.verdicts-{told[7:15]}.jsonl")
    kept = verdicts.with_suffix(".pickle")
    if not kept.exists():
        _say(f"replaying {home.name}")
        looks = fitting.replay_log(home, verdicts, config, instruments)
        log = guard_peers.Log.of(home)
        outcomes = outcomes_of(read_verdicts(verdicts), log.truth, log.totals)
        write_atomically(kept, pickle.dumps((looks, outcomes)))
    found: tuple[Watched, Outcomes] = pickle.loads(kept.read_bytes())
    return *found, verdicts


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def row(  # noqa: PLR0917 (a table reads best in columns)
    metric: str, found: Share | float | None, target: float | None = None, at_least: bool = True,
    unit: str = "share", why: str = UNREACHED, peer: Any = None,
) -> Any:  # fmt: skip
    share = found if isinstance(found, Share) else None
    value = share.value if share else found
    known = isinstance(value, float) and math.isfinite(value)
    met = None
    if known and target is not None:
        met = value >= target if at_least else value <= target
    interval = f" [{share.low:.4f}, {share.high:.4f}]" if share and known else ""
    return {
        "metric": metric + interval, "value": value if known else None, "target": target,
        "unit": unit, "met": met, "peer": peer,
        **({} if met is not None else {"why": why if known else "nothing to measure it on"}),
    }  # fmt: skip


def quality(scores: Scores, config: GuardConfig, peers: Sequence[guard_peers.PeerScores]) -> list:
    rows = []
    for level in scores.levels:
        name = level.level

        def beside(pick: Any, name: str = name) -> list[Any] | None:
            return _beside(peers, lambda found: (at := found.level(name)) and pick(at).value)

        rows += [
            row(f"{name}: campaigns caught, of {level.campaigns}", level.caught,
                CAUGHT.get(name), peer=beside(lambda at: at.caught)),
            row(f"{name}: campaigns with an account caught", level.touched),
            row(f"{name}: accounts within caught campaigns", level.accounts, WITHIN.get(name),
                peer=beside(lambda at: at.accounts)),
            row(f"{name}: tokens leaked before action", level.leaked, LEAKED.get(name), False,
                peer=beside(lambda at: at.leaked)),
            row(f"{name}: median requests to detection", level.requests_to_detection,
                unit="requests"),
            row(f"{name}: median time to detection", level.hours_to_detection, unit="h"),
            row(f"{name}: accounts named in their campaign's community", level.recall),
        ]  # fmt: skip
    worst = scores.honest(scores.worst) if scores.worst else None
    rate = config.looks.false_positive_rate
    rows += [
        row("honest accounts at soften or above", scores.false_positive_rate, rate, False,
            peer=_beside(peers, lambda found: found.false_positive_rate.value)),
        row("of the accused, attackers", scores.positive_predictive_value,
            peer=_beside(peers, lambda found: found.positive_predictive_value.value)),
        row("attackers among accounts", scores.prevalence),
        row("false communities, of those at soften or above", scores.communities.false_share,
            FDR, False),
        row("false communities, of all reported", scores.communities.false_share_watch),
        row("members of reported communities that belong", scores.communities.precision),
    ]  # fmt: skip
    if worst is not None:
        rows.append(row(f"worst honest class: {worst.kind}", worst.caught, WORST, False,
                        peer=_beside(peers, lambda found: (
                            found.honest(found.worst) if found.worst else None
                        ) and found.honest(found.worst).caught.value)))  # fmt: skip
    told = [each for each in scores.classes if each.kind != UNSIGNED]
    if told and worst is not None and worst.kind == UNSIGNED:
        next_worst = max(told, key=lambda each: each.caught.value)
        rows.append(row(f"worst honest class but {UNSIGNED}: {next_worst.kind}", next_worst.caught,
                        WORST, False))  # fmt: skip
    rows += [
        row(f"{each.kind}: honest accounts at soften or above, {each.groups} groups", each.caught)
        for each in scores.classes
    ]
    rows += [
        row(f"of the accused, attackers, were {float(share):.2%} of accounts", value)
        for share, value in scores.ppv_at.items()
    ]
    return rows


def apart(judged: Sequence[Judged]) -> list[Any]:
    """False communities without those of makers of synthetic data whose permission nobody signed.

    They ask what campaigns ask, in the same words, and share it: no detector can tell them apart.
    """
    false, reported = 0, 0
    for looks, _, verdicts in judged:
        acted: dict[str, Counter[str]] = {}
        for verdict in read_verdicts(verdicts):
            if verdict.subject.kind == "community" and verdict.action.rung >= Action.SOFTEN.rung:
                told = [looks.truth[member] for member in verdict.subject.members]
                kinds = Counter("attack" if one.campaign else one.kind for one in told)
                acted.setdefault(verdict.subject.id, kinds)
        for kinds in acted.values():
            if 2 * kinds[UNSIGNED] > kinds.total():
                continue
            reported += 1
            false += 2 * kinds["attack"] < kinds.total()
    if not reported:
        return []
    found = wilson(false, reported)
    share = Share(found.estimate, found.low, found.high, false, reported, reported, found.method)
    return [row(f"false communities, those of {UNSIGNED} set apart", share, FDR, False)]


def reach(instruments: Path, config: GuardConfig) -> list[Any]:
    """Whether the calibration is large enough for the rate that is asked of it."""
    pool = Instruments(instruments).accounts.stratum(None).whole.n
    return [
        row(f"smallest p of the calibration, {pool:g} honest accounts", 1 / (pool + 1),
            config.looks.false_positive_rate, False, unit="p-value"),
    ]  # fmt: skip


def _beside(peers: Sequence[guard_peers.PeerScores], pick: Any) -> list[Any] | None:
    found = []
    for peer in peers:
        value = None if peer.scores is None else pick(peer.scores)
        known = isinstance(value, float) and math.isfinite(value)
        found.append({
            "name": f"{peer.name} at {peer.threshold}", "value": value if known else None,
            **({} if known else {"why": peer.why or "nobody accused"}),
        })  # fmt: skip
    return found or None


def ablation(fits: Sequence[Watched], tests: Sequence[Watched]) -> list[Any]:
    """What is lost without each signal, in points of power."""
    found = fitting.ablate(fits, tests)
    whole = found[0]
    rows = [
        row("ablation, all signals: attackers found by their own conduct", whole["accounts"]),
        row("ablation, all signals: campaigns found by their communities", whole["campaigns"]),
    ]
    for each in found[1:]:
        for what in ("accounts", "campaigns"):
            if each[what] != whole[what]:
                rows.append(row(f"ablation, without {each['without']}: {what} lost",
                                whole[what] - each[what]))  # fmt: skip
    return rows


def measure(options: argparse.Namespace, bench: Bench) -> list[Any]:
    seeds = [int(seed) for seed in options.seeds.split(",")]
    tests = [bench.log(seed, "test") for seed in seeds]
    fit_seeds = [int(seed) for seed in options.fit_seeds.split(",")]
    instruments = options.calibration or (SHIPPED if SHIPPED.is_dir() else None)
    fits: list[Watched] = []
    if instruments is None or options.ablation:
        fits = [bench.watched(seed, "fit") for seed in fit_seeds]
    if instruments is None:
        pools = [int(seed) for seed in options.pool_seeds.split(",")]
        instruments = bench.instruments(fits, pools)
    judged = bench.judged(tests, instruments, options.jobs)
    peers: list[guard_peers.PeerScores] = []
    if not options.no_peers:
        _say("peers")
        calibrated = [guard_peers.Log.of(bench.log(seed, "fit")) for seed in fit_seeds]
        logs = [guard_peers.Log.of(home) for home in tests]
        peers = guard_peers.compare(logs, calibrated, options.honeypotllm)
    scores = _scores([outcomes for _, outcomes, _ in judged], bench.config)
    if options.scores:
        options.scores.write_text(json.dumps(scores.to_json(), indent=2))
    rows = [*reach(instruments, bench.config), *quality(scores, bench.config, peers)]
    rows += apart(judged)
    if options.ablation:
        rows += ablation(fits, [looks for looks, _, _ in judged[: options.ablation_logs]])
    return rows


def _scores(outcomes: Sequence[Outcomes], config: GuardConfig) -> Scores:
    return score_outcomes(outcomes, nominal=config.communities.false_discovery_rate)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small logs, one seed, no peers")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seeds", help="of test logs")
    parser.add_argument(
        "--fit-seeds", default="101,102,103", help="of logs that scorers are fitted on"
    )
    parser.add_argument(
        "--pool-seeds", default=",".join(map(str, range(201, 213))), help="of logs to calibrate on"
    )
    parser.add_argument("--calibration", type=Path, help="a directory of frozen files")
    parser.add_argument("--home", type=Path, help="keep logs and verdicts here, and use them again")
    parser.add_argument("--ablation", action="store_true", help="leave out each signal in turn")
    parser.add_argument("--ablation-logs", type=int, default=2, help="of the test logs, the first")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--jobs", type=int, default=1, help="logs replayed at once")
    parser.add_argument("--honeypotllm", type=Path, default=guard_peers.WHEEL)
    parser.add_argument("--scores", type=Path, help="also write all scores here as JSON")
    options = parser.parse_args()
    options.seeds = options.seeds or (
        "21" if options.quick else ",".join(map(str, range(331, 341)))
    )
    if options.quick:
        options.no_peers = True
        options.fit_seeds, options.pool_seeds = "1", "3"
    return options


def main() -> None:
    options = arguments()
    with TemporaryDirectory() as folder:
        home = options.home or Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        try:
            rows = measure(options, Bench(home, GuardConfig(), options.quick))
        except OverproofError as error:
            rows = [row("campaigns caught", None)]
            rows[0]["why"] = str(error)
    about = f", test seeds {options.seeds}"
    tell("guard_quality", rows, _lines, as_json=options.json, about=about)


def _lines(row: Any) -> str:
    """A row, and under it those of its peers."""
    met = {True: "met", False: "MISSED", None: ""}[row["met"]]
    target = "" if row["target"] is None else f"of {row['target']:g}"
    lines = [f"{_short(row['value']):>9} {target:<9}{met:<8}{row['metric']}"]
    for peer in row["peer"] or []:
        lines.append(f"{_short(peer['value']):>9}{'':>19}beside: {peer['name']}")
    return "\n".join(lines)


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


if __name__ == "__main__":
    main()
