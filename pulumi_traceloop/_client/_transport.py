"""One attempt at a request: connections, the key's header, limits of time and size.

`requests` and urllib3 pool the connections and know proxies and certificates. What they lack is
added here: no redirect is followed, a response is read in time and only up to its limit.
"""

from __future__ import annotations

import http.client
import io
from contextvars import ContextVar
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
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
        api_key: goes out with every request; appears nowhere else.
        base_url: the service.
        direct: whether no proxy of the environment is used.
        connect_timeout: the longest wait for a connection, in seconds.
        read_timeout: the longest wait for the next bytes of a response, in seconds.
        pool_size: how many connections are kept open.
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
        self.session = _Session()
        self.session.trust_env = not direct
        self.session.auth = _BearerAuth(api_key)
        self.session.headers.update({"Accept": "application/json", "User-Agent": _user_agent()})
        # Without cookies the session has no state that the threads could share by accident.
        self.session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        # The adapter does not repeat anything: the `Sender` does, since a body that breaks off is a
        # reason too, and the adapter never sees that.
        adapter = _Adapter(pool_maxsize=pool_size, pool_block=False)
        self.session.mount("https://", adapter)
        self.session.mount("http://", adapter)

    def close(self) -> None:
        """Close the pooled connections."""
        self.session.close()

    def attempt(
        self, request: Request, end: float
    ) -> tuple[Response, None] | tuple[None, Exception]:
        """Send the request once and read the response; return urllib3's exception if that fails."""

        def time_left() -> float:
            left = end - self._clock()
            if left <= 0:
                raise ProtocolError("it did not come in time")
            return left

        # Not 0, which urllib3 refuses; and an attempt begins only while there is time left.
        left = max(end - self._clock(), 0.001)
        _time_left.set(time_left)
        try:
            response = self.session.request(
                request.method,
                self._base_url + request.path,
                params=request.params,
                json=request.json,
                timeout=(min(self._connect_timeout, left), min(self._read_timeout, left)),
                allow_redirects=False,
                stream=True,
            )
            try:
                return _read(response, request), None
            finally:
                response.close()
        except (OSError, HTTPError) as error:  # those of requests are all OSErrors
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
        # Of what is streamed, an error quotes no more than the beginning.
        if stream is None or len(body) < ERROR_BODY_LIMIT:
            body += chunk
        if not chunk:
            break
    return Response(response.status_code, response.headers, bytes(body), size, stream)


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


def _user_agent() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"pulumi-traceloop/{version('pulumi-traceloop')}"
    except PackageNotFoundError:
        return "pulumi-traceloop"
