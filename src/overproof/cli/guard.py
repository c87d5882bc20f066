"""``overproof guard``: finding distillation in API traffic."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overproof.cli.guard_appeal import appeal_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from overproof.errors import OverproofError
    from overproof.guard.replay import Progress, ReplayReport

__all__ = ["app"]

app = typer.Typer(help="Find distillation in API traffic.", no_args_is_help=True)

SECONDS_BETWEEN_LINES = 5.0
SHOWN = 5
FAR_S = 5 * 365.25 * 86_400.0

EventsArgument = Annotated[
    Path, typer.Argument(help="A log (.jsonl, .jsonl.gz, .jsonl.zst, .parquet), or a directory.")
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="A guard.toml; the vetted settings without one.")
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option("--calibration", help="A directory of frozen files; the shipped one without it."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command("replay")
def replay_command(
    events: EventsArgument,
    *,
    out: Annotated[Path, typer.Option(help="Where to write the verdicts (JSON Lines).")],
    config: ConfigOption = None,
    calibration: CalibrationOption = None,
    watch_only: Annotated[
        bool, typer.Option("--watch-only", help="Decide nothing; for --looks without a judge.")
    ] = False,
    looks: Annotated[
        Path | None,
        typer.Option(help="Also write what every look saw (Parquet), to calibrate from."),
    ] = None,
    snapshot: Annotated[
        Path | None,
        typer.Option(help="Where to save while it runs.  [default: OUT.snapshot]"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the snapshot, if there is one.")
    ] = False,
    appeals: Annotated[
        Path | None,
        typer.Option(help="Decided appeals (JSON Lines); each counts from its own time on."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Replay a log through the detector and write its verdicts."""
    from overproof import api

    try:
        with _progress() as progress:
            report = api.guard_replay(
                events,
                out,
                config=config,
                calibration=calibration,
                watch_only=watch_only,
                looks=looks,
                snapshot=snapshot,
                resume=resume,
                appeals=appeals,
                progress=progress,
            )
    except KeyboardInterrupt as stopped:
        said = str(stopped)
        if said:
            typer.echo(f"\n{said}; the same command with --resume goes on from here", err=True)
        raise
    except BrokenPipeError:  # whoever read our output has left
        raise
    except OSError as error:
        raise _broken_off(error, out, snapshot, resumable=looks is None) from error
    if as_json:
        from dataclasses import asdict

        typer.echo(json.dumps(asdict(report), indent=2))
    else:
        _print(report, out)


