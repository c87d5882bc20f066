"""The typed Python API. Everything the command line does is a function here.

    from overproof import api

    loaded = api.load("recipe.toml")
    print(api.plan(loaded))
    certificate = api.distill(loaded)

Heavy rooms are imported inside the functions, so that importing this module stays cheap.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from overproof.errors import ConfigError, OverproofError

if TYPE_CHECKING:
    from overproof.collect.asker import Progress
    from overproof.collect.plan import Plan
    from overproof.collect.shards import Shard
    from overproof.collect.text_plan import TextPlan
    from overproof.config.load import LoadedRecipe, LoadedTextRecipe
    from overproof.records.certificate import Certificate
    from overproof.records.chat_dataset import TextManifest
    from overproof.records.dataset import DatasetManifest
    from overproof.records.lm_export import ExportFormat, ExportReport
    from overproof.records.lm_student import LmStudentCard
    from overproof.records.run import RunPaths
    from overproof.records.student import StudentCard
    from overproof.records.text_certificate import TextCertificate

T = TypeVar("T")

__all__ = [
    "certify",
    "certify_text",
    "check_bases",
    "collect",
    "collect_shard",
    "collect_text",
    "distill",
    "distill_text",
    "export",
    "init",
    "load",
    "load_any",
    "plan",
    "plan_text",
    "train",
    "train_text",
]


def init(directory: Path, task: str = "label") -> Path:
    """Write a commented starter recipe into ``directory`` and return its path.

    Args:
        directory: made where it is missing.
        task: ``label`` or ``text``.

    Raises:
        ConfigError: there is a recipe already; it is never overwritten.
    """
    target = directory / "recipe.toml"
    if target.exists():
        raise ConfigError(str(target), "exists already", "edit it, or name another directory")
    starters = {"label": "starter.toml", "text": "starter_text.toml"}
    if task not in starters:
        raise ConfigError(f"task {task!r}", "is none", f"choose {' or '.join(starters)}")
    text = resources.files("overproof.config").joinpath(starters[task]).read_text()
    directory.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return target


def load(path: str | Path) -> LoadedRecipe:
    """Read and check the recipe of a label task.

    A ``data.file`` of the form ``registry:NAME`` is a data set that ``overproof models pull``
    fetched.

    Raises:
        ConfigError: it is no recipe, or one of a text task.
    """
    from overproof.config.load import LoadedTextRecipe

    loaded = load_any(path)
    if isinstance(loaded, LoadedTextRecipe):
        raise ConfigError(
            str(loaded.path),
            "is the recipe of a text task (task.kind = 'text')",
            "use `load_any`, and the functions whose names end in `_text`",
        )
    return loaded


def load_any(path: str | Path) -> LoadedRecipe | LoadedTextRecipe:
    """Read and check a recipe of either kind; see ``overproof.config.load``."""
    from overproof.config.load import load_any as read

    loaded = read(Path(path))
    scheme, _, name = (loaded.recipe.data.file or "").partition(":")
    if scheme == "registry":
        from overproof.clients.registry import resolve

        loaded.input_file = resolve(name)
    return loaded


def plan(loaded: LoadedRecipe, probe: int = 6, ask: int = 0) -> Plan:
    """The verdict before spending; see ``overproof.collect.plan.plan``."""
    from overproof.collect.plan import plan as make_plan

    with _located(loaded):
        made = _run_gently(make_plan(loaded, probe, ask=ask))
    try:
        check_bases(loaded)
    except OverproofError as error:
        return made.model_copy(update={"ok": False, "problems": (*made.problems, str(error))})
    return made


def plan_text(loaded: LoadedTextRecipe, probe: int = 6, ask: int = 0) -> TextPlan:
    """The verdict before spending, for a text task; see ``overproof.collect.text_plan``."""
    from overproof.collect.text_plan import plan_text as make_plan

    with _located(loaded):
        return _run_gently(make_plan(loaded, probe, ask=ask))


def check_bases(loaded: LoadedRecipe) -> None:
    """Find the students' base encoders before a teacher is paid.

    Raises:
        ModelError: one was not pulled, or is not what was pinned.
    """
    from overproof.clients.registry import resolve

    students = loaded.recipe.students
    for base in {students.encoder.base, students.probe.base}:
        resolve(base)


def collect(
    loaded: LoadedRecipe, changed: Callable[[Progress], None] | None = None
) -> DatasetManifest:
    """Ask the teacher and freeze the dataset; see ``overproof.collect.collect.collect``."""
    from overproof.collect.collect import collect as run

    with _located(loaded):
        return _run_gently(run(loaded, changed))


def collect_text(
    loaded: LoadedTextRecipe,
    changed: Callable[[Progress], None] | None = None,
    shard: Shard | None = None,
) -> TextManifest | None:
    """Ask the teacher and freeze a dataset of chats; see ``overproof.collect.text``."""
    from overproof.collect.text import collect_text as run

    with _located(loaded):
        return _run_gently(run(loaded, changed, shard))


def collect_shard(
    loaded: LoadedRecipe | LoadedTextRecipe,
    shard: Shard,
    changed: Callable[[Progress], None] | None = None,
) -> Path:
    """Ask the teacher one shard's part, into a ledger of its own; see ``collect.shards``.

    Returns:
        The shard's directory, whose ledger is to be merged into the run's.
    """
    from overproof.collect.collect import collect_shard as run
    from overproof.config.load import LoadedTextRecipe

    if isinstance(loaded, LoadedTextRecipe):
        collect_text(loaded, changed, shard)
    else:
        with _located(loaded):
            _run_gently(run(loaded, shard, changed))
    return shard.directory(loaded.run_dir)


@contextlib.contextmanager
def _located(loaded: LoadedRecipe | LoadedTextRecipe) -> Iterator[None]:
    """Name the recipe's line in a mistake that shows only when the recipe is used."""
    from overproof.config.mistakes import located

    try:
        yield
    except ConfigError as error:
        better = located(error, loaded.path)
        if better is error:
            raise
        raise better from error


