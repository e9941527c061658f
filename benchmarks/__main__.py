"""Compares a group with an empty stack and with one resource per setup.

``make bench`` runs everything; ``python -m benchmarks --help`` describes how to run a part.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pulumi_traceloop._client import TraceloopClient
from scripts.pulumi_cli import use_downloaded
from tests.engine import find_cli

from .measure import Service, load, measure, to_json
from .report import OPERATIONS, markdown, plot
from .rows import BY_HAND, ROWS, row
from .stacks import REPOSITORY, make

FOLDER = REPOSITORY / ".cache" / "benchmarks"

#: The number of sequential deletes, for comparison with a group's.
_SINGLY_DELETED = 100

#: The rate limit of the limited service, in requests per second, and the number of its setups.
_RATE, _PACED = 5, 1_000


@dataclass(frozen=True)
class Cell:
    """A case: the number of setups, how they are declared, and the service's latency in seconds."""

    declared: str
    count: int
    latency: float


def main() -> None:
    """Measure, write ``results.json`` and ``plot.svg``, and print tables."""
    options = _parser().parse_args()
    options.results.parent.mkdir(parents=True, exist_ok=True)
    use_downloaded()
    cli = find_cli()
    if cli is None:
        print("No Pulumi CLI on PATH: this measures the test engine, which is not Pulumi.\n")
    results: dict[str, Any] = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "engine": "Pulumi CLI" if cli else "test engine of this package, which is not Pulumi",
        "machine": _machine(),
        "versions": {name: version(name) for name in ("pulumi", "pulumi-traceloop", "grpcio")},
        "cells": [],
        "deletes_one_by_one": [],
        "paced": [],
        "rows": [],
    }
    if options.add:
        earlier = load(options.results)
        kept = ("cells", "deletes_one_by_one", "paced", "rows")
        results |= {key: earlier[key] for key in kept if key in earlier}
    latencies = options.latency if options.matrix else []
    cells = [
        Cell(declared, count, latency)
        for latency in latencies
        for declared, counts in (
            ("empty", [0]),
            ("group", options.group),
            ("resources", options.resources),
        )
        for count in counts
    ]

    def save() -> None:
        """Write the results so far, in case the run is stopped."""
        options.results.write_text(json.dumps(results, indent=1) + "\n")

    if options.paced and options.matrix:
        results["paced"] += _paced(bool(cli))
        save()
    with ExitStack() as opened:
        services = {
            latency: opened.enter_context(Service(latency=latency)) for latency in latencies
        }
        for repetition in range(options.repeat):
            for cell in cells:
                for operation, measured in _measured(cell, services[cell.latency], bool(cli)):
                    found = {**asdict(cell), "operation": operation, **measured}
                    results["cells"].append(found)
                    _tell(repetition, found)
            for latency, service in services.items():
                seconds = _delete_one_by_one(service)
                results["deletes_one_by_one"].append(
                    {"latency": latency, "count": _SINGLY_DELETED, "seconds": round(seconds, 3)}
                )
            for name in options.rows:
                for found in row(name, cli=bool(cli)):
                    results["rows"].append(found)
                    _tell(repetition, found)
            save()
    if results["cells"]:
        plot(results, options.results.with_name("plot.svg"))
    print(markdown(results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="`--no-matrix --rows dozen organization --repeat 5` takes some minutes.",
    )
    add = parser.add_argument
    add("--latency", type=float, nargs="+", default=[0, 0.15], help="the service's, in seconds")
    add("--group", type=int, nargs="*", default=[10, 100, 1_000, 10_000], help="sizes of a group")
    add("--resources", type=int, nargs="*", default=[10, 100, 1_000], help="numbers of resources")
    add("--matrix", action=argparse.BooleanOptionalAction, default=True, help="sizes and latencies")
    add(
        "--rows",
        nargs="*",
        choices=[*ROWS, *BY_HAND],
        default=list(ROWS),
        help=f"cases with an aim of their own, all but {', '.join(BY_HAND)} if left out",
    )
    add("--repeat", type=int, default=3)
    add("--paced", action=argparse.BooleanOptionalAction, default=True, help="with a rate limit")
    add("--results", type=Path, default=FOLDER / "results.json", help="where to write them")
    add("--add", action="store_true", help="to those that are there, of this machine and engine")
    return parser


def _measured(cell: Cell, service: Service, cli: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    with tempfile.TemporaryDirectory() as folder:
        stack = make(f"{folder}/stack", service, cell.declared, cell.count, cli=cli)
        empty = make(f"{folder}/empty", service, "empty", 0, cli=cli)
        for operation, how in OPERATIONS.items():
            if operation == "1% changed":
                stack.set_config("changed", str(max(1, cell.count // 100)))
            # A machine may be half as fast a minute later, so both are measured together.
            beside = measure(empty, how, service).seconds if cell.count else 0.0
            measured = to_json(measure(stack, how, service))
            yield operation, measured | {"empty_seconds": round(beside, 3)}


def _tell(repetition: int, found: dict[str, Any]) -> None:
    asked = ", ".join(f"{n} {route}" for route, n in found["requests"].items()) or "none"
    print(
        f"{repetition + 1}: {found['declared']} of {found['count']:,},"
        f" {found['latency'] * 1000:g} ms, {found['operation']}: {found['seconds']:.2f} s,"
        f" requests: {asked}",
        flush=True,
    )


def _delete_one_by_one(service: Service) -> float:
    """Return the seconds for sequential deletes."""
    rules = [{"key": "k", "source": "span_attributes", "operator": "exists"}]
    content = {"selector": rules, "evaluators": ["faithfulness"]}
    names = [f"one-by-one-{n}" for n in range(_SINGLY_DELETED)]
    for name in names:
        put = service.session.put(f"{service.url}/_emulator/setups/{name}", json=content)
        put.raise_for_status()
    with TraceloopClient(service.api_key, service.url) as client:
        began = time.perf_counter()
        for name in names:
            client.delete_setup(name)
        return time.perf_counter() - began


def _paced(cli: bool) -> Iterator[dict[str, Any]]:
    """Measure with a service that accepts few requests per second."""
    with Service(rate_limit=_RATE) as service, tempfile.TemporaryDirectory() as folder:
        for declared in ("group", "resources"):
            stack = make(f"{folder}/{declared}", service, declared, _PACED, cli=cli)
            for operation, how in (("first up", "up"), ("destroy", "destroy")):
                found = {
                    **asdict(Cell(declared, _PACED, latency=0)),
                    "operation": operation,
                    "limit": _RATE,
                    **to_json(measure(stack, how, service)),
                }
                _tell(0, found)
                yield found


def _machine() -> dict[str, Any]:
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
