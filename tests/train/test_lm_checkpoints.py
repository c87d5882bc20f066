"""A checkpoint counts when it is whole; the last whole one stays until the next is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from file_limits import files_no_larger_than

from overproof.errors import StudentError
from overproof.train.lm.checkpoints import Checkpoint, Checkpoints
from overproof.train.lm.randomness import random_states, randomness_kept, set_random_states


def write(store: Checkpoints, step: int, size: int = 10) -> Checkpoint:
    return store.save(
        step,
        weights={"w": torch.full((size,), float(step))},
        state={"optimizer": {"m": torch.ones(3)}, "random": [random_states()]},
        curve={"losses": [[step, 0.1 + 0.2]]},
        trainer_state=lambda path: path.write_text("{}"),
    )


def test_the_last_one_is_kept_and_read(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, "sha256:abc")
    assert store.last() is None
    for step in (2, 4, 10):
        write(store, step)
        store.settle()
    last = store.last()
    assert last is not None
    assert last.step == 10
    assert last.weights()["w"].tolist() == [10.0] * 10
    assert last.curve() == {"losses": [[10, 0.1 + 0.2]]}, "to the last digit"
    assert last.state()["optimizer"]["m"].tolist() == [1, 1, 1]
    assert [path.name for path in (tmp_path / "abc").iterdir()] == ["step-000010"]


def test_the_one_before_stays_until_a_finite_step_followed(tmp_path: Path) -> None:
    """The latest may hold the very weights that give no number."""

    def kept() -> list[int]:
        return sorted(int(path.name[-6:]) for path in (tmp_path / "k").glob("step-*"))

    store = Checkpoints(tmp_path, "k")
    write(store, 2)
    store.doubt(2)
    assert kept() == [2], "there is no other"
    for step in (4, 6):
        write(store, step)
    assert kept() == [4, 6]
    Checkpoints(tmp_path, "k").settle()  # another life, that went on from there
    assert kept() == [6]
    write(store, 8)
    before = store.last(before=8)
    assert before is not None
    assert before.step == 6
    store.doubt(8)
    assert kept() == [6]
    store.settle()
    write(store, 8)
    assert kept() == [6, 8]
    store.settle()
    assert kept() == [8]


def test_another_key_is_left_alone(tmp_path: Path) -> None:
    write(Checkpoints(tmp_path, "one"), 3)
    other = Checkpoints(tmp_path, "other")
    assert other.last() is None
    write(other, 1)
    last = Checkpoints(tmp_path, "one").last()
    assert last is not None
    assert last.step == 3


@pytest.mark.parametrize("damage", ["no marker", "half a marker", "a short file", "no file"])
def test_what_is_not_whole_does_not_count(tmp_path: Path, damage: str) -> None:
    store = Checkpoints(tmp_path, "k")
    write(store, 2)
    whole = store.last()
    assert whole is not None
    broken = whole.path.with_name("step-000004")
    write(store, 4)
    marker = broken / "complete.json"
    if damage == "no marker":
        marker.unlink()
    elif damage == "half a marker":
        marker.write_text(marker.read_text()[:20])
    elif damage == "a short file":
        weights = broken / "weights.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
    else:
        (broken / "state.pt").unlink()
    last = store.last()
    assert last is not None
    assert last.step == 2
    assert write(store, 4).weights()["w"].tolist() == [4.0] * 10, "it is written over"


@pytest.mark.parametrize("size", [200_000, 2_000, 300])
def test_a_full_disk_keeps_the_last_one(tmp_path: Path, size: int) -> None:
    store = Checkpoints(tmp_path, "k")
    write(store, 2)
    with (
        files_no_larger_than(size),
        pytest.raises(StudentError, match=r"step 4 .*could not be written.*step 2 is kept") as told,
    ):
        write(store, 4, size=1_000_000 if size > 100_000 else 100)
    assert "make room" in str(told.value)
    last = store.last()
    assert last is not None
    assert last.step == 2
    assert last.weights()["w"].tolist() == [2.0] * 10
    assert [path.name for path in (tmp_path / "k").iterdir()] == ["step-000002"], "nothing half"


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    found = write(Checkpoints(tmp_path, "k"), 2)
    for name, read in (("state.pt", found.state), ("curve.json", found.curve)):
        path = found.path / name
        path.write_bytes(b"x" * path.stat().st_size)
        with pytest.raises(StudentError, match=rf"{name}: is damaged.*\n.*begins anew"):
            read()


def test_random_states_go_on(tmp_path: Path) -> None:
    import random

    import numpy as np

    found = write(Checkpoints(tmp_path, "k"), 2)
    before = (torch.rand(3).tolist(), random.random(), float(np.random.random()))
    with randomness_kept():
        torch.manual_seed(1)
        set_random_states(found.state()["random"][0])
        assert (torch.rand(3).tolist(), random.random(), float(np.random.random())) == before
        after_it = torch.rand(3).tolist()
    assert torch.rand(3).tolist() == after_it, "the caller's own states are given back"
    assert json.loads((found.path / "complete.json").read_text())["step"] == 2
