"""The road of a text task: prompts → teacher → filters → a frozen dataset of chats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from overproof.clients.protocol import Teacher
from overproof.clients.terms import TermsVerdict, check_terms
from overproof.collect.asker import Asker, Progress
from overproof.collect.canaries import Canaries
from overproof.collect.filters.build import Dropped, build, decontaminator, run_filters
from overproof.collect.filters.protocol import Filter, FilterTools
from overproof.collect.filters.sandbox import isolation_problem
from overproof.collect.from_ledger import imported_terms
from overproof.collect.running import begun, failures_told, freeze_recipe, in_parallel
from overproof.collect.session import open_ledger, open_teacher
from overproof.collect.shards import Shard
from overproof.collect.status import telling
from overproof.collect.synthesize.build import SynthesisResult, synthesize
from overproof.collect.synthesize.gap import answer_gap, count_answers, gap
from overproof.collect.synthesize.protocol import StrategyTools
from overproof.collect.text_ask import AnswerShape, Split, TextQuestioner, answer_shape
from overproof.collect.text_freeze import (
    TextFacts,
    TextRows,
    freeze_text,
    outcome_counts,
    write_text_failures,
)
from overproof.collect.text_imported import imported_examples, imported_prompts
from overproof.collect.text_prompts import (
    Prompts,
    PromptSplits,
    Renderer,
    read_prompts,
    split_prompts,
)
from overproof.config.load import LoadedTextRecipe
from overproof.errors import ConfigError, DataError, RunError, TooManyFailedError
from overproof.records.chat_dataset import TextManifest
from overproof.records.drift import DriftReport
from overproof.records.exchange import Outcome
from overproof.records.ledger import Ledger
from overproof.records.run import RunPaths
from overproof.records.text_dataset import FilterReport, Prompt, TextExample

__all__ = ["TextSession", "collect_text", "read_text_pools"]

Changed = Callable[[Progress], None]


@dataclass
class TextPools:
    """The prompts of a recipe, split."""

    found: Prompts
    splits: PromptSplits


@dataclass
class TextSession:
    """An open teacher with what is asked of it."""

    loaded: LoadedTextRecipe
    teacher: Teacher
    ledger: Ledger
    asker: Asker
    terms: TermsVerdict
    shape: AnswerShape
    questioner: TextQuestioner
    width: int

    @classmethod
    def of(
        cls,
        loaded: LoadedTextRecipe,
        teacher: Teacher,
        ledger: Ledger,
        changed: Changed | None = None,
    ) -> TextSession:
        """Decide how an open teacher is asked.

        Raises:
            TermsError: the teacher's terms do not allow training.
            CapabilityError: the recipe asks for what the teacher lacks.
        """
        shape = answer_shape(loaded)
        verdict = check_terms(loaded.recipe.teacher)
        asker = Asker(loaded.recipe, teacher, ledger, verdict, changed)
        questioner = TextQuestioner(loaded, teacher, asker, verdict, shape)
        width = loaded.recipe.teacher.width
        return cls(loaded, teacher, ledger, asker, verdict, shape, questioner, width)

    async def filters(self, held_out: list[str]) -> list[Filter]:
        """The recipe's filters, after decontamination where anything is held out.

        Raises:
            ConfigError: one that cannot work here; better known before anything is paid for.
        """
        tools = FilterTools(
            ask=self.asker.ask,
            model=self.teacher.model,
            home=self.loaded.home,
            seed=self.loaded.recipe.run.seed,
            width=self.width,
            held_out=held_out,
        )
        configs = self.loaded.recipe.filters
        filters = [build(config, tools) for config in configs]
        if any(c.kind == "unit_tests" and c.isolation == "require" for c in configs):
            problem = await isolation_problem()
            if problem is not None:
                raise ConfigError(
                    "filters: unit_tests",
                    f"code cannot be isolated here: {problem}",
                    'run where it can, or set isolation = "best_effort"',
                )
        return [decontaminator(tools), *filters] if held_out else filters

    def strategy_tools(self, held_out: list[str]) -> StrategyTools:
        """What strategies may need."""
        system = Renderer(self.loaded.recipe.task).system("a synthesized prompt", {"input": ""})
        return StrategyTools(
            ask=self.asker.ask,
            model=self.teacher.model,
            teacher=self.teacher.name,
            home=self.loaded.home,
            seed=self.loaded.recipe.run.seed,
            width=self.width,
            system=system[0].content if system else "",
            structured=self.teacher.capabilities.structured,
            extra=self.loaded.recipe.teacher.body,
            held_out=held_out,
        )


def read_text_pools(loaded: LoadedTextRecipe, ledger: Ledger) -> TextPools:
    """Read, check and split the prompts of the recipe's file, or the imported ones."""
    recipe = loaded.recipe
    if recipe.data.file == "ledger":
        found = imported_prompts(ledger.exchanges(), str(ledger.path))
        return TextPools(found, split_prompts(found.prompts, recipe.data, recipe.run.seed))
    if loaded.input_file is None:
        return TextPools(Prompts("", []), PromptSplits([], [], [], 0, 0))
    found = read_prompts(loaded.input_file, recipe.data, recipe.task)
    return TextPools(found, split_prompts(found.prompts, recipe.data, recipe.run.seed))


