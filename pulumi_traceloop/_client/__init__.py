"""The HTTP client of the auto-monitor-setups API.

Sources: the reference pages "Upsert an Auto Monitor Setup by External ID" and "Bulk Upsert Auto
Monitor Setups" (https://www.traceloop.com/docs/api-reference/auto-monitor-setups) and the public
OpenAPI file. Statuses that these do not name (401, 403, 408, 429, 502 and so on) are handled as
HTTP defines them.
"""

from __future__ import annotations

import html
import http.client
import io
import logging
import math
import random
import re
import ssl
import threading
import time
from collections import deque
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from http.cookiejar import DefaultCookiePolicy
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

import requests
from pydantic import ValidationError
from pydantic_core import from_json
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HeaderParsingError,
    HTTPError,
    InvalidHeader,
    MaxRetryError,
    ProtocolError,
    ProxyError,
    SSLError,
)
from urllib3.util import Retry, parse_url
from urllib3.util.response import assert_header_parsing

from .._models import BulkAnswer, Setup, SetupList, SetupSpec
from .._naming import path_problem
from ..errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailedError,
    MalformedResponseError,
    NotFoundError,
    RateLimitedError,
    RejectedError,
    RequestError,
    ServerError,
    TransportError,
    printable,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["BULK_LIMIT", "DEFAULT_BASE_URL", "BulkOutcome", "TraceloopClient"]

#: The public service. The docs' generated examples use ``https://app.traceloop.com/api``.
DEFAULT_BASE_URL = "https://api.traceloop.com"

#: How many setups one bulk request takes ("Must contain between 1 and 100 items").
BULK_LIMIT = 100

#: The settings' namespace that the environment variables stand in for.
_DEFAULT_NAMESPACE = "traceloop"

#: The longest wait between two attempts, in seconds, whatever ``Retry-After`` asks for.
_LONGEST_WAIT = 20.0

#: An answer is read up to here, in bytes: no real list of setups comes near it, and no real setup.
_BODY_LIMIT = 64 * 1024 * 1024
_SETUP_LIMIT = 1024 * 1024

#: Of an error's body this much is read, in bytes: a message, or the title of an HTML page.
_ERROR_BODY_LIMIT = 64 * 1024

_CHUNK = 64 * 1024
_SETUPS = "/v2/auto-monitor-setups"

