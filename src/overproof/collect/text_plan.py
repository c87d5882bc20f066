"""The verdict before spending, for a text task: what it will ask, and what that will take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from overproof.collect.forecast import FREE, SAMPLE, Forecast, Planned, forecast, obstacles
from overproof.collect.from_ledger import imported_terms
from overproof.collect.session import open_ledger, open_teacher
from overproof.collect.text import TextPools, TextSession, read_text_pools
from overproof.collect.text_ask import Split, answer_shape
from overproof.config.load import LoadedTextRecipe
from overproof.errors import OverproofError
from overproof.records.exchange import Outcome, Record
from overproof.records.ledger import Ledger
from overproof.records.preflight import Preflight
from overproof.records.text_dataset import Prompt

__all__ = ["TextPlan", "plan_text"]


class TextPlan(Record):
    """What collecting for a text task will take.

    ``problems`` are reasons why it cannot run; ``notes`` are worth knowing. ``splits`` are prompts
    by pool, ``to_make`` those that are to be synthesized first, which no figure counts.
    ``forecast`` has every figure with its interval. ``students`` are the checks of each before it
    is trained, ``headroom`` the scores of teacher and bases on a few training prompts.
    """

    ok: bool
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    teacher: str = ""
    terms: str = ""
    answer: str = ""
    splits: dict[str, int] = Field(default_factory=dict)
    to_make: int = 0
    samples: int = 1
    forecast: Forecast | None = None
    prompt: str = ""
    students: tuple[Preflight, ...] = ()
    headroom: dict[str, Any] | None = None


async def plan_text(
    loaded: LoadedTextRecipe, probe: int = 0, *, ask: int = 0, sample: int = SAMPLE
) -> TextPlan:
    """Check a recipe and predict what it will take, before its money is spent.

    A teacher that runs here is free and asked ``probe`` training prompts; one that is paid is
    asked ``ask`` of them, which costs a little and counts in the budget. Whoever is asked, the
    answers are in the ledger and not asked again.

    Raises:
        OverproofError: for a recipe or data that cannot be read at all. What the teacher lacks is
            in ``problems`` instead.
    """
    recipe = loaded.recipe
    answer_shape(loaded)
    with open_ledger(loaded) as ledger:
        pools = read_text_pools(loaded, ledger)
        counts = {name: len(getattr(pools.splits, name)) for name in ("train", "tune", "test")}
        base = TextPlan(
            ok=True,
            notes=tuple(pools.found.notes()),
            splits=counts,
            answer=recipe.task.answer,
            samples=recipe.task.samples,
            to_make=sum(getattr(each, "count", 0) for each in recipe.synthesize),
        )
        in_vain: str | None = None
        try:
            if recipe.teacher.kind == "ledger":
                terms = imported_terms(ledger.exchanges(), recipe.teacher).terms
                return base.model_copy(update={"teacher": "the ledger", "terms": terms})
            async with open_teacher(loaded, ledger, at_once=True) as teacher:
                in_vain = await teacher.check()
                session = TextSession.of(loaded, teacher, ledger)
                await session.filters([])  # what cannot work is named before it is paid for
                asked = max(ask, probe if recipe.teacher.kind in FREE else 0)
                try:
                    made = await _forecast(session, ledger, pools, 0 if in_vain else asked, sample)
                    return _judged(session, pools, base, made, in_vain)
                finally:
                    await session.asker.drain()
        except OverproofError as error:
            return base.model_copy(update={"ok": False, "problems": (in_vain or str(error),)})


async def _forecast(
    session: TextSession, ledger: Ledger, pools: TextPools, probe: int, sample: int
) -> Forecast:
    splits, questioner = pools.splits, session.questioner
    work: list[tuple[Prompt, Split]] = [
        *((prompt, "train") for prompt in splits.train),
        *((prompt, "tune") for prompt in splits.tune),
        *((prompt, "test") for prompt in splits.test),
    ]
    several = (
        1 if session.teacher.capabilities.choices == 1 else session.teacher.capabilities.choices
    )
    planned = []
    for prompt, split in work:
        requests = questioner.first_requests(prompt)
        requests = requests if split == "train" else requests[:1]
        opening = -(-len(requests) // several)
        planned.append(
            Planned(
                requests,
                float(opening + len(requests) * len(prompt.turns)),
                float(len(requests) * (1 + len(prompt.turns))),
            )
        )

    async def ask(number: int) -> tuple[Sequence[str], bool, str]:
        examples = await questioner.ask(*work[number])
        wrong = [each for each in examples if each.outcome is not Outcome.ANSWERED]
        keys = [key for each in examples for key in each.request_keys]
        return keys, not wrong, wrong[0].error if wrong else ""

    return await forecast(
        session.loaded.recipe,
        session.teacher,
        ledger,
        planned,
        ask,
        probe=probe,
        sample=sample,
        used=lambda: session.asker.budget.spent,
        askable=range(len(splits.train)),
    )


def _judged(
    session: TextSession,
    pools: TextPools,
    base: TextPlan,
    made: Forecast,
    in_vain: str | None,
) -> TextPlan:
    problems, harmless = obstacles(in_vain, session.asker.budget.problem, made.estimate.prompts)
    notes = base.notes + made.notes + harmless
    if made.asked and not made.answered:
        problems = (
            f"the teacher gave no valid answer on {made.asked} training prompts: {made.problem}; "
            "change [task]",
        )
    if base.to_make:
        notes = (
            *notes,
            f"{base.to_make} prompts are to be synthesized first: neither making nor answering "
            "them is counted here, the caps hold for them too",
        )
    shown = ""
    if pools.splits.train:
        first = session.questioner.first_requests(pools.splits.train[0])[0]
        shown = "\n".join(f"[{message.role}] {message.content}" for message in first.messages)
    return base.model_copy(
        update={
            "ok": not problems,
            "problems": problems,
            "notes": notes,
            "teacher": session.teacher.name,
            "terms": session.terms.terms,
            "forecast": made,
            "prompt": shown,
        }
    )
