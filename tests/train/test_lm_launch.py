"""Several processes: the same curve as one, and the line that starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_chats import make_config
from tiny_lm import write_tiny_lm

from overproof.errors import ConfigError
from overproof.train.lm.launch import check_processes, is_first_process, launcher_line, processes

SCRIPT = Path(__file__).parent.parent / "support" / "several_trainers.py"


def test_the_launcher_line() -> None:
    one, two = make_config(), make_config(processes=2)
    assert launcher_line("recipe.toml", one) == "overproof train recipe.toml"
    line = "torchrun --nproc-per-node 2 -m overproof train 'my recipe.toml'"
    assert launcher_line("my recipe.toml", two) == line
    assert launcher_line("my recipe.toml", [one, two]) == line
    assert launcher_line("recipe.toml", []) == "overproof train recipe.toml"


def test_another_number_of_processes_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert processes() == 1
    assert is_first_process()
    two = make_config(processes=2)
    check_processes("r.toml", [make_config()])
    with pytest.raises(
        ConfigError, match=r"(?s)processes = 2: but one process runs.*torchrun --nproc-per-node 2"
    ):
        check_processes("r.toml", [make_config(), two])
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert not is_first_process()
    check_processes("r.toml", [make_config(), two])
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="but 3 processes run"):
        check_processes("r.toml", [two])


@pytest.mark.slow
def test_two_processes_follow_the_curve_of_one(tmp_path: Path) -> None:
    from several_trainers import RUNS, run_all

    base = write_tiny_lm(tmp_path / "base")
    out = tmp_path / "two"
    out.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    with subprocess.Popen(
        [*command, "--master-addr", "127.0.0.1", str(SCRIPT), str(base), str(out)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        alone = run_all(base, tmp_path / "one")
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert not said.strip(), "libraries keep quiet"
    first, second = (json.loads((out / f"process-{n}.json").read_text()) for n in (0, 1))
    assert "error" not in alone
    for name in RUNS:
        one, two, other = alone[name], first[name], second[name]
        for column in (1, 3):  # losses and norms of the gradient
            assert [entry[column] for entry in two["losses"]] == pytest.approx(
                [entry[column] for entry in one["losses"]], rel=1e-5
            )
        assert two["losses"] == other["losses"], "all processes know the same"
        assert two["weights"] == other["weights"]
        assert max(abs(a - b) for a, b in zip(two["weights"], one["weights"], strict=True)) < 1e-3
        for fact in ("tokens", "answer_tokens"):
            assert two[fact] == one[fact]
        assert two["tune"] == pytest.approx(one["tune"], rel=1e-5)
        assert two["base"] == pytest.approx(one["base"], rel=1e-6)
        assert two["told"] == len(one["losses"])
        assert other["told"] == 0, "the first process alone speaks"
    assert first["error"] == second["error"]
    assert "the loss is nan at step 3" in first["error"]
    assert first["found"]
    assert second["found"]
