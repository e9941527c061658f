"""Any response gives a result or an error of this package, in time and in bounded memory.

The server is real, on loopback; in the tests of time limits, so is the clock.
"""

from __future__ import annotations

import gzip
import itertools
import json
import logging
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pulumi_traceloop._client import TraceloopClient
from pulumi_traceloop.errors import (
    MalformedResponseError,
    RejectedError,
    TraceloopError,
    TransportError,
)
from tests.support import API_KEY, client
from tests.support.client import SPEC, Serve
from tests.support.clock import Clock
from tests.support.service import Service
from tests.support.terminal import python

CALLS: dict[str, Callable[[TraceloopClient], object]] = {
    **{name: call.run for name, call in client.CALLS.items()},
    "bulk": lambda c: c.bulk_upsert({"m": SPEC, "n": SPEC}),
}

pytestmark = pytest.mark.usefixtures("plain_environment")

#: The seconds between two bytes of a drip, and the number of bytes after which it ends, so that a
#: client without a time limit ends as well.
PAUSE = 0.02
DRIPS = 200


@pytest.fixture
def service(serve: Serve) -> Service:
    return serve()


@pytest.fixture
def elsewhere(serve: Serve) -> Service:
    """A server that must receive nothing."""
    return serve(b"")


def quick_client(service: Service) -> TraceloopClient:
    clock = Clock()
    return TraceloopClient(
        API_KEY, service.url, read_timeout=5.0, deadline=20.0, clock=clock, sleep=clock.sleep
    )


# -- any response --

SETUP = {"id": "1", "external_id": "m", "init_rules": [], "evaluators": [], "status": "pending"}
GOOD = [
    [SETUP],
    SETUP,
    {"setups": [{"external_id": "m", "status": "ok", "result": SETUP}]},
    {"setups": [{"external_id": "m", "status": "error", "error": "setups[0]: @KEY@ \x1b[31m"}]},
    {"error": "no @KEY@ \x1b]0;title\x07 \u202e"},
]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*SETUP, "setups", "error", "message", "result", "key", "op", "x"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    value = draw(st.sampled_from(GOOD) | anything)
    if isinstance(value, dict) and draw(st.booleans()):  # one value of a wrong type
        value = {**value, draw(st.sampled_from(list(value) or ["x"])): draw(anything)}
    body = json.dumps(value).encode()
    kind = draw(st.sampled_from(["whole", "cut", "bytes", "page", "deep", "digits", "surrogate"]))
    if kind == "cut":
        return body[: draw(st.integers(0, len(body)))]
    odd = {
        "bytes": draw(st.binary(max_size=40)),
        "page": b"<html><title>\x1b[2J@KEY@&#27;[0m</title>" + b"x" * 100_000,
        "deep": b'{"setups":' * 2 + b"[" * draw(st.sampled_from([10, 1_000, 60_000])),
        "digits": b'{"id":' + b"9" * 10_000 + b"}",
        "surrogate": b'{"id":"\\ud800","external_id":"m"}',
    }
    return odd.get(kind, body)


