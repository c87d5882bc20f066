"""The study's problems: generators of reasoning-gym, asked in a few characters.

    python studies/tasks.py runs/study/prompts.jsonl

writes the problems of the study's recipes, each with the entry that the generator's own verifier
reads. Reasoning-gym asks in whole sentences, the same for every entry of a task; a model of four
million parameters spends most of its tokens on them, and to tell held-out problems from training
ones by their text is hopeless. So the study asks ``23-60``, not for the final answer to the
following arithmetic problem. What is asked, and what is right, stay the generator's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["TASKS", "Problem", "problems", "verify"]


class Task(NamedTuple):
    """A generator with its settings, and how it is asked.

    ``share`` is of the teacher's training problems, ``asked`` of the study's prompts: this teacher
    hardly learned to add or to count, so that these are asked less. A study of what is kept should
    not be mostly of what was never there.
    """

    share: float
    asked: float
    config: dict[str, Any]
    ask: Callable[[dict[str, Any]], str]
    answer: Callable[[str], str] = str


class Problem(NamedTuple):
    """One problem; ``entry`` is what the verifier reads."""

    task: str
    question: str
    answer: str
    entry: dict[str, Any]


def _sorting(facts: dict[str, Any]) -> str:
    way = "Up" if facts["direction"] == "ascending" else "Down"
    return f"{way}: {', '.join(_whole(number) for number in facts['original_numbers'])}"


def _whole(number: str) -> str:
    return str(int(float(number)))


def _sorted(answer: str) -> str:
    return "[" + ", ".join(_whole(part.strip("[]' ")) for part in answer.split(",")) + "]"


TASKS: dict[str, Task] = {
    "chain_sum": Task(
        0.26,
        0.08,
        {"min_terms": 2, "max_terms": 3, "min_digits": 1, "max_digits": 2},
        lambda facts: facts["expression"].replace(" ", ""),
    ),
    "number_sorting": Task(
        0.18,
        0.30,
        {
            "min_numbers": 3,
            "max_numbers": 4,
            "min_decimals": 0,
            "max_decimals": 0,
            "min_value": -50.0,
            "max_value": 50.0,
        },
        _sorting,
        _sorted,
    ),
    "spell_backward": Task(
        0.18,
        0.24,
        {"min_word_len": 3, "max_word_len": 7},
        lambda facts: f"Backward: {facts['word']}",
    ),
    "letter_counting": Task(
        0.20,
        0.08,
        {"min_words": 2, "max_words": 3},
        lambda facts: f"Count {facts['target_letter']}: {' '.join(facts['span'])}",
    ),
    "word_sequence_reversal": Task(
        0.18,
        0.30,
        {"min_words": 2, "max_words": 3},
        lambda facts: f"Reverse: {', '.join(facts['words'])}",
    ),
}


def problems(task: str, seed: int, count: int) -> list[Problem]:
    """``count`` problems of one task; reasoning-gym adds an entry's index to the seed."""
    import reasoning_gym

    told = TASKS[task]
    made = reasoning_gym.create_dataset(task, seed=seed, size=count, **told.config)
    found = []
    for index in range(count):
        entry = json.loads(json.dumps(made[index]))
        found.append(
            Problem(task, told.ask(entry["metadata"]), told.answer(entry["answer"]), entry)
        )
    return found


def verify(problem: Problem, answer: str) -> bool:
    """Whether the generator's own verifier takes the answer for right, wholly."""
    import reasoning_gym

    return bool(reasoning_gym.get_score_answer_fn(problem.task)(answer, problem.entry) >= 1)


def main() -> None:
    """Write the prompts of the study: distinct questions in the mixture of the tasks."""
    parser = argparse.ArgumentParser(description="Write the prompts of the study's recipes.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=8_000)
    parser.add_argument("--seed", type=int, default=20_000_000)
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()
    with arguments.out.open("w", encoding="utf-8") as file:
        for name, task in TASKS.items():
            for problem in problems(name, arguments.seed, round(arguments.count * task.asked)):
                if problem.question in seen:
                    continue
                seen.add(problem.question)
                row = {
                    "text": problem.question,
                    "answer": problem.answer,
                    "reasoning_gym": {"name": name, "entry": problem.entry},
                }
                file.write(json.dumps(row) + "\n")
    print(f"{len(seen)} prompts in {arguments.out}")


if __name__ == "__main__":
    main()
