"""How labels are written so that the teacher's choice can be read from log-probs."""

from __future__ import annotations

from dataclasses import dataclass

from overproof.clients.protocol import Capabilities, Teacher
from overproof.config.recipe import Recipe
from overproof.errors import CapabilityError

__all__ = ["Signal", "choose_signal"]

MOST_LETTERS = 26


@dataclass(frozen=True)
class Signal:
    """The signal that a recipe gets from its teacher.

    ``top_logprobs`` is 0 for votes. ``notes`` are what a user should know about the choice.
    """

    rendering: str
    top_logprobs: int
    can_prefill: bool
    seeds: bool
    notes: tuple[str, ...] = ()


async def choose_signal(recipe: Recipe, teacher: Teacher) -> Signal:
    """Choose letters or words, log-probs or votes.

    Raises:
        CapabilityError: the recipe asks for what the teacher lacks.
    """
    task, can = recipe.task, teacher.capabilities
    top = min(task.top_logprobs, can.top_logprobs)
    if not top and task.samples > 1:
        _check_votes_differ(recipe, teacher)
    if task.rendering == "letters" and len(task.labels) > MOST_LETTERS:
        raise CapabilityError(
            "task.rendering = 'letters'",
            f"there are {len(task.labels)} labels and {MOST_LETTERS} letters",
            "use rendering = 'words'",
        )
    if not top:
        chosen = "words" if task.rendering == "auto" else task.rendering
        note = (
            f"the teacher offers no log-probs: {task.samples} votes an input"
            if task.top_logprobs
            else f"{task.samples} votes an input"
        )
        return Signal(chosen, 0, False, can.seed, (note,))
    rendering: str = task.rendering
    notes: list[str] = []
    if rendering == "auto":
        single = len(task.labels) <= MOST_LETTERS and await _letters_are_tokens(
            teacher, len(task.labels)
        )
        rendering = "letters" if single else "words"
    if rendering == "words":
        await _check_words(recipe, teacher, can)
    elif top < len(task.labels):
        notes.append(
            f"the teacher shows {top} alternatives for {len(task.labels)} labels: "
            "labels it does not show are known up to an interval"
        )
    return Signal(rendering, top, can.assistant_prefill, can.seed, tuple(notes))


def _check_votes_differ(recipe: Recipe, teacher: Teacher) -> None:
    """Refuse to pay for several votes that would all be the same."""
    way_out = "set [task] top_logprobs = 0 and samples = 1 (hard labels)"
    if not teacher.capabilities.temperature:
        asked = bool(recipe.task.top_logprobs)
        lacks = "neither log-probs nor a temperature" if asked else "no temperature"
        raise CapabilityError(
            f"teacher {teacher.name}",
            f"offers {lacks}, so its votes would all be the same",
            way_out,
        )
    if recipe.task.temperature == 0:
        raise CapabilityError(
            "task.temperature = 0",
            f"at this temperature all {recipe.task.samples} votes would be the same",
            f"raise it, or {way_out}",
        )


async def _letters_are_tokens(teacher: Teacher, count: int) -> bool:
    """Whether A, B, C ... are one token each, and distinct; assumed where it cannot be asked."""
    pieces = []
    for i in range(count):
        tokens = await teacher.tokenize(chr(ord("A") + i))
        if tokens is None:
            return True
        if len(tokens) != 1:
            return False
        pieces.append(tokens[0])
    return len(set(pieces)) == count


async def _check_words(recipe: Recipe, teacher: Teacher, can: Capabilities) -> None:
    """Refuse labels that begin with the same token of a teacher that cannot be prefilled."""
    if can.assistant_prefill:
        return
    first: dict[bytes, str] = {}
    for label, word in recipe.task.labels.items():
        tokens = await teacher.tokenize(word.strip())
        start = tokens[0] if tokens else word.strip().split()[0].casefold().encode()
        if start in first:
            raise CapabilityError(
                f"labels {first[start]!r} and {label!r}",
                "begin alike, and this teacher cannot be asked to continue an answer, so they "
                "cannot be told apart by log-probs",
                "use rendering = 'letters', or teacher.supports_prefill = true if it can",
            )
        first[start] = label
