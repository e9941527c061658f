"""The HTTP client of the auto-monitor-setups API.

Sources: the reference pages "Upsert an Auto Monitor Setup by External ID" and "Bulk Upsert Auto
Monitor Setups" (https://www.traceloop.com/docs/api-reference/auto-monitor-setups) and the public
OpenAPI file. Statuses that these do not name (401, 403, 408, 429, 502 and so on) are handled as
HTTP defines them.

The models are imported with the first setup of a response: a preview of new setups reads none, and
pydantic takes a fourth of its provider's processor time.
"""

from __future__ import annotations

import time
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
from ._request import SETUPS, Request, about
from ._response import INTERNAL, MIB, Reader, Response, without_index
from ._retry import Sender
from ._transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from typing_extensions import Self

    from .._models import Listing, Setup, SetupSpec, SpanPage

__all__ = ["BULK_LIMIT", "BulkOutcome", "TraceloopClient"]

#: The most setups of a bulk request ("Must contain between 1 and 100 items").
BULK_LIMIT = 100


@dataclass(frozen=True)
class BulkOutcome:
    """The outcome of a bulk request. Each external_id is in one of the three mappings."""

    #: ``{external_id: the setup as the service stored it}``.
    stored: dict[str, Setup] = field(default_factory=dict)

    #: ``{external_id: why}`` of setups that were not written.
    refused: dict[str, str] = field(default_factory=dict)

    #: ``{external_id: why}`` of setups that may have been written: read them back.
    outcome_unknown: dict[str, str] = field(default_factory=dict)


