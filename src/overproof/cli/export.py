"""``overproof export``: a student in another format, proved against the original."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from overproof.records.lm_export import ExportReport

__all__ = ["export_command"]


class Format(StrEnum):
    """``records.lm_export.ExportFormat``, which would bring its library along."""

    GGUF_F16 = "gguf-f16"
    GGUF_Q8_0 = "gguf-q8_0"
    GGUF_Q4_0 = "gguf-q4_0"
    SAFETENSORS = "safetensors"


def export_command(
    student: Annotated[Path, typer.Argument(help="RUN/students/NAME, or a run with one student.")],
    *,
    to: Annotated[Format, typer.Option(help="GGUF for llama.cpp, safetensors for others.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The directory to write into.  [default: STUDENT/export]"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Export a student, and prove that the result answers as the student does."""
    from overproof.train.export.run import export_student

    def say(what: str) -> None:
        typer.echo(f"export: {what}", err=True)

    report = export_student(student, to.value, out, say=say)
    if json:
        typer.echo(report.model_dump_json(indent=2))
        return
    place = out or (student / "export")
    typer.echo(_summary(report, place))


def _summary(report: ExportReport, place: Path) -> str:
    lines = [
        f"{report.student} as {report.format} → {place / report.file} "
        f"({report.bytes / 1e6:,.1f} MB, {report.seconds:.0f} s)",
        _proof(report),
        *(f"note: {note}" for note in report.notes),
    ]
    return "\n".join(lines)


def _proof(report: ExportReport) -> str:
    from overproof.records.lm_export import GgufProof

    proof = report.proof
    if isinstance(proof, GgufProof):
        return (
            f"proved with {proof.engine}: the same tokens of {proof.texts} texts and "
            f"{proof.prompts} chats; the likeliest token agrees at {proof.agreement:.1%} of "
            f"{proof.positions} positions (at least {proof.least_agreement:.0%}), its log-prob is "
            f"off by {proof.mean_difference:.2g} nats on average (at most "
            f"{proof.most_difference:g}); {proof.same_answers:.0%} of greedy answers are the same"
        )
    return (
        f"proved with transformers: loaded again, logits differ by {proof.worst_logit:.2g} at "
        f"most over {proof.positions} positions, {proof.same_answers} of {proof.prompts} greedy "
        f"answers are the same"
    )