_T = TypeVar("_T")
_log = logging.getLogger("pulumi_traceloop")


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
    whoever calls reads back first (`RequestError.outcome_unknown`).

    A 429 slows all threads down, and its request is repeated until the deadline. As long as some
    requests get through, those that wait for their turn are not late: for them, the deadline begins
    anew with each that the service takes.

    Every call may raise a `RequestError`: `TransportError`, `MalformedResponseError`,
    `AuthenticationError`, `RateLimitedError`, `RejectedError`, `ServerError` or `NotFoundError`.

    Args:
        api_key: the API key. It appears in no error, log line or ``repr``.
        base_url: the service; it may carry a path, such as ``https://app.traceloop.com/api``. One
            that begins with ``http://`` must be on this machine, and is reached without a proxy.
        allow_http: take an ``http://`` base URL on another machine too, which lets anybody on the
            way read the key.
        namespace: where the stack's configuration has the settings, for what messages advise; empty
            where there is no stack, and the settings are environment variables.
        connect_timeout: the longest wait for a connection, in seconds.
        read_timeout: the longest wait for the next bytes of an answer, in seconds.
        deadline: how long a call may take with all its attempts and waits, in seconds: after it,
            none begins and no answer is waited for, however slowly it drips. (The system's name
            resolution keeps its own time.)
        pool_size: how many connections are kept open; make it the number of threads.
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
        namespace: str = _DEFAULT_NAMESPACE,
        connect_timeout: float = 10.0,
        read_timeout: float = 30.0,
        deadline: float = 60.0,
        pool_size: int = 16,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = _Settings(namespace)
        _check_api_key(api_key, self._settings)
        host = _checked_host(base_url, allow_http, self._settings)
        self._base_url = base_url.rstrip("/")
        self._api_key = api_key
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._deadline = deadline
        self._clock = clock
        self._sleep = sleep
        self._pacer = _Pacer(deadline, clock, sleep)
        self._session = _Session()
        # A proxy would see the key, and knows another machine by this name.
        self._session.trust_env = not (base_url[:5].lower() == "http:" and _is_loopback(host))
        self._session.auth = _BearerAuth(api_key)
        self._session.headers.update({"Accept": "application/json", "User-Agent": _user_agent()})
        # Without cookies the session has no state that the threads could share by accident.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        # The adapter does not repeat anything: `_send` does, since a body that breaks off is a
        # reason too, and the adapter never sees that.
        adapter = _Adapter(pool_maxsize=pool_size, pool_block=False)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

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
        self._session.close()

    def list_setups(
        self, *, status: str | None = None, external_id: str | None = None
    ) -> list[Setup]:
        """Return the setups, in the service's order.

        Args:
            status: only those with this status, such as ``failed``.
            external_id: only the one with this external_id.

        """
        filters = {"status": status, "external_id": external_id}
        request = _Request(
            "GET", _SETUPS, params={k: v for k, v in filters.items() if v is not None}
        )
        answer = self._expect_success(request, self._send(request))
        # A Go service answers null for a list that has nothing in it.
        if answer.body.strip() == b"null":
            return []
        return self._parse(request, answer, SetupList.validate_json, "a list of setups")

    def get_setup(self, external_id: str) -> Setup | None:
        """Return the setup with this external_id, or ``None`` if there is none (404)."""
        request = _about("GET", _SETUPS, external_id)
        answer = self._send(request)
        if answer.says_absent:
            return None
        return self._setup(request, answer)

    def upsert_setup(self, external_id: str, spec: SetupSpec) -> Setup:
        """Create the setup, or replace it whole, and return it as stored.

        A replaced setup starts over: its status goes back to ``pending``, and its evaluators are
        set up anew. So send only what has changed.
        """
        request = replace(
            _about("PUT", f"{_SETUPS}/by-external-id", external_id), json=spec.request_body()
        )
        return self._setup(request, self._send(request))

    def bulk_upsert(self, specs: Mapping[str, SetupSpec]) -> BulkOutcome:
        """Upsert up to `BULK_LIMIT` setups in one request, each by itself.

        The answer's items are matched by external_id, whatever their order: of two for one setup
        the last counts, one that was not asked for is ignored, and a setup without one has an
        unknown outcome. So has one that met an internal error, which may come after the write.

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
        batch = tuple(external_id for external_id in specs if external_id not in outcome.refused)
        if not batch:
            return outcome
        body = [{"external_id": key, **specs[key].request_body()} for key in batch]
        request = _Request("POST", f"{_SETUPS}/bulk", json={"setups": body}, batch=batch)
        answer = self._expect_success(request, self._send(request))
        parsed = self._parse(
            request, answer, BulkAnswer.model_validate_json, "one outcome per setup"
        )
        items = {item.external_id: item for item in parsed.setups}
        for external_id in batch:
            item = items.get(external_id)
            if item is None:
                outcome.outcome_unknown[external_id] = "the service's answer leaves it out"
            elif item.error is not None:
                reason = self._quotable(_without_index(item.error, batch))
                internal = _INTERNAL.fullmatch(reason)
                (outcome.outcome_unknown if internal else outcome.refused)[external_id] = reason
            elif item.result is None or item.status == "error":
                outcome.outcome_unknown[external_id] = (
                    f'the service answers "{self._quotable(item.status)}" and nothing else'
                )
            elif item.result.external_id != external_id:
                outcome.outcome_unknown[external_id] = (
                    f'the answer has setup "{self._quotable(item.result.external_id)}" instead'
                )
            else:
                outcome.stored[external_id] = item.result
        return outcome

    def delete_setup(self, external_id: str) -> bool:
        """Delete the setup; ``False`` if there is none (404).

        It is also ``False`` where a first attempt deleted it, but its answer got lost.
        """
        request = _about("DELETE", _SETUPS, external_id)
        answer = self._send(request)
        if answer.says_absent:
            return False
        self._expect_success(request, answer)
        if answer.body.strip() and answer.json is None:
            raise self._malformed(request, answer, "no content")
        return True

    def _setup(self, request: _Request, answer: _Answer) -> Setup:
        self._expect_success(request, answer)
        setup = self._parse(request, answer, Setup.model_validate_json, "a setup")
        if setup.external_id != request.external_id:
            raise self._malformed(request, answer, "this setup, not another one")
        return setup

    def _send(self, request: _Request) -> _Answer:
        """Return the answer, of whatever status, after all the attempts that are due."""
        end = self._clock() + self._deadline
        retries = _RETRIES
        attempts = 0
        maybe_done = False
        answer: _Answer | None = None
        failure: Exception | None = None
        while (turn := self._pacer.wait(end)) is not None:
            end = turn
            attempts += 1
            began = self._clock()
            answer, failure = self._attempt(request, end)
            if answer is not None and answer.status == http.HTTPStatus.TOO_MANY_REQUESTS:
                _log.debug("%s %s: HTTP 429 to attempt %d", request.method, request.path, attempts)
                self._pacer.slow_down(began, _asked_wait(answer))
                continue
            if answer is not None:
                if answer.status < 500:
                    self._pacer.go_on(began)
                if not retries.is_retry(request.method, answer.status):
                    return replace(answer, attempts=attempts)
                maybe_done = True
            elif failure is not None:
                maybe_done = maybe_done or not _never_sent(failure)
            try:
                retries = retries.increment(request.method, request.path, error=failure)
            except HTTPError:
                break  # not to be repeated, or often enough
            wait = retries.wait(_asked_wait(answer) if answer is not None else 0.0)
            if self._clock() + wait >= end:
                break
            _log.debug(
                "%s %s: %s; attempt %d follows in %.1f s",
                request.method,
                request.path,
                f"HTTP {answer.status}" if answer is not None else _described(failure),
                attempts + 1,
                wait,
            )
            self._sleep(wait)
            if self._clock() >= end:
                break
        if answer is not None:
            return replace(answer, attempts=attempts)
        error_class: type[RequestError]
        if failure is None:
            error_class = RateLimitedError
            reason = "the service takes no more requests for now; this one was not sent"
        else:
            error_class = TransportError if maybe_done else ConnectionFailedError
            reason = _described(failure) + _after(attempts)
        raise error_class(
            request.method,
            request.path,
            self._quotable(reason),
            external_id=request.external_id,
        )

    def _attempt(
        self, request: _Request, end: float
    ) -> tuple[_Answer, None] | tuple[None, Exception]:
        """Send the request once and read the answer; return urllib3's exception if that fails."""

        def time_left() -> float:
            left = end - self._clock()
            if left <= 0:
                raise ProtocolError(f"No whole answer within {self._deadline:g} s")
            return left

        # Not 0, which urllib3 refuses; and an attempt begins only while there is time left.
        left = max(end - self._clock(), 0.001)
        _time_left.set(time_left)
        try:
            response = self._session.request(
                request.method,
                self._base_url + request.path,
                params=request.params,
                json=request.json,
                timeout=(min(self._connect_timeout, left), min(self._read_timeout, left)),
                allow_redirects=False,
                stream=True,
            )
            try:
                body = self._read(response, request.body_limit)
            finally:
                response.close()
        except (OSError, HTTPError) as error:  # those of requests are all OSErrors
            return None, _underlying(error)
        return _Answer(response.status_code, response.headers, body), None

    def _read(self, response: requests.Response, limit: int) -> bytes:
        """Read the body, up to a limit."""
        limit = limit if response.ok else _ERROR_BODY_LIMIT
        body = bytearray()
        while len(body) <= limit and (chunk := response.raw.read1(_CHUNK, decode_content=True)):
            body += chunk
        return bytes(body)

    def _expect_success(self, request: _Request, answer: _Answer) -> _Answer:
        """Return the answer if its status is 2xx, else raise what it means."""
        status = answer.status
        if 200 <= status < 300:
            if len(answer.body) > request.body_limit:
                raise self._malformed(request, answer, f"at most {request.body_limit} bytes")
            return answer
        message = answer.message
        error_class: type[RequestError] = RejectedError
        if 300 <= status < 400:
            message = f"the service redirects to {answer.redirect_target}, which is not followed"
            message += f"; {self._settings.check_base_url}"
        elif status in (401, 403):
            error_class = AuthenticationError
            setting = self._settings.name("apiKey", "the environment variable TRACELOOP_API_KEY")
            message = f"the API key was not accepted; check {setting}: {message}"
        elif status == 404:
            error_class = NotFoundError
            if not answer.says_absent or request.external_id is None or request.method == "PUT":
                message += f"; {self._settings.check_base_url}"
        elif status == 429:
            error_class = RateLimitedError
        elif status == 408 or status >= 500:
            error_class = ServerError
        raise error_class(
            request.method,
            request.path,
            self._quotable(_without_index(message, request.batch) + _after(answer.attempts)),
            status=status,
            external_id=request.external_id,
        )

    def _parse(
        self,
        request: _Request,
        answer: _Answer,
        validate: Callable[[bytes], _T],
        expected: str,
    ) -> _T:
        try:
            return validate(answer.body)
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if answer.looks_like_json:
            where = "".join(f"{part}: " for part in details["loc"])
            expected += f" ({where}{details['msg']})"
        raise self._malformed(request, answer, expected)

    def _malformed(
        self, request: _Request, answer: _Answer, expected: str
    ) -> MalformedResponseError:
        hint = "" if answer.looks_like_json else f"; {self._settings.check_base_url}"
        return MalformedResponseError(
            request.method,
            request.path,
            self._quotable(f"the answer should be {expected}, but is {answer.summary}{hint}"),
            status=answer.status,
            external_id=request.external_id,
        )

    def _quotable(self, text: str) -> str:
        """Return a server's words without the key, should it send that back, and fit to print."""
        # What is shorter is no real key, and may be a part of any word.
        if len(self._api_key) >= 8:
            text = text.replace(self._api_key, "[secure]")
        return printable(text)


