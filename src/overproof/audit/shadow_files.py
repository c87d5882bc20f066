"""Shadow students on disk: what each was trained on, and the effect measured on it.

JSON Lines, one student a line: ``{"recipe": "…", "dose_percent": 5, "seed": 0, "effect": 0.012}``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from overproof.audit.dose import ShadowStudent
from overproof.errors import DataError
from overproof.records.log_lines import json_rows

__all__ = ["read_shadows"]

FORM = 'one student a line: {"recipe": "…", "dose_percent": 5, "seed": 0, "effect": 0.012}'


def read_shadows(path: Path) -> list[ShadowStudent]:
    """Shadow students, in the file's order.

    Raises:
        DataError: FILE:LINE of a line that is none, or the file cannot be read or holds none.
    """
    found: list[ShadowStudent] = []
    for where, row, reason in json_rows(path, "utf-8"):
        if row is None:
            raise DataError(where, reason, FORM)
        recipe, seed = row.get("recipe"), row.get("seed")
        dose, effect = _number(row.get("dose_percent")), _number(row.get("effect"))
        if not isinstance(recipe, str) or not recipe:
            raise DataError(where, "does not name its recipe", FORM)
        if type(seed) is not int:
            raise DataError(where, "has no seed that is a whole number", FORM)
        if dose is None or not 0 <= dose <= 100:
            raise DataError(where, "has no dose_percent between 0 and 100", FORM)
        if effect is None:
            raise DataError(where, "has no effect that is a number", FORM)
        found.append(ShadowStudent(recipe, dose, seed, effect))
    if not found:
        raise DataError(str(path), "holds no shadow student", FORM)
    return found


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
