"""A replay that kills itself without a word after so many events, as a power cut would.

python mortal_replay.py EVENTS OUT KILL_AFTER RESUME
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from guard_logs import BusyJudge

from overproof.config.guard import GuardConfig
from overproof.guard import replay as module
from overproof.guard.engine import Guard
from overproof.guard.replay import SnapshotPlan, replay

EVENTS, OUT, AFTER, RESUME = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
left = AFTER
observe = Guard.observe


def mortal(self: Guard, event, *, strict: bool = True):  # type: ignore[no-untyped-def]
    global left  # noqa: PLW0603
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return observe(self, event, strict=strict)


module.Guard.observe = mortal  # type: ignore[method-assign]
plan = SnapshotPlan(resume=RESUME == "resume", every_events=250)
report = replay(EVENTS, OUT, GuardConfig(), judge=BusyJudge(), snapshots=plan)  # type: ignore[arg-type]
print(report.resumed_at)
