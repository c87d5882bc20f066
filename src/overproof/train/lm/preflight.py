"""Pre-flight: what would fail, loudly or silently, checked before a token is spent.

Nothing is read but configs and tokenizers, so that it takes seconds (a GGUF file some twenty, for
its header is read in Python).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from overproof.config.lm_students import (
    DenseKdConfig,
    LmStudentConfig,
    OnPolicyConfig,
    SampledKdConfig,
)
from overproof.config.load import LoadedTextRecipe
from overproof.errors import OverproofError
from overproof.records.exchange import Outcome
from overproof.records.preflight import Check, Preflight
from overproof.train.lm import preflight_checks as checks
from overproof.train.lm.preflight_memory import available_memory, check_memory, estimate_memory
from overproof.train.lm.preflight_models import ModelFacts, Shelf

__all__ = ["SAMPLE", "preflight", "preflight_all"]

SAMPLE = 512  # chats whose tokens are counted
Row = Mapping[str, Any]


def preflight_all(
    loaded: LoadedTextRecipe,
    *,
    rows: Sequence[Row] = (),
    prompts: Sequence[Sequence[Mapping[str, str]]] = (),
    memory: tuple[int, str] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Preflight, ...]:
    """Check every student of a recipe.

    Args:
        loaded: the recipe.
        rows: answered training rows, where they are collected already.
        prompts: else the messages of prompts to come, as chat templates take them.
        memory: bytes free and of what; measured where unsaid.
        say: told what is being read.
    """
    shelf = Shelf(loaded)
    done = []
    for config in loaded.recipe.students:
        say(f"preflight: student {config.name}")
        done.append(
            preflight(loaded, config, rows=rows, prompts=prompts, memory=memory, shelf=shelf)
        )
    return tuple(done)


def preflight(
    loaded: LoadedTextRecipe,
    config: LmStudentConfig,
    *,
    rows: Sequence[Row] = (),
    prompts: Sequence[Sequence[Mapping[str, str]]] = (),
    memory: tuple[int, str] | None = None,
    shelf: Shelf | None = None,
) -> Preflight:
    """Check one student: size, tokenizer, template, end of turn, context, memory, licence.

    What cannot be read is a problem of its own, and the other checks go on without it.

    Args:
        loaded: the recipe.
        config: one of its students.
        rows: answered training rows, where they are collected already.
        prompts: else the messages of prompts to come, as chat templates take them.
        memory: bytes free and of what; measured where unsaid.
        shelf: models that were read for another student of the recipe.
    """
    shelf = shelf or Shelf(loaded)
    found: list[Check] = []
    teacher: ModelFacts | None = None
    try:
        teacher = shelf.teacher
    except OverproofError as error:
        found.append(checks.problem("teacher", error))
    try:
        base = shelf.base_of(config)
    except OverproofError as error:
        return Preflight(student=config.name, checks=(*found, checks.problem("base", error)))
    if config.prune is not None and (asked := _pruning(shelf, config)) is not None:
        return Preflight(student=config.name, checks=(*found, asked))
    chats = _sample([row for row in rows if _is_answered(row)])
    found += [
        checks.check_size(base, teacher),
        checks.check_vocabulary(config, base, teacher),
        template := checks.check_template(base, teacher, bool(loaded.recipe.task.system)),
    ]
    lengths: list[int] = []
    if template.outcome != "problem":
        found.append(checks.check_ends(config, base, teacher, chats))
        lengths = _lengths(base, chats, prompts, loaded.recipe.task.max_tokens)
        found.append(checks.check_context(config, base, lengths, answered=bool(chats)))
    needed = teacher if _keeps_teacher(config, loaded) else None
    fitting = [length for length in lengths if length <= config.max_length]
    estimate = estimate_memory(config, base, needed, longest=max(fitting, default=None))
    found += [
        check_memory(config, estimate, memory or available_memory()),
        checks.check_licence(base),
    ]
    return Preflight(student=config.name, checks=tuple(found))


def _is_answered(row: Row) -> bool:
    return bool(row.get("outcome", Outcome.ANSWERED.value) == Outcome.ANSWERED.value)


def _sample(rows: list[Row]) -> list[Row]:
    """At most 512, evenly spaced."""
    step = max(1, -(-len(rows) // SAMPLE))
    return rows[::step]


def _pruning(shelf: Shelf, config: LmStudentConfig) -> Check | None:
    """A problem where the base has fewer layers than are to stay."""
    whole = shelf.base_of(config.model_copy(update={"prune": None}))
    has, wanted = whole.text.num_hidden_layers, config.prune.layers if config.prune else 0
    outside = [layer for layer in (config.prune.keep or ()) if layer >= has] if config.prune else []
    if wanted <= has and not outside:
        return None
    return Check(
        name="pruning",
        outcome="problem",
        found=f"{has} layers",
        reason=f"the base has {has} layers, and "
        + (f"layer {outside[0]} is to stay" if outside else f"{wanted} are to stay"),
        way_out=f"set students.prune.layers to at most {has}",
    )


def _lengths(
    base: ModelFacts,
    chats: Sequence[Row],
    prompts: Sequence[Sequence[Mapping[str, str]]],
    answer: int,
) -> list[int]:
    """Tokens of answered chats; else of prompts with the longest answer that is allowed."""
    asked = chats or _sample([{"messages": list(messages)} for messages in prompts])
    lengths = []
    for row in asked:
        try:
            text = base.tokenizer.apply_chat_template(
                [dict(m, content=m.get("content") or "") for m in row["messages"]],
                tokenize=False,
                add_generation_prompt=not chats,
            )
        except Exception:  # noqa: BLE001, S112 - tokenizing counts such chats, and says why
            continue
        ids = base.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        lengths.append(len(ids) + (0 if chats else answer))
    return lengths


def _keeps_teacher(config: LmStudentConfig, loaded: LoadedTextRecipe) -> bool:
    """Whether the teacher's weights are in memory while this student trains."""
    if loaded.recipe.teacher.kind != "local":
        return False
    if isinstance(config, OnPolicyConfig):
        return config.scorer != "server"
    return isinstance(config, DenseKdConfig | SampledKdConfig) or config.base == "teacher"
