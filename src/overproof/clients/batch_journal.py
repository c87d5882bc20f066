"""What was handed to a batch API, kept so that a run picks its batches up wherever it was stopped.

A file of JSON lines, each on disk before what it announces is done:

- ``intent``: these requests are about to be submitted under a random tag, with the most tokens, in
  and out, that each can take. Without a later line the batch may exist, and is looked for by its
  tag.
- ``submitted``: the batch exists under this id.
- ``dropped``: the batch never ran; nothing of it is under way.
- ``spent``: these requests (all where ``ids`` is null) are not to be read from the batch again.
  It failed them, or their answers are in the ledger.

A request counts as under way in the newest batch that holds it and has not spent it. Batches
whose answers are all in the ledger do no harm here: nobody asks for them.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from overproof.errors import RunError

__all__ = ["BatchJournal", "BatchRecord"]


@dataclass
class BatchRecord:
    """A batch as the journal knows it.

    ``most`` holds the most input and output tokens of each request, in the order of
    ``custom_ids``. ``at`` is the time of its intent, in seconds since 1970.
    """

    tag: str
    teacher: str
    custom_ids: tuple[str, ...]
    most: tuple[tuple[int, int], ...]
    at: float
    id: str | None = None
    spent: set[str] = field(default_factory=set)
    is_over: bool = False


class BatchJournal:
    """The journal of one run. The ledger's lock keeps a second writer away.

    Args:
        path: the file; ``None`` keeps nothing.
        teacher: who is asked; batches at another teacher are left alone.

    Raises:
        RunError: a line in the middle cannot be read, or the file cannot be.
    """

    def __init__(self, path: Path | None, teacher: str) -> None:
        self.path = path
        self.records: dict[str, BatchRecord] = {}
        self._teacher = teacher
        if path is not None:
            self._read(path)

    def under_way(self) -> dict[str, str]:
        """For every request that is under way: custom id → tag of the newest batch with it."""
        newest: dict[str, BatchRecord | None] = {}
        for record in self.records.values():
            for custom_id in () if record.is_over and not record.id else record.custom_ids:
                is_open = not record.is_over and custom_id not in record.spent
                newest[custom_id] = record if is_open else None
        return {
            custom_id: record.tag
            for custom_id, record in newest.items()
            if record is not None and record.teacher == self._teacher
        }

    def known_ids(self) -> frozenset[str]:
        """Ids of all batches that this run made."""
        return frozenset(r.id for r in self.records.values() if r.id)

    def most(self) -> dict[str, tuple[int, int]]:
        """For every request that is under way: custom id → the most input and output tokens."""
        found: dict[str, tuple[int, int]] = {}
        open_in = self.under_way()
        for record in self.records.values():
            for custom_id, most in zip(record.custom_ids, record.most, strict=True):
                if open_in.get(custom_id) == record.tag:
                    found[custom_id] = most
        return found

    def intend(self, tag: str, requests: Mapping[str, tuple[int, int]]) -> BatchRecord:
        """Say that a batch is about to be submitted.

        Args:
            tag: random.
            requests: custom id → the most input and output tokens that it can take.

        Raises:
            RunError: the line cannot be written, so nothing may be submitted.
        """
        line = {
            "event": "intent",
            "tag": tag,
            "teacher": self._teacher,
            "at": time.time(),
            "ids": list(requests),
            "most": list(requests.values()),
        }
        self._write(line)
        return self.records[tag]

    def submitted(self, tag: str, batch_id: str) -> None:
        """Say which id the batch got."""
        self._write({"event": "submitted", "tag": tag, "id": batch_id})

    def dropped(self, tag: str, why: str) -> None:
        """Say that the batch never ran."""
        self._write({"event": "dropped", "tag": tag, "why": why})

    def spent(self, tag: str, custom_ids: Iterable[str]) -> None:
        """Say that these requests are not to be read from the batch again."""
        record = self.records[tag]
        spent = set(custom_ids) - record.spent
        if not spent or record.is_over:
            return
        is_all = len(spent) + len(record.spent) >= len(record.custom_ids)
        self._write({"event": "spent", "tag": tag, "ids": None if is_all else sorted(spent)})

    def _apply(self, line: dict[str, Any]) -> None:
        tag, event = str(line["tag"]), line["event"]
        if event == "intent":
            ids = tuple(str(custom_id) for custom_id in line["ids"])
            most = tuple(
                (int(tokens_in), int(tokens_out)) for tokens_in, tokens_out in line["most"]
            )
            if len(most) != len(ids):
                raise ValueError("as many counts as requests")
            teacher, at = str(line["teacher"]), float(line["at"])
            self.records[tag] = BatchRecord(tag, teacher, ids, most, at)
            return
        record = self.records[tag]
        if event == "submitted":
            record.id = str(line["id"])
        elif event == "dropped":
            record.is_over, record.id = True, None
        elif event == "spent":
            if line["ids"] is None:
                record.is_over = True
                record.spent.update(record.custom_ids)
            else:
                record.spent.update(str(custom_id) for custom_id in line["ids"])
        else:
            raise ValueError(f"unknown event {event!r}")

    def _write(self, line: dict[str, Any]) -> None:
        """Put a line on disk, then into ``records``."""
        if self.path is not None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                is_new = not self.path.exists()
                with self.path.open("ab") as stream:
                    stream.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
                    stream.flush()
                    os.fsync(stream.fileno())
                if is_new:
                    _sync_directory(self.path.parent)
            except OSError as error:
                raise RunError(
                    str(self.path),
                    f"cannot be written ({error.strerror}), so no batch may be submitted",
                    "make room or mend the permissions, and run the same command again",
                ) from None
        self._apply(line)

    def _read(self, path: Path) -> None:
        try:
            data = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise RunError(str(path), f"cannot be read: {error.strerror}") from None
        whole = data.rfind(b"\n") + 1
        for number, raw in enumerate(data[:whole].splitlines(), start=1):
            try:
                self._apply(json.loads(raw))
            except (ValueError, KeyError, TypeError):
                raise RunError(
                    f"{path}:{number}",
                    "is no line of a batch journal, so it cannot be told what is under way",
                    "restore the file; without it, batches that are under way are paid for twice",
                ) from None
        if whole < len(data):
            # A line cut short by a crash announced something that was not begun yet.
            try:
                os.truncate(path, whole)
            except OSError as error:
                raise RunError(str(path), f"cannot be written: {error.strerror}") from None


def _sync_directory(directory: Path) -> None:
    """Make a new file's name as durable as its content."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
