"""What runs inside of the sandbox: walls first, then the code and its tests, then the verdict.

``sandbox.py`` starts this file as a script of its own, with ``python -I``; it needs nothing but the
standard library. On Linux it leaves its user, mount, network, process, IPC and host name
namespaces, sees a root directory made of a small memory file system with Python and the system's
libraries mounted read-only, drops every privilege, and only then runs what it was given
(namespaces(7), pivot_root(2), capabilities(7), setrlimit(2)).
"""

from __future__ import annotations

import ast
import ctypes
import json
import os
import resource
import signal
import sys
import types
from typing import Any

NEW_FS, NEW_HOST, NEW_IPC = 0x00020000, 0x04000000, 0x08000000
NEW_USER, NEW_PROCESSES, NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
WALLS = NEW_FS | NEW_HOST | NEW_IPC | NEW_PROCESSES | NEW_NETWORK
READ_ONLY, NO_SUID, NO_DEV, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
KEPT_FLAGS = 0x40F  # of a mount: read-only, no-suid, no-dev, no-exec, no-atime
DETACH = 2
DIES_WITH_PARENT, DROP_BOUNDING, NO_NEW_PRIVILEGES = 1, 24, 38
CAPABILITIES_V3 = 0x20080522
NOBODY = 65534
DISK_MB, OPEN_FILES = 32, 64
TEMPORARY = "/tmp"  # noqa: S108 - of a root directory of its own
# Where the code runs: a directory of its own, for a Python may live below the other one.
HERE = TEMPORARY + "/.here"

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: Any) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    encoded = [text.encode() if text else None for text in (source, target, kind or "", data)]
    _call("mount", encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])


def _leave_namespaces() -> None:
    if os.geteuid() == 0:
        try:
            _call("unshare", WALLS)
            return
        except OSError:  # root of a container that may not: as anybody else then
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
    user, group = os.geteuid(), os.getegid()
    _call("unshare", WALLS | NEW_USER)
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as stream:
            stream.write(line)


def _change_root(folder: str) -> None:
    """A root of memory: libraries and Python read-only, ``/tmp`` writable, four devices."""
    _mount("none", "/", None, RECURSIVE | PRIVATE)
    _mount("tmpfs", folder, "tmpfs", NO_SUID | NO_DEV, f"size={DISK_MB}m,mode=755")
    inside = folder + "/jail"
    for name in (inside + HERE, inside + "/dev", folder + "/old"):
        os.makedirs(name)
    for name in (inside + TEMPORARY, inside + HERE):
        os.chmod(name, 0o1777)  # noqa: S103 - as every /tmp is
    pythons = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    shown = {"/lib", "/lib64", "/usr/lib", "/usr/lib64", *(os.path.realpath(p) for p in pythons)}
    for path in sorted(shown | pythons):
        target = inside + path
        if os.path.islink(path):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.symlink(os.readlink(path), target)
        elif os.path.isdir(path) and not os.path.isdir(target):
            os.makedirs(target)
            _mount(path, target, None, BIND | RECURSIVE)
    for device in ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"):
        open(inside + device, "w").close()
        _mount(device, inside + device, None, BIND)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
        points = [line.split()[4].encode().decode("unicode_escape") for line in stream]
    for point in points:
        if point.startswith(inside + "/") and not point.startswith(inside + "/dev/"):
            flags = os.statvfs(point).f_flag & KEPT_FLAGS  # an inherited flag may not be lifted
            _mount("none", point, None, REMOUNT | BIND | READ_ONLY | NO_SUID | flags)
    _call("pivot_root", folder.encode(), (folder + "/old").encode())
    os.chdir("/")
    _call("umount2", b"/old", DETACH)
    os.chroot("/jail")  # besides, who is below a chroot can make no user namespace
    os.chdir(HERE)


def _drop_privileges(was_root: bool, serial: int) -> None:
    for capability in range(64):
        _libc.prctl(DROP_BOUNDING, capability, 0, 0, 0)
    if was_root:
        own = 200_000 + serial % 60_000  # a user of this run's own, whom the limits count alone
        os.setgroups([])
        os.setresgid(own, own, own)
        os.setresuid(own, own, own)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_V3, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)())
    _call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _libc.prctl(DIES_WITH_PARENT, signal.SIGKILL, 0, 0, 0)


def _limit(limits: dict[str, int]) -> None:
    mega = 1 << 20
    for what, most in (
        (resource.RLIMIT_CPU, limits["seconds"]),
        (resource.RLIMIT_AS, limits["memory_mb"] * mega),
        (resource.RLIMIT_FSIZE, DISK_MB * mega),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (least, least))


def _run(given: dict[str, Any]) -> str:
    """``passed``, or ``failed:`` and why. Whatever the code does, its tests end or they don't."""
    module = types.ModuleType("answer")
    sys.modules["answer"] = module
    space = module.__dict__
    try:
        exec(compile(given["code"], "<answer>", "exec"), space)  # noqa: S102
        exec(compile(given["tests"], "<tests>", "exec"), space)  # noqa: S102
        tree = ast.parse(given["tests"])
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name == "check":
                _check(space, given["entry_point"], tree)
            elif isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
                space[node.name]()
            elif isinstance(node, ast.ClassDef):
                _run_cases(space[node.name])
    except BaseException as error:  # noqa: BLE001 - sys.exit(0) is no pass either
        return f"failed: {type(error).__name__}: {str(error)[:200]}"
    return "passed"


def _check(space: dict[str, Any], entry_point: str, tests: ast.Module) -> None:
    """HumanEval's ``check(candidate)``, unless the tests call it themselves."""
    if entry_point:
        space["check"](space[entry_point])
    elif not any(isinstance(node, ast.Name) and node.id == "check" for node in ast.walk(tests)):
        raise LookupError("check(candidate) is never called: no entry_point")


def _run_cases(case: Any) -> None:
    import unittest

    if not (isinstance(case, type) and issubclass(case, unittest.TestCase)):
        return
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    for _, trace in (*result.failures, *result.errors):
        raise AssertionError(trace.strip().splitlines()[-1])


def _inside(given: dict[str, Any], channel: int, was_root: bool) -> None:
    os.setsid()
    if given["isolate"]:
        _drop_privileges(was_root, given["serial"])
    _limit(given["limits"])
    verdict = _run(given)
    line = " ".join(f"{given['token']} {verdict}".split()) + "\n"
    os.write(channel, line.encode("utf-8", "backslashreplace"))
    os._exit(0)


def _wait_and_leave(child: int) -> None:
    os.waitpid(child, 0)
    os._exit(0)


def main() -> None:
    """Read what to run from standard input; the verdict goes to what standard output was."""
    given = json.loads(sys.stdin.buffer.read())
    os.environ.clear()  # Python itself sets LC_CTYPE
    channel = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)
    was_root = False
    try:
        if given["isolate"]:
            _libc.prctl(DIES_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
            _leave_namespaces()
            was_root = os.geteuid() == 0
            _change_root(given["folder"])
    except (OSError, AttributeError) as error:
        os.write(channel, f"{given['token']} walls: {error}\n".encode())
        os._exit(1)
    if given["isolate"] and (child := os.fork()):  # the child is the first of its namespace:
        os.close(channel)
        _wait_and_leave(child)
    if child := os.fork():  # when it leaves, everything in there dies
        os.close(channel)
        _wait_and_leave(child)
    _inside(given, channel, was_root)


if __name__ == "__main__":
    main()
