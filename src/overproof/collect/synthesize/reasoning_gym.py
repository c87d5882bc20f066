"""Verifiable tasks of reasoning-gym (arXiv 2505.24760): right answers can be told from wrong ones.

An entry is kept only when the verifier, given the entry as JSON keeps it, takes the entry's own
answer for right and a wrong one for wrong.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
from collections.abc import Sequence
from typing import Any

from overproof.collect.synthesize.gym_process import GymProcess, GymStuckError
from overproof.collect.synthesize.harvest import Harvest
from overproof.collect.synthesize.protocol import (
    Candidate,
    Dropped,
    StrategyReport,
    StrategyTools,
)
from overproof.config.synthesize import ReasoningGym
from overproof.errors import ConfigError, MissingExtraError
from overproof.records.text_dataset import Prompt

__all__ = ["FLAWED", "ReasoningGymStrategy"]

# Refused by name, as of reasoning-gym 0.1.25.
FLAWED = {
    "puzzle24": "its verifier takes any four numbers that make 24, not those that were given",
    "game_of_life_halting": "its verifier takes any answer that is not empty",
    "composite": "it is a mixture of others: name these",
}


class ReasoningGymStrategy:
    """Draws tasks in turn, each as often as its weight says.

    Args:
        config: its section of the recipe.
        tools: for the seed and the system message.
        earlier: texts of the prompts that strategies before this one have made.
    """

    name = "reasoning_gym"

    def __init__(
        self, config: ReasoningGym, tools: StrategyTools, earlier: Sequence[str] = ()
    ) -> None:
        if importlib.util.find_spec("reasoning_gym") is None:
            raise MissingExtraError("reasoning_gym", "tasks")
        self._config = config
        self._seed = tools.seed if config.seed is None else config.seed
        self._harvest = Harvest(self.name, config, tools, earlier, unit="entries")
        self._drawn = dict.fromkeys(config.tasks, 0)
        self._missed = dict.fromkeys(config.tasks, 0)
        self._unanswered: dict[str, str] = {}

    @property
    def notes(self) -> list[str]:
        """What is worth knowing of the last call of ``prompts``."""
        return self._harvest.notes

    @property
    def dropped(self) -> list[Dropped]:
        """The entries that became no prompts, each with its reason."""
        return self._harvest.dropped

    def report(self) -> StrategyReport:
        """What came of the last call of ``prompts``."""
        return self._harvest.report()

    async def prompts(self, seeds: Sequence[Prompt]) -> list[Prompt]:
        """Generate entries until there are ``count`` distinct ones that their verifiers bear out.

        Raises:
            ConfigError: there is no such task, or its config is not one.
        """
        await self._harvest.begin(seeds)
        process = GymProcess(self._config.timeout_s)
        try:
            self._check_names(await process.start())
            while not self._harvest.over and (name := self._next()) is not None:
                try:
                    await self._draw(process, name)
                except GymStuckError as stuck:
                    self._give_up(name, str(stuck))
                    await process.start()
        finally:
            await process.stop()
        self.notes.extend(self._unanswered.values())
        self._harvest.close("no task has more")
        return self._harvest.made

    def _check_names(self, known: Sequence[str]) -> None:
        for name in self._config.tasks:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
                raise ConfigError(
                    f"synthesize.tasks.{name}",
                    "reasoning-gym has no such task",
                    f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}",
                )
            if name in FLAWED:
                raise ConfigError(f"synthesize.tasks.{name}", FLAWED[name], "take another task")

    def _next(self) -> str | None:
        """The task that is furthest behind its weight, ``None`` when all are given up."""
        tasks = self._config.tasks
        left = [name for name in tasks if self._missed[name] < self._config.patience]
        return min(
            left, key=lambda name: (self._drawn[name] + 1) / tasks[name].weight, default=None
        )

    async def _draw(self, process: GymProcess, name: str) -> None:
        task, index = self._config.tasks[name], self._drawn[name]
        self._drawn[name] += 1
        digest = hashlib.sha256(f"{self._seed} {name}".encode()).digest()
        # Generators add the index to the seed: without a hash, seed 1 would repeat seed 0's tasks.
        seed = int.from_bytes(digest[:4]) >> 1
        reply = await process.ask(
            name=name, config=task.config, seed=seed, size=2 * self._config.count, index=index
        )
        if reply.get("stage") == "config":
            raise ConfigError(
                f"synthesize.tasks.{name}.config",
                f"reasoning-gym refuses it: {reply['error']}",
                "see the task's dataclass in reasoning_gym for its settings and their ranges",
            )
        source = f"{name}, seed {seed}, entry {index}"
        before = len(self._harvest.made)
        await self._harvest.take([self._candidate(name, source, reply)])
        missed = len(self._harvest.made) == before
        self._missed[name] = self._missed[name] + 1 if missed else 0
        if missed and self._missed[name] == self._config.patience:
            reason = self._harvest.dropped[-1].reason if self._harvest.dropped else "nothing new"
            self._give_up(
                name, f"{self._config.patience} entries in a row dropped, the last: {reason}"
            )

    def _candidate(self, name: str, source: str, reply: dict[str, Any]) -> Candidate:
        if "error" in reply:
            return Candidate("", source, rejected=f"cannot be generated: {reply['error']}")
        entry, own, other = reply["entry"], reply["own"], reply["other"]
        rejected = None
        if own is not None and own < 1:
            rejected = f"its verifier does not take its own answer: {name} scores it {own:g}"
        elif other is not None and other >= 1:
            rejected = f"its verifier takes a wrong answer: {name}"
        elif entry["answer"] is None:
            known = "" if own is not None else ", and its verifier was tried on no right answer"
            self._unanswered[name] = f"{name}: many answers are right; there is no reference{known}"
        return Candidate(
            text=entry["question"],
            source=source,
            reference=None if entry["answer"] is None else str(entry["answer"]),
            facts={"reasoning_gym": {"name": name, "entry": entry}},
            rejected=rejected,
        )

    def _give_up(self, name: str, why: str) -> None:
        self._missed[name] = self._config.patience
        self.notes.append(f"{name} given up: {why}")
