"""From a student's directory to a server: which weights, which engine, which teacher."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError
from starlette.applications import Starlette

from overproof.clients.connect import connect
from overproof.clients.protocol import Teacher
from overproof.clients.vllm_process import VllmProcess
from overproof.config.teacher import TeacherConfig
from overproof.config.teacher_file import load_teacher
from overproof.errors import ConfigError, MissingExtraError, StudentError
from overproof.evaluate.serve_chat import build_chat_app
from overproof.evaluate.serve_chat_defer import Alone, Answerer, Cascade, WhenTeacherFails
from overproof.evaluate.serve_chat_engines import Engine, TransformersEngine
from overproof.evaluate.serve_chat_proxies import LlamaEngine, VllmEngine
from overproof.evaluate.text.deferral_rule import DeferralRule, rule_of
from overproof.records.lm_export import Exports
from overproof.records.lm_student import LmStudentCard, is_lm_student
from overproof.records.text_certificate import TextCertificate

__all__ = ["Backend", "LmHome", "ServeOptions", "Served", "find_talker", "serve_talker"]

Backend = Literal["auto", "llamacpp", "transformers", "vllm"]
# The quickest of those whose answers hardly differ, then the others.
BEST_FIRST = ("gguf-q8_0", "gguf-f16", "gguf-q4_0")
LONGEST = (
    4096  # tokens of an answer with its prompt where nothing else is said: memory is set aside
)
LIVE_ATTEMPTS = 2  # somebody waits for the teacher's answer
log = logging.getLogger("overproof.serve")


@dataclass(frozen=True)
class LmHome:
    """Where a student that talks lies: its directory, a GGUF file, or both."""

    name: str
    directory: Path | None = None
    gguf: Path | None = None
    card: LmStudentCard | None = None


@dataclass(frozen=True)
class ServeOptions:
    """How it is served; see ``overproof serve --help``."""

    model_name: str | None = None
    api_key: str | None = None
    backend: Backend = "auto"
    upstream: str | None = None
    upstream_key_env: str | None = None
    context_length: int | None = None
    max_batch: int | None = None
    max_queued: int | None = None
    defer_to: Path | None = None
    when_teacher_fails: WhenTeacherFails = "error"


@dataclass(frozen=True)
class Served:
    """A server ready to run, and what to say of it.

    ``started`` holds the engine and the teacher, entered before the application is asked.
    """

    app: Starlette
    started: AbstractAsyncContextManager[None]
    name: str
    lines: tuple[str, ...]
    warnings: tuple[str, ...]


def find_talker(path: Path) -> LmHome | None:
    """The student that talks at ``path``; ``None`` where there is a student of another kind, or
    none.

    Args:
        path: a GGUF file, ``RUN/students/NAME``, or ``RUN``, which stands for the student that its
            certificate certifies (of several the one with the highest score), else for its only
            finished one.

    Raises:
        StudentError: a run with several students and no certified one.
    """  # noqa: D205
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise StudentError(str(path), "is not a file", "name a GGUF file or a student")
        return LmHome(path.stem, _owner_of(path), path)
    if is_lm_student(path):
        return _home(path)
    if (path / "student.json").exists():
        return None
    finished = sorted(found.parent for found in path.glob("students/*/student.json"))
    talkers = [directory for directory in finished if is_lm_student(directory)]
    if not talkers:
        return None
    if len(talkers) > 1:
        best = _certified(path, talkers)
        if best is None:
            raise StudentError(
                str(path),
                "holds several students and no certificate that certifies one",
                "name one of them: " + ", ".join(map(str, talkers)),
            )
        return _home(best)
    return _home(talkers[0])


def _home(directory: Path) -> LmHome:
    card = LmStudentCard.load(directory)
    return LmHome(card.name, directory, _gguf_of(directory), card)


def _owner_of(file: Path) -> Path | None:
    """The student's directory that a GGUF file was exported from, where it still lies in it."""
    for parent in list(file.resolve().parents)[:3]:
        if is_lm_student(parent):
            return parent
    return None


