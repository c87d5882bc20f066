"""The study from end to end: train, serve, test, and say how the tests did.

Every task keeps its result on disk under the hash of what it depends on; running the same command
again goes on where a killed run stopped, and repeats nothing.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from time import process_time
from typing import Any

from overproof.errors import ConfigError, RunError
from overproof.proving.audit.cast import Arm, Member, lineup
from overproof.proving.audit.ghost_stage import bound_coverage, ghost_controls, ghost_finding
from overproof.proving.audit.mark_stage import answers_of, mark_findings
from overproof.proving.audit.markdown import to_markdown
from overproof.proving.audit.plan import StudyPlan
from overproof.proving.audit.reference_stage import (
    likeness_findings,
    shift_findings,
    shift_scores,
    weights_findings,
)
from overproof.proving.audit.tables import make_tables
from overproof.proving.audit.world import World, read_json, write_json
from overproof.records.files import write_atomically

__all__ = ["StudyResult", "Task", "run_study", "run_task"]

Progress = Callable[[str, int, int], None]
JUDGED = 2  # raise it when what a test computes changes: models stay, findings are made anew


@dataclass(frozen=True)
class Task:
    """One piece of work that needs no other of its stage: ``train``, ``answer``, ``judge``."""

    kind: str
    name: str


@dataclass(frozen=True)
class StudyResult:
    """What came out.

    Attributes:
        tables: by name, see `overproof.proving.audit.tables`.
        json: the file of the tables.
        markdown: the same for a reader.
    """

    tables: dict[str, Any]
    json: Path
    markdown: Path


@lru_cache(maxsize=2)
def _world(plan: StudyPlan, out: Path) -> World:
    return World(plan, out)


def _key(world: World, member: Member) -> list[Any]:
    return [JUDGED, world.plan.fingerprint, world.model_key(member)]


def _judged(world: World, member: Member) -> Any:
    def make() -> dict[str, Any]:
        begun = process_time()
        found: dict[str, Any] = {
            "name": member.name, "arm": member.arm.value, "dose": member.dose,
            "seed": member.seed, "recipe": member.recipe,
        }  # fmt: skip
        if member.arm.suspect:
            finding, truth = ghost_finding(world, member)
            found |= {"ghosts": finding.to_json(), "truth": truth}
        marks, null = mark_findings(world, member)
        found |= {name: finding.to_json() for name, finding in marks.items()}
        found["null keys"] = null
        found["cpu_s"] = process_time() - begun
        return found

    return world.kept(f"found/{member.name}", _key(world, member), make)


def _answered(world: World, member: Member) -> Any:
    def make() -> dict[str, Any]:
        begun = process_time()
        answers_of(world, member)
        scores: dict[str, Any] = {}
        if member.name == "base" or (member.arm.suspect and member.arm is not Arm.DECOY):
            scores = shift_scores(world, member)
        return {"scores": scores, "cpu_s": process_time() - begun}

    return world.kept(f"found/answers-{member.name}", _key(world, member), make)


def run_task(plan: StudyPlan, out: Path, task: Task) -> None:
    """Do one task, unless its result is there."""
    world = _world(plan, out)
    member = world.member(task.name)
    if task.kind == "train":
        world.train(member)
    elif task.kind == "answer":
        _answered(world, member)
    elif task.kind == "judge":
        _judged(world, member)
    else:
        raise ConfigError(task.kind, "is no task of the study", "train, answer or judge")


def _run(
    plan: StudyPlan, out: Path, tasks: Sequence[Task], jobs: int, progress: Progress | None
) -> None:
    """Run the tasks of one stage, in other processes where there are several jobs."""
    stage = tasks[0].kind if tasks else ""
    if jobs == 1:
        for done, task in enumerate(tasks, 1):
            run_task(plan, out, task)
            if progress is not None:
                progress(stage, done, len(tasks))
        return
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
    try:
        pending = {pool.submit(run_task, plan, out, task) for task in tasks}
        while pending:
            finished, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
            if progress is not None:
                progress(stage, len(tasks) - len(pending), len(tasks))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _answering(members: Iterable[Member]) -> tuple[list[Member], list[Member]]:
    """Those whose answers the others are held against, then everybody else."""
    everyone = [m for m in members if m.name not in {"B", "base2"}]
    first = [m for m in everyone if m.name == "A" or m.arm is Arm.DECOY]
    return first, [m for m in everyone if m not in first]


def run_study(
    plan: StudyPlan, out: Path, *, jobs: int = 1, progress: Progress | None = None
) -> StudyResult:
    """Run the study, or what is left of it, and write its tables.

    Args:
        plan: its size and settings.
        out: its directory; results of the same plan in it are used again.
        jobs: processes, each on one core.
        progress: told the stage, and how many of its tasks are done of how many.

    Raises:
        ConfigError: fewer than one job, or too few prompts.
        MissingExtraError: tokenizers is not installed.
        RunError: ``out`` cannot be written, or holds a damaged file; it is named.
    """
    if jobs < 1:
        raise ConfigError("jobs", f"are {jobs}", "give 1 or more")
    out = out.resolve()
    if out.exists() and not out.is_dir():
        raise RunError(str(out), "is no directory", "name another one")
    world = _world(plan, out)
    _ = world.vocabulary  # made once, here, before others need it
    write_json(out / "plan.json", {"fingerprint": plan.fingerprint, "plan": plan.to_json()})
    for number, wave in enumerate(lineup(plan)):
        if number == 2:
            for name in ("served", "marked", "other"):
                world.log(name)
        _run(plan, out, [Task("train", member.name) for member in wave], jobs, progress)
    first, rest = _answering(world.members.values())
    for members in (first, rest):
        _run(plan, out, [Task("answer", member.name) for member in members], jobs, progress)
    judged = [m for m in world.members.values() if m.arm.suspect or m.arm is Arm.SHADOW]
    _ = len(ghost_reference(world))
    _run(plan, out, [Task("judge", member.name) for member in judged], jobs, progress)
    found = {member.name: _judged(world, member) for member in judged}
    shared = _shared(world)
    tables = make_tables(plan, found, shared, _coverage(world, found), _costs(world))
    tables["texts"] = {"prompts": world.corpus.sources, "missing": world.corpus.missing}
    write_json(out / "study.json", tables)
    tables = read_json(out / "study.json")
    write_atomically(out / "study.md", to_markdown(tables))
    return StudyResult(tables, out / "study.json", out / "study.md")


def ghost_reference(world: World) -> list[int]:
    """Score the log by A and its base once, before several processes would each do it."""
    from overproof.proving.audit.ghost_stage import pooled_log

    few = min(world.plan.null_prompts, world.plan.log)
    return [len(pooled_log(world, prompts).pools) for prompts in (None, few)]


def _shared(world: World) -> dict[str, Any]:
    """What is found of all suspects at once."""

    def make() -> dict[str, Any]:
        begun = process_time()
        scores = {
            name: _answered(world, member)["scores"]
            for name, member in world.members.items()
            if name == "base" or (member.arm.suspect and member.arm is not Arm.DECOY)
        }
        found: dict[str, Any] = {
            name: {key: finding.to_json() for key, finding in findings.items()}
            for name, findings in (
                ("references", likeness_findings(world)),
                ("base shift", shift_findings(world, scores)),
                ("weights", weights_findings(world)),
            )
        }
        found["controls"] = ghost_controls(world)
        found["cpu_s"] = process_time() - begun
        return found

    keys = [world.model_key(member) for member in world.members.values()]
    return dict(world.kept("found/all", [JUDGED, world.plan.fingerprint, keys], make))


def _coverage(world: World, found: dict[str, Any]) -> list[dict[str, Any]]:
    plan = world.plan
    full = next(
        m for m in world.members.values() if m.arm is Arm.SERVED and m.dose == max(plan.doses)
    )
    ranks = found[full.name]["truth"]["used_ranks"]
    return bound_coverage(ranks, plan.ghosts, plan.log, plan.replicates, world.drawn(41))


def _costs(world: World) -> dict[str, float]:
    """CPU seconds by stage, from what each task took when it ran."""
    costs: dict[str, float] = {"train": 0.0, "answer": 0.0, "judge": 0.0}
    for member in world.members.values():
        costs["train"] += read_json(world.path(member).with_suffix(".json"))["cpu_s"]
        if member.name not in {"B", "base2"}:
            costs["answer"] += _answered(world, member)["cpu_s"]
        if member.arm.suspect or member.arm is Arm.SHADOW:
            costs["judge"] += _judged(world, member)["cpu_s"]
    return {**costs, "all together": _shared(world)["cpu_s"]}
