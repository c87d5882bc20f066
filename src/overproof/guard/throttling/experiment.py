"""The experiment as a gateway drives it: ask before every request, answer 429 where told.

retry_after = experiment.ask(event.account, now, sketch.prompt)
if retry_after is not None: answer 429 with Retry-After: ceil(retry_after)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from overproof.errors import RunError
from overproof.guard.throttling.design import DAY_S, Design
from overproof.guard.throttling.observations import Observations

__all__ = ["Cost", "Experiment"]


@dataclass(frozen=True)
class Cost:
    """What the experiment has cost so far.

    Attributes:
        refusals: answers 429 in all.
        accounts: that got at least one.
        most_refusals: of one account in one day.
        most_delay_s: asked of one account in one day, seconds.
        spared: attempts served because the account's budget was spent.
    """

    refusals: int = 0
    accounts: int = 0
    most_refusals: int = 0
    most_delay_s: float = 0.0
    spared: int = 0


@dataclass
class _Day:
    refusals: int = 0
    delay_s: float = 0.0
    window: int = -1


@dataclass
class Experiment:
    """Drives one `Design`, keeps its budget and its record. Not for several threads at once."""

    design: Design
    seen: Observations = field(default_factory=Observations)
    spared: int = 0
    _days: dict[tuple[int, int], _Day] = field(default_factory=dict)
    _number: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self._number = {name: i for i, name in enumerate(self.design.order)}

    def ask(self, account: str, at: float, prompt: int = 0) -> float | None:
        """Note an attempt and say whether it is to be refused.

        Args:
            account: any account; those outside of the community are served and not noted.
            at: seconds since the epoch; attempts come in order of time.
            prompt: keyed fingerprint of the whole request, 0 where there is none.

        Returns:
            Seconds of Retry-After, or None: serve it.
        """
        number = self._number.get(account)
        if number is None or not self.design.start <= at < self.design.end:
            return None
        if self.seen.at and at < self.seen.at[-1]:
            at = self.seen.at[-1]  # a clock that stepped back; windows must not be torn
        wait = None if self.seen.cut else self._within_budget(account, number, at)
        self.seen.add(at, number, prompt, wait is not None)
        return wait

    def observations(self, now: float) -> Observations:
        """The record, once the experiment is over.

        Raises:
            RunError: it is not over: its p-values hold for the one look at the end.
        """
        if now < self.design.end:
            raise RunError(
                f"throttling experiment {self.design.name!r}",
                f"runs for another {(self.design.end - now) / 3600:.1f} hours",
                "its error rate is stated for one look, at the end",
            )
        return self.seen

    @property
    def cost(self) -> Cost:
        """So far, measured and not estimated."""
        days = [day for day in self._days.values() if day.refusals]
        return Cost(
            refusals=sum(day.refusals for day in days),
            accounts=len({number for (number, _), day in self._days.items() if day.refusals}),
            most_refusals=max((day.refusals for day in days), default=0),
            most_delay_s=max((day.delay_s for day in days), default=0.0),
            spared=self.spared,
        )

    def _within_budget(self, account: str, number: int, at: float) -> float | None:
        wait = self.design.treated(account, at)
        if wait is None:
            return None
        window = self.design.window_at(at)
        day = self._days.setdefault((number, int((at - self.design.start) // DAY_S)), _Day())
        delay = 0.0 if day.window == window else wait
        budget = self.design.budget
        if (
            day.refusals >= budget.most_refusals
            or day.delay_s + delay > budget.most_delay_s
            or window is None
        ):
            self.spared += 1
            return None
        day.refusals += 1
        day.delay_s += delay
        day.window = window
        return wait

    def state(self) -> Any:
        """Plain values for a snapshot; the secret is not among them."""
        days = [
            [number, day, kept.refusals, kept.delay_s, kept.window]
            for (number, day), kept in sorted(self._days.items())
        ]
        return [self.design.commitment, self.spared, days, self.seen.state()]

    def restore(self, state: Any) -> None:
        """Take back what `state` gave.

        Raises:
            RunError: the snapshot is of another experiment.
        """
        commitment, self.spared, days, seen = state
        if commitment != self.design.commitment:
            raise RunError(
                f"throttling experiment {self.design.name!r}",
                "the snapshot is of another design",
                "restore it with the design and the secret that it was made with",
            )
        self._days = {
            (number, day): _Day(refusals, delay_s, window)
            for number, day, refusals, delay_s, window in days
        }
        self.seen.restore(seen)
