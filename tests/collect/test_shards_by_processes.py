"""Shards collected by several processes, one of them killed and redone: nothing is asked twice."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from counting_server import CountingServer

from overproof.errors import LedgerError
from overproof.records.ledger import Ledger

RECIPE = """\
[run]
name = "cut"
dir = "run"
[teacher]
kind = "openai"
model = "m"
base_url = "{url}"
concurrency = 4
top_logprobs = 0
[teacher.terms]
training = "attested"
attestation = "it is a test"
[data]
file = "data.csv"
train = 60
tune = 10
test = 20
near_duplicate = 1.0
[task]
labels = ["agreement", "refusal"]
system = "Choose one of {{% for option in options %}}{{{{ option }}}} {{% endfor %}}"
samples = 2
repeats = 5
prior = "none"
"""
ASKED = 2 * (60 + 10 + 20 + 5 + 5)  # votes: first asking, second asking


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with (tmp_path / "data.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text"])
        writer.writerows([f"{word} is what {n} people said"] for n, word in enumerate("ab" * 60))
    return tmp_path


def start(home: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "overproof", *words]
    environment = {**os.environ, "NO_PROXY": "127.0.0.1"}
    return subprocess.Popen(
        command,
        cwd=home,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str], code: int = 0) -> str:
    said, errors = process.communicate(timeout=60)
    assert process.returncode == code, said + errors
    return said


def answers_in(ledger: Path) -> int:
    try:
        with Ledger.open(ledger) as reader:
            return len(reader)
    except LedgerError:  # not made yet, or its tables are being made at this moment
        return 0


def killed_midway(home: Path, ledger: Path) -> None:
    """Start the second shard and kill it once it has some answers."""
    process = start(home, "collect", "recipe.toml", "--shard", "2/3")
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up and answers_in(ledger) < 5:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_each_request_is_sent_once_and_a_killed_shard_is_redone(home: Path) -> None:
    def label(body: object) -> str:
        return "agreement" if "a is what" in json.dumps(body) else "refusal"

    with CountingServer(answer=label, latency_s=0.02) as server:
        (home / "recipe.toml").write_text(RECIPE.format(url=server.url))
        run = home / "run"
        ledgers = [run / "shards" / f"{index}-of-3" / "ledger.sqlite" for index in (1, 2, 3)]
        killed_midway(home, ledgers[1])
        with Ledger.open(ledgers[1]) as ledger:
            known = len(ledger)
        sent = server.came.total()
        repeated = sent - known
        assert 0 <= repeated <= 4 + 4  # in flight, and received but not committed

        first = start(home, "ledger", "merge", "run", str(ledgers[1]))  # as far as it came
        finished(first)
        shards = [start(home, "collect", "recipe.toml", "--shard", f"{n}/3") for n in (1, 2, 3)]
        said = [finished(shard) for shard in shards]
        assert "ledger merge" in said[0]

        joined = finished(start(home, "ledger", "merge", "run", *map(str, ledgers), "--json"))
        report = json.loads(joined)
        assert report["asked_twice"] == 0
        assert sum(source["rows"] > 0 for source in report["sources"]) == 3
        before = server.came.total()
        assert len(server.came) == ASKED
        assert before == ASKED + server.repeats
        assert server.repeats <= repeated
        whole = finished(start(home, "collect", "recipe.toml", "--json"))
        assert server.came.total() == before  # nobody is asked again
        manifest = json.loads(whole)["dataset"]
        assert manifest["outcomes"]["train"] == {"answered": 60}
        checked = finished(start(home, "ledger", "verify", "run", "--json"))
        verified = json.loads(checked)
        assert (verified["ok"], verified["chains"]) == (True, 4)
        again = finished(start(home, "ledger", "merge", "run", *map(str, ledgers)))
        assert again.count("nothing new") == 3
