"""Reading guard.toml: TOML in, a checked ``GuardConfig`` out, mistakes named with their line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from pydantic import ValidationError

from overproof.config.guard import GuardConfig
from overproof.config.mistakes import explain
from overproof.errors import ConfigError

__all__ = ["load_guard_config"]


def load_guard_config(path: Path | None) -> GuardConfig:
    """The settings in ``path``; the vetted ones where no file is named.

    Raises:
        ConfigError: the file is missing, not TOML, or holds what guard does not know; FILE:LINE
            is the culprit.
    """
    if path is None:
        return GuardConfig()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(str(path), "no such file", "name a guard.toml, or leave it out") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"cannot be read: {error}") from error
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+)", str(error))
        where = f"{path}:{found[1]}" if found else str(path)
        raise ConfigError(where, f"is not TOML: {error}") from error
    try:
        return GuardConfig.model_validate(raw)
    except ValidationError as error:
        mistake = explain(error, GuardConfig, text, str(path))
    # Raised out here: the library's error holds the file's values.
    raise mistake
