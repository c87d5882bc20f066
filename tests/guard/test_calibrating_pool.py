"""Who is in a provider's own pool: no customer rules it, and appeals enter by the audit's draw."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from guard_accounts import AGES_H, plain_scorer, signals_of

from overproof.errors import ConfigError, DataError
from overproof.guard import instruments
from overproof.guard.appeal_files import audit_weights, read_appeals, without_weight
from overproof.guard.appeals import Appeal, AppealOutcome
from overproof.guard.calibration import Calibration, Ranks
from overproof.guard.community_calibration import Band, CommunityCalibration
from overproof.guard.instruments import FILES, calibrate, pool_notes
from overproof.guard.recording import LookRecorder
from overproof.records.traffic import Action

ACCOUNTS, COMMUNITIES = plain_scorer(8), plain_scorer(8, "community")
END = AGES_H[0] * 3600.0
DATED = "2026-03-16T00:00:00Z"


@pytest.fixture(scope="module")
def scorers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scorers, and a calibration of communities of other traffic."""
    home = tmp_path_factory.mktemp("scorers")
    ACCOUNTS.save(home / FILES[0])
    COMMUNITIES.save(home / FILES[1])
    band = Band("2 accounts or more", Ranks([0.0, 1.0], [1.0, 1.0]), {})
    CommunityCalibration(DATED, "other", COMMUNITIES.hash, (2,), (band,), 1, 7.0, {}).save(
        home / FILES[3]
    )
    return home


def recorded(groups: list[str], communities: Sequence[tuple[str, ...]] = ()) -> LookRecorder:
    """One look at account a0, a1, ...: of these groups."""
    recorder = LookRecorder(ACCOUNTS.names, COMMUNITIES.names)
    vectors = signals_of(np.random.default_rng(0), len(groups), looks=1)[:, 0]
    for place, (group, vector) in enumerate(zip(groups, vectors, strict=True)):
        recorder.account(f"a{place}", 0, END, vector, stratum="pro|few", group=group)
    for place, members in enumerate(communities):
        recorder.community(f"c{place}", members, 0, END, vectors[place])
    return recorder


def frozen(recorder: LookRecorder, scorers: Path, out: Path, **how: Any) -> Any:
    how = {"least": 200, "least_communities": 1} | how
    return calibrate(recorder, scorers, out, ages_h=AGES_H[:1], since=0.0, until=END, **how)


def test_one_customer_with_thousands_of_keys_does_not_rule_the_pool(
    scorers: Path, tmp_path: Path
) -> None:
    recorder = recorded(["giant"] * 2_000 + ["small"] * 3 + [f"o{n}" for n in range(300)])
    accounts, communities = frozen(recorder, scorers, tmp_path / "mine")
    assert accounts.pool["accounts"] == 2 + 2 + 300  # a hundredth of 200 of each
    assert accounts.pool["beyond their group's share"] == 1_998 + 1
    assert accounts.stratum("pro|few").whole.n == 304
    said = pool_notes(accounts, communities)[0]
    assert "304 accounts of 302 organisations or payers, at most 2 of each; 1,999 more" in said
    assert Calibration.load(tmp_path / "mine" / FILES[2]).pool == accounts.pool
    wider, _ = frozen(recorder, scorers, tmp_path / "wider", per_group=500)
    assert wider.pool["accounts"] == 500 + 3 + 300
    assert "at most 500 of each" in pool_notes(wider, communities)[0]


def test_the_cap_is_a_hundredth_of_what_a_plan_needs(scorers: Path, tmp_path: Path) -> None:
    groups = ["giant"] * 4_000 + [f"o{n}" for n in range(8_900)]
    accounts, _ = frozen(recorded(groups), scorers, tmp_path, least=instruments.LEAST_ACCOUNTS)
    assert accounts.pool["accounts"] == 88 + 8_900
    assert "pro|few" in accounts.strata


def test_upheld_appeals_weigh_and_no_group_of_them_more_than_a_group_may(
    scorers: Path, tmp_path: Path
) -> None:
    recorder = recorded([f"o{n}" for n in range(300)] + ["two"] * 2)
    appealed = {"a1": 10.0, "a300": 10.0, "a301": 10.0, "never seen": 10.0}
    accounts, communities = frozen(
        recorder, scorers, tmp_path / "mine", per_group=12, appealed=appealed
    )
    # One stands for ten; the two of one group together for twelve.
    assert accounts.stratum("pro|few").whole.n == 299 + 10 + 12
    notes = pool_notes(accounts, communities)
    assert "upheld, of the random audit and entered: 3, for 22 accounts of the 321" in notes[1]
    assert "not in the log, or with too few requests to be looked at: 1" in notes[1]
    plain, _ = frozen(recorder, scorers, tmp_path / "plain", per_group=12)
    assert not any("appeals" in note for note in pool_notes(plain, communities))


def test_who_has_no_organisation_stands_for_as_many_as_the_share_says(
    scorers: Path, tmp_path: Path
) -> None:
    recorder = recorded([""] + [f"o{n}" for n in range(300)])
    accounts, _ = frozen(recorder, scorers, tmp_path, per_group=2, appealed={"a0": 100.0})
    assert accounts.stratum("pro|few").whole.n == 300 + 100


def test_trusted_and_appealed_of_one_organisation_share_its_part(
    scorers: Path, tmp_path: Path
) -> None:
    for trusted, appealed, stands in ((24, 10, 34), (34, 10, 34), (20, 2, 34), (4, 2, 24)):
        recorder = recorded([f"o{n}" for n in range(300)] + ["acme"] * (trusted + appealed))
        named = {f"a{300 + trusted + n}": 10.0 for n in range(appealed)}
        out = tmp_path / f"{trusted}-{appealed}"
        accounts, _ = frozen(recorder, scorers, out, per_group=34, appealed=named)
        assert accounts.stratum("pro|few").whole.n == pytest.approx(300 + stands)


