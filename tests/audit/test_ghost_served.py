"""Reading what was served: forms, wrong input, groups, caches, ledgers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from overproof.audit.ghost_scores import attach_logprobs, score_pools
from overproof.audit.served import Answer, ServedRequest, pools_of, read_served
from overproof.audit.served_ledger import note_served, requests_of_ledger
from overproof.audit.staged_ghosts import batches_of
from overproof.errors import DataError
from overproof.records.exchange import Completion, Exchange, Message, Outcome, Request
from overproof.records.ledger import Ledger


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "\n")
    return path


def request(
    name: str, prompt: str, served: str, ghosts: list[str], group: str | None = None, **more: Any
) -> ServedRequest:
    return ServedRequest(
        name, name, prompt, Answer(served), tuple(Answer(g) for g in ghosts), group, **more
    )


def test_texts_and_objects_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log.jsonl",
        {"prompt": "2 + 2?", "served": "4", "ghosts": ["four", "5"]},
        "",
        {
            "id": "b", "prompt": [{"role": "user", "content": "hi"}], "group": "g", "retries": 1,
            "served": {"text": "ho", "tokens": 2, "finish_reason": "stop",
                       "logprobs": {"suspect": -1.5, "teacher": -2}},
            "ghosts": [{"text": "hey"}], "position": 1, "cached": False,
        },
    )  # fmt: skip
    first, second = read_served(path)
    assert first.id == f"{path}:1"
    assert [ghost.text for ghost in first.ghosts] == ["four", "5"]
    assert second.served.logprobs == {"suspect": -1.5, "teacher": -2.0}
    assert (second.served.tokens, second.position, second.retries) == (2, 1, 1)


GOOD = {"prompt": "p", "served": "s", "ghosts": ["g"]}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{", "not JSON"),
        ([1], "not a JSON object"),
        ({"served": "s", "ghosts": ["g"]}, "prompt"),
        ({"prompt": "p", "ghosts": ["g"]}, "what was served"),
        ({"prompt": "p", "served": "s"}, "no ghosts"),
        ({**GOOD, "ghosts": []}, "no ghosts"),
        ({**GOOD, "ghosts": [3]}, "ghost 1"),
        ({**GOOD, "served": {"text": "s", "logprobs": {"suspect": 1.0}}}, "log-prob"),
        ({**GOOD, "served": {"text": "s", "logprobs": {"suspect": "low"}}}, "log-prob"),
        ({**GOOD, "served": {"text": "s", "logprobs": [1]}}, "logprobs"),
        ({**GOOD, "served": {"text": "s", "tokens": 0}}, "tokens"),
        ({**GOOD, "served": {"text": "s", "tokens": True}}, "tokens"),
        ({**GOOD, "served": {"text": "s", "finish_reason": 3}}, "finish_reason"),
        ({**GOOD, "served": {"text": "s", "logprobs": {"suspect": -(10**400)}}}, "log-prob"),
        ({**GOOD, "served": {"text": "s", "logprobs": {"suspect": -1e308}}}, "log-prob"),
        ({**GOOD, "served": {"text": "s", "tokens": 10**400}}, "tokens"),
        ({**GOOD, "retries": 10**400}, "retries"),
        ({**GOOD, "slot": -1}, "slot"),
        ({**GOOD, "prompt": [1, 2]}, "messages"),
        ('{"prompt": [{"role": "u", "n": 1e400}], "served": "s", "ghosts": ["g"]}', "range"),
        ({**GOOD, "prompt": [{"content": "no role"}]}, "messages"),
        ({**GOOD, "retries": -1}, "retries"),
        ({**GOOD, "cached": "no"}, "cached"),
        ({**GOOD, "position": 2}, "position"),
        ({**GOOD, "group": ["a"]}, "group"),
        ({**GOOD, "id": 1.5}, "id"),
        ('{"prompt": "p", "served": {"text": "s", "logprobs": {"a": NaN}}, "ghosts": []}', "JSON"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named(tmp_path: Path, bad: Any, reason: str) -> None:
    path = write(tmp_path / "log.jsonl", GOOD, bad)
    with pytest.raises(DataError, match=reason) as caught:
        read_served(path)
    assert f"{path}:2" in caught.value.culprit


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_served(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="no request"):
        read_served(write(tmp_path / "empty.jsonl", ""))
    twice = write(tmp_path / "twice.jsonl", {**GOOD, "id": 7}, {**GOOD, "id": "7"})
    with pytest.raises(DataError, match=r"twice\.jsonl:1"):
        read_served(twice)
    unseen = write(tmp_path / "unseen.jsonl", {**GOOD, "id": "r7"}, {**GOOD, "id": "r\u200b7"})
    with pytest.raises(DataError, match=r"unseen\.jsonl:1"):
        read_served(unseen)


def test_requests_of_a_group_are_permuted_together() -> None:
    pooling = pools_of(
        [
            request("1", "p", "a", ["x", "y", "z"], "g"),
            request("2", "p", "b", ["z", "y", "x"], "g"),
            request("3", "q", "c", ["d"]),
        ]
    )
    first, second = pooling.pools
    assert (first.served, first.ghosts, first.ids) == (2, 3, ("1", "2"))
    assert [answer.text for answer in first.answers] == ["a", "b", "x", "y", "z"]
    assert (second.served, second.ghosts) == (1, 1)
    with pytest.raises(DataError, match="not its ghosts"):
        pools_of([request("1", "p", "a", ["x"], "g"), request("2", "p", "b", ["y"], "g")])
    with pytest.raises(DataError, match="not its prompt"):
        pools_of([request("1", "p", "a", ["x"], "g"), request("2", "q", "b", ["x"], "g")])


def test_repeats_keep_the_first_request_alone() -> None:
    cached = [request(str(i), " P", "same", [f"x{i}", f"y{i}"]) for i in range(4)]
    pooling = pools_of([*cached, request("9", "p", "b", ["c"], cached=True)])
    assert [pool.ids for pool in pooling.pools] == [("0",)]
    assert (pooling.duplicates, pooling.cached) == (3, 1)
    apart = [request(str(i), "p", f"s{i}", [f"x{i}"]) for i in range(3)]
    assert len(pools_of(apart).pools) == 3
    shared = [request("1", "p", "a", ["x", "y"], "g"), request("2", "p", "a", ["x", "y"], "g")]
    assert [pool.served for pool in pools_of(shared).pools] == [1]


SAME = (
    "What now?",
    "what  NOW?",
    "What\u200b now?",
    "\uff37hat now?",
    "Wh\u00adat\u2060 now\ufe0f?",
)


def test_prompts_that_look_alike_are_one() -> None:
    found = [request(str(i), p, "same", [f"x{i}"]) for i, p in enumerate(SAME)]
    assert len({each.prompt_key for each in found}) == 1
    assert [pool.ids for pool in pools_of(found).pools] == [("0",)]
    told = [[{"role": "user", "content": prompt}] for prompt in SAME]
    listed = [ServedRequest(str(i), str(i), p, Answer("a"), (Answer("b"),))
              for i, p in enumerate(told)]  # fmt: skip
    assert len({each.prompt_key for each in listed}) == 1
    assert request("a", "What?", "a", ["b"]).prompt_key != listed[0].prompt_key


def test_the_same_answers_under_another_prompt_are_a_copy() -> None:
    rows = [request(str(i), f"variant {i}", "a", ["b", "c"]) for i in range(4)]
    rows.append(request("4", "variant 4", "c", ["a", "B\u200b"]))  # served or not, in any order
    rows.append(request("5", "another", "a", ["b", "d"]))
    pooling = pools_of(rows)
    assert [pool.ids for pool in pooling.pools] == [("0",), ("5",)]
    assert (pooling.duplicates, pooling.requests) == (4, 6)
    first, second = batches_of(rows, (3, 6))
    assert [pool.ids for pool in (*first.pools, *second.pools)] == [("0",), ("5",)]
    assert (first.duplicates, second.duplicates) == (2, 2)


def test_dropping_repeats_does_not_bend_the_null() -> None:
    """Few possible answers and no cache: ranks of what is kept stay uniform on average."""
    rng = np.random.default_rng(4)
    above, variance = 0.0, 0.0
    for trial in range(3000):
        words = rng.integers(0, 12, size=(2, 3))
        found = pools_of([request(f"{trial}/{i}", "p", str(r[0]), [str(r[1]), str(r[2])])
                          for i, r in enumerate(words)])  # fmt: skip
        for pool in found.pools:
            own, *ghosts = (int(answer.text) for answer in pool.answers)
            above += sum((own > g) - (own < g) for g in ghosts)
            variance += 4.0
    assert abs(above) < 4 * variance**0.5


def test_scores_are_blind_to_place_and_missing_values() -> None:
    pooling = pools_of([request("1", "p", "a", ["bb", "c"]), request("2", "q", "d", ["d", "e"])])
    asked: list[tuple[Any, str]] = []

    def logprob_of(pairs: Any) -> list[tuple[float, int]]:
        asked.extend(pairs)
        return [(-float(i + 1), 2) for i, _ in enumerate(pairs)]

    pools = attach_logprobs(pooling.pools, "suspect", logprob_of, seed=1)
    assert len(asked) == 5  # the repeated text once
    scored = score_pools(pools)
    assert scored.formula == "log-prob under the suspect, a token"
    assert scored.scores[1].scores[0] == scored.scores[1].scores[1]
    half = attach_logprobs(pools[:1], "reference", lambda pairs: [(-1.0, 2)] * len(pairs))
    both = score_pools([*half, pools[1]])
    assert (len(both.pools), len(both.lost), len(both.counted)) == (1, 1, 2)
    assert "less that under the reference" in both.formula
    for wrong in ([], [(float("nan"), 1)] * 5, [(0.5, 1)] * 5, [(-1.0, 0)] * 5):
        with pytest.raises(DataError, match="log-prob"):
            attach_logprobs(pooling.pools, "suspect", lambda pairs, wrong=wrong: wrong)


def exchange(prompt: str, sample: int, text: str, outcome: Outcome = Outcome.ANSWERED) -> Exchange:
    asked = Request(model="m", messages=(Message(role="user", content=prompt),), sample=sample)
    return Exchange(
        request=asked,
        completion=Completion(outcome=outcome, text=text, finish_reason="stop"),
        teacher="t",
        created_at="2026-01-01T00:00:00Z",
    )


def test_a_ledger_gives_requests_where_it_says_what_was_served(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path, write=True) as ledger:
        for prompt in ("one", "two", "three"):
            for sample in range(3):
                failed = prompt == "two" and sample == 2
                outcome = Outcome.FAILED if failed else Outcome.ANSWERED
                ledger.submit(exchange(prompt, sample, f"{prompt} {sample}", outcome)).result()
        with pytest.raises(DataError, match="which samples were served"):
            requests_of_ledger(ledger)
        for prompt in ("one", "two"):
            note_served(ledger, exchange(prompt, 0, "").request.key, 1)
        reading = requests_of_ledger(ledger)
        assert (len(reading.requests), reading.unmarked, reading.incomplete) == (1, 1, 1)
        (only,) = reading.requests
        assert only.served.text == "one 1"
        assert [ghost.text for ghost in only.ghosts] == ["one 0", "one 2"]
        assert only.position == 1
        assert pools_of(reading.requests).pools[0].ghosts == 2
        with pytest.raises(DataError, match="not recorded"):
            requests_of_ledger(ledger, {exchange("three", 0, "").request.key: 8})
        note_served(ledger, exchange("one", 0, "").request.key, 2)
        with pytest.raises(DataError, match="two samples"):
            requests_of_ledger(ledger)
