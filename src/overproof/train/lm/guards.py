"""What stops a training run: a loss that is no number, no memory, Ctrl-C. Nothing is lost by it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from overproof.config.lm_students import LmStudentConfig
from overproof.errors import StudentError
from overproof.train.lm.checkpoints import WEIGHTS, Checkpoints
from overproof.train.lm.parts import TokenizedChat

__all__ = ["Interrupt", "memory_errors_named", "named", "not_a_number"]

MOST_NAMED = 8
SHORT = 12  # hexadecimal digits of an item
# How torch's allocator for main memory says that there is none left.
NO_MEMORY = ("defaultcpuallocator", "not enough memory", "can't allocate memory", "out of memory")


class Interrupt:
    """Ctrl-C, noticed between two steps: the first one is kept in mind, a second one strikes."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Within the block the first Ctrl-C only sets ``asked``. Works in the main thread alone."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)

        def note(_number: int, _frame: FrameType | None) -> None:
            self.asked = True
            signal.signal(signal.SIGINT, signal.default_int_handler)

        signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def named(chat: TokenizedChat) -> str:
    """A training chat as errors call it: its item, shortened, and its row in the dataset."""
    return f"{chat.item.rpartition(':')[2][:SHORT]} (row {chat.row})"


def not_a_number(
    config: LmStudentConfig, what: str, step: int, items: Sequence[str], checkpoints: Checkpoints
) -> StudentError:
    """The error of a step whose loss or gradient is NaN or infinite.

    Args:
        config: the student's section of the recipe.
        what: the loss or the gradient, and its value.
        step: how many steps were taken before it.
        items: names of the chats that it was computed on.
        checkpoints: the student's.
    """
    good, doubtful = checkpoints.last(before=step), checkpoints.last(before=step + 1)
    if good is not None:
        kept = f"step {good.step} is kept"
    elif doubtful is not None:
        kept = f"step {doubtful.step} is kept, though no finite step followed it"
    else:
        kept = "there was no checkpoint yet"
    shown = ", ".join(items[:MOST_NAMED]) + (", ..." if len(items) > MOST_NAMED else "")
    way_out = (
        f"lower learning_rate (it is {config.rate:g}), raise warmup, or set precision = 'float32': "
        "training then begins anew; if it happens again at the same chats, look at them (rows are "
        "counted from 0 among the answered chats of the train split)"
    )
    if good is not None and config.lora is None:
        way_out += (
            f". To go on from step {good.step} with other settings, put {good.path / WEIGHTS} in "
            "place of model.safetensors in a copy of the base, and name that as base"
        )
    elif good is not None:
        way_out += f". The weights of step {good.step} are in {good.path / WEIGHTS}"
    return StudentError(
        f"student {config.name}",
        f"{what} at step {step + 1}, on the chats {shown}; the weights were not changed by it "
        f"({kept})",
        way_out,
    )


@contextmanager
def memory_errors_named(name: str, config: LmStudentConfig) -> Iterator[None]:
    """Say what to lower when the block runs out of memory.

    Raises:
        StudentError: in place of the allocator's own error.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_want_of_memory(error):
            raise
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise StudentError(
            f"student {name}", f"ran out of memory: {said}", _what_to_lower(config)
        ) from error


def _is_want_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return any(words in str(error).lower() for words in NO_MEMORY)


def _what_to_lower(config: LmStudentConfig) -> str:
    """What makes a step smaller, in the order of what it costs."""
    ways: list[Any] = [
        f"lower micro_tokens (it is {config.micro_tokens}; the curve stays the same)",
        f"lower max_length (it is {config.max_length})",
    ]
    if not config.gradient_checkpointing:
        ways.insert(1, "set gradient_checkpointing = true")
    if config.lora is None:
        ways.append("train low-rank updates: lora = { rank = 64 }")
    return "; ".join(ways) + ". The last checkpoint is kept, and the same command goes on from it"
