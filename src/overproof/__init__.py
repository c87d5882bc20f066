"""overproof: distil language models, and prove how much survived.

The Python API is ``overproof.api``, re-exported here and loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from overproof import api as api

__all__ = ["__version__", "api"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    module = import_module("overproof.api")
    if name == "api":
        return module
    try:
        return getattr(module, name)
    except AttributeError:
        raise AttributeError(f"module 'overproof' has no attribute {name!r}") from None
