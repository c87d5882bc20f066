"""The one exception tree: every error names the culprit, the reason and the way out.

OverproofError
├── ConfigError            a recipe that cannot be run as written
│   └── CapabilityError    a recipe that needs what its teacher lacks
├── DataError              an input file or row that cannot be read
│   └── LeakError          test material found where training could see it
├── MissingExtraError      an optional dependency that is not installed
├── SecretError            an API key that is not where the recipe says
├── TermsError             a teacher whose terms forbid the use
├── ModelError             an embedded model that cannot be had
│   └── HashMismatchError  bytes that are not the pinned ones
├── TeacherError           a teacher that failed for good
│   ├── TeacherUnreachableError
│   └── TooManyFailedError more answers failed than the recipe allows
├── BudgetError            a cap of the recipe was reached
├── LedgerError            the ledger cannot be read or written
│   ├── LedgerLockedError  another process is writing to it
│   └── LedgerCorruptError a record is not what was written
├── RunError               a run directory in a state that cannot be continued
└── StudentError           a student directory that cannot be used
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "BudgetError",
    "CapabilityError",
    "ConfigError",
    "DataError",
    "HashMismatchError",
    "LeakError",
    "LedgerCorruptError",
    "LedgerError",
    "LedgerLockedError",
    "MissingExtraError",
    "ModelError",
    "OverproofError",
    "RunError",
    "SecretError",
    "StudentError",
    "TeacherError",
    "TeacherUnreachableError",
    "TermsError",
    "TooManyFailedError",
]


class OverproofError(Exception):
    """Base of every error that overproof raises on purpose.

    Args:
        culprit: what is wrong, as the user knows it: a file with its line, a key, a URL.
        reason: why it cannot be used.
        way_out: what to do about it.

    Attributes:
        outcomes: answers by split and outcome, where a collection ended early.
    """

    exit_code = 2
    outcomes: Mapping[str, Mapping[str, int]] = {}

    def __init__(self, culprit: str, reason: str, way_out: str = "") -> None:
        self.culprit = culprit
        self.reason = reason
        self.way_out = way_out
        super().__init__(culprit, reason, way_out)

    def __str__(self) -> str:
        text = f"{self.culprit}: {self.reason}"
        return f"{text}\n  → {self.way_out}" if self.way_out else text


class ConfigError(OverproofError):
    """A recipe that cannot be run as written."""


class CapabilityError(ConfigError):
    """A recipe that needs something its teacher does not offer."""


class DataError(OverproofError):
    """An input file or row that cannot be read; the culprit is FILE:LINE[:COLUMN]."""


class LeakError(DataError):
    """Test material was found where training could see it."""


class MissingExtraError(OverproofError):
    """An optional dependency is not installed; the way out is its install command."""

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(
            module,
            "is not installed",
            f"install it with: pip install 'overproof[{extra}]'",
        )
        self.args = (module, extra)


class SecretError(OverproofError):
    """An API key is not in the environment variable that the recipe names."""


class TermsError(OverproofError):
    """The teacher's terms forbid this use and no right was attested."""


class ModelError(OverproofError):
    """An embedded model cannot be fetched or read."""


class HashMismatchError(ModelError):
    """The bytes fetched are not the pinned ones."""


class TeacherError(OverproofError):
    """A teacher failed for good."""

    exit_code = 3


class TeacherUnreachableError(TeacherError):
    """Nobody answers at the teacher's address."""


class TooManyFailedError(TeacherError):
    """A larger share of requests failed than the recipe's ``max_failed``.

    ``outcomes`` are the answers by split and outcome, for the table at the end.
    """

    def __init__(
        self,
        culprit: str,
        reason: str,
        way_out: str = "",
        outcomes: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        super().__init__(culprit, reason, way_out)
        self.outcomes = outcomes or {}
        self.args = (culprit, reason, way_out, self.outcomes)


class BudgetError(OverproofError):
    """A cap on calls or money was reached; the run can be resumed with a higher one."""


class LedgerError(OverproofError):
    """The ledger cannot be read or written."""


class LedgerLockedError(LedgerError):
    """Another process is writing to the ledger."""


class LedgerCorruptError(LedgerError):
    """A record of the ledger is not what was written."""

    exit_code = 1


class RunError(OverproofError):
    """A run directory is in a state that cannot be continued."""


class StudentError(OverproofError):
    """A student directory cannot be used."""
