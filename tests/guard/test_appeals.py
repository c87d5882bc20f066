from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest
from file_limits import files_no_larger_than

from overproof.errors import ConfigError, DataError
from overproof.guard.appeal_files import add_appeal, read_appeals
from overproof.guard.appeals import Appeal, AppealOutcome, Appeals
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


@pytest.mark.parametrize("at", [math.nan, math.inf, -1.0, 1_780_000_000_000.0, "now", True])
def test_a_decision_has_a_time_in_seconds(at: float) -> None:
    appeals = Appeals(KEY)
    with pytest.raises(ConfigError, match="time"):
        decide(appeals, "k1", AppealOutcome.UPHELD, at)
    assert appeals.records == ()
    assert appeals.spares("k1", 5.0) is None


def test_an_appeal_counts_from_its_own_time_on() -> None:
    appeals = Appeals(KEY, spare_days=10)
    for day in (20, 50):
        decide(appeals, "k1", AppealOutcome.UPHELD, day * DAY_S)
    spared = [day for day in range(70) if appeals.spares("k1", day * DAY_S)]
    assert spared == [*range(20, 30), *range(50, 60)]
    assert [appeals.upheld_at("k1", day * DAY_S) for day in (19, 20, 49, 50)] == [
        None, 20 * DAY_S, 20 * DAY_S, 50 * DAY_S,
    ]  # fmt: skip
    assert appeals.upheld_at("k1") == 50 * DAY_S
    appeals.as_of(49 * DAY_S)
    assert appeals.upheld_at("k1") == 20 * DAY_S


def test_who_was_believed_and_then_found_out_teaches_nothing() -> None:
    appeals = Appeals(KEY, audit_share=1.0)
    decide(appeals, "k1", AppealOutcome.UPHELD, 4.0)
    assert appeals.calibration_weights() == {"k1": 1.0}
    decide(appeals, "k1", AppealOutcome.REJECTED, 5.0)
    assert appeals.calibration_weights() == {}


# ------------------------------------------------------------ a file of them


def appeal(account: str, at: float = 5.0) -> Appeal:
    return Appeal(account, at, AppealOutcome.UPHELD, Action.VERIFY, "Ada", "a benchmark", True)


def test_a_file_of_appeals_grows_by_whole_ones(tmp_path: Path) -> None:
    file = tmp_path / "appeals.jsonl"
    assert [add_appeal(file, appeal(name)) for name in "ab"] == [1, 2]
    file.write_bytes(file.read_bytes().rstrip())  # an editor took the last line's end
    file.chmod(0o640)
    assert add_appeal(file, appeal("c")) == 3
    assert read_appeals(file) == [appeal(name) for name in "abc"]
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_leaves_the_appeals_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "appeals.jsonl"
    add_appeal(file, appeal("a"))
    before = file.read_bytes()
    with files_no_larger_than(len(before) + 20), pytest.raises(OSError, match="large") as caught:
        add_appeal(file, appeal("b"))
    assert caught.value.filename is not None
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_nothing_is_added_to_what_holds_no_appeals(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text('{"ts": 5}\n')
    with pytest.raises(DataError) as caught:
        add_appeal(file, appeal("a"))
    assert caught.value.culprit == f"{file}:1"
    assert file.read_text() == '{"ts": 5}\n'
    for other in (tmp_path, tmp_path / "none" / "a.jsonl", tmp_path / "a.jsonl.gz"):
        with pytest.raises(ConfigError):
            add_appeal(other, appeal("a"))
