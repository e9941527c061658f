"""The HTTP client of the auto-monitor-setups API.

Sources: the reference pages "Upsert an Auto Monitor Setup by External ID" and "Bulk Upsert Auto
Monitor Setups" (https://www.traceloop.com/docs/api-reference/auto-monitor-setups) and the public
OpenAPI file. Statuses that these do not name (401, 403, 408, 429, 502 and so on) are handled as
HTTP defines them.
"""

from __future__ import annotations

import time
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .._models import Listing, Setup, SetupSpec, SpanPage, Unreadable, read_bulk
from .._naming import path_problem
from .._settings import (
    DEFAULT_BASE_URL,
    DEFAULT_LIST_SIZE,
    Connection,
    Settings,
    check_api_key,
    checked_host,
    is_loopback,
)
from ..errors import ConfigurationError, RejectedError, RequestError, ServerError
from ._listing import ListStream
from ._request import SETUPS, Request, about
from ._response import INTERNAL, MIB, Reader, Response, without_index
from ._retry import Sender
from ._transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["BULK_LIMIT", "BulkOutcome", "TraceloopClient"]

#: How many setups one bulk request takes ("Must contain between 1 and 100 items").
BULK_LIMIT = 100


@dataclass(frozen=True)
class BulkOutcome:
    """What became of each setup of a bulk request: each external_id is in one of the three."""

    #: external_id to the setup as the service stored it.
    stored: dict[str, Setup] = field(default_factory=dict)

    #: external_id to the service's reason; nothing was written.
    refused: dict[str, str] = field(default_factory=dict)

    #: external_id to why nobody knows whether it was written: read it back.
    outcome_unknown: dict[str, str] = field(default_factory=dict)


