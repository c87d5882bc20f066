"""Guard: one event in, the account's current decision out; the same code inline and in a replay.

Everything follows from the events and their times. An account is looked at when it comes of a
preset age, and communities are looked for at preset times of day, so that a replay of a log takes
the decisions that the gateway took. Two things would stop a request for too long and are moved off
its path without changing what they come to. Looks that come due together are spread over the
events that follow, at most ``MOST_LOOKS`` an event, but never past the account's own next one. The
community pass is run by whoever drives this, when `Guard.due` says so, or for the event that it is
due before; until it has been, and while a snapshot is saved, events are answered and wait.
In a gateway, where nobody has put the events in order, an `Intake` stands before all this.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overproof.guard.accounts import Accounts, AccountState
from overproof.guard.gate import Gate
from overproof.guard.outbox import Outbox
from overproof.guard.parts import Decision, Remembers
from overproof.guard.passing import CommunityPass
from overproof.guard.schedule import LookSchedule
from overproof.guard.shared import SharedEvidence
from overproof.guard.signals.accounts import account_vector
from overproof.guard.sketching import Texts
from overproof.guard.strata import stratum_of
from overproof.guard.waiting import Waiting
from overproof.records.traffic import Event, TrafficVerdict

if TYPE_CHECKING:
    from overproof.config.guard import GuardConfig
    from overproof.guard.intake import Intake
    from overproof.guard.judging import Judge
    from overproof.guard.parts import Sketcher
    from overproof.guard.recording import LookRecorder

__all__ = ["Guard"]

HOUR_S = 3600.0
DAY_S = 86400.0
MOST_LOOKS = 4
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
        passes: whether `observe` runs the passes that are due, and its caller waits; calls of
            other threads are answered meanwhile, and learnt from afterwards.

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
        texts = Texts(sketcher, self.counts)
        self._sketch, self._light = texts.sketch, texts.light
        self._gate = Gate()  # its lock: of one event, of a pass's beginning and end
        self._passes = CommunityPass(config.communities, judge, recorder, self.counts)
        self._looks = LookSchedule(config.looks.ages_h)
        self._term_s = config.looks.term_days * DAY_S
        every_s = config.communities.every_h * HOUR_S
        self._waiting = Waiting(every_s, self._take, self._gate, self.counts)
        self._set_pass = self._waiting.set_pass
        self._fresh = False  # has anything come since the last pass?
        self._now = float("-inf")
        self._gone: list[int] = []
        self._outbox = Outbox()
        accounts, shared, looks, ids = self.accounts, self.shared, self._looks, self._passes.ids
        self._brief = _there(intake=intake, outbox=self._outbox, waiting=self._waiting)
        self._long = _there(accounts=accounts, shared=shared, ids=ids, looks=looks, judge=judge)

    def observe(self, event: Event, *, strict: bool = True) -> Decision:
        """Learn from one event; events come in order of their time, or nearly so.

        What an intake keeps out is counted and not learnt from, and the decision is returned.

        Args:
            event: with its text, or with a sketch of it.
            strict: raise what goes wrong inside. A gateway says False: then a fault of guard's is
                counted and logged, and the request is answered by what was known before.

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
        intake = self.intake
        believed = intake is None or intake.believes(event.ts)
        with suppress(Exception):
            return self._decision(event, event.ts if believed or intake is None else intake.newest)
        return _UNDECIDED

    def _observe(self, event: Event) -> Decision:
        with self._gate.lock:
            self._gate.enter()
            try:
                decision = self._take_in(event)
            finally:
                self._gate.leave()
        if isinstance(decision, Decision):
            return decision
        self._bring_up(decision)  # without the lock: other events are held, and answered
        return self._decision(event, decision)

    def _take_in(self, event: Event) -> Decision | float:
        """Learn from an event, or hold it; the time up to which passes shall be run before it."""
        intake, gate = self.intake, self._gate
        if intake is not None:
            admitted = intake.admit(event, self._light)
            if intake.news and not gate.closed:
                self._heed(intake)
            if admitted is None:
                return self._decision(event, intake.newest)
            event = admitted
        waiting, runs = self._waiting, self.passes and not gate.closed and self.due(event.ts)
        if waiting.held and not runs:
            waiting.catch_up()
        if waiting.held or gate.closed or event.ts >= waiting.next_pass:
            waiting.hold(self._light(event))  # a pass that fails does not lose it
            return event.ts if runs else self._decision(event, event.ts)
        return self._take(event)

    def _bring_up(self, now: float) -> None:
        """Run every pass due by ``now``, each after the events before it; take what waits by now.

        What comes to wait meanwhile is taken with the events that follow, as after any pass.
        """
        waiting = self._waiting
        with self._gate.lock:
            most = len(waiting.held)
            waiting.catch_up(most)
        while self.run_pass(now):
            with self._gate.lock:
                waiting.catch_up(most)

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
        if ts - account.first_seen >= self._term_s:
            account = self._begin_anew(account, ts)
        if self._looks.next_due <= ts:
            self._look_around(ts, MOST_LOOKS)
        account.add(event, sketch)
        self.shared.add(account, event, sketch)
        counts["events"] += 1
        self._fresh = True
        return _UNDECIDED if self.judge is None else self.judge.decision(account, ts)

    def _begin_anew(self, account: AccountState, ts: float) -> AccountState:
        """A term is over: what the account does from now on is looked at as a new one's."""
        self._looks.start(account.index, ts)
        if self.judge is not None:
            self.judge.begin_anew(account.index)
        self.counts["begun anew"] += 1
        return self.accounts.begin_anew(account, ts)

    def _decision(self, event: Event, now: float) -> Decision:
        with self._gate.lock:
            account = self.accounts.find(event.account)
            if self.judge is None or account is None:
                return _UNDECIDED
            return self.judge.decision(account, now)

    def _heed(self, intake: Intake) -> None:
        """What the intake has to say of earlier events."""
        if intake.back:
            self._now = now = intake.newest
            self._waiting.turn_back(now, intake.believes)
            self.accounts.turn_back(now)
            self.shared.turn_back(now)
        for event in intake.released:
            self._waiting.hold(self._light(event))
        intake.released, intake.news, intake.back = [], False, False

    def due(self, now: float) -> bool:
        """Is a community pass due by ``now``, in event time? Then run it before the next event."""
        if now < self._waiting.next_pass:
            return False
        return self.intake is None or self.intake.believes(now)

    def run_pass(self, now: float | None = None) -> bool:
        """Look for communities, as of the time that the pass was due.

        Seconds of work, not for the path of a request. It may run in a thread of its own while
        ``observe`` is called: events that come meanwhile are held. A pass that fails is not tried
        again before the next is due.

        Args:
            now: event time; do nothing unless a pass is due by then. Of several workers who ask
                at once, one runs it.

        Returns:
            Whether a pass was run; not where one is under way already, or a save.
        """
        with self._gate.lock:
            at = self._waiting.next_pass
            if self._gate.closed or at == float("inf") or not (now is None or self.due(now)):
                return False
            self._gate.close()
        try:
            if self._fresh:  # else it would find what the last one found
                self._look_around(at, None)
                self._forget()
                self._pass(at)
                self._fresh = False
                self.counts["passes"] += 1
        finally:
            with self._gate.lock:
                self._gate.open()
                if self._waiting.next_pass == at:  # else too many waited, and it was given up
                    self._set_pass(at)
        return True

    def _pass(self, at: float) -> None:
        done = self._passes.run(self.shared, self.accounts, at)
        self._keep(done.verdicts, done.banned, at)
        with self._gate.lock:
            self._outbox.draw(done.drawn)

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
        with self._gate.lock:
            for verdict in verdicts:
                self._outbox.put(verdict)
                self.counts[f"verdicts: {verdict.action}"] += 1
        if banned:
            self.shared.ban(banned, at)

    def verdicts(self) -> list[TrafficVerdict]:
        """Those taken since the last call, in order of event time, and no others will precede.

        During a pass or a save none; they come with a later call. They wait until fetched, however
        many: a gateway fetches and keeps them every so often, as the evidence is nowhere else.
        """
        with self._gate.lock:
            return [] if self._gate.closed else self._outbox.settled(self._looks.earliest)

    def communities(self) -> Iterator[dict[str, Any]]:
        """Communities with a verdict since the last call, to be drawn, as `verdicts` are given."""
        with self._gate.lock:
            return iter([] if self._gate.closed else self._outbox.drawn())

    def finish(self) -> None:
        """The end of a log: take the looks that had come due, hold nothing back.

        It waits for a pass or a save of another thread; RunError from within one of its own.
        """
        with self._gate.lock:
            self._gate.wait()
            if self.intake is not None:
                self.intake.finish()
                self._heed(self.intake)
            waiting = self._waiting
            while waiting.held:
                if waiting.held[0].ts >= waiting.next_pass:
                    self.run_pass()
                waiting.catch_up(len(waiting.held))
            self._look_around(self._now, None)

    # ------------------------------------------------------------ snapshots

    def save(self, path: Path) -> int:
        """Write a snapshot that ``api.open_guard(snapshot=path)`` goes on from; returns its bytes.

        From any thread of a gateway, while others call ``observe``: it waits for a pass that is
        under way, and events that come while it writes are held, and answered, as during a pass.

        Raises:
            RunError: called from within a pass or an event, as by a signal handler.
            OSError: a full disk, a missing permission; an old snapshot is still there.
        """
        from overproof.guard.saving import save_guard

        with self._gate.still():
            return save_guard(self, path)

    def state(self) -> dict[str, Any]:
        """All that is remembered, as plain values, some of which are read only later.

        For a replay, which observes nothing until they were; a gateway has `save`.
        """
        with self._gate.lock:  # what changes even during a save, all as of one moment
            if self.intake is not None and self.intake.news:  # it came during a pass
                self._heed(self.intake)
            state = {name: part.state() for name, part in self._brief.items()}
            state["counts"] = dict(self.counts)
        state |= {name: part.state() for name, part in self._long.items()}
        return state | {"gone": list(self._gone), "times": [self._now, self._fresh]}

    def restore(self, state: dict[str, Any]) -> None:
        """Take a snapshot's values, of a guard with the same configuration and judge."""
        for name, part in (self._brief | self._long).items():
            part.restore(state[name])
        self.counts.clear()  # others count in it too
        self.counts.update(state["counts"])
        self._gone = list(state["gone"])
        self._now, self._fresh = state["times"]


def _there(**parts: Remembers | None) -> dict[str, Remembers]:
    return {name: part for name, part in parts.items() if part is not None}
