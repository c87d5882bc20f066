"""``overproof distill`` and its steps for a text task."""

from __future__ import annotations

import json as json_module
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from overproof import api
from overproof.cli.collect_text import print_collected
from overproof.cli.progress import Display
from overproof.errors import ConfigError

if TYPE_CHECKING:
    from overproof.config.load import LoadedTextRecipe
    from overproof.records.lm_student import LmStudentCard
    from overproof.records.text_certificate import TextCertificate

__all__ = ["distill_text_command"]


def distill_text_command(loaded: LoadedTextRecipe, json: bool, steps: Sequence[str]) -> None:
    """Run the steps in order; the exit code is the certificate's where there is one."""
    if "RANK" in os.environ and tuple(steps) != ("train",):
        raise ConfigError(
            "torchrun",
            f"starts several processes, and `{steps[-1]}` is done by one",
            "train with torchrun, then run this command without it",
        )
    # Of several processes that train together, one speaks.
    silent = os.environ.get("RANK", "0") != "0"
    result: dict[str, object] = {"run": str(loaded.run_dir)}
    with Display(quiet=silent) as display:
        certificate = _run(loaded, steps, display, result, quiet=json or silent)
    if json and not silent:
        typer.echo(json_module.dumps(result, indent=2, ensure_ascii=False))
    elif certificate is not None:
        _print_certificate(certificate, loaded)
    if certificate is not None and certificate.verdict != "certified":
        raise typer.Exit(1)


def _run(
    loaded: LoadedTextRecipe,
    steps: Sequence[str],
    display: Display,
    result: dict[str, object],
    *,
    quiet: bool,
) -> TextCertificate | None:
    """Run the steps; ``result`` takes what each has to show."""
    frozen = (loaded.run_dir / "dataset" / "manifest.json").exists()
    if "train" in steps and ("collect" in steps or frozen) and "RANK" not in os.environ:
        api.check_students(loaded, display.say)
    if "collect" in steps:
        manifest = api.collect_text(loaded, display.collecting)
        if manifest is not None:
            result["dataset"] = manifest.model_dump(mode="json")
            if not quiet:
                print_collected(manifest, display.console)
    if "train" in steps:
        cards = api.train_text(loaded, display.training, display.say)
        result["students"] = {name: card.model_dump(mode="json") for name, card in cards.items()}
        for name, card in cards.items():
            display.say(f"student {name}: {_told(card)}")
    if "certify" not in steps:
        return None
    certificate = api.certify_text(loaded, display.say)
    result["certificate"] = certificate.model_dump(mode="json")
    return certificate


def _print_certificate(certificate: TextCertificate, loaded: LoadedTextRecipe) -> None:
    from overproof.report.text_terminal import render_text_terminal

    console = Console()
    if not console.is_terminal:  # a pipe has no width to keep to
        console = Console(width=100)
    render_text_terminal(certificate, console)
    typer.echo(f"certificate  {loaded.run_dir / 'certificate.json'}")
    typer.echo(f"model card   {loaded.run_dir / 'model-card.md'}")
    typer.echo(f"report       {loaded.run_dir / 'report.html'}")


def _told(card: LmStudentCard) -> str:
    """One line on a finished student."""
    size = f"{card.parameters / 1e6:.1f} M parameters"
    if card.trainable < card.parameters:
        size += f" ({card.trainable / 1e6:.1f} M trained)"
    parts = [card.method, size, f"{card.answer_tokens:,} answer tokens in {card.steps:,} steps"]
    if card.tune_loss is not None and card.base_tune_loss is not None:
        parts.append(
            f"loss on the tune split {card.base_tune_loss:.3f} → {card.tune_loss:.3f} nats a token"
        )
    return ", ".join([*parts, f"{card.train_seconds:.0f} s"])
