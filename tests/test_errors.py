"""The hierarchy of errors, their messages, and that the client raises no other library's error."""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from urllib3.exceptions import MaxRetryError

from pulumi_traceloop import errors
from pulumi_traceloop._client import TraceloopClient
from pulumi_traceloop._models import SETUP_SPEC
from pulumi_traceloop.errors import (
    ConnectionFailedError,
    RequestError,
    TraceloopError,
    TransportError,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SPEC = SETUP_SPEC.validate_python(
    {
        "selector": [{"key": "a", "source": "span_attributes", "value": "b"}],
        "evaluators": ["pii-detector"],
    }
)


def subclasses(root: type[Exception]) -> set[type[Exception]]:
    return {root}.union(*(subclasses(cls) for cls in root.__subclasses__()))


def own_errors() -> list[type[Exception]]:
    return sorted(
        (cls for cls in subclasses(TraceloopError) if cls.__module__ == errors.__name__),
        key=lambda cls: cls.__name__,
    )


class TestHierarchy:
    def test_exports_every_error(self) -> None:
        assert sorted(errors.__all__) == sorted([*(c.__name__ for c in own_errors()), "printable"])

    def test_docstring_draws_the_tree(self) -> None:
        path: dict[int, str] = {}
        drawn = {}
        for line in (errors.__doc__ or "").splitlines():
            if match := re.match(r"    (?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+Error)\b", line):
                depth = len(match["branch"])
                drawn[match["name"]] = path.get(depth - 4, "Exception")
                path[depth] = match["name"]
        assert drawn == {cls.__name__: cls.__bases__[0].__name__ for cls in own_errors()}

    def test_names_the_errors_with_an_unknown_outcome(self) -> None:
        request_errors = [cls for cls in own_errors() if issubclass(cls, RequestError)]
        assert {cls.__name__ for cls in request_errors if cls.outcome_unknown} == {
            "ConflictError",
            "MalformedResponseError",
            "ServerError",
            "TransportError",
        }


class TestRequestErrors:
    def test_names_the_setup_the_reason_the_status_and_the_request(self) -> None:
        error = RequestError("PUT", "/v2/x", "no\nfilter", status=400, external_id="m")
        assert str(error) == 'setup "m": no filter (HTTP 400) [PUT /v2/x]'
        assert (error.method, error.path, error.status) == ("PUT", "/v2/x", 400)
        assert (error.external_id, error.server_message) == ("m", "no filter")

    def test_omits_missing_parts(self) -> None:
        error = RequestError("GET", "/v2/x", "timed out")
        assert str(error) == "timed out [GET /v2/x]"
        assert (error.status, error.external_id) == (None, None)


class TestPrintable:
    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("plain", "plain"),
            ("  a \r\n\t b\x00c ", "a b c"),
            ("\x1b[31mred\x1b[0m", "[31mred [0m"),
            ("\u202eevil\u2028", "evil"),
            ("é 漢 🙂", "é 漢 🙂"),
            ("", ""),
        ],
    )
    def test_is_one_line_without_control_characters(self, text: str, line: str) -> None:
        assert printable(text) == line

    @pytest.mark.parametrize("length", [9, 10, 11, 100_000])
    def test_is_cut_to_the_limit(self, length: int) -> None:
        line = printable("x" * length, 10)
        assert line == ("x" * length if length <= 10 else "xxxxxxx...")

    def test_is_cut_to_five_hundred_characters(self) -> None:
        assert len(printable("x y " * 10_000)) <= 500


