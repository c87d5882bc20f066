"""What is known about drift, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from overproof.records.drift import DriftReport, VersionSeen
from overproof.records.exchange import Completion

__all__ = ["VersionChanges", "statements_of", "version_changes"]


@dataclass(frozen=True)
class VersionChanges:
    """``replaced`` tells that a version gave way to another; ``words`` say which and when."""

    replaced: bool
    words: tuple[str, ...]


def version_changes(versions: Sequence[VersionSeen]) -> VersionChanges:
    """Facts about the versions that answered: no statistics are needed for these.

    Another model's name is a change. Another fingerprint is one where the first never came back;
    where they take turns, several machines answer.
    """
    words, replaced = [], False
    for (teacher, asked), group in groupby(
        sorted(versions, key=lambda v: (v.teacher, v.asked, v.first)),
        key=lambda v: (v.teacher, v.asked),
    ):
        seen = list(group)
        names = {version.model for version in seen if version.model is not None}
        prints = [version for version in seen if version.fingerprint is not None]
        if len(names) < 2 and len({version.fingerprint for version in prints}) < 2:
            continue
        told = ", ".join(f"{v.name}: {v.answers} answers from {v.first} to {v.last}" for v in seen)
        in_turn = all(one.last <= other.first for one, other in pairwise(prints))
        if len(names) > 1:
            what = "was answered under several names"
        elif in_turn:
            what = "changed its fingerprint"
        else:
            what = "was answered under several fingerprints by turns, so by several machines"
        replaced = replaced or len(names) > 1 or in_turn
        words.append(f"{teacher}, asked for {asked}, {what}: {told}.")
    return VersionChanges(replaced, tuple(words))


def statements_of(
    report: DriftReport, answers: Sequence[dict[int, Completion]], stopped: str | None
) -> tuple[str, ...]:
    """What the canaries say, and what they cannot.

    Args:
        report: the figures.
        answers: by canary, its answers by round; rounds 0 and 1 are the baseline.
        stopped: why asking them ended early.
    """
    words = []
    if stopped is not None:
        words.append(f"Asking the canaries ended early ({stopped}).")
    if not report.canaries:
        words.append(
            "No canary was asked, so whether the answers changed during the run is unknown."
        )
        return tuple(words)
    words.append(
        f"{report.canaries} canaries were asked twice at the start and in {report.rounds} "
        "rounds afterwards."
    )
    if report.p_value is None or report.smallest_p is None:
        words.append("That is too little to tell whether the teacher changed.")
        return tuple(words)
    both = [each for each in answers if {0, 1} <= each.keys()]
    unsteady = sum(_differ(each[0], each[1]) for each in both)
    last = [each for each in answers if each.keys() and max(each) > 1 and 0 in each]
    moved = sum(_differ(each[0], each[max(each)]) for each in last)
    words.append(
        f"Asked twice at once, {unsteady} of {len(both)} were answered differently; in their last "
        f"round {moved} of {len(last)} differ from the first answer."
    )
    if report.p_value <= report.alpha:
        verdict = "The answers changed over the run"
    elif report.smallest_p > report.alpha:
        verdict = (
            "Too little to tell whether the answers changed: so few can at best give "
            f"p = {report.smallest_p:.2g}"
        )
    else:
        verdict = "No change in the answers was found, which is no proof that there was none"
    words.append(
        f"{verdict} (permutation test in time, p = {report.p_value:.2g}; a change is called at "
        f"{report.alpha:g}, so in about {report.alpha:.0%} of runs without one; it assumes that "
        "one answer's scatter does not depend on another's)."
    )
    return tuple(words)


def _differ(one: Completion, other: Completion) -> bool:
    return (one.text, one.tool_calls) != (other.text, other.tool_calls)
