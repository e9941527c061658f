"""The program's and the provider's processes.

Both end when their stdin is closed. The engine holds the other end, so they end with the engine,
even if it is killed. The engine forks them first, because a process of the SDK spends most of its
start-up time on imports.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import os
import runpy
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

#: The exit code of a program whose error the user has already seen, as in the CLI's language host.
ALREADY_REPORTED = 32


def end_with_parent() -> None:
    """End this process when its parent ends."""

    def wait() -> None:
        while os.read(0, 4096):
            continue
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def read_line() -> bytes:
    """Read a line without buffering: a partly read, buffered stdin blocks Python's exit."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            os._exit(1)
        line += byte
    return bytes(line)


class Forked:
    """A child with pipes, like a `subprocess.Popen`."""

    def __init__(self, pid: int, stdin: int, stdout: int) -> None:
        self._pid = pid
        self.stdin = os.fdopen(stdin, "w")
        self.stdout = os.fdopen(stdout, errors="replace")

    def terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGTERM)

    def wait(self) -> int:
        _, status = os.waitpid(self._pid, 0)
        return os.waitstatus_to_exitcode(status)


def fork(cwd: str, env: Mapping[str, str]) -> Forked | None:
    """Fork a child in this folder and with this environment; return None in the child."""
    stdin, ours = os.pipe()
    theirs, stdout = os.pipe()
    pid = os.fork()
    if pid:
        os.close(stdin)
        os.close(stdout)
        return Forked(pid, ours, theirs)
    for number, source in enumerate((stdin, stdout, stdout)):
        os.dup2(source, number)
    os.closerange(3, stdout + 1)  # including the engine's ends of the other child's pipes
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(write_through=True)  # type: ignore[union-attr]
    mine = [sys.path[0], *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    rest = [entry for entry in sys.path if entry not in mine]
    wanted = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    # Last, as for an installed package, if this one is not on the path otherwise.
    sys.path[:] = [*wanted, *rest, str(Path(__file__).parents[2])]
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    return None


def run_provider() -> int:
    end_with_parent()
    with contextlib.suppress(OSError):  # a name for lists of processes, on Linux
        Path("/proc/self/comm").write_text("provider")
    sys.path.insert(0, "")  # as for `python -m` in the project's folder
    sys.argv = [""]
    runpy.run_module("pulumi.dynamic", run_name="__main__", alter_sys=True)
    return 0


def run_program() -> int:
    import pulumi
    import pulumi.runtime  # most of the start-up time, spent while the engine starts

    given = json.loads(read_line())
    end_with_parent()
    pulumi.runtime.set_all_config(given["config"], given["secret_keys"])
    known = inspect.signature(pulumi.runtime.Settings.__init__).parameters
    settings = {name: value for name, value in given["settings"].items() if name in known}
    pulumi.runtime.configure(pulumi.runtime.Settings(**settings))

    program = given["program"]
    sys.argv = [program]
    sys.path.insert(0, program)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    executor = ThreadPoolExecutor(max_workers=32)
    loop.set_default_executor(executor)
    # Do not report futures that a program leaves pending when it ends early.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    main = os.path.join(program, "__main__.py")  # noqa: PTH118 - pathlib is not needed here
    try:
        start = pulumi.runtime.run_in_stack(lambda: _run(main))
        loop.run_until_complete(start)
    except pulumi.RunError as err:
        pulumi.log.error(str(err))
        return 1
    except Exception:  # noqa: BLE001 - every exception of the program is displayed
        pulumi.log.error(f"Program failed with an unhandled exception:\n{_traceback(main)}")
        return ALREADY_REPORTED
    finally:
        executor.shutdown(wait=True)
        loop.close()
    return 0


def _run(main: str) -> None:
    runpy.run_path(main, run_name="__main__")


def _traceback(main: str) -> str:
    """Return the traceback, starting in the user's program."""
    frames = traceback.extract_tb(sys.exc_info()[2])
    for index, frame in enumerate(frames):
        if frame.filename == main:
            return traceback.format_exc(limit=index - len(frames))
    return traceback.format_exc()
