"""Whatever a server sends: an error of this package or a good result, in time, in bounded memory.

The server is real, on the loopback interface; in the tests of time limits, so is the clock.
"""

from __future__ import annotations

import gzip
import itertools
import json
import logging
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pulumi_traceloop._client import TraceloopClient
from pulumi_traceloop._models import SetupSpec
from pulumi_traceloop.errors import (
    MalformedResponseError,
    RejectedError,
    TraceloopError,
    TransportError,
)

KEY = "tl-6c1f0e5d9b8a47323a7e"

SPEC = SetupSpec.model_validate(
    {
        "selector": [{"key": "gen_ai.system", "source": "span_attributes", "value": "openai"}],
        "evaluators": ["pii-detector"],
    }
)

CALLS: dict[str, Callable[[TraceloopClient], object]] = {
    "list": lambda c: c.list_setups(),
    "get": lambda c: c.get_setup("m"),
    "delete": lambda c: c.delete_setup("m"),
    "upsert": lambda c: c.upsert_setup("m", SPEC),
    "bulk": lambda c: c.bulk_upsert({"m": SPEC, "n": SPEC}),
}

#: What a drip waits between two bytes, in seconds, and after how many it gives up, so that a client
#: without a time limit ends as well.
PAUSE = 0.02
DRIPS = 200


class Server:
    """Sends the pieces of `answer` to every request, then closes the connection."""

    def __init__(self) -> None:
        self.answer: Callable[[], Iterable[bytes]] = lambda: [b""]
        self.requests: list[str] = []
        self.keep_alive = False
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream, suppress(OSError):
            while line := stream.readline().decode("latin-1"):
                self.requests.append(line.strip())
                length = 0
                while header := stream.readline().strip().lower():
                    if header.startswith(b"content-length:"):
                        length = int(header.partition(b":")[2])
                stream.read(length)
                for piece in self.answer():
                    connection.sendall(piece)
                if not self.keep_alive:
                    connection.shutdown(socket.SHUT_WR)
                    break
        self._open.discard(connection)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def elsewhere() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


class Time:
    """A clock that only moves when someone waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def quick_client(server: Server) -> TraceloopClient:
    time = Time()
    return TraceloopClient(
        KEY, server.url, read_timeout=5.0, deadline=20.0, clock=time.clock, sleep=time.sleep
    )


# -- any answer at all --

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
def answers(draw: st.DrawFn) -> bytes:
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
@given(reply=answers() | st.binary(max_size=60), name=st.sampled_from(list(CALLS)))
def test_any_answer_ends_in_a_result_or_an_error_of_this_package(
    server: Server, elsewhere: Server, caplog: pytest.LogCaptureFixture, reply: bytes, name: str
) -> None:
    """Nothing printed holds the key or a control character, and nothing goes elsewhere."""
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    reply = reply.replace(b"@KEY@", KEY.encode()).replace(b"@PORT@", b"%d" % elsewhere.port)
    server.answer = lambda: [reply]
    with quick_client(server) as client:
        error = failure(CALLS[name], client)
    if error is not None:
        assert KEY not in shown_of(error)
        assert str(error).isprintable()
        assert len(str(error)) < 1500
    assert KEY not in caplog.text
    assert elsewhere.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("name", CALLS)
def test_the_key_never_follows_a_redirect(
    server: Server, elsewhere: Server, name: str, status: int
) -> None:
    for host in ("127.0.0.1", "localhost"):
        location = f"http://{host}:{elsewhere.port}/v2/auto-monitor-setups"
        head = f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        server.answer = lambda head=head: [head.encode()]  # type: ignore[misc]
        with quick_client(server) as client, pytest.raises(RejectedError, match="redirects to"):
            CALLS[name](client)
    assert elsewhere.requests == []


def test_an_interim_answer_is_not_taken_for_the_final_one(server: Server) -> None:
    """Else the final one would be the next request's answer, and a deletion look done."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    final = b'HTTP/1.1 404 Not Found\r\nContent-Length: 19\r\n\r\n{"error": "no one"}'
    server.keep_alive = True
    server.answer = lambda: [hints, final]
    with quick_client(server) as client:
        assert client.get_setup("m") is None
        assert client.delete_setup("m") is False
        assert client.delete_setup("m") is False


