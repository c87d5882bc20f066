"""The whole road, by the command line: recipe → ledger → dataset → students → certificate."""

from __future__ import annotations

import csv
import json
import math
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
import tiny

ROOT = Path(__file__).resolve().parent.parent
OVERPROOF = [sys.executable, "-m", "overproof"]

pytestmark = pytest.mark.slow


def run(*arguments: str, cwd: Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*OVERPROOF, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"OVERPROOF_GUARD_KEY": "c1d04b7e95a2f36880be7724d9135fca"},
    )  # fmt: skip
    assert done.returncode == expect, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory like the repository after `make demo`, with tiny stand-ins."""
    directory = tmp_path_factory.mktemp("home")
    tiny.write_task(directory)
    tiny.write_chats(directory)
    shutil.copytree(ROOT / "studies/teacher", directory / "studies/teacher")
    shutil.copy(ROOT / "studies/quick.jsonl", directory / "studies")
    shutil.copy(ROOT / "configs/study-quick.toml", directory / "configs")
    done = run("distill", "configs/demo.toml", "--json", cwd=directory)
    result = json.loads(done.stdout)
    assert result["certificate"]["verdict"] == "certified"
    return directory


def verified(ledger: Path) -> int:
    """Rows of a ledger that is whole."""
    report = json.loads(run("ledger", "verify", str(ledger), "--json", cwd=ledger.parent).stdout)
    assert report["ok"]
    return int(report["rows"])


def readme_commands() -> list[str]:
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def test_the_readme_prints_commands() -> None:
    commands = readme_commands()
    assert commands[:2] == ["make demo", "make test"]
    assert len(commands) > 12


@pytest.mark.parametrize("command", readme_commands())
def test_every_command_in_the_readme_runs(command: str, home: Path) -> None:
    program, *arguments = shlex.split(command)
    if program == "make":
        done = subprocess.run(
            ["make", "-n", *arguments], cwd=ROOT, capture_output=True, check=False
        )
        assert done.returncode == 0
        return
    assert program == "overproof"
    if arguments[0] == "serve":
        serve(arguments, home)
        return
    if arguments[0] == "import" and not (home / arguments[1]).exists():
        run("ledger", "export", "runs/demo", "--to", arguments[1], cwd=home)
    if arguments[:2] == ["models", "pull"] and "OVERPROOF_MODELS_DIR" not in os.environ:
        default = Path("~/.cache/overproof/models").expanduser() / arguments[2]
        if not default.exists():
            pytest.skip("the models were not pulled; `make models` does")
    # A minute's student is worse than its teacher, and the certificate says so.
    worse = arguments == ["distill", "configs/study-quick.toml"]
    run(*arguments, cwd=home, expect=1 if worse else 0)


def serve(arguments: list[str], home: Path) -> None:
    port = arguments[arguments.index("--port") + 1]
    server = subprocess.Popen([*OVERPROOF, *arguments], cwd=home, stderr=subprocess.PIPE)
    try:
        talks = "runs/study-quick/students/sft" in arguments
        text = "3+0+2" if talks else "Text: kab lod"
        body = {"model": "any", "messages": [{"role": "user", "content": text}], "temperature": 0}
        answer = post(f"http://127.0.0.1:{port}/v1/chat/completions", body)
        if talks:
            assert re.fullmatch(r"[-\d]+", answer["choices"][0]["message"]["content"])
            return
        assert answer["choices"][0]["message"]["content"] in ("yes", "no")
        plain = post(f"http://127.0.0.1:{port}/v1/classify", {"input": "kab lod"})
        assert plain["results"][0]["label"] == answer["choices"][0]["message"]["content"]
    finally:
        server.terminate()
        server.communicate(timeout=20)


def post(url: str, body: object) -> dict[str, list[dict[str, dict[str, str]]]]:
    data = json.dumps(body).encode()
    for _ in range(100):
        try:
            request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=10) as response:
                return json.load(response)
        except (ConnectionError, urllib.error.URLError):
            time.sleep(0.1)
    raise AssertionError(f"nobody answers at {url}")


def test_running_again_repeats_nothing(home: Path) -> None:
    ledger = home / "runs/demo/ledger.sqlite"
    students = home / "runs/demo/students"
    before = {p: p.stat().st_mtime_ns for p in students.rglob("*") if p.is_file()}
    rows = verified(ledger)
    again = json.loads(run("distill", "configs/demo.toml", "--json", cwd=home).stdout)
    assert verified(ledger) == rows + 1  # this look at the test set
    weights = [p for p in before if p.suffix in (".onnx", ".safetensors")]
    assert len(weights) == 4
    assert all(p.stat().st_mtime_ns == before[p] for p in weights)
    assert "repeat of look" in again["certificate"]["looks"][-1]["what"]


def test_a_run_is_the_directory_that_the_readme_draws(home: Path) -> None:
    drawn = re.search(r"    runs/demo/\n((?:      .*\n)+)", (ROOT / "README.md").read_text())
    assert drawn is not None
    names = [line.split()[0] for line in drawn[1].splitlines()]
    assert len(names) >= 8
    for name in names:
        assert (home / "runs/demo" / name).exists(), name


def test_a_student_labels_a_file_as_it_was_certified(home: Path) -> None:
    run("predict", "runs/demo", "questions.csv", "--out", "out.csv", cwd=home)
    with (home / "out.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 360
    for row in rows[:20]:
        shares = [float(value) for name, value in row.items() if name.startswith("p(")]
        assert sum(shares) == pytest.approx(1, abs=1e-6)


def test_a_leak_refuses_to_certify(home: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from overproof.records.dataset import DatasetManifest, read_split, write_manifest, write_split
    from overproof.records.hashing import file_sha256

    shutil.copytree(home / "runs/demo", tmp_path / "run")
    recipe = (home / "configs/demo.toml").read_text()
    (tmp_path / "r.toml").write_text(recipe.replace(str(home / "runs/demo"), str(tmp_path / "run")))
    dataset = tmp_path / "run/dataset"
    leaked = [*read_split(dataset, "train"), read_split(dataset, "test")[3]]
    write_split(dataset, "train", leaked)
    manifest = DatasetManifest.model_validate_json((dataset / "manifest.json").read_text())
    files = {**manifest.files, "train.parquet": file_sha256(dataset / "train.parquet")}
    write_manifest(dataset, manifest.model_copy(update={"files": files}))
    assert pq.read_table(dataset / "train.parquet").num_rows == len(leaked)
    done = run("certify", "r.toml", cwd=tmp_path, expect=2)
    assert "test" in done.stderr
    assert len((tmp_path / "run/looks.jsonl").read_text().splitlines()) == len(
        (home / "runs/demo/looks.jsonl").read_text().splitlines()
    )


def test_from_imported_logs_to_a_certificate(home: Path) -> None:
    """The commonest start: answers that somebody already has, and no teacher to ask."""
    with (home / "questions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    with (home / "log.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows([row["text"], row["label"]] for row in rows)
    recipe = (home / "configs/demo.toml").read_text()
    recipe = recipe.replace('kind = "fake"', 'kind = "ledger"').replace("runs/demo", "runs/logs")
    recipe = re.sub(r'file = ".*"\ngold = "label"', 'file = "ledger"', recipe)
    recipe = recipe.replace("examples = 10", "examples = 0").replace("examples_per_label = 1", "")
    (home / "logs.toml").write_text(recipe)
    into = ["import", "log.csv", "--teacher", "t", "--into"]
    run(*into, "runs/logs/ledger.sqlite", "--terms", "allowed", "--licence", "MIT", cwd=home)
    done = run("distill", "logs.toml", "--json", cwd=home, expect=1)
    certificate = json.loads(done.stdout)["certificate"]
    assert certificate["basis"] == "teacher"
    assert certificate["verdict"] == "cannot say"
    assert certificate["provenance"]["shares"] == {"t": 1.0}
    assert certificate["provenance"]["teacher"]["terms"] == "allowed"
    assert certificate["provenance"]["teacher"]["licence"] == "MIT"
    (home / "unsaid.toml").write_text(recipe.replace("runs/logs", "runs/unsaid"))
    run(*into, "runs/unsaid/ledger.sqlite", cwd=home)
    refused = run("distill", "unsaid.toml", cwd=home, expect=2)
    assert "log.csv (answers of t): nobody has said that these answers may train" in refused.stderr
    assert "[teacher.terms]" in refused.stderr
    assert not (home / "runs/unsaid/dataset").exists()


def test_looks_go_along_with_a_copied_ledger(home: Path) -> None:
    looks = len((home / "runs/demo/looks.jsonl").read_text().splitlines())
    (home / "runs/copied").mkdir()
    shutil.copy(home / "runs/demo/ledger.sqlite", home / "runs/copied")
    recipe = (home / "configs/demo.toml").read_text().replace("runs/demo", "runs/copied")
    (home / "copied.toml").write_text(recipe.replace("margin = 0.3", "margin = 0.25"))
    done = json.loads(run("distill", "copied.toml", "--json", cwd=home).stdout)
    seen = done["certificate"]["looks"]
    assert [look["look"] for look in seen] == list(range(1, looks + 2))
    assert seen[-1]["repeat_of"] is None
    assert len((home / "runs/copied/looks.jsonl").read_text().splitlines()) == looks + 1


@pytest.mark.parametrize("step", ["collect", "train", "certify", "distill"])
def test_no_step_goes_on_under_another_recipe(home: Path, step: str) -> None:
    recipe = (home / "configs/demo.toml").read_text()
    (home / "laxer.toml").write_text(recipe.replace("margin = 0.3", "margin = 0.4"))
    refused = run(step, "laxer.toml", cwd=home, expect=2)
    assert "under another recipe" in refused.stderr
    assert "a [run] dir of its own" in refused.stderr


def test_a_run_survives_being_killed_at_any_moment(home: Path, tmp_path: Path) -> None:
    """SIGKILL leaves no time to tidy up: what is committed must be whole, and enough."""
    tiny.write_task(tmp_path)
    started = time.monotonic()
    run("distill", "configs/demo.toml", cwd=tmp_path)
    whole = time.monotonic() - started
    undisturbed = json.loads((tmp_path / "runs/demo/certificate.json").read_text())
    rows = verified(tmp_path / "runs/demo/ledger.sqlite")
    shutil.rmtree(tmp_path / "runs")
    rng = random.Random(7)
    for _ in range(6):
        killed = subprocess.Popen(
            [*OVERPROOF, "distill", "configs/demo.toml"],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(rng.uniform(0.1, 0.8) * whole)
        killed.kill()
        killed.wait(timeout=20)
        if (tmp_path / "runs/demo/ledger.sqlite").exists():
            verified(tmp_path / "runs/demo/ledger.sqlite")
    done = json.loads(run("distill", "configs/demo.toml", "--json", cwd=tmp_path).stdout)
    certificate = done["certificate"]
    for said in ("verdict", "recommended", "certified", "n_test", "splits", "outcomes"):
        assert certificate[said] == undisturbed[said], said
    looks = len(certificate["looks"])
    # Whatever was in flight when it was killed was asked again, and stands there once.
    assert verified(tmp_path / "runs/demo/ledger.sqlite") == rows - 1 + looks


class SlowServer(BaseHTTPRequestHandler):
    """Answers every chat with A, or B, after a moment."""

    protocol_version = "HTTP/1.1"
    calls: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self._say(404, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.calls.append(body)
        time.sleep(0.05)
        chance = 0.1 + 0.8 * (zlib.crc32(body.encode()) % 97) / 97
        top = [{"token": "A", "logprob": math.log(chance), "bytes": [65]},
               {"token": "B", "logprob": math.log(1 - chance), "bytes": [66]}]  # fmt: skip
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": "A"},
            "finish_reason": "stop",
            "logprobs": {"content": [top[0] | {"top_logprobs": top}]},
        }
        usage = {"prompt_tokens": 10, "completion_tokens": 1}
        self._say(200, {"model": "served", "choices": [choice], "usage": usage})

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _say(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_collection_keeps_what_was_paid_for(
    tmp_path: Path, stop: signal.Signals
) -> None:
    SlowServer.calls.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), SlowServer)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        recipe = tiny.write_task(tmp_path)
        text = recipe.read_text().replace(
            'kind = "fake"',
            f'kind = "openai"\nbase_url = "http://127.0.0.1:{server.server_port}/v1"\n'
            'top_logprobs = 5\nterms = { training = "allowed" }',
        )
        recipe.write_text(text)
        command = [*OVERPROOF, "collect", str(recipe)]
        running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        while len(SlowServer.calls) < 60 and running.poll() is None:
            time.sleep(0.005)
        running.send_signal(stop)
        _, said = running.communicate(timeout=60)
        assert running.returncode == 130, said
        assert "interrupted: run the same command again to go on from here" in said
        before = len(SlowServer.calls)
        assert 60 <= before < 400
        ledger = tmp_path / "runs/demo/ledger.sqlite"
        # The root, the recipe, its terms, and every answer.
        assert verified(ledger) == 3 + before
        run("collect", str(recipe), cwd=tmp_path)
        assert len(SlowServer.calls) == 400
        assert verified(ledger) == 4 + 400  # and what is known of drift
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
