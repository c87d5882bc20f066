"""The sparse log-prob store: its size, its rounding, and what happens when something goes wrong."""

from __future__ import annotations

import errno
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overproof.errors import DataError
from overproof.records import logprob_store
from overproof.records.logprob_codec import RANGE, SparseRow, decode, encode, record_dtype
from overproof.records.logprob_store import LogprobStore, StoreWriter


def top_row(rng: np.random.Generator, n: int, k: int, vocabulary: int) -> SparseRow:
    """Distributions of all kinds: sharp, flat, with places unused and tokens unknown."""
    concentration = rng.choice([0.02, 0.3, 5.0], size=n)[:, None]
    gammas = rng.gamma(concentration, size=(n, k + 1))
    shares = gammas / np.maximum(gammas.sum(1, keepdims=True), 1e-300)
    unused = rng.random((n, k)) < 0.2
    shares[:, :k][unused] = 0.0
    shares /= np.maximum(shares.sum(1, keepdims=True), 1e-300)
    shares[shares.sum(1) < 0.5] = np.eye(k + 1)[0]
    ids = rng.integers(0, vocabulary, (n, k))
    with np.errstate(divide="ignore"):
        logs = np.log(shares)
    known = rng.random(n) < 0.9
    return SparseRow(ids.astype(np.int32), logs[:, :k].astype(np.float32),
                     logs[:, k].astype(np.float32), known)  # fmt: skip


def told(row: SparseRow, a: int) -> tuple[list[int], np.ndarray]:
    """Token a's places in use: ids, and probabilities with the tail's last."""
    used = row.logprobs[a] > -np.inf
    logs = np.append(row.logprobs[a][used], row.tail[a]).astype(float)
    return row.ids[a][used].tolist(), np.exp(logs)


def write(directory: Path, rows: list[SparseRow], vocabulary: int, **more: object) -> LogprobStore:
    settings_ = {"k": 32, "kind": "top", "fingerprint": "f", **more}
    with StoreWriter(directory, vocabulary=vocabulary, **settings_) as writer:  # type: ignore[arg-type]
        for row in rows:
            writer.append(*row)
        return writer.finish({"note": 1})


@pytest.mark.parametrize("vocabulary", [300, 49_152, 151_665, 262_144, 1_000_000])
def test_what_is_written_is_read_within_the_stated_error(tmp_path: Path, vocabulary: int) -> None:
    rng = np.random.default_rng(vocabulary)
    rows = [top_row(rng, n, 32, vocabulary) for n in (5, 1, 0, 40)]
    store = write(tmp_path / "s", rows, vocabulary)
    fullest = max(len(told(row, a)[0]) for row in rows for a in np.flatnonzero(row.known))
    assert (len(store), store.k, store.kind, store.fingerprint) == (4, fullest, "top", "f")
    assert store.manifest.report == {"note": 1}
    for number, row in enumerate(rows):
        read = store.read(number)
        assert read.ids.dtype == np.int32
        assert (read.known == row.known).all()
        known = row.known
        masses = np.exp(read.logprobs[known]).sum(1) + np.exp(read.tail[known])
        assert masses == pytest.approx(np.ones(known.sum()), abs=1e-5)
        assert np.isneginf(read.logprobs[~known]).all()
        assert np.isneginf(read.tail[~known]).all()
        for a in np.flatnonzero(known):
            (ids, masses), (read_ids, read_masses) = told(row, a), told(read, a)
            assert ids == read_ids
            # Rounding, then dividing by a sum that rounding moved.
            assert np.abs(masses - read_masses).max() < 2 * 0.0044


def test_one_log_prob_moves_by_no_more_than_the_docstring_says() -> None:
    logs = -np.concatenate([np.linspace(0, 1, 5001), np.linspace(1, RANGE, 20001)])
    left = np.log1p(-np.exp(logs[1:]))  # of two tokens, the other one is the tail
    ids, known = np.zeros((len(left), 1), int), np.ones(len(left), bool)
    records = encode(ids, logs[1:, None], left, known, vocabulary=262_144, kind="top")
    from overproof.records import logprob_codec as codec

    stored = codec._TOP[records["code"][:, 0]]
    error = np.abs(stored - logs[1:])
    assert (error <= 0.01092 * (0.0788 + np.abs(logs[1:]))).all()
    assert np.abs(np.exp(stored) - np.exp(logs[1:])).max() <= 0.0044
    tails = codec._TAILS[records["tail"]]
    shown = left > -32
    assert np.abs(tails - left)[shown].max() <= 0.00025
    read = decode(records, k=1, vocabulary=262_144, kind="top")
    assert np.exp(read.logprobs[:, 0]) + np.exp(read.tail) == pytest.approx(1.0, abs=1e-6)


