"""The child process of an embedded teacher: llama.cpp's server on a loopback port.

Reads one line of JSON from standard input, writes one line with the server's address to standard
output, and ends when standard input does: the parent holds the other end, so that the server goes
with it however the parent ends.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import Any

__all__ = ["main"]

PR_SET_PDEATHSIG = 1  # prctl(2)
QUIET = 2  # warnings and errors


def main() -> int:
    """Serve until the parent is gone."""
    settings = json.loads(sys.stdin.readline())
    _die_with(settings["parent"])
    # llama.cpp also prints to standard output; that line belongs to the address.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    server = _serve(settings)
    print(json.dumps({"address": server.listening_address}), file=answer, flush=True)
    sys.stdin.read()
    # The server's threads know no orderly end that is worth waiting for.
    os._exit(0)


def _die_with(parent: int) -> None:
    """Have Linux kill this process when its parent dies, even while a model is loading."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call
        os._exit(0)


def _serve(settings: dict[str, Any]) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.model_alias = {settings["model"]}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [settings["key"]]
    params.ui = False
    params.endpoint_slots = False
    params.n_parallel = settings["slots"]
    params.n_ctx = settings["context_length"] * settings["slots"]
    params.cpuparams.n_threads = settings["threads"]
    params.cpuparams_batch.n_threads = settings["threads"]
    params.warmup = False
    params.verbosity = QUIET
    # Each slot keeps its last prompt, which is what requests with a common start need; the cache
    # of earlier prompts beyond that may take gigabytes.
    params.cache_ram_mib = 0
    # As an API does: a sample at temperature 1 is one from the model's own distribution.
    params.sampling.top_k = 0
    params.sampling.top_p = 1.0
    params.sampling.min_p = 0.0
    return xllamacpp.Server(params)


if __name__ == "__main__":
    sys.exit(main())
