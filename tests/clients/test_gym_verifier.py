"""Verifiers of reasoning-gym in a process of their own: harmless, bounded, and back again."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_gym import install_fake_gym

from overproof.clients.gym_verifier import GymVerifier, Verified
from overproof.errors import DataError, MissingExtraError

TARGET = {"target": 4}


@pytest.fixture
def verifier(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[GymVerifier]:
    monkeypatch.setenv("SOME_API_KEY", "hush")
    found = install_fake_gym(monkeypatch, tmp_path / "gym", 5.0)
    yield found
    found.close()


def attacks(file: Path) -> list[str]:
    """What an answer may be made of, to write a file or start a program that does."""
    written = f"'{file}'"
    return [
        f"__import__('os').system('touch {file}')",
        f"open({written}, 'w').write('x')",
        f'exec("import os; os.close(os.open({written}, os.O_CREAT | os.O_WRONLY))")',
        f"exec(\"import os; os.system('touch {file}')\")",
        f'exec("import os; os.mkdir({written})")',
        f"exec(\"import subprocess; subprocess.run(['touch', {written}])\")",
        f"exec(\"import os; os.posix_spawn('/bin/touch', ['touch', {written}], {{}})\")",
        'exec("import ctypes; ctypes.CDLL(None)")',
        'exec("import socket; socket.socket()")',
        "open('/etc/hostname').read()",
        # The guard itself must not be taken off by what it guards against.
        "exec(\"import sys; m = sys.modules['_' + '_main_' + '_']; m.FOREIGN = ();"
        f" m.WRITING = 0; import os; os.system('touch {file}')\")",
        f"exec(\"import builtins; builtins.isinstance = lambda *a: False; open({written}, 'w')\")",
    ]


def test_an_answer_that_is_evaluated_does_no_harm(verifier: GymVerifier, tmp_path: Path) -> None:
    file = tmp_path / "harmed"
    for attack in attacks(file):
        found = verifier.verify(attack, "evaluates", TARGET)
        assert found.score == 0.0, attack
        assert found.problem, attack
        assert not file.exists(), attack
        verifier.close()  # what it may have replaced in there is no matter of the next one's
    assert verifier.verify("2 + 2", "evaluates", TARGET) == Verified(1.0)


def test_nothing_of_the_environment_is_inherited(verifier: GymVerifier) -> None:
    assert os.environ["SOME_API_KEY"]
    assert verifier.verify("SOME_API_KEY", "secret", {}).score == 0.0


def test_one_process_serves_many_answers_from_many_threads(verifier: GymVerifier) -> None:
    found: list[float] = []
    scores = [verifier.verify("x", "process", {}).score for _ in range(3)]

    def ask() -> None:
        found.extend(verifier.verify("x", "process", {}).score for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert set(found) == set(scores)
    assert scores[0] != os.getpid() / 1e9


def test_a_verifier_that_breaks_hangs_or_dies_has_found_nothing_right(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    verifier = install_fake_gym(monkeypatch, tmp_path / "gym", 0.5)
    try:
        for name, problem in (
            ("breaks", "RecursionError"),
            ("ends", "process ended"),
            ("nan", "no number"),
            ("hangs", "longer than 0.5 s"),
        ):
            found = verifier.verify("hang", name, {})
            assert found.score == 0.0
            assert problem in found.problem
        assert verifier.verify("no", "hangs", {}) == Verified(1.0)  # started again
        assert verifier.verify("x", "seven", {}) == Verified(1.0)
        assert "longer than 20,000" in verifier.verify("x" * 30_000, "seven", {}).problem
    finally:
        verifier.close()


def test_what_is_missing_is_named(
    verifier: GymVerifier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="unknown to reasoning-gym"):
        verifier.verify("1", "no_such_task", {})
    verifier.close()
    (tmp_path / "gym" / "reasoning_gym.py").write_text("raise OSError('half a release')\n")
    with pytest.raises(DataError, match="half a release"):
        verifier.verify("1", "evaluates", {})
    monkeypatch.setitem(__import__("sys").modules, "reasoning_gym", None)
    with pytest.raises(MissingExtraError, match=r"overproof\[tasks\]"):
        verifier.verify("1", "evaluates", {})


@pytest.mark.slow
def test_the_real_ones_are_as_harmless_and_as_right(tmp_path: Path) -> None:
    import reasoning_gym

    made = reasoning_gym.create_dataset("countdown", seed=1, size=1)[0]
    entry: dict[str, Any] = json.loads(json.dumps(made))
    verifier = GymVerifier()
    try:
        for attack in attacks(tmp_path / "harmed")[:2]:
            assert verifier.verify(attack, "countdown", entry).score < 0.1
        assert not (tmp_path / "harmed").exists()
        right = entry["metadata"]["expression"]
        for _ in range(100):
            assert verifier.verify(right, "countdown", entry) == Verified(1.0)
    finally:
        verifier.close()