async def collect_text(
    loaded: LoadedTextRecipe, changed: Changed | None = None, shard: Shard | None = None
) -> TextManifest | None:
    """Ask the teacher whatever the ledger does not know yet, filter, and freeze the dataset.

    Safe to interrupt at any moment and to run again: answers are in the ledger as they come. A
    frozen dataset is returned as it is, and made again from the ledger where only the filters
    have changed.

    Returns:
        The manifest, ``None`` for a shard: its ledger is to be merged first.

    Raises:
        RunError: the run directory was frozen under another recipe.
        TooManyFailedError: more than ``budget.max_failed`` of the prompts have no answer.
        OverproofError: see ``open_teacher``, ``Asker`` and ``Ledger``.
    """
    paths = RunPaths(loaded.run_dir)
    paths.check_recipe(loaded.sha256)
    if (manifest := _frozen(loaded)) is not None:
        return manifest
    answer_shape(loaded)  # a schema that is none is named before anybody is asked
    if shard is not None:
        if any(each.kind != "reasoning_gym" for each in loaded.recipe.synthesize):
            raise ConfigError(
                f"shard {shard}",
                "every shard would ask for the prompts of [[synthesize]] anew",
                "make them in a run of their own, and give its prompts to this one as [data] file",
            )
        loaded = shard.part_of(loaded)
        paths = RunPaths(loaded.run_dir)
    with open_ledger(loaded) as ledger:
        paths.check_recipe(loaded.sha256, lambda: begun(ledger))
        pools = read_text_pools(loaded, ledger)
        async with open_teacher(loaded, ledger, changed) as teacher:
            session = TextSession.of(loaded, teacher, ledger, changed)
            try:
                freeze_recipe(loaded, ledger)
                async with telling(teacher, session.asker.progress, changed):
                    return await _collected(session, pools, changed, shard)
            finally:
                await session.asker.drain()


def _frozen(loaded: LoadedTextRecipe) -> TextManifest | None:
    paths = RunPaths(loaded.run_dir)
    if not (paths.dataset / "manifest.json").exists():
        return None
    manifest = TextManifest.load(paths.dataset)
    if manifest.recipe_sha256 != loaded.sha256:
        raise RunError(
            str(paths.dir),
            "was collected under another recipe: its task, data, prompts or teacher have changed",
            "restore the recipe, or give the changed one a [run] dir of its own",
        )
    return manifest if manifest.dataset_sha256 == loaded.dataset_sha256 else None


async def _collected(
    session: TextSession, pools: TextPools, changed: Changed | None, shard: Shard | None
) -> TextManifest | None:
    loaded = session.loaded
    held = [prompt.text for prompt in [*pools.splits.tune, *pools.splits.test]]
    # Seeds are training prompts alone: what is made of a held-out prompt would leak it.
    tools = session.strategy_tools(held)
    filters = await session.filters(held)
    made = await synthesize(loaded.recipe.synthesize, tools, pools.splits.train)
    if not pools.splits.train and not made.prompts:
        raise DataError(
            str(loaded.path),
            "has no prompt to train on: " + "; ".join(made.lines()),
            "give [data] a file, or change [[synthesize]]",
        )
    work: list[tuple[Prompt, Split]] = [
        *((prompt, "train") for prompt in [*pools.splits.train, *made.prompts]),
        *((prompt, "tune") for prompt in pools.splits.tune),
        *((prompt, "test") for prompt in pools.splits.test),
    ]
    drift: DriftReport | None
    if loaded.recipe.data.file == "ledger":
        session.terms = imported_terms(session.ledger.exchanges(), loaded.recipe.teacher)
        asked = imported_examples(session.ledger.exchanges(), work)
        drift = None
    else:
        async with failures_told(session.asker, session.ledger, RunPaths(loaded.run_dir).failed):
            asked, drift = await _ask_all(session, work, changed, shard)
    if shard is not None:
        return None
    paths = RunPaths(loaded.run_dir)
    write_text_failures(paths.failed, asked)
    _check_failures(loaded, asked)
    rows = await _filtered(filters, asked)
    return freeze_text(loaded, rows, _facts(session, pools, made, rows, drift))


