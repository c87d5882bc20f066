"""Collecting: every input of the three pools is put to the teacher, then the dataset is frozen."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from overproof.collect.asker import Progress
from overproof.collect.freeze import Answers, Facts, freeze, write_failed
from overproof.collect.from_ledger import LedgerQuestioner, imported_terms
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
    paths.check_recipe(loaded.sha256)
    if (paths.dataset / "manifest.json").exists():
        manifest = DatasetManifest.load(paths.dataset)
        paths.check_dataset(manifest, loaded.sha256)
        return manifest
    with open_ledger(loaded) as ledger:
        paths.check_recipe(loaded.sha256, lambda: _begun(ledger))
        pools = read_pools(loaded, ledger)
        if loaded.recipe.teacher.kind == "ledger":
            answers, facts = await _from_ledger(loaded, ledger, pools)
        else:
            async with open_session(loaded, ledger, pools, changed) as session:
                _freeze_recipe(loaded, ledger)
                answers = await _ask_all(session, changed)
                facts = _facts(session, answers)
    write_failed(paths.failed, pools.splits, answers)
    _check_failures(loaded, answers)
    return freeze(loaded, pools.inputs, pools.splits, answers, facts)


def _begun(ledger: Ledger) -> bool:
    """Whether anything was collected since a recipe was last recorded in the ledger.

    What came before, in the ledger of another run, decides nothing here.
    """
    begun = False
    for entry in ledger.entries():
        if (entry.content or {}).get("note") == "recipe":
            begun = False
        elif entry.exchange is not None:
            begun = begun or entry.exchange.source == "collected"
    return begun


def _freeze_recipe(loaded: LoadedRecipe, ledger: Ledger) -> None:
    """Record the recipe, in the run and in the chain, right before the first question."""
    recipe, terms = loaded.recipe, loaded.recipe.teacher.terms
    RunPaths(loaded.run_dir).freeze(
        loaded.sha256, recipe.model_dump(mode="json"), lambda: _begun(ledger)
    )
    noted = [note["recipe_sha256"] for note in ledger.notes("recipe")]
    if noted[-1:] != [loaded.sha256]:
        ledger.note("recipe", {"recipe_sha256": loaded.sha256})
    if terms.training == "attested" and not any(ledger.notes("attestation")):
        ledger.note("attestation", {"teacher": recipe.teacher.model, **terms.model_dump()})


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
    terms = imported_terms(ledger.exchanges(), recipe.teacher)
    _freeze_recipe(loaded, ledger)
    questioner = LedgerQuestioner(ledger.exchanges(), recipe.task.labels)
    items = [*pools.splits.train, *pools.splits.tune, *pools.splits.test]
    answers = Answers(first=await _ask_each(questioner, items, 1, lambda: None))
    provenance = _provenance(ledger, pools, answers)
    facts = Facts(
        rendering="words",
        from_logprobs=False,
        second_asking="none: the answers were imported",
        provenance=provenance,
        teacher={
            "name": max(
                provenance, key=lambda name: provenance[name], default=recipe.teacher.model
            ),
            "model": recipe.teacher.model,
            "licence": terms.licence,
            "terms": terms.terms,
            "attestation": recipe.teacher.terms.attestation,
        },
        notes=("all answers were imported; no teacher was asked",),
    )
    return answers, facts


def _provenance(ledger: Ledger, pools: Pools, answers: Answers) -> dict[str, int]:
    """Training rows by who answered them, which an earlier run's ledger may say otherwise."""
    counts: Counter[str] = Counter()
    for item in pools.splits.train:
        answer = answers.first[item.item]
        if answer.outcome is Outcome.ANSWERED:
            key = answer.request_keys[0]
            exchange = ledger.lookup(key) or ledger.recorded(key)[-1].exchange
            counts[exchange.teacher if exchange else "erased"] += 1
    return dict(counts)


def _facts(session: Session, answers: Answers) -> Facts:
    recipe = session.recipe
    again = session.second_prompter.varies()
    if not session.signal.top_logprobs:
        again = "fresh votes" if again == "the same prompt again" else f"fresh votes, {again}"
    return Facts(
        rendering=session.signal.rendering,
        from_logprobs=bool(session.signal.top_logprobs),
        second_asking=again,
        provenance=_provenance(session.ledger, session.pools, answers),
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
    """Refuse to go on when too many inputs have no answer at all, or most no valid one."""
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
    invalid = [a for a in answers.first.values() if a.outcome is not Outcome.ANSWERED]
    if 2 * len(invalid) > len(answers.first):
        paths = RunPaths(loaded.run_dir)
        raise TooManyFailedError(
            f"{len(invalid)} of {len(answers.first)} inputs",
            f"have no valid answer; for one: {invalid[0].error}",
            f"see {paths.failed} for the reasons; change the task or the teacher, in a recipe "
            "with a [run] dir of its own",
        )
