"""A local emulator of Traceloop's auto-monitor-setups API.

Point a client at it instead of at ``https://api.traceloop.com``::

    from pulumi_traceloop.emulator import Emulator, Fault

    with Emulator() as emulator:
        ...                                        # use emulator.url and emulator.api_key
        emulator.inject(Fault(status=503, times=2))
        assert emulator.setups["my-monitor"]["status"] == "completed"

or from a shell: ``python -m pulumi_traceloop.emulator --port 8787 --data setups.db``. With pytest,
the fixture ``traceloop_emulator`` gives a fresh one to each test.

Programs that are instrumented with Traceloop's SDK, or with any OpenTelemetry SDK, send it their
spans as they would to the service (``Traceloop.init(api_endpoint=emulator.url,
api_key=emulator.api_key)``). With ``spans_needed=1`` a setup is ``waiting_for_spans`` until one
matches.

It is an independent implementation of the server: it shares no code with the client and validates
requests by itself, so that the two cannot agree on the same mistake. Only whether a selector
matches a span is decided in one place for all, `pulumi_traceloop.spans.matching`. It follows the
public documentation (traceloop/docs, June 2026 pages); what the documentation leaves open is marked
"undocumented" in the source.

Reading order: `routes`, `validation` (requests), `store` (what is kept, what an answer looks like),
`otlp` and `span_log` (spans), `backend` (the state and its controls), `faults`, `app` (routes),
`control` (the emulator's own routes), `server` (`Emulator`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backend import ManualClock, Project, RequestRecord
    from .faults import Fault
    from .server import Emulator

__all__ = ["Emulator", "Fault", "ManualClock", "Project", "RequestRecord"]

_HOMES = {
    "Emulator": "server",
    "Fault": "faults",
    "ManualClock": "backend",
    "Project": "backend",
    "RequestRecord": "backend",
}


def __getattr__(name: str) -> Any:
    # Lazy (PEP 562): pytest imports this package at every start to find the fixture, aiohttp may be
    # absent.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
