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

# aiohttp routes on the encoded path, so `a%2Fb` is one segment, and decodes `match_info` once. Its
# own pattern would not take braces.
_EXTERNAL_ID = "{external_id:[^/]+}"

#: A bulk request may be large; the service's own limit is undocumented. Bytes.
MAX_BODY = 64 * 2**20

_MAY_SHOW_KEY = {"authorization", "proxy-authorization", "cookie", "x-api-key"}


class RefusedError(Exception):
    """The request is answered with this status and `{"error": text}`."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass
class Call:
    """One request on its way through a route."""

    request: web.Request
    record: RequestRecord
    body: bytes
    project: Project
    external_id: str
    faults: list[Fault]


@dataclass
class Answer:
    """Status, body and headers that a route decided on."""

    status: int
    text: str = ""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


Work = Callable[[Call], Answer]


def make_app(backend: Backend, base_path: str = "") -> web.Application:
    """Return the application: the service's routes under `base_path`, the emulator's own not."""
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
    """What each route does once key, rate limit and faults have let the request through."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def list(self, call: Call) -> Answer:
        """Answer 200 with a plain array: no paging is documented."""
        status = call.request.query.get("status")
        external_id = call.request.query.get("external_id")
        hidden = {external_id for fault in call.faults for external_id in fault.hide}
        texts = [
            self._backend.answer(record)
            for record in self._backend.listed(call.project, external_id or None)
            if record.external_id not in hidden
            and (not status or self._backend.status(record) == status)
        ]
        foreign = self._backend.foreign(call.project, status, external_id)
        return Answer(200, f"[{','.join([*texts, foreign] if foreign else texts)}]")

    def get(self, call: Call) -> Answer:
        """Answer 200 or 404."""
        return Answer(200, self._backend.answer(self._existing(call)))

    def create(self, call: Call) -> Answer:
        """Answer 201 or 400."""
        body = validation.parse_object(call.body)
        external_id = validation.external_id_of(body)
        content = validation.for_create(body, self._backend.known_evaluators())
        if self._backend.find(call.project, external_id) is not None:
            # Undocumented. The page lists 400 and 500 besides 201, so not a 409.
            raise InvalidRequestError(f'invalid input: external_id "{external_id}" already exists')
        return self._written(call, external_id, content)

    def update(self, call: Call) -> Answer:
        """Answer 200, 400 or 404: changes only what is given, in an existing setup.

        A change restarts the set-up as an upsert does; a body that names nothing writes nothing
        (undocumented).
        """
        body = validation.parse_object(call.body)
        record = self._existing(call)
        content = validation.for_update(body, self._backend.known_evaluators())
        if content == Content(None, None):
            return Answer(200, self._backend.answer(record))
        return self._written(call, call.external_id, content)

    def upsert(self, call: Call) -> Answer:
        """Answer 200 replaced, 201 created, or 400. An `external_id` in the body is ignored."""
        body = validation.parse_object(call.body)
        content = validation.for_upsert(body, self._backend.known_evaluators())
        return self._written(call, call.external_id, content)

    def delete(self, call: Call) -> Answer:
        """Answer 204 or 404."""
        if not self._backend.drop_setup(call.project, call.external_id):
            raise _not_found(call.external_id)
        call.record.external_ids = (call.external_id,)
        return Answer(204)

    def bulk(self, call: Call) -> Answer:
        """Answer 207 with one entry per item in input order, or 400 with nothing written.

        The page describes an item twice: as "the same shape as the Create request body" and as
        "using the same semantics as Update by External ID". Where these differ the emulator checks
        as for a create (`evaluators` required, `selector` optional, as in that page's table) and
        writes as in an upsert.
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
            result = self._backend.answer(record, written_now=True)
            return f'{{"external_id":{name},"status":"ok","result":{result}}}'

        def write_items() -> None:
            entries.extend(entry(index, *item) for index, item in enumerate(batch))

        self._backend.write_all(write_items)
        self._backend.wrote(call.record, written)
        for fault in call.faults:
            if fault.reorder:
                entries.reverse()
            entries = entries[: max(0, len(entries) - fault.shorten)]
        return Answer(207, f'{{"setups":[{",".join(entries)}]}}')

    def traces(self, call: Call) -> Answer:
        """Answer 200, 400 or 415, as OTLP says: spans come in."""
        kind = _otlp_type(call)
        self._backend.receive(otlp.decode(call.body, kind), call.project)
        return Answer(200, otlp.success(kind), content_type=kind)

    def metrics(self, call: Call) -> Answer:
        """Answer 200 and keep nothing: Traceloop's SDK logs an error if it can't send metrics."""
        kind = _otlp_type(call)
        return Answer(200, otlp.success(kind), content_type=kind)

    def spans(self, call: Call) -> Answer:
        """Answer 200 or 400, with a page of the environment's spans."""
        found = self._backend.find_spans(call.project, call.request.query)
        return Answer(200, json.dumps(found))

    def _existing(self, call: Call) -> Record:
        record = self._backend.find(call.project, call.external_id)
        if record is None:
            raise _not_found(call.external_id)
        return record

    def _written(self, call: Call, external_id: str, content: Content) -> Answer:
        record, new = self._backend.write(call.project, external_id, content)
        self._backend.wrote(call.record, [external_id])
        return Answer(201 if new else 200, self._backend.answer(record, written_now=True))


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
    """Wrap a route's work: count, latency, key, rate limit, faults."""

    async def handle(request: web.Request) -> web.StreamResponse:
        record = _record(backend, request, route)
        body = await request.read()
        if route != TRACES_ROUTE:  # the log shall not hold what end users wrote
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
            answer = _fault_answer(fault)
        else:
            answer = _service_answer(backend, work, request, record, body, external_id, faults)
            await _delay(faults, "after_write")
            if fault and fault.drop == "after":
                return _drop(request)
            if fault and fault.status is not None:
                answer = _fault_answer(fault)
        if fault and fault.body is not None:
            answer.text = (
                fault.body
                if isinstance(fault.body, str)
                else fault.body.decode("utf-8", "surrogateescape")
            )
        record.status = answer.status
        if fault and fault.truncate:
            return await _truncated(request, answer, fault.truncate)
        return _response(answer)

    return handle


