"""An account's move to a model that is new to it."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["NAME", "Move", "Pivot", "stronger"]

WINDOW_S = 86400.0  # as published: half of the traffic within 24 hours
PAST = 10
REQUESTS = 5
NAME = 64  # characters of a name that are kept


class Move(NamedTuple):
    """A move to a new model.

    Attributes:
        before: requests before its first use.
        after: requests in the 24 h from its first use.
        moved: how many of those went to it.
    """

    before: int
    after: int
    moved: int

    @property
    def weight(self) -> float:
        """How much it says, 0 to 1: the share that moved, shrunk for a short past or few."""
        return self.before / (self.before + PAST) * self.moved / (self.after + REQUESTS)


def stronger(one: Move | None, other: Move) -> Move:
    """The one that says more."""
    return one if one is not None and one.weight >= other.weight else other


class Pivot:
    """The latest model that is new to the account, and its first 24 hours."""

    __slots__ = ("after", "before", "first", "model", "moved")

    def __init__(
        self, model: str, first: float, before: int, after: int = 0, moved: int = 0
    ) -> None:
        self.model = model
        self.first = first
        self.before = before
        self.after = after
        self.moved = moved

    @property
    def move(self) -> Move:
        """As it stands."""
        return Move(self.before, self.after, self.moved)

    def follow(self, model: str, ts: float) -> None:
        """One more request, of whatever model."""
        if ts - self.first <= WINDOW_S:
            self.after += 1
            if model[:NAME] == self.model:
                self.moved += 1

    def state(self) -> list[Any]:
        """The constructor's arguments."""
        return [self.model, self.first, self.before, self.after, self.moved]
