"""Progress: a live bar on a terminal, one line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from overproof.collect.asker import Progress as CollectProgress

__all__ = ["Display"]

SECONDS_BETWEEN_LINES = 5.0


class Display:
    """Shows how a run goes on, on stderr, so that stdout holds the result alone."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self._live = self.console.is_terminal and not quiet
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description:<12}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("[dim]{task.fields[extra]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self._live,
        )
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}
        self._last_line = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        sys.stderr.flush()

    def collecting(self, progress: CollectProgress) -> None:
        """Called after every answer, and now and then while none comes."""
        if not progress.total:
            for line in progress.status:
                self.say(line)
            return
        started = self._started.setdefault("collect", time.monotonic())
        spent = max(time.monotonic() - started, 1e-9)
        rate = progress.calls / spent
        cost = "cost unknown" if progress.cost_usd is None else f"${progress.cost_usd:.4f}"
        bad = sum(
            n for outcome, n in progress.outcomes.items() if outcome in ("failed", "malformed")
        )
        speed = f"{rate:.1f} calls/s, " if spent > 1.0 else ""
        extra = f"{speed}{progress.cached} from the ledger, {cost}"
        extra += f", {bad} bad" if bad else ""
        if progress.draining:
            extra += f"; waiting for {progress.draining} answers in flight"
        extra += "".join(f"; {line}" for line in progress.status)
        self._show("collect", progress.done, progress.total, extra)

    def training(self, name: str, share: float) -> None:
        """Called with the share of a student's training that is done."""
        self._show(f"train {name}", int(100 * share), 100, "", unit="%")

    def say(self, text: str) -> None:
        """One line for a step without a bar."""
        self.console.print(f"[dim]·[/dim] {escape(text)}", highlight=False, soft_wrap=True)

    def _show(self, name: str, done: int, total: int, extra: str, unit: str = "") -> None:
        if self._live:
            if name not in self._tasks:
                self._tasks[name] = self._bar.add_task(name, total=total, extra=extra)
            self._bar.update(self._tasks[name], completed=done, total=total, extra=extra)
            return
        now = time.monotonic()
        finished = done >= total
        if now - self._last_line < SECONDS_BETWEEN_LINES and not finished:
            return
        started = self._started.setdefault(name, now)
        if finished and name in self._tasks:
            return
        if finished:
            self._tasks[name] = TaskID(0)
        self._last_line = now
        left = (now - started) / done * (total - done) if done else float("nan")
        parts = [f"{done}{unit}" if unit else f"{done}/{total}", extra]
        parts.append(f"about {left:.0f} s left" if done and not finished else "")
        self.console.print(
            f"{name}: {', '.join(p for p in parts if p)}", highlight=False, soft_wrap=True
        )