class _BearerAuth(AuthBase):
    """The API key as a header. An auth object, so that a ~/.netrc entry cannot take its place."""

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._api_key}"
        return request

    def __repr__(self) -> str:
        return f"{type(self).__name__}([secure])"


class _Session(requests.Session):
    """A session that knows no redirects: requests would read their bodies whole even then."""

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        """Find none."""
        return


#: How much time the call has left to which a connection's next answer belongs, in seconds.
_time_left: ContextVar[Callable[[], float]] = ContextVar("time_left")


class _InTime(io.RawIOBase):
    """What a socket receives, within the call's time.

    A socket's own time limit begins anew with every byte that drips in: into a status line, headers
    or a chunk's size, or between any number of interim answers.
    """

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock
        self._time_left = _time_left.get()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._time_left()
        limit = self._sock.gettimeout()
        if limit is None or limit > left:
            self._sock.settimeout(left)
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer that is read in time, and from its first line on as HTTP says."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp: Any = io.BufferedReader(_InTime(self.fp.detach(), sock))

    def begin(self) -> None:
        super().begin()
        # http.client skips 100 only; another interim answer, taken for the final one, would leave
        # that for the connection's next request.
        while 100 <= self.status < 200:
            self.headers = None  # type: ignore[assignment] # as it is before it begins
            super().begin()
        try:
            assert_header_parsing(self.msg)
        except HeaderParsingError:
            # urllib3 would log the line, whatever the service put in it.
            raise http.client.HTTPException("The answer has a malformed header.") from None
        lengths = ",".join(self.msg.get_all("Content-Length", [])).split(",")
        if len({length.strip() for length in lengths}) > 1:
            raise http.client.HTTPException("The answer has several lengths.")


