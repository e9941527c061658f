"""Makes one attempt at a request, with limits of time and size.

`requests` and urllib3 pool connections and handle proxies and certificates. This module adds what
they lack: a response is read within the call's deadline and a size limit. No redirect is followed.
"""

from __future__ import annotations

import http.client
import io
from contextvars import ContextVar
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_ACCEPT_ENCODING
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    HeaderParsingError,
    HTTPError,
    ProtocolError,
)
from urllib3.util.response import assert_header_parsing

from ._failure import underlying
from ._response import ERROR_BODY_LIMIT, Response

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from ._request import Request

__all__ = ["Transport"]

_CHUNK = 64 * 1024


class Transport:
    """The pooled connections to the service.

    Args:
        api_key: the API key, sent with every request.
        base_url: the URL of the service.
        direct: whether to ignore the proxies of the environment.
        connect_timeout: the longest wait for a connection, in seconds.
        read_timeout: the longest wait for the next bytes of a response, in seconds.
        pool_size: the number of connections to keep open.
        clock: a monotonic clock, in seconds.

    """

    def __init__(
        self,
        api_key: str,
        base_url: str,
        *,
        direct: bool,
        connect_timeout: float,
        read_timeout: float,
        pool_size: int,
        clock: Callable[[], float],
    ) -> None:
        self._base_url = base_url
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._clock = clock
        # Complete, and so not merged with the session's: merging settings takes a tenth of the
        # processor time of a delete. The header takes precedence over an entry in ~/.netrc.
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": DEFAULT_ACCEPT_ENCODING,
            "Authorization": f"Bearer {api_key}",
            "User-Agent": _user_agent(),
        }
        self.session = _Session()
        self.session.trust_env = not direct
        # Without cookies, the threads share no state in the session.
        self.session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        # The `Sender` retries, not the adapter: a truncated body is a reason too, which the adapter
        # does not see.
        adapter = _Adapter(pool_maxsize=pool_size, pool_block=False)
        self.session.mount("https://", adapter)
        self.session.mount("http://", adapter)
        #: Proxies and certificates, from the environment.
        self._environment = self.session.merge_environment_settings(base_url, {}, True, None, None)

    def close(self) -> None:
        """Close the pooled connections."""
        self.session.close()

    def attempt(
        self, request: Request, end: float
    ) -> tuple[Response, None] | tuple[None, Exception]:
        """Send the request once; return the response, or urllib3's exception."""

        def time_left() -> float:
            left = end - self._clock()
            if left <= 0:
                raise ProtocolError("it did not come in time")
            return left

        # urllib3 refuses a timeout of 0.
        left = max(end - self._clock(), 0.001)
        _time_left.set(time_left)
        try:
            prepared = requests.Request(
                request.method,
                self._base_url + request.path,
                headers=self._headers,
                params=request.params,
                json=request.json,
            ).prepare()
            response = self.session.send(
                prepared,
                timeout=(min(self._connect_timeout, left), min(self._read_timeout, left)),
                allow_redirects=False,
                **self._environment,
            )
            try:
                return _read(response, request), None
            finally:
                response.close()
        except (OSError, HTTPError) as error:  # the exceptions of requests are OSErrors
            return None, underlying(error)


def _read(response: requests.Response, request: Request) -> Response:
    """Read the body, up to a limit."""
    success = 200 <= response.status_code < 300
    limit = request.body_limit if success else ERROR_BODY_LIMIT
    stream = request.stream() if request.stream and success else None
    size, body = 0, bytearray()
    declared = response.raw.length_remaining or 0
    if stream is not None and declared > limit:
        size = declared
    while size <= limit and not (stream and stream.failed):
        chunk = response.raw.read1(_CHUNK, decode_content=True)
        size += len(chunk)
        if stream is not None:
            stream.feed(chunk, last=not chunk)
        # Errors quote only the beginning of a streamed body.
        if stream is None or len(body) < ERROR_BODY_LIMIT:
            body += chunk
        if not chunk:
            break
    return Response(response.status_code, response.headers, bytes(body), size, stream)


class _Session(requests.Session):
    """A session that ignores redirects, whose bodies requests would otherwise read as a whole."""

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        """Return no target."""
        return


#: Returns the seconds left to the thread's current call.
_time_left: ContextVar[Callable[[], float]] = ContextVar("time_left")


class _InTime(io.RawIOBase):
    """Reads from a socket within the call's deadline.

    A socket's own timeout starts anew with every byte, so a service that sends single bytes or
    interim responses could exceed any limit.
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
    """A response that is read within the call's deadline, and strictly as HTTP defines it."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp: Any = io.BufferedReader(_InTime(self.fp.detach(), sock))

    def begin(self) -> None:
        super().begin()
        # http.client skips 100 only. After any other interim response, the connection's next
        # request would receive the final response to this one.
        while 100 <= self.status < 200:
            self.headers = None  # type: ignore[assignment] # begin() does nothing otherwise
            super().begin()
        try:
            assert_header_parsing(self.msg)
        except HeaderParsingError:
            # urllib3 would log the line.
            raise http.client.HTTPException("The response has a malformed header.") from None
        lengths = ",".join(self.msg.get_all("Content-Length", [])).split(",")
        if len({length.strip() for length in lengths}) > 1:
            raise http.client.HTTPException("The response has several lengths.")


class _Connection(HTTPConnection):
    response_class = _Response


class _SecureConnection(HTTPSConnection):
    response_class = _Response


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(HTTPAdapter):
    """An adapter whose connections return `_Response`s."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):  # SOCKS proxies need their own pool classes
            manager.pool_classes_by_scheme = _POOLS
        return manager


_POOLS = {"http": _Pool, "https": _SecurePool}


def _user_agent() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"pulumi-traceloop/{version('pulumi-traceloop')}"
    except PackageNotFoundError:
        return "pulumi-traceloop"
