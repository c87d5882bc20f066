"""What a million requests cost, what making the student cost, and when it has paid for itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from overproof.config.recipe import Recipe
from overproof.evaluate.wording import dollars, listed
from overproof.records.certificate import CostLine, Speed
from overproof.records.dataset import LabelRow

__all__ = ["Costs", "UnitCost"]

MILLION = 1_000_000
NO_MACHINE_PRICE = "price of the machine unknown: set students.machine_usd_per_hour"


@dataclass(frozen=True)
class UnitCost:
    """US dollars for one input classified, ``None`` where unknown, and what that rests on."""

    usd: float | None
    basis: str

    @property
    def per_million(self) -> float | None:
        """US dollars for a million inputs."""
        return None if self.usd is None else self.usd * MILLION


@dataclass(frozen=True)
class Costs:
    """The cost ledger of a run: lines with calls are the teacher's, the others the machine's."""

    recipe: Recipe
    lines: Sequence[CostLine]
    test: Sequence[LabelRow]
    teacher_speed: Speed

    @property
    def calls_per_input(self) -> float:
        """Teacher requests for one input: a trie of labels or votes takes several."""
        calls = sum(len(row.request_keys) for row in self.test)
        return max(1.0, calls / len(self.test))

    def teacher(self) -> UnitCost:
        """The teacher's cost of one input: what its calls were billed, else machine time."""
        if self.recipe.teacher.kind == "embedded":  # no bill: it costs the machine's time
            return self.machine_time(self.teacher_speed)
        asked = [line for line in self.lines if line.calls]
        priced = [line for line in asked if line.usd is not None]
        calls = sum(line.calls for line in priced)
        if calls:
            usd = sum(line.usd or 0.0 for line in priced) / calls * self.calls_per_input
            of = sum(line.calls for line in asked)
            return UnitCost(
                usd,
                f"mean of {calls:,} of {of:,} calls at the recipe's prices, "
                f"{self.calls_per_input:.3g} a request",
            )
        return UnitCost(None, "price unknown: set [teacher.price]")

    def machine_time(self, speed: Speed | None) -> UnitCost:
        """Cost of one input at a measured throughput."""
        price = self.recipe.students.machine_usd_per_hour
        if price is None:
            return UnitCost(None, NO_MACHINE_PRICE)
        if speed is None or not speed.requests_per_second:
            return UnitCost(None, "throughput not measured")
        return UnitCost(
            price / 3600 / speed.requests_per_second,
            f"machine time: {speed.requests_per_second:,.3g} requests a second at "
            f"{dollars(price)} an hour, busy all the time",
        )

    def making(self) -> tuple[float, list[str]]:
        """What is known of the cost of making the student, and the lines that are not."""
        total, unknown = 0.0, []
        for line in self.lines:
            usd = self._line(line)
            if usd is None:
                unknown.append(line.what)
            else:
                total += usd
        return total, unknown

    def priced(self) -> tuple[CostLine, ...]:
        """The lines, with machine time priced where it is what a line cost."""
        return tuple(line.model_copy(update={"usd": self._line(line)}) for line in self.lines)

    def _line(self, line: CostLine) -> float | None:
        price = self.recipe.students.machine_usd_per_hour
        embedded = bool(line.calls) and self.recipe.teacher.kind == "embedded"
        if line.usd is not None and not embedded:
            return line.usd
        if price is None:
            return None
        if line.calls:  # latencies overlap, so their sum is not the machine's time
            speed = self.teacher_speed.requests_per_second
            if not embedded or not speed:
                return None
            return line.calls / self.calls_per_input / speed / 3600 * price
        return None if line.seconds is None else line.seconds / 3600 * price

    def break_even(self, name: str | None, speed: Speed | None) -> tuple[float | None, str]:
        """Requests after which making the student has paid for itself, in a number and in words.

        Args:
            name: the student's, ``None`` where there is none.
            speed: its speed.
        """
        if name is None:
            return None, "There is no student."
        teacher, student = self.teacher(), self.machine_time(speed)
        making, unknown = self.making()
        missing = []
        if teacher.usd is None:
            missing.append(f"the teacher's ({teacher.basis})")
        if student.usd is None:
            missing.append(f"the {name}'s ({student.basis})")
        if unknown:
            missing.append(f"that of {listed(unknown[:3])}")
        if missing or teacher.usd is None or student.usd is None:
            return None, f"No break-even can be given: unknown costs are {listed(missing)}."
        saved = teacher.usd - student.usd
        if saved <= 0:
            return None, (
                f"Never, by cost: a request costs {dollars(student.usd)} with the {name} and "
                f"{dollars(teacher.usd)} with the teacher."
            )
        return making / saved, (
            f"After about {making / saved:,.0f} requests the {name} has paid for its making: "
            f"{dollars(making)} to collect and train, {dollars(saved)} saved a request."
        )