class _Connection(HTTPConnection):
    response_class = _Response


class _SecureConnection(HTTPSConnection):
    response_class = _Response


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(HTTPAdapter):
    """Connections whose answers are `_Response`s."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):  # those have classes of their own
            manager.pool_classes_by_scheme = _POOLS
        return manager


_POOLS = {"http": _Pool, "https": _SecurePool}


class _Pacer:
    """The pace of all threads of a client, once the service has answered 429.

    Until then nobody waits. Each 429 stops everybody for as long as it asks. After that requests
    begin one by one, at 93% of the rate that the service took in a time as long before; the rate
    grows slowly at first and ever faster then, as in TCP's CUBIC (RFC 9438), until the next 429.
    """

    def __init__(
        self, deadline: float, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self._deadline = deadline
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._refused_at = self._opens = self._next = -math.inf
        self._rate = math.inf  # in requests per second
        self._share = 0.0  # what one taken request adds to it
        self._refusals = 0  # in a row
        #: When the service took the last requests.
        self._taken: deque[float] = deque([-math.inf], maxlen=10_000)

    def wait(self, end: float) -> float | None:
        """Wait until the next request may begin; return until when it has time.

        Whoever had to wait has time until no request of the client has been taken for as long as
        the deadline is. ``None``: that is over, or certain to be before the turn comes.
        """
        turn = since = None
        waited = False
        while True:
            with self._lock:
                now = self._clock()
                # Less than a millisecond is a clock's rounding.
                if self._opens - now >= 0.001:
                    # No turns yet: requests that are under way may still be taken, and they tell
                    # the rate.
                    turn, until = None, self._opens
                else:
                    # A 429 meanwhile makes all turns that were given out void.
                    if turn is None or since != self._refused_at or turn < self._opens:
                        turn, since = max(now, self._next), self._refused_at
                        self._next = turn + 1 / self._rate_at(turn)
                    until = turn
                if until - now >= 0.001:
                    waited = True
                if waited:
                    end = max(end, self._taken[-1] + self._deadline)
                    if now >= end or self._opens >= end:
                        return None
                if until - now < 0.001:
                    return end
            self._sleep(min(until, end) - now)

    def slow_down(self, began: float, asked: float) -> None:
        """Stop everybody: a request that *began* then was answered 429."""
        with self._lock:
            now = self._clock()
            # Of a whole burst that is refused, only the first one tells something new.
            first = began > self._refused_at
            self._refusals += first
            pause = min(_LONGEST_WAIT, max(asked, 2.0 ** min(self._refusals - 2, 10)))
            if first:
                self._refused_at = now
                lately = max(pause, 1.0)
                taken = sum(1 for moment in self._taken if moment > now - lately)
                self._share = 0.93 / lately
                self._rate = max(taken, 1) * self._share
                # Processes that were refused together come back a little apart.
                pause = min(_LONGEST_WAIT, pause * random.uniform(1.0, 1.05))  # noqa: S311
                self._next = -math.inf
            self._opens = max(self._opens, now + pause)
            self._next = max(self._opens, self._next)

    def go_on(self, began: float) -> None:
        """Note that the service took a request that *began* then."""
        with self._lock:
            self._taken.append(self._clock())
            self._refusals = 0
            if began <= self._refused_at:
                self._rate += self._share  # it was counted by the service before the 429

    def _rate_at(self, moment: float) -> float:
        # After 20 s it is back where it was refused, after a minute at the threefold.
        return self._rate * (1 + 0.075 * (max(moment - self._opens, 0.0) / 20) ** 3)


class _Retry(Retry):
    """What is sent again, and after which wait; a 429 is the `_Pacer`'s."""

    def wait(self, asked: float) -> float:
        """Return how long to wait before the next attempt, in seconds."""
        # urllib3 does not wait at all before the first repetition: not even threads apart.
        asked += random.random() * self.backoff_jitter  # noqa: S311
        return min(_LONGEST_WAIT, max(asked, self.get_backoff_time()))


