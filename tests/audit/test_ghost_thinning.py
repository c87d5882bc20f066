"""A log that is thinned after its commitment, by whoever knows what the suspect says of it."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from overproof.audit.commitment_files import (
    read_manifest,
    read_sealed_log,
    write_manifest,
    write_sealed_log,
)
from overproof.audit.commitments import (
    FORMAT,
    CommitmentCheck,
    Integrity,
    Manifest,
    Marks,
    SealedRequest,
    commit_indices,
    commit_log,
    draw_indices,
    verify_log,
)
from overproof.audit.ghosts import GhostSettings, Statistic, ghosts_test
from overproof.audit.merkle import merkle_root
from overproof.audit.sealed_requests import held_against, seal_served
from overproof.audit.sequential import SequentialPlan
from overproof.audit.served import (
    Answer,
    Pool,
    Pooling,
    ServedRequest,
    pools_of,
    requests_of_log,
)
from overproof.audit.staged_ghosts import batches_of, staged_ghosts_test
from overproof.errors import DataError
from overproof.records.audit import Exactness, Standing, TestFinding

ALL = CommitmentCheck(Integrity.INTACT, indices_committed=True)


def served_log(n: int, seed: int = 0, k: int = 3, lift: float = 0.0) -> list[ServedRequest]:
    rng = np.random.default_rng(seed)
    requests = []
    for i in range(n):
        score = -2 + 0.3 * rng.standard_normal(k + 1)
        score[0] += lift
        answers = [
            Answer(
                f"{i}/{j}",
                10,
                {"suspect": 10 * min(s, -0.01), "teacher": -5 - rng.random()},
                "stop",
            )
            for j, s in enumerate(score)
        ]
        requests.append(
            ServedRequest(f"log:{i + 1}", f"r{i}", f"prompt {i}", answers[0], tuple(answers[1:]),
                          position=int(rng.integers(k + 1)))
        )  # fmt: skip
    return requests


def committed(requests: list[ServedRequest]) -> tuple[list[SealedRequest], Manifest, Manifest]:
    where = iter([request.position or 0 for request in requests])
    openings = draw_indices(len(requests), 4, choose=lambda _: next(where))
    pairs = enumerate(zip(openings, requests, strict=True))
    sealed = [seal_served(opening, request, place) for place, (opening, request) in pairs]
    return sealed, commit_log(sealed), commit_indices(openings)


def with_served(request: ServedRequest, **change: Any) -> ServedRequest:
    return replace(request, served=replace(request.served, **change))


def with_ghost(request: ServedRequest, **change: Any) -> ServedRequest:
    return replace(request, ghosts=(replace(request.ghosts[0], **change), *request.ghosts[1:]))


CHANGES = [
    (lambda r: replace(r, cached=True), "mark as cached"),
    (lambda r: replace(r, retries=1), "number of retries"),
    (lambda r: replace(r, id="r9"), "id"),
    (lambda r: replace(r, group="g"), "group"),
    (lambda r: replace(r, position=((r.position or 0) + 1) % 4), "answer"),
    (lambda r: with_served(r, finish_reason="length"), "reason of ending"),
    (lambda r: with_ghost(r, finish_reason=None), "reason of ending"),
    (lambda r: with_ghost(r, logprobs=r.ghosts[0].logprobs | {"teacher": -3.0}), "teacher"),
    (lambda r: with_ghost(r, logprobs={"suspect": -4.0}), "teacher"),
    (lambda r: with_served(r, tokens=11), "length in tokens"),
]


@pytest.mark.parametrize(("change", "what"), CHANGES)
def test_what_decides_whether_a_request_counts_is_committed(change: Any, what: str) -> None:
    log = served_log(5)
    sealed, manifest, indices = committed(log)
    check = verify_log(sealed, manifest, root=manifest.root, indices=indices)
    assert held_against(log, check, sealed) == check
    scored = [with_served(r, logprobs=dict(r.served.logprobs) | {"suspect": -1.0}) for r in log]
    assert held_against(scored, check, sealed).integrity is Integrity.INTACT
    log[3] = change(log[3])
    found = held_against(log, check, sealed)
    assert found.integrity is Integrity.ALTERED
    assert what in found.reason
    assert (found.first_altered, found.root) == ("log:4", manifest.root)


def test_marks_are_in_the_leaf_and_come_back(tmp_path: Path) -> None:
    log = served_log(4)
    log[1] = replace(log[1], cached=True, retries=2)
    sealed, manifest, indices = committed(log)
    write_sealed_log(tmp_path / "log", sealed)
    write_manifest(tmp_path / "manifest", manifest)
    read = read_sealed_log(tmp_path / "log")
    assert read == sealed
    check = verify_log(read, read_manifest(tmp_path / "manifest"), indices=indices)
    assert (check.integrity, check.covers_marks) == (Integrity.INTACT, True)
    opened = requests_of_log(read)
    assert (opened[1].cached, opened[1].retries) == (True, 2)
    assert opened[0].served.finish_reason == "stop"
    assert held_against(opened, check, sealed).integrity is Integrity.INTACT
    for change in ({"cached": False}, {"retries": 0}, {"teacher": ()}, {"tokens": ()}):
        marks = dataclasses.replace(read[1].marks, **change)  # type: ignore[arg-type]
        thinned = [read[0], replace(read[1], marks=marks), *read[2:]]
        assert verify_log(thinned, manifest).first_altered == "r1"
    text = (tmp_path / "log").read_text()
    for old, new in (('"retries":2', '"retries":-2'), ('"cached":true', '"cached":1'),
                     ('"tokens":[10,', '"tokens":["x",')):  # fmt: skip
        (tmp_path / "log").write_text(text.replace(old, new, 1))
        with pytest.raises(DataError, match="marks"):
            read_sealed_log(tmp_path / "log")


def test_an_older_commitment_is_read_under_its_own_rule_and_said_to_be_weaker() -> None:
    log = served_log(40)
    sealed = [replace(each, marks=Marks()) for each in committed(log)[0]]
    leaves = [each.leaf_under(FORMAT) for each in sealed]
    root = merkle_root([bytes.fromhex(leaf) for leaf in leaves]).hex()
    old = Manifest("log", root, tuple(leaves), "2026-01-01T00:00:00+00:00", FORMAT)
    check = verify_log(sealed, old, root=root)
    assert (check.integrity, check.covers_marks) == (Integrity.INTACT, False)
    log[0] = replace(log[0], cached=True)
    assert held_against(log, check, sealed).integrity is Integrity.INTACT
    said = " ".join(ghosts_test(pools_of(log), commitment=check).reasons)
    assert "older form" in said
    marked = [replace(sealed[0], marks=Marks(cached=True)), *sealed[1:]]
    assert verify_log(marked, old).integrity is Integrity.ALTERED


def without_scores(pooling: Pooling, lost: set[int], answer: int = 2) -> Pooling:
    def bare(pool: Pool) -> Pool:
        answers = list(pool.answers)
        answers[answer] = replace(
            answers[answer], logprobs={"teacher": answers[answer].logprobs["teacher"]}
        )
        return replace(pool, answers=tuple(answers))

    pools = [bare(p) if i in lost else p for i, p in enumerate(pooling.pools)]
    return replace(pooling, pools=tuple(pools))


def lowest_ranked(pooling: Pooling, count: int) -> set[int]:
    """What a hostile keeper leaves out: the pools that speak for the suspect the most."""
    served = [
        sum(a.logprobs["suspect"] < p.answers[0].logprobs["suspect"] for a in p.answers[1:])
        for p in pooling.pools
    ]
    return {int(i) for i in np.argsort(served, kind="stable")[:count]}


@pytest.mark.parametrize("statistic", list(Statistic))
def test_leaving_out_scores_never_lowers_a_p_value(statistic: Statistic) -> None:
    settings = GhostSettings(statistic=statistic, check_level=1e-9)
    rng = np.random.default_rng(3)
    for seed in range(8):
        pooling = pools_of(served_log(100, seed))
        full = ghosts_test(pooling, settings, commitment=ALL)
        for lost in (lowest_ranked(pooling, 5), {int(i) for i in rng.choice(100, 5, False)}):
            thinned = ghosts_test(without_scores(pooling, lost), settings, commitment=ALL)
            assert (thinned.n, thinned.details["counted_lowest"]) == (100, 5)
            assert thinned.p_values[0].exactness is Exactness.BOUND
            assert thinned.p is not None
            assert full.p is not None
            assert thinned.p >= full.p


def test_thinning_an_innocents_log_is_refused_where_it_is_much() -> None:
    """Dropping every pool whose served answer ranks low convicted an innocent with certainty."""
    pooling = pools_of(served_log(200))
    low = lowest_ranked(pooling, 100)
    found = ghosts_test(without_scores(pooling, low), commitment=ALL)
    assert found.standing is Standing.REFUSED
    assert "100 of 200 prompts lack log-probs" in found.reasons[0]
    dropped = replace(pooling, pools=tuple(p for i, p in enumerate(pooling.pools) if i not in low))
    unfair = ghosts_test(dropped, GhostSettings(check_level=1e-9), commitment=ALL)
    assert unfair.p is not None
    assert unfair.p < 1e-9  # what it was to leave them out


def test_lost_prompts_count_as_unused_in_share_and_list() -> None:
    settings = GhostSettings(use_was_blind=True, check_level=1e-9)
    pooling = pools_of(served_log(300, lift=1.0))
    full = ghosts_test(pooling, settings, commitment=ALL)
    thinned = ghosts_test(without_scores(pooling, set(range(15))), settings, commitment=ALL)
    for before, after in zip(full.effects[1:], thinned.effects[1:], strict=True):
        assert (after.low or 0) < (before.low or 0)
    assert not {f"r{i}" for i in range(15)} & set(thinned.details["items"])
    assert set(thinned.details["items"]) <= set(full.details["items"])
    assert thinned.details["wins"] < full.details["wins"]


def test_lost_prompts_count_lowest_at_looks_too() -> None:
    log = served_log(80, 5)
    plan = SequentialPlan((40, 80), 3, 0.5)
    settings = GhostSettings(check_level=1e-9)
    batches = batches_of(log, plan.looks)
    full = staged_ghosts_test(batches, plan, settings, commitment=ALL, reference=None)
    lost = [without_scores(batch, lowest_ranked(batch, 2)) for batch in batches]
    thinned = staged_ghosts_test(lost, plan, settings, commitment=ALL, reference=None)
    for found in (full, thinned):
        assert found.p is not None
        assert found.n == 80
    assert (thinned.p or 0) >= (full.p or 0)
    assert thinned.p_values[0].exactness is Exactness.BOUND


def test_marks_without_a_commitment_are_told_strongly() -> None:
    log = [replace(r, cached=i % 10 == 0) for i, r in enumerate(served_log(60))]
    found = ghosts_test(pools_of(log))
    assert found.standing is Standing.FLAGGED
    said = next(reason for reason in found.reasons if "cached, and no commitment" in reason)
    assert said.startswith("6 of 60 requests")
    few = [replace(r, cached=i == 0) for i, r in enumerate(served_log(60))]
    assert not any("and no commitment" in each for each in ghosts_test(pools_of(few)).reasons)
    assert not any(
        "and no commitment" in each for each in ghosts_test(pools_of(log), commitment=ALL).reasons
    )


def judged(root: bool, index_root: bool) -> TestFinding:
    log = served_log(40)
    sealed, manifest, indices = committed(log)
    check = verify_log(
        sealed, manifest, indices=indices, root=manifest.root if root else None,
        index_root=indices.root if index_root else None,
    )  # fmt: skip
    settings = GhostSettings(check_level=1e-9)
    return ghosts_test(pools_of(log), settings, commitment=held_against(log, check, sealed))


def test_the_finding_says_what_the_log_was_held_against() -> None:
    good = judged(root=True, index_root=True)
    assert good.standing is Standing.DONE
    held = good.details["commitment"]
    assert held["held_against"] == held["indices_held_against"] == "the published root"
    assert len(good.reasons) == 1
    assert held["root"] in good.reasons[0]
    assert held["index_root"] in good.reasons[0]
    own = judged(root=False, index_root=False)
    assert own.standing is Standing.FLAGGED
    assert own.details["commitment"]["held_against"] == "its own manifest alone"
    assert sum("anybody can commit again" in reason for reason in own.reasons) == 2
    half = judged(root=True, index_root=False)
    assert half.standing is Standing.FLAGGED
    assert half.details["commitment"]["indices_held_against"] == "its own manifest alone"
    assert any("no --index-root" in reason for reason in half.reasons)
