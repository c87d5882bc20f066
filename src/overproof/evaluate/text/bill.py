"""What a million requests cost, what making the students cost, and when they have paid for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from overproof.config.text_recipe import TextRecipe
from overproof.evaluate.costs import UnitCost
from overproof.evaluate.wording import dollars, listed
from overproof.records.certificate import CostLine, Speed
from overproof.records.lm_student import LmStudentCard

__all__ = ["Bill"]

NO_MACHINE_PRICE = "price of the machine unknown: set certificate.machine_usd_per_hour"
HERE = ("embedded", "local")  # teachers that cost the machine's time and no bill


@dataclass(frozen=True)
class Bill:
    """The costs of a run.

    ``asked`` are the lines of the run's ledger, ``judging`` those of the judge's.
    ``calls_per_prompt`` is above one where prompts have several turns.
    """

    recipe: TextRecipe
    asked: Sequence[CostLine]
    judging: Sequence[CostLine]
    cards: Mapping[str, LmStudentCard]
    calls_per_prompt: float
    teacher_speed: Speed

    def teacher(self) -> UnitCost:
        """The teacher's cost of one request: what calls were billed, else machine time."""
        if self.recipe.teacher.kind in HERE:
            return self.machine_time(self.teacher_speed)
        priced = [line for line in self.asked if line.calls and line.usd is not None]
        calls = sum(line.calls for line in priced)
        if not calls:
            return UnitCost(None, "price unknown: set [teacher.price]")
        usd = sum(line.usd or 0.0 for line in priced) / calls * self.calls_per_prompt
        of = sum(line.calls for line in self.asked)
        return UnitCost(
            usd,
            f"mean of {calls:,} of {of:,} calls at the recipe's prices, "
            f"{self.calls_per_prompt:.3g} a request",
        )

    def machine_time(self, speed: Speed | None) -> UnitCost:
        """Cost of one request at a measured throughput."""
        price = self.recipe.certificate.machine_usd_per_hour
        if price is None:
            return UnitCost(None, NO_MACHINE_PRICE)
        if speed is None or not speed.requests_per_second:
            return UnitCost(None, "throughput not measured")
        return UnitCost(
            price / 3600 / speed.requests_per_second,
            f"machine time: {speed.requests_per_second:,.3g} requests a second at "
            f"{dollars(price)} an hour, busy all the time",
        )

    def share_of_teacher(self, speed: Speed | None) -> tuple[float, str]:
        """What a student's answer costs as a share of the teacher's, and what that rests on."""
        one, other = self.machine_time(speed).usd, self.teacher().usd
        if one is not None and other:
            return one / other, "cost is money: machine time against the teacher's price"
        rate, its = (s.requests_per_second if s else None for s in (speed, self.teacher_speed))
        if rate and its:
            return its / rate, "cost is machine time, not money: a price is unknown"
        return 0.0, "cost counts the teacher's answers alone: the student's cost is unknown"

    def facts(self, speeds: Mapping[str, Speed]) -> dict[str, Any]:
        """The certificate's ``costs``; ``speeds`` are of the students."""
        return {
            "making": {line.what: _line(line, self._usd(line)) for line in self._lines()},
            "requests_until_it_has_paid_for_itself": {
                name: self.break_even(name, speeds.get(name)) for name in self.cards
            },
        }

    def _lines(self) -> list[CostLine]:
        training = [
            CostLine(what=f"training {name}", seconds=card.train_seconds)
            for name, card in self.cards.items()
        ]
        return [*self.asked, *training, *self.judging]

    def _usd(self, line: CostLine) -> float | None:
        here = bool(line.calls) and self.recipe.teacher.kind in HERE and line in self.asked
        if line.usd is not None and not here:
            return line.usd
        price = self.recipe.certificate.machine_usd_per_hour
        if price is None:
            return None
        if here:  # latencies overlap, so their sum is not the machine's time
            rate = self.teacher_speed.requests_per_second
            return line.calls / self.calls_per_prompt / rate / 3600 * price if rate else None
        return None if line.seconds is None or line.calls else line.seconds / 3600 * price

    def making(self, name: str) -> tuple[float, list[str]]:
        """Known cost of one student, with those it starts from, and the lines of unknown cost."""
        family: list[str] = []
        at: str | None = name
        while at is not None and at in self.cards and at not in family:
            family.append(at)
            at = self.cards[at].start
        trained = [CostLine(what=f"training {n}", seconds=self.cards[n].train_seconds)
                   for n in family]  # fmt: skip
        total, unknown = 0.0, []
        for line in [*self.asked, *trained]:
            usd = self._usd(line)
            if usd is None:
                unknown.append(line.what)
            else:
                total += usd
        return total, unknown

    def break_even(self, name: str, speed: Speed | None) -> str:
        """In words: after how many requests a student has paid for its making."""
        teacher, student = self.teacher(), self.machine_time(speed)
        making, unknown = self.making(name)
        missing = []
        if teacher.usd is None:
            missing.append(f"the teacher's ({teacher.basis})")
        if student.usd is None:
            missing.append(f"its own ({student.basis})")
        if unknown:
            missing.append(f"that of {listed(unknown[:3])}")
        if missing or teacher.usd is None or student.usd is None:
            return f"cannot be said: unknown costs are {listed(missing)}"
        saved = teacher.usd - student.usd
        if saved <= 0:
            return (
                f"never, by cost: a request costs {dollars(student.usd)}, with the teacher "
                f"{dollars(teacher.usd)}"
            )
        return (
            f"about {making / saved:,.0f}: {dollars(making)} to collect and train, "
            f"{dollars(saved)} saved a request"
        )


def _line(line: CostLine, usd: float | None) -> dict[str, Any]:
    told = {
        "calls": line.calls,
        "input_tokens": line.input_tokens,
        "output_tokens": line.output_tokens,
    }
    facts: dict[str, Any] = {name: count for name, count in told.items() if count}
    if line.seconds is not None and not line.calls:
        facts["seconds"] = round(line.seconds, 1)
    return {**facts, "usd": usd}