def _gguf_of(directory: Path) -> Path | None:
    """The proved export that is served where nothing else is said."""
    home = directory / "export"
    found = {report.format: home / report.file for report in Exports.load(home).exports}
    for name in BEST_FIRST:
        if (file := found.get(name)) is not None and file.is_file():  # type: ignore[call-overload]
            return Path(file)
    return None


def _certified(run: Path, talkers: list[Path]) -> Path | None:
    path = run / "certificate.json"
    if not path.is_file():
        return None
    certificate = TextCertificate.load(path)
    scores = {one.name: one.score.estimate for one in certificate.contestants}
    certified = [each for each in talkers if each.name in certificate.certified]
    return max(certified, key=lambda each: scores.get(each.name, 0.0), default=None)


def serve_talker(home: LmHome, options: ServeOptions) -> Served:
    """The server of a student that talks; nothing is started yet.

    Raises:
        ConfigError: options that do not go together, or a teacher that cannot be asked.
        StudentError: weights or a threshold that are not there.
        MissingExtraError: the engine is not installed.
    """
    rule = None
    if options.defer_to is not None:
        if home.directory is None:
            raise StudentError(
                str(home.gguf), "belongs to no student, so no threshold was calibrated for it",
                "name the student's directory, RUN/students/NAME",
            )  # fmt: skip
        rule = rule_of(home.directory)
    engine = _engine(home, options, rule)
    name = options.model_name or home.name
    lines = [f"backend {engine.name}" + (f" ({home.gguf})" if engine.name == "llamacpp" else "")]
    warnings: list[str] = []
    teacher: Teacher | None = None
    answerer: Answerer = Alone(engine, name)
    if rule is not None and options.defer_to is not None:
        named = load_teacher(options.defer_to)
        teacher = _teacher(named.config, options.defer_to)
        answerer = Cascade(
            engine,
            name,
            rule,
            teacher,
            when_teacher_fails=options.when_teacher_fails,
            max_tokens=named.max_tokens,
            temperature=named.temperature,
            stop=named.stop or rule.stop,
        )
        lines.append(
            f"defers to {teacher.name} at confidence ≤ {rule.threshold:.4f}: {rule.promise}"
        )
        warnings += _misfits(rule, engine, teacher)

    @asynccontextmanager
    async def started() -> AsyncIterator[None]:
        async with engine:
            if teacher is None:
                yield
                return
            async with teacher:
                if (absent := await teacher.check()) is not None:
                    log.warning("the teacher does not answer now: %s", absent)
                yield

    app = build_chat_app(
        engine,
        answerer,
        model_name=name,
        api_key=options.api_key,
        max_queued=256 if options.max_queued is None else options.max_queued,
    )
    return Served(app, started(), name, tuple(lines), tuple(warnings))


def _teacher(config: TeacherConfig, source: Path) -> Teacher:
    if config.kind == "ledger":
        raise ConfigError(
            str(source), "names no teacher that could be asked (kind = 'ledger')",
            "name a file whose [teacher] answers",
        )  # fmt: skip
    attempts = min(config.max_attempts, LIVE_ATTEMPTS)
    return connect(config.model_copy(update={"batch": False, "max_attempts": attempts}))


def _misfits(rule: DeferralRule, engine: Engine, teacher: Teacher) -> list[str]:
    """Why the promise may not hold for what is served here."""
    found = []
    if rule.backend != engine.name:
        found.append(
            f"the threshold was calibrated on answers of {rule.backend}; with {engine.name} the "
            "stated agreement is not shown"
        )
    if rule.teacher not in (teacher.model, teacher.name):
        found.append(
            f"the threshold was calibrated against {rule.teacher}; with {teacher.name} the stated "
            "agreement is not shown"
        )
    return found


