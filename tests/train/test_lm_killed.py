"""kill -9 at any moment: training goes on to the same curve and the same weights, bit by bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_lm import write_tiny_lm

SUPPORT = Path(__file__).parent.parent / "support"
SETTINGS = {"dropout": 0.1, "epochs": 4, "checkpoint_every": 2}
SYNCS = 7  # of one checkpoint: four files, the marker, its directory, the directory above


class Trainer:
    """The process that forks a child for every life."""

    def __init__(self, told: IO[str], said: IO[str], base: Path) -> None:
        self.told, self.said, self.base = told, said, base

    def live(self, out: Path, *, dies_at: int | None = None, killed_at: int | None = None) -> int:
        """One life; killed after so many steps and a moment, or at its nth fsync.

        Returns:
            How it ended: 0, or the negative number of the signal.
        """
        result = out.parent / f"{out.name}.safetensors"
        line = [dies_at, str(self.base), str(out), json.dumps(SETTINGS), str(result)]
        self.told.write(json.dumps(line) + "\n")
        self.told.flush()
        child, steps = 0, 0
        for said in self.said:
            word, _, number = said.strip().partition(" ")
            if word == "born":
                child = int(number)
            elif word == "step":
                steps += 1
                if steps == killed_at:
                    time.sleep(random.Random(steps).random() * 0.02)
                    os.kill(child, signal.SIGKILL)
            elif word == "ended":
                return int(number)
        raise AssertionError("the helper died")


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    base = write_tiny_lm(tmp_path_factory.mktemp("base"))
    with subprocess.Popen(
        [sys.executable, str(SUPPORT / "mortal_trainer.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Trainer(process.stdin, process.stdout, base)
        process.stdin.close()


@pytest.fixture(scope="module")
def uninterrupted(trainer: Trainer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    assert trainer.live(out) == 0
    return out


def what_came_of(out: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    facts = json.loads((out.parent / f"{out.name}.json").read_text())
    facts.pop("notes")
    return facts, load_file(out.parent / f"{out.name}.safetensors")


def assert_same(one: Path, other: Path) -> None:
    (facts, weights), (other_facts, other_weights) = what_came_of(one), what_came_of(other)
    assert facts == other_facts
    assert len(facts["losses"]) > 10
    assert weights.keys() == other_weights.keys()
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)


@pytest.mark.slow
def test_killed_while_a_checkpoint_is_written(
    trainer: Trainer, uninterrupted: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    # The first file, the marker, the directory; named and not yet synced; within the next one.
    for moment in (1, 5, 7, SYNCS + 6):
        assert trainer.live(out, dies_at=moment) == -signal.SIGKILL
    assert trainer.live(out) == 0
    assert_same(out, uninterrupted)


@pytest.mark.slow
def test_killed_between_and_within_steps(
    trainer: Trainer, uninterrupted: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for steps in (1, 3, 2):
        assert trainer.live(out, killed_at=steps) == -signal.SIGKILL
    assert trainer.live(out) == 0
    assert_same(out, uninterrupted)
    notes = json.loads((tmp_path / "out.json").read_text())["notes"]
    assert any("taken up again after step" in note for note in notes)


@pytest.mark.slow
def test_a_finished_run_is_only_read_again(trainer: Trainer, uninterrupted: Path) -> None:
    before = what_came_of(uninterrupted)
    assert trainer.live(uninterrupted, dies_at=1) == 0, "it wrote a checkpoint again"
    facts, weights = what_came_of(uninterrupted)
    assert facts == before[0]
    assert all(torch.equal(weights[name], before[1][name]) for name in weights)
