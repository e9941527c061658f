"""A local emulator of Traceloop's auto-monitor-setups API.

Example:
    ```python
    from pulumi_traceloop.emulator import Emulator, Fault

    with Emulator() as emulator:
        ...  # use emulator.url and emulator.api_key
        emulator.inject(Fault(status=503, times=2))
        assert emulator.setups["my-monitor"]["status"] == "completed"
    ```

From a shell: `python -m pulumi_traceloop.emulator --port 8787 --data setups.db`. In pytest: the
fixture `traceloop_emulator`, a fresh emulator for each test.

Traceloop's SDK and any OpenTelemetry SDK can send spans to it
(`Traceloop.init(api_endpoint=emulator.url, api_key=emulator.api_key)`). With `spans_needed=1` a
setup is `waiting_for_spans` until a span matches.

It shares no code with the client and validates requests independently, so that the two cannot agree
on the same mistake. Only the matching of spans is shared: `pulumi_traceloop.spans.matching` and
`pulumi_traceloop.spans.values`. It follows the public documentation (traceloop/docs, June 2026
pages); behaviour that the documentation leaves open is marked "undocumented" in the source.

Reading order: `routes`, `validation` (requests), `store` (setups and responses), `otlp` and
`span_log` (spans), `backend` (state and controls), `faults`, `app` (the routes' work), `control`
(control routes), `server` (`Emulator`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backend import ManualClock, Project, RequestRecord
    from .faults import Fault
    from .server import Emulator

__all__ = ["Emulator", "Fault", "ManualClock", "Project", "RequestRecord"]

_MODULES = {
    "Emulator": "server",
    "Fault": "faults",
    "ManualClock": "backend",
    "Project": "backend",
    "RequestRecord": "backend",
}


def __getattr__(name: str) -> Any:
    # Lazy (PEP 562): pytest imports this package at every start, and aiohttp may be missing.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
