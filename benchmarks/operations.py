"""What each operation costs: wall time and requests, for one setup and for groups.

Run it with ``python -m benchmarks.operations``; ``--latency`` is the emulated service's, in seconds.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pulumi_traceloop.emulator import Emulator
from scripts.pulumi_cli import use_downloaded
from tests.engine import Result, find_cli, make_stack

REPOSITORY = Path(__file__).parent.parent

PROGRAM = """\
import pulumi
from pulumi_traceloop import AutoMonitorSetup, AutoMonitorSetupGroup, span

config = pulumi.Config()
count, changed, singly = config.require_int("count"), config.get_int("changed") or 0, config.get_bool("singly")

def setup(n):
    model = "gpt-5" if n < changed else "gpt-4o"
    return {"selector": [span("gen_ai.request.model").equals(model), span("n").equals(str(n))],
            "evaluators": ["faithfulness", "answer-relevancy"]}

if singly:
    for n in range(count):
        AutoMonitorSetup(f"m-{n:05}", **setup(n))
else:
    AutoMonitorSetupGroup("g", {f"m-{n:05}": setup(n) for n in range(count)})
"""

_SHORT = {
    "GET /v2/auto-monitor-setups": "list",
    "GET /v2/auto-monitor-setups/{external_id}": "GET",
    "PUT /v2/auto-monitor-setups/by-external-id/{external_id}": "PUT",
    "POST /v2/auto-monitor-setups/bulk": "bulk",
    "DELETE /v2/auto-monitor-setups/{external_id}": "DELETE",
}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.15)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--singly", type=int, nargs="*", default=[1, 100])
    options = parser.parse_args()
    use_downloaded()
    kind = "cli" if find_cli() else "test-engine"
    print(f"Engine: {kind}; latency of the service: {options.latency:g} s\n")
    print("| setups | declared as | operation | wall time | requests |")
    print("|---|---|---|---|---|")
    for count in options.counts:
        _measure(kind, count, options.latency, singly=False)
    for count in options.singly:
        _measure(kind, count, options.latency, singly=True)


def _measure(kind: str, count: int, latency: float, *, singly: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, Emulator(latency=latency) as traceloop:
        stack = make_stack(
            "cli" if kind == "cli" else "test-engine",
            Path(folder),
            env={"PYTHONPATH": os.fspath(REPOSITORY)},
        )
        stack.write_program(PROGRAM)
        stack.set_config("traceloop:baseUrl", traceloop.url)
        stack.set_config("traceloop:apiKey", traceloop.api_key, secret=True)
        stack.set_config("count", str(count))
        stack.set_config("singly", str(singly).lower())

        def measure(name: str, operation: Callable[[], Result]) -> None:
            traceloop.reset_counts()
            start = time.perf_counter()
            result = operation()
            seconds = time.perf_counter() - start
            if result.exit_code:
                raise SystemExit(result.output)
            requests = (f"{n} {_SHORT[route]}" for route, n in traceloop.requests.items())
            shape = "resources" if singly else "a group"
            asked = ", ".join(requests) or "none"
            print(f"| {count:,} | {shape} | {name} | {seconds:.1f} s | {asked} |", flush=True)

        measure("preview", stack.preview)
        measure("first up", stack.up)
        measure("unchanged up", stack.up)
        stack.set_config("changed", "1")
        measure("one changed", stack.up)
        if count > 1:
            stack.set_config("count", str(count - 1))
            measure("one removed", stack.up)
        measure("refresh", stack.refresh)
        measure("destroy", stack.destroy)


if __name__ == "__main__":
    main()
