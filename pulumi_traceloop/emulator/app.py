"""The service's HTTP routes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from aiohttp import web

from . import otlp, validation
from .backend import Backend, Project, RequestRecord
from .control import add_control_routes
from .faults import Fault, error_text, gateway_page, kong_text, server_line
from .routes import (
    BULK_ROUTE,
    CREATE_ROUTE,
    DELETE_ROUTE,
    GET_ROUTE,
    LIST_ROUTE,
    METRICS_ROUTE,
    SPANS_ROUTE,
    TRACES_ROUTE,
    UNMATCHED,
    UPDATE_ROUTE,
    UPSERT_ROUTE,
)
from .validation import Content, InvalidRequestError

if TYPE_CHECKING:
    from aiohttp.typedefs import Middleware

    from .store import Record

logger = logging.getLogger(__name__)

# aiohttp routes on the encoded path, so `a%2Fb` is one segment, and decodes `match_info` once. The
# default pattern excludes braces.
_EXTERNAL_ID = "{external_id:[^/]+}"

#: The longest body, in bytes, large enough for a bulk request. The service's limit is undocumented.
MAX_BODY = 64 * 2**20

_SECRET_HEADERS = {"authorization", "proxy-authorization", "cookie", "x-api-key"}


class RefusedError(Exception):
    """The response is this status and `{"error": text}`."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass
class Call:
    """One request to a route."""

    request: web.Request
    record: RequestRecord
    body: bytes
    project: Project
    external_id: str
    faults: list[Fault]


@dataclass
class Response:
    """Status, body and headers of a route's response."""

    status: int
    text: str = ""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


Work = Callable[[Call], Response]


def make_app(backend: Backend, base_path: str = "") -> web.Application:
    """Return the application: service routes under `base_path`, control routes at the root."""
    prefix = "/" + base_path.strip("/") if base_path.strip("/") else ""
    service = _Service(backend)
    app = web.Application(client_max_size=MAX_BODY, middlewares=[_errors_as_json(backend)])
    works: dict[str, Work] = {
        BULK_ROUTE: service.bulk,
        CREATE_ROUTE: service.create,
        LIST_ROUTE: service.list,
        GET_ROUTE: service.get,
        UPDATE_ROUTE: service.update,
        UPSERT_ROUTE: service.upsert,
        DELETE_ROUTE: service.delete,
        TRACES_ROUTE: service.traces,
        METRICS_ROUTE: service.metrics,
        SPANS_ROUTE: service.spans,
    }
    for route, work in works.items():
        method, template = route.split(" ")
        path = prefix + template.replace("{external_id}", _EXTERNAL_ID)
        app.router.add_route(method, path, _endpoint(backend, route, work))
    add_control_routes(app, backend, _EXTERNAL_ID)
    return app


# -- the service's routes --


