"""``overproof audit assign`` and ``phrasings``: from slots to a verdict, and wrong input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from auditing import audit, finding, plan_of, write

from overproof.audit import phrasing_files
from overproof.audit.phrasing_files import (
    count_phrasings,
    plain_text,
    read_phrasing_slots,
    read_sealed_phrasings,
    seal_phrasings,
)
from overproof.errors import ConfigError, DataError

SLOTS = 45


def slot_rows() -> list[dict[str, Any]]:
    return [
        {"slot": f"s{i}", "phrasings": [f"Topic {i} in short", f"briefly, topic {i} is this",
                                        f"to sum topic {i} up"][: 2 + i % 2]}
        for i in range(SLOTS)
    ]  # fmt: skip


@pytest.fixture
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An assignment under a key that is the same in every run."""
    monkeypatch.setattr(phrasing_files, "new_key", lambda: np.random.default_rng(5).bytes(32))
    accounts = tmp_path / "accounts.txt"
    accounts.write_text("alice\nbob\ncarol\n")
    slots = write(tmp_path / "slots.jsonl", slot_rows())
    said = audit("assign", slots, "--accounts", accounts, "--out", tmp_path / "sealed")
    assert "publish this hash" in said
    assert (tmp_path / "sealed" / "phrasings.secret.json").stat().st_mode & 0o077 == 0
    assert (tmp_path / "sealed" / "assignment.secret.jsonl").stat().st_mode & 0o077 == 0
    key = json.loads((tmp_path / "sealed" / "phrasings.secret.json").read_text())["key"]
    assert key not in said
    assert key not in (tmp_path / "sealed" / "phrasings.manifest.json").read_text()
    return tmp_path / "sealed"


def texts_of(sealed: Path, account: str | None, seed: int = 0) -> list[dict[str, Any]]:
    """A student of one account's answers, three times in four; of nobody where it is None."""
    rng = np.random.default_rng(seed)
    rows = [json.loads(x) for x in (sealed / "assignment.secret.jsonl").read_text().splitlines()]
    known = {row["slot"]: row["text"] for row in rows if row["account"] == account}
    found = []
    for slot in slot_rows():
        own = slot["phrasings"][int(rng.integers(len(slot["phrasings"])))]
        says = known.get(slot["slot"], own) if rng.random() < 0.75 else own
        found.append({"text": f"Well, {says.upper()}.", "prompt": "tell me", "slot": slot["slot"]})
    return found


def test_from_an_assignment_to_a_verdict(sealed: Path, tmp_path: Path) -> None:
    sha256 = read_sealed_phrasings(sealed).sha256
    case = plan_of(
        tmp_path,
        f'[[tests]]\nkind = "phrasings"\nassignment = "{sha256}"\naccounts = ["alice", "bob"]\n',
    )
    texts = write(tmp_path / "texts.jsonl", texts_of(sealed, "alice"))
    found = finding("phrasings", texts, "--assignment", sealed, "--plan", case)
    rank, tail = found["p_values"]
    assert (rank["exactness"], rank["value"]) == ("exact", pytest.approx(1 / 1000))
    assert tail["exactness"] == "under the pseudo-random function's model"
    assert found["standing"] == "done"
    by_account = found["details"]["accounts"]
    assert by_account["alice"]["holm"] < 1e-4 < 0.05 < by_account["bob"]["holm"]
    assert any("in its context" in line for line in found["not_proved"])
    assert set(by_account) == {"alice", "bob"}
    verdict = finding("verdict", case)
    assert verdict["verdict"] == "trained on these outputs"
    journal = (case / "plan.json.data.jsonl").read_text()
    assert "texts.jsonl" in journal
    assert "phrasings.manifest.json" in journal
    assert "secret" not in journal


