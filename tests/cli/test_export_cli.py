"""``overproof export``: parse, export, print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from tiny_exports import saved, tiny_student
from typer.testing import CliRunner

from overproof.cli.export import export_command
from overproof.errors import StudentError


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    made.command("export")(export_command)
    return made


def test_export_prints_its_proof(app: typer.Typer, tmp_path: Path) -> None:
    directory = saved(tiny_student(), tmp_path / "s")
    done = CliRunner().invoke(app, [str(directory), "--to", "safetensors"])
    assert done.exit_code == 0, done.output
    assert "proved with transformers" in done.stdout
    assert "logits differ by 0 at most" in done.stdout
    out = str(tmp_path / "out")
    done = CliRunner().invoke(app, [str(directory), "--to", "safetensors", "--out", out, "--json"])
    told = json.loads(done.stdout)
    assert told["format"] == "safetensors"
    assert told["proof"]["worst_logit"] == 0.0


def test_export_refuses_what_is_no_student_and_no_format(app: typer.Typer, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [str(tmp_path), "--to", "safetensors"])
    assert isinstance(done.exception, StudentError)
    assert CliRunner().invoke(app, [str(tmp_path), "--to", "onnx"]).exit_code == 2
