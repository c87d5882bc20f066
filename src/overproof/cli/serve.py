"""``overproof serve``: a student behind an OpenAI-compatible address."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["serve_command"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve_command(
    student: Annotated[Path, typer.Argument(help="A student directory, or a run directory.")],
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 8000,
    api_key_env: Annotated[
        str | None,
        typer.Option(help="Environment variable with the key that requests must carry."),
    ] = None,
    model_name: Annotated[
        str | None, typer.Option(help="Name to answer under.  [default: the student's]")
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, max=4096, help="Texts a batch.")] = 64,
    max_queued: Annotated[
        int, typer.Option(min=1, help="Texts that may wait before requests are refused.")
    ] = 4096,
) -> None:
    """Answer chat completions with labels: swap only the base URL."""
    from overproof.config.keys import check_variable
    from overproof.errors import SecretError
    from overproof.evaluate.serve import bind, build_app, run_server
    from overproof.evaluate.student import Student

    api_key = None
    if api_key_env is not None:
        try:
            check_variable(api_key_env)
        except ValueError as error:
            raise SecretError("--api-key-env", str(error)) from None
        api_key = os.environ.get(api_key_env, "").strip()
        if not api_key:
            raise SecretError(
                api_key_env, "is not set in the environment", f"export {api_key_env}=…"
            )
    loaded = Student.load(student)
    name = model_name or loaded.card.name
    app = build_app(
        loaded, model_name=name, api_key=api_key, max_batch=max_batch, max_queued=max_queued
    )
    with bind(host, port) as listener:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listener.getsockname()[1]}"
        typer.echo(f"{name} answers at {address}/v1 (labels: {', '.join(loaded.labels)})")
        typer.echo(f"  OpenAI clients: base_url={address}/v1 · also POST {address}/v1/classify")
        if host not in LOOPBACK and api_key is None:
            typer.echo("  open to the network without a key: consider --api-key-env", err=True)
        try:
            run_server(app, listener)
        except KeyboardInterrupt:  # the usual way to stop a server
            typer.echo("stopped", err=True)
