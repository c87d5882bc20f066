"""Python's collector of cyclic garbage, called rarely while a replay remembers many accounts."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["rare_collections"]

YOUNG = 100_000
"""Objects made, less those let go of, between two collections of the youngest ones."""


@contextmanager
def rare_collections() -> Iterator[None]:
    """Collect cyclic garbage after ``YOUNG`` objects instead of Python's 700.

    What guard remembers has no cycles and stays; looking through it again and again takes a fifth
    of a replay. A program that has set a rarer pace, or none, keeps it.
    """
    before = gc.get_threshold()
    if 0 < before[0] < YOUNG:
        gc.set_threshold(YOUNG, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
