"""A process that trains once for every line it is told, in a child that may be killed.

A line is the arguments of ``train_once`` as JSON, and before them the number of the fsync at which
the child kills itself, or null.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys

from tiny_chats import train_once


def die_at(number: int) -> None:
    """Have this process killed when it is about to sync for the ``number``th time."""
    sync, calls = os.fsync, iter(range(1, number))

    def mortal(handle: int) -> None:
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(handle)

    os.fsync = mortal


def live(line: str) -> None:
    """One life; says its number first."""
    print("born", os.getpid(), flush=True)
    dies_at, *arguments = json.loads(line)
    if dies_at is not None:
        die_at(dies_at)
    train_once(*arguments)


def main() -> None:
    """Fork a child for each line, and say how it ended."""
    # Once, and not in every child.
    import torch.profiler  # noqa: F401
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: F401

    import overproof.train.lm.trainer  # noqa: F401

    gc.freeze()  # a child that collects garbage would copy all of this
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            live(line)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print("ended", os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