HEADERS = [
    b"Content-Type: application/json; charset=@KEY@",
    b"Content-Type: text/html; charset=utf-7",
    b"Content-Length: 5",
    b"Content-Length: 5, 7",
    b"Content-Length: -1",
    b"Content-Length: 1" + b"0" * 5_000,
    b"Content-Length: x",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Content-Encoding: gzip",
    b"Content-Encoding: deflate",
    b"Content-Encoding: br, zstd",
    b"Content-Encoding: " + b"gzip, " * 50 + b"gzip",
    b"Retry-After: @KEY@",
    b"X-Kong-Request-Id: @KEY@",
    b"X-Kong-Request-Id: \x1b[31m",
    b"Retry-After: 99999999999999999999",
    b"Retry-After: Mon, 99 Foo 99999 99:99:99 +9999",
    b"Set-Cookie: a=@KEY@; expires=Mon, 99-Foo-99999999 99:99:99 GMT; domain=x; path=//",
    b"Set-Cookie: " + b";=" * 500,
    b"Location: http://who:@KEY@@127.0.0.1:@PORT@/x",
    b"Location: //[::1/@KEY@",
    b"Location: \x1b[31m\xff",
    b"WWW-Authenticate: Bearer realm=@KEY@",
    b"Connection: close",
    b"Connection: upgrade",
    b"no colon @KEY@ \x1b[31m",
    b" folded: @KEY@",
    b": nameless",
    b"\xff\xfe: \xff",
    b"x" * 70_000 + b": long",
]
STATUSES = [200, 201, 204, 206, 207, 226, 300, 301, 302, 304, 307, 308, 399, 400, 401, 403, 404]
STATUSES += [407, 408, 409, 413, 418, 426, 429, 451, 500, 501, 502, 503, 504, 599, 600, 999]


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    status = draw(st.sampled_from(STATUSES))
    line = draw(
        st.sampled_from([b"HTTP/1.1 %d OK", b"HTTP/1.1 %d", b"HTTP/1.0 %d \x1b[31m@KEY@"])
        | st.sampled_from([b"HTTP/2 %d", b"HTTP/1.1  %d OK", b"ICY %d OK", b"HTTP/1.1 %d%d"])
    )
    interim = draw(st.sampled_from([b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    interim += draw(st.sampled_from([b"", b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"]))
    headers = draw(st.lists(st.sampled_from(HEADERS), max_size=5))
    headers *= draw(st.sampled_from([1, 1, 1, 1, 50]))
    body = draw(bodies())
    packing = draw(st.sampled_from(["none", "none", "gzip", "chunks", "bad chunks"]))
    if packing == "gzip":
        headers.append(b"Content-Encoding: gzip")
        body = gzip.compress(body)[: draw(st.sampled_from([None, 12]))]
    elif packing == "chunks":
        headers.append(b"Transfer-Encoding: chunked")
        body = b"%x;x=@KEY@\r\n%b\r\n0\r\nTrailer: @KEY@\r\n\r\n" % (len(body), body)
    elif packing == "bad chunks":
        headers.append(b"Transfer-Encoding: chunked")
        size = draw(st.sampled_from([b"-5", b"zz", b"", b"f" * 40, b"0x4", b"9" * 70_000]))
        body = size + b"\r\n" + body
    elif draw(st.booleans()):
        headers.append(b"Content-Length: %d" % len(body))
    end = draw(st.sampled_from([b"\r\n", b"\r\n", b"\n", b""]))
    line = line % ((status,) * line.count(b"%d"))
    return interim + line + b"\r\n" + b"".join(h + b"\r\n" for h in headers) + end + body


def failure(
    call: Callable[[TraceloopClient], object], client: TraceloopClient
) -> TraceloopError | None:
    try:
        call(client)
    except TraceloopError as error:
        return error
    return None


def shown_of(error: BaseException) -> str:
    linked = [e for e in (error.__cause__, error.__context__) if e is not None]
    own = f"{error} {error!r} {error.args!r} {vars(error)!r}"
    return own + "".join(map(shown_of, linked))


@settings(
    derandomize=True,
    max_examples=300,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(reply=responses() | st.binary(max_size=60), name=st.sampled_from(list(CALLS)))
def test_any_response_gives_a_result_or_an_error_of_this_package(
    service: Service, elsewhere: Service, caplog: pytest.LogCaptureFixture, reply: bytes, name: str
) -> None:
    """No output has the key or a control character, and no request goes elsewhere."""
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    reply = reply.replace(b"@KEY@", API_KEY.encode()).replace(b"@PORT@", b"%d" % elsewhere.port)
    service.replies = [lambda _: [reply]]
    with quick_client(service) as opened:
        error = failure(CALLS[name], opened)
    if error is not None:
        assert API_KEY not in shown_of(error)
        assert str(error).isprintable()
        assert len(str(error)) < 1500
    assert API_KEY not in caplog.text
    assert elsewhere.raw == b""


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("name", CALLS)
def test_the_key_never_follows_a_redirect(
    service: Service, elsewhere: Service, name: str, status: int
) -> None:
    for host in ("127.0.0.1", "localhost"):
        location = f"http://{host}:{elsewhere.port}/v2/auto-monitor-setups"
        head = f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        service.replies = [head.encode()]
        with quick_client(service) as opened, pytest.raises(RejectedError, match="redirects to"):
            CALLS[name](opened)
    assert elsewhere.raw == b""


def test_interim_response_is_not_the_final_one(service: Service) -> None:
    """Else the final one would be the response to the next request, such as a delete."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    final = b'HTTP/1.1 404 Not Found\r\nContent-Length: 19\r\n\r\n{"error": "no one"}'
    service.replies = [hints + final]
    with quick_client(service) as opened:
        assert opened.get_setup("m") is None
        assert opened.delete_setup("m") is False
        assert opened.delete_setup("m") is False


def test_malformed_header_is_neither_accepted_nor_logged(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    head = f"HTTP/1.1 200 OK\r\n{API_KEY}\r\nContent-Length: 2\r\n\r\n[]"
    service.replies = [lambda _: [head.encode()]]
    with quick_client(service) as opened, pytest.raises(TransportError, match="malformed header"):
        opened.list_setups()
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


# -- time --


def dripping(start: bytes, drip: Callable[[int], bytes]) -> Iterator[bytes]:
    yield start
    for number in range(DRIPS):
        time.sleep(PAUSE)
        yield drip(number)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
#: Of a gzip stream that goes on without any content.
EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"
GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"

DRIPPING: dict[str, tuple[bytes, Callable[[int], bytes]]] = {
    "status line": (b"", lambda n: b"HTTP/1.1 200 "[n : n + 1] or b"x"),
    "header": (OK + b"X-Drip: ", lambda n: b"x"),
    "headers": (OK, lambda n: b"X: y\r\n" if n % 10 == 0 else b""),
    "body": (OK + b"Content-Length: 9999\r\n\r\n[", lambda n: b" "),
    "body without end": (OK + b"Connection: close\r\n\r\n[", lambda n: b" "),
    "chunk size": (CHUNKED, lambda n: b"0"),
    "chunk extension": (CHUNKED + b"5;", lambda n: b"x"),
    "chunks": (CHUNKED, lambda n: b"1\r\n \r\n"),
    "trailers": (CHUNKED + b"0\r\n", lambda n: b"X: y\r\n"),
    "100s": (b"", lambda n: b"HTTP/1.1 100 Continue\r\n\r\n"),
    "103s": (b"", lambda n: b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
    "gzip of nothing": (
        OK + b"Content-Encoding: gzip\r\nContent-Length: 9999\r\n\r\n" + GZIP_HEAD,
        lambda n: EMPTY_BLOCK,
    ),
    "error's body": (b"HTTP/1.1 400 No\r\nContent-Length: 9999\r\n\r\n", lambda n: b"x"),
}


def ends_in_time(call: Callable[[TraceloopClient], object], url: str) -> TraceloopError:
    """Return the call's error, which comes at the deadline and not after the whole drip."""
    opened = TraceloopClient(API_KEY, url, deadline=0.3, read_timeout=0.25)
    began = time.monotonic()
    with opened, pytest.raises(TraceloopError) as caught:
        call(opened)
    assert time.monotonic() - began < PAUSE * DRIPS
    return caught.value


@pytest.mark.parametrize("name", ["list", "upsert"])
@pytest.mark.parametrize("pieces", DRIPPING.values(), ids=DRIPPING)
def test_deadline_holds_for_a_dripping_response(
    service: Service, pieces: tuple[bytes, Callable[[int], bytes]], name: str
) -> None:
    service.replies = [lambda _: dripping(*pieces)]
    error = ends_in_time(CALLS[name], service.url)
    assert isinstance(error, TransportError)
    assert "in time" in str(error) or "timed out" in str(error).lower()


def test_deadline_holds_for_a_dripping_proxy(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", service.url)
    service.replies = [lambda _: dripping(b"HTTP/1.1 200 OK\r\n", lambda n: b"X: y\r\n")]
    ends_in_time(CALLS["upsert"], "https://traceloop.invalid")


@pytest.mark.parametrize("pieces", [b"HTTP/1.1 100 Continue\r\n\r\n" * 500, b"x" * 60_000, b" "])
def test_deadline_holds_for_a_flooding_response(service: Service, pieces: bytes) -> None:
    start = b"" if pieces.startswith(b"HTTP") else CHUNKED
    until = time.monotonic() + PAUSE * DRIPS
    endless = itertools.takewhile(lambda _: time.monotonic() < until, itertools.repeat(pieces))
    service.replies = [lambda _: itertools.chain([start], endless)]
    ends_in_time(CALLS["upsert"], service.url)


def test_deadline_holds_for_a_service_that_always_refuses(service: Service) -> None:
    refusal = b"HTTP/1.1 429 Slow\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"
    service.replies = [lambda _: [refusal]]
    ends_in_time(CALLS["upsert"], service.url)


# -- memory --

CHILD = """
import resource, sys
from pulumi_traceloop._client import TraceloopClient
from pulumi_traceloop.errors import TraceloopError
from pulumi_traceloop._models import SETUP_SPEC

SPEC = SETUP_SPEC.validate_python({
    "selector": [{"key": "a", "source": "span_attributes", "value": "b"}],
    "evaluators": ["pii-detector"],
})
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with TraceloopClient("tl-6c1f0e5d9b8a47323a7e", sys.argv[1], deadline=30) as client:
    try:
        client.list_setups() if sys.argv[2] == "list" else client.upsert_setup("m", SPEC)
    except TraceloopError as error:
        print(type(error).__name__)
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start
print(used // (1024 * 1024 if sys.platform == "darwin" else 1024))
"""


def bomb(megabytes: int) -> bytes:
    packer = zlib.compressobj(1, wbits=31)
    return b"".join(packer.compress(b" " * 2**20) for _ in range(megabytes)) + packer.flush()


def with_length(body: bytes, *headers: bytes) -> list[bytes]:
    fields = b"".join(header + b"\r\n" for header in headers)
    return [OK + fields + b"Content-Length: %d\r\n\r\n" % len(body), body]


HUGE: dict[str, tuple[str, Callable[[], Iterable[bytes]], int]] = {
    "endless body": (
        "upsert",
        lambda: itertools.chain([OK + b"\r\n"], itertools.repeat(b" " * 2**16)),
        30,
    ),
    "endless list": (
        "list",
        lambda: itertools.chain([OK + b"\r\n"], itertools.repeat(b" " * 2**16)),
        250,
    ),
    "endless header": (
        "upsert",
        lambda: itertools.chain([OK + b"X: "], itertools.repeat(b"x" * 2**16)),
        30,
    ),
    "bomb": ("upsert", lambda: with_length(bomb(100), b"Content-Encoding: gzip"), 30),
    "bomb in a bomb": (
        "upsert",
        lambda: with_length(gzip.compress(bomb(200)), b"Content-Encoding: gzip, gzip"),
        30,
    ),
    "deep": ("upsert", lambda: with_length(b'{"a":' * 150_000), 60),
    "many wrong items": ("list", lambda: with_length(b"[" + b"{}," * 2_000_000 + b"{}]"), 250),
}


@pytest.mark.skipif(sys.platform == "win32", reason="no module resource")
@pytest.mark.parametrize(("name", "reply", "megabytes"), HUGE.values(), ids=HUGE)
def test_memory_stays_bounded(
    service: Service, name: str, reply: Callable[[], Iterable[bytes]], megabytes: int
) -> None:
    service.replies = [lambda _: reply()]
    child = python("-c", CHILD, service.url, name)
    assert child.returncode == 0, child.stderr
    error, used = child.stdout.split()
    assert error in ("MalformedResponseError", "TransportError")
    assert int(used) < megabytes


def test_response_about_one_setup_is_limited_to_a_megabyte(service: Service) -> None:
    body: Any = {"id": "1", "external_id": "m", "more": "x" * 2**20}
    service.replies = [lambda _: with_length(json.dumps(body).encode())]
    with (
        quick_client(service) as opened,
        pytest.raises(MalformedResponseError, match="at most 1 MiB"),
    ):
        opened.get_setup("m")
