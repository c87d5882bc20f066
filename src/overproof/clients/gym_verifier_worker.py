"""Runs reasoning-gym's verifiers in a process of its own; run as a script, imports no overproof.

Several verifiers evaluate the answer as Python. So this process inherits no secrets, may write no
file and, once reasoning-gym is loaded, an audit hook (PEP 578) refuses what reaches beyond it:
programs, sockets, foreign code, changes to files, and reading files that are no part of Python.
That keeps the machine from harm. It does not keep a made-up answer from lying about itself, for
instance with an object that equals everything.

A line of JSON in, a line out, each with the ``token`` of its request. In: ``name``, ``entry``,
``answer``. Out: ``score``, or ``problem`` with its ``stage``: ``name`` or ``answer``.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

LONGEST = 20_000  # characters of an answer: some verifiers take powers of its length
MEMORY = 4 * 2**30  # bytes of address space
OPEN_FILES = 64
# What is refused once all is loaded. `exec` and `compile` are not: verifiers use them.
FOREIGN = (
    "code.__new__", "cpython.", "ctypes.", "fcntl.", "ftplib.", "function.__new__", "gc.", "glob.",
    "http.", "imaplib.", "marshal.", "mmap.", "msvcrt.", "nntplib.", "os.", "pdb.", "pickle.",
    "poplib.", "pty.", "resource.prlimit", "setopencodehook", "shutil.", "signal.", "smtplib.",
    "socket.", "sqlite3.", "subprocess.", "sys.add", "sys.set", "sys.unraisablehook", "syslog.",
    "telnetlib.", "tempfile.", "urllib.", "webbrowser.", "winreg.",
)  # fmt: skip
LOOKING = ("os.listdir", "os.scandir", "os.walk", "os.fwalk")  # importing a module looks, too
MODULES = frozenset(
    {
        "_posixsubprocess", "_testcapi", "_xxsubinterpreters", "asyncio", "cffi", "code",
        "concurrent", "ctypes", "ftplib", "http", "mmap", "multiprocessing", "pip", "pty",
        "requests", "runpy", "shutil", "smtplib", "socket", "socketserver", "sqlite3", "ssl",
        "subprocess", "telnetlib", "urllib", "webbrowser",
    }
)  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

Verifier = Callable[[str, Mapping[str, Any]], float]


def main() -> None:
    """Answer lines until there are none."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what verifiers print is no reply
    parent, seconds = int(sys.argv[1]), float(sys.argv[2])
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    gym = importlib.import_module("reasoning_gym")
    verifiers: dict[str, Verifier] = {}
    _limit()
    _disarm()
    sys.addaudithook(_guard())
    print(json.dumps({"ready": True}), file=channel, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        _limit_time(seconds)
        print(json.dumps(_reply(gym, verifiers, asked)), file=channel, flush=True)


def _reply(gym: Any, verifiers: dict[str, Verifier], asked: dict[str, Any]) -> dict[str, Any]:
    token, name, answer = asked["token"], asked["name"], asked["answer"]
    if name not in verifiers:
        try:
            verifiers[name] = gym.get_score_answer_fn(name)
        except Exception as error:  # noqa: BLE001  whatever it is, the parent reports it
            return {"token": token, "stage": "name", "problem": _told(error)}
    if "__" in answer or len(answer) > LONGEST:
        why = "holds a double underscore" if "__" in answer else f"is longer than {LONGEST:,}"
        return {"token": token, "stage": "answer", "problem": f"the answer {why}"}
    random.seed(0)  # the same score whatever was verified before
    try:
        score = float(verifiers[name](answer, asked["entry"]))
    except (Exception, SystemExit) as error:  # noqa: BLE001  they read whatever a model wrote
        return {"token": token, "stage": "answer", "problem": _told(error)}
    return {"token": token, "score": score}


def _guard() -> Callable[[str, tuple[Any, ...]], None]:
    """The audit hook: raises where a verifier, or an answer in it, reaches beyond this process.

    It is never taken off, and what it decides by is its own: names of modules can be replaced by
    an answer that is evaluated, cells of a function that nobody holds cannot.
    """
    foreign, looking, modules, writing, roots = FOREIGN, LOOKING, MODULES, WRITING, _roots()
    letters, refuse, is_a, text = frozenset("wax+"), PermissionError, isinstance, str
    whole, decoded, kinds = os.path.realpath, os.fsdecode, (str, bytes)

    def check(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            if (is_a(flags, int) and flags & writing) or letters.intersection(mode or ""):
                raise refuse("a file opened for writing")
            if not is_a(path, kinds) or not whole(decoded(path)).startswith(roots):
                raise refuse("a file that is no part of Python")
        elif event == "import":
            if text(arguments[0]).partition(".")[0] in modules:
                raise refuse(f"import of {arguments[0]}")
        elif event.startswith(foreign) and event not in looking:
            raise refuse(event)

    return check


def _disarm() -> None:
    """Take away the one way to start a program that no audit event tells of."""
    for name in ("_posixsubprocess", "subprocess"):
        for attribute in ("fork_exec", "_fork_exec"):
            if hasattr(sys.modules.get(name), attribute):
                setattr(sys.modules[name], attribute, None)


def _roots() -> tuple[str, ...]:
    places = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    libraries = {place for place in sys.path if place.endswith(("-packages", "lib-dynload"))}
    roots = {os.path.realpath(os.path.join(place, "lib")) for place in places} | {
        os.path.realpath(place) for place in libraries
    }
    return tuple(sorted(root.rstrip(os.sep) + os.sep for root in roots))


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


def _limit() -> None:
    """Memory, files and dumps, where the system has such limits."""
    with contextlib.suppress(ImportError):
        import resource

        for what, most in (
            (resource.RLIMIT_AS, MEMORY),
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_NOFILE, OPEN_FILES),
            (resource.RLIMIT_CORE, 0),
        ):
            hard = resource.getrlimit(what)[1]
            least = most if hard == resource.RLIM_INFINITY else min(most, hard)
            with contextlib.suppress(ValueError, OSError):  # a system that does not know this one
                resource.setrlimit(what, (least, least))


def _limit_time(seconds: float) -> None:
    """Of the processor, for the next answer: holds even where the parent died meanwhile."""
    with contextlib.suppress(ImportError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(used.ru_utime + used.ru_stime + seconds) + 2
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        if hard != resource.RLIM_INFINITY:
            soft = min(soft, hard)
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _end_with(parent: int) -> None:
    """End when the parent has ended, even in the midst of an answer that never ends."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(0)


if __name__ == "__main__":
    main()
