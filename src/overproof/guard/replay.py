"""A log through guard, from its first event to its last: verdicts out.

The same log, configuration, key and calibration give the same verdicts byte for byte, however
often the replay was stopped: snapshots hold the reader's place, what waits in the reorder buffer,
all that guard remembers, and the length of what was written.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overproof import __version__
from overproof.errors import ConfigError
from overproof.guard.engine import Guard
from overproof.guard.garbage import rare_collections
from overproof.guard.merging import open_log
from overproof.guard.ordering import ReorderBuffer
from overproof.guard.output_names import check_outputs
from overproof.guard.reading import LogReader
from overproof.guard.snapshots import check_key, read_snapshot, write_snapshot
from overproof.guard.stopping import Stopping
from overproof.guard.verdict_files import GrowingFile, naming
from overproof.records.files import write_atomically
from overproof.records.hashing import content_hash
from overproof.records.traffic import Event

if TYPE_CHECKING:
    from overproof.config.guard import GuardConfig
    from overproof.guard.judging import Judge
    from overproof.guard.parts import Sketcher
    from overproof.guard.recording import LookRecorder

__all__ = [
    "Progress",
    "ReplayReport",
    "SnapshotPlan",
    "communities_path",
    "record_path",
    "replay",
    "snapshot_path",
]

MOST_SPARED = 1000  # of each reason
GLANCE = 1024  # events between two looks at the clock


@dataclass(frozen=True)
class SnapshotPlan:
    """Where and how often a replay can be taken up again.

    Attributes:
        path: the snapshot's file; beside the verdicts where None. It is deleted at the end.
        resume: go on from it; where there is none, begin at the start.
        every_s: seconds of wall time between two, or ten times what one took to write.
        every_events: events between two, instead.
    """

    path: Path | None = None
    resume: bool = False
    every_s: float = 300.0
    every_events: int | None = None


@dataclass(frozen=True)
class Progress:
    """How far a replay is. ``at`` is event time, ``rate`` events a second of this run."""

    events: int
    at: float
    rate: float
    accounts: int
    verdicts: int


@dataclass
class ReplayReport:
    """What a replay read, put right and decided.

    Attributes:
        lines: read. events: of them. bad: lines that are none, by reason. examples: the first.
        order: duplicates, late, skewed and hurried events.
        guard: what the detector did, by name.
        verdicts: by action. accounts: known at the end.
        changed: how often an account changed its organisation or payer.
        seconds: of wall time, of this run alone. events_per_second: of this run.
        resumed_at: event number that a resumed replay began with.
        since, until: times of the first and the last event, seconds since the epoch.
        spared: accounts that an exemption, an appeal or their own conduct kept from an action: at,
            account, action, reason; of each reason the first 1,000.
        spared_in_all: how many that were, by reason, where it is more than ``spared`` holds; of
            all permissions, and of own conduct, no more than the newest 50,000 are counted.
        notes: what a reader should know of this log.
    """

    lines: int = 0
    events: int = 0
    bad: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    order: dict[str, int] = field(default_factory=dict)
    guard: dict[str, int] = field(default_factory=dict)
    verdicts: dict[str, int] = field(default_factory=dict)
    accounts: int = 0
    changed: int = 0
    seconds: float = 0.0
    events_per_second: float = 0.0
    resumed_at: int = 0
    since: float | None = None
    until: float | None = None
    spared: list[dict[str, Any]] = field(default_factory=list)
    spared_in_all: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def communities_path(verdicts: Path) -> Path:
    """Where a replay writes the communities behind its verdicts: ``NAME.communities.jsonl``."""
    return verdicts.with_name(f"{verdicts.stem}.communities.jsonl")


def record_path(verdicts: Path) -> Path:
    """Where a replay writes its report: ``NAME.replay.json``."""
    return verdicts.with_name(f"{verdicts.stem}.replay.json")


def snapshot_path(verdicts: Path, plan: SnapshotPlan) -> Path:
    """Where a replay saves while it runs: ``NAME.jsonl.snapshot``, unless the plan says."""
    return plan.path or verdicts.with_name(f"{verdicts.name}.snapshot")


def replay(
    events: Path,
    out: Path,
    config: GuardConfig,
    *,
    judge: Judge | None = None,
    sketcher: Sketcher | None = None,
    recorder: LookRecorder | None = None,
    snapshots: SnapshotPlan | None = None,
    looks: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ReplayReport:
    """Replay a log and write its verdicts.

    Args:
        events: a log, or a directory of files that are one log; those are merged by time.
        out: the verdicts, JSON Lines; the communities and the report go beside it, see
            `communities_path` and `record_path`.
        config: guard's settings.
        judge: scores, calibration and the ladder; without one looks are taken and nothing is
            decided.
        sketcher: makes fingerprints of events that hold their text; it may be asked for none.
        recorder: told of every look.
        snapshots: where and how often to save.
        looks: where the caller will save what ``recorder`` was told, so that this name is checked
            with the others before anything runs; nothing is written to it here.
        progress: called about once a second.

    Raises:
        ConfigError: an output would be written over an input or another output, or cannot be.
        DataError: the log cannot be read, or too much of it is no events.
        RunError: the snapshot is of another replay.
        OSError: a full disk, a missing permission; it names the file. From the last snapshot one
            can go on; where there was none yet, nothing half written is left.
        KeyboardInterrupt: stopped; a snapshot was written.
    """
    plan = snapshots or SnapshotPlan()
    guard = Guard(config, judge=judge, recorder=recorder)
    outputs = [out, communities_path(out), record_path(out), snapshot_path(out, plan)]
    partial = [path.with_name(f"{path.name}.partial") for path in outputs[:2]]
    check_outputs(events, [*outputs, *partial, *([] if looks is None else [looks])])
    return _Replay(events, out, guard, sketcher, plan).run(progress)


class _Replay:
    """One replay under way."""

    def __init__(
        self, events: Path, out: Path, guard: Guard, sketcher: Sketcher | None, plan: SnapshotPlan
    ) -> None:
        config, judge = guard.config, guard.judge
        self.out, self.plan, self.sketcher = out, plan, sketcher
        self.path = snapshot_path(out, plan)
        if plan.resume and guard.recorder is not None:
            raise ConfigError(
                "--resume", "what was recorded before is not in a snapshot", "begin anew"
            )
        self.identity = {
            "version of overproof": __version__,
            "configuration": content_hash(config.model_dump(mode="json")),
            **({} if judge is None else judge.identity()),
        }
        self.reader: LogReader = open_log(events, most_bad_lines=config.most_bad_lines)
        self.buffer = ReorderBuffer(config.late_s)
        self.guard = guard
        self.saved: dict[str, Any] = {}
        if plan.resume and self.path.exists():
            self.saved = read_snapshot(self.path, self.identity)
        self.started = self.last_shown = self.last_saved = time.monotonic()
        self.save_s = 0.0
        self.at = 0.0
        self.since: float | None = None

    def run(self, progress: Callable[[Progress], None] | None) -> ReplayReport:
        if "done" in self.saved:  # stopped between the end and the last rename
            return self._finished()
        written = self.saved.get("written", [None, None])
        with (
            GrowingFile(self.out, written[0], self.path) as self.verdicts,
            GrowingFile(communities_path(self.out), written[1], self.path) as self.communities,
            Stopping() as stopping,
            rare_collections(),
        ):
            if self.saved:
                self._restore()
            else:  # one of an earlier replay, whose files these replace
                self.path.unlink(missing_ok=True)
            first = self.reader.counts.events
            for since, due in enumerate(self._due_events(), start=1):
                for event in due:
                    self._step(event)
                if stopping.asked:
                    self._save()
                    raise KeyboardInterrupt(f"stopped after {self.reader.counts.events:,} events")
                if since % GLANCE == 0 or self.plan.every_events:
                    self._glance(since, progress)
            for event in self.buffer.flush():
                self._step(event)
            self.guard.finish()
            self._write()
            report = self._report(first)
            states = [self.verdicts.state(), self.communities.state()]
            said = json.dumps(asdict(report), indent=2, allow_nan=False) + "\n"
            with naming(record_path(self.out)):
                write_atomically(record_path(self.out), said)
            self._snap({"done": asdict(report), "written": states})
            self.verdicts.finish()
            self.communities.finish()
        self.path.unlink()
        return report

    def _due_events(self) -> Iterator[list[Event]]:
        """For each line of the log the events that are due, in the order of their time."""
        add = self.buffer.add
        for event in self.reader:
            if event.messages is not None:
                self._take_text_off(event)
            yield add(event)

    def _take_text_off(self, event: Event) -> None:
        """Text is heavy: it goes before an event waits among others."""
        if event.text_sketch is None:
            if self.sketcher is None:
                self.guard.counts["texts passed over"] += 1
            else:
                event.text_sketch = self.sketcher.sketch(event)
                self.guard.counts["sketched here"] += 1
        event.messages = None

    def _step(self, event: Event) -> None:
        guard = self.guard
        while guard.due(event.ts):
            guard.run_pass()
            self._write()
        if self.since is None:
            self.since = event.ts
        self.at = event.ts
        guard.observe(event)

    def _write(self) -> None:
        self.verdicts.write(self.guard.verdicts())
        self.communities.write(self.guard.communities())

    def _glance(self, since: int, progress: Callable[[Progress], None] | None) -> None:
        now = time.monotonic()
        every = self.plan.every_events
        if every is not None:
            if since % every == 0:
                self._save()
        elif now - self.last_saved > max(self.plan.every_s, 10 * self.save_s):
            self._save()
        if progress is not None and now - self.last_shown >= 1.0:
            self.last_shown = now
            verdicts = sum(_verdicts(self.guard).values())
            rate = since / (now - self.started)
            done, accounts = self.reader.counts.events, len(self.guard.accounts)
            progress(Progress(done, self.at, rate, accounts, verdicts))

    def _save(self) -> None:
        began = time.monotonic()
        self._write()
        state = {
            "key": getattr(self.sketcher, "key_id", ""),
            "times": [self.since, self.at],
            "written": [self.verdicts.state(), self.communities.state()],
            "reader": self.reader.state(),
            "buffer": self.buffer.state(),
            "guard": self.guard.state(),
        }
        self._snap(state)
        self.last_saved = time.monotonic()
        self.save_s = self.last_saved - began

    def _snap(self, state: dict[str, Any]) -> None:
        with naming(self.path):
            write_snapshot(self.path, self.identity, state)

    def _restore(self) -> None:
        check_key(self.path, self.saved["key"], self.sketcher)
        self.since, self.at = self.saved["times"]
        self.reader.restore(self.saved["reader"])
        self.buffer.restore(self.saved["buffer"])
        self.guard.restore(self.saved["guard"])
        self.saved = {}

    def _finished(self) -> ReplayReport:
        written = self.saved["written"]
        for path, state in zip((self.out, communities_path(self.out)), written, strict=True):
            with GrowingFile(path, state) as file:
                file.finish()
        self.path.unlink()
        return ReplayReport(**self.saved["done"])

    def _report(self, first: int) -> ReplayReport:
        read, seconds = self.reader.counts, time.monotonic() - self.started
        counts = self.guard.counts
        report = ReplayReport(
            lines=read.lines,
            events=read.events,
            bad={str(reason): n for reason, n in sorted(read.bad.items())},
            examples=[str(line) for line in read.examples],
            order=asdict(self.buffer.counts),
            guard={name: counts[name] for name in sorted(counts) if ":" not in name},
            verdicts=_verdicts(self.guard),
            accounts=len(self.guard.accounts),
            changed=self.guard.accounts.changed,
            seconds=round(seconds, 3),
            events_per_second=round((read.events - first) / max(seconds, 1e-9), 1),
            resumed_at=first,
            since=self.since,
            until=None if self.since is None else self.at,
        )
        if self.guard.judge is not None:
            report.spared, report.spared_in_all = _first_of_each(self.guard.judge.spared())
        report.notes = list(_notes(report, self.guard))
        return report


def _first_of_each(spared: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The first records of each reason, and how many there are of those that are cut."""
    met: Counter[str] = Counter()
    kept = []
    for row in spared:
        met[row["reason"]] += 1
        if met[row["reason"]] <= MOST_SPARED:
            kept.append(row)
    return kept, {reason: many for reason, many in met.items() if many > MOST_SPARED}


def _verdicts(guard: Guard) -> dict[str, int]:
    prefix = "verdicts: "
    return {
        name.removeprefix(prefix): count
        for name, count in sorted(guard.counts.items())
        if name.startswith(prefix)
    }


def _notes(report: ReplayReport, guard: Guard) -> Iterable[str]:
    if not report.events:
        yield "the log holds no events: nothing was decided"
        return
    if report.accounts == 1:
        yield "the log is of one account: there is nobody that it could be in league with"
    if guard.judge is None:
        yield "no judge: looks were taken and nothing was decided"
    else:
        yield from guard.judge.notes(report.until or 0.0)
    if passed := report.guard.get("texts passed over"):
        yield f"{passed:,} events hold text that was passed over: there was no key"
    if not report.guard.get("passes"):
        hours = guard.config.communities.every_h
        yield f"the log ends before the first look for communities (every {hours:g} h)"