def _engine(home: LmHome, options: ServeOptions, rule: DeferralRule | None) -> Engine:
    backend = options.backend
    if options.upstream is not None and backend not in ("auto", "vllm"):
        raise ConfigError(
            f"--backend {backend}", "asks no other server, and --upstream names one",
            "leave out one of the two",
        )  # fmt: skip
    if backend == "auto":
        backend = _chosen(home, options, rule)
    if backend == "llamacpp":
        return _llama(home, options)
    if backend == "vllm":
        return _vllm(home, options)
    weights = _weights(home)
    config = {
        "kind": "local",
        "model": str(weights),
        "concurrency": options.max_batch or 8,
        "context_length": options.context_length,
    }
    return TransformersEngine(TeacherConfig.model_validate(config))


def _chosen(home: LmHome, options: ServeOptions, rule: DeferralRule | None) -> Backend:
    """``auto``: what a threshold was calibrated on; else llama.cpp where it can, for its speed."""
    if options.upstream is not None:
        return "vllm"
    if home.card is None:
        return "llamacpp"
    if rule is not None and rule.backend in ("llamacpp", "transformers", "vllm"):
        return rule.backend  # type: ignore[return-value]
    if home.gguf is not None and importlib.util.find_spec("xllamacpp") is not None:
        return "llamacpp"
    return "transformers"


def _llama(home: LmHome, options: ServeOptions) -> Engine:
    if importlib.util.find_spec("xllamacpp") is None:
        raise MissingExtraError("xllamacpp", "embedded")
    if home.gguf is None:
        raise StudentError(
            str(home.directory),
            "has no GGUF file for llama.cpp",
            f"run `overproof export {home.directory} --to gguf-q8_0`, or --backend transformers",
        )
    _check_fresh(home)
    taught = home.card.context_length if home.card else None
    return LlamaEngine(
        home.gguf,
        concurrency=options.max_batch or 8,
        context_length=options.context_length or min(taught or LONGEST, LONGEST),
    )


def _check_fresh(home: LmHome) -> None:
    """Refuse a file that was exported before the student was trained again."""
    if home.gguf is None or home.directory is None:
        return
    card = home.directory / "student.json"
    if home.gguf.stat().st_mtime < card.stat().st_mtime:
        raise StudentError(
            str(home.gguf),
            "is older than the student, which was trained again since",
            f"run `overproof export {home.directory} --to gguf-q8_0` again",
        )


def _vllm(home: LmHome, options: ServeOptions) -> Engine:
    if options.upstream is None:
        directory = _weights(home)
        process = VllmProcess(directory, home.name, context_length=options.context_length)
        return VllmEngine(home.name, process=process)
    asked = {
        "kind": "openai",
        "model": home.name,
        "base_url": options.upstream.rstrip("/"),
        "api_key_env": options.upstream_key_env,
    }
    reason = ""
    try:
        config = TeacherConfig.model_validate(asked)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
    if reason:  # raised out here: the library's error holds the address, a secret perhaps in it
        raise ConfigError("--upstream", reason, "give http://HOST:PORT/v1 alone")
    return VllmEngine(home.name, upstream=config)


def _weights(home: LmHome) -> Path:
    """The directory that transformers and vLLM load.

    Raises:
        StudentError: there is none.
    """
    if home.directory is None:
        raise StudentError(
            str(home.gguf), "is a GGUF file alone, which llama.cpp serves", "use --backend llamacpp"
        )
    if home.card is not None and home.card.adapter:
        merged = home.directory / "export" / "safetensors"
        if not (merged / "config.json").is_file():
            raise StudentError(
                str(home.directory),
                "is an adapter beside its base (lora.merge = false)",
                f"run `overproof export {home.directory} --to safetensors`, which merges them",
            )
        return merged
    for name in ("config.json", "tokenizer_config.json"):
        path = home.directory / name
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StudentError(
                str(path), f"cannot be read: {error}", "run `overproof train` again"
            ) from error
    return home.directory
