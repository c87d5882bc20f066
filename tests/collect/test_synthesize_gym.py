from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from synthesizing import seed_prompts, tools

from overproof.collect.synthesize import gym_process
from overproof.collect.synthesize.build import build, synthesize
from overproof.config.synthesize import ReasoningGym
from overproof.errors import ConfigError, DataError, MissingExtraError
from overproof.records.hashing import canonical_json
from overproof.records.text_dataset import Prompt

WORKER = """\
import json, sys, time
names = ["sums", "broken", "wrong", "lax", "open", "stuck", "dead"]
print(json.dumps({"names": names}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    name, i = asked["name"], asked["index"]
    entry = {"question": f"{name} {i} {asked['seed']} {i % 7}", "answer": str(i), "metadata": {}}
    reply = {"entry": entry, "own": 1.0, "other": 0.0}
    if name == "sums" and i % 5 == 0:
        entry["question"] = "the same again"
    if name == "broken":
        reply = {"stage": "entry", "error": "ValueError: no luck"}
    if name == "wrong":
        reply["own"] = 0.05
    if name == "lax":
        reply["other"] = 1.0
    if name == "open":
        entry["answer"], reply["own"] = None, None
    if name == "stuck" and i == 2:
        time.sleep(60)
    if name == "dead":
        sys.exit("Segmentation fault, or nearly")
    if asked["config"]:
        reply = {"stage": "config", "error": "TypeError: unexpected keyword 'odd'"}
    print(json.dumps(reply), flush=True)
"""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that answers as tasks of reasoning-gym may."""
    path = tmp_path / "worker.py"
    path.write_text(WORKER)
    monkeypatch.setattr(gym_process, "WORKER", path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


def gym(tasks: object, count: int = 20, **changes: object) -> ReasoningGym:
    return ReasoningGym.model_validate(
        {"kind": "reasoning_gym", "tasks": tasks, "count": count, **changes}
    )


@pytest.mark.usefixtures("worker")
async def test_tasks_are_drawn_by_weight_and_bad_ones_given_up(tmp_path: Path) -> None:
    config = gym({"sums": 2, "open": 1, "wrong": 1, "lax": 1, "broken": 1}, 60, patience=5)
    strategy = build(config, tools(None, tmp_path, system="Think."))
    made = await strategy.prompts(seed_prompts("the same again"))
    names = [prompt.facts["reasoning_gym"]["name"] for prompt in made]
    assert len(made) == 60
    assert 36 <= names.count("sums") <= 42
    assert set(names) == {"sums", "open"}
    for prompt in made:
        assert prompt.origin.kind == "reasoning_gym"
        assert prompt.origin.teacher is None
        assert prompt.messages[0].content == "Think."
        assert prompt.reference == prompt.facts["reasoning_gym"]["entry"]["answer"]
    report = strategy.report()
    assert report.reasons["repeats a seed"] >= 7
    assert report.reasons["its verifier does not take its own answer"] == 5
    assert report.reasons["its verifier takes a wrong answer"] == 5
    assert report.reasons["cannot be generated"] == 5
    assert "wrong given up: 5 entries in a row dropped" in " ".join(report.notes)
    assert "was tried on no right answer" in report.notes[-1]
    again = await build(config, tools(None, tmp_path, system="Think.")).prompts(
        seed_prompts("the same again")
    )
    assert again == made


@pytest.mark.usefixtures("worker")
async def test_a_task_that_never_ends_is_given_up_and_the_others_go_on(tmp_path: Path) -> None:
    strategy = build(gym(["stuck", "sums"], 12, timeout_s=0.5), tools(None, tmp_path))
    made = await strategy.prompts([])
    names = [prompt.facts["reasoning_gym"]["name"] for prompt in made]
    assert names.count("stuck") == 2
    assert names.count("sums") == 10
    assert strategy.notes == ["stuck given up: an entry took longer than 0.5 s"]


@pytest.mark.usefixtures("worker")
async def test_what_cannot_be_run_says_why(tmp_path: Path) -> None:
    for config, kind, words in (
        (gym("sumz"), ConfigError, "did you mean sums"),
        (gym({"sums": {"config": {"odd": 1}}}), ConfigError, "unexpected keyword 'odd'"),
        (gym("dead"), DataError, "Segmentation fault, or nearly"),
    ):
        with pytest.raises(kind, match=words):
            await build(config, tools(None, tmp_path)).prompts([])
    strategy = build(gym(["wrong"], patience=6), tools(None, tmp_path))
    assert await strategy.prompts([]) == []
    assert strategy.report().seen == 6
    assert "stopped at 0 of 20: the last 6 entries brought 0 new prompts" in strategy.notes


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="tasks"):
        build(gym("gcd"), tools(None, tmp_path))


def score(prompt: Prompt, answer: str) -> float:
    """As a verifier does that has read the facts from a file."""
    import reasoning_gym

    facts = json.loads(canonical_json(prompt.facts))["reasoning_gym"]
    return float(reasoning_gym.get_score_answer_fn(facts["name"])(answer, facts["entry"]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of what reasoning-gym imports
async def test_real_tasks_can_be_verified_after_json(tmp_path: Path) -> None:
    """Those of before whose sets of strings came in another order in every process, too."""
    pytest.importorskip("reasoning_gym")
    tasks = ["chain_sum", "word_ladder", "polynomial_multiplication", "codeio", "graph_color"]
    config = gym(tasks, 25)
    first, again = [await synthesize([config], tools(None, tmp_path), []) for _ in range(2)]
    assert first.prompts == again.prompts
    assert len(first.prompts) == 25
    for prompt in first.prompts:
        name = prompt.facts["reasoning_gym"]["name"]
        if name == "graph_color":
            right = prompt.facts["reasoning_gym"]["entry"]["metadata"]["possible_answer"]
            assert prompt.reference is None
            assert score(prompt, json.dumps(right)) == 1.0
        else:
            assert prompt.reference is not None
            assert score(prompt, prompt.reference) == 1.0
            assert score(prompt, "I do not know.") < 1.0
    other = await synthesize([gym(tasks, 25, seed=8)], tools(None, tmp_path), [])
    assert not {p.item for p in other.prompts} & {p.item for p in first.prompts}


@pytest.mark.slow
async def test_real_tasks_that_cannot_be_verified_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("reasoning_gym")
    result = await synthesize([gym("arc_agi", patience=3)], tools(None, tmp_path), [])
    assert result.prompts == []
    assert [d.reason for d in result.dropped] == [
        "its verifier does not take its own answer: arc_agi scores it 0.05"
    ] * 3
    for name, config, words in (
        ("puzzle24", {}, "not those that were given"),
        ("chain_sum", {"min_terms": -1}, "refuses it: AssertionError"),
        ("chain_sum", {"no_such": 1}, "refuses it: TypeError"),
    ):
        with pytest.raises(ConfigError, match=words):
            await synthesize([gym({name: {"config": config}})], tools(None, tmp_path), [])


PARENT = """
import asyncio, sys
from pathlib import Path
from overproof.collect.synthesize import gym_process
gym_process.WORKER = Path(sys.argv[1])

async def main():
    process = gym_process.GymProcess(60.0)
    await process.start()
    print(process._process.pid, flush=True)
    await process.ask(name="stuck", config={}, seed=1, size=9, index=2)

asyncio.run(main())
"""


@pytest.mark.slow
def test_a_stuck_worker_ends_with_a_killed_parent(tmp_path: Path) -> None:
    stuck = tmp_path / "stuck.py"
    real = gym_process.WORKER.read_text()
    stuck.write_text(real.replace("for line in sys.stdin:", "while True:\n        pass"))
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(stuck)], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        if state == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its parent")


@pytest.mark.usefixtures("worker")
async def test_the_process_ends_with_the_strategy(tmp_path: Path) -> None:
    process = gym_process.GymProcess(5.0)
    await process.start()
    assert process._process is not None
    pid = process._process.pid
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(DataError, match="its process ended"):
        await process.ask(name="sums", config={}, seed=1, size=1, index=0)
    await process.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
