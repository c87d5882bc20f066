"""The house: the exception tree, the public surface, sizes, and words that do not belong."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
from pathlib import Path

import pytest

import overproof
from overproof import errors

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def test_the_exception_tree_in_the_docstring_is_complete() -> None:
    drawn = re.findall(r"(\w+Error)\b", errors.__doc__ or "")
    defined = {name for name, value in vars(errors).items()
               if inspect.isclass(value) and issubclass(value, Exception)}  # fmt: skip
    assert sorted(drawn) == sorted(defined) == sorted(errors.__all__)
    assert all(issubclass(getattr(errors, name), errors.OverproofError) for name in defined)


def test_an_error_says_culprit_reason_and_way_out() -> None:
    error = errors.DataError("file.csv:3", "is empty", "fill it")
    assert str(error) == "file.csv:3: is empty\n  → fill it"
    assert str(errors.MissingExtraError("torch", "train")).endswith(
        "pip install 'overproof[train]'"
    )


def test_the_public_surface() -> None:
    from overproof import api

    assert api.__all__ == ["certify", "collect", "distill", "init", "load", "plan", "train"]
    assert overproof.distill is api.distill
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = overproof.nonsense


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            said = ast.get_docstring(node, clean=False) or ""
            length = (node.end_lineno or node.lineno) - node.lineno - said.count("\n")
            assert length <= 60, f"{node.name}: {length} lines"


def test_no_machine_paths_in_the_repository() -> None:
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    names = [name for name in files.stdout.decode().split("\0") if name]
    private = re.compile(r"/(?:home|root|Users|work)/\w+")
    for name in names:
        path = ROOT / name
        if path.suffix in (".png", ".ico") or not path.exists() or name == "tests/test_house.py":
            continue
        assert not private.search(path.read_text(errors="ignore")), name


def test_the_generated_docs_are_fresh() -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("build_docs", ROOT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    for name, text in build.pages().items():
        assert (ROOT / "docs" / name).read_text() == text, f"docs/{name}: run `make docs`"