def _facts(
    session: TextSession,
    pools: TextPools,
    made: SynthesisResult,
    rows: TextRows,
    drift: DriftReport | None,
) -> TextFacts:
    facts = TextFacts(
        teacher={
            "name": session.teacher.name,
            "model": session.teacher.model,
            "attestation": session.loaded.recipe.teacher.terms.attestation,
            **session.terms.model_dump(mode="json"),
        },
        tools=session.shape.tools,
        exact_duplicates=pools.found.exact_duplicates,
        near_duplicates=pools.splits.near_duplicates,
        synthesis=tuple(report.model_dump(mode="json") for report in made.reports),
        not_made=made.dropped,
        drift=None if drift is None else drift.model_dump(mode="json"),
        notes=[*pools.found.notes(), *made.lines()],
    )
    if session.shape.tools:
        calls = sum(bool(example.tool_calls) for example in rows.kept)
        facts.notes.append(f"{calls} of {len(rows.kept)} training answers call a function")
    real = [prompt.text for prompt in pools.splits.train]
    if real and made.prompts:
        report = gap(real, [prompt.text for prompt in made.prompts], session.loaded.recipe.run.seed)
        train = [example for example in rows.asked if example.split == "train"]
        answers = answer_gap(
            count_answers(train, synthetic=False), count_answers(train, synthetic=True)
        )
        facts.gap = {
            "prompts": report.model_dump(mode="json"),
            "answers": answers.model_dump(mode="json"),
        }
    return facts


async def _ask_all(
    session: TextSession,
    work: list[tuple[Prompt, Split]],
    changed: Changed | None,
    shard: Shard | None,
) -> tuple[list[TextExample], DriftReport]:
    questioner, progress = session.questioner, session.asker.progress
    if shard is not None:
        work = [
            (prompt, split)
            for prompt, split in work
            if shard.holds(questioner.first_requests(prompt)[0].key)
        ]
    progress.total, progress.done = len(work), 0
    answers: dict[int, list[TextExample]] = {}
    canaries = Canaries(session.loaded.recipe.watch, session.asker.ask, session.ledger)
    await canaries.baseline([questioner.first_requests(prompt)[0] for prompt, _ in work])

    async def one(number: int) -> None:
        answers[number] = await questioner.ask(*work[number])
        progress.done += 1
        if changed:
            changed(progress)
        await canaries.maybe(progress.calls)

    workers = session.loaded.recipe.teacher.workers
    await in_parallel(range(len(work)), one, min(workers, max(1, len(work))))
    drift = await canaries.finish()
    return [example for number in range(len(work)) for example in answers[number]], drift


async def _filtered(filters: list[Filter], asked: list[TextExample]) -> TextRows:
    """Training examples: set aside by outcome, kept apart from the held-out, then filtered."""
    train = [example for example in asked if example.split == "train"]
    answered = [example for example in train if example.outcome is Outcome.ANSWERED]
    aside = [
        Dropped(example, "outcome", f"{example.outcome.value}: {example.error}")
        for example in train
        if example.outcome is not Outcome.ANSWERED
    ]
    reports = []
    if aside:
        reasons: dict[str, int] = {}
        for dropped in aside:
            outcome = dropped.example.outcome.value
            reasons[outcome] = reasons.get(outcome, 0) + 1
        reports.append(
            FilterReport(name="outcome", seen=len(train), dropped=len(aside), reasons=reasons)
        )
    result = await run_filters(filters, answered)
    return TextRows(asked, result.kept, [*aside, *result.dropped], [*reports, *result.reports])


def _check_failures(loaded: LoadedTextRecipe, asked: list[TextExample]) -> None:
    """Refuse to freeze when too many prompts have no answer at all, or most no valid one."""
    failed = sum(example.outcome is Outcome.FAILED for example in asked)
    invalid = [example for example in asked if example.outcome is not Outcome.ANSWERED]
    allowed = loaded.recipe.budget.max_failed
    reasons = f"see {RunPaths(loaded.run_dir).failed} for the reasons"
    if failed > allowed * len(asked):
        raise TooManyFailedError(
            f"{failed} of {len(asked)} answers",
            f"failed, more than budget.max_failed = {allowed:g} allows",
            f"{reasons}; mend the cause and run the same command again: only what failed is "
            "asked again",
            outcome_counts(asked),
        )
    if asked and 2 * len(invalid) > len(asked):
        raise TooManyFailedError(
            f"{len(invalid)} of {len(asked)} answers",
            f"are not valid; one of them: {invalid[0].error}",
            f"{reasons}; change the task or the teacher, in a recipe with a [run] dir of its own",
            outcome_counts(asked),
        )