class TraceloopClient:
    """The client of the API key's project and environment. Thread-safe.

    Connections are pooled. Proxies and certificate authorities come from the environment
    (``HTTPS_PROXY``, ``NO_PROXY``, ``REQUESTS_CA_BUNDLE``). Certificates are always verified.

    **Retries.** Up to five retries follow a failed connection of any request, and a transient
    failure of a GET or DELETE (a 409 to a DELETE too), after growing, jittered waits. No other
    failed write is repeated, because a needless write restarts the setup's evaluators: the caller
    reads the setup back first (`RequestError.outcome_unknown`).

    **Outages.** From the first failed attempt on, all calls to a route share one deadline. Once a
    call has exhausted its attempts, each other call makes one attempt or none, and fails with the
    same error (`Outages`). A refused API key is not an outage: every call makes one attempt.

    **Rate limits.** A 429 slows all threads, and its request is repeated until the deadline. While
    the service accepts other requests, a waiting request does not fail: its deadline starts anew
    with each accepted one.

    Every call may raise a `RequestError`: `TransportError`, `MalformedResponseError`,
    `AuthenticationError`, `RateLimitedError`, `RejectedError`, `ServerError`, `ConflictError` or
    `NotFoundError`.

    Args:
        api_key: the API key. It appears in no error, log line or ``repr``.
        base_url: the URL of the service; it may have a path, such as
            ``https://app.traceloop.com/api``. With ``http://`` it must be on this machine, and is
            reached without a proxy.
        allow_http: whether an ``http://`` base URL may be on another machine, although anyone on
            the network can then read the key.
        settings: names the settings in messages.
        connect_timeout: the longest wait for a connection, in seconds.
        read_timeout: the longest wait for the next bytes of a response, in seconds.
        deadline: the most seconds of a call with all attempts and waits, even if a response
            arrives byte by byte. Name resolution by the system is not limited.
        list_limit: the longest list of setups, in bytes, uncompressed.
        pool_size: the number of connections to keep open, one for each thread.
        key_is_stored: whether the key may be that of the last `pulumi up`, as in a refresh or a
            destroy. Called when the service refuses the key, for the error's advice.
        clock: a monotonic clock, in seconds.
        sleep: waits, in seconds.

    Raises:
        ConfigurationError: the API key or the base URL is invalid.

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
        # A proxy would read the key, and resolve localhost to its own machine.
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
        # Whether the service lacks one of the two routes for writes.
        self._lacks_upsert = self._lacks_bulk = False

    @classmethod
    def connect(
        cls,
        connection: Connection,
        *,
        pool_size: int = 16,
        key_is_stored: Callable[[], bool] = lambda: False,
    ) -> Self:
        """Return a client for a connection.

        Args:
            connection: the connection's settings.
            pool_size: the number of connections to keep open.
            key_is_stored: whether the key may be that of the last `pulumi up`.

        Raises:
            ConfigurationError: the API key is missing or invalid, or the base URL is invalid.

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
        """Return a client with a shorter deadline, in seconds.

        It shares connections, rate limit and outages with this one. A call that fails because of
        the shorter deadline does not count as having exhausted its attempts.
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
        """Return the setups in the service's order, and the unreadable ones.

        Setups without an external_id are omitted.

        Args:
            status: return only setups with this status, such as ``failed``.
            external_id: return only the setup with this external_id.
            of_project: keep the setups with this ``env_project_id``, those without one, and one of
                each other project; all if ``None``. The service sends all in any case.

        """
        from ._listing import ListStream

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
        """Return the setup with this external_id, or ``None`` if the API reports that none exists.

        Only a 404 or 410 with the API's error body counts. Any other 404, such as a gateway's for
        an unknown route, or one with an empty body, is a `NotFoundError`.
        """
        request = about("GET", SETUPS, external_id)
        response = self._send(request)
        if response.says_absent:
            return None
        return self._setup(request, response)

    def upsert_setup(self, external_id: str, spec: SetupSpec) -> Setup:
        """Create or replace the setup, and return it as stored.

        A replaced setup starts over: its status returns to ``pending``, and its evaluators are
        provisioned again. So send only setups that changed.

        Only one page of the public documentation has this route. If the service lacks it, this and
        all later calls use the bulk route.
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
        """Upsert up to `BULK_LIMIT` setups in one request; each succeeds or fails independently.

        The items of the response are matched by external_id in any order. Of two items for one
        setup the last counts; an item for a setup that was not sent is ignored. The outcome is
        unknown for a setup without a readable item, and for one with an internal error, which may
        follow the write.

        If the service lacks the route, this and all later calls send one request per setup.

        Args:
            specs: ``{external_id: setup}``, 1 to `BULK_LIMIT` of them.

        Returns:
            The outcome of each setup. Its messages omit the item's index in the batch.

        Raises:
            ValueError: *specs* is empty, or has more than `BULK_LIMIT` setups.
            RequestError: the whole request failed. If `RequestError.outcome_unknown` is false,
                nothing was written.

        """
        if not 1 <= len(specs) <= BULK_LIMIT:
            raise ValueError(f"a bulk request takes 1 to {BULK_LIMIT} setups, not {len(specs)}")
        outcome = BulkOutcome()
        for external_id in specs:
            # In bulk, the service might accept one that no URL can read or delete.
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
            outcome: receives the outcome of each setup.
            missing: the error to raise if the service lacks the other route too.

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
        """Return the outcome in a bulk response, added to *outcome* if given."""
        from .._models import Unreadable, read_bulk

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
        """Delete the setup; ``False`` if the API reports, as in `get_setup`, that none exists.

        It is also ``False`` if a first attempt deleted the setup, but its response was lost.
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
        """Return recorded spans, the newest first. They contain end-user content.

        Args:
            since: the earliest time, in seconds since 1970.
            limit: the most spans; the service may return fewer.
            cursor: the end of the previous page.

        """
        from .._models import SpanPage

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
        from .._models import SETUP

        self._reader.success(request, response)
        setup = self._reader.parse(request, response, SETUP.validate_json, "a setup")
        if setup.external_id != request.external_id:
            raise self._reader.malformed(request, response, "this setup, not another one")
        return setup

    def _send(self, request: Request) -> Response:
        """Return the response with any status, after all attempts."""
        return self._reader.response(request, self._sender.send(request, self._deadline))


def _put(external_id: str, spec: SetupSpec) -> Request:
    return about("PUT", f"{SETUPS}/by-external-id", external_id, spec.request_body())


def _bulk(specs: Mapping[str, SetupSpec], external_id: str | None = None) -> Request:
    body = [{"external_id": key, **spec.request_body()} for key, spec in specs.items()]
    return Request("POST", f"{SETUPS}/bulk", external_id, json={"setups": body}, batch=tuple(specs))