def test_a_malformed_header_is_neither_accepted_nor_logged(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    head = f"HTTP/1.1 200 OK\r\n{KEY}\r\nContent-Length: 2\r\n\r\n[]"
    server.answer = lambda: [head.encode()]
    with quick_client(server) as client, pytest.raises(TransportError, match="malformed header"):
        client.list_setups()
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


# -- time --


def dripping(start: bytes, drip: Callable[[int], bytes]) -> Iterator[bytes]:
    yield start
    for number in range(DRIPS):
        time.sleep(PAUSE)
        yield drip(number)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
#: Of a gzip stream that goes on and never says anything.
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
    """Return the call's error, which comes at its deadline and not after a time limit's pause."""
    client = TraceloopClient(KEY, url, deadline=0.3, read_timeout=0.25)
    began = time.monotonic()
    with client, pytest.raises(TraceloopError) as caught:
        call(client)
    assert time.monotonic() - began < PAUSE * DRIPS
    return caught.value


@pytest.mark.parametrize("name", ["list", "upsert"])
@pytest.mark.parametrize("pieces", DRIPPING.values(), ids=DRIPPING)
def test_a_deadline_holds_however_slowly_the_answer_drips(
    server: Server, pieces: tuple[bytes, Callable[[int], bytes]], name: str
) -> None:
    server.answer = lambda: dripping(*pieces)
    error = ends_in_time(CALLS[name], server.url)
    assert isinstance(error, TransportError)
    assert "in time" in str(error) or "timed out" in str(error).lower()


def test_a_deadline_holds_for_a_proxy_that_drips(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", server.url)
    server.answer = lambda: dripping(b"HTTP/1.1 200 OK\r\n", lambda n: b"X: y\r\n")
    ends_in_time(CALLS["upsert"], "https://traceloop.invalid")


@pytest.mark.parametrize("pieces", [b"HTTP/1.1 100 Continue\r\n\r\n" * 500, b"x" * 60_000, b" "])
def test_a_deadline_holds_for_an_answer_that_floods(server: Server, pieces: bytes) -> None:
    start = b"" if pieces.startswith(b"HTTP") else CHUNKED
    until = time.monotonic() + PAUSE * DRIPS
    endless = itertools.takewhile(lambda _: time.monotonic() < until, itertools.repeat(pieces))
    server.answer = lambda: itertools.chain([start], endless)
    ends_in_time(CALLS["upsert"], server.url)


def test_a_service_that_always_refuses_does_not_hold_a_call(server: Server) -> None:
    refusal = b"HTTP/1.1 429 Slow\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"
    server.answer = lambda: [refusal]
    ends_in_time(CALLS["upsert"], server.url)


# -- memory --

CHILD = """
import resource, sys
from pulumi_traceloop._client import TraceloopClient
from pulumi_traceloop.errors import TraceloopError
from pulumi_traceloop._models import SetupSpec

SPEC = SetupSpec.model_validate({
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
@pytest.mark.parametrize(("name", "answer", "megabytes"), HUGE.values(), ids=HUGE)
def test_memory_stays_bounded(
    server: Server, name: str, answer: Callable[[], Iterable[bytes]], megabytes: int
) -> None:
    server.answer = answer
    child = subprocess.run(
        [sys.executable, "-c", CHILD, server.url, name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    error, used = child.stdout.split()
    assert error in ("MalformedResponseError", "TransportError")
    assert int(used) < megabytes


def test_an_answer_about_one_setup_is_read_up_to_a_megabyte(server: Server) -> None:
    body: Any = {"id": "1", "external_id": "m", "more": "x" * 2**20}
    server.answer = lambda: with_length(json.dumps(body).encode())
    with (
        quick_client(server) as client,
        pytest.raises(MalformedResponseError, match="at most 1 MiB"),
    ):
        client.get_setup("m")
