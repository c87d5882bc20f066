"""The students of a text recipe, from frozen dataset to finished directories.

RUN/students/NAME    a finished student, see ``records.lm_student``
RUN/bases/KEY        an untrained base that was made here: pruned, random or dequantised
RUN/signals/KEY      what the teacher thought of every answer token, in a student's vocabulary
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overproof.config.lm_students import (
    AnyLmStudent,
    OnPolicyConfig,
    SampledKdConfig,
    SparseKdConfig,
)
from overproof.config.load import LoadedTextRecipe
from overproof.errors import DataError, RunError
from overproof.records.chat_dataset import TextManifest, read_chats
from overproof.records.exchange import Outcome
from overproof.records.hashing import file_sha256
from overproof.records.lm_student import LmStudentCard
from overproof.records.run import RunPaths
from overproof.train.lm.keys import finished, student_key, wants_weights

if TYPE_CHECKING:
    from overproof.clients.local_model import LocalModel
    from overproof.records.logprob_store import LogprobStore
    from overproof.train.lm.parts import LmStudent, TokenizedChat
    from overproof.train.lm.trainer import Fit

__all__ = ["finished", "student_key", "train_text_students"]

Progress = Callable[[str, float], None]


def train_text_students(
    loaded: LoadedTextRecipe,
    *,
    resolve: Callable[[str], Path],
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, LmStudentCard]:
    """Train every student of the recipe that is not finished, in the recipe's order.

    Args:
        loaded: the recipe; its dataset must be frozen.
        resolve: finds a model that was pulled.
        progress: hears the name of a student and the share of its training that is done.
        say: hears what is worth a line.

    Raises:
        RunError: nothing was collected, or under another recipe.
        ConfigError: the recipe names no students.
        StudentError: training cannot go on: no number, no memory, a full disk.
        ModelError: a base that cannot be used.
    """
    from overproof.errors import ConfigError

    if not loaded.recipe.students:
        raise ConfigError(
            str(loaded.path), "names no students",
            'add [[students]] with a name, a base and a method, such as method = "sft"',
        )  # fmt: skip
    from overproof.train.lm.launch import check_processes, process_group

    check_processes(loaded.path, loaded.recipe.students)
    work = _Work(loaded, resolve, progress or (lambda _name, _share: None), say)
    _ = work.manifest  # nothing to train on is said before anything else
    with process_group():
        return {config.name: work.student(config) for config in loaded.recipe.students}


@dataclass
class _Work:
    """What the students of one recipe share, loaded when it is first needed."""

    loaded: LoadedTextRecipe
    resolve: Callable[[str], Path]
    progress: Progress
    say: Callable[[str], None]

    @cached_property
    def paths(self) -> RunPaths:
        return RunPaths(self.loaded.run_dir)

    @cached_property
    def manifest(self) -> TextManifest:
        """The manifest, with only the splits that training may open checked against it."""
        dataset = self.paths.dataset
        path = dataset / "manifest.json"
        if not path.exists():
            raise RunError(str(dataset), "holds no frozen dataset", "run `overproof collect`")
        again = f"remove {dataset} and run `overproof collect` again: the ledger has every answer"
        try:
            manifest = TextManifest.model_validate_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunError(str(path), "is damaged: " + str(error).splitlines()[0], again) from error
        for name in ("train.parquet", "tune.parquet"):
            frozen = manifest.files.get(name)
            if frozen is not None and (
                not (dataset / name).exists() or file_sha256(dataset / name) != frozen
            ):
                raise RunError(str(dataset / name), "is not the file that was frozen", again)
        if manifest.dataset_sha256 != self.loaded.dataset_sha256:
            raise RunError(
                str(self.paths.dir),
                "was collected under another recipe than this one",
                "run `overproof collect` (what was asked is not asked again), restore the "
                "recipe, or give the changed one a [run] dir of its own",
            )
        return manifest

    def rows(self, split: str) -> list[dict[str, Any]]:
        """The answered rows of a split; none where it was not frozen."""
        if f"{split}.parquet" not in self.manifest.files:
            return []
        rows = read_chats(self.paths.dataset, "train" if split == "train" else "tune")
        return [row for row in rows if row["outcome"] == Outcome.ANSWERED.value]

    @cached_property
    def teacher(self) -> LocalModel:
        """The local teacher's weights; a teacher of another kind has none here."""
        from overproof.clients import local_model

        config = self.loaded.recipe.teacher
        self.say(f"reading the teacher's weights ({config.model})")
        return local_model.load(local_model.source_of(config.model), config)

    def student(self, config: AnyLmStudent) -> LmStudentCard:
        """Train one student, or find it finished."""
        directory = self.paths.students / config.name
        key = student_key(self.loaded, config)
        if (card := finished(directory, key)) is not None:
            return card
        from overproof.train.compute import all_cores, seeded
        from overproof.train.lm.base import load_student
        from overproof.train.lm.launch import first_process_first, is_first_process, wait_for_all

        seed = self.loaded.recipe.run.seed if config.seed is None else config.seed
        needs_teacher = config.base == "teacher" or wants_weights(config, self.loaded)
        with all_cores(), seeded(seed):
            with first_process_first():
                student = load_student(
                    config,
                    seed=seed,
                    teacher=self.teacher if needs_teacher else None,
                    students=self.paths.students,
                    bases=self.paths.dir / "bases",
                    resolve=self.resolve,
                    rows=self.rows("train"),
                )
            fit, n_train = self._fit(config, student, seed, key)
            card = self._card(config, student, fit, seed=seed, key=key, n_train=n_train)
            if is_first_process():
                self._save(student, card, fit, directory)
            wait_for_all()
        return card

    def _save(self, student: LmStudent, card: LmStudentCard, fit: Fit, directory: Path) -> None:
        from overproof.train.export.card import CardFacts
        from overproof.train.export.hf import save_lm

        files = {"training.json": _notes_of(fit)}
        save_lm(student, card, directory, files=files, facts=CardFacts(self.manifest))
        shutil.rmtree(self._checkpoints(card.name), ignore_errors=True)

    def _checkpoints(self, name: str) -> Path:
        return self.paths.students / f".{name}.checkpoints"

    def _fit(
        self, config: AnyLmStudent, student: LmStudent, seed: int, key: str
    ) -> tuple[Fit, int]:
        from overproof.train.lm.launch import first_process_first
        from overproof.train.lm.methods.build import build_method
        from overproof.train.lm.trainer import fit

        splits = self._tokenized(config, student)
        chats = splits["train"]
        with first_process_first():
            signal = self._signal(config, student, chats)
        method = build_method(
            config,
            student,
            teacher=self.teacher if wants_weights(config, self.loaded) else None,
            scorer=self._scorer(config),
            chats=chats,
            seed=seed,
            rows=self.rows("train"),
        )

        def told(share: float, _facts: dict[str, Any]) -> None:
            self.progress(config.name, share)

        done = fit(
            student,
            method,
            chats,
            splits["tune"],
            config,
            signal=signal,
            out=self._checkpoints(config.name),
            key=key,
            seed=seed,
            progress=told,
        )
        return done, len(chats)

    def _tokenized(
        self, config: AnyLmStudent, student: LmStudent
    ) -> dict[str, list[TokenizedChat]]:
        """The chats of both splits; what is worth knowing of them is said, and noted."""
        from overproof.train.lm.chats import tokenize_chats

        longest = min(config.max_length, student.context or config.max_length)
        splits: dict[str, list[TokenizedChat]] = {"train": [], "tune": []}
        for name, what in (("train", "training"), ("tune", "tune")):
            if not (rows := self.rows(name)) and name == "tune":
                continue
            try:
                made = tokenize_chats(
                    rows, student.tokenizer, end=student.end, max_length=longest, what=what
                )
            except DataError as error:
                if name == "train":
                    raise
                # It only shows how training went; the certificate is measured on other prompts.
                self._note(student, f"no loss on the tune split: {error.culprit}: {error.reason}")
                continue
            splits[name] = made.chats
            for reason, count in made.left_out.items():
                self.say(f"student {config.name}: {count} {name} chats left out: {reason}")
            for note in made.notes:
                self._note(student, f"{name} split: {note}")
        return splits

    def _note(self, student: LmStudent, note: str) -> None:
        """Say it, and keep it on the card."""
        self.say(f"student {student.name}: {note}")
        student.notes.append(note)

    def _signal(
        self, config: AnyLmStudent, student: LmStudent, chats: list[TokenizedChat]
    ) -> LogprobStore | None:
        """What the teacher thought of every answer token, where the method learns from that."""
        if not isinstance(config, SparseKdConfig | SampledKdConfig):
            return None
        from overproof.train.lm.signals import signal_for

        return signal_for(self.loaded, config, student, chats, lambda: self.teacher, self.say)

    def _scorer(self, config: AnyLmStudent) -> Any:
        """Who scores the student's text where the teacher's weights are elsewhere."""
        if not isinstance(config, OnPolicyConfig) or wants_weights(config, self.loaded):
            return None
        from overproof.clients.connect import connect

        return connect(self.loaded.recipe.teacher)

    def _card(
        self,
        config: AnyLmStudent,
        student: LmStudent,
        fit: Fit,
        *,
        seed: int,
        key: str,
        n_train: int,
    ) -> LmStudentCard:
        module, terms = student.module, self.loaded.recipe.teacher.terms
        text_config = module.config.get_text_config()
        beneath = student.adapter_base
        adapter_base = None if beneath is None else _beside(beneath, self.paths, config.name)
        parameters, trainable = _counted(module, merged=bool(config.lora and config.lora.merge))
        return LmStudentCard(
            name=config.name,
            method=config.method,
            base=student.base,
            base_dir=_beside(student.base_dir, self.paths, config.name),
            base_licence=student.base_licence,
            start=config.start,
            teacher=self.manifest.teacher.get("name", self.loaded.recipe.teacher.model),
            parameters=parameters,
            trainable=trainable,
            vocabulary=int(text_config.vocab_size),
            context_length=student.context,
            layers=getattr(text_config, "num_hidden_layers", None),
            precision=str(next(module.parameters()).dtype).removeprefix("torch."),
            steps=fit.steps,
            tokens=fit.tokens,
            answer_tokens=fit.answer_tokens,
            n_train=n_train,
            train_seconds=fit.seconds,
            seed=seed,
            dataset_sha256=self.manifest.dataset_sha256,
            config_sha256=key,
            tune_loss=fit.tune_loss,
            base_tune_loss=fit.base_tune_loss,
            adapter=config.lora is not None and not config.lora.merge,
            adapter_base=adapter_base,
            config=config.model_dump(mode="json", exclude_defaults=True),
            terms=terms.training,
            attestation=terms.attestation,
            notes=(*student.notes, *fit.notes),
        )


def _counted(module: Any, *, merged: bool) -> tuple[int, int]:
    """Weights that are saved, each once, and those that are trained.

    Args:
        module: the student, wrapped by PEFT for LoRA.
        merged: whether a LoRA is folded into the weights when it is saved.
    """
    weights = {id(p): (name, p) for name, p in module.named_parameters()}.values()
    saved = sum(p.numel() for name, p in weights if not (merged and ".lora_" in name))
    return saved, sum(p.numel() for _, p in weights if p.requires_grad)


def _beside(base_dir: str, paths: RunPaths, name: str) -> str:
    """Where a base lies: relative to the student where it is part of the run, which may move."""
    directory = Path(base_dir)
    if directory.is_relative_to(paths.dir):
        return os.path.relpath(directory, paths.students / name)
    return base_dir


def _notes_of(fit: Fit) -> str:
    """``training.json``: the curve and what is worth knowing of it."""
    curve = [
        {"step": step, "loss": loss, "learning_rate": rate, "gradient_norm": norm}
        for step, loss, rate, norm in fit.losses
    ]
    facts = {"seconds": fit.seconds, "notes": list(fit.notes), "curve": curve}
    return json.dumps(facts, indent=1) + "\n"
