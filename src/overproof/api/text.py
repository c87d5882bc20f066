"""The API of text tasks: students that talk."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overproof.api.running import located, one_at_a_time, run_gently

if TYPE_CHECKING:
    from overproof.collect.asker import Progress
    from overproof.collect.shards import Shard
    from overproof.collect.text_plan import TextPlan
    from overproof.collect.text_prompts import PromptSplits
    from overproof.config.load import LoadedTextRecipe
    from overproof.records.chat_dataset import TextManifest
    from overproof.records.exchange import Completion
    from overproof.records.lm_export import ExportFormat, ExportReport
    from overproof.records.lm_student import LmStudentCard
    from overproof.records.preflight import Preflight
    from overproof.records.text_certificate import TextCertificate
    from overproof.records.text_dataset import Prompt

__all__ = [
    "certify_text",
    "check_students",
    "collect_text",
    "distill_text",
    "export",
    "plan_text",
    "train_text",
]


def plan_text(
    loaded: LoadedTextRecipe,
    probe: int = 6,
    ask: int = 0,
    say: Callable[[str], None] | None = None,
) -> TextPlan:
    """The verdict before spending, for a text task; see ``overproof.collect.text_plan``.

    Students are checked too, see ``overproof.train.lm.preflight``, and how much better the teacher
    is than the untrained bases: for nothing where it runs here, else on ``ask`` prompts.
    """
    from overproof.collect.text_plan import plan_text as make_plan

    with located(loaded):
        made = run_gently(make_plan(loaded, probe, ask=ask))
        if not loaded.recipe.students:
            return made
        from overproof.train.lm.preflight import preflight_all

        prompts = _prompts(loaded)
        checked = preflight_all(loaded, prompts=_messages(prompts), say=say or (lambda _: None))
        lacking = _unprovable(loaded, prompts)
        problems = (
            *made.problems,
            *(line for each in checked for line in each.problems),
            *([lacking] if lacking else []),
        )
        made = made.model_copy(
            update={
                "students": checked,
                "problems": problems,
                "ok": not problems,
                "notes": (*made.notes, *_notes_on_proof(loaded, prompts)),
            }
        )
        if not made.ok:
            return made
        head = run_gently(_headroom(loaded, prompts.train, ask))
        notes = (*made.notes, *(head.get("notes", ()) if head else ()))
        return made.model_copy(update={"headroom": head, "notes": notes})


def check_students(
    loaded: LoadedTextRecipe, say: Callable[[str], None] | None = None
) -> tuple[Preflight, ...]:
    """Refuse students that cannot be trained, before anything is spent on them.

    Students that are finished are not looked at again. Warnings are said.

    Raises:
        StudentError: a check of ``overproof.train.lm.preflight`` found a problem.
    """
    from overproof.errors import ConfigError, StudentError
    from overproof.records.run import RunPaths
    from overproof.train.lm.preflight import preflight_all
    from overproof.train.lm.run import finished, student_key

    tell = say or (lambda _: None)
    students = RunPaths(loaded.run_dir).students
    if all(finished(students / s.name, student_key(loaded, s)) for s in loaded.recipe.students):
        return ()
    prompts = _prompts(loaded)
    if lacking := _unprovable(loaded, prompts):
        raise ConfigError("certificate.scorer", lacking)
    for note in _notes_on_proof(loaded, prompts):
        tell(note)
    checked = preflight_all(loaded, prompts=_messages(prompts))
    for student in checked:
        for check in student.checks:
            if check.outcome == "problem":
                culprit = f"student {student.student}: {check.name}"
                raise StudentError(culprit, check.reason or check.found, check.way_out)
            if check.outcome == "warning":
                tell(f"student {student.student}: {check.name}: {check.reason or check.found}")
    return checked


def _prompts(loaded: LoadedTextRecipe) -> PromptSplits:
    from overproof.collect.session import open_ledger
    from overproof.collect.text import read_text_pools

    with open_ledger(loaded) as ledger:
        return read_text_pools(loaded, ledger).splits


def _messages(prompts: PromptSplits) -> list[list[dict[str, str]]]:
    """The training prompts as chat templates take them."""
    return [
        [message.model_dump(include={"role", "content"}) for message in prompt.messages]
        for prompt in prompts.train
    ]


def _unprovable(loaded: LoadedTextRecipe, prompts: PromptSplits) -> str | None:
    """Why the certificate could not be made of these prompts, ``None`` where it could."""
    from overproof.collect.text_ask import answer_shape
    from overproof.evaluate.text.known_answers import missing_references

    schema = answer_shape(loaded).schema
    return missing_references(loaded.recipe.certificate, prompts.test, schema)


def _notes_on_proof(loaded: LoadedTextRecipe, prompts: PromptSplits) -> list[str]:
    """What proving will take, and what the held-out pools are too small for."""
    from overproof.evaluate.text.deferral import fewest_tune
    from overproof.evaluate.text.judging import judge_calls

    config, notes = loaded.recipe.certificate, []
    if not prompts.test:
        notes.append("[data] test = 0: there is nothing to certify on")
    if config.agreement is not None and len(prompts.tune) < fewest_tune(config.agreement):
        notes.append(
            f"certificate.agreement = {config.agreement:g} needs at least "
            f"{fewest_tune(config.agreement)} prompts in [data] tune, which has {len(prompts.tune)}"
        )
    calls = judge_calls(config, len(loaded.recipe.students), len(prompts.test))
    if calls:
        notes.append(f"the judge is asked at most {calls:,} times, which no figure above counts")
    return notes


async def _headroom(
    loaded: LoadedTextRecipe, prompts: list[Prompt], ask: int
) -> dict[str, Any] | None:
    """Teacher against bases on a few training prompts, asked through the ledger."""
    from overproof.collect.forecast import FREE
    from overproof.collect.session import open_ledger, open_teacher
    from overproof.collect.text import TextSession
    from overproof.evaluate.text.headroom import headroom

    most = loaded.recipe.certificate.headroom
    number = most if loaded.recipe.teacher.kind in FREE else min(ask, most)
    if not number:
        return None
    with open_ledger(loaded) as ledger:
        async with open_teacher(loaded, ledger, at_once=True) as teacher:
            session = TextSession.of(loaded, teacher, ledger)
            shape = session.shape

            async def asked(prompt: Prompt) -> Completion:
                request = session.questioner.first_requests(prompt)[0]
                return await session.asker.ask(request, shape.problem)

            try:
                return await headroom(loaded, prompts, number, ask=asked, schema=shape.schema)
            finally:
                await session.asker.drain()


def collect_text(
    loaded: LoadedTextRecipe,
    changed: Callable[[Progress], None] | None = None,
    shard: Shard | None = None,
) -> TextManifest | None:
    """Ask the teacher and freeze a dataset of chats; see ``overproof.collect.text``."""
    from overproof.collect.text import collect_text as run

    with located(loaded):
        return run_gently(run(loaded, changed, shard))


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

    with located(loaded), one_at_a_time(RunPaths(loaded.run_dir)):
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
    with located(loaded):
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
    with located(loaded):
        check_students(loaded, say)
    collect_text(loaded, changed)
    train_text(loaded, progress, say)
    return certify_text(loaded, say)


def export(student: Path, to: ExportFormat, out: Path | None = None) -> ExportReport:
    """Write a finished student in another format, and prove it; see ``train.export.run``."""
    from overproof.train.export.run import export_student

    return export_student(student, to, out)