#: In urllib3's terms: a connection that was never made is tried again for every method, a failure
#: after that for ``allowed_methods``, and any other one (a bad certificate, say) for none.
_RETRIES = _Retry(
    total=5,
    other=0,
    allowed_methods=frozenset({"GET", "DELETE"}),
    status_forcelist=frozenset({408, 500, 502, 503, 504}),
    backoff_factor=0.5,
    backoff_jitter=1.0,
    backoff_max=_LONGEST_WAIT,
)


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    external_id: str | None = None
    params: dict[str, str] = field(default_factory=dict)
    json: dict[str, Any] | None = None
    batch: tuple[str, ...] = ()

    @property
    def body_limit(self) -> int:
        """How much of the answer is read, in bytes."""
        if self.external_id is not None:
            return _SETUP_LIMIT
        return min(len(self.batch) * _SETUP_LIMIT, _BODY_LIMIT) if self.batch else _BODY_LIMIT


def _about(method: str, route: str, external_id: str) -> _Request:
    """Return a request about one setup, which the path names."""
    problem = path_problem(external_id)
    if problem:
        raise RejectedError(
            method, route, f"the external_id {problem}", external_id=printable(str(external_id))
        )
    return _Request(method, f"{route}/{quote(external_id, safe='')}", external_id)


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    attempts: int = 1

    @property
    def json(self) -> Any:
        """The body's JSON value; ``None`` if it is not JSON."""
        try:
            return from_json(self.body)
        except ValueError:
            return None

    @property
    def looks_like_json(self) -> bool:
        """Whether this is JSON, perhaps cut off, and so most likely the API's."""
        return self.body.lstrip().startswith((b"{", b"["))

    @property
    def says_absent(self) -> bool:
        """Whether this is the API's 404, and not one of a proxy or of a server with other routes.

        Those come as HTML or text ("404 page not found"); taken for an answer, they would make
        every setup look deleted.
        """
        return self.status == 404 and (not self.body.strip() or isinstance(self.json, dict))

    @property
    def redirect_target(self) -> str:
        """Where a redirect leads, without what may be secret in it."""
        try:
            parts = urlsplit(self.headers.get("Location", ""))
        except ValueError:
            return "an unusable URL"
        host = parts.netloc.rpartition("@")[2]
        return (f"{parts.scheme}://{host}" if host else "") + parts.path or "nowhere"

    @property
    def message(self) -> str:
        """What an answer of another status than 2xx says, in its own words if it has some."""
        content = self.json
        if isinstance(content, dict):
            for name in ("error", "message"):
                if isinstance(content.get(name), str) and content[name].strip():
                    return str(content[name])
        if self.body.strip():
            return self.summary
        return http.client.responses.get(self.status, "no message").lower()

    @property
    def summary(self) -> str:
        """The body in a few words."""
        text = self.body[:_ERROR_BODY_LIMIT].decode("utf-8", "replace").strip()
        if re.match(r"<(!doctype html|html|head|body)\b", text, re.IGNORECASE):
            title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
            named = printable(html.unescape(title[1]), 100) if title else ""
            return f'an HTML page, "{named}"' if named else "an HTML page"
        return printable(text, 200) or "empty"


