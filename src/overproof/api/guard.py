"""Finding distillation in traffic: replay, fingerprint, calibrate, score, report, simulate."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overproof.api.guard_files import read_names
from overproof.errors import ConfigError, DataError, MissingExtraError, SecretError

if TYPE_CHECKING:
    from overproof.config.guard import Exemption, GuardConfig
    from overproof.config.traffic import TrafficPlan
    from overproof.guard.appeals import Appeals
    from overproof.guard.calibration import Calibration
    from overproof.guard.community_calibration import CommunityCalibration
    from overproof.guard.engine import Guard
    from overproof.guard.judging import Judge
    from overproof.guard.replay import Progress, ReplayReport
    from overproof.guard.rewriting import RewriteCounts
    from overproof.guard.scoring import Scores
    from overproof.proving.traffic.write import Form, TrafficCounts

__all__ = [
    "guard_calibrate",
    "guard_fingerprint",
    "guard_replay",
    "guard_score",
    "need_guard",
    "open_guard",
    "sign_exemption",
    "simulate_traffic",
]


def open_guard(
    config: Path | None = None,
    calibration: Path | None = None,
    *,
    appeals: Appeals | None = None,
    passes: bool = True,
    snapshot: Path | None = None,
) -> Guard:
    """The detector that a gateway calls: ``guard.observe(event)`` gives the current decision.

    A gateway calls ``guard.observe(event, strict=False)``: a fault inside then costs no answer.

    Every six hours of the events' time communities are looked for, which takes half a second for
    five thousand accounts and 19 for a million. Without more ado the request that it is due before
    waits for it, and no other: those that other threads hand in meanwhile are answered by what was
    known before. Where none may wait, open with ``passes=False`` and keep a thread that calls
    ``guard.run_pass(time.time())`` every minute, which does nothing unless a pass is due.

    ``guard.verdicts()`` and ``guard.communities()`` hold the evidence; fetch and keep them every so
    often, as they grow until then. ``guard.save(path)`` saves all that guard remembers, every so
    often and before the gateway stops, from any thread; what was not fetched yet is in it.

    Counted in ``guard.counts`` and not learnt from: ``duplicates`` (an account's ``request_id`` was
    seen before), ``refused`` (no possible time or name), ``put aside`` (over a day ahead, until 32
    in a row agree), ``dropped`` (it kept others waiting, of which there are at most 100,000).

    A decided appeal counts from the next event on: ``appeals.decide(account, at, outcome=
    AppealOutcome.UPHELD, action=decision.action, decided_by=..., reason=...)`` spares the account.

    Args:
        config: a guard.toml; the vetted settings where None.
        calibration: a directory of frozen files; the shipped one where None.
        passes: whether ``observe`` runs the passes that are due.
        appeals: an ``Appeals(key)`` of ``overproof.guard.appeals``; who made it keeps its state.
        snapshot: what ``guard.save`` wrote, to go on from; where there is no such file, as at a
            gateway's first start, guard begins anew.

    Raises:
        ConfigError: the configuration cannot be used.
        DataError: a frozen file is missing or damaged, or the snapshot is.
        MissingExtraError: the extra ``guard`` is not installed.
        RunError: the snapshot was made by another version of overproof, or with other settings
            (signed exemptions may differ), another calibration or another key.
        SecretError: it was made with a key of texts, which is not set.
    """
    settings = _settings(config)
    from overproof.guard.engine import Guard
    from overproof.guard.intake import Intake
    from overproof.guard.saving import restore_guard
    from overproof.guard.sketching import EnvironmentSketcher

    judge = _judge(settings, calibration, appeals)
    sketcher = EnvironmentSketcher(settings.key_env)
    guard = Guard(settings, sketcher=sketcher, judge=judge, intake=Intake(), passes=passes)
    if snapshot is not None and snapshot.exists():
        restore_guard(guard, snapshot)
    return guard


def guard_replay(
    events: Path,
    out: Path,
    *,
    config: Path | None = None,
    calibration: Path | None = None,
    watch_only: bool = False,
    looks: Path | None = None,
    snapshot: Path | None = None,
    resume: bool = False,
    appeals: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ReplayReport:
    """Replay a log through the detector and write its verdicts.

    Args:
        events: a log, or a directory of them.
        out: the verdicts; the communities behind them go to ``STEM.communities.jsonl`` beside it.
        config: a guard.toml; the vetted settings where None.
        calibration: a directory of frozen files; the shipped one where None.
        watch_only: take looks and decide nothing.
        looks: also write what every look saw, as Parquet.
        snapshot: where to save while it runs; ``OUT.snapshot`` where None.
        resume: go on from the snapshot if there is one.
        appeals: decided ones, one a line (`guard_appeal`); each counts from its own time on.
        progress: called about once a second.

    Raises:
        DataError: the log or a frozen file cannot be read.
        ConfigError: an output would be written over an input or another output, or cannot be.
        SecretError: the log holds text, and the key that ``key_env`` names is not set.
        RunError: the snapshot is of another replay.
        KeyboardInterrupt: stopped, resumable.
    """
    settings = _settings(config)
    from overproof.guard.instruments import new_recorder
    from overproof.guard.output_names import refuse_overwriting
    from overproof.guard.replay import SnapshotPlan, replay
    from overproof.guard.sketching import EnvironmentSketcher

    if appeals is not None and watch_only:
        raise ConfigError("--appeals", "changes nothing with --watch-only", "leave one out")
    written = [path for path in (out, looks, snapshot) if path is not None]
    for path, what in ((config, "the configuration"), (appeals, "the file of appeals")):
        if path is not None:
            refuse_overwriting(written, [path], f"is {what} of this replay")
    recorder = None if looks is None else new_recorder()
    report = replay(
        events,
        out,
        settings,
        judge=None if watch_only else _judge(settings, calibration, appeals),
        sketcher=EnvironmentSketcher(settings.key_env),
        recorder=recorder,
        snapshots=SnapshotPlan(snapshot, resume),
        looks=looks,
        progress=progress,
    )
    if recorder is not None and looks is not None:
        recorder.save(looks)
    return report


def guard_fingerprint(
    events: Path,
    out: Path,
    *,
    config: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> RewriteCounts:
    """Write a log without its text: keyed fingerprints in its place.

    Args:
        events: a log, or a directory of them.
        out: a .jsonl, .jsonl.gz or .jsonl.zst.
        config: a guard.toml; it names the variable that holds the key.
        progress: called with the number of lines done.

    Raises:
        DataError: either cannot be read or written.
        SecretError: the key is not set, or no good.
    """
    settings = _settings(config)
    from overproof.guard.fingerprints import read_key
    from overproof.guard.rewriting import rewrite_log

    return rewrite_log(
        events,
        out,
        read_key(settings.key_env),
        most_bad_lines=settings.most_bad_lines,
        progress=progress,
    )


def guard_calibrate(
    events: Path,
    trusted: Path,
    out: Path,
    *,
    config: Path | None = None,
    scorers: Path | None = None,
    lag_days: float = 0.0,
    version: str = "1",
    per_group: int | None = None,
    appeals: Path | None = None,
    audit_share: float = 0.1,
    progress: Callable[[Progress], None] | None = None,
) -> tuple[Calibration, CommunityCalibration]:
    """Freeze what a trusted pool looks like, for later findings to be set against.

    Args:
        events: a log of all traffic, or a directory of them.
        trusted: a file with one account of the pool a line: tenured, verified, under contract.
        out: the directory to write; a later replay takes it as its calibration.
        config: a guard.toml.
        scorers: a directory with the frozen scorers; the shipped one where None.
        lag_days: leave out accounts' last so many days of the log.
        version: a name for this calibration.
        per_group: accounts of one organisation or payer at most; a hundredth of what a plan needs
            where None.
        appeals: decided appeals, one a line. Those upheld, of accounts in the random audit that
            are not trusted anyway, enter and stand for ``1 / audit_share`` honest ones each.
        audit_share: of all accounts, that the audit's draw picks.
        progress: called about once a second.

    Raises:
        ConfigError: a share outside (0, 1].
        DataError: a file cannot be read, or too little is left to calibrate on.
    """
    settings = _settings(config)
    from tempfile import TemporaryDirectory

    from overproof.guard import instruments
    from overproof.guard.appeal_files import audit_weights, read_appeals, without_weight
    from overproof.guard.replay import replay
    from overproof.guard.sketching import EnvironmentSketcher

    home = instruments.SHIPPED if scorers is None else scorers
    instruments.load_scorers(home)  # before a long replay for nothing
    names = read_names(trusted)
    decided = [] if appeals is None else read_appeals(appeals)
    weights = audit_weights(decided, audit_share)
    appealed = {name: weight for name, weight in weights.items() if name not in names}
    recorder = instruments.new_recorder(names | appealed.keys())
    with TemporaryDirectory() as folder:
        report = replay(
            events,
            Path(folder) / "verdicts.jsonl",
            settings,
            sketcher=EnvironmentSketcher(settings.key_env),
            recorder=recorder,
            progress=progress,
        )
    if report.since is None or report.until is None:
        raise DataError(str(events), "holds no events", "calibrate on a log of some weeks")
    return instruments.calibrate(
        recorder,
        home,
        out,
        ages_h=settings.looks.ages_h,
        since=report.since,
        until=report.until,
        lag_days=lag_days,
        version=version,
        per_group=per_group,
        appealed=appealed,
        appeals_left=without_weight(decided, names),
    )


def guard_score(verdicts: Path, truth: Path, events: Path, *, config: Path | None = None) -> Scores:
    """Set the verdicts of a replay against the truth of its log.

    Args:
        verdicts: as a replay wrote them.
        truth: one line an account, what it really is.
        events: the log itself, or that without text: for tokens and times.
        config: the guard.toml of the replay: it holds the promised rates.

    Raises:
        DataError: a file cannot be read, or names no account of the others.
    """
    settings = _settings(config)
    from overproof.guard.scoring import score_files

    return score_files(
        verdicts,
        truth,
        events,
        nominal=settings.communities.false_discovery_rate,
        most_bad_lines=settings.most_bad_lines,
    )


def sign_exemption(entry: Mapping[str, Any], *, config: Path | None = None) -> Exemption:
    """Sign a permitted use, for the ``exemptions`` of a guard.toml.

    Args:
        entry: org or account, use, until, signed_by.
        config: a guard.toml; it names the variable that holds the key of exemptions.

    Raises:
        ConfigError: the entry is malformed, empty or past, or the key can be guessed.
        SecretError: the key is not in the environment.
    """
    settings = _settings(config)
    from overproof.guard.exemptions import ends_at, sign

    variable = settings.exemption_key_env
    key = os.environb.get(os.fsencode(variable), b"").strip()
    if not key:
        raise SecretError(
            variable,
            "the key of exemptions is not in the environment",
            f"set it: export {variable}=$(openssl rand -hex 32)",
        )
    signed = sign(entry, key)
    if ends_at(signed) <= time.time():
        raise ConfigError(
            "--until", f"{signed.until} is past: it spares nobody", "name a later day"
        )
    return signed


def simulate_traffic(
    plan: TrafficPlan,
    out: Path,
    *,
    form: Form = "jsonl.zst",
    progress: Callable[[int, float], None] | None = None,
) -> TrafficCounts:
    """Simulate traffic and write its log, truth and manifest to the directory ``out``.

    Raises:
        RunError: ``out`` is there already, or cannot be written.
        ModelError: packaged questions that the plan names were not pulled.
    """
    need_guard()
    from overproof.proving.traffic.write import write_traffic

    return write_traffic(plan, out, form=form, progress=progress)


def _settings(config: Path | None) -> GuardConfig:
    need_guard()
    from overproof.config.guard_file import load_guard_config

    return load_guard_config(config)


def need_guard() -> None:
    """Say what is missing before anything is imported that needs it.

    Raises:
        MissingExtraError: the extra ``guard`` is not installed.
    """
    for module in ("msgspec", "igraph"):
        if find_spec(module) is None:
            raise MissingExtraError(module, "guard")


def _judge(
    config: GuardConfig, calibration: Path | None, appeals: Appeals | Path | None = None
) -> Judge:
    from overproof.guard.appealed import AppealedJudge
    from overproof.guard.instruments import SHIPPED, Instruments
    from overproof.guard.judging import Judge

    instruments = Instruments(SHIPPED if calibration is None else calibration)
    if isinstance(appeals, Path):
        return AppealedJudge(config, instruments, appeals)
    return Judge(config, instruments, appeals=appeals)
