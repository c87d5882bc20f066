"""One community pass: communities are found, named, judged, and drawn where something was said."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from overproof.guard.communities import drawn, find_communities
from overproof.guard.identities import CommunityIds
from overproof.guard.signals.communities import community_vector
from overproof.records.traffic import TrafficVerdict

if TYPE_CHECKING:
    from overproof.config.guard import CommunityConfig
    from overproof.guard.accounts import Accounts
    from overproof.guard.judging import Judge
    from overproof.guard.recording import LookRecorder
    from overproof.guard.shared import SharedEvidence

__all__ = ["CommunityPass", "Passed"]


@dataclass(frozen=True)
class Passed:
    """What one pass came to.

    Attributes:
        verdicts: taken now.
        banned: indices of accounts that are blocked from now on.
        drawn: communities with a verdict, as plain values.
    """

    verdicts: list[TrafficVerdict]
    banned: tuple[int, ...]
    drawn: list[dict[str, Any]]


class CommunityPass:
    """Runs passes; their communities keep their names from one to the next.

    Args:
        config: what makes a community.
        judge: without one nothing is decided.
        recorder: told of every community.
        counts: of what is done, by name: communities; passes is read.

    Attributes:
        ids: names of communities; their memory belongs into a snapshot.
    """

    def __init__(
        self,
        config: CommunityConfig,
        judge: Judge | None,
        recorder: LookRecorder | None,
        counts: Counter[str],
    ) -> None:
        self.ids = CommunityIds()
        self._config, self._judge = config, judge
        self._recorder, self._counts = recorder, counts

    def run(self, shared: SharedEvidence, accounts: Accounts, at: float) -> Passed:
        """Look for communities as of ``at``, seconds since the epoch."""
        found = find_communities(shared, accounts, at, self._config)
        names = self.ids.match(found)
        vectors = [community_vector(community) for community in found]
        self._counts["communities"] += len(found)
        if self._recorder is not None:
            for name, community, vector in zip(names, found, vectors, strict=True):
                members = [member.account for member in community.members]
                self._recorder.community(name, members, self._counts["passes"], at, vector)
        if self._judge is None:
            return Passed([], (), [])
        judged = self._judge.communities(names, found, vectors, at)
        pairs = zip(names, found, strict=True)
        pictures = [drawn(name, one) for name, one in pairs if name in judged.reported]
        return Passed(judged.verdicts, judged.banned, pictures)
