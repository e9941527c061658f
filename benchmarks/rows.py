"""Cases with a separate aim, each relative to a measurement right before."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .measure import Service, measure, to_json
from .report import OPERATIONS
from .stacks import make

__all__ = ["BY_HAND", "ROWS", "row"]

#: Setups of other projects in a large organization, and in one with a few.
_LARGE, _SOME = 50_000, 1_000

#: What only cases measure, as `OPERATIONS`.
_ALSO = {"unchanged preview": "preview"}

_EMPTY = "an empty stack"
_OWN = "in an organization of its own"


def row(name: str, *, cli: bool) -> Iterator[dict[str, Any]]:
    """Measure a case once.

    Args:
        name: a key of `ROWS` or `BY_HAND`.
        cli: whether on the Pulumi CLI, or on the test engine.

    """
    for found in (ROWS | BY_HAND)[name](cli):
        yield {"row": name, **found}


def _dozen(cli: bool) -> Iterator[dict[str, Any]]:
    """The typical stack, and the least that any dynamic provider costs."""
    aims = {"preview": 0.35, "first up": 0.8, "unchanged up": 0.35, "unchanged preview": 0.35}
    for declared, count in (("smallest", 1), ("group", 12), ("resources", 12)):
        with Service(latency=0.05) as service:
            own_aims = dict.fromkeys(aims) if declared == "smallest" else aims
            yield from _life(declared, count, 0.05, service, own_aims, cli=cli)


def _singles(cli: bool) -> Iterator[dict[str, Any]]:
    for foreign in (0, _SOME):
        with Service(latency=0.15, foreign=foreign) as service:
            aims = {"preview": None, "first up": 6.5, "unchanged up": None}
            yield from _life("resources", 100, 0.15, service, aims, cli=cli)


def _organization(cli: bool) -> Iterator[dict[str, Any]]:
    """One changed setup costs the same in an organization of any size."""
    with Service() as service, tempfile.TemporaryDirectory() as folder:
        stack = make(folder, service, "group", 10_000, cli=cli)
        measure(stack, "up", service)
        seconds = {}
        for changed, foreign in ((1, 0), (2, _LARGE)):
            service.set_foreign(foreign)
            stack.set_config("changed", str(changed))
            measured = measure(stack, "up", service)
            seconds[foreign] = measured.seconds
        yield {
            "declared": "group",
            "count": 10_000,
            "latency": 0.0,
            "foreign": _LARGE,
            "operation": "one changed",
            "aim": 0.3,
            "beside": _OWN,
            "beside_seconds": round(seconds[0], 3),
            **to_json(measured),
        }


def _hundred_thousand(cli: bool) -> Iterator[dict[str, Any]]:
    """A group of that size, and one of a tenth for comparison."""
    for count in (10_000, 100_000):
        with Service() as service:
            yield from _life("group", count, 0.0, service, dict.fromkeys(OPERATIONS), cli=cli)


def _life(
    declared: str,
    count: int,
    latency: float,
    service: Service,
    aims: Mapping[str, float | None],
    *,
    cli: bool,
) -> Iterator[dict[str, Any]]:
    """Measure operations, each right after that of an empty stack."""
    with tempfile.TemporaryDirectory() as folder:
        stack = make(f"{folder}/stack", service, declared, count, cli=cli)
        empty = make(f"{folder}/empty", service, "empty", 0, cli=cli)
        for operation, aim in aims.items():
            if operation == "1% changed":
                stack.set_config("changed", str(max(1, count // 100)))
            command = (OPERATIONS | _ALSO)[operation]
            beside = measure(empty, command, service).seconds
            yield {
                "declared": declared,
                "count": count,
                "latency": latency,
                "foreign": service.foreign,
                "operation": operation,
                "aim": aim,
                "beside": _EMPTY,
                "beside_seconds": round(beside, 3),
                **to_json(measure(stack, command, service)),
            }


_Row = Callable[[bool], Iterator[dict[str, Any]]]

#: The cases of each run; those in `BY_HAND` take a quarter of an hour and run on request.
ROWS: dict[str, _Row] = {"dozen": _dozen, "singles": _singles, "organization": _organization}
BY_HAND: dict[str, _Row] = {"hundred-thousand": _hundred_thousand}
