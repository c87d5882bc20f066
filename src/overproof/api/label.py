"""The API of label tasks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from overproof.api.running import located, run_gently
from overproof.errors import OverproofError

if TYPE_CHECKING:
    from overproof.collect.asker import Progress
    from overproof.collect.plan import Plan
    from overproof.collect.shards import Shard
    from overproof.config.load import LoadedRecipe, LoadedTextRecipe
    from overproof.records.certificate import Certificate
    from overproof.records.dataset import DatasetManifest
    from overproof.records.student import StudentCard

__all__ = ["certify", "check_bases", "collect", "collect_shard", "distill", "plan", "train"]


def plan(loaded: LoadedRecipe, probe: int = 6, ask: int = 0) -> Plan:
    """The verdict before spending; see ``overproof.collect.plan.plan``."""
    from overproof.collect.plan import plan as make_plan

    with located(loaded):
        made = run_gently(make_plan(loaded, probe, ask=ask))
    try:
        check_bases(loaded)
    except OverproofError as error:
        return made.model_copy(update={"ok": False, "problems": (*made.problems, str(error))})
    return made


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

    with located(loaded):
        return run_gently(run(loaded, changed))


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


def collect_shard(
    loaded: LoadedRecipe | LoadedTextRecipe,
    shard: Shard,
    changed: Callable[[Progress], None] | None = None,
) -> Path:
    """Ask the teacher one shard's part, into a ledger of its own; see ``collect.shards``.

    Returns:
        The shard's directory, whose ledger is to be merged into the run's.
    """
    from overproof.api.text import collect_text
    from overproof.collect.collect import collect_shard as run
    from overproof.config.load import LoadedTextRecipe

    if isinstance(loaded, LoadedTextRecipe):
        collect_text(loaded, changed, shard)
    else:
        with located(loaded):
            run_gently(run(loaded, shard, changed))
    return shard.directory(loaded.run_dir)
