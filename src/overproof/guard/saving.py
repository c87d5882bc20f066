"""A gateway's snapshot: what guard remembers, so that the gateway can be stopped and started.

It is told from a replay's, which also holds the place in a log. Signed exemptions may differ, as
they come and go while a gateway runs; whatever else a decision rests on must be the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from overproof import __version__
from overproof.guard.snapshots import check_key, read_snapshot, write_snapshot
from overproof.records.hashing import content_hash

if TYPE_CHECKING:
    from overproof.guard.engine import Guard

__all__ = ["restore_guard", "save_guard"]

ANEW = "move it away to begin anew; what was remembered, and who stood on which rung, is lost"


def save_guard(guard: Guard, path: Path) -> int:
    """Write a gateway's snapshot; the caller sees to it that guard learns nothing meanwhile.

    Returns:
        The bytes written.

    Raises:
        OSError: as `write_snapshot`.
    """
    key = getattr(guard.sketcher, "key_id", "")
    return write_snapshot(path, _identity(guard), {"key": key, "guard": guard.state()})


def restore_guard(guard: Guard, path: Path) -> None:
    """Let a guard that has seen nothing yet go on from a gateway's snapshot.

    Raises:
        DataError: it is missing or damaged.
        RunError: it was made by another version, or with another configuration, calibration or
            key; or by a replay.
        SecretError: it was made with a key, which is not set.
    """
    saved = read_snapshot(path, _identity(guard), anew=ANEW)
    check_key(path, saved["key"], guard.sketcher)
    guard.restore(saved["guard"])


def _identity(guard: Guard) -> dict[str, str]:
    judged = {} if guard.judge is None else dict(guard.judge.identity())
    judged.pop("number of valid exemptions", None)
    return {
        "program (a replay or a gateway)": "gateway",
        "version of overproof": __version__,
        "configuration": content_hash(guard.config.model_dump(mode="json", exclude={"exemptions"})),
        **judged,
    }
