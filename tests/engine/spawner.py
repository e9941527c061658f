"""Starts engine processes quickly: forks them from a process that has imported the SDK already.

A fresh interpreter spends half a second of processor time on imports before each operation. The
spawner spends it once for each process that runs tests. It holds no thread, no connection and no
stack's state, and imports nothing that is under test: a program finds that on its own PYTHONPATH.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import select
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .child import read_line

if TYPE_CHECKING:
    from .driver import Command

_ROOT = str(Path(__file__).parents[2])
_PRELOADED = ("tests.engine.deployment", "tests.engine.monitor", "pulumi.dynamic")
_PRELOADED_OF_PROVIDERS = ("pydantic.type_adapter", "requests", "grpc._server")


class Engine:
    """An engine process with pipes, as `subprocess.Popen` would start it.

    Its stdin stays open: the engine ends when that does, hence when this process ends.
    """

    def __init__(self, command: Command) -> None:
        stdin, ours = os.pipe()
        theirs, stdout = os.pipe()
        self._status, status = os.pipe()
        fds = (stdin, stdout, status)
        socket.send_fds(_spawner(), [b"+"], fds)
        for each in fds:
            os.close(each)
        self._stdin = os.fdopen(ours, "w")
        self.stdout = os.fdopen(theirs, errors="replace")
        place = {"cwd": os.fspath(command.cwd), "env": dict(command.env)}
        self._stdin.write(f"{json.dumps(place)}\n{command.stdin}")
        self._stdin.flush()
        self.pid = self._reported()

    @property
    def running(self) -> bool:
        return not select.select([self._status], [], [], 0)[0]

    def wait(self) -> int:
        """Wait for the end, once, and return the exit code."""
        exit_code = self._reported()
        self._stdin.close()
        self.stdout.close()
        os.close(self._status)
        return exit_code

    def _reported(self) -> int:
        return int(os.read(self._status, 16))


@functools.cache
def _spawner() -> socket.socket:
    """Start this process's spawner, which ends when the socket to it is closed."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=theirs.fileno(), cwd=_ROOT
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _serve() -> None:
    """Fork an engine for each message, until the socket is closed."""
    for name in (*_PRELOADED, *_PRELOADED_OF_PROVIDERS):
        importlib.import_module(name)
    gc.freeze()  # a forked process does not search all of this for garbage at its end
    server = socket.socket(fileno=0)
    while True:
        message, fds, _, _ = socket.recv_fds(server, 1, 3)
        if not message:
            return
        if os.fork() == 0:
            _report_on_engine(*fds)
            return
        for each in fds:
            os.close(each)
        with suppress(ChildProcessError):  # bury those that have ended
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue


def _report_on_engine(stdin: int, stdout: int, status: int) -> None:
    """Fork the engine; report its process id and, at its end, its exit code."""
    pid = os.fork()
    if pid == 0:
        os.close(status)
        sys.exit(_run_engine(stdin, stdout))
    os.write(status, b"%-16d" % pid)
    _, ended = os.waitpid(pid, 0)
    os.write(status, b"%-16d" % os.waitstatus_to_exitcode(ended))
    os._exit(0)


def _run_engine(stdin: int, stdout: int) -> int:
    """Become what `python -m tests.engine` is, in the folder and environment that stdin names."""
    for number, source in enumerate((stdin, stdout, stdout)):
        os.dup2(source, number)
    os.closerange(3, stdout + 1)
    place = json.loads(read_line())
    os.environ.clear()
    os.environ.update(place["env"])
    os.chdir(place["cwd"])
    wanted = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    rest = [each for each in sys.path if each not in ("", _ROOT)]
    sys.path[:] = [place["cwd"], *wanted, *rest]
    sys.modules.pop("sitecustomize", None)
    with suppress(ImportError):  # as every interpreter does when it starts
        importlib.import_module("sitecustomize")
    return importlib.import_module("tests.engine.deployment").main()  # type: ignore[no-any-return]


if __name__ == "__main__":
    _serve()
