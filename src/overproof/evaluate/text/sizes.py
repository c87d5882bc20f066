"""How many parameters weights on disk have, read from the headers of their files."""

from __future__ import annotations

import json
import math
from pathlib import Path

from overproof.clients import registry
from overproof.clients.local_model import source_of

__all__ = ["parameters_at"]

LONGEST_HEADER = 100 * 2**20


def parameters_at(model: str) -> int | None:
    """Parameters of the safetensors files in a directory, tied ones counted once as they are kept.

    ``None`` where the weights are of another kind, or cannot be read: whoever runs them will say
    what is wrong with them.
    """
    pinned = registry.find(model)
    if pinned is not None and pinned.parameters:
        return pinned.parameters
    place = Path(source_of(model).place)
    files = sorted(place.glob("*.safetensors")) if place.is_dir() else []
    try:
        return sum(map(_parameters_in, files)) if files else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _parameters_in(path: Path) -> int:
    """The layout is that of the safetensors format: 8 bytes of length, then a JSON header."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > LONGEST_HEADER:
            raise ValueError("no safetensors file")
        header = json.loads(stream.read(length))
    return sum(math.prod(t["shape"]) for name, t in header.items() if name != "__metadata__")
