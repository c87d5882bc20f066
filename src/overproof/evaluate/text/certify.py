"""Certifying the students of a text task: everything from disk, measured once, written down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from overproof import __version__
from overproof.config.load import LoadedTextRecipe
from overproof.config.text_recipe import TextRecipe
from overproof.errors import ConfigError, RunError
from overproof.evaluate.costs import UnitCost
from overproof.evaluate.looks import CHAINED, Look, distinct_looks, log_look, note_verdict
from overproof.evaluate.machine import machine_in_words
from overproof.evaluate.scorers.build import build_scorer
from overproof.evaluate.text.bill import Bill
from overproof.evaluate.text.comparing import certified_of, compared, contests, verdict_text
from overproof.evaluate.text.deferral import fewest_tune
from overproof.evaluate.text.entrants import (
    TEACHER,
    Entrant,
    bases_of,
    find_students,
    teacher_entrant,
)
from overproof.evaluate.text.judging import Judgements, judge_pairs
from overproof.evaluate.text.leak_check import check_text_leaks
from overproof.evaluate.text.measuring import Measured, deferral_of, measure
from overproof.evaluate.text.rows import (
    HeldOutRow,
    check_not_empty,
    open_if_there,
    read_held_out,
)
from overproof.evaluate.text.scoring import Field, Scores
from overproof.evaluate.text.sizes import parameters_at
from overproof.evaluate.text.text_limits import Found, text_limits
from overproof.evaluate.text.text_provenance import text_provenance
from overproof.records.answer_checks import check_schema
from overproof.records.certificate import CostLine
from overproof.records.chat_dataset import TextManifest
from overproof.records.ledger import Ledger
from overproof.records.lm_student import LmStudentCard
from overproof.records.run import RunPaths
from overproof.records.text_certificate import (
    Contestant,
    DeferralCurve,
    TextCertificate,
)

__all__ = ["certify_text"]

Say = Callable[[str], None]


def certify_text(loaded: LoadedTextRecipe, *, now: str, say: Say) -> TextCertificate:
    """Check for leaks, let everybody answer the test prompts, and build the certificate.

    Answers, readings and judgements are kept as they come, so that an interrupted run goes on
    where it was.

    Args:
        loaded: the recipe; its dataset is frozen and a student at least is finished.
        now: ISO 8601 in UTC.
        say: hears what is being done.

    Raises:
        RunError: nothing was collected under this recipe, no test prompt, no finished student.
        LeakError: a test prompt, or a near-duplicate of one, is where training could see it.
        DataError: a test prompt lacks what the scorer needs.
        OverproofError: weights that cannot be used, a judge that cannot be reached.
    """
    work = _Work.of(loaded, say)
    say(f"checking {len(work.test):,} test prompts for leaks")
    # Before anything is measured: a refused test set has not been looked at.
    check_text_leaks(work.test, work.paths.dataset, work.manifest.near_duplicate_threshold)
    work.measured = asyncio.run(work.measure())
    looks = _look(work.paths, now)
    certificate = work.certificate(now, looks)
    note_verdict(work.paths.looks, certificate.verdict)
    return certificate


def _look(paths: RunPaths, now: str) -> list[Look]:
    """Log this look in the run and chain it into the ledger; all looks, those of both."""
    with Ledger.open(paths.ledger, write=True) as ledger:
        looks = log_look(
            paths.looks,
            now=now,
            dataset=paths.dataset,
            students=paths.students,
            chained=list(ledger.notes("look")),
        )
        ledger.note("look", {name: looks[-1][name] for name in CHAINED})
    return looks


@dataclass
class _Work:
    """One certification under way."""

    loaded: LoadedTextRecipe
    say: Say
    paths: RunPaths
    manifest: TextManifest
    test: list[HeldOutRow]
    cards: dict[str, LmStudentCard]
    prompts: Field
    teacher: Entrant
    asked: list[CostLine]
    measured: Measured = field(default_factory=lambda: Measured([], []))
    judgements: Judgements = field(default_factory=lambda: Judgements((), (), ()))
    deferral: list[DeferralCurve] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, loaded: LoadedTextRecipe, say: Say) -> _Work:
        """Read everything, and refuse what cannot be measured before anything is."""
        paths, recipe = RunPaths(loaded.run_dir), loaded.recipe
        manifest = TextManifest.load(paths.dataset)
        _check_frozen(loaded, manifest)
        test = read_held_out(paths.dataset, "test")
        check_not_empty(test, paths.dataset)
        cards = find_students(paths, recipe, manifest, say)
        settings = recipe.certificate
        measure_of = Field(
            test,
            build_scorer(settings, _schema(loaded)),
            settings.confidence,
            settings.bootstrap,
            recipe.run.seed,
        )
        with open_if_there(paths.ledger) as ledger:
            teacher = teacher_entrant(test, ledger, manifest)
            asked = list(ledger.costs()) if ledger is not None else []
        if recipe.teacher.kind in ("local", "embedded"):
            teacher.parameters = parameters_at(recipe.teacher.model)
        if not measure_of.scored:
            raise RunError(
                str(paths.dataset),
                "has no test prompt with a valid answer of the teacher to compare with",
                "see failed.jsonl in the run for what became of them",
            )
        measure_of.score(teacher)  # what lacks a reference is named before anybody is asked
        return cls(loaded, say, paths, manifest, test, cards, measure_of, teacher, asked)

    @property
    def recipe(self) -> TextRecipe:
        """The recipe."""
        return self.loaded.recipe

    @property
    def bill(self) -> Bill:
        """The costs."""
        calls = sum(len(row.request_keys) for row in self.test) / len(self.test)
        return Bill(
            self.recipe,
            self.asked,
            self.judgements.costs,
            self.cards,
            max(1.0, calls),
            self.teacher.speed,
        )

    async def measure(self) -> Measured:
        """Answers, perplexities, judgements and deferral."""
        recipe, settings = self.recipe, self.recipe.certificate
        wanted = "base" in settings.baselines
        bases = bases_of(self.paths, recipe, self.cards) if wanted else ()
        measured = await measure(
            recipe,
            paths=self.paths,
            field_=self.prompts,
            teacher=self.teacher,
            cards=self.cards,
            bases=bases,
            say=self.say,
        )
        if settings.agreement is not None:
            await self._defer(measured)
        if settings.judge is not None:
            with open_if_there(self.paths.ledger) as ledger:
                self.judgements = await judge_pairs(
                    recipe,
                    self.test,
                    contests(self.teacher, measured),
                    path=self.paths.dir / "judge.sqlite",
                    teacher_ledger=ledger,
                    say=self.say,
                )
        return measured

    async def _defer(self, measured: Measured) -> None:
        tune = read_held_out(self.paths.dataset, "tune")
        basis, stated = "", self.recipe.certificate.agreement or 0.0
        fewest = fewest_tune(stated)
        for student in measured.students:
            self.say(f"{student.name}: calibrating when to ask the teacher")
            found = await deferral_of(
                self.recipe,
                paths=self.paths,
                field_=self.prompts,
                tune=tune,
                student=student,
                bill=self.bill,
                teacher_model=str(self.manifest.teacher.get("model") or self.recipe.teacher.model),
            )
            if found is None:
                self.notes.append(
                    "When to ask the teacher could not be calibrated: the tune split has no prompt "
                    f"that the teacher answered; for an agreement of {stated:g} it takes at least "
                    f"{fewest:,} (set data.tune)."
                )
                return
            curve, basis = found
            self.deferral.append(curve)
        if self.deferral and (n := self.deferral[0].n_tune) < fewest:
            self.notes.append(
                f"{n:,} tune prompts are too few to promise an agreement of {stated:g}, whatever a "
                f"student says: everything is passed on to the teacher. It takes at least "
                f"{fewest:,} (data.tune), or a lower certificate.agreement."
            )
        self.notes.append(f"In the deferral curves, {basis}.")

    def certificate(self, now: str, looks: list[Look]) -> TextCertificate:
        """Put together what was measured, and decide."""
        recipe, settings, measured = self.recipe, self.recipe.certificate, self.measured
        scores = {e.name: self.prompts.score(e) for e in [self.teacher, *measured.entrants]}
        contestants = tuple(self._contestant(e, scores) for e in [self.teacher, *measured.entrants])
        comparisons = [
            compared(first, second, scores, settings)
            for first, second in contests(self.teacher, measured)
        ]
        certified = certified_of(comparisons, settings.alpha)
        alone = [c.first for c in comparisons if c.verdict == "non-inferior"]
        found = Found(
            recipe=recipe,
            manifest=self.manifest,
            contestants=contestants,
            comparisons=comparisons,
            n_test=len(self.test),
            n_answered=len(self.prompts.answered),
            looks=distinct_looks(looks),
            left=[name for name in alone if name not in certified],
            unread=measured.unread,
            notes=(*self.judgements.notes, *self.notes),
        )
        return TextCertificate(
            name=recipe.run.name,
            verdict="certified" if certified else "not certified",
            verdict_text=verdict_text(comparisons, certified, settings.margin),
            certified=certified,
            made_at=now,
            overproof_version=__version__,
            machine=machine_in_words(),
            recompute=f"overproof certify {self._recipe_file}",
            scorer=settings.scorer,
            margin=settings.margin,
            alpha=settings.alpha,
            n_test=len(self.test),
            contestants=contestants,
            comparisons=tuple(comparisons),
            judgements=self.judgements.results,
            deferral=tuple(self.deferral),
            costs=self.bill.facts({e.name: e.speed for e in measured.students}),
            provenance=text_provenance(recipe, self.manifest, self.cards),
            limits=text_limits(found),
            looks=distinct_looks(looks),
            demo=recipe.run.demo,
            synthetic=all(row.is_synthetic for row in self.test),
            recipe_sha256=self.manifest.recipe_sha256,
            dataset_sha256=self.manifest.dataset_sha256,
            versions=_versions(),
        )

    @property
    def _recipe_file(self) -> str:
        path = self.loaded.path
        return path.name if path.is_absolute() else str(path)

    def _contestant(self, entrant: Entrant, scores: dict[str, Scores]) -> Contestant:
        is_teacher = entrant is self.teacher
        own = scores[entrant.name]
        cost = self._cost(entrant)
        return Contestant(
            name=entrant.name,
            role=entrant.role,
            description=entrant.description,
            method=entrant.method,
            parameters=entrant.parameters,
            n=len(own.values),
            score=self.prompts.mean(own.values),
            retention=None if is_teacher else self.prompts.retention(own, scores[TEACHER]),
            details=self.prompts.details(own),
            agreement=None if is_teacher else self.prompts.agreement(entrant),
            degeneration=self.prompts.degeneration(entrant),
            outcomes=entrant.outcomes,
            teacher_perplexity=self.measured.by_teacher.get(entrant.name),
            perplexity_of_teacher=self.measured.of_teacher.get(entrant.name),
            mean_tokens=entrant.mean_tokens,
            slices=self.prompts.slices(own),
            speed=entrant.speed,
            cost_per_million_usd=cost.per_million,
            cost_basis=cost.basis,
            examples=self.prompts.examples(entrant, own),
        )

    def _cost(self, entrant: Entrant) -> UnitCost:
        if entrant is self.teacher:
            return self.bill.teacher()
        return self.bill.machine_time(entrant.speed)


def _check_frozen(loaded: LoadedTextRecipe, manifest: TextManifest) -> None:
    if manifest.recipe_sha256 != loaded.sha256:
        raise RunError(
            str(loaded.run_dir),
            "was collected under another recipe than this one: the margin, the task and the data "
            "are fixed before anything is collected",
            "restore the recipe, or give the changed one a [run] dir of its own",
        )
    if manifest.dataset_sha256 != loaded.dataset_sha256:
        raise RunError(
            str(loaded.run_dir),
            "was frozen with other filters than the recipe has now",
            "run `overproof collect` and `overproof train` again (what was asked is not asked "
            "again), or restore the filters",
        )


def _schema(loaded: LoadedTextRecipe) -> dict[str, Any] | None:
    """The JSON Schema of a task with ``answer = "json"``."""
    name = loaded.recipe.task.json_schema
    if not name:
        return None
    path = loaded.home / name
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"task.schema: {path}", f"cannot be read: {error}") from error
    check_schema(schema, str(path))
    return dict(schema)


def _versions() -> dict[str, str]:
    """Releases of what the figures depend on."""
    found = {"overproof": __version__}
    for name in ("torch", "transformers", "peft", "reasoning-gym"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
