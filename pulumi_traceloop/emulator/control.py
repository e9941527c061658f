"""Control routes under `/_emulator/`, for other processes.

They need no key, and accept requests from this machine only:

| route | what |
|---|---|
| `GET /_emulator/requests` | `{"requests": {route: n}, "writes": {external_id: n}, "log": [...]}` |
| `DELETE /_emulator/requests` | reset the counts |
| `PUT /_emulator/setups/{external_id}` | create or change a setup |
| `DELETE /_emulator/setups/{external_id}` | delete a setup |
| `POST /_emulator/evaluators` | `{"slug": ...}`: add a custom evaluator |
| `POST /_emulator/faults` | attributes of a `Fault` as JSON: inject it |
| `DELETE /_emulator/faults` | remove all faults |
| `PUT /_emulator/spans_needed` | `{"spans": n}`: see `Emulator` |
| `PUT /_emulator/foreign_setups` | `{"count": n}`: see `Emulator` |
| `DELETE /_emulator/spans` | remove the spans; no status changes |
"""

from __future__ import annotations

from dataclasses import asdict
from ipaddress import ip_address
from typing import TYPE_CHECKING

from aiohttp import web

from . import validation
from .faults import Fault
from .validation import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .backend import Backend

    _Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add_control_routes(app: web.Application, backend: Backend, external_id: str) -> None:
    """Add the routes to the application, without the base path.

    Args:
        app: the emulator's application.
        backend: the emulator's backend.
        external_id: the path pattern of an external id.

    """

    def control(work: Callable[[web.Request, bytes], object]) -> _Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            if not _from_loopback(request):
                return web.json_response({"error": "only from this machine"}, status=403)
            try:
                result = work(request, await request.read())
            except (InvalidRequestError, ValueError, TypeError) as error:
                return web.json_response({"error": str(error)}, status=400)
            return web.Response(status=204) if result is None else web.json_response(result)

        return handle

    def add_evaluator(_: web.Request, body: bytes) -> None:
        slug = validation.parse_object(body).get("slug")
        if not isinstance(slug, str) or not slug:
            raise ValueError("slug is required")
        backend.add_evaluator(slug)

    def add_fault(_: web.Request, body: bytes) -> None:
        backend.inject(Fault.from_json(validation.parse_object(body)))

    def clear_faults(_: web.Request, __: bytes) -> None:
        backend.clear_faults()

    def requests(_: web.Request, __: bytes) -> object:
        log = [asdict(record) for record in backend.log]
        for record in log:
            record["body"] = record["body"].decode("utf-8", "replace")
        return {"requests": backend.requests, "writes": backend.writes, "log": log}

    def reset(_: web.Request, __: bytes) -> None:
        backend.reset_counts()

    def put(request: web.Request, body: bytes) -> object:
        given = validation.parse_object(body)
        names = ("selector", "evaluators", "evaluator_configs")
        return backend.put(
            request.match_info["external_id"], **{name: given.get(name) for name in names}
        )

    def delete(request: web.Request, _: bytes) -> object:
        return {"deleted": backend.delete(request.match_info["external_id"])}

    def natural(body: bytes, name: str) -> int:
        given = validation.parse_object(body).get(name)
        if type(given) is not int or given < 0:
            raise ValueError(f"{name} must be an integer, at least 0")
        return given

    def set_spans_needed(_: web.Request, body: bytes) -> None:
        backend.spans_needed = natural(body, "spans")

    def set_foreign_setups(_: web.Request, body: bytes) -> None:
        backend.foreign_setups = natural(body, "count")

    def clear_spans(_: web.Request, __: bytes) -> None:
        backend.clear_spans()

    app.router.add_post("/_emulator/evaluators", control(add_evaluator))
    app.router.add_post("/_emulator/faults", control(add_fault))
    app.router.add_delete("/_emulator/faults", control(clear_faults))
    app.router.add_get("/_emulator/requests", control(requests), allow_head=False)
    app.router.add_delete("/_emulator/requests", control(reset))
    app.router.add_put(f"/_emulator/setups/{external_id}", control(put))
    app.router.add_delete(f"/_emulator/setups/{external_id}", control(delete))
    app.router.add_put("/_emulator/spans_needed", control(set_spans_needed))
    app.router.add_put("/_emulator/foreign_setups", control(set_foreign_setups))
    app.router.add_delete("/_emulator/spans", control(clear_spans))


def _from_loopback(request: web.Request) -> bool:
    try:
        return ip_address(request.remote or "").is_loopback
    except ValueError:
        return False
