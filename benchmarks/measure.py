"""One operation of a stack, watched: time, processor time, peak memory, requests, state."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

from tests.engine import Stack, descendants

#: The interval between two samples of the processes, in seconds.
_LOOK = 0.1

#: Parts of the command lines of the program and the provider under the CLI.
_ROLES = {"program": "pulumi-language-python-exec", "provider": "pulumi.dynamic"}

_ROUTES = {
    "GET /v2/auto-monitor-setups": "list",
    "GET /v2/auto-monitor-setups/{external_id}": "GET",
    "PUT /v2/auto-monitor-setups/by-external-id/{external_id}": "PUT",
    "POST /v2/auto-monitor-setups/bulk": "bulk",
    "DELETE /v2/auto-monitor-setups/{external_id}": "DELETE",
}


class Service:
    """The emulator in a separate process, like the real service."""

    def __init__(
        self, *, latency: float = 0, rate_limit: int | None = None, foreign: int = 0
    ) -> None:
        #: The number of other projects' setups in the list.
        self.foreign = foreign
        options = ["--port", "0", "--settle", "0", "--latency", str(latency)]
        options += ["--foreign-setups", str(foreign)]
        if rate_limit:
            options += ["--rate-limit", str(rate_limit)]
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "pulumi_traceloop.emulator", *options],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        told = {}
        for line in self._process.stdout:
            name, equals, value = line.strip().removeprefix("export ").partition("=")
            if equals:
                told[name] = value
            if "TRACELOOP_API_KEY" in told:
                break
        self.url, self.api_key = told["TRACELOOP_BASE_URL"], told["TRACELOOP_API_KEY"]
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {self.api_key}"

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.session.close()
        self._process.terminate()
        self._process.wait()

    @property
    def cpu(self) -> float:
        """Processor time so far, in seconds; 0 if the system does not report it."""
        stat = Path(f"/proc/{self._process.pid}/stat")
        if not stat.exists():
            return 0.0
        fields = stat.read_text().rpartition(")")[2].split()  # proc(5): 14 is utime, 15 is stime
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def set_foreign(self, count: int) -> None:
        """Set the number of other projects' setups in the list, and create them."""
        self.foreign = count
        url = f"{self.url}/_emulator/foreign_setups"
        self.session.put(url, json={"count": count}).raise_for_status()
        self.session.get(f"{self.url}/v2/auto-monitor-setups").raise_for_status()

    def reset_counts(self) -> None:
        """Reset the counts."""
        self.session.delete(f"{self.url}/_emulator/requests").raise_for_status()

    def requests(self) -> tuple[dict[str, int], int, float]:
        """Return the requests by route, the number of 429s, and the seconds from first to last."""
        answer = self.session.get(f"{self.url}/_emulator/requests").json()
        times = [record["time"] for record in answer["log"]] or [0.0]
        refused = sum(record["status"] == 429 for record in answer["log"])
        counts = {_ROUTES[route]: n for route, n in answer["requests"].items()}
        return counts, refused, max(times) - min(times)


@dataclass
class Measured:
    """The costs of an operation."""

    #: Wall time, and processor time of engine, program and provider together, in seconds.
    seconds: float
    cpu: float
    #: Processor time of the service, in seconds.
    service_cpu: float
    #: Peak memory by role (`program`, `provider`), in MiB; only with the CLI on Linux.
    peak: dict[str, float] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    #: The number of 429s, and the seconds from the first request to the last.
    refused: int = 0
    requests_seconds: float = 0.0
    #: The size of the state file afterwards, in bytes.
    state: int = 0


def measure(stack: Stack, operation: str, service: Service) -> Measured:
    """Run an operation, and measure it.

    Raises:
        RuntimeError: the operation failed.

    """
    service.reset_counts()
    served = service.cpu
    command = stack.command(operation)
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603
            command.args,
            cwd=command.cwd,
            env=command.env,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(command.stdin)
        process.stdin.flush()
        with _peaks(process.pid) as peak:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdin.close()
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{operation} failed:\n{output.read()}")
    state = stack.state_file.stat().st_size if stack.state_file.exists() else 0
    cpu = usage.ru_utime + usage.ru_stime
    counts, refused, span = service.requests()
    return Measured(seconds, cpu, service.cpu - served, peak, counts, refused, span, state)


@contextmanager
def _peaks(pid: int) -> Iterator[dict[str, float]]:
    """Record the peak memory of the program and the provider below a process."""
    peaks: dict[str, float] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK):
            for each in descendants(pid):
                role, peak = _role_and_peak(each)
                if role:
                    peaks[role] = max(peak, peaks.get(role, 0))

    thread = threading.Thread(target=watch, daemon=True)
    if sys.platform == "linux":
        thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()


def _role_and_peak(pid: int) -> tuple[str, float]:
    proc = Path("/proc") / str(pid)
    try:
        command = (proc / "cmdline").read_text(errors="replace")
        status = (proc / "status").read_text()
    except OSError:  # it has ended
        return "", 0
    found = [role for role, mark in _ROLES.items() if mark in command]
    high = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return (found[0], int(high[0]) / 1024) if found and high else ("", 0)


def to_json(measured: Measured) -> dict[str, Any]:
    """Return the costs as JSON, with significant digits only."""
    return {
        "seconds": round(measured.seconds, 3),
        "cpu": round(measured.cpu, 3),
        "service_cpu": round(measured.service_cpu, 3),
        "peak_mib": {role: round(mib, 1) for role, mib in measured.peak.items()},
        "requests": measured.requests,
        "refused": measured.refused,
        "requests_seconds": round(measured.requests_seconds, 3),
        "state_bytes": measured.state,
    }


def load(file: Path) -> dict[str, Any]:
    """Read a file of results."""
    found: dict[str, Any] = json.loads(file.read_text())
    return found
