"""The client's calls about a setup "m", and responses to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pulumi_traceloop._client import TraceloopClient
from pulumi_traceloop._models import SETUP_SPEC
from tests.support.service import Service, response

SETUPS = "/v2/auto-monitor-setups"

SPEC = SETUP_SPEC.validate_python(
    {
        "selector": [{"key": "gen_ai.system", "source": "span_attributes", "value": "openai"}],
        "evaluators": ["pii-detector"],
    }
)

#: The fixtures `client_of` and `serve`.
Clients = Callable[..., TraceloopClient]
Serve = Callable[..., Service]


def stored(external_id: str = "m", **more: object) -> dict[str, object]:
    """Return a setup as the service has it."""
    return {"id": "1", "external_id": external_id, **more}


OK_BULK = response(207, {"setups": [{"external_id": "m", "status": "ok", "result": stored()}]})
PAGE = b"<!DOCTYPE html><html><head><title>502 Bad\nGateway</title></head><body>x</body></html>"
ABSENT = {"error": 'auto monitor setup "m" not found'}


class Call(NamedTuple):
    """One of the client's calls, and a good response to it."""

    run: Callable[[TraceloopClient], object]
    good: bytes
    repeatable: bool


CALLS = {
    "list": Call(lambda c: c.list_setups(), response(200, [stored()]), True),
    "get": Call(lambda c: c.get_setup("m"), response(200, stored()), True),
    "delete": Call(lambda c: c.delete_setup("m"), response(204), True),
    "upsert": Call(lambda c: c.upsert_setup("m", SPEC), response(200, stored()), False),
    "bulk": Call(lambda c: c.bulk_upsert({"m": SPEC}), OK_BULK, False),
}
