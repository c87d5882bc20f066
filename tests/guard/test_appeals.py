from __future__ import annotations

import msgspec
import pytest

from overproof.errors import ConfigError
from overproof.guard.appeals import AppealOutcome, Appeals
from overproof.records.traffic import Action

KEY = b"sixteen bytes and more"
DAY_S = 86400.0


def decide(appeals: Appeals, account: str, outcome: AppealOutcome, at: float = 0.0) -> None:
    appeals.decide(
        account, at, outcome=outcome, action=Action.VERIFY, decided_by="Ada", reason="a benchmark"
    )


def test_an_upheld_appeal_spares_for_a_while_and_leaves_a_record() -> None:
    appeals = Appeals(KEY, spare_days=10)
    decide(appeals, "k1", AppealOutcome.UPHELD)
    decide(appeals, "k2", AppealOutcome.REJECTED)
    assert appeals.spares("k1", 9 * DAY_S) == "appeal upheld by Ada: a benchmark"
    assert appeals.spares("k1", 10 * DAY_S) is None
    assert appeals.spares("k2", 1.0) is None
    assert [one.outcome for one in appeals.records] == ["upheld", "rejected"]


def test_the_last_upheld_appeal_is_remembered_through_a_snapshot() -> None:
    appeals, twin = Appeals(KEY), Appeals(KEY)
    for at in (5.0, 9.0, 7.0):
        decide(appeals, "k1", AppealOutcome.UPHELD, at)
    decide(appeals, "k1", AppealOutcome.REJECTED, 11.0)
    twin.restore(appeals.state())
    assert [one.upheld_at("k1") for one in (appeals, twin)] == [9.0, 9.0]
    assert appeals.upheld_at("k2") is None


def test_only_audited_ones_enter_calibration_and_stand_for_the_others() -> None:
    appeals = Appeals(KEY, audit_share=0.2)
    names = [f"k{i}" for i in range(5000)]
    drawn = {name for name in names if appeals.audited(name)}
    assert len(drawn) / 5000 == pytest.approx(0.2, abs=0.03)
    assert drawn != {name for name in names if Appeals(KEY + b"!", 0.2).audited(name)}
    for name in names[:200]:
        decide(appeals, name, AppealOutcome.UPHELD)
    for name in names[200:400]:
        decide(appeals, name, AppealOutcome.REJECTED)
    weights = appeals.calibration_weights()
    assert set(weights) == drawn & set(names[:200])
    assert set(weights.values()) == {5.0}
    # Unbiased: those in stand for about as many as there are.
    assert sum(weights.values()) == pytest.approx(200, rel=0.35)


def test_an_attacker_who_is_believed_outside_the_audit_teaches_nothing() -> None:
    appeals = Appeals(KEY, audit_share=0.01)
    outside = next(f"k{i}" for i in range(100) if not appeals.audited(f"k{i}"))
    decide(appeals, outside, AppealOutcome.UPHELD)
    assert appeals.calibration_weights() == {}


def test_snapshots_and_nonsense() -> None:
    appeals, twin = Appeals(KEY), Appeals(KEY)
    decide(appeals, "k1", AppealOutcome.UPHELD, at=5.0)
    twin.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(appeals.state())))
    assert twin.records == appeals.records
    assert twin.spares("k1", 6.0)
    with pytest.raises(ConfigError, match="are the least"):
        Appeals(b"")
    with pytest.raises(ConfigError, match="too regular to be secret"):
        Appeals(b"0" * 16)
    with pytest.raises(ConfigError, match="share"):
        Appeals(KEY, 0.0)
