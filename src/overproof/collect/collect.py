"""Collecting: every input of the three pools is put to the teacher, then the dataset is frozen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol

from overproof.collect.asker import Progress
from overproof.collect.canaries import Canaries
from overproof.collect.freeze import Answers, Facts, freeze, write_failed
from overproof.collect.from_ledger import LedgerQuestioner, imported_terms
from overproof.collect.inputs import InputItem
from overproof.collect.running import begun, failures_told, freeze_recipe, in_parallel
from overproof.collect.session import Pools, Session, open_ledger, open_session, read_pools
from overproof.collect.shards import Shard
from overproof.collect.signal import LabelAnswer
from overproof.collect.splits import Splits
from overproof.config.load import LoadedRecipe
from overproof.errors import ConfigError, TooManyFailedError
from overproof.records.dataset import DatasetManifest
from overproof.records.drift import DriftReport
from overproof.records.exchange import Outcome
from overproof.records.ledger import Ledger
from overproof.records.run import RunPaths

__all__ = ["collect", "collect_shard"]

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
        paths.check_recipe(loaded.sha256, lambda: begun(ledger))
        pools = read_pools(loaded, ledger)
        if loaded.recipe.teacher.kind == "ledger":
            answers, facts = await _from_ledger(loaded, ledger, pools)
        else:
            async with open_session(loaded, ledger, pools, changed) as session:
                freeze_recipe(loaded, ledger)
                async with failures_told(session.asker, ledger, paths.failed):
                    answers, drift = await _ask_all(session, changed)
                facts = _facts(session, answers, drift)
    write_failed(paths.failed, pools.splits, answers)
    _check_failures(loaded, answers)
    return freeze(loaded, pools.inputs, pools.splits, answers, facts)


async def collect_shard(loaded: LoadedRecipe, shard: Shard, changed: Changed | None = None) -> None:
    """Ask the teacher the shard's part of the inputs, into the shard's own ledger.

    Nothing is frozen: the ledgers of all shards are merged into the run's, and ``collect`` goes on
    from there. What the run's ledger knows already is not asked again.

    Raises:
        ConfigError: the answers were imported, so there is nothing to ask.
        OverproofError: see ``collect``.
    """
    whole = RunPaths(loaded.run_dir)
    whole.check_recipe(loaded.sha256)
    if (whole.dataset / "manifest.json").exists():
        whole.check_dataset(DatasetManifest.load(whole.dataset), loaded.sha256)
        return
    if loaded.recipe.teacher.kind == "ledger" or loaded.input_file is None:
        raise ConfigError(
            f"shard {shard}",
            "the inputs of this recipe are in the run's own ledger",
            "collect it whole: `overproof collect` without --shard",
        )
    part = shard.part_of(loaded)
    paths = RunPaths(part.run_dir)
    with open_ledger(part) as ledger:
        paths.check_recipe(part.sha256, lambda: begun(ledger))
        pools = read_pools(part, ledger)
        async with open_session(part, ledger, pools, changed) as session:
            freeze_recipe(part, ledger)
            async with failures_told(session.asker, ledger, paths.failed):
                answers, _ = await _ask_all(session, changed, shard)
    write_failed(paths.failed, _asked_of(pools.splits, answers), answers)
    _check_failures(part, answers)


def _asked_of(splits: Splits, answers: Answers) -> Splits:
    """The pools without the inputs of other shards."""

    def asked(items: Sequence[InputItem]) -> list[InputItem]:
        return [item for item in items if item.item in answers.first]

    train, tune, test = map(asked, (splits.train, splits.tune, splits.test))
    return replace(splits, train=train, tune=tune, test=test)


async def _ask_all(
    session: Session, changed: Changed | None, shard: Shard | None = None
) -> tuple[Answers, DriftReport]:
    splits, repeats = session.pools.splits, session.recipe.task.repeats
    first = [*splits.train, *splits.tune, *splits.test]
    second = [*splits.train[:repeats], *splits.test[:repeats]]
    questioner, again = session.questioner(), session.questioner(second=True)
    roots = [questioner.first_requests(item.text)[0] for item in first]
    if shard is not None:
        pairs = [pair for pair in zip(first, roots, strict=True) if shard.holds(pair[1].key)]
        first, roots = [item for item, _ in pairs], [root for _, root in pairs]
        held = {item.item for item in first}
        second = [item for item in second if item.item in held]
    progress = session.asker.progress
    progress.total = len(first) + len(second)
    canaries = Canaries(session.recipe.watch, session.asker.ask, session.ledger)
    await canaries.baseline(roots)

    async def done() -> None:
        progress.done += 1
        if changed:
            changed(progress)
        await canaries.maybe(progress.calls)

    width = session.recipe.teacher.workers
    # The prompts of the second asking begin differently: apart, each pass keeps the prefix cache.
    answers = Answers(
        first=await _ask_each(questioner, first, width, done),
        second=await _ask_each(again, second, width, done),
    )
    return answers, await canaries.finish()


async def _ask_each(
    questioner: Asks,
    items: Sequence[InputItem],
    width: int,
    done: Callable[[], Awaitable[None]] | None = None,
) -> dict[str, LabelAnswer]:
    """Answers by item, ``width`` inputs at a time; the first error stops all."""
    answers: dict[str, LabelAnswer] = {}

    async def one(item: InputItem) -> None:
        answers[item.item] = await questioner.ask(item.text)
        if done is not None:
            await done()

    await in_parallel(items, one, min(width, len(items)))
    return answers


async def _from_ledger(loaded: LoadedRecipe, ledger: Ledger, pools: Pools) -> tuple[Answers, Facts]:
    recipe = loaded.recipe
    terms = imported_terms(ledger.exchanges(), recipe.teacher)
    freeze_recipe(loaded, ledger)
    questioner = LedgerQuestioner(ledger.exchanges(), recipe.task.labels)
    items = [*pools.splits.train, *pools.splits.tune, *pools.splits.test]
    answers = Answers(first=await _ask_each(questioner, items, 1))
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
            **terms.model_dump(mode="json"),
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


def _facts(session: Session, answers: Answers, drift: DriftReport) -> Facts:
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
            **session.terms.model_dump(mode="json"),
        },
        notes=session.signal.notes + (drift.statements if drift.changed == "yes" else ()),
        drift=drift.model_dump(mode="json"),
    )


def _check_failures(loaded: LoadedRecipe, answers: Answers) -> None:
    """Refuse to go on when too many inputs have no answer at all, or most no valid one."""
    failed = sum(a.outcome is Outcome.FAILED for a in answers.first.values())
    allowed = loaded.recipe.budget.max_failed
    outcomes = {"all": Counter(a.outcome.value for a in answers.first.values())}
    if failed > allowed * len(answers.first):
        paths = RunPaths(loaded.run_dir)
        raise TooManyFailedError(
            f"{failed} of {len(answers.first)} inputs",
            f"have no answer, more than budget.max_failed = {allowed:g} allows",
            f"see {paths.failed} for the reasons; mend the cause and run the same command again: "
            "only what failed is asked again",
            outcomes,
        )
    invalid = [a for a in answers.first.values() if a.outcome is not Outcome.ANSWERED]
    if 2 * len(invalid) > len(answers.first):
        paths = RunPaths(loaded.run_dir)
        raise TooManyFailedError(
            f"{len(invalid)} of {len(answers.first)} inputs",
            f"have no valid answer; for one: {invalid[0].error}",
            f"see {paths.failed} for the reasons; change the task or the teacher, in a recipe "
            "with a [run] dir of its own",
            outcomes,
        )
