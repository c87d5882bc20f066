"""The verdict before spending: what a recipe will ask, cost and be able to prove."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from overproof.collect.estimate import Range
from overproof.collect.forecast import FREE, SAMPLE, Forecast, Planned, forecast, obstacles
from overproof.collect.from_ledger import imported_terms
from overproof.collect.session import (
    Session,
    open_ledger,
    open_teacher,
    read_pools,
    session_with,
)
from overproof.collect.signal import LabelAnswer
from overproof.config.load import LoadedRecipe
from overproof.config.recipe import Recipe
from overproof.errors import OverproofError, TermsError
from overproof.records.exchange import Outcome, Record
from overproof.records.ledger import Ledger
from overproof.stats.power import items_needed, non_inferiority_power

__all__ = ["Plan", "plan"]


class Plan(Record):
    """What collecting under a recipe will take.

    ``problems`` are reasons why it cannot run; ``notes`` are worth knowing. ``calls`` are those
    still to make, ``cached`` those the ledger answers already. ``forecast`` has every figure with
    its interval; ``calls``, ``input_tokens``, ``output_tokens``, ``cost_usd`` and ``seconds`` are
    its middle, or its upper end where it has no middle. ``cost_usd`` is ``None`` where the price
    is unknown, ``seconds`` where the speed of the teacher is. ``terms`` is what lets its answers
    train a model. ``power`` is that of the non-inferiority test, ``n_needed`` the test inputs that
    the recipe's power would take; ``underpowered`` compares them.
    """

    ok: bool
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    teacher: str = ""
    terms: str = ""
    signal: str = ""
    rendering: str = ""
    splits: dict[str, int] = Field(default_factory=dict)
    calls: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    seconds: float | None = None
    forecast: Forecast | None = None
    price: str = ""
    verdicts: tuple[str, ...] = ()
    probed: int = 0
    probe_answered: int = 0
    power: float = 0.0
    n_needed: int = 0
    needed_by_margin: dict[str, int] = Field(default_factory=dict)
    underpowered: bool = False
    margin: float = 0.0
    prompt: str = ""


async def plan(loaded: LoadedRecipe, probe: int = 0, *, ask: int = 0, sample: int = SAMPLE) -> Plan:
    """Check a recipe and predict what it will take, before its money is spent.

    A teacher that runs here is free and asked ``probe`` training inputs, to time it. One that is
    paid is asked ``ask`` of them: that costs a little and counts in the budget. Whoever is asked,
    the answers are in the ledger and not asked again.

    Args:
        loaded: the recipe.
        probe: inputs to ask a free teacher.
        ask: inputs to ask any teacher; more than ``probe`` where both are given.
        sample: inputs whose tokens are counted.

    Raises:
        OverproofError: for a recipe or data that cannot be read at all. What the teacher lacks is
            in ``problems`` instead.
    """
    recipe, cert = loaded.recipe, loaded.recipe.certificate
    asked = max(ask, probe if recipe.teacher.kind in FREE else 0)
    with open_ledger(loaded) as ledger:
        pools = read_pools(loaded, ledger)
        splits = pools.splits
        power = non_inferiority_power(len(splits.test), cert.margin, cert.discordance, cert.alpha)
        notes = tuple(pools.inputs.notes())
        proof: dict[str, Any] = {
            "splits": splits.counts(),
            "margin": cert.margin,
            "power": power,
            "underpowered": power < cert.power,
            "n_needed": items_needed(cert.margin, cert.discordance, cert.alpha, cert.power),
            "needed_by_margin": {
                f"{margin:g}": items_needed(margin, cert.discordance, cert.alpha, cert.power)
                for margin in sorted({0.02, 0.03, 0.05, cert.margin})
            },
        }
        if recipe.teacher.kind == "ledger":
            return _of_imported(recipe, ledger, proof, notes)
        in_vain: str | None = None
        try:
            async with open_teacher(loaded, ledger, at_once=True) as teacher:
                in_vain = await teacher.check()
                session = await session_with(teacher, loaded, ledger, pools)
                try:
                    made = await _forecast(session, 0 if in_vain else asked, sample)
                    return _judged(session, made, proof, notes, in_vain)
                finally:
                    await session.asker.drain()
        except OverproofError as error:
            # What a teacher lacks that did not answer is unknown, so silence goes first.
            return Plan(ok=False, problems=(in_vain or str(error),), notes=notes, **proof)


def _of_imported(
    recipe: Recipe, ledger: Ledger, proof: dict[str, Any], notes: tuple[str, ...]
) -> Plan:
    """Nobody is asked: what is left to decide is whether the answers may be used."""
    problems: tuple[str, ...] = ()
    terms = ""
    try:
        terms = imported_terms(ledger.exchanges(), recipe.teacher).terms
    except TermsError as error:
        problems = (str(error),)
    return Plan(
        ok=not problems,
        problems=problems,
        teacher="the ledger",
        signal="imported answers",
        cost_usd=0.0,
        terms=terms,
        rendering="words",
        notes=notes,
        **proof,
    )


async def _forecast(session: Session, probe: int, sample: int) -> tuple[Forecast, int]:
    """The forecast, and how many root requests the ledger answers now."""
    splits, repeats = session.pools.splits, session.recipe.task.repeats
    first, second = session.questioner(), session.questioner(second=True)
    work = [
        *((first, item) for item in [*splits.train, *splits.tune, *splits.test]),
        *((second, item) for item in [*splits.train[:repeats], *splits.test[:repeats]]),
    ]
    prompts = []
    for questioner, item in work:
        requests = questioner.first_requests(item.text)
        prompts.append(Planned(requests, float(len(requests))))

    async def ask(number: int) -> tuple[Sequence[str], bool, str]:
        questioner, item = work[number]
        answer: LabelAnswer = await questioner.ask(item.text)
        return answer.request_keys, answer.outcome is Outcome.ANSWERED, answer.error

    made = await forecast(
        session.recipe,
        session.teacher,
        session.ledger,
        prompts,
        ask,
        probe=probe,
        sample=sample,
        used=lambda: session.asker.budget.spent,
        askable=range(len(splits.train)),
    )
    cached = sum(
        session.ledger.lookup(request.key) is not None
        for planned in prompts
        for request in planned.requests
    )
    return made, cached


def _judged(
    session: Session,
    forecasted: tuple[Forecast, int],
    proof: dict[str, Any],
    notes: tuple[str, ...],
    in_vain: str | None,
) -> Plan:
    made, cached = forecasted
    figures, splits = made.estimate, session.pools.splits
    calls = round(_middle(figures.calls) or 0)
    problems, harmless = obstacles(in_vain, session.asker.budget.problem, calls)
    notes = notes + harmless
    if made.asked and not made.answered:
        problems = (
            f"the teacher gave no valid answer on {made.asked} training inputs: "
            f"{made.problem}; change [task] system or prompt",
        )
    return Plan(
        ok=not problems,
        problems=problems,
        notes=(*notes, *session.signal.notes, *made.notes),
        teacher=session.teacher.name,
        terms=session.terms.terms,
        signal=_signal_words(session),
        rendering=session.signal.rendering,
        calls=calls,
        cached=cached,
        input_tokens=round(_middle(figures.input_tokens) or 0),
        output_tokens=round(_middle(figures.output_tokens) or 0),
        cost_usd=_middle(figures.cost_usd),
        seconds=figures.seconds.estimate if figures.seconds else None,
        forecast=made,
        price=made.price,
        verdicts=made.verdicts,
        probed=made.asked,
        probe_answered=made.answered,
        prompt="\n".join(
            f"[{message.role}] {message.content}"
            for message in session.prompter.messages(splits.train[0].text)
        ),
        **proof,
    )


def _middle(of: Range | None) -> float | None:
    if of is None:
        return None
    return of.high if of.estimate is None else of.estimate


def _signal_words(session: Session) -> str:
    top = session.signal.top_logprobs
    return f"top-{top} log-probs" if top else f"{session.recipe.task.samples} votes"
