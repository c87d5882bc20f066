"""Writing and reading recipes."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from overproof.errors import ConfigError

if TYPE_CHECKING:
    from overproof.config.load import LoadedRecipe, LoadedTextRecipe

__all__ = ["init", "load", "load_any"]


def init(directory: Path, task: str = "label") -> Path:
    """Write a commented starter recipe into ``directory`` and return its path.

    Args:
        directory: made where it is missing.
        task: ``label`` or ``text``.

    Raises:
        ConfigError: there is a recipe already; it is never overwritten.
    """
    target = directory / "recipe.toml"
    if target.exists():
        raise ConfigError(str(target), "exists already", "edit it, or name another directory")
    starters = {"label": "starter.toml", "text": "starter_text.toml"}
    if task not in starters:
        raise ConfigError(f"task {task!r}", "is none", f"choose {' or '.join(starters)}")
    text = resources.files("overproof.config").joinpath(starters[task]).read_text()
    directory.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return target


def load(path: str | Path) -> LoadedRecipe:
    """Read and check the recipe of a label task.

    A ``data.file`` of the form ``registry:NAME`` is a data set that ``overproof models pull``
    fetched.

    Raises:
        ConfigError: it is no recipe, or one of a text task.
    """
    from overproof.config.load import LoadedTextRecipe

    loaded = load_any(path)
    if isinstance(loaded, LoadedTextRecipe):
        raise ConfigError(
            str(loaded.path),
            "is the recipe of a text task (task.kind = 'text')",
            "use `load_any`, and the functions whose names end in `_text`",
        )
    return loaded


def load_any(path: str | Path) -> LoadedRecipe | LoadedTextRecipe:
    """Read and check a recipe of either kind; see ``overproof.config.load``."""
    from overproof.config.load import load_any as read

    loaded = read(Path(path))
    scheme, _, name = (loaded.recipe.data.file or "").partition(":")
    if scheme == "registry":
        from overproof.clients.registry import resolve

        loaded.input_file = resolve(name)
    return loaded
