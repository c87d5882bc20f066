"""Is there anything to distil? Teacher and untrained base on a few training prompts, beforehand.

A teacher that is hardly right, or a base that is as good already, makes every student look alike.
Only training prompts whose answer is known are asked; the test split stays unseen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from overproof.clients.connect import connect
from overproof.clients.local_model import source_of
from overproof.config.lm_students import LmStudentConfig
from overproof.config.load import LoadedTextRecipe
from overproof.evaluate.candidates import as_interval
from overproof.evaluate.scorers.build import build_scorer
from overproof.evaluate.scorers.protocol import Answer, Known, Scorer
from overproof.evaluate.text.answers import ask_weights, in_parallel, weights_at
from overproof.records.exchange import Completion, Outcome, Parameters, Request
from overproof.records.text_dataset import Prompt
from overproof.stats.means import compare_means, mean_interval

__all__ = ["Ask", "headroom"]

Ask = Callable[[Prompt], Awaitable[Completion]]
Floats = npt.NDArray[np.float64]


async def headroom(
    loaded: LoadedTextRecipe,
    prompts: Sequence[Prompt],
    k: int,
    *,
    ask: Ask | None = None,
    schema: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Score the teacher and every untrained base on the same ``k`` training prompts.

    Args:
        loaded: the recipe; its ``[certificate]`` names the scorer.
        prompts: of the training split; those without a known answer, or of several turns, are
            passed over.
        k: how many at most.
        ask: puts a prompt to the teacher, such as through the ledger; a connection of its own,
            whose answers nobody keeps, where unsaid.
        schema: the JSON Schema of a task with ``answer = "json"``.

    Returns:
        ``k`` prompts scored, ``scorer``, the ``teacher``'s mean score, that of each of ``bases``
        by name, ``gain`` of the teacher over each (intervals as records), and ``notes``.

    Raises:
        OverproofError: the teacher or a base cannot be asked.
        DataError: a reference is not what the scorer reads.
    """
    scorer = build_scorer(loaded.recipe.certificate, schema)
    chosen = _chosen(prompts, scorer, k)
    notes: list[str] = []
    report: dict[str, Any] = {"k": len(chosen), "scorer": scorer.name, "bases": {}, "gain": {}}
    if not chosen:
        lacks = "it scores what the teacher said" if scorer.needs == "teacher" else (
            "no training prompt has a known answer"
        )  # fmt: skip
        return {**report, "teacher": None, "notes": [f"headroom is not measured: {lacks}"]}
    told = await _of_teacher(loaded, chosen, ask)
    right = _scores(scorer, chosen, told)
    confidence = loaded.recipe.certificate.confidence
    report["teacher"] = as_interval(mean_interval(right, confidence)).model_dump(mode="json")
    if not right.any():
        notes.append(f"the teacher is right on none of {len(chosen)} training prompts")
    for name, model in _bases(loaded, notes).items():
        given = await _of_base(loaded, chosen, model)
        own = _scores(scorer, chosen, given)
        report["bases"][name] = as_interval(mean_interval(own, confidence)).model_dump(mode="json")
        gain = compare_means(right, own, margin=None, alpha=1 - confidence).difference
        report["gain"][name] = as_interval(gain).model_dump(mode="json")
        if gain.low <= 0:
            notes.append(
                f"the teacher is not shown to be better than the untrained {name}: "
                f"{right.mean():.1%} against {own.mean():.1%} on {len(chosen)} training prompts"
            )
    return {**report, "notes": notes}


def _chosen(prompts: Sequence[Prompt], scorer: Scorer, k: int) -> list[Prompt]:
    """The first ``k`` by content address: a fixed sample that no order of the file decides."""
    if scorer.needs == "teacher":
        return []

    def scored(prompt: Prompt) -> bool:
        known = prompt.reference is not None
        if scorer.needs == "reasoning_gym":
            known = "reasoning_gym" in prompt.facts
        return known and not prompt.turns

    return sorted(filter(scored, prompts), key=lambda prompt: prompt.item)[:k]


async def _of_teacher(
    loaded: LoadedTextRecipe, chosen: list[Prompt], ask: Ask | None
) -> list[Answer | None]:
    if ask is not None:
        return [_said(await ask(prompt)) for prompt in chosen]
    recipe = loaded.recipe
    async with connect(recipe.teacher) as teacher:

        async def one(prompt: Prompt) -> Completion:
            request = _request(loaded, prompt, teacher.model, recipe.task.temperature)
            return await teacher.complete(request)

        found = await in_parallel(chosen, one, recipe.teacher.concurrency)
    return [_said(completion) for completion in found]


async def _of_base(
    loaded: LoadedTextRecipe, chosen: list[Prompt], model: str
) -> list[Answer | None]:
    """A base's answers at temperature 0, kept in the run: a second plan asks nothing."""
    weights = weights_at(loaded.recipe, model)
    path = loaded.run_dir / "answers" / "headroom" / f"{weights.sha256[-16:]}.jsonl"
    requests = [_request(loaded, prompt, model, 0.0) for prompt in chosen]
    given = await ask_weights(weights, requests, path)
    answered = Outcome.ANSWERED
    return [Answer(one.text, one.calls) if one.outcome is answered else None for one in given]


def _request(
    loaded: LoadedTextRecipe, prompt: Prompt, model: str, temperature: float | None
) -> Request:
    task = loaded.recipe.task
    return Request(
        model=model,
        messages=prompt.messages,
        parameters=Parameters(
            max_tokens=task.max_tokens, temperature=temperature, top_p=task.top_p, stop=task.stop
        ),
    )


def _said(completion: Completion) -> Answer | None:
    if completion.outcome is not Outcome.ANSWERED:
        return None
    return Answer(completion.text, completion.tool_calls)


def _scores(scorer: Scorer, chosen: list[Prompt], told: Sequence[Answer | None]) -> Floats:
    """Of each prompt; what is no answer scores 0."""
    known = [Known(prompt.item, prompt.reference, prompt.facts) for prompt in chosen]
    return np.array(
        [
            0.0 if answer is None else scorer.score(answer, each).value
            for answer, each in zip(told, known, strict=True)
        ],
        dtype=np.float64,
    )


def _bases(loaded: LoadedTextRecipe, notes: list[str]) -> dict[str, str]:
    """Bases that can be asked before training, by name; of others the reason goes to ``notes``."""
    found: dict[str, str] = {}
    for config in loaded.recipe.students:
        if config.start is not None:
            continue
        why = _why_not(config)
        if why:
            notes.append(f"the base of {config.name} is not asked: {why}")
        else:
            found.setdefault(Path(config.base).name, config.base)
    return found


def _why_not(config: LmStudentConfig) -> str:
    if config.prune is not None:
        return "it is pruned when training begins"
    if config.base == "teacher":
        return "it is the teacher itself"
    place = Path(source_of(config.base).place)
    has_config = (place / "config.json").is_file()
    if place.is_dir() and has_config and not any(place.glob("*.safetensors")):
        return "its weights are drawn at random when training begins"
    return ""
