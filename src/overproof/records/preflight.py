"""What is checked before a token is spent on training: one line a check."""

from __future__ import annotations

from typing import Literal

from overproof.records.exchange import Record

__all__ = ["Check", "Preflight"]


class Check(Record):
    """One check. A ``problem`` stops the run; a ``warning`` is shown and does not.

    ``found`` is what was measured, ``reason`` what is wrong with it, ``way_out`` what to do.
    """

    name: str
    outcome: Literal["ok", "warning", "problem"]
    found: str
    reason: str = ""
    way_out: str = ""


class Preflight(Record):
    """The checks of one student of the recipe."""

    student: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing stops the run."""
        return all(check.outcome != "problem" for check in self.checks)

    @property
    def problems(self) -> tuple[str, ...]:
        """What stops the run, with the way out."""
        return tuple(
            f"student {self.student}: {check.name}: {check.reason}"
            + (f"; {check.way_out}" if check.way_out else "")
            for check in self.checks
            if check.outcome == "problem"
        )
