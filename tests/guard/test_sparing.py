"""Who was spared is remembered, of each kind for itself, and not without end."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from guard_logs import BusyJudge, rows, write_log

from overproof.config.guard import GuardConfig
from overproof.guard.exemptions import Exemptions, sign
from overproof.guard.replay import replay
from overproof.guard.sparing import INCONSPICUOUS, Sparings
from overproof.records.traffic import Action

KEY = b"7d1c90b24ea6f3585b07e9d4c2a81f36"


class Account:
    """What the ladder knows of one."""

    def __init__(self, index: int, org: str | None = None) -> None:
        self.index, self.account, self.org = index, f"k{index}", org
        self.declared_use, self.tokens_out, self.first_seen = None, 0, 0.0
        self.known_since = 0.0


def sparings(most: int) -> Sparings:
    entry = {"org": "acme", "use": "evaluation", "until": "2030-01-01", "signed_by": "Ada"}
    return Sparings(Exemptions([sign(entry, KEY)], KEY), None, most)


def test_the_newest_of_each_kind_are_kept_and_the_others_counted() -> None:
    spares = sparings(most=10)
    spares.sort_out([Account(0, "acme")], Action.SOFTEN, 0.0, ())
    for place in range(1, 26):
        spares.sort_out([Account(place)], Action.SOFTEN, float(place), {place})
        spares.sort_out([Account(place)], Action.SOFTEN, float(place), {place})
    assert [one.account for one in spares.told] == ["k0", *(f"k{n}" for n in range(16, 26))]
    assert spares.dropped == {"own conduct": 15}
    twin = sparings(most=10)
    twin.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(spares.state())))
    for one in (spares, twin):
        one.sort_out([Account(30)], Action.SOFTEN, 30.0, {30})
    assert (twin.told, twin.dropped) == (spares.told, spares.dropped)


def test_a_replay_keeps_the_first_of_each_reason_and_counts_all(tmp_path: Any) -> None:
    class Sparing(BusyJudge):
        def spared(self) -> list[dict[str, Any]]:
            quiet = [{"at": n, "account": f"q{n}", "action": "soften", "reason": INCONSPICUOUS}
                     for n in range(1_500)]  # fmt: skip
            return [*quiet, {"at": 9e3, "account": "k", "action": "soften", "reason": "evaluation"}]

    log = write_log(tmp_path / "log.jsonl", rows(count=50))
    report = replay(log, tmp_path / "v.jsonl", GuardConfig(), judge=Sparing())  # type: ignore[arg-type]
    assert len(report.spared) == 1_001
    assert report.spared[-1]["account"] == "k"
    assert report.spared_in_all == {INCONSPICUOUS: 1_500}


@pytest.mark.parametrize("action", [Action.LOG, Action.WATCH])
def test_nobody_is_spared_what_has_no_consequence(action: Action) -> None:
    spares = sparings(most=10)
    assert spares.sort_out([Account(1)], action, 0.0, {1})[1] == {}
    assert spares.told == []
