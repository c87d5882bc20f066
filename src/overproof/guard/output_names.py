"""Where a replay may write: over no input, over no other output, and where writing is allowed.

Asked before anything runs, because a replay takes hours and its last file is written at its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile

from overproof.errors import ConfigError
from overproof.guard.reading import ENDINGS, log_files

__all__ = ["check_outputs", "refuse_overwriting"]


def check_outputs(events: Path, outputs: Sequence[Path]) -> None:
    """Refuse names that a replay of ``events`` must not, or cannot, write.

    Raises:
        DataError: there is no such log.
        ConfigError: an output is a file of the log, or would be read as one; is another output; is
            a directory; or lies where no file can be made. Its folder is made, and left empty.
    """
    home = events.resolve()
    refuse_overwriting(outputs, log_files(events), "is a file of the log itself")
    for path in outputs:
        inside = events.is_dir() and path.resolve().is_relative_to(home)
        if inside and path.name.lower().endswith(ENDINGS):
            raise ConfigError(
                str(path),
                "is in the directory of the log, and would be read as part of it",
                "write somewhere else",
            )
    for folder in dict.fromkeys(path.parent for path in outputs):
        _try(folder)


def refuse_overwriting(
    outputs: Sequence[Path], inputs: Sequence[Path], reason: str = "is read as well as written"
) -> None:
    """Refuse an output that is an input, another output, or a directory.

    Raises:
        ConfigError: one is; nothing was written.
    """
    read = {file.resolve() for file in inputs}
    written: set[Path] = set()
    for path in outputs:
        name = path.resolve()
        if name in read:
            raise ConfigError(str(path), reason, "write somewhere else")
        if name in written:
            raise ConfigError(str(path), "is the name of two outputs", "name another file")
        if path.is_dir():
            raise ConfigError(str(path), "is a directory", "name a file")
        written.add(name)


def _try(folder: Path) -> None:
    """Make a file there that is gone again at once."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            str(folder),
            f"no file can be written there: {error.strerror or error}",
            "name a folder that lets you write; nothing was replayed",
        ) from error