def _service_answer(
    backend: Backend,
    work: Work,
    request: web.Request,
    record: RequestRecord,
    body: bytes,
    external_id: str,
    faults: list[Fault],
) -> Answer:
    """Return what the service answers, its own refusals included."""
    authorization = request.headers.get("Authorization", "")
    project = backend.project_of(authorization)
    if project is None:
        return Answer(401, _error("unauthorized"))  # text undocumented
    wait = backend.over_limit(authorization)
    if wait is not None:
        return Answer(
            429, _error("rate limit exceeded"), headers={"Retry-After": str(wait)}
        )  # undocumented
    try:
        return work(Call(request, record, body, project, external_id, faults))
    except InvalidRequestError as error:
        return Answer(400, _error(str(error)))
    except RefusedError as error:
        return Answer(error.status, _error(str(error)))


def _fault_answer(fault: Fault) -> Answer:
    status = fault.status or 500
    if status == 204:
        answer = Answer(status)
    elif fault.body_kind == "html":
        answer = Answer(status, gateway_page(status), content_type="text/html")
    elif fault.body_kind == "text":
        answer = Answer(status, server_line(status), content_type="text/plain")
    elif fault.body_kind == "kong":
        text = json.dumps({"message": fault.message or kong_text(status)})
        answer = Answer(status, text, headers={"X-Kong-Request-Id": uuid4().hex})
    elif fault.body_kind == "empty":
        answer = Answer(status)
    else:
        answer = Answer(status, _error(fault.message or error_text(status)))
    if (retry_after := fault.retry_after_header()) is not None:
        answer.headers["Retry-After"] = retry_after
    return answer


async def _delay(faults: list[Fault], when: str) -> None:
    seconds = sum(fault.delay for fault in faults if fault.when == when)
    if seconds:
        await asyncio.sleep(seconds)


def _drop(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()  # is not sent any more


async def _truncated(request: web.Request, answer: Answer, kind: str) -> web.StreamResponse:
    body = _bytes(answer.text)
    half = body[: len(body) // 2]
    if kind == "json":
        answer.text = half.decode("utf-8", "surrogateescape")
        return _response(answer)
    response = web.StreamResponse(status=answer.status, headers=_headers(answer))
    if kind == "chunked":
        response.enable_chunked_encoding()
    else:
        response.content_length = len(body)
    await response.prepare(request)
    await response.write(half)
    if request.transport is not None:
        request.transport.close()  # sends what was written, then hangs up
    return response


def _response(answer: Answer) -> web.Response:
    if answer.status == 204 and not answer.text:
        return web.Response(status=204)
    return web.Response(status=answer.status, body=_bytes(answer.text), headers=_headers(answer))


def _headers(answer: Answer) -> dict[str, str]:
    binary = answer.content_type == otlp.PROTOBUF
    content_type = answer.content_type + ("" if binary else "; charset=utf-8")
    return {"Content-Type": content_type, **answer.headers}


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _error(text: str) -> str:
    return json.dumps({"error": text})


def _record(backend: Backend, request: web.Request, route: str) -> RequestRecord:
    headers = {
        name: "[hidden]" if name.lower() in _MAY_SHOW_KEY else value
        for name, value in request.headers.items()
    }
    return RequestRecord(request.method, request.raw_path, route, backend.clock(), headers)


def _external_ids(request: web.Request, in_path: str, body: bytes) -> frozenset[str]:
    """Return which setups a request is about, for the faults' filters."""
    if in_path:
        return frozenset([in_path])
    if request.method == "GET":
        return frozenset(filter(None, [request.query.get("external_id")]))
    try:
        value = json.loads(body)
        items = value.get("setups", [value])
        return frozenset(item["external_id"] for item in items)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return frozenset()  # the route is going to refuse it


def _errors_as_json(backend: Backend) -> Middleware:
    """Give every error the service's body, and note requests that no route matches."""

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
        except web.RequestPayloadError:  # such as gzip that is none
            return web.json_response({"error": error_text(400)}, status=400)
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("%s %s", request.method, request.raw_path)
            return web.json_response({"error": error_text(500)}, status=500)

    return errors_as_json