def _asked_wait(answer: _Answer) -> float:
    """Return the seconds that ``Retry-After`` asks for, which may be a date; 0 if it does not."""
    try:
        asked = _RETRIES.parse_retry_after(answer.headers.get("Retry-After", ""))
    except (InvalidHeader, ValueError, OverflowError):
        return 0.0  # neither seconds nor a date
    return min(asked, _LONGEST_WAIT)


#: The API's text for a failure that it does not explain, as such or as a 500's.
_INTERNAL = re.compile(r"\s*internal (server )?error\.?\s*", re.IGNORECASE)

_INDEX = re.compile(r"\bsetups\[(\d+)\]")


def _without_index(message: str, batch: tuple[str, ...]) -> str:
    """Replace the indices in a bulk answer's message, which mean nothing to whoever reads it.

    ``setups[1]: unknown evaluator slug "x"`` becomes ``unknown evaluator slug "x"``, and
    ``duplicate external_id "x" (also at setups[0])`` names the setup.
    """

    def name(match: re.Match[str]) -> str:
        index = int(match[1][:9])
        return f'setup "{batch[index]}"' if index < len(batch) else "another setup"

    if not batch:
        return message
    return _INDEX.sub(name, re.sub(r"^\s*setups\[\d+\]:\s*", "", message))


def _underlying(error: Exception) -> Exception:
    """Return the exception of urllib3 that requests has wrapped, sometimes twice."""
    inner = error.args[0] if isinstance(error, requests.RequestException) and error.args else error
    if isinstance(inner, MaxRetryError):
        inner = inner.reason
    if not isinstance(inner, Exception):
        return error
    if isinstance(inner, SSLError) and not _is_bad_certificate(inner):
        # A broken TLS connection is a broken connection: what had been sent before, nobody knows.
        return ProtocolError("TLS connection broken.", inner)
    return inner


def _is_bad_certificate(error: Exception) -> bool:
    return isinstance(error, SSLError) and any(
        isinstance(cause, ssl.CertificateError) for cause in error.args
    )


def _never_sent(failure: Exception) -> bool:
    """Whether the request certainly never left: there was no connection to the service."""
    return (
        isinstance(failure, (ConnectTimeoutError, ProxyError))
        or _is_bad_certificate(failure)
        # An unusable URL, proxy URL or header.
        or isinstance(failure, ValueError)
        # A CA bundle that is not there: an OSError as it is, every other one comes wrapped.
        or (isinstance(failure, OSError) and not isinstance(failure, requests.RequestException))
    )