class Raises(HTTPAdapter):
    """A transport whose attempts all fail with one error."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.attempts = 0

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        self.attempts += 1
        raise self.error


@pytest.fixture
def client_of() -> Iterator[Callable[[], TraceloopClient]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(TraceloopClient("tl-key", sleep=lambda _: None))


@pytest.fixture
def client(client_of: Callable[[], TraceloopClient]) -> TraceloopClient:
    return client_of()


def fails_with(client: TraceloopClient, error: Exception) -> Raises:
    adapter = Raises(error)
    client._transport.session.mount("https://", adapter)
    return adapter


#: How to make errors whose constructor takes more than a text.
SPECIAL: dict[str, Callable[[Any], Exception]] = {
    "JSONDecodeError": lambda cls: cls("text", "doc", 0),
    "ProxyError": lambda cls: cls("text", OSError("inner")),
    "MaxRetryError": lambda cls: cls(None, "/", OSError("inner")),
    "NameResolutionError": lambda cls: cls("host", None, socket.gaierror("unknown")),
    "NewConnectionError": lambda cls: cls(None, "text"),
    "ReadTimeoutError": lambda cls: cls(None, "/", "text"),
    "RequestError": lambda cls: cls(None, "/", "text"),
    "HostChangedError": lambda cls: cls(None, "/"),
    "IncompleteRead": lambda cls: cls(1, 2),
    "HeaderParsingError": lambda cls: cls([], "text"),
    "InvalidChunkLength": lambda cls: cls(
        urllib3.HTTPResponse(b"", preload_content=False), b"text"
    ),
}
POOL_ERRORS = ("PoolError", "EmptyPoolError", "FullPoolError", "ClosedPoolError")
SPECIAL |= dict.fromkeys(POOL_ERRORS, lambda cls: cls(None, "text"))

LOWER_LEVEL = [
    *(c for c in subclasses(requests.RequestException) if "requests." in c.__module__),
    *(c for c in subclasses(urllib3.exceptions.HTTPError) if "urllib3." in c.__module__),
]


class TestLowerLevelErrors:
    @pytest.mark.parametrize(
        "cls", sorted(LOWER_LEVEL, key=str), ids=lambda cls: f"{cls.__module__}.{cls.__name__}"
    )
    def test_to_a_transport_error(self, client: TraceloopClient, cls: type[Exception]) -> None:
        make = SPECIAL.get(cls.__name__)
        fails_with(client, make(cls) if make else cls("text"))
        with pytest.raises(TransportError) as caught:
            client.upsert_setup("m", SPEC)
        assert str(caught.value).startswith('setup "m": ')
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None

    def test_many_lower_level_errors_are_found(self) -> None:
        assert len(LOWER_LEVEL) > 40


def retried(reason: Exception) -> MaxRetryError:
    return MaxRetryError(None, "/", reason)  # type: ignore[arg-type]


def bad_certificate() -> Exception:
    return urllib3.exceptions.SSLError(ssl.SSLCertVerificationError(1, "self-signed certificate"))


NO_CONNECTION = urllib3.exceptions.NewConnectionError(None, "refused")  # type: ignore[arg-type]

#: Errors as requests raises them: the error, whether the request may have arrived, how often a PUT
#: and a GET are sent, and the message.
WRAPPED = {
    "refused": (requests.ConnectionError(retried(NO_CONNECTION)), False, 6, 6, "refused"),
    "connect timeout": (
        requests.ConnectTimeout(retried(urllib3.exceptions.ConnectTimeoutError("too slow"))),
        *(False, 6, 6, "too slow"),
    ),
    "proxy down": (
        requests.exceptions.ProxyError(
            retried(urllib3.exceptions.ProxyError("no proxy", NO_CONNECTION))
        ),
        *(False, 6, 6, "through the proxy: .*refused"),
    ),
    "proxy refuses": (
        requests.exceptions.ProxyError(
            retried(urllib3.exceptions.ProxyError("no proxy", OSError("Tunnel failed: 407")))
        ),
        *(False, 1, 1, "through the proxy: tunnel failed: 407"),
    ),
    "bad certificate": (
        requests.exceptions.SSLError(retried(bad_certificate())),
        *(False, 1, 1, "not trusted: .*self-signed certificate.*REQUESTS_CA_BUNDLE"),
    ),
    "broken TLS": (
        requests.exceptions.SSLError(
            retried(urllib3.exceptions.SSLError(ssl.SSLEOFError(8, "EOF occurred")))
        ),
        *(True, 1, 6, "TLS connection broken.*EOF occurred"),
    ),
    "reset": (
        requests.ConnectionError(
            urllib3.exceptions.ProtocolError(
                "Connection aborted.", ConnectionResetError(104, "Connection reset by peer")
            )
        ),
        *(True, 1, 6, "Connection aborted. .*reset by peer"),
    ),
    "read timeout": (
        requests.ReadTimeout(
            urllib3.exceptions.ReadTimeoutError(None, "/", "too slow")  # type: ignore[arg-type]
        ),
        *(True, 1, 6, "too slow"),
    ),
    "no SOCKS": (
        requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support."),
        *(False, 1, 1, "missing dependencies for SOCKS support."),
    ),
    "bad proxy URL": (requests.exceptions.InvalidProxyURL("no host"), False, 1, 1, "no host"),
    "no CA bundle": (OSError("no CA bundle at /x"), False, 1, 1, "no CA bundle at /x"),
}


@pytest.mark.parametrize(
    ("error", "maybe_arrived", "puts", "gets", "said"), WRAPPED.values(), ids=WRAPPED
)
def test_wrapped_failure_is_reported_and_repeated_by_its_cause(
    client_of: Callable[[], TraceloopClient],
    error: Exception,
    maybe_arrived: bool,
    puts: int,
    gets: int,
    said: str,
) -> None:
    client = client_of()
    transport = fails_with(client, error)
    with pytest.raises(TransportError, match=said) as caught:
        client.upsert_setup("m", SPEC)
    assert transport.attempts == puts
    assert caught.value.outcome_unknown == maybe_arrived
    assert isinstance(caught.value, ConnectionFailedError) == (not maybe_arrived)
    client = client_of()  # failures of the first client would shorten this call
    transport = fails_with(client, error)
    with pytest.raises(TransportError, match=said):
        client.get_setup("m")
    assert transport.attempts == gets