def _run_gently(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; where the program handles SIGTERM, it stops ``work`` as Ctrl-C does.

    A signal handler that raises would end the event loop at once, and answers in flight with it;
    a cancelled task still waits for them.
    """
    stopped = False
    theirs = signal.getsignal(signal.SIGTERM)
    ours = callable(theirs) and threading.current_thread() is threading.main_thread()

    async def until_stopped() -> T:
        task = asyncio.ensure_future(work)

        def stop() -> None:
            nonlocal stopped
            stopped = True
            task.cancel()

        with contextlib.suppress(NotImplementedError):  # an event loop without signals
            if ours:
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        return await task

    from overproof.collect.garbage import rare_collections

    try:
        with rare_collections():
            return asyncio.run(until_stopped())
    except asyncio.CancelledError:
        if stopped:
            raise KeyboardInterrupt from None
        raise
    finally:
        if ours:
            signal.signal(signal.SIGTERM, theirs)


def train(
    loaded: LoadedRecipe, progress: Callable[[str, float], None] | None = None
) -> dict[str, StudentCard]:
    """Train every student that is not finished, from the frozen dataset.

    Raises:
        RunError: nothing was collected yet, or under another recipe.
        MissingExtraError: torch is not installed.
    """
    from overproof.clients.registry import resolve
    from overproof.records.dataset import DatasetManifest
    from overproof.records.files import write_atomically
    from overproof.records.ledger import Ledger
    from overproof.records.run import RunPaths
    from overproof.train.students import train_students

    paths = RunPaths(loaded.run_dir)
    paths.check_dataset(DatasetManifest.load(paths.dataset), loaded.sha256)
    with Ledger.open(paths.ledger, write=True):  # one process at a time works on a run
        cards = train_students(
            recipe=loaded.recipe,
            dataset=paths.dataset,
            out=paths.students,
            resolve=resolve,
            progress=progress,
        )
        around = _around_input(loaded)
        for name in cards:
            write_atomically(paths.students / name / "prompt.json", around)
    return cards


def _around_input(loaded: LoadedRecipe) -> str:
    """The prompt template around the input, so that a served student can take it off again."""
    import json

    from overproof.collect.prompts import Prompter
    from overproof.records.dataset import DatasetManifest
    from overproof.records.run import RunPaths

    manifest = DatasetManifest.load(RunPaths(loaded.run_dir).dataset)
    around = Prompter(loaded.recipe.task, manifest.rendering, ()).around_input() or ("", "")
    return json.dumps({"prefix": around[0], "suffix": around[1]}, ensure_ascii=False) + "\n"


def certify(loaded: LoadedRecipe, say: Callable[[str], None] | None = None) -> Certificate:
    """Measure teacher, students and baseline on the test pool, and write the certificate.

    Raises:
        LeakError: a test input, or a near-duplicate of one, is where training could see it.
        RunError: nothing was collected, or no student is finished.
    """
    from overproof.evaluate.run import certify_run
    from overproof.report.write import write_reports

    now = datetime.now(UTC).isoformat(timespec="seconds")
    certificate = certify_run(loaded, now=now, say=say or (lambda _: None))
    write_reports(certificate, loaded.run_dir)
    return certificate


def distill(
    loaded: LoadedRecipe,
    changed: Callable[[Progress], None] | None = None,
    progress: Callable[[str, float], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Certificate:
    """Collect, train and certify: whatever is finished is not repeated."""
    check_bases(loaded)
    collect(loaded, changed)
    train(loaded, progress)
    return certify(loaded, say)


def train_text(
    loaded: LoadedTextRecipe,
    progress: Callable[[str, float], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> dict[str, LmStudentCard]:
    """Train every student of a text task that is not finished; see ``overproof.train.lm.run``.

    Raises:
        RunError: nothing was collected yet, or under another recipe.
        MissingExtraError: torch, transformers or peft is not installed.
    """
    from overproof.clients.registry import resolve
    from overproof.records.run import RunPaths
    from overproof.train.lm.run import train_text_students

    with _located(loaded), _one_at_a_time(RunPaths(loaded.run_dir)):
        return train_text_students(
            loaded, resolve=resolve, progress=progress, say=say or (lambda _: None)
        )


def certify_text(
    loaded: LoadedTextRecipe, say: Callable[[str], None] | None = None
) -> TextCertificate:
    """Measure teacher, students and bases on the test prompts, and write the certificate.

    Raises:
        LeakError: a test prompt, or a near-duplicate of one, is where training could see it.
        RunError: nothing was collected, or no student is finished.
    """
    from overproof.evaluate.text.certify import certify_text as run
    from overproof.report.text import write_text_reports

    now = datetime.now(UTC).isoformat(timespec="seconds")
    with _located(loaded):
        certificate = run(loaded, now=now, say=say or (lambda _: None))
    write_text_reports(certificate, loaded.run_dir)
    return certificate


def distill_text(
    loaded: LoadedTextRecipe,
    changed: Callable[[Progress], None] | None = None,
    progress: Callable[[str, float], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> TextCertificate:
    """Collect, train and certify a text task: whatever is finished is not repeated."""
    collect_text(loaded, changed)
    train_text(loaded, progress, say)
    return certify_text(loaded, say)


def export(student: Path, to: ExportFormat, out: Path | None = None) -> ExportReport:
    """Write a finished student in another format, and prove it; see ``train.export.run``."""
    from overproof.train.export.run import export_student

    return export_student(student, to, out)


@contextlib.contextmanager
def _one_at_a_time(paths: RunPaths) -> Iterator[None]:
    """Hold a run's ledger for writing; of several processes of one training, the first does."""
    import os

    from overproof.records.ledger import Ledger

    if os.environ.get("RANK", "0") != "0":
        yield
        return
    with Ledger.open(paths.ledger, write=True):
        yield
