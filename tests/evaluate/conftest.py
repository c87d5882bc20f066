"""The tiny student of ``bench/tiny_student.py`` as fixtures."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from overproof.evaluate.student import Student


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The module that builds tiny students."""
    path = Path(__file__).parents[2] / "bench" / "tiny_student.py"
    spec = importlib.util.spec_from_file_location("tiny_student", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def build_student(tiny: ModuleType) -> Callable[..., Path]:
    """Builds a tiny student in the directory given."""
    builder: Callable[..., Path] = tiny.build_tiny_student
    return builder


@pytest.fixture(scope="session")
def student_dir(
    tmp_path_factory: pytest.TempPathFactory, build_student: Callable[..., Path]
) -> Path:
    """A finished tiny student; tests must not change it."""
    return build_student(tmp_path_factory.mktemp("student") / "tiny")


@pytest.fixture(scope="session")
def student(student_dir: Path) -> Student:
    """The tiny student, loaded."""
    return Student.load(student_dir, threads=1)