class _Service:
    """The work of each route, after authentication, rate limit and faults."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def list(self, call: Call) -> Response:
        """Respond 200 with a plain array; no paging is documented."""
        status = call.request.query.get("status")
        external_id = call.request.query.get("external_id")
        hidden = {external_id for fault in call.faults for external_id in fault.hide}
        texts = [
            self._backend.to_json(record)
            for record in self._backend.listed(call.project, external_id or None)
            if record.external_id not in hidden
            and (not status or self._backend.status(record) == status)
        ]
        foreign = self._backend.foreign(call.project, status, external_id)
        return Response(200, f"[{','.join([*texts, foreign] if foreign else texts)}]")

    def get(self, call: Call) -> Response:
        """Respond 200 or 404."""
        return Response(200, self._backend.to_json(self._existing(call)))

    def create(self, call: Call) -> Response:
        """Respond 201 or 400."""
        body = validation.parse_object(call.body)
        external_id = validation.external_id_of(body)
        content = validation.for_create(body, self._backend.known_evaluators())
        if self._backend.find(call.project, external_id) is not None:
            # Undocumented. The page lists 400 and 500 besides 201, so not a 409.
            raise InvalidRequestError(f'invalid input: external_id "{external_id}" already exists')
        return self._written(call, external_id, content)

    def update(self, call: Call) -> Response:
        """Respond 200, 400 or 404; changes only the given parts of an existing setup.

        A change restarts processing as an upsert does; an empty body writes nothing (undocumented).
        """
        body = validation.parse_object(call.body)
        record = self._existing(call)
        content = validation.for_update(body, self._backend.known_evaluators())
        if content == Content(None, None):
            return Response(200, self._backend.to_json(record))
        return self._written(call, call.external_id, content)

    def upsert(self, call: Call) -> Response:
        """Respond 200 replaced, 201 created, or 400. An `external_id` in the body is ignored."""
        body = validation.parse_object(call.body)
        content = validation.for_upsert(body, self._backend.known_evaluators())
        return self._written(call, call.external_id, content)

    def delete(self, call: Call) -> Response:
        """Respond 204 or 404."""
        if not self._backend.drop_setup(call.project, call.external_id):
            raise _not_found(call.external_id)
        call.record.external_ids = (call.external_id,)
        return Response(204)

    def bulk(self, call: Call) -> Response:
        """Respond 207 with one entry per item in input order, or 400 with nothing written.

        The page describes an item as "the same shape as the Create request body" and as "using the
        same semantics as Update by External ID". Where these differ, the emulator validates as for
        a create (`evaluators` required, `selector` optional, as in the page's table) and writes as
        in an upsert.
        """
        batch = validation.batch_of(validation.parse_object(call.body))
        known = self._backend.known_evaluators()
        errors: dict[str, Fault] = {}
        for fault in call.faults:
            errors.update(dict.fromkeys(fault.item_error, fault))
        entries: list[str] = []
        written: list[str] = []

        def write_item(external_id: str, item: dict[str, Any]) -> Record:
            content = validation.for_create(item, known)
            fault = errors.get(external_id)
            if fault is not None and fault.when == "before_write":
                raise InvalidRequestError(fault.item_error[external_id])
            record, _ = self._backend.write(call.project, external_id, content)
            written.append(external_id)
            if fault is not None:
                raise InvalidRequestError(fault.item_error[external_id])
            return record

        def entry(index: int, external_id: str, item: dict[str, Any]) -> str:
            name = json.dumps(external_id)
            try:
                record = write_item(external_id, item)
            except InvalidRequestError as error:
                text = json.dumps(f"setups[{index}]: {error}")
                return f'{{"external_id":{name},"status":"error","error":{text}}}'
            result = self._backend.to_json(record, written_now=True)
            return f'{{"external_id":{name},"status":"ok","result":{result}}}'

        def write_items() -> None:
            entries.extend(entry(index, *item) for index, item in enumerate(batch))

        self._backend.write_all(write_items)
        self._backend.wrote(call.record, written)
        for fault in call.faults:
            if fault.reorder:
                entries.reverse()
            entries = entries[: max(0, len(entries) - fault.shorten)]
        return Response(207, f'{{"setups":[{",".join(entries)}]}}')

    def traces(self, call: Call) -> Response:
        """Respond 200, 400 or 415, as OTLP specifies; stores the spans."""
        kind = _otlp_type(call)
        self._backend.receive(otlp.decode(call.body, kind), call.project)
        return Response(200, otlp.success(kind), content_type=kind)

    def metrics(self, call: Call) -> Response:
        """Respond 200 and drop the metrics, which Traceloop's SDK sends."""
        kind = _otlp_type(call)
        return Response(200, otlp.success(kind), content_type=kind)

    def spans(self, call: Call) -> Response:
        """Respond 200 or 400, with a page of the environment's spans."""
        found = self._backend.find_spans(call.project, call.request.query)
        return Response(200, json.dumps(found))

    def _existing(self, call: Call) -> Record:
        record = self._backend.find(call.project, call.external_id)
        if record is None:
            raise _not_found(call.external_id)
        return record

    def _written(self, call: Call, external_id: str, content: Content) -> Response:
        record, new = self._backend.write(call.project, external_id, content)
        self._backend.wrote(call.record, [external_id])
        return Response(201 if new else 200, self._backend.to_json(record, written_now=True))


def _otlp_type(call: Call) -> str:
    kind = call.request.content_type
    if kind not in (otlp.PROTOBUF, otlp.JSON):
        raise RefusedError(415, error_text(415))
    return kind


def _not_found(external_id: str) -> RefusedError:
    return RefusedError(404, f'auto monitor setup "{external_id}" not found')  # text undocumented


# -- around every route --

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _endpoint(backend: Backend, route: str, work: Work) -> _Handler:
    """Wrap a route's work with count, latency, authentication, rate limit and faults."""

    async def handle(request: web.Request) -> web.StreamResponse:
        record = _record(backend, request, route)
        body = await request.read()
        if route != TRACES_ROUTE:  # keep end-user content out of the log
            record.body = body
        backend.seen(record)
        if backend.latency:
            await asyncio.sleep(backend.latency)
        external_id = request.match_info.get("external_id", "")
        faults: list[Fault] = []
        if backend.faults:
            about = _external_ids(request, external_id, body)
            faults = backend.take_faults(request.method, route, about)
        fault = next((fault for fault in faults if fault.replaces_answer), None)
        await _delay(faults, "before_write")
        if fault and fault.drop == "before":
            return _drop(request)
        if fault and fault.status is not None and fault.when == "before_write":
            response = _fault_response(fault)
        else:
            response = _service_response(backend, work, request, record, body, external_id, faults)
            await _delay(faults, "after_write")
            if fault and fault.drop == "after":
                return _drop(request)
            if fault and fault.status is not None:
                response = _fault_response(fault)
        if fault and fault.body is not None:
            response.text = (
                fault.body
                if isinstance(fault.body, str)
                else fault.body.decode("utf-8", "surrogateescape")
            )
        record.status = response.status
        if fault and fault.truncate:
            return await _truncated(request, response, fault.truncate)
        return _web_response(response)

    return handle


def _service_response(
    backend: Backend,
    work: Work,
    request: web.Request,
    record: RequestRecord,
    body: bytes,
    external_id: str,
    faults: list[Fault],
) -> Response:
    """Return the service's response, including errors."""
    authorization = request.headers.get("Authorization", "")
    project = backend.project_of(authorization)
    if project is None:
        return Response(401, _error("unauthorized"))  # text undocumented
    wait = backend.over_limit(authorization)
    if wait is not None:
        return Response(
            429, _error("rate limit exceeded"), headers={"Retry-After": str(wait)}
        )  # undocumented
    try:
        return work(Call(request, record, body, project, external_id, faults))
    except InvalidRequestError as error:
        return Response(400, _error(str(error)))
    except RefusedError as error:
        return Response(error.status, _error(str(error)))


def _fault_response(fault: Fault) -> Response:
    status = fault.status or 500
    if status == 204:
        response = Response(status)
    elif fault.body_kind == "html":
        response = Response(status, gateway_page(status), content_type="text/html")
    elif fault.body_kind == "text":
        response = Response(status, server_line(status), content_type="text/plain")
    elif fault.body_kind == "kong":
        text = json.dumps({"message": fault.message or kong_text(status)})
        response = Response(status, text, headers={"X-Kong-Request-Id": uuid4().hex})
    elif fault.body_kind == "empty":
        response = Response(status)
    else:
        response = Response(status, _error(fault.message or error_text(status)))
    if (retry_after := fault.retry_after_header()) is not None:
        response.headers["Retry-After"] = retry_after
    return response


async def _delay(faults: list[Fault], when: str) -> None:
    seconds = sum(fault.delay for fault in faults if fault.when == when)
    if seconds:
        await asyncio.sleep(seconds)


def _drop(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()  # never sent


async def _truncated(request: web.Request, response: Response, kind: str) -> web.StreamResponse:
    body = _bytes(response.text)
    half = body[: len(body) // 2]
    if kind == "json":
        response.text = half.decode("utf-8", "surrogateescape")
        return _web_response(response)
    stream = web.StreamResponse(status=response.status, headers=_headers(response))
    if kind == "chunked":
        stream.enable_chunked_encoding()
    else:
        stream.content_length = len(body)
    await stream.prepare(request)
    await stream.write(half)
    if request.transport is not None:
        request.transport.close()  # after the written bytes
    return stream


def _web_response(response: Response) -> web.Response:
    if response.status == 204 and not response.text:
        return web.Response(status=204)
    return web.Response(
        status=response.status, body=_bytes(response.text), headers=_headers(response)
    )


def _headers(response: Response) -> dict[str, str]:
    binary = response.content_type == otlp.PROTOBUF
    content_type = response.content_type + ("" if binary else "; charset=utf-8")
    return {"Content-Type": content_type, **response.headers}


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _error(text: str) -> str:
    return json.dumps({"error": text})


def _record(backend: Backend, request: web.Request, route: str) -> RequestRecord:
    headers = {
        name: "[hidden]" if name.lower() in _SECRET_HEADERS else value
        for name, value in request.headers.items()
    }
    return RequestRecord(request.method, request.raw_path, route, backend.clock(), headers)


def _external_ids(request: web.Request, in_path: str, body: bytes) -> frozenset[str]:
    """Return the external_ids of a request, for the filters of faults."""
    if in_path:
        return frozenset([in_path])
    if request.method == "GET":
        return frozenset(filter(None, [request.query.get("external_id")]))
    try:
        value = json.loads(body)
        items = value.get("setups", [value])
        return frozenset(item["external_id"] for item in items)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return frozenset()  # the route will refuse it


def _errors_as_json(backend: Backend) -> Middleware:
    """Give every error the service's body, and record requests that no route matches."""

    @web.middleware
    async def errors_as_json(request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            if request.match_info.http_exception is not None and not request.path.startswith(
                "/_emulator"
            ):
                record = _record(backend, request, UNMATCHED)
                record.status = error.status
                backend.seen(record)
            headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
            return web.json_response(
                {"error": error_text(error.status)}, status=error.status, headers=headers
            )
        except web.RequestPayloadError:  # such as invalid gzip
            return web.json_response({"error": error_text(400)}, status=400)
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("%s %s", request.method, request.raw_path)
            return web.json_response({"error": error_text(500)}, status=500)

    return errors_as_json
