"""Collecting: every input of the three pools is put to the teacher, then the dataset is frozen."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from overproof.collect.asker import Progress
from overproof.collect.freeze import Answers, Facts, freeze, write_failed
from overproof.collect.from_ledger import LedgerQuestioner
from overproof.collect.inputs import InputItem
from overproof.collect.session import Pools, Session, open_ledger, open_session, read_pools
from overproof.collect.signal import LabelAnswer
from overproof.config.load import LoadedRecipe
from overproof.errors import TooManyFailedError
from overproof.records.dataset import DatasetManifest
from overproof.records.exchange import Outcome
from overproof.records.ledger import Ledger
from overproof.records.run import RunPaths

__all__ = ["collect"]

Changed = Callable[[Progress], None]


class Asks(Protocol):
    """Anything that tells the label distribution of a text."""

    async def ask(self, text: str) -> LabelAnswer:
        """The answer on one input."""


async def collect(loaded: LoadedRecipe, changed: Changed | None = None) -> DatasetManifest:
    """Ask the teacher whatever the ledger does not know yet, and freeze the dataset.

    Safe to interrupt at any moment and to run again: answers are in the ledger as they come, and
    a frozen dataset is returned as it is.

    Raises:
        RunError: the run directory was frozen under another recipe.
        TooManyFailedError: more than ``budget.max_failed`` of the inputs have no answer.
        OverproofError: see ``open_session``, ``Asker`` and ``Ledger``.
    """
    paths = RunPaths(loaded.run_dir)
    recipe = loaded.recipe
    paths.freeze(loaded.sha256, recipe.model_dump(mode="json"))
    if (paths.dataset / "manifest.json").exists():
        return DatasetManifest.load(paths.dataset)
    with open_ledger(loaded) as ledger:
        pools = read_pools(loaded, ledger)
        terms = recipe.teacher.terms
        if terms.training == "attested" and not any(ledger.notes("attestation")):
            ledger.note("attestation", {"teacher": recipe.teacher.model, **terms.model_dump()})
        if recipe.teacher.kind == "ledger":
            answers, facts = await _from_ledger(loaded, ledger, pools)
        else:
            async with open_session(loaded, ledger, pools, changed) as session:
                answers = await _ask_all(session, changed)
                facts = _facts(session, answers)
    write_failed(paths.failed, pools.splits, answers)
    _check_failures(loaded, answers)
    return freeze(loaded, pools.inputs, pools.splits, answers, facts)


async def _ask_all(session: Session, changed: Changed | None) -> Answers:
    splits, repeats = session.pools.splits, session.recipe.task.repeats
    first = [*splits.train, *splits.tune, *splits.test]
    second = [*splits.train[:repeats], *splits.test[:repeats]]
    progress = session.asker.progress
    progress.total = len(first) + len(second)

    def done() -> None:
        progress.done += 1
        if changed:
            changed(progress)

    width = 2 * session.recipe.teacher.concurrency
    answers = Answers()
    # The prompts of the second asking begin differently: apart, each pass keeps the prefix cache.
    answers.first = await _ask_each(session.questioner(), first, width, done)
    answers.second = await _ask_each(session.questioner(second=True), second, width, done)
    return answers


async def _ask_each(
    questioner: Asks, items: Sequence[InputItem], width: int, done: Callable[[], None]
) -> dict[str, LabelAnswer]:
    """Answers by item, ``width`` inputs at a time; the first error stops all."""
    answers: dict[str, LabelAnswer] = {}
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            answers[item.item] = await questioner.ask(item.text)
            done()

    await _all_or_first_error([worker() for _ in range(min(width, len(items)))])
    return answers


async def _all_or_first_error(work: Sequence[Awaitable[None]]) -> None:
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _from_ledger(loaded: LoadedRecipe, ledger: Ledger, pools: Pools) -> tuple[Answers, Facts]:
    recipe = loaded.recipe
    questioner = LedgerQuestioner(ledger.exchanges(), recipe.task.labels)
    items = [*pools.splits.train, *pools.splits.tune, *pools.splits.test]
    first = await _ask_each(questioner, items, 1, lambda: None)
    sources = Counter(e.teacher for e in ledger.exchanges() if e.source.startswith("imported:"))
    main = sources.most_common(1)[0][0] if sources else recipe.teacher.model
    teacher = {
        "name": main,
        "model": recipe.teacher.model,
        "licence": recipe.teacher.terms.licence,
        "terms": recipe.teacher.terms.training,
        "attestation": recipe.teacher.terms.attestation,
    }
    facts = Facts(
        rendering="words",
        from_logprobs=False,
        second_asking="none: the answers were imported",
        provenance=dict(sources),
        teacher=teacher,
        notes=("all answers were imported; no teacher was asked",),
    )
    return Answers(first=first), facts


def _facts(session: Session, answers: Answers) -> Facts:
    recipe = session.recipe
    trained_on = sum(
        answers.first[item.item].outcome is Outcome.ANSWERED for item in session.pools.splits.train
    )
    again = session.second_prompter.varies()
    if not session.signal.top_logprobs:
        again = "fresh votes" if again == "the same prompt again" else f"fresh votes, {again}"
    return Facts(
        rendering=session.signal.rendering,
        from_logprobs=bool(session.signal.top_logprobs),
        second_asking=again,
        provenance={session.teacher.name: trained_on},
        teacher={
            "name": session.teacher.name,
            "model": session.teacher.model,
            "licence": session.terms.licence,
            "terms": session.terms.terms,
            "attestation": recipe.teacher.terms.attestation,
        },
        notes=session.signal.notes,
    )


def _check_failures(loaded: LoadedRecipe, answers: Answers) -> None:
    """Refuse to go on when too many inputs have no answer at all."""
    failed = sum(a.outcome is Outcome.FAILED for a in answers.first.values())
    allowed = loaded.recipe.budget.max_failed
    if failed > allowed * len(answers.first):
        paths = RunPaths(loaded.run_dir)
        raise TooManyFailedError(
            f"{failed} of {len(answers.first)} inputs",
            f"have no answer, more than budget.max_failed = {allowed:g} allows",
            f"see {paths.failed} for the reasons; mend the cause and run the same command again: "
            "only what failed is asked again",
        )
