"""The pace of Python's collector is changed for a while, and put back."""

from __future__ import annotations

import contextlib
import gc

from overproof.collect.garbage import YOUNG, rare_collections


def test_the_pace_is_rarer_inside_and_as_before_afterwards() -> None:
    before = gc.get_threshold()
    try:
        gc.set_threshold(700, 10, 10)
        with contextlib.suppress(KeyError), rare_collections():
            assert gc.get_threshold() == (YOUNG, 10, 10)
            raise KeyError
        assert gc.get_threshold() == (700, 10, 10)
        for chosen in (0, 10 * YOUNG):  # a program that knows better keeps its own
            gc.set_threshold(chosen)
            with rare_collections():
                assert gc.get_threshold()[0] == chosen
    finally:
        gc.set_threshold(*before)