def test_at_k_32_a_token_takes_at_most_112_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 262_144, (40, 32))
    logs = np.log(np.full((40, 32), 1 / 33))
    row = SparseRow(ids, logs, np.full(40, np.log(1 / 33)), np.ones(40, bool))  # type: ignore[arg-type]
    store = write(tmp_path / "s", [row] * 50, 262_144)
    on_disk = sum(p.stat().st_size for p in store.directory.iterdir() if p.suffix == ".bin")
    assert store.bytes_per_token == on_disk / store.tokens <= 112
    assert record_dtype(32, 262_144).itemsize == 108


def test_draws_are_kept_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    counts = rng.multinomial(255, [0.9, 0.05, 0.03, 0.02], size=60)
    with np.errstate(divide="ignore"):
        logs = np.log(counts / 255)
    ids = np.tile([7, 70_000, 200_000, 3], (60, 1))
    row = SparseRow(ids, logs, np.full(60, -np.inf), np.ones(60, bool))  # type: ignore[arg-type]
    store = write(tmp_path / "s", [row], 262_144, k=255, kind="sampled")
    read = store.read(0)
    assert (store.k, store.manifest.draws) == (4, 255)  # no wider than the fullest token
    for a in range(60):
        assert told(read, a)[0] == ids[a][counts[a] > 0].tolist()
        assert told(read, a)[1][:-1] * 255 == pytest.approx(counts[a][counts[a] > 0], abs=1e-4)
    assert np.exp(read.logprobs.astype(float)).sum(1) == pytest.approx(1.0, abs=1e-6)
    with pytest.raises(ValueError, match="no multiple of 1/10"):
        write(tmp_path / "t", [row], 262_144, k=10, kind="sampled")


@settings(max_examples=40, deadline=None)
@given(
    k=st.integers(1, 40),
    vocabulary=st.integers(2**15, 2**21),
    n=st.integers(0, 6),
    seed=st.integers(0, 2**32),
)
def test_ids_survive_at_every_width(k: int, vocabulary: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, vocabulary, (n, k))
    counts = rng.integers(0, 2, (n, k))
    with np.errstate(divide="ignore"):
        logs = np.log(counts / np.maximum(1, counts.sum(1, keepdims=True)))
        tail = np.where(counts.sum(1) == 0, 0.0, -np.inf)
    records = encode(ids, logs, tail, np.ones(n, bool), vocabulary=vocabulary, kind="top")
    read = decode(records, k=k, vocabulary=vocabulary, kind="top")
    for a in range(n):
        used = read.logprobs[a] > -np.inf
        assert read.ids[a][used].tolist() == ids[a][counts[a] == 1].tolist()


def test_rows_lie_in_many_files_and_are_read_in_any_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [top_row(rng, int(n), 4, 500) for n in rng.integers(0, 9, 50)]
    store = write(tmp_path / "s", rows, 500, k=4, shard_tokens=16)
    assert len(store.manifest.shards) > 5
    again = pickle.loads(pickle.dumps(store))
    for number in rng.permutation(50).tolist():
        read = again.read(number)
        assert len(read.ids) == len(rows[number].ids)
        assert (read.known == rows[number].known).all()
    store.verify()
    for number in (-1, 50):
        with pytest.raises(IndexError):
            store.read(number)


