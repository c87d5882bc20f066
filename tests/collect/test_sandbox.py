"""The sandbox against code that means harm: every attack ends, and none of them passes."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from overproof.collect.filters import sandbox
from overproof.collect.filters.sandbox import Limits, Verdict, isolation_problem, run_tests

WALLS = asyncio.run(isolation_problem())
walls = pytest.mark.skipif(WALLS is not None, reason=f"no walls on this machine: {WALLS}")
QUICK = Limits(timeout_s=1.5, memory_mb=256, processes=8)
PASSES = "assert True"


async def attack(code: str, limits: Limits = QUICK, tests: str = PASSES) -> tuple[Verdict, str]:
    result = await run_tests(code, tests, limits=limits, isolate=True)
    return result.verdict, result.detail


@walls
async def test_code_passes_or_fails_by_its_tests() -> None:
    code = (
        "from dataclasses import dataclass\n@dataclass\nclass P:\n x: 'int'\ndef f(): return P(1)"
    )
    for tests, verdict in (
        ("assert f().x == 1", Verdict.PASSED),
        ("assert f().x == 2", Verdict.FAILED),
        ("def test_it():\n    assert f().x == 1", Verdict.PASSED),
        ("def test_it():\n    assert f().x == 2", Verdict.FAILED),
        ("import unittest\nclass T(unittest.TestCase):\n  def test_it(self):\n"
         "    self.assertEqual(f().x, 1)", Verdict.PASSED),
        ("import unittest\nclass T(unittest.TestCase):\n  def test_it(self):\n"
         "    self.assertEqual(f().x, 2)", Verdict.FAILED),
        ("import unittest\nfrom unittest import TestCase\nclass T(TestCase):\n"
         "  def test_it(self):\n    raise OSError", Verdict.FAILED),
    ):  # fmt: skip
        assert (await attack(code, tests=tests))[0] is verdict, tests


FORGERIES = {
    "exit": "import sys; sys.exit(0)",
    "exit at once": "import os; os._exit(0)",
    "abort": "import os; os.abort()",
    "print a pass": "print('passed', flush=True)",
    "write a pass": "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'passed\\n')\n"
    "    except OSError: pass\nos._exit(0)",
    "exit later": "import atexit, os\nclass E(BaseException): pass\nraise E",
    "kill oneself": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "kill the parent": "import os, signal; os.kill(os.getppid(), signal.SIGKILL)",
    "kill everybody": "import os, signal; os.kill(-1, signal.SIGKILL); os._exit(0)",
    "recursion": "def f(): return f()\nf()",
}


@walls
@pytest.mark.parametrize("name", FORGERIES)
async def test_leaving_early_is_no_pass(name: str) -> None:
    verdict, _ = await attack(FORGERIES[name], tests="assert False")
    assert verdict in (Verdict.FAILED, Verdict.NO_VERDICT)


@walls
@pytest.mark.slow
async def test_endless_code_is_stopped_with_everything_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "jail_of_this_test.py"  # seen in the table of processes
    own.write_text(sandbox.JAIL.read_text())
    monkeypatch.setattr(sandbox, "JAIL", own)
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n"
    orphan = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        time.sleep(600)\n    os._exit(0)\nwhile True: pass"
    )
    begin = time.monotonic()
    for code in ("while True: pass", bomb, orphan, "import sys\nwhile True: print('x' * 9999)"):
        assert (await attack(code, Limits(timeout_s=0.7)))[0] is Verdict.TIMED_OUT
    assert time.monotonic() - begin < 30
    for _ in range(50):  # the kernel takes a moment to bury them
        left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
        if str(own) not in left.stdout:
            break
        await asyncio.sleep(0.1)
    assert str(own) not in left.stdout


@walls
async def test_memory_processes_and_files_are_limited() -> None:
    assert (await attack("x = [0] * 10**9"))[1].startswith("MemoryError")
    count = (
        "import os, time\nn = 0\ntry:\n  while n < 100:\n    if os.fork() == 0: time.sleep(60)\n"
        "    n += 1\nexcept OSError: pass\nraise SystemError(n)"
    )
    verdict, detail = await attack(count)
    assert verdict is Verdict.FAILED
    assert int(detail.removeprefix("SystemError: ")) <= QUICK.processes
    assert (await attack("open('big', 'wb').write(bytes(10**8))"))[1].startswith("OSError")
    many = "for n in range(9):\n    open(f'f{n}', 'wb').write(bytes(30 << 20))"
    assert (await attack(many, Limits(timeout_s=20)))[1].startswith("OSError: [Errno 28]")


@walls
async def test_no_network_no_environment_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_API_KEY", "a secret")
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret")
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for code in (
        f"import socket; socket.create_connection(('127.0.0.1', {port}), 0.5)",
        "import socket; socket.getaddrinfo('example.org', 80)",
        "import os; assert 'TEACHER_API_KEY' in os.environ",
        f"open({str(secret)!r}).read()",
        f"open({str(tmp_path / 'new.txt')!r}, 'w').write('x')",
        "open('/proc/1/environ').read()",
        "open('/etc/passwd').read()",
        "import sys; open(sys.prefix + '/evil.pth', 'w')",
        "import os; os.listdir('/root') and os.listdir('/home')",
        "import subprocess; subprocess.run(['/bin/sh', '-c', 'true'], check=True)",
        "import os; os.setuid(0)",
        "import os; os.mknod('/tmp/d', 0o60666, os.makedev(8, 0))",
        "import os; os.chroot('/tmp')",
        "import ctypes; assert ctypes.CDLL(None).unshare(0x10000000) == 0",
        "import ctypes; assert ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, None) == 0",
        "import resource; resource.setrlimit(resource.RLIMIT_NPROC, (9999, 9999))",
    ):
        verdict, detail = await attack(code)
        assert verdict is Verdict.FAILED, (code, detail)
    server.close()
    await server.wait_closed()
    assert [path.name for path in tmp_path.iterdir()] == ["secret.txt"]


@walls
async def test_what_a_process_leaves_behind_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert (await attack("open('kept', 'w').write('x')"))[0] is Verdict.PASSED
    assert (await attack("import os; assert os.listdir() == []"))[0] is Verdict.PASSED
    assert list(tmp_path.iterdir()) == []


@walls
async def test_a_known_limit_code_that_reads_its_own_process_can_lie() -> None:
    """Stated in the docstring of the sandbox: walls keep from harm, not from lying."""
    lie = (
        "class Yes:\n    def __eq__(self, other): return True\n    __hash__ = None\n"
        "def f(): return Yes()"
    )
    assert (await attack(lie, tests="assert f() == 42"))[0] is Verdict.PASSED


@walls
async def test_cancelling_kills() -> None:
    task = asyncio.create_task(
        run_tests("while True: pass", PASSES, limits=Limits(timeout_s=60), isolate=True)
    )
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.slow
async def test_without_walls_the_limits_hold() -> None:
    for code, verdict in (
        ("x = 1", Verdict.PASSED),
        ("x = [0] * 10**9", Verdict.FAILED),
        ("while True: pass", Verdict.TIMED_OUT),
        ("import os; os._exit(0)", Verdict.NO_VERDICT),
        ("import os; assert not os.environ", Verdict.PASSED),
    ):
        limits = Limits(timeout_s=0.7 if "while" in code else 20, memory_mb=512)
        result = await run_tests(code, PASSES, limits=limits, isolate=False)
        assert result.verdict is verdict, code


async def test_odd_code() -> None:
    for code in ("\x00", "def", "\ud800", "é = '𝕏'; raise ValueError(é + '\\ud800\\n')", "raise"):
        result = await run_tests(code, PASSES, limits=Limits(timeout_s=20), isolate=False)
        assert result.verdict is Verdict.FAILED, code
