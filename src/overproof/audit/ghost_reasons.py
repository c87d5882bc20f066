"""Why a ghost log is refused, what is to be said beside a finding, and what it was held against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from overproof.audit.commitments import CommitmentCheck, Integrity
from overproof.audit.ghost_checks import Check
from overproof.audit.ghost_scores import Scored
from overproof.audit.served import Pooling

__all__ = [
    "MOST_LEFT_OUT",
    "commitment_details",
    "commitment_words",
    "log_refusals",
    "refusals_of",
    "warnings_of",
]

MOST_LEFT_OUT = 0.05
"""The share of a log that may be left out by what can be written into it after its commitment."""
PUBLISHED, OWN = "the published root", "its own manifest alone"


def commitment_details(check: CommitmentCheck | None) -> dict[str, Any]:
    """What the log and its served indices were held against, in plain values."""
    if check is None or check.root is None:
        return {}
    found = {"root": check.root, "held_against": PUBLISHED if check.root_published else OWN}
    if check.index_root is not None:
        against = PUBLISHED if check.index_root_published else OWN
        found |= {"index_root": check.index_root, "indices_held_against": against}
    return {"commitment": found | {"integrity": check.integrity.value}}


def commitment_words(check: CommitmentCheck | None) -> list[str]:
    """One line, no warning, with what was published and agrees."""
    if check is None or not check.root_published:
        return []
    words = f"for the record: the log is the one of the published root {check.root}"
    if check.index_root_published:
        words += f", its served indices those of the published root {check.index_root}"
    return [words]


def _root_warnings(check: CommitmentCheck) -> list[str]:
    found = []
    if check.root is not None and not check.root_published:
        found.append(
            "the log was held against its own manifest alone (a commitment without --root): "
            "anybody can commit again to an edited log. Give the root as it was published"
        )
    if check.index_root is not None and not check.index_root_published:
        found.append(
            "the served indices were held against their own manifest alone (no --index-root): "
            "anybody can commit again to other indices. Give the root as it was published"
        )
    if not check.covers_marks:
        found.append(
            "the commitment is of an older form, which does not cover cached, retries, lengths, "
            "reasons of ending and the teacher's log-probs: whoever keeps the log may have changed "
            "them since"
        )
    return found


def log_refusals(
    pooling: Pooling, checks: Sequence[Check], commitment: CommitmentCheck | None
) -> list[str]:
    """Why a log cannot be tested, as far as it can be said without a look at the suspect.

    Args:
        pooling: pools of served answers and ghosts.
        checks: of `ghost_checks.check_pools`.
        commitment: the log held against its Merkle root.
    """
    found = []
    if commitment is not None and commitment.integrity is Integrity.ALTERED:
        name = f" (first: {commitment.first_altered})" if commitment.first_altered else ""
        found.append(f"the log is not what was committed: {commitment.reason}{name}")
    if pooling.retried:
        found.append(
            f"{pooling.retried} served answer(s) were drawn anew before they went out: they are "
            "not drawn like their ghosts. Ghosts must go through the same retries, or none"
        )
    if pooling.cancelled:
        found.append(
            f"{pooling.cancelled} answer(s) end in a cancellation: what was served was selected"
        )
    for check in checks:
        if check.failed:
            side = "above" if check.direction > 0 else "below"
            found.append(
                f"served answers and ghosts were not drawn alike: {check.name} of served ones lies "
                f"{side} (exact p = {check.p:.2g}, level {check.level:.2g}): {check.words}"
            )
    if not pooling.pools:
        found.append("no prompt is left to test")
    return found


def refusals_of(
    pooling: Pooling,
    checks: Sequence[Check],
    commitment: CommitmentCheck | None,
    scored: Scored,
    suspect: str,
) -> list[str]:
    """Why a log with its log-probs cannot be tested."""
    found = log_refusals(pooling, checks, commitment)
    if pooling.pools and not scored.pools:
        found.append(
            f"no prompt has the log-probs of {suspect!r} for its served answer and all its ghosts"
        )
    elif len(scored.lost) > MOST_LEFT_OUT * len(pooling.pools):
        found.append(
            f"{len(scored.lost)} of {len(pooling.pools)} prompts lack log-probs of an answer; more "
            f"than {MOST_LEFT_OUT:.0%} may not: whoever chooses which are missing chooses the "
            "result. Score every answer"
        )
    return found


def warnings_of(
    pooling: Pooling,
    scored: Scored,
    commitment: CommitmentCheck | None,
    checks: Sequence[Check],
) -> list[str]:
    """What a reader must know of a log that can be tested."""
    found = []
    if commitment is None:
        found.append("no commitment was checked: that the log is as it was rests on its keeper")
    elif not commitment.indices_committed:
        found.append("no commitment of the served indices from before generation was checked")
    elif commitment.unused_slots:
        found.append(f"{commitment.unused_slots} committed slot(s) are not in the log: ask why")
    if commitment is not None:
        found += _root_warnings(commitment)
    if (commitment is None or not commitment.covers_marks) and (
        pooling.cached > MOST_LEFT_OUT * pooling.requests
    ):
        found.append(
            f"{pooling.cached} of {pooling.requests} requests were left out because the log calls "
            "them cached, and no commitment shows that it did so before the suspect was asked: "
            "by such marks whoever keeps the log can bring about any p-value. Do not rely on this "
            "one without a committed log"
        )
    if "the teacher's log-prob a token" not in {check.name for check in checks}:
        found.append(
            "the log has no log-probs of the teacher: a shift in its likelihood, such as ghosts of "
            "another temperature, was not checked for"
        )
    if pooling.cached or pooling.duplicates:
        found.append(
            f"{pooling.cached + pooling.duplicates} request(s) left out as cached or repeated"
        )
    if scored.lost:
        found.append(
            f"{len(scored.lost)} prompt(s) without log-probs of an answer were counted as if the "
            "served answer ranked lowest"
        )
    sizes = {pool.ghosts for pool in scored.pools}
    if len(sizes) > 1:
        found.append(
            f"the number of ghosts varies from {min(sizes)} to {max(sizes)}: valid as long as it "
            "does not depend on what was served"
        )
    return found
