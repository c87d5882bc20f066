"""A plan says that nobody answers before the run finds out."""

from __future__ import annotations

import asyncio
import csv
import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from typer.testing import CliRunner

from overproof.cli.main import app
from overproof.collect.plan import plan
from overproof.config.load import LoadedRecipe, load_recipe
from overproof.records.exchange import Completion, Exchange, Outcome, Request
from overproof.records.ledger import Ledger

RECIPE = """\
[run]
name = "far"
dir = "run"
[teacher]
kind = "openai"
model = "m"
base_url = "URL"
api_key_env = "FAR_KEY"
top_logprobs = 5
terms = {{ training = "allowed", licence = "open", url = "https://example.org/terms" }}
[data]
file = "data.csv"
gold = "label"
train = 40
tune = 8
test = 12
examples = 8
[task]
labels = {labels}
system = "Choose."
examples_per_label = 1
repeats = 4
prior = "none"
"""
LETTERS = '{ yes = "agreement", no = "refusal" }'


class Closed(BaseHTTPRequestHandler):
    """Refuses every key."""

    def do_GET(self) -> None:
        body = b'{"error": {"message": "Invalid API Key"}}'
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def closed() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Closed) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that is taken, and where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAR_KEY", "sk-0123456789abcdef")


def recipe(directory: Path, url: str, text: str = RECIPE, labels: str = LETTERS) -> LoadedRecipe:
    with (directory / "data.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for i in range(80):
            writer.writerow([f"word{i} other{i * 7} third{i * 13}", ("yes", "no")[i % 2]])
    (directory / "recipe.toml").write_text(text.format(labels=labels).replace("URL", url))
    return load_recipe(directory)


def test_nobody_listening_is_a_problem_with_exit_code_1(tmp_path: Path, nobody: str) -> None:
    recipe(tmp_path, nobody)
    result = CliRunner().invoke(app, ["plan", str(tmp_path), "--json"])
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert said["ok"] is False
    [problem] = said["problems"]
    assert problem.startswith(f"{nobody}: nobody answers (")
    assert "→ check teacher.base_url" in problem
    assert said["calls"] == 68


def test_silence_goes_before_what_the_teacher_seems_to_lack(tmp_path: Path, nobody: str) -> None:
    """Whether it can be prefilled is unknown while it is down."""
    text = RECIPE.replace("repeats", 'rendering = "words"\nrepeats')
    loaded = recipe(tmp_path, nobody, text, '{ yes = "re do", no = "re try" }')
    result = asyncio.run(plan(loaded))
    assert not result.ok
    [problem] = result.problems
    assert "nobody answers" in problem


def test_a_refused_key_is_a_problem_that_names_its_variable(tmp_path: Path, closed: str) -> None:
    result = asyncio.run(plan(recipe(tmp_path, closed)))
    assert not result.ok
    [problem] = result.problems
    assert problem.startswith("environment variable FAR_KEY: the server refuses the key (401)")
    assert "Invalid API Key" in problem


def test_nobody_is_needed_for_what_the_ledger_has(
    tmp_path: Path, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = recipe(tmp_path, nobody)

    def lookup(ledger: Ledger, key: str) -> Exchange:
        request = Request(model="m", messages=())
        answer = Completion(outcome=Outcome.ANSWERED, text="A")
        return Exchange(request=request, completion=answer, teacher="t", created_at="2026-01-01")

    monkeypatch.setattr(Ledger, "lookup", lookup)
    result = asyncio.run(plan(loaded))
    assert (result.ok, result.calls, result.cached) == (True, 0, 68)
    [note] = [note for note in result.notes if "nobody answers" in note]
    assert note.startswith("the ledger has every answer")
