"""``overproof proving traffic``: a simulated log in a directory, with its truth and its manifest.

OUT/events.jsonl.zst   the log, docs/traffic.md
OUT/truth.jsonl        one line an account that sent anything
OUT/exempt.json        organisations whose declared use is permitted
OUT/manifest.json      plan, counts, hashes, what was shrunk, where the texts come from
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

from overproof.config.traffic import PUBLISHED_ACCOUNTS, TrafficPlan
from overproof.errors import RunError
from overproof.proving.traffic.simulate import Cast, cast, simulate
from overproof.proving.traffic.world import PUBLISHED_MEDIAN
from overproof.records.traffic import Event, Truth

__all__ = ["FORMS", "Form", "TrafficCounts", "write_traffic"]

Form = Literal["jsonl", "jsonl.gz", "jsonl.zst"]
FORMS: tuple[Form, ...] = ("jsonl.zst", "jsonl.gz", "jsonl")
VERSION = 1
TELL_EVERY = 20_000
MEGABYTE = 1 << 20


@dataclass
class TrafficCounts:
    """What was written.

    Attributes:
        events, tokens, accounts, subjects: requests, tokens in and out of served ones, accounts,
            and campaigns or groups, by honest class or attack level.
        statuses: requests by HTTP status.
        sha256: of the log's lines before compression.
        dir: where it all lies.
    """

    events: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    accounts: Counter[str] = field(default_factory=Counter)
    subjects: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    sha256: str = ""
    dir: Path = Path()

    @property
    def contamination(self) -> float:
        """Share of attackers among the accounts that sent anything."""
        attackers = sum(n for kind, n in self.accounts.items() if kind in PUBLISHED_ACCOUNTS)
        return attackers / max(1, self.accounts.total())


def write_traffic(
    plan: TrafficPlan,
    out: Path,
    *,
    form: Form = "jsonl.zst",
    progress: Callable[[int, float], None] | None = None,
) -> TrafficCounts:
    """Simulate ``plan`` and write its log to the directory ``out``, whole or not at all.

    Args:
        plan: what to simulate.
        out: a directory that is new or empty.
        form: of the log's file.
        progress: told now and then how many events there are, and the share of the log's time.

    Raises:
        RunError: ``out`` holds something already, or cannot be written. Killed outright it leaves
            a hidden directory ``.OUT.PID.partial`` and nothing under the name ``out``.
        ModelError: packaged questions that the plan names were not pulled.
        MissingExtraError: a package that the plan names is not installed.
    """
    out = out.resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(str(out), "is there already", "name a directory that is new or empty")
    made = cast(plan)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        counts = _write(made, partial, form, progress)
        partial.replace(out)
    except OSError as error:
        raise RunError(
            str(out),
            f"could not be written: {error.strerror or error}",
            "free some space, or name a directory elsewhere",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    counts.dir = out
    return counts


def _write(
    made: Cast, home: Path, form: Form, progress: Callable[[int, float], None] | None
) -> TrafficCounts:
    plan = made.world.plan
    counts = TrafficCounts()
    kinds: dict[str, str] = {}
    subjects: dict[str, set[str]] = {}
    encode = msgspec.json.Encoder().encode
    digest = hashlib.sha256()

    with (home / "truth.jsonl").open("wb") as truths, _opened(home / f"events.{form}") as stream:

        def note(truth: Truth) -> None:
            kind = truth.level or truth.kind
            kinds[truth.account] = kind
            subjects.setdefault(kind, set()).add(truth.group or truth.account)
            counts.accounts[kind] += 1
            truths.write(encode(truth) + b"\n")

        lines = bytearray()
        for n, event in enumerate(simulate(plan, on_truth=note, made=made), 1):
            lines += encode(event)
            lines += b"\n"
            _count(counts, kinds[event.account], event)
            if len(lines) > MEGABYTE:
                digest.update(lines)
                stream.write(bytes(lines))
                lines.clear()
            if progress is not None and n % TELL_EVERY == 0:
                progress(n, (event.ts - plan.start_s) / (plan.end_s - plan.start_s))
        digest.update(lines)
        stream.write(bytes(lines))
    counts.sha256 = digest.hexdigest()
    counts.subjects = Counter({kind: len(names) for kind, names in subjects.items()})
    manifest = _manifest(made, counts, form)
    _json(home / "exempt.json", made.world.exempt)
    _json(home / "manifest.json", manifest)
    return counts


def _count(counts: TrafficCounts, kind: str, event: Event) -> None:
    counts.events[kind] += 1
    counts.statuses[event.status or 0] += 1
    if event.status == 200:
        counts.tokens[kind] += (event.input_tokens or 0) + (event.output_tokens or 0)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes] | Any]:
    """A file to write the log's lines to, compressed as its name says; the same bytes each time."""
    if path.suffix == ".zst":
        import pyarrow as pa

        with pa.CompressedOutputStream(str(path), "zstd") as stream:
            yield stream
    elif path.suffix == ".gz":
        # No name and no date in the header.
        with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as stream:
            yield stream
    else:
        with path.open("wb") as stream:
            yield stream


def _json(path: Path, value: object) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def _manifest(made: Cast, counts: TrafficCounts, form: Form) -> dict[str, Any]:
    plan = made.world.plan
    rows = {
        kind: {
            "accounts": counts.accounts[kind],
            "groups": counts.subjects[kind],
            "events": counts.events[kind],
            "tokens": counts.tokens[kind],
        }
        for kind in sorted(counts.accounts)
    }
    return {
        "version": VERSION,
        "plan": plan.model_dump(mode="json"),
        "file": f"events.{form}",
        "text": "sketches" if plan.sketch_key is not None else "messages",
        "sha256": counts.sha256,
        "events": counts.events.total(),
        "accounts": counts.accounts.total(),
        "contamination": counts.contamination,
        "release": made.world.release,
        "statuses": {str(status): n for status, n in sorted(counts.statuses.items())},
        "classes": rows,
        "texts": {
            "packaged": dict(sorted(made.world.bank.sources.items())),
            "missing": dict(sorted(made.missing.items())),
        },
        "shrunk": {
            "median_requests_a_day": {
                "published": PUBLISHED_MEDIAN,
                "here": PUBLISHED_MEDIAN * plan.heavy_scale,
            },
            "accounts_a_campaign": {
                level: {"published": published, "here": list(plan.size(level))}
                for level, published in PUBLISHED_ACCOUNTS.items()
                if plan.campaigns.get(level)
            },
            "longest_payload_chars": plan.text_chars,
        },
    }