class TraceloopClient:
    """The setups of one Traceloop project and environment: those that the API key belongs to.

    One client may be shared by several threads. Its connections are pooled; proxies and certificate
    authorities come from the environment (``HTTPS_PROXY``, ``NO_PROXY``, ``REQUESTS_CA_BUNDLE``).
    Certificates are always verified.

    What is harmless to repeat is repeated up to five times, with growing and jittered waits: any
    request that never got a connection, and a GET or DELETE that failed in any passing way. A write
    that failed otherwise is not repeated: a needless one restarts the setup's evaluators, so
    whoever calls reads back first (`RequestError.outcome_unknown`). So does whoever gets a 409 to a
    write; after one to a DELETE, that is repeated.

    A service that is out is not asked over and over: from the first failed attempt on, all calls to
    a route share one deadline, and after a call that has made all its attempts each other one makes
    one, or none at all (`Outages`). They fail with the same error. A refused API key is no outage:
    every call finds it out by one attempt.

    A 429 slows all threads down, and its request is repeated until the deadline. As long as some
    requests get through, those that wait for their turn are not late: for them, the deadline begins
    anew with each that the service takes.

    Every call may raise a `RequestError`: `TransportError`, `MalformedResponseError`,
    `AuthenticationError`, `RateLimitedError`, `RejectedError`, `ServerError`, `ConflictError` or
    `NotFoundError`.

    Args:
        api_key: the API key. It appears in no error, log line or ``repr``.
        base_url: the service; it may carry a path, such as ``https://app.traceloop.com/api``. One
            that begins with ``http://`` must be on this machine, and is reached without a proxy.
        allow_http: take an ``http://`` base URL on another machine too, which lets anybody on the
            way read the key.
        settings: what messages call the settings, and how they say to set one.
        connect_timeout: the longest wait for a connection, in seconds.
        read_timeout: the longest wait for the next bytes of an answer, in seconds.
        deadline: how long a call may take with all its attempts and waits, in seconds: after it,
            none begins and no answer is waited for, however slowly it drips. (The system's name
            resolution keeps its own time.)
        list_limit: the longest list of setups to read, in bytes, uncompressed.
        pool_size: how many connections are kept open; make it the number of threads.
        key_is_stored: whether the key may be that of the last `pulumi up`, as in a refresh or a
            destroy: an error about it says so. Asked when there is one.
        clock: a monotonic clock, in seconds.
        sleep: how to wait, in seconds.

    Raises:
        ConfigurationError: the API key or the base URL is unusable.

    """

    def __init__(
        self,
        api_key: str,
        base_url: str = DEFAULT_BASE_URL,
        *,
        allow_http: bool = False,
        settings: Settings | None = None,
        connect_timeout: float = 10.0,
        read_timeout: float = 30.0,
        deadline: float = 60.0,
        list_limit: int = DEFAULT_LIST_SIZE * MIB,
        pool_size: int = 16,
        key_is_stored: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        settings = settings or Settings()
        check_api_key(api_key, settings)
        host = checked_host(base_url, allow_http=allow_http, settings=settings)
        self._base_url = base_url.rstrip("/")
        # A proxy would see the key, and knows another machine by this name.
        direct = base_url[:5].lower() == "http:" and is_loopback(host)
        self._transport = Transport(
            api_key,
            self._base_url,
            direct=direct,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            pool_size=pool_size,
            clock=clock,
        )
        self._sender = Sender(self._transport, deadline, clock, sleep)
        self._deadline = deadline
        self._list_limit = list_limit
        self._reader = Reader(settings, self._base_url, api_key, key_is_stored)
        # Which of the two routes for writes the service was seen to lack.
        self._lacks_upsert = self._lacks_bulk = False

    @classmethod
    def connect(
        cls,
        connection: Connection,
        *,
        pool_size: int = 16,
        key_is_stored: Callable[[], bool] = lambda: False,
    ) -> Self:
        """Return a client for the connection that the settings ask for.

        Args:
            connection: where to, and with which key.
            pool_size: how many connections are kept open.
            key_is_stored: whether the key may be that of the last `pulumi up`.

        Raises:
            ConfigurationError: there is no API key, or it or the base URL is unusable.

        """
        settings = connection.settings
        if not connection.api_key:
            advice = settings.how_to_set("apiKey", "<key>", secret=True)
            raise ConfigurationError(f"no Traceloop API key: {advice}")
        return cls(
            connection.api_key,
            connection.base_url or DEFAULT_BASE_URL,
            allow_http=connection.allow_http,
            settings=settings,
            deadline=connection.deadline,
            list_limit=int(connection.max_list_size * MIB),
            pool_size=pool_size,
            key_is_stored=key_is_stored,
        )

    def within(self, deadline: float) -> Self:
        """Return this client with less time for each call, in seconds.

        The two share their connections, their pace and what they know about an outage. A call that
        gives up early does not count as one that has made all its attempts.
        """
        client = copy(self)
        client._deadline = min(deadline, self._deadline)  # noqa: SLF001 - it is its own class
        return client

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._base_url!r}, api_key=[secure])"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the pooled connections."""
        self._transport.close()

    def list_setups(
        self,
        *,
        status: str | None = None,
        external_id: str | None = None,
        of_project: str | None = None,
    ) -> Listing:
        """Return the setups in the service's order, and those that cannot be read.

        One without an external_id is left out.

        Args:
            status: only those with this status, such as ``failed``.
            external_id: only the one with this external_id.
            of_project: keep those of this ``env_project_id``, those that name none, and one of each
                other project; all if ``None``. It saves memory, not time: the service sends all.

        """
        filters = {"status": status, "external_id": external_id}
        request = Request(
            "GET",
            SETUPS,
            params={k: v for k, v in filters.items() if v is not None},
            stream=lambda: ListStream(of_project),
            stream_limit=self._list_limit,
        )
        return self._reader.listing(request, self._reader.success(request, self._send(request)))

    def get_setup(self, external_id: str) -> Setup | None:
        """Return the setup with this external_id, or ``None`` if the API says that there is none.

        That is a 404 or 410 with the API's error body. Any other one, which a gateway sends for a
        route that it does not know, is a `NotFoundError`; so is one with an empty body.
        """
        request = about("GET", SETUPS, external_id)
        response = self._send(request)
        if response.says_absent:
            return None
        return self._setup(request, response)

    def upsert_setup(self, external_id: str, spec: SetupSpec) -> Setup:
        """Create the setup, or replace it whole, and return it as stored.

        A replaced setup starts over: its status goes back to ``pending``, and its evaluators are
        set up anew. So send only what has changed.

        Of the public documentation only one page has this route. Where the service lacks it, the
        bulk route does the same, in this and all later calls.
        """
        request = _put(external_id, spec)
        response = None if self._lacks_upsert else self._send(request)
        if response is not None and not response.lacks_route:
            return self._setup(request, response)
        bulk = _bulk({external_id: spec}, external_id)
        bulk_response = self._send(bulk)
        if bulk_response.lacks_route:
            raise self._reader.error(request, response or bulk_response)
        self._lacks_upsert = True
        outcome = self._outcome(bulk, bulk_response)
        if external_id in outcome.stored:
            return outcome.stored[external_id]
        unknown = external_id in outcome.outcome_unknown
        raise (ServerError if unknown else RejectedError)(
            bulk.method,
            bulk.path,
            (outcome.outcome_unknown if unknown else outcome.refused)[external_id],
            status=bulk_response.status,
            external_id=external_id,
        )

    def bulk_upsert(self, specs: Mapping[str, SetupSpec]) -> BulkOutcome:
        """Upsert up to `BULK_LIMIT` setups in one request, each by itself.

        The response's items are matched by external_id, whatever their order: of two for one setup
        the last counts, and one that was not asked for is ignored. The outcome is unknown of a
        setup without an item, of one whose item cannot be read, and of one that met an internal
        error, which may come after the write.

        Where the service lacks the route, each setup goes out by itself, in this and later calls.

        Args:
            specs: external_id to setup, 1 to `BULK_LIMIT` of them.

        Returns:
            What became of each. Messages come without the item's index in the batch.

        Raises:
            ValueError: there are none, or more than `BULK_LIMIT`.
            RequestError: the request failed as a whole. If `RequestError.outcome_unknown` is false,
                nothing was written.

        """
        if not 1 <= len(specs) <= BULK_LIMIT:
            raise ValueError(f"a bulk request takes 1 to {BULK_LIMIT} setups, not {len(specs)}")
        outcome = BulkOutcome()
        for external_id in specs:
            # The service might take one that no path can name: nobody could read or delete it then.
            if problem := path_problem(external_id):
                outcome.refused[external_id] = f"the external_id {problem}"
        sendable = {i: spec for i, spec in specs.items() if i not in outcome.refused}
        if not sendable:
            return outcome
        if self._lacks_bulk:
            return self._one_by_one(sendable, outcome)
        request = _bulk(sendable)
        response = self._send(request)
        if not response.lacks_route:
            return self._outcome(request, response, outcome)
        return self._one_by_one(sendable, outcome, self._reader.error(request, response))

    def _one_by_one(
        self,
        specs: Mapping[str, SetupSpec],
        outcome: BulkOutcome,
        missing: RequestError | None = None,
    ) -> BulkOutcome:
        """Upsert setups without the bulk route.

        Args:
            specs: the setups.
            outcome: where to add what became of each.
            missing: raised if the service turns out not to have the other route either.

        """
        for external_id, spec in specs.items():
            request = _put(external_id, spec)
            try:
                response = self._send(request)
                if missing and not self._lacks_bulk:
                    if response.lacks_route:
                        raise missing
                    self._lacks_bulk = True
                outcome.stored[external_id] = self._setup(request, response)
            except RequestError as error:
                if error is missing:
                    raise
                of = outcome.outcome_unknown if error.outcome_unknown else outcome.refused
                of[external_id] = error.summary
        return outcome

    def _outcome(
        self, request: Request, response: Response, outcome: BulkOutcome | None = None
    ) -> BulkOutcome:
        """Return what a bulk response says, added to an outcome if one is given."""
        outcome = outcome or BulkOutcome()
        self._reader.success(request, response)
        parsed = self._reader.parse(request, response, read_bulk, "one outcome per setup")
        items = {item.external_id: item for item in parsed}
        for external_id in request.batch:
            item = items.get(external_id)
            if item is None:
                outcome.outcome_unknown[external_id] = "the service's response leaves it out"
            elif isinstance(item, Unreadable):
                reason = self._reader.quotable(item.reason)
                outcome.outcome_unknown[external_id] = f"its response cannot be read: {reason}"
            elif item.error is not None:
                reason = self._reader.quotable(without_index(item.error, request.batch))
                internal = INTERNAL.fullmatch(reason)
                (outcome.outcome_unknown if internal else outcome.refused)[external_id] = reason
            elif item.result is None or item.status == "error":
                outcome.outcome_unknown[external_id] = (
                    f'the service responds "{self._reader.quotable(item.status)}" and nothing else'
                )
            elif item.result.external_id != external_id:
                other = self._reader.quotable(item.result.external_id)
                outcome.outcome_unknown[external_id] = f'the response has setup "{other}" instead'
            else:
                outcome.stored[external_id] = item.result
        return outcome

    def delete_setup(self, external_id: str) -> bool:
        """Delete the setup; ``False`` if the API says, as in `get_setup`, that there is none.

        It is also ``False`` where a first attempt deleted it, but its answer got lost.
        """
        request = about("DELETE", SETUPS, external_id)
        response = self._send(request)
        if response.says_absent:
            return False
        self._reader.success(request, response)
        if response.body.strip() and response.json is None:
            raise self._reader.malformed(request, response, "no content")
        return True

    def spans(self, *, since: int, limit: int, cursor: str | None = None) -> SpanPage:
        """Return recorded spans, the newest first. They hold what end users wrote.

        Args:
            since: those since then, in seconds since 1970.
            limit: how many at most; the service may return fewer.
            cursor: where the page before ended.

        """
        params = {"from_timestamp_sec": str(since), "limit": str(limit)}
        params |= {"sort_by": "timestamp", "sort_order": "DESC"}
        params |= {"cursor": cursor} if cursor else {}
        request = Request("GET", "/v2/warehouse/spans", params=params, quotable=False)
        response = self._send(request)
        self._reader.success(request, response)
        return self._reader.parse(
            request, response, SpanPage.model_validate_json, "a page of spans"
        )

    def _setup(self, request: Request, response: Response) -> Setup:
        self._reader.success(request, response)
        setup = self._reader.parse(request, response, Setup.model_validate_json, "a setup")
        if setup.external_id != request.external_id:
            raise self._reader.malformed(request, response, "this setup, not another one")
        return setup

    def _send(self, request: Request) -> Response:
        """Return the response, of whatever status, after all the attempts that are due."""
        return self._reader.response(request, self._sender.send(request, self._deadline))


def _put(external_id: str, spec: SetupSpec) -> Request:
    return about("PUT", f"{SETUPS}/by-external-id", external_id, spec.request_body())


def _bulk(specs: Mapping[str, SetupSpec], external_id: str | None = None) -> Request:
    body = [{"external_id": key, **spec.request_body()} for key, spec in specs.items()]
    return Request("POST", f"{SETUPS}/bulk", external_id, json={"setups": body}, batch=tuple(specs))