@app.command("fingerprint")
def fingerprint_command(
    events: EventsArgument,
    *,
    out: Annotated[Path, typer.Option(help="A .jsonl, .jsonl.gz or .jsonl.zst.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a log without its text: keyed fingerprints in its place."""
    from overproof import api

    counts = api.guard_fingerprint(events, out, config=config)
    if as_json:
        from dataclasses import asdict

        typer.echo(json.dumps(asdict(counts), indent=2, default=str))
        return
    typer.echo(f"{counts.read.words()}; {counts.sketched:,} sketched, {counts.kept:,} kept → {out}")
    if counts.params_dropped:
        typer.echo(f"{counts.params_dropped:,} parameters were left out: they may hold text")
    for name, times in sorted(counts.unknown.items()):
        typer.echo(
            f"kept, and unknown to guard: {name!r} ({times:,} times); see that it is no text"
        )


@app.command("score")
def score_command(
    verdicts: Annotated[Path, typer.Argument(help="What a replay wrote.")],
    truth: Annotated[Path, typer.Argument(help="What each account really is (JSON Lines).")],
    *,
    events: Annotated[Path, typer.Option(help="The log, for tokens and times.")],
    config: ConfigOption = None,
    most_false: Annotated[
        float | None,
        typer.Option(help="End with 1 if a larger share of the worst honest class was acted on."),
    ] = None,
    least_caught: Annotated[
        float | None,
        typer.Option(
            help="End with 1 if less of a level's campaigns was caught; L5 does not count."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Set verdicts against the truth of a labelled log."""
    from overproof import api

    _check_share("--most-false", most_false)
    _check_share("--least-caught", least_caught)
    scores = api.guard_score(verdicts, truth, events, config=config)
    if as_json:
        typer.echo(json.dumps(scores.to_json(), indent=2))
    else:
        from overproof.guard.scoring import table_lines

        for line in table_lines(scores):
            typer.echo(line)
    honest = [one.caught.value for one in scores.classes if one.accounts]
    caught = [one.caught.value for one in scores.levels if one.level != "L5" and one.campaigns]
    worst, least = max(honest, default=0.0), min(caught, default=1.0)
    missed = [
        f"the worst honest class: {worst:.2%} were acted on, at most {most_false:.2%} may be"
        if most_false is not None and worst > most_false
        else "",
        f"the level hardest to see: {least:.1%} were caught, at least {least_caught:.1%} must be"
        if least_caught is not None and least < least_caught
        else "",
    ]
    for line in filter(None, missed):
        typer.echo(f"missed: {line}", err=True)
    if any(missed):
        raise typer.Exit(1)


@app.command("calibrate")
def calibrate_command(
    events: EventsArgument,
    *,
    trusted: Annotated[Path, typer.Option(help="One account of the trusted pool a line.")],
    out: Annotated[Path, typer.Option(help="The directory to write, for replay --calibration.")],
    scorers: Annotated[
        Path | None, typer.Option(help="A directory with frozen scorers; else the shipped ones.")
    ] = None,
    lag_days: Annotated[float, typer.Option(min=0, help="Days that the pool lags behind.")] = 0.0,
    version: Annotated[str, typer.Option(help="A name for this calibration.")] = "1",
    per_group: Annotated[
        int | None,
        typer.Option(min=1, help="Accounts of one organisation or payer at most.  [default: 34]"),
    ] = None,
    appeals: Annotated[
        Path | None,
        typer.Option(help="Decided appeals (JSON Lines): upheld and audited ones enter."),
    ] = None,
    audit_share: Annotated[
        float, typer.Option(help="The share of all accounts that the audit's draw picks.")
    ] = 0.1,
    config: ConfigOption = None,
) -> None:
    """Freeze what a trusted, time-lagged pool looks like."""
    from overproof import api
    from overproof.config.guard_file import load_guard_config
    from overproof.guard.instruments import pool_notes

    with _progress() as progress:
        accounts, communities = api.guard_calibrate(
            events,
            trusted,
            out,
            config=config,
            scorers=scorers,
            lag_days=lag_days,
            version=version,
            per_group=per_group,
            appeals=appeals,
            audit_share=audit_share,
            progress=progress,
        )
    settings = load_guard_config(config)
    lines = [
        *accounts.describe(settings.looks.false_positive_rate),
        *communities.describe(settings.communities.false_discovery_rate),
    ]
    for line in [*lines, *pool_notes(accounts, communities), f"frozen → {out}"]:
        typer.echo(line, err=line.startswith("warning: "))


@app.command("report")
def report_command(
    verdicts: Annotated[Path, typer.Argument(help="What a replay wrote.")],
    *,
    out: Annotated[Path, typer.Option(help="The HTML page to write.")],
    scores: Annotated[
        Path | None, typer.Option(help="What `guard score --json` printed, for a labelled log.")
    ] = None,
) -> None:
    """Draw findings, their evidence and what was spared as one HTML page."""
    from overproof import api

    api.guard_report(verdicts, out, scores=scores)
    typer.echo(f"wrote {out}")


@app.command("sign-exemption")
def sign_exemption_command(
    *,
    use: Annotated[str, typer.Option(help="The permitted use, as the customer declares it.")],
    until: Annotated[str, typer.Option(help="The last day, such as 2027-01-31.")],
    signed_by: Annotated[str, typer.Option(help="Who answers for it.")],
    org: Annotated[str | None, typer.Option(help="The organisation permitted.")] = None,
    account: Annotated[str | None, typer.Option(help="Or the one account.")] = None,
    config: ConfigOption = None,
) -> None:
    """Sign a permitted use; prints the entry for guard.toml."""
    import time

    from overproof import api
    from overproof.guard.exemptions import ends_at

    entry = {"org": org, "account": account, "use": use, "until": until, "signed_by": signed_by}
    signed = api.sign_exemption(entry, config=config)
    if ends_at(signed) > time.time() + FAR_S:
        typer.echo(
            f"warning: --until: {signed.until} is more than five years ahead: it spares the "
            "customer until then, whatever becomes of the contract; sign for a year, and again",
            err=True,
        )
    typer.echo("[[exemptions]]")
    for name, value in signed.model_dump(exclude_none=True).items():
        typer.echo(f"{name} = {json.dumps(value, ensure_ascii=False)}")


app.command("appeal")(appeal_command)


def _broken_off(
    error: OSError, out: Path, snapshot: Path | None, *, resumable: bool
) -> OverproofError:
    """What to say of a full disk or a missing permission in the middle of a replay."""
    from overproof.errors import RunError
    from overproof.guard.replay import SnapshotPlan, snapshot_path

    saved = snapshot_path(out, SnapshotPlan(snapshot))
    mend = "make room" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "mend it"
    onwards = (
        f"run the same command with --resume: it goes on from {saved}"
        if resumable and saved.is_file()
        else "run the same command again: it begins at the start"
    )
    return RunError(
        str(error.filename or "writing"), error.strerror or str(error), f"{mend} and {onwards}"
    )


def _check_share(option: str, value: float | None) -> None:
    """A threshold that nothing can miss, or nothing can meet, checks nothing."""
    from overproof.errors import ConfigError

    if value is not None and not 0.0 <= value <= 1.0:  # NaN is neither
        raise ConfigError(option, f"is {value:g}, and a share lies in [0, 1]", "write 0.9 for 90 %")


def _print(report: ReplayReport, out: Path) -> None:
    bad = sum(report.bad.values())
    lines = [
        f"{report.events:,} events of {report.accounts:,} accounts in {report.seconds:.1f} s "
        f"({report.events_per_second:,.0f} a second)",
        f"verdicts → {out}: "
        + (", ".join(f"{n:,} {action}" for action, n in report.verdicts.items()) or "none"),
    ]
    if report.resumed_at:
        lines.append(f"resumed at event {report.resumed_at:,}")
    if bad:
        lines.append(f"{bad:,} of {report.lines:,} lines are no events:")
        lines += [f"  {n:,} {reason}" for reason, n in report.bad.items()]
        lines += [f"  {example}" for example in report.examples[:SHOWN]]
    put_right = {k: n for k, n in report.order.items() if n and k != "received"}
    if put_right:
        lines.append("put right: " + ", ".join(f"{n:,} {kind}" for kind, n in put_right.items()))
    if report.changed:
        lines.append(f"accounts changed their organisation or payer {report.changed:,} times")
    lines += [f"note: {note}" for note in report.notes]
    for line in lines:
        typer.echo(line)


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None]]:
    """A line that changes on a terminal, one every few seconds elsewhere; on stderr."""
    import time
    from datetime import UTC, datetime

    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    last = time.monotonic()

    def line(progress: Progress) -> str:
        at = datetime.fromtimestamp(progress.at, UTC).strftime("%Y-%m-%d %H:%M")
        return (
            f"replay: {progress.events:,} events to {at} UTC, {progress.rate:,.0f} a second, "
            f"{progress.accounts:,} accounts, {progress.verdicts:,} verdicts"
        )

    if console.is_terminal:
        with console.status("replay") as status:
            yield lambda progress: status.update(line(progress))
        return

    def now_and_then(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            console.print(line(progress), soft_wrap=True)

    yield now_and_then
