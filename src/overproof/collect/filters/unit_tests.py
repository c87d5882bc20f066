"""Answers with code, run against their prompt's tests in a sandbox."""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from overproof.collect.filters.sandbox import (
    Limits,
    Result,
    Verdict,
    isolation_problem,
    run_tests,
)
from overproof.config.filters import UnitTests
from overproof.errors import ConfigError, DataError
from overproof.records.text_dataset import TextExample

__all__ = ["UnitTestFilter", "code_in"]

_FENCED = re.compile(r"^[ \t]*(?:```|~~~)[ \t]*(\w*)[^\n]*\n(.*?)^[ \t]*(?:```|~~~)", re.M | re.S)


class UnitTestFilter:
    """Drops answers whose code does not pass. Tests that pass without the code prove nothing."""

    def __init__(self, config: UnitTests) -> None:
        self.name = config.name or config.kind
        self.notes: list[str] = []
        self._config = config
        self._limits = Limits(config.timeout_s, config.memory_mb, config.processes)

    async def drops(self, examples: Sequence[TextExample]) -> dict[int, str]:
        """Whatever did not pass, by verdict.

        Raises:
            ConfigError: there are no walls to be had and ``isolation`` is ``require``.
            DataError: a prompt has no tests and ``on_missing`` is ``fail``.
        """
        tests = [self._column(example, self._config.tests) for example in examples]
        reasons = self._without_tests(examples, tests)
        if not any(tests):
            self.notes = [f"{len(examples) - len(reasons)} kept unverified: no tests"]
            return reasons
        problem = await isolation_problem()
        if problem and self._config.isolation == "require":
            raise ConfigError(
                "filters.unit_tests",
                f"nothing walls off the code of answers on this machine: {problem}",
                "run on Linux where user namespaces are allowed, in a container or virtual machine "
                "of its own, or say isolation = 'best_effort' if you trust the code",
            )
        turns = asyncio.Semaphore(os.cpu_count() or 1)
        entries = [self._column(example, self._config.entry_point) for example in examples]
        suites = list(zip(tests, entries, strict=True))
        vacuous = await self._vacuous({s for s in suites if s[0]}, not problem, turns)

        async def judge(index: int) -> Result:
            example = examples[index]
            code = code_in(example.answer)
            if self._config.preamble:
                code = f"{self._column(example, self._config.preamble)}\n{code}"
            async with turns:
                return await run_tests(code, *suites[index], self._limits, isolate=not problem)

        todo = [i for i, suite in enumerate(suites) if suite[0] and suite not in vacuous]
        results = await asyncio.gather(*(judge(index) for index in todo))
        for index, result in zip(todo, results, strict=True):
            if result.verdict is not Verdict.PASSED:
                reasons[index] = f"tests {result.verdict.value}: {result.detail}".rstrip(": ")
        for index, suite in enumerate(suites):
            if suite in vacuous:
                reasons[index] = "tests pass without any code, so they prove nothing"
        self._note(Counter(result.verdict.value for result in results), problem)
        if kept := sum(not test for test in tests) - sum(not tests[index] for index in reasons):
            self.notes.append(f"{kept} kept unverified: no tests")
        return reasons

    def _note(self, counts: Counter[str], problem: str | None) -> None:
        self.notes = [", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))]
        if problem:
            self.notes.append(
                f"NOT walled off: {problem}; only time, memory and files were limited"
            )

    def _without_tests(self, examples: Sequence[TextExample], tests: list[str]) -> dict[int, str]:
        missing = [index for index, test in enumerate(tests) if not test]
        if missing and self._config.on_missing == "fail":
            raise DataError(
                f"prompt {examples[missing[0]].item}",
                f"has no tests in {self._config.tests!r}",
                "name the column in tests, or say on_missing = 'keep' or 'drop'",
            )
        if self._config.on_missing == "drop":
            return dict.fromkeys(missing, "no tests, so nothing could be verified")
        return {}

    async def _vacuous(
        self, suites: set[tuple[str, str]], isolate: bool, turns: asyncio.Semaphore
    ) -> set[tuple[str, str]]:
        """Tests that a function that does nothing passes, or no code at all."""

        async def idle(tests: str, entry: str) -> Result:
            stub = (
                f"def {entry}(*_, **__): raise NotImplementedError" if entry.isidentifier() else ""
            )
            async with turns:
                return await run_tests(stub, tests, entry, self._limits, isolate=isolate)

        ordered = sorted(suites)
        results = await asyncio.gather(*(idle(*suite) for suite in ordered))
        return {
            suite
            for suite, result in zip(ordered, results, strict=True)
            if result.verdict is Verdict.PASSED
        }

    @staticmethod
    def _column(example: TextExample, name: str) -> str:
        value: Any = example.reference if name == "reference" else example.facts.get(name)
        if isinstance(value, list):  # MBPP keeps its assertions in a list
            return "\n".join(map(str, value))
        return "" if value is None else str(value)


def code_in(answer: str) -> str:
    """The Python of an answer: its fenced blocks one after another, or the whole answer.

    Blocks marked as another language are left out.
    """
    blocks = [
        block
        for language, block in _FENCED.findall(answer)
        if language.lower() in ("", "python", "py", "python3")
    ]
    return "\n".join(blocks) if blocks else answer
