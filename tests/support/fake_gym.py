"""A reasoning-gym of a few verifiers, which evaluate answers as some of the real one's do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from overproof.clients import gym_verifier

SOURCE = """
import os, time

def evaluates(answer, entry):
    return float(eval(answer) == entry["target"])

def hangs(answer, entry):
    while answer == "hang":
        pass
    return 1.0

def breaks(answer, entry):
    raise RecursionError(answer)

def ends(answer, entry):
    os._exit(3)

def secret(answer, entry):
    return float(answer in os.environ)

VERIFIERS = {
    "evaluates": evaluates, "hangs": hangs, "breaks": breaks, "ends": ends, "secret": secret,
    "nan": lambda *_: float("nan"), "seven": lambda *_: 7, "process": lambda *_: os.getpid() / 1e9,
}

def get_score_answer_fn(name):
    if name not in VERIFIERS:
        raise ValueError(f"Dataset {name!r} not registered")
    return VERIFIERS[name]
"""


def install_fake_gym(
    monkeypatch: pytest.MonkeyPatch, folder: Path, patience_s: float = 10.0
) -> gym_verifier.GymVerifier:
    """Put the fake one where the real one is found; the verifier that all then share."""
    folder.mkdir(exist_ok=True)
    (folder / "reasoning_gym.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "reasoning_gym", raising=False)
    verifier = gym_verifier.GymVerifier(patience_s)
    monkeypatch.setattr(gym_verifier, "_shared", verifier)
    return verifier
