"""The verdict before spending: what a recipe will ask, cost and be able to prove."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from overproof.clients.pricing import cost_usd, price_of
from overproof.collect.from_ledger import imported_terms
from overproof.collect.inputs import InputItem
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
from overproof.records.exchange import Outcome, Record, Usage
from overproof.records.ledger import Ledger
from overproof.stats.power import items_needed, non_inferiority_power

__all__ = ["Plan", "plan"]

CHARACTERS_A_TOKEN = 4.0


class Plan(Record):
    """What collecting under a recipe will take.

    ``problems`` are reasons why it cannot run; ``notes`` are worth knowing. ``calls`` are those
    still to make, ``cached`` those the ledger answers already; where inputs were probed, an input
    is taken to need as many calls as those did. Tokens are always estimates. ``cost_usd`` is
    ``None`` where the price is unknown, ``seconds`` where the speed of the teacher is. ``power`` is
    that of the non-inferiority test, ``n_needed`` the test inputs that the recipe's power would
    take; ``underpowered`` compares them.
    """

    ok: bool
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    teacher: str = ""
    signal: str = ""
    rendering: str = ""
    splits: dict[str, int] = Field(default_factory=dict)
    calls: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    seconds: float | None = None
    probed: int = 0
    probe_answered: int = 0
    power: float = 0.0
    n_needed: int = 0
    needed_by_margin: dict[str, int] = Field(default_factory=dict)
    underpowered: bool = False
    margin: float = 0.0
    prompt: str = ""


async def plan(loaded: LoadedRecipe, probe: int = 0) -> Plan:
    """Check a recipe without asking its teacher anything that costs money.

    An embedded teacher is free and asked ``probe`` training inputs, to time it; their answers
    are in the ledger and not asked again.

    Raises:
        OverproofError: for a recipe or data that cannot be read at all. What the teacher lacks is
            in ``problems`` instead.
    """
    recipe, cert = loaded.recipe, loaded.recipe.certificate
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
            async with open_teacher(loaded) as teacher:
                in_vain = await teacher.check()
                session = await session_with(teacher, loaded, ledger, pools)
                try:
                    return await _with_session(session, proof, notes, probe, in_vain)
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
    try:
        imported_terms(ledger.exchanges(), recipe.teacher)
    except TermsError as error:
        problems = (str(error),)
    return Plan(
        ok=not problems,
        problems=problems,
        teacher="the ledger",
        signal="imported answers",
        cost_usd=0.0,
        rendering="words",
        notes=notes,
        **proof,
    )


async def _with_session(
    session: Session,
    proof: dict[str, Any],
    notes: tuple[str, ...],
    probe: int,
    in_vain: str | None,
) -> Plan:
    splits, recipe = session.pools.splits, session.recipe
    first = [*splits.train, *splits.tune, *splits.test]
    repeats = recipe.task.repeats
    second = [*splits.train[:repeats], *splits.test[:repeats]]
    roots = 1 if session.signal.top_logprobs else recipe.task.samples
    cached = _cached(session, first, second)
    seconds, answers = await _probe(session, splits.train[:probe])
    per_input = sum(len(a.request_keys) for a in answers) / len(answers) if answers else roots
    calls = round(per_input * (len(first) + len(second) - cached / roots))
    tokens = await _tokens_a_call(session, [*splits.train[:8], *splits.test[:8]])
    usage = Usage(
        input_tokens=round(tokens * calls),
        output_tokens=calls * (1 if session.signal.top_logprobs else 4),
    )
    answered = sum(answer.outcome is Outcome.ANSWERED for answer in answers)
    problems: tuple[str, ...] = ()
    if in_vain and calls:
        problems = (in_vain,)
    elif session.asker.budget.problem and calls:
        problems = (str(session.asker.budget.problem),)
    elif in_vain:
        notes = (*notes, f"the ledger has every answer, so this does no harm: {in_vain}")
    if answers and not answered:
        problems = (
            f"the teacher gave no valid answer on {len(answers)} training inputs: "
            f"{answers[0].error}; change [task] system or prompt",
        )
    return Plan(
        ok=not problems,
        problems=problems,
        notes=(*notes, *session.signal.notes),
        teacher=session.teacher.name,
        signal=_signal_words(session),
        rendering=session.signal.rendering,
        calls=calls,
        cached=cached,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=cost_usd(price_of(recipe.teacher), usage),
        seconds=None if seconds is None else seconds * calls,
        probed=len(answers),
        probe_answered=answered,
        prompt="\n".join(
            f"[{message.role}] {message.content}"
            for message in session.prompter.messages(splits.train[0].text)
        ),
        **proof,
    )


def _signal_words(session: Session) -> str:
    top = session.signal.top_logprobs
    return f"top-{top} log-probs" if top else f"{session.recipe.task.samples} votes"


def _cached(session: Session, first: Sequence[InputItem], second: Sequence[InputItem]) -> int:
    """Root requests that the ledger can answer; votes are counted by their own requests."""
    total = 0
    for questioner, items in ((session.questioner(), first),
                              (session.questioner(second=True), second)):  # fmt: skip
        for item in items:
            total += sum(
                session.ledger.lookup(request.key) is not None
                for request in questioner.first_requests(item.text)
            )
    return total


async def _probe(
    session: Session, items: Sequence[InputItem]
) -> tuple[float | None, list[LabelAnswer]]:
    """Seconds a call, by asking a free teacher a few training inputs; the first warms it up."""
    if session.recipe.teacher.kind not in ("embedded", "fake") or len(items) < 2:
        return None, []
    questioner = session.questioner()
    answers = [await questioner.ask(items[0].text)]
    before, started = session.asker.progress.calls, time.perf_counter()
    answers += await asyncio.gather(*(questioner.ask(item.text) for item in items[1:]))
    calls = session.asker.progress.calls - before
    spent = time.perf_counter() - started
    return (spent / calls if calls else None), answers


async def _tokens_a_call(session: Session, items: Sequence[InputItem]) -> float:
    """Mean prompt tokens, about: the template's own tokens are not seen from here.

    Counted where the teacher tokenises, else four characters a token.
    """
    counts = []
    for item in items:
        text = "\n".join(message.content for message in session.prompter.messages(item.text))
        pieces = await session.teacher.tokenize(text)
        counts.append(len(pieces) if pieces is not None else len(text) / CHARACTERS_A_TOKEN)
    return sum(counts) / len(counts) if counts else 0.0
