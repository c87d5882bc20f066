"""What the functions of the API share: errors with their place, signals, one writer at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from overproof.errors import ConfigError

if TYPE_CHECKING:
    from overproof.config.load import LoadedRecipe, LoadedTextRecipe
    from overproof.records.run import RunPaths

T = TypeVar("T")

__all__ = ["located", "one_at_a_time", "run_gently"]


@contextlib.contextmanager
def located(loaded: LoadedRecipe | LoadedTextRecipe) -> Iterator[None]:
    """Name the recipe's line in a mistake that shows only when the recipe is used."""
    from overproof.config import mistakes

    try:
        yield
    except ConfigError as error:
        better = mistakes.located(error, loaded.path)
        if better is error:
            raise
        raise better from error


def run_gently(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; where the program handles SIGTERM, it stops ``work`` as Ctrl-C does.

    A signal handler that raises would end the event loop at once, and answers in flight with it;
    a cancelled task still waits for them.
    """
    stopped = False
    theirs = signal.getsignal(signal.SIGTERM)
    ours = callable(theirs) and threading.current_thread() is threading.main_thread()

    async def until_stopped() -> T:
        task = asyncio.ensure_future(work)

        def stop() -> None:
            nonlocal stopped
            stopped = True
            task.cancel()

        with contextlib.suppress(NotImplementedError):  # an event loop without signals
            if ours:
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        return await task

    from overproof.collect.garbage import rare_collections

    try:
        with rare_collections():
            return asyncio.run(until_stopped())
    except asyncio.CancelledError:
        if stopped:
            raise KeyboardInterrupt from None
        raise
    finally:
        if ours:
            signal.signal(signal.SIGTERM, theirs)


@contextlib.contextmanager
def one_at_a_time(paths: RunPaths) -> Iterator[None]:
    """Hold a run's ledger for writing; of several processes of one training, the first does."""
    from overproof.records.ledger import Ledger

    if os.environ.get("RANK", "0") != "0":
        yield
        return
    with Ledger.open(paths.ledger, write=True):
        yield