@pytest.mark.slow
def test_a_stranger_is_not_found(sealed: Path, tmp_path: Path) -> None:
    sha256 = read_sealed_phrasings(sealed).sha256
    case = plan_of(tmp_path, f'[[tests]]\nkind = "phrasings"\nassignment = "{sha256}"\n')
    texts = write(tmp_path / "texts.jsonl", texts_of(sealed, None))
    found = finding("phrasings", texts, "--assignment", sealed, "--plan", case)
    assert found["p_values"][0]["value"] > 0.01
    assert set(found["details"]["accounts"]) == {"alice", "bob", "carol"}
    assert 0 < found["power"]["detectable"] < 0.5
    assert finding("verdict", case)["verdict"] == "no evidence"


def test_what_was_not_served_counts_all_the_same(sealed: Path, tmp_path: Path) -> None:
    texts = write(tmp_path / "texts.jsonl", texts_of(sealed, "alice"))
    served = write(
        tmp_path / "served.jsonl", [{"account": "alice", "slot": f"s{i}"} for i in range(10)]
    )
    found = finding("phrasings", texts, "--assignment", sealed, "--served", served)
    bare = finding("phrasings", texts, "--assignment", sealed)
    assert found["n"] == bare["n"]
    assert found["p_values"] == bare["p_values"]
    assert found["details"]["slots"] == 3 * SLOTS
    told = found["details"]["went_out"]
    assert (told["served"], told["assigned"]) == (10, 3 * SLOTS)
    assert told["match_rate"] > 0.6
    assert "without a p-value" in told["note"]
    assert found["standing"] == "done, with a warning"
    assert any("rests on its keeper" in reason for reason in found["reasons"])
    broken = write(tmp_path / "broken.jsonl", [{"account": "alice"}])
    error = audit("phrasings", texts, "--assignment", sealed, "--served", broken)
    assert "broken.jsonl:1" in str(error)


def test_other_settings_than_planned_or_published(sealed: Path, tmp_path: Path) -> None:
    texts = write(tmp_path / "texts.jsonl", texts_of(sealed, None))
    rest = ("phrasings", texts, "--assignment", sealed)
    wrong = audit(*rest, "--published", "sha256:" + "00" * 32)
    assert isinstance(wrong, ConfigError)
    assert "has the hash" in str(wrong)
    sha256 = read_sealed_phrasings(sealed).sha256
    good = finding(*rest, "--published", sha256)
    assert not any("rests on its keeper" in reason for reason in good["reasons"])
    case = plan_of(tmp_path, '[[tests]]\nkind = "phrasings"\nassignment = "sha256:' + "0" * 64
                   + '"\naccounts = ["alice"]\n')  # fmt: skip
    assert "phrasings.assignment" in str(audit(*rest, "--plan", case))
    case.joinpath("plan.json").rename(tmp_path / "old.json")
    case = plan_of(tmp_path, '[[tests]]\nkind = "phrasings"\naccounts = ["alice", "eve"]\n')
    assert "'eve'" in str(audit(*rest, "--plan", case))
    one = tmp_path / "one.txt"
    one.write_text("alice\n")
    assert "are others than planned" in str(audit(*rest, "--plan", case, "--accounts", one))
    assert "was planned as 999" in str(audit(*rest, "--plan", case, "--keys", 1999))
    # More alternates where the level asks for them; refused where the plan has too few.
    few = finding(*rest, "--keys", 999, "--alpha", 1e-4, code=1)
    assert "cannot go below 0.001" in few["reasons"][0]


def test_sealed_files_that_were_changed(sealed: Path, tmp_path: Path) -> None:
    texts = write(tmp_path / "texts.jsonl", texts_of(sealed, None))
    secret = sealed / "phrasings.secret.json"
    whole = secret.read_text()
    key = json.loads(whole)["key"]
    for spoilt in (
        whole.replace(key, "ab" * 32),
        whole.replace("Topic 3 in", "Subject 3 in"),
        whole.replace("carol", "carl"),
        whole[:99],
        "[]",
        whole.replace(key, "word"),
    ):
        secret.write_text(spoilt)
        error = audit("phrasings", texts, "--assignment", sealed)
        assert isinstance(error, DataError)
        assert key not in str(error)
    secret.unlink()
    assert "is not there" in str(audit("phrasings", texts, "--assignment", sealed))
    again = audit("assign", tmp_path / "slots.jsonl", "--out", sealed)
    assert isinstance(again, ConfigError)
    assert "exists already" in str(again)
    with pytest.raises(ConfigError, match="too many"):
        seal_phrasings({f"s{i}": ("a", "b") for i in range(5000)}, tmp_path / "x",
                       [str(i) for i in range(1001)])  # fmt: skip
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        seal_phrasings({"s": ("a", "b")}, tmp_path / "file" / "under")


