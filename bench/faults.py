"""What faults cost: python bench/faults.py [--quick] [--json] [--peer-python NAME=PATH ...].

One server misbehaves in the same way towards everybody (``faulty_server.py``): of the distinct
prompts 1 % are rejected for good (400), 1 % each first meet a truncated body, a 429 with
Retry-After, a 500, a reset, a garbled body, and 2 % are first answered with text that is not the
JSON that was asked for; 5 % of the prompts are repeats of another. Then the same without the
repeats, with ``kill -9`` at about half of the answers, and a second run that resumes.

overproof runs as its command line does, on a recipe with a JSON Schema. The peers, each in an
environment of its own, run as ``peers/NAME.py`` says: ``--peer-python distill_slm=…/bin/python``,
``--peer-python curator=…/bin/python``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faulty_server import answer_to, fault_of

HERE = Path(__file__).parent
IN_FLIGHT = 16
RECIPE = """\
[run]
name = "faults"
dir = "run"
[teacher]
kind = "openai"
base_url = "{url}"
model = "served-model"
concurrency = {in_flight}
terms = {{ training = "allowed", licence = "Apache-2.0" }}
[data]
file = "prompts.jsonl"
near_duplicate = 1.0
[task]
kind = "text"
answer = "json"
schema = "schema.json"
max_tokens = 64
[budget]
max_failed = 0.05
[drift]
canaries = 0
"""
SCHEMA = {
    "type": "object",
    "properties": {"length": {"type": "integer"}},
    "required": ["length"],
    "additionalProperties": False,
}


def prompts(size: int, repeats: int) -> list[str]:
    """Distinct prompts, the first ``repeats`` of them twice."""
    distinct = [f"Question {i}: how long is this text of mine?" for i in range(size - repeats)]
    return [*distinct, *distinct[:repeats]]


@contextmanager
def server() -> Iterator[str]:
    """A faulty server in its own process; its address."""
    with tempfile.TemporaryDirectory() as folder:
        port = Path(folder) / "port"
        process = subprocess.Popen([sys.executable, str(HERE / "faulty_server.py"), str(port)])
        try:
            while not port.exists() or not port.read_text():
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port.read_text()}"
        finally:
            process.kill()
            process.wait()


def ask(url: str, method: str = "GET") -> Any:
    request = urllib.request.Request(url, method=method)
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.loads(response.read())


class Ours:
    """``overproof collect``."""

    name = "overproof"

    def command(self, url: str, texts: list[str], home: Path) -> list[str]:
        recipe = RECIPE.format(url=f"{url}/v1", in_flight=IN_FLIGHT)
        (home / "recipe.toml").write_text(recipe)
        (home / "schema.json").write_text(json.dumps(SCHEMA))
        lines = (json.dumps({"text": text}) + "\n" for text in texts)
        (home / "prompts.jsonl").write_text("".join(lines))
        return [sys.executable, "-m", "overproof", "collect", str(home)]

    def answers(self, texts: list[str], home: Path) -> list[str | None]:
        found: dict[str, str] = {}
        path = home / "run" / "dataset" / "train.jsonl"
        for line in path.read_text().splitlines() if path.exists() else ():
            chat = json.loads(line)["messages"]
            found[chat[-2]["content"]] = chat[-1]["content"]
        return [found.get(text) for text in texts]


class Peer:
    """A peer that ``peers/NAME.py`` runs under a Python of its own."""

    def __init__(self, name: str, python: str) -> None:
        self.name = name
        self._python = python

    def command(self, url: str, texts: list[str], home: Path) -> list[str]:
        (home / "prompts.json").write_text(json.dumps(texts))
        script = HERE / "peers" / f"{self.name}.py"
        files = [str(home / "prompts.json"), str(home / "answers.json")]
        return [self._python, str(script), f"{url}/v1", *files, str(IN_FLIGHT), str(home)]

    def answers(self, texts: list[str], home: Path) -> list[str | None]:
        path = home / "answers.json"
        found: list[str | None] = json.loads(path.read_text()) if path.exists() else []
        return found or [None] * len(texts)


def run(system: Ours | Peer, url: str, size: int) -> dict[str, Any]:
    """One pass with every fault and no kill."""
    texts = prompts(size, size // 20)
    ask(f"{url}/reset", "POST")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        started = time.perf_counter()
        done = subprocess.run(
            system.command(url, texts, home), capture_output=True, check=False, timeout=600
        )
        seconds = time.perf_counter() - started
        answers = system.answers(texts, home)
    stats = ask(f"{url}/stats")
    recoverable = [text for text in texts if fault_of(text) != "rejected"]
    by_text = dict(zip(texts, answers, strict=True))
    right = sum(by_text[text] == answer_to(text) for text in recoverable)
    wrong = sum(by_text[text] not in (None, answer_to(text)) for text in recoverable)
    needed = stats["distinct"] + sum(n for name, n in stats["faults"].items() if name != "rejected")
    return {
        "rows lost": len(recoverable) - right - wrong,
        "malformed kept as answers": wrong,
        "requests beyond need": stats["requests"] - needed,
        "asked before Retry-After": stats["too_early"],
        "exit code": done.returncode,
        "seconds": seconds,
    }


def killed(system: Ours | Peer, url: str, size: int) -> dict[str, Any]:
    """kill -9 at half of the answers, then the same command again."""
    texts = [text for text in prompts(size, 0) if fault_of(text) in ("", "rejected")]
    ask(f"{url}/reset", "POST")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        command = system.command(url, texts, home)
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while sum(ask(f"{url}/stats")["answered"].values()) < len(texts) // 2:
            if child.poll() is not None:
                break
            time.sleep(0.02)
        child.kill()
        child.wait()
        try:
            subprocess.run(command, capture_output=True, check=False, timeout=300)
            ended = True
        except subprocess.TimeoutExpired:
            ended = False
        answers = system.answers(texts, home)
    stats = ask(f"{url}/stats")
    expected = [text for text in texts if fault_of(text) != "rejected"]
    by_text = dict(zip(texts, answers, strict=True))
    return {
        "kill -9: resumed run hangs": not ended,
        "kill -9: rows lost": sum(by_text[text] is None for text in expected),
        "kill -9: answers paid twice": sum(n - 1 for n in stats["answered"].values()),
    }


# What each figure may be at most; paid twice: what was in flight, and as much received and queued.
TARGETS = {
    "rows lost": 0,
    "malformed kept as answers": 0,
    "requests beyond need": 0,
    "asked before Retry-After": 0,
    "exit code": 0,
    "kill -9: resumed run hangs": 0,
    "kill -9: rows lost": 0,
    "kill -9: answers paid twice": 2 * IN_FLIGHT,
}


def measure(size: int, peers: list[Peer]) -> list[dict[str, Any]]:
    results: dict[str, dict[str, Any]] = {}
    with server() as url:
        for system in [Ours(), *peers]:
            results[system.name] = run(system, url, size) | killed(system, url, size)
    return [
        row(metric, name, value)
        for metric in results["overproof"]
        for name, value in ((name, result[metric]) for name, result in results.items())
    ]


def row(metric: str, name: str, value: float) -> dict[str, Any]:
    target = TARGETS.get(metric) if name == "overproof" else None
    plain: dict[str, Any] = {
        "metric": metric if name == "overproof" else f"{metric}, {name}",
        "value": round(value, 1) if isinstance(value, float) else int(value),
        "target": target,
        "unit": "s" if metric == "seconds" else "",
        "met": None if target is None else value <= target,
        "peer": None,
    }
    if target is None:
        plain["why"] = "for comparison" if name == "overproof" else "a peer, for comparison"
    return plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="200 prompts instead of 1,000")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--peer-python", action="append", default=[], metavar="NAME=PATH", help="see above"
    )
    options = parser.parse_args()
    named = [Peer(*pair.split("=", 1)) for pair in options.peer_python]
    rows = measure(200 if options.quick else 1_000, named)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    if options.json:
        print(json.dumps({"bench": "faults", "machine": machine, "rows": rows}))
        return
    print(machine)
    for item in rows:
        met = {True: "met", False: "MISSED", None: ""}[item["met"]]
        target = "" if item["target"] is None else f"target {item['target']}"
        print(f"{item['metric']:<42} {item['value']!s:>8} {target:<10} {met}")


if __name__ == "__main__":
    main()
