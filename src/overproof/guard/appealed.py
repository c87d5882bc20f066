"""A judge of a replay that knows all appeals beforehand, and heeds each from its own time on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from overproof.guard.appeal_files import read_appeals
from overproof.guard.appeals import AppealOutcome, Appeals
from overproof.guard.judging import Judge, Judged
from overproof.guard.parts import Community, Decision, Vector
from overproof.records.hashing import file_sha256

if TYPE_CHECKING:
    from overproof.config.guard import GuardConfig
    from overproof.guard.accounts import AccountState
    from overproof.guard.instruments import Instruments

__all__ = ["AppealedJudge"]


class AppealedJudge(Judge):
    """Decides what a gateway decided to which the same appeals were handed in at their times.

    Args:
        config: rates, rungs, exemptions.
        instruments: frozen scorers and calibrations.
        file: decided appeals, one a line.

    Raises:
        ConfigError: scorers, calibrations and this version's signals do not belong together.
        DataError: the file cannot be read, or a line is no appeal; the culprit is FILE:LINE.
    """

    def __init__(self, config: GuardConfig, instruments: Instruments, file: Path) -> None:
        # Nothing is drawn here, so that any key will do: who was in the audit stands in the file.
        self._appeals = Appeals(os.urandom(32))
        self._appeals.take(read_appeals(file))
        self._file = {"appeals": file_sha256(file)}
        super().__init__(config, instruments, appeals=self._appeals)

    def identity(self) -> dict[str, str]:
        """What a snapshot must agree with: also the appeals."""
        return super().identity() | self._file

    def account(self, account: AccountState, look: int, at: float, vector: Vector) -> Judged | None:
        """Judge one look at one account; None where nothing is to be said."""
        self._appeals.as_of(at)
        return super().account(account, look, at, vector)

    def communities(
        self,
        names: Sequence[str],
        found: Sequence[Community],
        vectors: Sequence[Vector],
        at: float,
    ) -> Judged:
        """Judge the communities of one pass, all together."""
        self._appeals.as_of(at)
        return super().communities(names, found, vectors, at)

    def decision(self, account: AccountState, now: float) -> Decision:
        """The rung that an account stands on."""
        self._appeals.as_of(now)
        return super().decision(account, now)

    def notes(self, now: float) -> list[str]:
        """What a reader should know: also which appeals could count."""
        records = self._appeals.records
        upheld = [one for one in records if one.outcome is AppealOutcome.UPHELD]
        late = sum(one.at > now for one in upheld)
        said = f"appeals: {len(upheld):,} upheld, {len(records) - len(upheld):,} not"
        if late:
            said += f"; {late:,} of the upheld after the log's end, which count for nothing here"
        return [*super().notes(now), said]