def _described(failure: Exception | None) -> str:
    """Return what went wrong, without Python's names for the objects it happened to."""
    if isinstance(failure, ProxyError):
        return f"no connection through the proxy: {_described(failure.original_error)}"
    if failure is not None and _is_bad_certificate(failure):
        return (
            f"the service's certificate is not trusted: {failure}; for a private certificate"
            " authority set REQUESTS_CA_BUNDLE"
        )
    if isinstance(failure, ProtocolError) and len(failure.args) > 1:
        text = str(failure.args[0])
        return f"{text} {failure.args[1]}" if text.endswith(".") else text
    # "<urllib3.connection.HTTPConnection object at 0x7f>: ..." or "HTTPConnection(host=...): ...".
    return re.sub(r"^(<[^>]*>|\w+\(host=[^)]*\)): ", "", str(failure)) or type(failure).__name__


def _after(attempts: int) -> str:
    return f" (after {attempts} attempts)" if attempts > 1 else ""


def _user_agent() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"pulumi-traceloop/{version('pulumi-traceloop')}"
    except PackageNotFoundError:
        return "pulumi-traceloop"


@dataclass(frozen=True)
class _Settings:
    """What messages call the settings.

    Environment variables stand in for those of one namespace only, and are all there is without a
    stack.
    """

    namespace: str

    def name(self, key: str, variable: str) -> str:
        """Return what a setting is called, such as ``traceloop:apiKey (or TRACELOOP_API_KEY)``."""
        return self._either(f"{self.namespace}:{key}", f" (or {variable})", variable)

    def advice(self, arguments: str, variable: str) -> str:
        """Return how to set one: with `pulumi config set`, or a variable."""
        command = f"run `pulumi config set {arguments}`"
        return self._either(command, f" or set {variable}", f"set {variable}")

    @property
    def check_base_url(self) -> str:
        setting = self._either(f"{self.namespace}:baseUrl", "", "TRACELOOP_BASE_URL")
        return f"check the base URL ({setting})"

    def _either(self, in_a_stack: str, alternative: str, without: str) -> str:
        if not self.namespace:
            return without
        return in_a_stack + (alternative if self.namespace == _DEFAULT_NAMESPACE else "")


def _check_api_key(api_key: str, settings: _Settings) -> None:
    if not api_key.strip():
        problem = "is empty"
    elif any(char.isspace() for char in api_key):
        problem = "contains a space or a line break"
    elif any(char > "\xff" or not char.isprintable() for char in api_key):
        problem = "contains a character that no HTTP header can carry"
    else:
        return
    advice = settings.advice(
        f"--secret {settings.namespace}:apiKey <key>", "the environment variable TRACELOOP_API_KEY"
    )
    raise ConfigurationError(f"the Traceloop API key {problem}: {advice}, with the key only")


def _checked_host(base_url: str, allow_http: bool, settings: _Settings) -> str:
    """Return the base URL's host."""
    problem = _base_url_problem(base_url)
    setting = settings.name("baseUrl", "TRACELOOP_BASE_URL")
    if problem:
        # The URL is not shown: what is wrong with it may be a password.
        raise ConfigurationError(
            f"{setting} {problem}; it looks like {DEFAULT_BASE_URL} or"
            " https://app.traceloop.com/api"
        )
    # As requests sees it: two parsers may not agree on which host a URL names.
    sent = parse_url(requests.Request("GET", base_url).prepare().url or "")
    host = (sent.host or "").strip("[]")
    if sent.scheme == "http" and not (allow_http or _is_loopback(host)):
        advice = settings.advice(
            f"{settings.namespace}:allowHttp true", "TRACELOOP_ALLOW_HTTP=true"
        )
        raise ConfigurationError(
            f"{setting} begins with http://, which lets anybody on the way read the API key: that"
            " is accepted for localhost only. Use https://, or, if the network is to be trusted,"
            f" {advice}"
        )
    return host


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _base_url_problem(base_url: str) -> str | None:
    if any(char.isspace() or not char.isprintable() for char in base_url):
        return "contains a space or a control character"
    try:
        parts = urlsplit(base_url)
        port_is_usable = parts.port is None or parts.port > 0
    except ValueError:
        return "is not a valid URL"
    if parts.scheme not in ("http", "https"):
        return "must begin with https:// or http://"
    if "@" in parts.netloc:
        return "must not contain a user name or password: the API key is the only credential"
    if not parts.hostname:
        return "has no host name"
    if "?" in base_url or "#" in base_url:
        return "must not contain a query or a fragment"
    try:
        requests.Request("GET", base_url).prepare()
    except requests.RequestException:
        return "is not a valid URL"
    return None if port_is_usable else "has an unusable port"
