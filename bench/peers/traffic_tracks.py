"""What a detector of single accounts says over time, and verdicts at any threshold of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from overproof.records.traffic import Action, Event, Evidence, Subject, TrafficVerdict, Truth


@dataclass
class Tracks:
    """Every account's highest score so far, each time it rose: (event time, score)."""

    name: str
    risen: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def note(self, account: str, at: float, score: float) -> None:
        risen = self.risen.setdefault(account, [])
        if score > (risen[-1][1] if risen else 0.0):
            risen.append((at, score))

    def verdicts(self, threshold: float) -> list[TrafficVerdict]:
        """``soften`` at the first score that reaches the threshold."""
        found = []
        for account, risen in self.risen.items():
            for at, score in risen:
                if score >= threshold:
                    found.append(TrafficVerdict(
                        Subject("account", account, (account,)), at, Action.SOFTEN, None, None, 0,
                        (Evidence(self.name, "peer", f"score {score:.4g}"),), 0,
                    ))  # fmt: skip
                    break
        return sorted(found, key=lambda verdict: (verdict.decided_at, verdict.subject.id))

    def highest(self, account: str) -> float:
        risen = self.risen.get(account)
        return risen[-1][1] if risen else 0.0


def threshold_at(
    runs: Iterable[tuple[Tracks, Mapping[str, Truth], Mapping[str, int]]], rate: float
) -> float:
    """The lowest threshold that at most a share ``rate`` of honest accounts reaches.

    Args:
        runs: of calibration seeds: tracks, truth, and requests of every account.
        rate: of false positives. Where too many honest accounts share the highest score there
            is, the threshold lies above it, and nobody is accused.
    """
    return threshold_over(
        (
            tracks.highest(account)
            for tracks, truth, requests in runs
            for account, told in truth.items()
            if told.campaign is None and account in requests
        ),
        rate,
    )


def threshold_over(scores: Iterable[float], rate: float) -> float:
    """The lowest threshold that at most a share ``rate`` of scores reaches."""
    ordered = np.sort(np.array(list(scores), dtype=np.float64))
    if len(ordered) == 0:
        return float("inf")
    least = ordered[len(ordered) - 1 - int(rate * len(ordered))]  # must lie below the threshold
    return float(np.nextafter(least, np.inf))


def turn_text(event: Event) -> str:
    """The last user turn, "" where the provider keeps no text."""
    for message in reversed(event.messages or ()):
        if message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content
            if isinstance(content, list):
                return " ".join(
                    part["text"]
                    for part in content
                    if isinstance(part, dict) and isinstance(part.get("text"), str)
                )
    return ""