def test_what_became_of_every_appeal_is_told(scorers: Path, tmp_path: Path) -> None:
    recorder = recorded([f"o{n}" for n in range(300)] + ["two"] * 3)
    gone = {f"a{n}": 10.0 for n in (300, 301, 302)} | {"never seen": 10.0}
    left = without_weight(
        [
            Appeal(name, at, AppealOutcome(outcome), Action.VERIFY, "Ada", "-", audited)
            for name, at, outcome, audited in (
                ("r", 1.0, "rejected", True), ("n", 1.0, "upheld", False),
                ("t", 1.0, "upheld", True), ("n", 0.5, "upheld", True), ("in", 1.0, "upheld", True),
            )
        ],
        {"t"},
    )  # fmt: skip
    accounts, communities = frozen(
        recorder, scorers, tmp_path / "a", per_group=2, appealed=gone, appeals_left=left
    )
    assert accounts.pool["appeals"] == {
        "entered": 2, "beyond their group's share": 1,
        "not in the log, or with too few requests to be looked at": 1,
        "not upheld": 1, "not in the audit": 1, "trusted, and in the pool as such": 1,
        "decided anew later": 1,
    }  # fmt: skip
    said = pool_notes(accounts, communities)[1]
    assert said.startswith("appeals: 8; upheld, of the random audit and entered: 2, for 2 accounts")
    # Appeals that change nothing are told of too.
    accounts, communities = frozen(
        recorder, scorers, tmp_path / "b", appeals_left={"not upheld": 3}
    )
    assert "appeals: 3; " in pool_notes(accounts, communities)[1]
    assert "not upheld: 3" in pool_notes(accounts, communities)[1]


def test_communities_of_those_who_appealed_are_left_out(scorers: Path, tmp_path: Path) -> None:
    recorder = recorded([f"o{n}" for n in range(300)], [("a0", "a1"), ("a2", "a3"), ("a4", "a5")])
    _, communities = frozen(recorder, scorers, tmp_path, appealed={"a1": 10.0})
    assert communities.pool["communities"] == 2
    assert communities.version == "1"


def test_a_calibration_of_communities_that_is_not_the_provider_s_is_warned_of(
    scorers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = recorded([f"o{n}" for n in range(300)], [("a0", "a1")])
    accounts, own = frozen(recorder, scorers, tmp_path / "own")
    assert not any("warning" in note for note in pool_notes(accounts, own))
    alone = recorded([f"o{n}" for n in range(300)])
    for known, appealed in ((alone, None), (recorder, {"a1": 10.0})):
        accounts, kept = frozen(known, scorers, tmp_path / "kept", appealed=appealed)
        assert (kept.version, kept.dated) == ("other", DATED)
        said = pool_notes(accounts, kept)[-1]
        assert said.startswith("warning: the trusted accounts form no honest community")
        assert "the directory of the scorers (2026-03-16)" in said
    monkeypatch.setattr(instruments, "SHIPPED", scorers)
    _, shipped = frozen(alone, scorers, tmp_path / "mine")
    assert "made on simulated traffic (2026-03-16)" in pool_notes(accounts, shipped)[-1]
    # It is still known for what it is after another calibration from there.
    _, again = frozen(alone, tmp_path / "mine", tmp_path / "mine")
    assert "made on simulated traffic" in pool_notes(accounts, again)[-1]
    assert CommunityCalibration.load(tmp_path / "mine" / FILES[3]).pool == again.pool


def appeal(account: str, **change: Any) -> str:
    row = {
        "account": account, "at": 1_780_000_000.0, "outcome": "upheld", "action": "verify",
        "decided_by": "Ada", "reason": "a benchmark", "audited": True,
    }  # fmt: skip
    return json.dumps(row | change)


def test_only_upheld_and_audited_appeals_enter(tmp_path: Path) -> None:
    file = tmp_path / "appeals.jsonl"
    lines = [
        appeal("in", ticket="unknown fields are let be"),
        appeal("rejected", outcome="rejected"),
        appeal("not drawn", audited=False),
        "",
        appeal("found out", at=5.0, outcome="rejected"),
        appeal("found out", at=4.0),
        appeal("believed later", at=4.0, outcome="rejected"),
        appeal("believed later", at=5.0),
    ]
    file.write_text("\n".join(lines) + "\n")
    assert audit_weights(read_appeals(file), 0.2) == {"in": 5.0, "believed later": 5.0}
    with pytest.raises(ConfigError, match="share"):
        audit_weights([], 0.0)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[]", "is no appeal"),
        ("{", "is no appeal"),
        ('{"account": "a"}', "missing required field `at`"),
        (appeal("a", outcome="won"), "`$.outcome`"),
        (appeal("a", audited=1), "`$.audited`"),
        (appeal("a", at=-5.0), "at "),
        (appeal(""), "names no account"),
    ],
)
def test_a_line_that_is_no_appeal_is_named(line: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "appeals.jsonl"
    file.write_text(appeal("fine") + "\n" + line + "\n")
    with pytest.raises(DataError) as caught:
        read_appeals(file)
    assert caught.value.culprit == f"{file}:2"
    assert words in caught.value.reason
    with pytest.raises(DataError, match="no such file"):
        read_appeals(tmp_path / "none.jsonl")
