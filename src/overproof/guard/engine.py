"""Guard: one event in, the account's current decision out; the same code inline and in a replay.

Everything follows from the events and their times. An account is looked at when it comes of a
preset age, and communities are looked for at preset times of day, so that a replay of a log takes
the decisions that the gateway took. Two things would stop a request for too long and are moved off
its path without changing what they come to. Looks that come due together are spread over the
events that follow, at most ``MOST_LOOKS`` an event, but never past the account's own next one. The
community pass is run by whoever drives this, when `Guard.due` says so, or by the event that it is
due before; until it has been, later events are held back and learnt from afterwards, at most
``MOST_HELD`` of them.
In a gateway, where nobody has put the events in order, an `Intake` stands before all this.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping
from operator import attrgetter
from threading import RLock
from typing import TYPE_CHECKING, Any

import msgspec

from overproof.guard.accounts import Accounts, AccountState
from overproof.guard.communities import drawn, find_communities
from overproof.guard.identities import CommunityIds
from overproof.guard.parts import Decision
from overproof.guard.schedule import LookSchedule
from overproof.guard.shared import SharedEvidence
from overproof.guard.signals.accounts import account_vector
from overproof.guard.signals.communities import community_vector
from overproof.guard.strata import stratum_of
from overproof.records.traffic import Event, Sketch, TrafficVerdict

if TYPE_CHECKING:
    from overproof.config.guard import GuardConfig
    from overproof.guard.intake import Intake
    from overproof.guard.judging import Judge
    from overproof.guard.parts import Sketcher
    from overproof.guard.recording import LookRecorder

__all__ = ["Guard"]

HOUR_S = 3600.0
MOST_LOOKS = 4
MOST_HELD = 100_000
MOST_CAUGHT_UP = 8
LOGGED = 10

_log = logging.getLogger(__name__)
_UNDECIDED = Decision()


class Guard:
    """The detector.

    Args:
        config: when to look, and how sure to be.
        sketcher: makes fingerprints of events that come with their text; without one their text
            is passed over, and counted.
        judge: scores, calibration, evidence and the ladder; without one guard only watches (to
            record what a judge is made from) and decides nothing.
        recorder: told of every look.
        intake: sees to repeats and wrong clocks, unless a `ReorderBuffer` has done so before.
        passes: whether `observe` runs the passes that are due, and its caller waits.

    Attributes:
        accounts: what is remembered of each account.
        shared: what accounts have in common.
        counts: what was done, by name.
    """

    def __init__(
        self,
        config: GuardConfig,
        *,
        sketcher: Sketcher | None = None,
        judge: Judge | None = None,
        recorder: LookRecorder | None = None,
        intake: Intake | None = None,
        passes: bool = False,
    ) -> None:
        self.config = config
        self.sketcher = sketcher
        self.judge = judge
        self.recorder = recorder
        self.accounts = Accounts(config.forget_days, config.most_accounts, self._forgotten)
        if judge is not None:
            judge.meet(self.accounts)
        self.shared = SharedEvidence(config.communities)
        self.counts: Counter[str] = Counter()
        self.intake = intake
        if intake is not None:
            intake.counts = self.counts
        self.passes = passes
        self._lock = RLock()  # of one event, and of the beginning and the end of a pass
        self._passing = False
        self._ids = CommunityIds()
        self._looks = LookSchedule(config.looks.ages_h)
        self._every = config.communities.every_h * HOUR_S
        self._next_pass = float("inf")  # until the first event
        self._fresh = False  # has anything come since the last pass?
        self._now = float("-inf")
        self._gone: list[int] = []
        self._held: deque[Event] = deque()
        self._verdicts: list[TrafficVerdict] = []
        self._found: list[dict[str, Any]] = []

    def observe(self, event: Event, *, strict: bool = True) -> Decision:
        """Learn from one event; events come in order of their time, or nearly so.

        What an intake keeps out is counted and not learnt from, and the decision is returned.

        Args:
            event: with its text, or with a sketch of it.
            strict: raise what goes wrong inside. A gateway says False: then a fault of guard's is
                counted and logged, and the request is answered as if nothing were known.

        Returns:
            The rung that the account stands on now.
        """
        if strict:
            return self._observe(event)
        try:
            return self._observe(event)
        except Exception:  # noqa: BLE001 - observation never breaks the observed
            self.counts["faults"] += 1
            if self.counts["faults"] <= LOGGED:
                _log.exception("guard could not take in a request of %r", event.account[:80])
            return _UNDECIDED

    def _observe(self, event: Event) -> Decision:
        with self._lock:
            intake = self.intake
            if intake is not None:
                admitted = intake.admit(event, self._light)
                if intake.news and not self._passing:
                    self._heed(intake)
                if admitted is None:
                    return self._decision(event, intake.newest)
                event = admitted
            if self.passes and not self._passing:
                self._bring_up(event.ts)
            elif self._held:
                self._catch_up()
            if self._held or self._passing or event.ts >= self._next_pass:
                self._hold(event)
                return self._decision(event, event.ts)
            return self._take(event)

    def _bring_up(self, now: float) -> None:
        """Run every pass that is due by ``now``, each after the events before it."""
        self._catch_up(len(self._held))
        while self.due(now):
            self.run_pass()
            self._catch_up(len(self._held))

    def _take(self, event: Event) -> Decision:
        counts, ts = self.counts, event.ts
        sketch = event.text_sketch
        if sketch is None and event.messages is not None:
            sketch = self._sketch(event)
        if sketch is not None and not (sketch.prompt or sketch.turn or sketch.system):
            sketch = None  # of no text at all: what it says of tools is not a text's
        if ts > self._now:
            if self._now == float("-inf"):
                self._set_pass(ts)
            self._now = ts
        account = self.accounts.get(event)
        index = account.index
        if not account.requests:
            self._looks.start(index, account.first_seen)
            counts["accounts"] += 1
        elif self._looks.waits(index, ts):
            for look, at in self._looks.own(index, ts):
                self._look(account, look, at)
        if self._looks.next_due <= ts:
            self._look_around(ts, MOST_LOOKS)
        account.add(event, sketch)
        self.shared.add(account, event, sketch)
        counts["events"] += 1
        self._fresh = True
        return _UNDECIDED if self.judge is None else self.judge.decision(account, ts)

    def _sketch(self, event: Event) -> Sketch | None:
        if self.sketcher is None:
            self.counts["texts passed over"] += 1
            return None
        self.counts["sketched here"] += 1
        turns = [turn for turn in event.messages or () if isinstance(turn, Mapping)]
        return self.sketcher.sketch(msgspec.structs.replace(event, messages=turns))

    def _light(self, event: Event) -> Event:
        """Without its text, which is heavy, for one that has to wait."""
        if event.messages is None:
            return event
        sketch = event.text_sketch or self._sketch(event)
        return msgspec.structs.replace(event, text_sketch=sketch, messages=None)

    def _decision(self, event: Event, now: float) -> Decision:
        account = self.accounts.find(event.account)
        if self.judge is None or account is None:
            return _UNDECIDED
        return self.judge.decision(account, now)

    def _heed(self, intake: Intake) -> None:
        """What the intake has to say of earlier events."""
        if intake.back:  # what was held as of later than now would be waited for in vain
            self._now = now = intake.newest
            self._set_pass(now)
            self.accounts.turn_back(now)
            self.shared.turn_back(now)
            kept = deque(event for event in self._held if intake.believes(event.ts))
            self.counts["dropped"] += len(self._held) - len(kept)
            self._held = kept
        for event in intake.released:
            self._hold(event)
        intake.released, intake.news, intake.back = [], False, False

    def _hold(self, event: Event) -> None:
        """Keep an event until the pass that is due was run, without its text.

        Where too many wait already, the pass is missed, and the first one, if it is still in the
        others' way, is dropped: its clock is ahead of theirs, by less than a day. During a pass
        nothing can be taken, and the first one is dropped.
        """
        held = self._held
        if len(held) >= MOST_HELD:
            if held[-1].ts >= self._next_pass and not self._passing:  # nobody runs the passes
                self.counts["passes missed"] += 1
                self._set_pass(held[-1].ts)
            if held[0].ts >= self._next_pass or self._passing:
                held.popleft()
                self.counts["dropped"] += 1
            self._catch_up()
        held.append(self._light(event))
        self.counts["held"] += 1

    def _catch_up(self, most: int = MOST_CAUGHT_UP) -> None:
        held = self._held
        while held and most and not self._passing and held[0].ts < self._next_pass:
            self._take(held.popleft())
            most -= 1

    def due(self, now: float) -> bool:
        """Is a community pass due by ``now``, in event time? Then run it before the next event."""
        if now < self._next_pass:
            return False
        return self.intake is None or self.intake.believes(now)

    def run_pass(self) -> None:
        """Look for communities, as of the time that the pass was due.

        Seconds of work, not for the path of a request. It may run in a thread of its own while
        ``observe`` is called: events that come meanwhile are held.
        """
        with self._lock:
            at = self._next_pass
            if self._passing or at == float("inf"):
                return
            self._passing = True
        try:
            if self._fresh:  # else it would find what the last one found
                self._look_around(at, None)
                self._forget()
                self._pass(at)
                self._fresh = False
                self.counts["passes"] += 1
        finally:
            with self._lock:
                self._passing = False
                if self._next_pass == at:  # else too many waited, and it was given up
                    self._set_pass(at)

    def _pass(self, at: float) -> None:
        found = find_communities(self.shared, self.accounts, at, self.config.communities)
        names = self._ids.match(found)
        vectors = [community_vector(community) for community in found]
        self.counts["communities"] += len(found)
        if self.recorder is not None:
            for name, community, vector in zip(names, found, vectors, strict=True):
                members = [member.account for member in community.members]
                self.recorder.community(name, members, self.counts["passes"], at, vector)
        if self.judge is None:
            return
        judged = self.judge.communities(names, found, vectors, at)
        self._keep(judged.verdicts, judged.banned, at)
        reported = (pair for pair in zip(names, found, strict=True) if pair[0] in judged.reported)
        self._found += [drawn(name, community) for name, community in reported]

    def _set_pass(self, now: float) -> None:
        """The next pass is at the first whole multiple of the interval after ``now``."""
        self._next_pass = (now // self._every + 1.0) * self._every

    def _look_around(self, now: float, most: int | None) -> None:
        for index, look, at in self._looks.due(now, most):
            account = self.accounts.at(index)
            if account is not None:
                self._look(account, look, at)

    def _look(self, account: AccountState, look: int, at: float) -> None:
        if account.requests < self.config.looks.least_requests:
            return
        vector = account_vector(account, at)
        self.counts["looks"] += 1
        if self.recorder is not None:
            stratum = stratum_of(account.plan, account.requests)
            group = account.org or account.payer or ""
            self.recorder.account(account.account, look, at, vector, stratum=stratum, group=group)
        if self.judge is None:
            return
        judged = self.judge.account(account, look, at, vector)
        if judged is not None:
            self._keep(judged.verdicts, judged.banned, at)

    def _forgotten(self, account: AccountState) -> None:
        self._looks.forget(account.index)
        self._gone.append(account.index)
        self.counts["forgotten"] += 1

    def _forget(self) -> None:
        """Let the others know, once a pass: it goes through all that they remember."""
        gone, self._gone = self._gone, []
        self.shared.forget(gone)
        if self.judge is not None:
            self.judge.forget(gone)

    def _keep(self, verdicts: list[TrafficVerdict], banned: Collection[int], at: float) -> None:
        for verdict in verdicts:
            self._verdicts.append(verdict)
            self.counts[f"verdicts: {verdict.action}"] += 1
        if banned:
            self.shared.ban(banned, at)

    def verdicts(self) -> list[TrafficVerdict]:
        """Those taken since the last call, in order of event time, and no others will precede."""
        if not self._verdicts:
            return []
        settled = self._looks.earliest
        self._verdicts.sort(key=attrgetter("decided_at"))  # stable
        ready = [verdict for verdict in self._verdicts if verdict.decided_at <= settled]
        self._verdicts = self._verdicts[len(ready) :]
        return ready

    def communities(self) -> Iterator[dict[str, Any]]:
        """Communities with a verdict since the last call, to be drawn: plain values."""
        found, self._found = self._found, []
        return iter(found)

    def finish(self) -> None:
        """The end of a log: take the looks that had come due, hold nothing back."""
        if self.intake is not None:
            self.intake.finish()
            self._heed(self.intake)
        while self._held:
            if self._held[0].ts >= self._next_pass:
                self.run_pass()
            self._catch_up(len(self._held))
        self._look_around(self._now, None)

    # ------------------------------------------------------------ snapshots

    def state(self) -> dict[str, Any]:
        """All that is remembered, as plain values."""
        intake = {} if self.intake is None else {"intake": self.intake.state()}
        return {
            **intake,
            "accounts": self.accounts.state(),
            "shared": self.shared.state(),
            "ids": self._ids.state(),
            "looks": self._looks.state(),
            "judge": None if self.judge is None else self.judge.state(),
            "held": [msgspec.to_builtins(event) for event in self._held],
            "verdicts": [msgspec.to_builtins(verdict) for verdict in self._verdicts],
            "found": list(self._found),
            "gone": list(self._gone),
            "counts": dict(self.counts),
            "times": [self._next_pass, self._now, self._fresh],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take a snapshot's values, of a guard with the same configuration and judge."""
        self.accounts.restore(state["accounts"])
        self.shared.restore(state["shared"])
        self._ids.restore(state["ids"])
        self._looks.restore(state["looks"])
        if self.judge is not None:
            self.judge.restore(state["judge"])
        self._held = deque(msgspec.convert(event, Event) for event in state["held"])
        self._verdicts = [msgspec.convert(one, TrafficVerdict) for one in state["verdicts"]]
        self._found = list(state["found"])
        self._gone = list(state["gone"])
        self.counts = Counter(state["counts"])
        if self.intake is not None:
            self.intake.counts = self.counts
            if "intake" in state:  # else of a replay, whose buffer keeps this
                self.intake.restore(state["intake"])
        self._next_pass, self._now, self._fresh = state["times"]
