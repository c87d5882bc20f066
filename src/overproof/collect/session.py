"""Everything that collecting and planning need before the first question."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from overproof.clients.batch_journal import BatchJournal
from overproof.clients.connect import connect, redaction_of
from overproof.clients.protocol import Teacher
from overproof.clients.terms import TermsVerdict, check_terms
from overproof.collect.asker import Asker, Progress
from overproof.collect.inputs import Inputs, inputs_of_ledger, read_inputs
from overproof.collect.prompts import Prompter, choose_examples
from overproof.collect.rendering import Signal, choose_signal
from overproof.collect.signal import Questioner
from overproof.collect.splits import Splits, make_splits
from overproof.collect.status import telling
from overproof.config.load import LoadedRecipe, LoadedTextRecipe
from overproof.config.recipe import Recipe
from overproof.errors import CapabilityError, RunError
from overproof.records.ledger import Ledger
from overproof.records.redact import Redactor
from overproof.records.run import RunPaths

__all__ = [
    "Pools",
    "Session",
    "open_ledger",
    "open_session",
    "open_teacher",
    "read_pools",
    "session_with",
]


LONGEST = 5
"""Inputs whose prompts are counted in tokens before anything is spent."""


@dataclass(frozen=True)
class Pools:
    """The inputs of a recipe and their split."""

    inputs: Inputs
    splits: Splits


@dataclass
class Session:
    """An open teacher with what is asked of it."""

    recipe: Recipe
    pools: Pools
    teacher: Teacher
    ledger: Ledger
    asker: Asker
    terms: TermsVerdict
    signal: Signal
    prompter: Prompter
    second_prompter: Prompter

    def questioner(self, *, second: bool = False) -> Questioner:
        """Asks for label distributions; ``second`` for the independent second asking."""
        return Questioner(
            self.recipe,
            self.asker,
            self.teacher.model,
            self.second_prompter if second else self.prompter,
            top_logprobs=self.signal.top_logprobs,
            seeds=self.signal.seeds,
            can_prefill=self.signal.can_prefill,
            first_sample=self._second_sample() if second else 0,
        )

    def _second_sample(self) -> int:
        """Votes go on where the first asking ended; the same prompt again is sample 1."""
        if not self.signal.top_logprobs:
            return self.recipe.task.samples
        return 1 if self.second_prompter.varies() == "the same prompt again" else 0


def read_pools(loaded: LoadedRecipe, ledger: Ledger | None) -> Pools:
    """Read, check and split the inputs."""
    recipe = loaded.recipe
    labels = list(recipe.task.labels)
    if loaded.input_file is None:
        exchanges = ledger.exchanges() if ledger else iter(())
        inputs = inputs_of_ledger(exchanges, str(RunPaths(loaded.run_dir).ledger))
    else:
        data, task = recipe.data, recipe.task
        shown = task.examples_per_label > 0 or task.prior == "examples"
        if loaded.test_file and not shown:  # gold certifies: the pool needs none
            data = data.model_copy(update={"gold": None})
        inputs = read_inputs(loaded.input_file, data, labels)
    test = None
    if loaded.test_file:
        test = read_inputs(loaded.test_file, recipe.data, labels).items
    return Pools(inputs, make_splits(inputs.items, recipe.data, recipe.run.seed, test))


@contextmanager
def open_ledger(loaded: LoadedRecipe | LoadedTextRecipe) -> Iterator[Ledger]:
    """The run's ledger, open for writing, with the recipe's secrets redacted."""
    paths = RunPaths(loaded.run_dir)
    paths.dir.mkdir(parents=True, exist_ok=True)
    redactor = Redactor(redaction_of(loaded.recipe.teacher))
    teacher = loaded.recipe.teacher
    with Ledger.open(
        paths.ledger,
        write=True,
        redactor=redactor,
        queue_size=teacher.width if teacher.batch else teacher.concurrency,
        beside=loaded.beside,
    ) as ledger:
        yield ledger


@asynccontextmanager
async def open_session(
    loaded: LoadedRecipe,
    ledger: Ledger,
    pools: Pools,
    changed: Callable[[Progress], None] | None = None,
) -> AsyncIterator[Session]:
    """Check the terms, open the teacher and decide how it is asked.

    Raises:
        TermsError: the teacher's terms do not allow training.
        CapabilityError: the recipe asks for what the teacher lacks.
        TeacherUnreachableError: nobody answers.
    """
    async with open_teacher(loaded, ledger, changed) as teacher:
        session = await session_with(teacher, loaded, ledger, pools, changed)
        try:
            async with telling(teacher, session.asker.progress, changed):
                yield session
        finally:
            await session.asker.drain()


@asynccontextmanager
async def open_teacher(
    loaded: LoadedRecipe | LoadedTextRecipe,
    ledger: Ledger,
    changed: Callable[[Progress], None] | None = None,
    *,
    at_once: bool = False,
) -> AsyncIterator[Teacher]:
    """Check the terms and open the teacher.

    Args:
        loaded: the recipe.
        ledger: the run's.
        changed: told at the end what stays under way at the provider.
        at_once: ask one by one also where the recipe asks in batches: a look, not a collection.

    Raises:
        TermsError: the teacher's terms do not allow training.
        RunError: requests are under way in batches that the recipe no longer asks for.
    """
    config = loaded.recipe.teacher
    check_terms(config)
    state = loaded.run_dir
    if at_once:
        config = config.model_copy(update={"batch": False})
    opened = connect(config, log_dir=RunPaths(state).logs, state_dir=state)
    try:
        async with opened as teacher:
            if not config.batch and not at_once:
                _check_batches(state, teacher, ledger)
            yield teacher
    finally:
        farewell = getattr(opened, "farewell", lambda: None)()
        if farewell and changed:
            changed(Progress(status=(farewell,)))


def _check_batches(run_dir: Path, teacher: Teacher, ledger: Ledger) -> None:
    """Refuse to ask for, and pay for, what a batch is answering."""
    path = run_dir / "batches.jsonl"
    if not path.exists():
        return
    under_way = BatchJournal(path, teacher.name).under_way()
    open_ones = [key for key in under_way if ledger.lookup(f"sha256:{key}") is None]
    if open_ones:
        raise RunError(
            str(path),
            f"{len(open_ones)} requests are under way in batches, and the recipe no longer asks in "
            "batches",
            "set teacher.batch = true again to pick them up; or remove the file to pay for them "
            "anew",
        )


async def session_with(
    teacher: Teacher,
    loaded: LoadedRecipe,
    ledger: Ledger,
    pools: Pools,
    changed: Callable[[Progress], None] | None = None,
) -> Session:
    """Decide how an open teacher is asked.

    Raises:
        TermsError: the teacher's terms do not allow training.
        CapabilityError: the recipe asks for what the teacher lacks.
        TeacherUnreachableError: nobody answers.
    """
    recipe = loaded.recipe
    verdict = check_terms(recipe.teacher)
    examples = choose_examples(pools.splits.examples, recipe.task)
    signal = await choose_signal(recipe, teacher)
    prompter = Prompter(recipe.task, signal.rendering, examples)
    await _check_context(prompter, pools, teacher, loaded)
    return Session(
        recipe=recipe,
        pools=pools,
        teacher=teacher,
        ledger=ledger,
        asker=Asker(recipe, teacher, ledger, verdict, changed),
        terms=verdict,
        signal=signal,
        prompter=prompter,
        second_prompter=Prompter(recipe.task, signal.rendering, examples, variant=1),
    )


async def _check_context(
    prompter: Prompter, pools: Pools, teacher: Teacher, loaded: LoadedRecipe
) -> None:
    """Refuse, before anything is spent, an input that does not fit into the teacher's context.

    More characters are not always more tokens, so several of the longest inputs are counted.
    """
    limit = teacher.capabilities.context_length
    if limit is None:
        return
    splits = pools.splits
    tested = str(loaded.test_file or pools.inputs.source)
    items = [(item, pools.inputs.source) for item in [*splits.train, *splits.tune]]
    items += [(item, tested) for item in splits.test]
    for item, file in sorted(items, key=lambda pair: -len(pair[0].text))[:LONGEST]:
        text = "\n".join(message.content for message in prompter.messages(item.text))
        tokens = await teacher.tokenize(text)
        if tokens is None:
            return
        if len(tokens) >= limit:
            raise CapabilityError(
                f"{file}: row {item.row}",
                f"its prompt has {len(tokens)} tokens, more than the teacher's context of {limit}",
                "shorten or remove such inputs, show fewer examples, or use a teacher with more "
                "context",
            )
