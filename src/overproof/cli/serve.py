"""``overproof serve``: a student behind an OpenAI-compatible address."""

from __future__ import annotations

import os
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["serve_command"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")


StudentArgument = Annotated[
    Path, typer.Argument(help="A student directory, a run directory, or a GGUF file.")
]
HostOption = Annotated[str, typer.Option(help="Address to listen on.")]
PortOption = Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")]
KeyOption = Annotated[
    str | None, typer.Option(help="Environment variable with the key that requests must carry.")
]
NameOption = Annotated[
    str | None, typer.Option(help="Name to answer under.  [default: the student's]")
]
BatchOption = Annotated[
    int | None,
    typer.Option(min=1, max=4096, help="Answers at a time.  [default: 64 labels, 8 chats]"),
]
QueueOption = Annotated[
    int | None,
    typer.Option(min=1, help="Waiting before more are refused.  [default: 4096 texts, 256 chats]"),
]
BackendOption = Annotated[
    Literal["auto", "llamacpp", "transformers", "vllm"],
    typer.Option(help="What runs a student that talks."),
]
UpstreamOption = Annotated[
    str | None, typer.Option(help="Address of a vLLM server that has it, such as http://H:P/v1.")
]
UpstreamKeyOption = Annotated[
    str | None, typer.Option(help="Environment variable with that server's key.")
]
ContextOption = Annotated[
    int | None, typer.Option(min=16, help="Longest prompt with answer, in tokens.")
]
TeacherOption = Annotated[
    Path | None,
    typer.Option(help="A recipe or a TOML file with [teacher]: answers what is unsure."),
]
FailureOption = Annotated[
    Literal["student", "error"], typer.Option(help="What is answered when the teacher fails.")
]


def serve_command(
    student: StudentArgument,
    *,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    api_key_env: KeyOption = None,
    model_name: NameOption = None,
    max_batch: BatchOption = None,
    max_queued: QueueOption = None,
    backend: BackendOption = "auto",
    upstream: UpstreamOption = None,
    upstream_key_env: UpstreamKeyOption = None,
    context_length: ContextOption = None,
    defer_to: TeacherOption = None,
    when_teacher_fails: FailureOption = "error",
) -> None:
    """Answer chat completions with a student: swap only the base URL."""
    from overproof.errors import ConfigError
    from overproof.evaluate.serve_chat_start import ServeOptions, find_talker, serve_talker

    place = _Place(host, port, _key(api_key_env))
    talker = find_talker(student)
    if talker is None:
        for flag, given in (
            ("--backend", backend != "auto"),
            ("--upstream", upstream is not None),
            ("--defer-to", defer_to is not None),
        ):
            if given and (student / "student.json").exists():
                raise ConfigError(
                    flag, "has no meaning for a student that answers with labels", "leave it out"
                )
        _serve_labels(student, place, model_name, max_batch or 64, max_queued or 4096)
        return
    options = ServeOptions(
        model_name=model_name,
        api_key=place.key,
        backend=backend,
        upstream=upstream,
        upstream_key_env=_variable("--upstream-key-env", upstream_key_env),
        context_length=context_length,
        max_batch=max_batch,
        max_queued=max_queued,
        defer_to=defer_to,
        when_teacher_fails=when_teacher_fails,
    )
    served = serve_talker(talker, options)
    for line in served.warnings:
        typer.echo(f"note: {line}", err=True)
    _run(served.app, place, (f"{served.name} answers", *served.lines), served.started)


@dataclass(frozen=True)
class _Place:
    """Where a server listens, and the key that it asks for."""

    host: str
    port: int
    key: str | None


def _serve_labels(
    student: Path, place: _Place, model_name: str | None, max_batch: int, max_queued: int
) -> None:
    from overproof.evaluate.serve import build_app
    from overproof.evaluate.student import Student

    loaded = Student.load(student)
    name = model_name or loaded.card.name
    app = build_app(
        loaded, model_name=name, api_key=place.key, max_batch=max_batch, max_queued=max_queued
    )
    labels = f"labels: {', '.join(loaded.labels)}; also POST /v1/classify"
    _run(app, place, (f"{name} answers", labels))


def _run(
    app: Starlette,
    place: _Place,
    lines: tuple[str, ...],
    started: AbstractAsyncContextManager[None] | None = None,
) -> None:
    from overproof.evaluate.serve_http import bind, run_server

    with bind(place.host, place.port) as listener:
        shown = f"[{place.host}]" if ":" in place.host else place.host
        address = f"http://{shown}:{listener.getsockname()[1]}/v1"

        def ready() -> None:
            typer.echo(f"{lines[0]} at {address}")
            typer.echo(f"  OpenAI clients: base_url={address}")
            for line in lines[1:]:
                typer.echo(f"  {line}")
            if place.host not in LOOPBACK and place.key is None:
                typer.echo("  open to the network without a key: consider --api-key-env", err=True)

        try:
            run_server(app, listener, started, ready)
        except KeyboardInterrupt:  # the usual way to stop a server
            typer.echo("stopped", err=True)


def _key(variable: str | None) -> str | None:
    from overproof.errors import SecretError

    name = _variable("--api-key-env", variable)
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise SecretError(name, "is not set in the environment", f"export {name}=…")
    return key


def _variable(flag: str, name: str | None) -> str | None:
    from overproof.config.keys import check_variable
    from overproof.errors import SecretError

    if name is not None:
        try:
            check_variable(name)
        except ValueError as error:
            raise SecretError(flag, str(error)) from None
    return name