def test_masses_that_are_no_distribution_are_refused(tmp_path: Path) -> None:
    ids, one = np.array([[1, 2]]), np.ones(1, bool)
    writer = StoreWriter(tmp_path / "s", k=2, vocabulary=5, kind="top", fingerprint="f")
    none = np.array([-np.inf])
    for logs, tail in (([[-1.0, -1.0]], none), ([[np.nan, 0.0]], none), ([[0.0, 0.0]], none),
                       ([[-0.7, -np.inf]], np.array([np.nan]))):  # fmt: skip
        with pytest.raises(ValueError, match="not to 1"):
            writer.append(ids, np.array(logs), tail, one)
    with pytest.raises(ValueError, match="id 9 is outside"):
        writer.append(np.array([[9]]), np.array([[0.0]]), none, one)
    with pytest.raises(ValueError, match=r"K in 1\.\.2"):
        writer.append(np.zeros((1, 3), int), np.zeros((1, 3)), none, one)
    writer.append(ids, np.full((1, 2), np.nan), none, ~one)  # unknown: nobody looks
    assert not writer.finish().read(0).known.any()
    with pytest.raises(ValueError, match="2\\^24"):
        StoreWriter(tmp_path / "t", k=2, vocabulary=1 << 25, kind="top", fingerprint="f")
    with pytest.raises(ValueError, match="255"):
        StoreWriter(tmp_path / "t", k=256, vocabulary=5, kind="top", fingerprint="f")


def test_without_a_manifest_there_is_no_store(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    place = tmp_path / "s"
    settings_ = {"k": 4, "vocabulary": 9, "kind": "top", "fingerprint": "f", "shard_tokens": 1}

    def cut_off() -> None:
        with StoreWriter(place, **settings_) as writer:  # type: ignore[arg-type]
            writer.append(*top_row(rng, 3, 4, 9))
            assert not place.exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_off()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="holds no finished log-prob store"):
        LogprobStore.open(place)


def test_what_a_killed_process_left_is_swept_away(tmp_path: Path) -> None:
    dead = tmp_path / ".s.abcd.999999999.partial"
    alive = tmp_path / f".s.abcd.{os.getpid()}.partial"
    for left in (dead, alive):
        left.mkdir()
        (left / "00000.bin").write_bytes(b"half")
    write(tmp_path / "s", [], 9)
    assert not dead.exists()
    assert alive.exists()  # its process may still be writing


def test_a_store_is_replaced_whole_and_nothing_else_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write(tmp_path / "s", [top_row(rng, 3, 4, 9)], 9, k=4)
    assert len(write(tmp_path / "s", [top_row(rng, 3, 4, 9)] * 2, 9, k=4)) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="is no log-prob store"):
        write(other, [], 9)
    assert (other / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("harm", ["cut", "gone", "index", "manifest", "empty", "elsewhere", "bits"])
def test_a_damaged_store_is_refused_by_file(tmp_path: Path, harm: str) -> None:
    rng = np.random.default_rng(0)
    store = write(tmp_path / "s", [top_row(rng, 30, 4, 9)], 9, k=4)
    shard, index, manifest = (store.directory / n for n in ("00000.bin", "rows.bin",
                                                            "manifest.json"))  # fmt: skip
    culprit = shard
    if harm == "cut":
        shard.write_bytes(shard.read_bytes()[:-1])
    elif harm == "gone":
        shard.unlink()
    elif harm == "index":
        index.write_bytes(np.array([29], "<u4").tobytes())
        culprit = index
    elif harm == "bits":
        shard.write_bytes(bytes([shard.read_bytes()[0] ^ 1]) + shard.read_bytes()[1:])
        with pytest.raises(DataError, match="has changed"):
            LogprobStore.open(store.directory).verify()
        return
    else:
        told = json.loads(manifest.read_text())
        told["shards"][0]["file"] = "../00000.bin"
        text = {"manifest": "{", "empty": "", "elsewhere": json.dumps(told)}[harm]
        manifest.write_text(text)
        culprit = store.directory / "../00000.bin" if harm == "elsewhere" else manifest
    with pytest.raises(DataError) as raised:
        LogprobStore.open(store.directory)
    assert raised.value.culprit == str(culprit)
    assert "made again" in raised.value.way_out


def test_a_full_disk_leaves_the_old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    write(tmp_path / "s", [top_row(rng, 3, 4, 9)], 9, k=4)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(logprob_store.os, "fsync", full)
    with pytest.raises(DataError, match="No space left on device"):
        write(tmp_path / "s", [top_row(rng, 3, 4, 9)] * 9, 9, k=4)
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    assert len(LogprobStore.open(tmp_path / "s")) == 1
