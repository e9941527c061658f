"""Starts engines and providers quickly, by forks of a process that has imported the SDK.

A new interpreter spends half a second of processor time on imports. The spawner spends it once for
each process that runs tests. It has no thread, connection or state of a stack, and does not import
the code under test: programs and providers import that from their own PYTHONPATH.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .child import read_line

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROOT = str(Path(__file__).parents[2])
_PRELOADED = (
    "tests.engine.deployment",
    "tests.engine.monitor",
    "pulumi.dynamic",
    "grpc._server",
    "pydantic.type_adapter",
    "requests",
)


class Spawned:
    """A process with pipes, like a `subprocess.Popen`.

    It ends when its stdin is closed, and so when this process ends.

    Args:
        main: The function to run, as "module:name"; it returns the exit code.
        cwd: The working directory.
        env: The whole environment.
        stdin: The first input.
    """

    def __init__(self, main: str, cwd: str | Path, env: Mapping[str, str], stdin: str = "") -> None:
        theirs, ours = os.pipe()
        stdout, their_stdout = os.pipe()
        self._status, status = os.pipe()
        fds = (theirs, their_stdout, status)
        socket.send_fds(_spawner(), [b"+"], fds)
        for each in fds:
            os.close(each)
        self.stdin = os.fdopen(ours, "w")
        self.stdout = os.fdopen(stdout, errors="replace")
        place = {"main": main, "cwd": os.fspath(cwd), "env": dict(env)}
        self.stdin.write(f"{json.dumps(place)}\n{stdin}")
        self.stdin.flush()
        self.pid = self._reported()

    @property
    def running(self) -> bool:
        return not select.select([self._status], [], [], 0)[0]

    def terminate(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def wait(self) -> int:
        """Wait for the end, once, and return the exit code."""
        exit_code = self._reported()
        self.stdin.close()
        self.stdout.close()
        os.close(self._status)
        return exit_code

    def _reported(self) -> int:
        return int(os.read(self._status, 16))


@functools.cache
def _spawner() -> socket.socket:
    """Start this process's spawner, which ends when the socket to it is closed."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", __name__]
    with theirs:
        process = subprocess.Popen(command, stdin=theirs.fileno(), cwd=_ROOT)

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _serve() -> None:
    """Fork a process for each message, until the socket is closed."""
    for name in _PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # forked processes skip these objects in their last garbage collection
    server = socket.socket(fileno=0)
    while True:
        message, fds, _, _ = socket.recv_fds(server, 1, 3)
        if not message:
            return
        if os.fork() == 0:
            _report_on_child(*fds)
        for each in fds:
            os.close(each)
        with suppress(ChildProcessError):  # reap ended processes
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue


def _report_on_child(stdin: int, stdout: int, status: int) -> None:
    """Fork the process; report its id and, at its end, its exit code."""
    pid = os.fork()
    if pid == 0:
        os.close(status)
        sys.exit(_run(stdin, stdout))
    os.write(status, b"%-16d" % pid)
    _, ended = os.waitpid(pid, 0)
    os.write(status, b"%-16d" % os.waitstatus_to_exitcode(ended))
    os._exit(0)


def _run(stdin: int, stdout: int) -> int:
    """Become a new interpreter, with the working directory and environment that stdin specifies."""
    for number, source in enumerate((stdin, stdout, stdout)):
        os.dup2(source, number)
    os.closerange(3, stdout + 1)
    place = json.loads(read_line())
    os.environ.clear()
    os.environ.update(place["env"])
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    # Unbuffered, as with `python -u`; the old streams belong to the old descriptors.
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(
            io.FileIO(number, "w", closefd=False),
            encoding or "utf-8",
            errors or default,
            write_through=True,
        )
        for number, default in ((1, "strict"), (2, "backslashreplace"))
    )
    os.chdir(place["cwd"])
    wanted = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    rest = [each for each in sys.path if each not in ("", _ROOT)]
    sys.path[:] = [place["cwd"], *wanted, *rest]
    sys.modules.pop("sitecustomize", None)
    with suppress(ImportError):  # as every interpreter does when it starts
        importlib.import_module("sitecustomize")
    module, name = place["main"].split(":")
    exit_code: int = getattr(importlib.import_module(module), name)()
    return exit_code


if __name__ == "__main__":
    _serve()
