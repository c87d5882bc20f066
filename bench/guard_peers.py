"""Other detectors on the same logs, by the same scores.

    python bench/guard_peers.py [--quick] [--json] [--honeypotllm WHEEL] [--home DIR]
                                [--log DIR --fit DIR]

honeypotllm 0.1.3 (where its wheel is given), an MMD window detector after arXiv 2606.05725 with
windows of 1,500 and of 100, and per-key volume rules; each at its own defaults and at the threshold
that 0.1 % of honest accounts of other seeds reach. A DIR is what `overproof proving traffic` wrote,
with text; without any, two are simulated, of half a million events (--quick: of 60,000).

Heavy honest customers of a simulated log send a hundredth of what is published, so that a log can
be replayed in minutes. That spares detectors of volume: at published rates they would accuse more.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench_table import tell
from overproof.guard.reading import read_log
from overproof.guard.scoring import (
    Outcomes,
    Scores,
    Totals,
    outcomes_of,
    read_totals,
    read_truth,
    score_outcomes,
)
from overproof.records.traffic import Event, Truth
from peers.traffic_honeypot import DEFAULT as HONEYPOT_DEFAULT
from peers.traffic_honeypot import Honeypot, HoneypotMissingError
from peers.traffic_mmd import Mmd, Reference, hashed
from peers.traffic_tracks import Tracks, threshold_at
from peers.traffic_volume import DEFAULT as VOLUME_DEFAULT
from peers.traffic_volume import Volume

WINDOWS = (1_500, 100)
RATE = 0.001
REFERENCE = 20_000  # honest requests of the fit seed that MMD compares with
WHEEL = Path("honeypotllm-0.1.3-py3-none-any.whl")


@dataclass(frozen=True)
class Log:
    """One simulated log with its truth."""

    events: Path
    truth: dict[str, Truth]
    totals: Totals

    @classmethod
    def of(cls, home: Path) -> Log:
        events = next(iter(sorted(home.glob("events.*"))))
        truth = read_truth(home / "truth.jsonl")
        return cls(events, truth, read_totals(events, truth))

    def __iter__(self) -> Iterator[Event]:
        return iter(read_log(self.events))  # simulated logs are in order of time


@dataclass(frozen=True)
class PeerScores:
    """One peer at one threshold; ``why`` where it was not measured."""

    name: str
    threshold: str
    scores: Scores | None
    why: str | None = None


def references(fit: Log) -> dict[int, Reference]:
    """MMD's references from honest traffic of a calibration seed, a random sample of it."""
    rng = np.random.default_rng(0)
    kept: list[Event] = []
    seen = 0
    for event in read_log(fit.events):
        told = fit.truth.get(event.account)
        if told is None or told.campaign is not None:
            continue
        seen += 1
        if len(kept) < REFERENCE:  # reservoir sampling (Vitter 1985)
            kept.append(event)
        elif (at := int(rng.integers(seen))) < REFERENCE:
            kept[at] = event
    rows = np.stack([hashed(event) for event in kept])
    return {window: Reference(rows, window) for window in WINDOWS}


def run(log: Log, made: dict[int, Reference], wheel: Path) -> tuple[dict[str, Tracks], str | None]:
    """All peers over one log; why honeypotllm is not among them, if it is not."""
    peers: dict[str, Any] = {"volume": Volume()}
    why = None
    try:
        peers["honeypotllm"] = Honeypot(wheel)
    except HoneypotMissingError as error:
        why = str(error)
    windows = {f"mmd-{window}": Mmd(reference) for window, reference in made.items()}
    for event in log:
        for peer in peers.values():
            peer.add(event)
        row = hashed(event)
        for window in windows.values():
            window.add(event, row)
    for peer in (*peers.values(), *windows.values()):
        peer.finish()
    return {name: peer.tracks for name, peer in {**peers, **windows}.items()}, why