def test_slots_and_texts_that_cannot_be_used(sealed: Path, tmp_path: Path) -> None:
    def refused(row: dict[str, Any]) -> str:
        path = write(tmp_path / "bad.jsonl", [{"slot": "fine", "phrasings": ["a", "b"]}, row])
        error = audit("assign", path, "--out", tmp_path / "never")
        assert isinstance(error, DataError)
        assert "bad.jsonl:2" in str(error)
        return str(error)

    assert "fewer than two" in refused({"slot": "s", "phrasings": ["one"]})
    assert "an empty one" in refused({"slot": "s", "phrasings": ["one", "  "]})
    assert "stands within" in refused({"slot": "s", "phrasings": ["A  day", "one a Day more"]})
    assert "stands within" in refused({"slot": "s", "phrasings": ["same", "SAME"]})
    assert "again" in refused({"slot": "fine", "phrasings": ["c", "d"]})
    assert "no list" in refused({"slot": "s", "phrasings": "text"})
    assert "name its slot" in refused({"phrasings": ["c", "d"]})
    assert not (tmp_path / "never").exists()
    for row, said in (({"text": 3}, "has no text"), ({"text": "x", "slot": "zz"}, "not sealed")):
        error = audit("phrasings", write(tmp_path / "t.jsonl", [row]), "--assignment", sealed)
        assert "t.jsonl:1" in str(error)
        assert said in str(error)
    (tmp_path / "empty.jsonl").write_text("")
    empty = audit("phrasings", tmp_path / "empty.jsonl", "--assignment", sealed)
    assert "holds no text" in str(empty)
    nothing = finding("phrasings", write(tmp_path / "t.jsonl", [{"text": "silence"}]),
                      "--assignment", sealed, code=1)  # fmt: skip
    assert "nothing to rank" in nothing["reasons"][0]
    open_slots = write(tmp_path / "open.jsonl", slot_rows()[:3])
    audit("assign", open_slots, "--out", tmp_path / "open")
    nobody = audit("phrasings", tmp_path / "t.jsonl", "--assignment", tmp_path / "open")
    assert "named nowhere" in str(nobody)


def test_phrasings_are_counted_as_whole_words_outside_of_the_prompt(tmp_path: Path) -> None:
    rows = [{"slot": "a", "phrasings": ["the cat", "a feline"]},
            {"slot": "b", "phrasings": ["The year 1891.", "the year 1892."]}]  # fmt: skip
    slots = read_phrasing_slots(write(tmp_path / "s.jsonl", rows))
    said = [
        ("THE  Cat sat. The cat slept. In the year 1891. it", "", None),
        ("bathe cat, the cats, a felines", "", None),
        ("a feline", "say a feline", None),
        ("a feline in the year 1892.", "", "a"),
    ]
    texts = [(plain_text(text), plain_text(prompt), slot) for text, prompt, slot in said]
    assert count_phrasings(slots, texts) == {"a": (1, 1), "b": (1, 0)}


def test_planning_of_phrasings() -> None:
    assert "326 of 2 phrasings" in audit("power", "phrasings", "--share", 0.2)
    found = json.loads(audit("power", "phrasings", "--phrasings", 4, "--alpha", 1e-4, "--json"))
    assert (found["alternate_keys"], found["phrasings"]) == (99_999, 4)
    assert "share lies in" in str(audit("power", "phrasings", "--share", 0))
