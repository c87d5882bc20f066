"""The house: the exception tree, the public surface, sizes, and words that do not belong."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import overproof
from overproof import errors

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
OTHERS = sorted(path for room in ("bench", "docs", "tests") for path in (ROOT / room).rglob("*.py"))


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

    assert api.__all__ == [
        "certify",
        "certify_text",
        "check_bases",
        "check_students",
        "collect",
        "collect_shard",
        "collect_text",
        "distill",
        "distill_text",
        "export",
        "guard_appeal",
        "guard_calibrate",
        "guard_fingerprint",
        "guard_replay",
        "guard_report",
        "guard_score",
        "init",
        "load",
        "load_any",
        "open_guard",
        "plan",
        "plan_text",
        "sign_exemption",
        "simulate_traffic",
        "train",
        "train_text",
    ]
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


@pytest.mark.parametrize("path", OTHERS, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_beside_the_sources_stay_small(path: Path) -> None:
    assert path.read_text().count("\n") <= 400


EXTRAS = ("train", "local", "tasks", "embedded", "guard", "audit")


def imported_by(paths: list[Path]) -> dict[str, str]:
    """Top-level modules that are neither Python's own nor the repository's, with one importer."""
    scripts = [*OTHERS, *(ROOT / "studies").glob("*.py")]
    own = {"overproof", *(name for path in scripts for name in (path.stem, path.parent.name))}
    found = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            else:
                continue
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top not in own:
                    found[top] = str(path.relative_to(ROOT))
    return found


def declared(*extras: str) -> set[str]:
    """Names of the distributions that the package needs, as their modules are called."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    needs = [*project["dependencies"], *(need for extra in extras for need in optional[extra])]
    names = (re.match(r"[\w\-.]+", need) for need in needs)
    return {name[0].lower().replace("-", "_") for name in names if name}


def test_every_third_party_import_is_declared() -> None:
    shipped = imported_by(SOURCES)
    assert {"aiohttp", "markupsafe", "torch"} <= shipped.keys()
    assert shipped.keys() <= declared(*EXTRAS), shipped
    others = imported_by(OTHERS)
    assert {"datasketch", "hypothesis", "pytest"} <= others.keys()
    assert others.keys() <= declared(*EXTRAS, "dev"), others


def test_the_base_does_without_the_extras() -> None:
    """Outside the rooms that an extra is for, nothing needs it but by a named import."""
    extras = declared(*EXTRAS) - declared()
    rooms = {"train", "guard", "proving"}
    # The first two stand behind `api.need_guard`, the others name the extra themselves.
    files = {"traffic.py", "guard.py", "generate.py", "audit_ed25519.py"}
    base = [path for path in SOURCES if path.parent.name != "clients"
            and not rooms & set(path.parts) and path.name not in files]  # fmt: skip
    assert not extras & imported_by(base).keys()


@pytest.mark.parametrize(("code", "ends"), [(0, 0), (1, 0), (2, 2), (3, 2), (130, 2)])
def test_the_demo_takes_no_for_an_answer(code: int, ends: int, tmp_path: Path) -> None:
    """``distill`` ends with 1 where the student is not certified; make itself fails with 2."""
    stub = tmp_path / "overproof"
    stub.write_text(f'#!/bin/sh\nif [ "$1" = distill ]; then exit {code}; fi\n')
    stub.chmod(0o755)
    command = ["make", "--old-file=.venv/.installed", "demo", f"BIN={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == ends, done.stderr


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