def compare(logs: Sequence[Log], fits: Sequence[Log], wheel: Path) -> list[PeerScores]:
    """Every peer at its defaults and at the common rate, over all test logs together."""
    made = references(fits[0])
    fitted = [run(log, made, wheel) for log in fits]
    tested = [run(log, made, wheel) for log in logs]
    defaults = {
        "volume": VOLUME_DEFAULT,
        "honeypotllm": HONEYPOT_DEFAULT,
        **{f"mmd-{window}": reference.default for window, reference in made.items()},
    }
    found = []
    for name, default in defaults.items():
        if name not in tested[0][0]:
            found.append(PeerScores(name, "default", None, tested[0][1]))
            continue
        common = threshold_at(
            [
                (tracks[name], log.truth, log.totals.requests)
                for (tracks, _), log in zip(fitted, fits, strict=True)
            ],
            RATE,
        )
        for label, threshold in (("default", default), (f"{RATE:.1%} of honest", common)):
            outcomes: list[Outcomes] = [
                outcomes_of(tracks[name].verdicts(threshold), log.truth, log.totals)
                for (tracks, _), log in zip(tested, logs, strict=True)
            ]
            found.append(PeerScores(tested[0][0][name].name, label, score_outcomes(outcomes)))
    return found


def rows(found: Iterable[PeerScores]) -> list[Any]:
    table = []
    for peer in found:
        title = f"{peer.name} at {peer.threshold}"
        if peer.scores is None:
            table.append(_row(title, None, "share", peer.why))
            continue
        scores = peer.scores
        for level in scores.levels:
            table.append(_row(f"{title}: campaigns caught, {level.level}", level.caught.value))
            table.append(_row(f"{title}: tokens leaked, {level.level}", level.leaked.value))
        table.append(_row(f"{title}: honest accounts accused", scores.false_positive_rate.value))
        ppv = scores.positive_predictive_value.value
        table.append(_row(f"{title}: of the accused, attackers", ppv, "share", "nobody accused"))
        worst = scores.honest(scores.worst) if scores.worst else None
        if worst is not None:
            table.append(_row(f"{title}: worst class, {worst.kind}", worst.caught.value))
    return table


def _row(metric: str, value: float | None, unit: str = "share", why: str | None = None) -> Any:
    known = value is not None and math.isfinite(value)
    return {
        "metric": metric, "value": value if known else None, "target": None, "unit": unit,
        "met": None, "peer": None, "why": (why if not known else None) or "a peer has no target",
    }  # fmt: skip


def write(seed: int, bank: str, out: Path, *, small: bool) -> None:
    """A log with text: about half a million events, ``small`` 60,000; most accounts are heavy."""
    from overproof.config.traffic import TrafficPlan
    from overproof.proving.traffic.write import write_traffic

    more: dict[str, Any] = {
        "days": 6.0, "campaigns": {"L0": 30, "L1": 6, "L2": 6, "L3": 6, "L4": 6},
        "accounts": {"L2": (5, 7), "L3": (25, 30), "L4": (30, 40)},
        "each_class": 15, "heavy_events": 70_000, "contamination": None,
    }  # fmt: skip
    if small:
        more = {
            "days": 4.0, "campaigns": {"L0": 4, "L1": 1, "L2": 1, "L3": 1, "L4": 1},
            "accounts": {"L2": (8, 8), "L3": (25, 25), "L4": (40, 40)},
            "each_class": 4, "heavy_events": 8_000, "contamination": None,
        }  # fmt: skip
    write_traffic(TrafficPlan(seed=seed, bank=bank, **more), out)


def simulate(seed: int, bank: str, out: Path, *, small: bool) -> Log:
    """One log, made and read."""
    write(seed, bank, out, small=small)
    return Log.of(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two small logs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--honeypotllm", type=Path, default=WHEEL, help="its wheel, or a directory")
    parser.add_argument("--home", type=Path, help="keep the simulated logs here")
    parser.add_argument("--log", type=Path, action="append", help="a log to score; repeatable")
    parser.add_argument("--fit", type=Path, action="append", help="a log to set thresholds on")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        if options.log and options.fit:
            logs, fits = ([Log.of(home) for home in homes] for homes in (options.log, options.fit))
        else:
            seeds, small = ((901, 902) if options.quick else (903, 904)), options.quick
            home = options.home or Path(folder)
            fits = [simulate(seeds[0], "fit", home / "fit", small=small)]
            logs = [simulate(seeds[1], "test", home / "test", small=small)]
        table = rows(compare(logs, fits, options.honeypotllm))
    tell("guard_peers", table, _line, as_json=options.json)


def _line(row: Any) -> str:
    value = "–" if row["value"] is None else f"{row['value']:.4f}"
    return f"{value:>8}  {row['metric']}" + (f"  ({row['why']})" if value == "–" else "")


if __name__ == "__main__":
    main()
