"""The recipe's caps, kept over the whole run: whatever may be spent is reserved beforehand.

Every attempt reserves the most that it can spend before it is sent, and puts what it spent in the
place of that once it is known. An attempt that may have been billed though nobody counted its
tokens stays charged at its reservation, marked uncertain, in this session and in later ones.

Where the process is killed with attempts in flight, nothing of them is in the ledger. So a lease is
written into it ahead of the spending: a note that grants a block. A run that was not closed in
order is charged with all that its lease granted beyond what was recorded.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping

from overproof.clients.pricing import Prices, cost_usd, is_known
from overproof.collect.spending import NOTHING, Spending, most_of, spent_on, worst_case_usd
from overproof.config.filters import Judge
from overproof.config.running import BaseRecipe
from overproof.config.text_recipe import TextRecipe
from overproof.errors import BudgetError
from overproof.records.exchange import Request, Usage
from overproof.records.ledger import Ledger
from overproof.records.ledger_rows import Entry

__all__ = ["LEASE", "Budget", "spent_before", "worst_case_usd"]

LEASE = "lease"
"""Name of the notes that grant a block of spending, or close it."""

INFINITE = float("inf")
AGAIN = "raise it and run the same command again: every answer so far is in the ledger"


class Budget:
    """Calls, tokens and money of a run, those of earlier sessions included.

    Args:
        recipe: for the caps and the price.
        ledger: the run's, open for writing where there are caps. What was collected counts, what
            was imported does not.
        under_way: requests that earlier sessions sent and that will be billed though nobody has
            asked for their answers yet, by their keys: the most tokens of each.
    """

    def __init__(
        self,
        recipe: BaseRecipe,
        ledger: Ledger,
        under_way: Mapping[str, Usage] | None = None,
    ) -> None:
        self.prices = Prices(recipe.teacher)
        self._models = _models_of(recipe)
        self.batch = recipe.teacher.batch
        self._caps = recipe.budget
        self._block = recipe.teacher.width
        self._ledger = ledger
        self._lease = secrets.token_hex(8)
        self._granted = NOTHING
        self._granting = asyncio.Lock()
        self._open = 0
        self._waiting: list[asyncio.Future[None]] = []
        self.is_capped = (
            self._caps.max_calls is not None
            or self._caps.max_tokens is not None
            or self._caps.max_cost_usd is not None
        )
        self.spent = NOTHING
        self.lost = NOTHING
        if self.is_capped:
            ledger.flush()
            self.spent, self.lost = spent_before(ledger.entries(), self.prices)
            self.spent += self.lost
        self._under_way = self._charged(under_way or {})
        # What a killed session had under way is part of what its lease held: charged once.
        twice = _least(self.lost, sum(self._under_way.values(), NOTHING))
        self.lost -= twice
        self.spent -= twice
        self._before = self.spent

    @property
    def problem(self) -> BudgetError | None:
        """Why the cap on money cannot be kept, ``None`` where it can or there is none."""
        found = (self._unpriced(model) for model in self._models)
        return next((problem for problem in found if problem is not None), None)

    def most(self, request: Request, choices: int = 1) -> Spending:
        """The most that one attempt can spend; nothing is looked at where there is no cap.

        Raises:
            BudgetError: the cap on money cannot be kept for that model.
        """
        if not self.is_capped:
            return NOTHING
        if (problem := self._unpriced(request.model)) is not None:
            raise problem
        return most_of(self.prices.of(request.model), request, choices, batch=self.batch)

    async def reserve(self, most: Spending) -> None:
        """Reserve what one attempt can spend; wait while others hold what it needs.

        Raises:
            BudgetError: a cap leaves no room for it, or the cap on money cannot be kept.
            LedgerError: the lease cannot be written.
        """
        if not self.is_capped:
            return
        if (problem := self.problem) is not None:
            raise problem
        while (cap := self._passed_by(most)) is not None:
            # What others reserved fills the cap; what they really spend may not.
            if not self._open or cap == "max_calls":
                raise self._exhausted(cap, most)
            room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(room)
            await room
        self.spent += most
        self._open += 1
        try:
            await self._hold_lease(most)
        except BaseException:
            self.settle(most, NOTHING)
            raise

    def settle(self, reserved: Spending, spent: Spending) -> None:
        """Put what was spent in the place of a reservation."""
        if not self.is_capped:
            return
        self.spent += spent - reserved
        self._open -= 1
        waiting, self._waiting = self._waiting, []
        for room in waiting:
            if not room.done():
                room.set_result(None)

    def close(self) -> None:
        """Give the lease back: everything that was spent is in the ledger.

        Raises:
            LedgerError: the ledger cannot be written; the lease then counts as spent.
        """
        if self._granted != NOTHING and not self._open:
            self._ledger.note(LEASE, {"lease": self._lease, "closed": True})
            self._granted = NOTHING
            self._before = self.spent
            self._lease = secrets.token_hex(8)

    def take_over(self, key: str) -> None:
        """A request that was under way is asked for: from now on it is charged like any other."""
        most = self._under_way.pop(key, None)
        if most is not None:
            self.spent -= most
            self._before -= most

    def _unpriced(self, model: str) -> BudgetError | None:
        """Why the cap on money cannot be kept for a model."""
        cap = self._caps.max_cost_usd
        if cap is None or is_known(self.prices.of(model)):
            return None
        if model == self._models[0] or self.prices.of(model) is self.prices.teacher:
            whose, way_out = "the teacher's price", "state input and output in [teacher.price]"
        else:
            # [teacher.price] is the teacher's alone.
            whose = f"the price of {model} at the teacher's address"
            way_out = "put it into ~/.config/overproof/prices.toml, let the teacher judge"
        culprit = f"budget.max_cost_usd = {cap:g}"
        reason = f"cannot be kept: {whose} is unknown"
        return BudgetError(culprit, reason, f"{way_out}, or remove the cap")

    def _charged(self, under_way: Mapping[str, Usage]) -> dict[str, Spending]:
        """Charge what is under way, unless the ledger has it by now."""
        if not self.is_capped:
            return {}
        found = {}
        for key, usage in under_way.items():
            if self._ledger.lookup(key) is None:
                # Which model it was is not written down: as if it were the dearest.
                usd = max(
                    cost_usd(self.prices.of(model), usage, batch=self.batch) or 0.0
                    for model in self._models
                )
                found[key] = Spending(1, usage.input_tokens + usage.output_tokens, usd)
                self.spent += found[key]
        return found

    def _passed_by(self, most: Spending) -> str | None:
        """Name of the cap that would be passed."""
        then, caps = self.spent + most, self._caps
        for name, value in (
            ("max_calls", then.calls),
            ("max_tokens", then.tokens),
            ("max_cost_usd", then.usd),
        ):
            cap = getattr(caps, name)
            if cap is not None and value > cap:
                return name
        return None

    async def _hold_lease(self, most: Spending) -> None:
        async with self._granting:
            missing = (self.spent - self._before - self._granted).at_least_nothing()
            if missing == NOTHING:
                return
            # A whole block, so that a note is written now and then only; never beyond the caps.
            block = _least(missing + most.times(self._block), self._left(missing))
            body = {"calls": block.calls, "tokens": block.tokens, "usd": block.usd}
            await asyncio.to_thread(self._ledger.note, LEASE, {"lease": self._lease} | body)
            self._granted += block

    def _left(self, missing: Spending) -> Spending:
        """What the caps leave beyond what is granted, but never less than what is missing."""
        caps, done = self._caps, self._before + self._granted
        left = Spending(
            2**62 if caps.max_calls is None else caps.max_calls - done.calls,
            2**62 if caps.max_tokens is None else caps.max_tokens - done.tokens,
            INFINITE if caps.max_cost_usd is None else caps.max_cost_usd - done.usd,
        )
        return Spending(
            max(left.calls, missing.calls),
            max(left.tokens, missing.tokens),
            max(left.usd, missing.usd),
        )

    def _exhausted(self, cap: str, most: Spending) -> BudgetError:
        spent, limit = self.spent, getattr(self._caps, cap)
        lost = self.lost
        if cap == "max_calls":
            reason = f"is reached: the run has made {spent.calls} calls"
            unsure = f"{lost.calls} of them" if lost.calls else ""
        elif cap == "max_tokens":
            reason = (
                f"would be passed: {spent.tokens} are spent, and the next request can take up to "
                f"{most.tokens}"
            )
            unsure = f"{lost.tokens} of them" if lost.tokens else ""
        else:
            reason = (
                f"would be passed: ${spent.usd:.4f} are spent, and the next request can cost up "
                f"to ${most.usd:.4f}"
            )
            unsure = f"${lost.usd:.4f} of them" if lost.usd else ""
        if unsure:
            reason += f" ({unsure} at most, by a session that was killed: nobody counted)"
        return BudgetError(f"budget.{cap} = {limit:g}", reason, AGAIN)


def spent_before(entries: Iterable[Entry], prices: Prices) -> tuple[Spending, Spending]:
    """What the sessions so far spent by their records, and what killed ones may have beyond it.

    Args:
        entries: rows of the ledger in the order in which they were written.
        prices: of the teacher and of whoever else is asked at its address.
    """
    spent, lost = NOTHING, NOTHING
    lease = ""
    left = NOTHING  # of what the open lease granted
    for entry in entries:
        if entry.exchange is not None and entry.exchange.source == "collected":
            price = prices.of(entry.exchange.request.model)
            # A teacher of before may be in no list; nothing of it counts as free.
            cost = spent_on(price if is_known(price) else prices.teacher, entry.exchange)
            spent += cost
            left -= cost
        note = entry.content or {}
        if note.get("note") != LEASE:
            continue
        if note["lease"] != lease:  # the one before was never closed
            lost += left.at_least_nothing() if lease else NOTHING
            lease, left = note["lease"], NOTHING
        if note.get("closed"):
            lease, left = "", NOTHING
        else:
            left += Spending(note["calls"], note["tokens"], note["usd"])
    return spent, lost + (left.at_least_nothing() if lease else NOTHING)


def _models_of(recipe: BaseRecipe) -> list[str]:
    """Models that will be asked: the teacher's first, then those of judges."""
    filters = recipe.filters if isinstance(recipe, TextRecipe) else ()
    judges = [one.model for one in filters if isinstance(one, Judge) and one.model is not None]
    return [recipe.teacher.model, *judges]


def _least(one: Spending, other: Spending) -> Spending:
    return Spending(
        min(one.calls, other.calls), min(one.tokens, other.tokens), min(one.usd, other.usd)
    )
