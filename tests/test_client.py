"""The client against real HTTP on the loopback interface; only clocks and waits are not real."""

from __future__ import annotations

import gc
import gzip
import json
import logging
import re
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pulumi_traceloop._client import BULK_LIMIT, BulkOutcome, TraceloopClient
from pulumi_traceloop._client._outage import HOLD
from pulumi_traceloop._client._pace import EASE, Pacer
from pulumi_traceloop._client._request import Request
from pulumi_traceloop._client._response import Response
from pulumi_traceloop._models import SetupSpec
from pulumi_traceloop._settings import DEFAULT_BASE_URL, Settings
from pulumi_traceloop.emulator import Emulator, Fault
from pulumi_traceloop.emulator.routes import BULK_ROUTE, UPSERT_ROUTE
from pulumi_traceloop.errors import (
    AuthenticationError,
    ConfigurationError,
    ConflictError,
    ConnectionFailedError,
    MalformedResponseError,
    NotFoundError,
    RateLimitedError,
    RejectedError,
    RequestError,
    ServerError,
    TransportError,
)

if TYPE_CHECKING:
    from pathlib import Path

KEY = "tl-2b7e151628aed2a6abf7158809cf4f3c"
SETUPS = "/v2/auto-monitor-setups"

SPEC = SetupSpec.model_validate(
    {
        "selector": [{"key": "gen_ai.system", "source": "span_attributes", "value": "openai"}],
        "evaluators": ["pii-detector"],
    }
)


class Time:
    """A clock that only moves when someone waits or a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


class Received(NamedTuple):
    line: str
    headers: dict[str, str]
    body: bytes


Reply = bytes | Callable[[], bytes]


class Wire:
    """An HTTP server that notes requests byte by byte and answers from a script.

    The last reply is given again and again; an empty one drops the connection. A greeting is all
    that a client gets.
    """

    def __init__(self, *replies: Reply, port: int = 0, greeting: bytes = b"") -> None:
        self.replies = list(replies)
        self.greeting = greeting
        self.requests: list[Received] = []
        self.connections = 0
        self._lock = threading.Condition()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        with suppress(OSError):  # closed before
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()

    def received(self, count: int) -> int:
        """Wait until so many requests have come, whoever gave up on them; return how many have."""
        with self._lock:
            self._lock.wait_for(lambda: len(self.requests) >= count, timeout=20)
            return len(self.requests)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            try:
                if self.greeting:
                    connection.sendall(self.greeting)
                    return
                while request := self._read(stream):
                    with self._lock:
                        self.requests.append(request)
                        self._lock.notify_all()
                        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                    data = reply() if callable(reply) else reply
                    if not data:
                        return
                    connection.sendall(data)
                    if b"\r\n\r\n" not in data or b"\r\nConnection: close\r\n" in data:
                        return
            except OSError:
                return

    @staticmethod
    def _read(stream: Any) -> Received | None:
        line = stream.readline().decode("latin-1").rstrip("\r\n")
        if not line:
            return None
        headers = {}
        while header := stream.readline().decode("latin-1").rstrip("\r\n"):
            name, _, value = header.partition(": ")
            headers[name.lower()] = value
        return Received(line, headers, stream.read(int(headers.get("content-length", 0))))


def answer(status: int, body: object = b"", headers: dict[str, str] | None = None) -> bytes:
    """Return a whole HTTP answer; a body that is not bytes goes as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"Content-Length": str(len(content)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Reason\r\n{head}\r\n".encode() + content


def stored(external_id: str = "m", **more: object) -> dict[str, object]:
    return {"id": "1", "external_id": external_id, **more}


OK_BULK = answer(207, {"setups": [{"external_id": "m", "status": "ok", "result": stored()}]})
PAGE = b"<!DOCTYPE html><html><head><title>502 Bad\nGateway</title></head><body>x</body></html>"
ABSENT = {"error": 'auto monitor setup "m" not found'}
SILENT = b"HTTP/1.1 100 Continue\r\n\r\n"  # and nothing after that


class Call(NamedTuple):
    """One of the client's calls, about the setup "m", and a whole answer to it."""

    run: Callable[[TraceloopClient], object]
    good: bytes
    repeatable: bool


CALLS = {
    "list": Call(lambda c: c.list_setups(), answer(200, [stored()]), True),
    "get": Call(lambda c: c.get_setup("m"), answer(200, stored()), True),
    "delete": Call(lambda c: c.delete_setup("m"), answer(204), True),
    "upsert": Call(lambda c: c.upsert_setup("m", SPEC), answer(200, stored()), False),
    "bulk": Call(lambda c: c.bulk_upsert({"m": SPEC}), OK_BULK, False),
}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def client_of(stack: ExitStack, time: Time) -> Callable[..., TraceloopClient]:
    """Return a factory of clients whose waits are not real."""

    def make(base_url: str, **options: Any) -> TraceloopClient:
        options = {"clock": time.clock, "sleep": time.sleep, "read_timeout": 5.0, **options}
        return stack.enter_context(
            TraceloopClient(options.pop("api_key", KEY), base_url, **options)
        )

    return make


@pytest.fixture
def wire(stack: ExitStack) -> Callable[..., Wire]:
    def make(*replies: Reply, **options: Any) -> Wire:
        server = Wire(*replies, **options)
        stack.callback(server.close)
        return server

    return make


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(api_key=KEY, base_path="/api") as emulator:
        yield emulator


Clients = Callable[..., TraceloopClient]
Wires = Callable[..., Wire]


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class TestCallsAgainstTheEmulator:
    def test_an_upsert_creates_and_then_replaces(
        self, emulator: Emulator, client_of: Clients
    ) -> None:
        client = client_of(emulator.url)
        created = client.upsert_setup("m", SPEC)
        assert created.definition == SPEC.definition
        changed = SPEC.model_copy(update={"evaluators": ["word-count"]})
        assert client.upsert_setup("m", changed).id == created.id
        assert emulator.writes == {"m": 2}

    def test_get_returns_the_setup(self, emulator: Emulator, client_of: Clients) -> None:
        client = client_of(emulator.url)
        client.upsert_setup("m", SPEC)
        setup = client.get_setup("m")
        assert setup is not None
        assert (setup.external_id, setup.definition) == ("m", SPEC.definition)

    def test_get_returns_none_for_an_unknown_one(
        self, emulator: Emulator, client_of: Clients
    ) -> None:
        assert client_of(emulator.url).get_setup("m") is None

    def test_list_returns_all(self, emulator: Emulator, client_of: Clients) -> None:
        client = client_of(emulator.url)
        assert client.list_setups().setups == []
        client.bulk_upsert({"a": SPEC, "b": SPEC})
        assert {setup.external_id for setup in client.list_setups().setups} == {"a", "b"}

    def test_list_filters(self, emulator: Emulator, client_of: Clients) -> None:
        client = client_of(emulator.url)
        client.bulk_upsert({"a&b=c": SPEC, "b": SPEC})
        emulator.force_status("b", "failed")
        by_id = client.list_setups(external_id="a&b=c").setups
        assert [setup.external_id for setup in by_id] == ["a&b=c"]
        by_status = client.list_setups(status="failed").setups
        assert [setup.external_id for setup in by_status] == ["b"]

    def test_delete_tells_whether_there_was_one(
        self, emulator: Emulator, client_of: Clients
    ) -> None:
        client = client_of(emulator.url)
        client.upsert_setup("m", SPEC)
        assert client.delete_setup("m") is True
        assert client.delete_setup("m") is False
        assert emulator.setups == {}

    def test_bulk_upserts_each_by_itself(self, emulator: Emulator, client_of: Clients) -> None:
        specs = {f"m{n}": SPEC for n in range(BULK_LIMIT)}
        emulator.inject(Fault(item_error={"m7": 'unknown evaluator slug "x"'}))
        outcome = client_of(emulator.url).bulk_upsert(specs)
        assert outcome.refused == {"m7": 'unknown evaluator slug "x"'}
        assert set(outcome.stored) == set(specs) - {"m7"} == set(emulator.setups)
        assert outcome.outcome_unknown == {}

    @pytest.mark.parametrize(
        "external_id", ["a/b", "%2F", "50%", "a b", "~é漢🙂", "?#:&=+", "a/../b"]
    )
    def test_any_external_id_survives_the_round_trip(
        self, emulator: Emulator, client_of: Clients, external_id: str
    ) -> None:
        client = client_of(emulator.url)
        client.upsert_setup(external_id, SPEC)
        assert list(emulator.setups) == [external_id]
        setup = client.get_setup(external_id)
        assert setup is not None
        assert setup.external_id == external_id
        assert client.delete_setup(external_id) is True

    def test_a_revoked_key_is_told_with_the_setting_to_check(
        self, emulator: Emulator, client_of: Clients
    ) -> None:
        client = client_of(emulator.url, api_key="tl-another-key")
        with pytest.raises(
            AuthenticationError, match=r"does not accept the API key.*traceloop:apiKey"
        ):
            client.list_setups()

    def test_threads_share_a_client_and_its_connections(
        self, emulator: Emulator, client_of: Clients, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = client_of(emulator.url, pool_size=8)
        names = [f"m{n}" for n in range(64)]
        with ThreadPoolExecutor(8) as pool:
            setups = list(pool.map(lambda name: client.upsert_setup(name, SPEC), names))
            read = list(pool.map(client.get_setup, names))
        assert [setup.external_id for setup in setups] == names
        assert [setup and setup.external_id for setup in read] == names
        assert emulator.writes == dict.fromkeys(names, 1)
        # urllib3 warns of a connection that the pool has no room for.
        assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


class TestTheWire:
    @pytest.mark.parametrize(
        ("external_id", "encoded"),
        [
            ("plain-1_2.3~4", "plain-1_2.3~4"),
            ("a/b", "a%2Fb"),
            ("a%2Fb", "a%252Fb"),
            ("%", "%25"),
            ("%7E", "%257E"),
            ("a b", "a%20b"),
            ("a+b", "a%2Bb"),
            ("x:y", "x%3Ay"),
            ("?q=1&r", "%3Fq%3D1%26r"),
            ("#f", "%23f"),
            ("é", "%C3%A9"),
            ("🙂", "%F0%9F%99%82"),
            ("../..", "..%2F.."),
            ("...", "..."),
            ("//", "%2F%2F"),
            ("\\", "%5C"),
            ("a\r\nX: y", "a%0D%0AX%3A%20y"),
            (
                "[{|}]^`\"<>'()*!$,;=@",
                "%5B%7B%7C%7D%5D%5E%60%22%3C%3E%27%28%29%2A%21%24%2C%3B%3D%40",
            ),
        ],
    )
    def test_an_external_id_is_one_encoded_path_segment(
        self, client_of: Clients, wire: Wires, external_id: str, encoded: str
    ) -> None:
        good = answer(200, stored(external_id))
        server = wire(good, good, answer(204))
        client = client_of(f"{server.url}/api/")
        client.get_setup(external_id)
        client.upsert_setup(external_id, SPEC)
        client.delete_setup(external_id)
        assert [request.line for request in server.requests] == [
            f"GET /api{SETUPS}/{encoded} HTTP/1.1",
            f"PUT /api{SETUPS}/by-external-id/{encoded} HTTP/1.1",
            f"DELETE /api{SETUPS}/{encoded} HTTP/1.1",
        ]

    @pytest.mark.parametrize("external_id", [".", "..", "", "  ", "\ud800"])
    def test_an_external_id_that_no_path_can_carry_is_not_sent(
        self, client_of: Clients, wire: Wires, external_id: str
    ) -> None:
        server = wire(answer(500))
        client = client_of(server.url)
        calls: list[Callable[[], object]] = [
            lambda: client.get_setup(external_id),
            lambda: client.delete_setup(external_id),
            lambda: client.upsert_setup(external_id, SPEC),
        ]
        for call in calls:
            with pytest.raises(RejectedError, match="the external_id must") as caught:
                call()
            assert not caught.value.outcome_unknown
        assert list(client.bulk_upsert({external_id: SPEC}).refused) == [external_id]
        assert server.requests == []

    def test_a_bulk_request_leaves_out_what_no_path_can_carry(
        self, client_of: Clients, wire: Wires
    ) -> None:
        server = wire(OK_BULK)
        outcome = client_of(server.url).bulk_upsert({"..": SPEC, "m": SPEC})
        assert (list(outcome.refused), list(outcome.stored)) == ([".."], ["m"])
        sent = json.loads(server.requests[0].body)
        assert [item["external_id"] for item in sent["setups"]] == ["m"]

    def test_filters_are_encoded(self, client_of: Clients, wire: Wires) -> None:
        server = wire(answer(200, []))
        client_of(server.url).list_setups(status="failed", external_id="a&b#é")
        assert server.requests[0].line == (
            f"GET {SETUPS}?status=failed&external_id=a%26b%23%C3%A9 HTTP/1.1"
        )

    def test_a_list_without_filters_has_no_query(self, client_of: Clients, wire: Wires) -> None:
        server = wire(answer(200, []))
        client_of(server.url).list_setups()
        assert server.requests[0].line == f"GET {SETUPS} HTTP/1.1"

    def test_headers(self, client_of: Clients, wire: Wires) -> None:
        server = wire(answer(200, stored()))
        client_of(server.url).upsert_setup("m", SPEC)
        headers = server.requests[0].headers
        assert headers["authorization"] == f"Bearer {KEY}"
        assert re.fullmatch(r"pulumi-traceloop(/\d[\w.+]*)?", headers["user-agent"])
        assert headers["accept"] == "application/json"
        assert headers["content-type"] == "application/json"

    def test_an_upsert_sends_the_spec(self, client_of: Clients, wire: Wires) -> None:
        server = wire(answer(200, stored()))
        client_of(server.url).upsert_setup("m", SPEC)
        assert json.loads(server.requests[0].body) == SPEC.request_body()

    def test_a_bulk_upsert_sends_the_specs_with_their_external_ids(
        self, client_of: Clients, wire: Wires
    ) -> None:
        server = wire(OK_BULK)
        client_of(server.url).bulk_upsert({"m": SPEC, "é/": SPEC})
        assert server.requests[0].line == f"POST {SETUPS}/bulk HTTP/1.1"
        assert json.loads(server.requests[0].body) == {
            "setups": [
                {"external_id": "m", **SPEC.request_body()},
                {"external_id": "é/", **SPEC.request_body()},
            ]
        }

    def test_one_connection_serves_call_after_call(self, client_of: Clients, wire: Wires) -> None:
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        setup = json.dumps(stored()).encode()
        chunked += b"%x\r\n%b\r\n0\r\n\r\n" % (len(setup), setup)
        packed = answer(200, gzip.compress(setup), {"Content-Encoding": "gzip"})
        server = wire(answer(200, stored()), chunked, packed, answer(404, ABSENT), answer(204))
        client = client_of(server.url)
        for _ in range(3):
            assert client.get_setup("m") is not None
        assert client.get_setup("m") is None
        assert client.delete_setup("m") is True
        assert len(server.requests) == 5
        assert server.connections == 1

    def test_a_cookie_is_not_sent_back(self, client_of: Clients, wire: Wires) -> None:
        server = wire(answer(200, [], {"Set-Cookie": "a=b; Path=/"}))
        client = client_of(server.url)
        client.list_setups()
        client.list_setups()
        assert "cookie" not in server.requests[1].headers

    def test_netrc_does_not_replace_the_key(
        self, client_of: Clients, wire: Wires, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login someone password else\n")
        monkeypatch.setenv("NETRC", str(netrc))
        server = wire(answer(200, []))
        client_of(server.url).list_setups()
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"

    def test_the_environments_proxy_is_used(
        self, client_of: Clients, wire: Wires, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy = wire(answer(200, stored("a/b")))
        monkeypatch.setenv("http_proxy", proxy.url)
        client_of("http://traceloop.invalid/api", allow_http=True).get_setup("a/b")
        assert proxy.requests[0].line == (
            f"GET http://traceloop.invalid/api{SETUPS}/a%2Fb HTTP/1.1"
        )

    def test_no_proxy_is_respected(
        self, client_of: Clients, wire: Wires, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy, server = wire(answer(500)), wire(answer(200, []))
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert client_of(server.url).list_setups().setups == []
        assert proxy.requests == []

    # Python 3.10's http.client leaves a refused tunnel to the garbage collector, which warns of it.
    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    def test_a_proxy_that_refuses_the_tunnel_does_not_see_the_key(
        self, client_of: Clients, wire: Wires, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy = wire(answer(407, b"", {"Connection": "close"}))
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises(ConnectionFailedError, match=r"proxy.*407"):
            client_of("https://traceloop.invalid").upsert_setup("m", SPEC)
        assert proxy.requests[0].line.startswith("CONNECT traceloop.invalid:443 ")
        assert "authorization" not in proxy.requests[0].headers
        gc.collect()


class TestRetries:
    @pytest.mark.parametrize("status", [400, 401, 403, 410, 413, 422, 501, 505])
    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_a_lasting_refusal_is_not_sent_again(
        self, client_of: Clients, wire: Wires, time: Time, call: Call, status: int
    ) -> None:
        refusal = answer(status, b"no", {"Retry-After": "1"})
        server = wire(refusal, call.good)
        with pytest.raises(RequestError) as caught:
            call.run(client_of(server.url))
        assert (len(server.requests), time.waits) == (1, [])
        assert caught.value.status == status
        assert caught.value.outcome_unknown == (status >= 500)

    @pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_a_passing_failure_is_sent_again_where_that_is_harmless(
        self, client_of: Clients, wire: Wires, call: Call, status: int
    ) -> None:
        server = wire(answer(status, {"error": "try later"}, {"Retry-After": "1"}), call.good)
        client = client_of(server.url)
        if call.repeatable:
            call.run(client)
        else:
            with pytest.raises(ServerError, match="try later") as caught:
                call.run(client)
            assert caught.value.outcome_unknown
        assert len(server.requests) == 1 + call.repeatable

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_any_request_is_sent_again_after_429(
        self, client_of: Clients, wire: Wires, call: Call
    ) -> None:
        server = wire(answer(429), answer(429, b"", {"Retry-After": "3"}), call.good)
        call.run(client_of(server.url))
        assert len(server.requests) == 3

    @pytest.mark.parametrize(
        "broken",
        [
            b"",
            b"HTTP/1.1 2",
            b"nonsense\r\nConnection: close\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 99\r\n\r\n[",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n[",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ],
        ids=["dropped", "in the status", "no HTTP", "in the body", "in a chunk", "no chunk"],
    )
    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_a_lost_answer_is_asked_for_again_where_that_is_harmless(
        self, client_of: Clients, wire: Wires, call: Call, broken: bytes
    ) -> None:
        server = wire(broken, call.good)
        client = client_of(server.url)
        if call.repeatable:
            call.run(client)
        else:
            with pytest.raises(TransportError) as caught:
                call.run(client)
            assert caught.value.outcome_unknown
            assert caught.value.status is None
        assert len(server.requests) == 1 + call.repeatable

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_an_answer_that_does_not_come_in_time_is_a_lost_one(
        self, client_of: Clients, wire: Wires, call: Call
    ) -> None:
        server = wire(SILENT)
        with pytest.raises(TransportError, match="timed out") as caught:
            call.run(client_of(server.url, read_timeout=0.02))
        assert caught.value.outcome_unknown
        expected = 6 if call.repeatable else 1
        assert server.received(expected) == expected

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_any_request_is_sent_again_if_there_was_no_connection(
        self, client_of: Clients, wire: Wires, call: Call
    ) -> None:
        port = unused_port()
        servers: list[Wire] = []

        def sleep(seconds: float) -> None:
            servers.append(wire(call.good, port=port))

        call.run(client_of(f"http://127.0.0.1:{port}", sleep=sleep))
        assert [len(server.requests) for server in servers] == [1]

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_no_connection_in_any_attempt_means_that_nothing_was_sent(
        self, client_of: Clients, time: Time, call: Call
    ) -> None:
        client = client_of(f"http://127.0.0.1:{unused_port()}")
        with pytest.raises(
            ConnectionFailedError, match=r"cannot reach .*refused \(6 attempts in \d+ s\)"
        ) as caught:
            call.run(client)
        assert not caught.value.outcome_unknown
        assert "0x" not in str(caught.value)
        assert len(time.waits) == 5

    def test_no_connection_after_a_lost_answer_leaves_the_outcome_unknown(
        self, client_of: Clients, wire: Wires
    ) -> None:
        server = wire(b"")
        client = client_of(server.url, sleep=lambda _: server.close())
        with pytest.raises(TransportError, match="refused") as caught:
            client.delete_setup("m")
        assert caught.value.outcome_unknown

    def test_no_connection_after_a_429_means_that_nothing_was_done(
        self, client_of: Clients, wire: Wires, time: Time
    ) -> None:
        def sleep(seconds: float) -> None:
            time.sleep(seconds)
            server.close()

        server = wire(answer(429, b"", {"Connection": "close"}))
        client = client_of(server.url, sleep=sleep)
        with pytest.raises(ConnectionFailedError, match="refused") as caught:
            client.upsert_setup("m", SPEC)
        assert not caught.value.outcome_unknown

    def test_an_unknown_host_is_told(self, client_of: Clients) -> None:
        with pytest.raises(ConnectionFailedError, match=r"resolve 'traceloop\.invalid'"):
            client_of("http://traceloop.invalid", allow_http=True).list_setups()

    @pytest.mark.parametrize("host", ["a" * 64 + ".invalid", "a..invalid"])
    def test_an_impossible_host_name_is_no_retry(
        self, client_of: Clients, time: Time, host: str
    ) -> None:
        with pytest.raises(ConnectionFailedError, match=r"label|host"):
            client_of(f"http://{host}", allow_http=True).list_setups()
        assert time.waits == []

    def test_a_proxy_that_is_down_is_tried_again(
        self, client_of: Clients, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused_port()}")
        with pytest.raises(ConnectionFailedError, match="no connection through the proxy"):
            client_of("http://traceloop.invalid", allow_http=True).upsert_setup("m", SPEC)
        assert len(time.waits) == 5

    def test_a_ca_bundle_that_is_not_there_is_told_at_once(
        self, client_of: Clients, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/bundle.pem")
        with pytest.raises(ConnectionFailedError, match=r"/no/such/bundle\.pem"):
            client_of("https://127.0.0.1").upsert_setup("m", SPEC)
        assert time.waits == []

    def test_a_server_without_tls_breaks_the_connection(
        self, client_of: Clients, wire: Wires
    ) -> None:
        url = wire(greeting=b"220 no TLS here\r\n").url.replace("http:", "https:")
        with pytest.raises(TransportError, match="TLS connection broken") as caught:
            client_of(url).upsert_setup("m", SPEC)
        assert caught.value.outcome_unknown

    def test_the_waits_grow_and_are_jittered(
        self, client_of: Clients, wire: Wires, time: Time
    ) -> None:
        server = wire(answer(503))
        for _ in range(2):
            with pytest.raises(ServerError, match=r"\(HTTP 503, 6 attempts in \d+ s\)"):
                client_of(server.url, deadline=1000.0).list_setups()
        assert len(server.requests) == 12
        for waits in (time.waits[:5], time.waits[5:]):
            for wait, least in zip(waits, [0, 1, 2, 4, 8], strict=True):
                assert least < wait <= least + 1
        assert time.waits[:5] != time.waits[5:]

    @pytest.mark.parametrize(
        ("retry_after", "least", "most"),
        [
            ("7", 7, 8),
            (" 7 ", 7, 8),
            ("20", 20, 20),
            ("86400", 20, 20),
            ("9" * 400, 20, 20),
            ("9" * 5000, 0, 20),
            ("0", 0, 1),
            ("-5", 0, 1),
            ("soon", 0, 1),
            ("1.5", 0, 1),
            ("", 0, 1),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 1),
            ("Wed, 99 Oct 99999 07:28:00 GMT", 0, 20),
        ],
    )
    def test_retry_after_is_respected_and_capped(
        self,
        client_of: Clients,
        wire: Wires,
        time: Time,
        retry_after: str,
        least: float,
        most: float,
    ) -> None:
        server = wire(answer(429, b"", {"Retry-After": retry_after}), answer(204))
        assert client_of(server.url).delete_setup("m")
        (wait,) = time.waits
        assert least <= wait <= most

    @pytest.mark.parametrize(("seconds", "least", "most"), [(10, 8, 11), (7200, 20, 20)])
    def test_retry_after_may_be_a_date(
        self, client_of: Clients, wire: Wires, time: Time, seconds: int, least: int, most: int
    ) -> None:
        date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=seconds), usegmt=True)
        server = wire(answer(503, b"", {"Retry-After": date}), answer(200, []))
        client_of(server.url).list_setups()
        (wait,) = time.waits
        assert least <= wait <= most

    def test_a_retry_is_logged_for_debugging_only(
        self, client_of: Clients, wire: Wires, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        server = wire(answer(503), b"", answer(200, []))
        client_of(server.url).list_setups()
        own = [record for record in caplog.records if record.name == "pulumi_traceloop"]
        assert [record.levelno for record in own] == [logging.DEBUG] * 2
        assert "HTTP 503; attempt 2 follows in" in own[0].getMessage()
        assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


class TestDeadline:
    def test_no_wait_and_no_attempt_begins_after_it(
        self, client_of: Clients, wire: Wires, time: Time
    ) -> None:
        server = wire(answer(429, {"error": "slow down"}, {"Retry-After": "300"}))
        with pytest.raises(
            RateLimitedError, match=r"slow down \(HTTP 429, 3 attempts in 40 s\)"
        ) as caught:
            client_of(server.url).upsert_setup("m", SPEC)
        assert not caught.value.outcome_unknown
        assert time.waits == [20, 20]
        assert len(server.requests) == 3

    def test_it_counts_the_time_of_the_attempts(
        self, client_of: Clients, wire: Wires, time: Time
    ) -> None:
        def late() -> bytes:
            time.now += 61
            return answer(503)

        server = wire(late)
        # A client that begins to read after the clock was moved does not take the answer any more.
        with pytest.raises((ServerError, TransportError)):
            client_of(server.url).list_setups()
        assert (len(server.requests), time.waits) == (1, [])

    def test_a_wait_that_takes_longer_than_it_should_is_followed_by_none(
        self, client_of: Clients, wire: Wires, time: Time
    ) -> None:
        def oversleep(seconds: float) -> None:
            time.sleep(seconds + 100)

        server = wire(answer(503))
        with pytest.raises(ServerError):
            client_of(server.url, sleep=oversleep).list_setups()
        assert len(server.requests) == 1

    def test_each_call_has_its_own(self, client_of: Clients, wire: Wires, time: Time) -> None:
        client = client_of(wire(answer(200, [])).url)
        client.list_setups()
        time.now += 1000
        assert client.list_setups().setups == []

    def test_an_attempt_gets_no_longer_than_what_is_left(
        self, client_of: Clients, wire: Wires
    ) -> None:
        server = wire(SILENT)
        # With its read timeout this would outlast every test runner's patience.
        client = client_of(server.url, read_timeout=3600.0, deadline=0.02)
        with pytest.raises(TransportError, match="read timed out"):
            client.upsert_setup("m", SPEC)

    def test_a_dripping_body_is_left_when_it_is_over(
        self, client_of: Clients, wire: Wires, time: Time
    ) -> None:
        def drip() -> bytes:
            time.now += 61
            return b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n["

        with pytest.raises(
            TransportError, match=r"did not come in time \(1 attempt in 61 s\)"
        ) as caught:
            client_of(wire(drip).url, read_timeout=3600.0).list_setups()
        assert caught.value.outcome_unknown


def dead(kind: str, wire: Wires, time: Time) -> str:
    """Return the URL of a service that is out in this way."""
    if kind == "refused":
        return f"http://127.0.0.1:{unused_port()}"
    if kind == "failing":
        return wire(answer(500, {"error": "internal server error"})).url

    def silent() -> bytes:
        time.now += 30
        return SILENT

    return wire(silent).url


class TestOutages:
    """A service that is out costs a deployment one deadline, not one for each resource."""

    @pytest.mark.parametrize("kind", ["refused", "failing", "silent"])
    @pytest.mark.parametrize("call", ["list", "get", "delete"])
    def test_twenty_calls_take_no_longer_than_one(
        self, client_of: Clients, wire: Wires, time: Time, call: str, kind: str
    ) -> None:
        client = client_of(dead(kind, wire, time), read_timeout=0.02)
        began = time.now
        errors = []
        for _ in range(20):
            with pytest.raises((TransportError, ServerError)) as caught:
                CALLS[call].run(client)
            errors.append(caught.value)
        assert time.now - began <= 65
        assert {type(error) for error in errors} == {type(errors[0])}
        assert {error.summary for error in errors} == {errors[0].summary}

    @pytest.mark.parametrize("kind", ["refused", "failing"])
    def test_after_a_call_that_has_made_all_attempts_each_makes_one(
        self, client_of: Clients, wire: Wires, time: Time, kind: str
    ) -> None:
        client = client_of(dead(kind, wire, time))
        for expected in (5, 0, 0):
            time.waits.clear()
            with pytest.raises((ConnectionFailedError, ServerError)):
                client.get_setup("m")
            assert len(time.waits) == expected

    def test_after_the_deadline_one_in_ten_seconds_is_sent(
        self, client_of: Clients, wire: Wires, time: Time
    ) -> None:
        server = wire(answer(500))
        client = client_of(server.url)

        def sent() -> int:
            before = len(server.requests)
            with pytest.raises(ServerError, match="internal server error"):
                client.get_setup("m")
            return len(server.requests) - before

        assert sent() == 6
        time.now += 60
        assert [sent() for _ in range(3)] == [1, 0, 0]
        time.now += HOLD
        assert [sent() for _ in range(3)] == [1, 0, 0]

    def test_what_was_not_sent_was_not_done(
        self, client_of: Clients, wire: Wires, time: Time
    ) -> None:
        client = client_of(wire(answer(503)).url)
        with pytest.raises(ServerError) as sent:
            client.delete_setup("m")
        time.now += 60
        for expected in (True, False):
            with pytest.raises(ServerError) as unsent:
                client.delete_setup("n")
            assert unsent.value.outcome_unknown is expected
        assert unsent.value.external_id == "n"
        assert unsent.value.summary == sent.value.summary
        assert "6 attempts in" in str(unsent.value)

    def test_a_success_ends_it(self, client_of: Clients, wire: Wires, time: Time) -> None:
        server = wire(*[answer(503)] * 6, answer(200, stored()), answer(503))
        client = client_of(server.url)
        with pytest.raises(ServerError):
            client.get_setup("m")
        assert client.get_setup("m") is not None
        with pytest.raises(ServerError):
            client.get_setup("m")
        assert len(server.requests) == 6 + 1 + 6

    def test_a_route_that_fails_says_nothing_about_another(
        self, client_of: Clients, wire: Wires, time: Time
    ) -> None:
        """A list that always times out is no reason not to ask for one setup."""

        def reply() -> bytes:
            slow = server.requests[-1].line == f"GET {SETUPS} HTTP/1.1"
            time.now += 30 * slow
            return SILENT if slow else answer(200, stored())

        server: Wire = wire(reply)
        client = client_of(server.url, read_timeout=0.02)
        with pytest.raises(TransportError):
            client.list_setups()
        assert client.get_setup("m") is not None
        with pytest.raises(TransportError):
            client.list_setups()

    def test_a_write_that_fails_stops_no_other(self, client_of: Clients, wire: Wires) -> None:
        server = wire(answer(500), answer(500), answer(200, stored()))
        client = client_of(server.url)
        for _ in range(2):
            with pytest.raises(ServerError):
                client.upsert_setup("m", SPEC)
        client.upsert_setup("m", SPEC)

    def test_without_a_connection_no_route_is_tried_again_and_again(
        self, client_of: Clients, time: Time
    ) -> None:
        client = client_of(f"http://127.0.0.1:{unused_port()}")
        for call in CALLS.values():
            with pytest.raises(ConnectionFailedError) as caught:
                call.run(client)
            assert not caught.value.outcome_unknown
        assert len(time.waits) == 5

    def test_calls_at_the_same_time_share_the_deadline(
        self, client_of: Clients, wire: Wires, time: Time
    ) -> None:
        """One that begins while another has failed for half a minute has the other half."""
        began: list[float] = []

        def sleep(seconds: float) -> None:
            time.sleep(max(seconds, 7.0))
            if len(began) < 5:
                began.append(time.now)
                with pytest.raises(ServerError):
                    client.get_setup("m")

        client = client_of(wire(answer(503)).url, sleep=sleep)
        start = time.now
        with pytest.raises(ServerError):
            client.get_setup("m")
        assert time.now - start <= 60 + 7

    def test_a_call_with_less_time_does_not_speak_for_the_others(
        self, client_of: Clients, wire: Wires, time: Time
    ) -> None:
        server = wire(answer(503))
        client = client_of(server.url)
        with pytest.raises(ServerError):
            client.within(3.0).get_setup("m")
        few = len(server.requests)
        assert few < 6
        with pytest.raises(ServerError):
            client.get_setup("m")
        assert len(server.requests) == few + 6

    def test_a_refused_key_is_no_outage(self, client_of: Clients, wire: Wires) -> None:
        """A firewall may refuse one setup only, so each call finds out by itself, at once."""
        server = wire(answer(403), answer(200, stored()))
        client = client_of(server.url)
        with pytest.raises(AuthenticationError):
            client.get_setup("m")
        assert client.get_setup("m") is not None

    def test_a_passed_failure_does_not_shorten_a_later_one(
        self, client_of: Clients, wire: Wires, time: Time
    ) -> None:
        server = wire(answer(503))
        client = client_of(server.url)
        with pytest.raises(ServerError):
            client.within(3.0).get_setup("m")
        few = len(server.requests)
        time.now += 1000
        for _ in range(2):
            with pytest.raises(ServerError):
                client.get_setup("m")
        assert len(server.requests) == few + 6 + 1


class TestBadAnswers:
    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (PAGE, r'an HTML page, "502 Bad Gateway"; check the base URL \(traceloop:baseUrl\)'),
            (b"", "but is empty"),
            (b"OK", "but is OK"),
            (b'{"id": "1", "external_id": "m', r"EOF while parsing.*but is \{"),
            (b'"m"', 'but is "m"'),
            (b'{"status": "pending"}', r"a setup, but id is missing"),
            (b'{"id": 1, "external_id": "m"}', "but id should be a string, but is a number"),
            (b"[" * 100_000, "recursion"),
            (b"\x1b[31mred\x1b[0m", r"but is \[31mred \[0m"),
            (b"\xff\xfe", "but is"),
            (b'{"id": "1", "external_id": "n"}', "this setup, not another one"),
        ],
    )
    @pytest.mark.parametrize("call", [CALLS["get"], CALLS["upsert"]], ids=["get", "upsert"])
    def test_what_is_no_setup_is_told_and_shown(
        self, client_of: Clients, wire: Wires, call: Call, body: bytes, said: str
    ) -> None:
        server = wire(answer(200, body))
        with pytest.raises(MalformedResponseError, match=said) as caught:
            call.run(client_of(server.url))
        error = caught.value
        assert (error.status, error.external_id) == (200, "m")
        assert error.outcome_unknown
        assert len(server.requests) == 1
        assert len(str(error)) < 800
        assert str(error).isprintable()

    @pytest.mark.parametrize("body", [b"{}", b'[{"id": "1"}]', b"[null]", PAGE, b"[", b""])
    def test_what_is_no_list_is_told(self, client_of: Clients, wire: Wires, body: bytes) -> None:
        with pytest.raises(MalformedResponseError, match="should be a list of setups"):
            client_of(wire(answer(200, body)).url).list_setups()

    @pytest.mark.parametrize("body", [b"[]", b"{}", b'{"setups": null}', PAGE, b'{"setups": [{}]}'])
    def test_what_is_no_bulk_answer_is_told(
        self, client_of: Clients, wire: Wires, body: bytes
    ) -> None:
        with pytest.raises(MalformedResponseError, match="should be one outcome per") as caught:
            client_of(wire(answer(207, body)).url).bulk_upsert({"m": SPEC})
        assert caught.value.outcome_unknown

    def test_a_page_does_not_confirm_a_deletion(self, client_of: Clients, wire: Wires) -> None:
        with pytest.raises(MalformedResponseError, match="HTML page"):
            client_of(wire(answer(200, PAGE)).url).delete_setup("m")

    @pytest.mark.parametrize("reply", [answer(200), answer(202, {"ok": True}), answer(204)])
    def test_any_other_success_confirms_a_deletion(
        self, client_of: Clients, wire: Wires, reply: bytes
    ) -> None:
        assert client_of(wire(reply).url).delete_setup("m") is True

    @pytest.mark.parametrize("status", [404, 410])
    def test_a_404_or_410_of_the_api_means_that_there_is_none(
        self, client_of: Clients, wire: Wires, status: int
    ) -> None:
        client = client_of(wire(answer(status, ABSENT)).url)
        assert client.get_setup("m") is None
        assert client.delete_setup("m") is False

    @pytest.mark.parametrize("status", [404, 410])
    @pytest.mark.parametrize(
        "body",
        [
            PAGE,
            b"404 page not found\n",
            b'{"message": "no Route matched with those values"}',
            b'{"message": "no Route matched with those values", "error": null}',
            b'{"detail": "Not Found"}',
            b'["error"]',
            b'{"error": {"code": 5}}',
            b'{"error": "auto monitor setup',
            b"",
            b" \n",
        ],
    )
    def test_any_other_404_or_410_does_not_make_setups_look_deleted(
        self, client_of: Clients, wire: Wires, body: bytes, status: int
    ) -> None:
        client = client_of(wire(answer(status, body)).url)
        for call in (client.get_setup, client.delete_setup):
            with pytest.raises(NotFoundError, match="check the base URL") as caught:
                call("m")
            assert "does not respond as the Traceloop API: " in str(caught.value)
            assert not caught.value.outcome_unknown

    @pytest.mark.parametrize("kind", ["kong", "text", "html", "empty"])
    def test_a_gateway_does_not_confirm_a_deletion(
        self, emulator: Emulator, client_of: Clients, kind: Any
    ) -> None:
        client = client_of(emulator.url)
        client.upsert_setup("m", SPEC)
        emulator.inject(Fault(method="DELETE", status=404, body_kind=kind))
        with pytest.raises(NotFoundError, match="check the base URL"):
            client.delete_setup("m")
        assert list(emulator.setups) == ["m"]
        assert client.delete_setup("m") is True

    @pytest.mark.parametrize("name", ["upsert", "bulk"])
    def test_after_a_conflict_the_outcome_of_a_write_is_unknown(
        self, client_of: Clients, wire: Wires, name: str
    ) -> None:
        server = wire(answer(409, {"error": "busy"}))
        with pytest.raises(ConflictError, match="busy") as caught:
            CALLS[name].run(client_of(server.url))
        assert caught.value.outcome_unknown
        assert len(server.requests) == 1

    def test_after_a_conflict_a_delete_is_sent_again(self, client_of: Clients, wire: Wires) -> None:
        server = wire(answer(409), answer(409), answer(204))
        assert client_of(server.url).delete_setup("m") is True
        assert len(server.requests) == 3

    def test_a_delete_that_always_conflicts_fails(self, client_of: Clients, wire: Wires) -> None:
        server = wire(answer(409))
        with pytest.raises(ConflictError):
            client_of(server.url).delete_setup("m")
        assert len(server.requests) == 6

    @pytest.mark.parametrize("name", ["list", "upsert", "bulk"])
    def test_a_404_of_a_whole_route_points_at_the_base_url(
        self, client_of: Clients, wire: Wires, name: str
    ) -> None:
        with pytest.raises(NotFoundError, match="check the base URL"):
            CALLS[name].run(client_of(wire(answer(404, {"error": "not found"})).url))

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (b'{"error": "selector must have at least 1 filter"}', "selector must have at least 1"),
            (b'{"message": "quota"}', "quota"),
            (b'{"error": {"code": 7}}', r'\{"error": \{"code": 7\}\}'),
            (b'{"error": ""}', r'\{"error": ""\}'),
            (PAGE, 'an HTML page, "502 Bad Gateway"'),
            (b"<html><body>sorry</body></html>", "an HTML page"),
            (b"just\r\ntext \x1b[2J", r"just text \[2J"),
            (b"", "bad request"),
            (b"x" * 100_000, r"x{190}.*\.\.\."),
        ],
    )
    def test_an_error_says_what_the_service_said(
        self, client_of: Clients, wire: Wires, body: bytes, said: str
    ) -> None:
        server = wire(answer(400, body))
        with pytest.raises(RejectedError, match=said) as caught:
            client_of(server.url).upsert_setup("a/b", SPEC)
        error = caught.value
        assert (error.method, error.path) == ("PUT", f"{SETUPS}/by-external-id/a%2Fb")
        assert (error.status, error.external_id) == (400, "a/b")
        assert str(error).startswith('setup "a/b": ')
        assert len(str(error)) < 800
        assert "<" not in str(error)

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_refused_key_is_told_with_the_setting_to_check(
        self, client_of: Clients, wire: Wires, status: int
    ) -> None:
        with pytest.raises(AuthenticationError, match=r"traceloop:apiKey.*TRACELOOP_API_KEY.*: no"):
            client_of(wire(answer(status, {"error": "no"})).url).delete_setup("m")

    def test_a_body_without_end_is_not_read_to_its_end(
        self, client_of: Clients, wire: Wires
    ) -> None:
        bomb = gzip.compress(b" " * (65 * 1024 * 1024), compresslevel=1)
        server = wire(answer(200, bomb, {"Content-Encoding": "gzip"}))
        with pytest.raises(MalformedResponseError, match="at most 64 MiB, but is larger"):
            client_of(server.url).spans(since=0, limit=1)

    def test_an_errors_body_is_read_for_its_beginning_only(
        self, client_of: Clients, wire: Wires
    ) -> None:
        head = b"HTTP/1.1 400 Bad\r\nContent-Length: 9999999\r\n\r\n"
        with pytest.raises(RejectedError, match="xxx"):
            client_of(wire(head + b"x" * 300_000).url).upsert_setup("m", SPEC)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_a_redirect_is_told_and_not_followed(
        self, client_of: Clients, wire: Wires, call: Call, status: int
    ) -> None:
        elsewhere = wire(call.good)
        target = f"http://who:pw@127.0.0.1:{elsewhere.port}/login?token=t"
        server = wire(answer(status, PAGE, {"Location": target}))
        with pytest.raises(RejectedError, match="check the base URL") as caught:
            call.run(client_of(server.url))
        assert f"redirects to http://127.0.0.1:{elsewhere.port}/login, " in str(caught.value)
        assert len(server.requests) == 1
        assert elsewhere.requests == []

    @pytest.mark.parametrize(
        ("location", "said"),
        [("/login", "to /login,"), ("http://[", "to an unusable URL,"), (None, "to nowhere,")],
    )
    def test_any_location_is_told(
        self, client_of: Clients, wire: Wires, location: str | None, said: str
    ) -> None:
        server = wire(answer(302, b"", {"Location": location} if location else {}))
        with pytest.raises(RejectedError, match=said):
            client_of(server.url).list_setups()


class TestLiberalReads:
    def test_unknown_fields_and_statuses_are_read(self, client_of: Clients, wire: Wires) -> None:
        body = stored(status="hibernating", color=["red"], evaluators=None, init_rules=None)
        setup = client_of(wire(answer(200, body)).url).get_setup("m")
        assert setup is not None
        assert (setup.status, setup.evaluators, setup.init_rules) == ("hibernating", [], [])

    def test_one_unreadable_setup_stops_no_other(self, client_of: Clients, wire: Wires) -> None:
        body = [stored("a"), stored("b", status=7, env_project_id="p"), stored("c")]
        listing = client_of(wire(answer(200, body)).url).list_setups()
        assert [setup.external_id for setup in listing.setups] == ["a", "c"]
        (unreadable,) = listing.unreadable
        assert unreadable == ("b", "p", "status should be a string, but is a number")

    def test_an_unreadable_setup_is_named_with_the_path_and_the_type(
        self, client_of: Clients, wire: Wires
    ) -> None:
        body = stored(init_rules=[{"key": "k", "value": "x"}, {"key": "k", "value": 4711}])
        with pytest.raises(MalformedResponseError) as caught:
            client_of(wire(answer(200, body)).url).get_setup("m")
        assert str(caught.value).startswith(
            'setup "m": the response should be a setup, but init_rules[1].value should be a string,'
            " but is a number (HTTP 200)"
        )
        assert "4711" not in str(caught.value)

    def test_null_is_an_empty_list(self, client_of: Clients, wire: Wires) -> None:
        assert client_of(wire(answer(200, b" null\n")).url).list_setups().setups == []


class TestBulk:
    def bulk(
        self, client_of: Clients, wire: Wires, items: list[dict[str, Any]], *names: str
    ) -> BulkOutcome:
        server = wire(answer(207, {"setups": items}))
        return client_of(server.url).bulk_upsert(dict.fromkeys(names, SPEC))

    def ok(self, external_id: str, **more: object) -> dict[str, Any]:
        return {"external_id": external_id, "status": "ok", "result": stored(external_id, **more)}

    def error(self, external_id: str, message: str) -> dict[str, Any]:
        return {"external_id": external_id, "status": "error", "error": message}

    def test_items_are_matched_by_external_id(self, client_of: Clients, wire: Wires) -> None:
        items = [self.ok("c"), self.error("a", "setups[0]: no"), self.ok("b")]
        outcome = self.bulk(client_of, wire, items, "a", "b", "c")
        assert {key: value.external_id for key, value in outcome.stored.items()} == {
            "b": "b",
            "c": "c",
        }
        assert outcome.refused == {"a": "no"}

    def test_a_setup_that_is_left_out_has_an_unknown_outcome(
        self, client_of: Clients, wire: Wires
    ) -> None:
        outcome = self.bulk(client_of, wire, [self.ok("b")], "a", "b")
        assert outcome.outcome_unknown == {"a": "the service's response leaves it out"}
        assert list(outcome.stored) == ["b"]

    def test_shorter_and_reordered_by_the_emulator(
        self, emulator: Emulator, client_of: Clients
    ) -> None:
        emulator.inject(Fault(reorder=True, shorten=1))
        outcome = client_of(emulator.url).bulk_upsert(dict.fromkeys("abcd", SPEC))
        assert len(outcome.stored) == 3
        assert set(outcome.stored) | set(outcome.outcome_unknown) == set("abcd")
        assert all(key == value.external_id for key, value in outcome.stored.items())

    def test_an_item_that_cannot_be_read_has_an_unknown_outcome(
        self, client_of: Clients, wire: Wires
    ) -> None:
        items = [self.ok("a"), self.ok("b", created_at=True), {"external_id": None}, self.ok("c")]
        outcome = self.bulk(client_of, wire, items, "a", "b", "c")
        assert list(outcome.stored) == ["a", "c"]
        assert outcome.outcome_unknown == {
            "b": "its response cannot be read: result.created_at should be a string, but is a"
            " boolean"
        }

    def test_one_that_was_not_asked_for_is_ignored(self, client_of: Clients, wire: Wires) -> None:
        outcome = self.bulk(client_of, wire, [self.ok("x"), self.ok("a")], "a")
        assert (list(outcome.stored), outcome.refused, outcome.outcome_unknown) == (["a"], {}, {})

    def test_of_two_items_for_one_setup_the_last_counts(
        self, client_of: Clients, wire: Wires
    ) -> None:
        items = [self.error("a", "no"), self.ok("a", status="failed"), self.ok("a")]
        outcome = self.bulk(client_of, wire, items, "a")
        assert outcome.stored["a"].status == "unknown"
        assert outcome.refused == {}

    @pytest.mark.parametrize(
        ("message", "told"),
        [
            ('setups[1]: unknown evaluator slug "x"', 'unknown evaluator slug "x"'),
            ("setups[1]:no", "no"),
            ("no index", "no index"),
            ("setups[0]: duplicate (also at setups[1])", 'duplicate (also at setup "b")'),
            ("setups[1]: see setups[7]", "see another setup"),
            ("setups[1]: see setups[%s]" % ("9" * 5000), "see another setup"),
            ("setups[1]: \x1b[31mred\n", "[31mred"),
        ],
    )
    def test_a_message_comes_without_the_index(
        self, client_of: Clients, wire: Wires, message: str, told: str
    ) -> None:
        outcome = self.bulk(client_of, wire, [self.error("b", message), self.ok("a")], "a", "b")
        assert outcome.refused == {"b": told}

    @pytest.mark.parametrize("message", ["setups[0]: internal error", "Internal server error."])
    def test_an_internal_error_leaves_the_outcome_unknown(
        self, client_of: Clients, wire: Wires, message: str
    ) -> None:
        outcome = self.bulk(client_of, wire, [self.error("a", message)], "a")
        assert outcome.refused == {}
        assert outcome.outcome_unknown["a"].lower().startswith("internal")

    @pytest.mark.parametrize(
        ("item", "why"),
        [
            ({"status": "ok"}, '"ok" and nothing else'),
            ({"status": "ok", "result": None}, '"ok" and nothing else'),
            ({"status": "error"}, '"error" and nothing else'),
            ({"status": "error", "result": stored("a")}, '"error" and nothing else'),
            ({"status": "queued"}, '"queued" and nothing else'),
            ({"status": "ok", "result": stored("z")}, 'has setup "z" instead'),
        ],
    )
    def test_an_item_that_does_not_say_what_happened_has_an_unknown_outcome(
        self, client_of: Clients, wire: Wires, item: dict[str, Any], why: str
    ) -> None:
        outcome = self.bulk(client_of, wire, [{"external_id": "a", **item}], "a")
        assert why in outcome.outcome_unknown["a"]
        assert (outcome.stored, outcome.refused) == ({}, {})

    def test_a_refused_batch_names_setups_and_not_indices(
        self, client_of: Clients, wire: Wires
    ) -> None:
        message = 'setups[1]: duplicate external_id "b" (also at setups[0])'
        client = client_of(wire(answer(400, {"error": message})).url)
        with pytest.raises(RejectedError) as caught:
            client.bulk_upsert(dict.fromkeys("ab", SPEC))
        assert caught.value.server_message == 'duplicate external_id "b" (also at setup "a")'
        assert caught.value.external_id is None
        assert not caught.value.outcome_unknown

    @pytest.mark.parametrize("count", [0, BULK_LIMIT + 1])
    def test_a_batch_of_another_size_is_not_sent(
        self, client_of: Clients, wire: Wires, count: int
    ) -> None:
        server = wire(OK_BULK)
        with pytest.raises(ValueError, match=f"takes 1 to 100 setups, not {count}"):
            client_of(server.url).bulk_upsert({f"m{n}": SPEC for n in range(count)})
        assert server.requests == []


MISSING = {
    "gateway": answer(404, {"message": "no Route matched with those values"}),
    "text": answer(404, b"404 page not found\n"),
    "empty": answer(404),
    "method": answer(405, {"error": "method not allowed"}),
}


def lacking(route: str, reply: bytes = MISSING["gateway"]) -> Callable[[list[Received]], bytes]:
    """Return what a service without the route "PUT" or "POST" responds; "" for one without both."""

    def respond(requests: list[Received]) -> bytes:
        line, _, body = requests[-1]
        if line.startswith(route):
            return reply
        if line.startswith("PUT"):
            return answer(200, stored(line.split(" ")[1].rpartition("/")[2]))
        items = [
            {"external_id": s["external_id"], "status": "ok", "result": stored(s["external_id"])}
            for s in json.loads(body)["setups"]
        ]
        return answer(207, {"setups": items})

    return respond


class TestMissingRoutes:
    """Writes need one of the two upsert routes, whichever the service has."""

    @pytest.mark.parametrize("reply", MISSING.values(), ids=MISSING)
    def test_an_upsert_goes_through_the_bulk_route_from_then_on(
        self, client_of: Clients, wire: Wires, reply: bytes
    ) -> None:
        server: Wire = wire(lambda: lacking("PUT", reply)(server.requests))
        client = client_of(server.url)
        assert [client.upsert_setup(i, SPEC).external_id for i in "ab"] == ["a", "b"]
        assert [r.line.split(" ")[0] for r in server.requests] == ["PUT", "POST", "POST"]
        assert json.loads(server.requests[1].body) == {
            "setups": [{"external_id": "a", **SPEC.request_body()}]
        }

    @pytest.mark.parametrize("reply", MISSING.values(), ids=MISSING)
    def test_a_batch_goes_one_by_one_from_then_on(
        self, client_of: Clients, wire: Wires, reply: bytes
    ) -> None:
        server: Wire = wire(lambda: lacking("POST", reply)(server.requests))
        client = client_of(server.url)
        for _ in range(2):
            assert list(client.bulk_upsert(dict.fromkeys("ab", SPEC)).stored) == ["a", "b"]
        methods = [r.line.split(" ")[0] for r in server.requests]
        assert methods == ["POST", "PUT", "PUT", "PUT", "PUT"]

    @pytest.mark.parametrize("name", ["upsert", "bulk"])
    def test_a_service_with_neither_is_none(
        self, client_of: Clients, wire: Wires, name: str
    ) -> None:
        server: Wire = wire(lambda: lacking("P")(server.requests))
        client = client_of(server.url)
        for _ in range(2):
            with pytest.raises(NotFoundError, match="check the base URL") as caught:
                CALLS[name].run(client)
            assert not caught.value.outcome_unknown
        methods = [r.line.split(" ")[0] for r in server.requests]
        assert methods == (["PUT", "POST"] if name == "upsert" else ["POST", "PUT"]) * 2

    def test_the_apis_own_404_to_an_upsert_is_no_missing_route(
        self, client_of: Clients, wire: Wires
    ) -> None:
        server = wire(answer(404, ABSENT), OK_BULK)
        with pytest.raises(NotFoundError, match="not found"):
            client_of(server.url).upsert_setup("m", SPEC)
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        ("item", "error"),
        [
            ({"status": "error", "error": "setups[0]: no such evaluator"}, RejectedError),
            ({"status": "error", "error": "setups[0]: internal error"}, ServerError),
            ({"status": "ok", "result": stored(status=7)}, ServerError),
        ],
    )
    def test_an_upsert_through_the_bulk_route_fails_as_its_item_does(
        self, client_of: Clients, wire: Wires, item: dict[str, Any], error: type[RequestError]
    ) -> None:
        reply = answer(207, {"setups": [{"external_id": "m", **item}]})
        with pytest.raises(error, match=r'^setup "m": ') as caught:
            client_of(wire(MISSING["text"], reply).url).upsert_setup("m", SPEC)
        assert caught.value.outcome_unknown == (error is ServerError)
        assert "setups[0]" not in str(caught.value)

    def test_a_refused_batch_of_one_names_the_setup(self, client_of: Clients, wire: Wires) -> None:
        server = wire(MISSING["text"], answer(400, {"error": "setups[0]: bad"}))
        with pytest.raises(RejectedError, match=r'^setup "m": bad'):
            client_of(server.url).upsert_setup("m", SPEC)

    def test_one_by_one_each_has_its_own_outcome(self, client_of: Clients, wire: Wires) -> None:
        server = wire(
            MISSING["text"],
            answer(200, stored("a")),
            answer(400, {"error": "no filter"}),
            answer(503, {"error": "down"}),
            answer(201, stored("d")),
        )
        outcome = client_of(server.url).bulk_upsert(dict.fromkeys("abcd", SPEC))
        assert list(outcome.stored) == ["a", "d"]
        assert outcome.refused == {"b": "no filter (HTTP 400)"}
        assert outcome.outcome_unknown == {"c": "down (HTTP 503)"}

    @pytest.mark.parametrize("route", [UPSERT_ROUTE, BULK_ROUTE])
    def test_a_service_with_one_of_the_two_is_enough(
        self, emulator: Emulator, client_of: Clients, route: str
    ) -> None:
        emulator.inject(Fault(route=route, status=404, body_kind="text", times=None))
        client = client_of(emulator.url)
        client.upsert_setup("a", SPEC)
        client.bulk_upsert(dict.fromkeys("bc", SPEC))
        assert emulator.writes == {"a": 1, "b": 1, "c": 1}


def chain(error: BaseException) -> Iterator[BaseException]:
    for linked in (error.__cause__, error.__context__):
        if linked is not None:
            yield from chain(linked)
    yield error


class TestTheKeyStaysSecret:
    @pytest.mark.parametrize(
        "reply",
        [
            b"",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 99\r\n\r\n[",
            answer(200, f"key {KEY}".encode()),
            answer(200, f'{{"id": "{KEY}"'.encode()),
            answer(400, {"error": f"bad header: Bearer {KEY}"}),
            answer(401, {"error": f"unknown key {KEY}"}),
            answer(302, b"", {"Location": f"http://127.0.0.1/{KEY}"}),
            answer(429, {"error": KEY}),
            answer(502, b"<html><title>" + KEY.encode()),
            answer(207, f'{{"setups": [{{"external_id": "{KEY}"'.encode()),
            None,
        ],
    )
    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_in_errors_and_logs(
        self,
        client_of: Clients,
        wire: Wires,
        caplog: pytest.LogCaptureFixture,
        call: Call,
        reply: bytes | None,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        url = wire(reply).url if reply is not None else f"http://127.0.0.1:{unused_port()}"
        with pytest.raises(RequestError) as caught:
            call.run(client_of(url))
        links = list(chain(caught.value))
        # Nothing of requests hangs on it, whose exceptions hold the request with its headers.
        assert links == [caught.value]
        texts = [str(link) + repr(link) + repr(link.args) + repr(vars(link)) for link in links]
        texts += traceback.format_exception(caught.value)
        assert not [text for text in texts if KEY in text]
        assert KEY not in caplog.text

    def test_in_bulk_messages(self, client_of: Clients, wire: Wires) -> None:
        item = {"external_id": "m", "status": "error", "error": f"setups[0]: {KEY}"}
        outcome = client_of(wire(answer(207, {"setups": [item]})).url).bulk_upsert({"m": SPEC})
        assert outcome.refused == {"m": "[secure]"}

    def test_in_reprs(self, client_of: Clients) -> None:
        client = client_of("https://example.com/api/")
        assert repr(client) == (
            "TraceloopClient(base_url='https://example.com/api', api_key=[secure])"
        )
        assert repr(client._transport.session.auth) == "_BearerAuth([secure])"

    def test_a_short_key_does_not_garble_messages(self, client_of: Clients, wire: Wires) -> None:
        client = client_of(wire(answer(400, {"error": "broken"})).url, api_key="k")
        with pytest.raises(RejectedError, match="broken"):
            client.list_setups()


class TestConfiguration:
    def test_the_public_service_is_the_default(self) -> None:
        assert DEFAULT_BASE_URL == "https://api.traceloop.com"
        with TraceloopClient(KEY) as client:
            assert DEFAULT_BASE_URL in repr(client)

    @pytest.mark.parametrize(
        ("key", "said"),
        [
            ("", "is empty"),
            (" \n", "is empty"),
            ("tl-secret\n", "contains a space or a line break"),
            ("tl secret", "contains a space or a line break"),
            ("tl-secret\x00", "contains a character that no HTTP header can carry"),
            ("tl-secret…", "contains a character that no HTTP header can carry"),
        ],
    )
    def test_an_unusable_key_is_told_but_not_shown(self, key: str, said: str) -> None:
        with pytest.raises(ConfigurationError, match=f"key {said}.*traceloop:apiKey") as caught:
            TraceloopClient(key)
        assert "secret" not in str(caught.value).replace("--secret", "")

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("", "must begin with https://"),
            ("api.traceloop.com", "must begin with https://"),
            ("localhost:8080", "must begin with https://"),
            ("ftp://api.traceloop.com", "must begin with https://"),
            ("https://", "has no host name"),
            ("https:///v2", "has no host name"),
            ("https://:443", "has no host name"),
            ("https://api.traceloop.com/ ", "a space or a control character"),
            ("https://api.traceloop.com\n", "a space or a control character"),
            ("https://api.traceloop.com?pw=hunter2", "a query or a fragment"),
            ("https://api.traceloop.com/#", "a query or a fragment"),
            ("https://api.traceloop.com:99999", "is not a valid URL"),
            ("https://api.traceloop.com:0", "has an unusable port"),
            ("https://api.traceloop.com:hunter2", "is not a valid URL"),
            ("https://[::1", "is not a valid URL"),
            ("https://*.traceloop.com", "is not a valid URL"),
            ("https://me:hunter2@api.traceloop.com", "a user name or password"),
            ("https://hunter2@api.traceloop.com", "a user name or password"),
        ],
    )
    def test_an_unusable_base_url_is_told_but_no_password_shown(self, url: str, said: str) -> None:
        with pytest.raises(ConfigurationError, match=f"traceloop:baseUrl.* {said}") as caught:
            TraceloopClient(KEY, url)
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))

    @pytest.mark.parametrize(
        "url",
        [
            "http://[::1]:8080",
            "HTTPS://Example.COM",
            "https://a.example/b/c//",
            "http://127.0.0.2:1",
        ],
    )
    def test_a_usable_base_url_is_taken(self, url: str) -> None:
        TraceloopClient(KEY, url).close()


class TestMessages:
    def test_no_connection(self, client_of: Clients) -> None:
        port = unused_port()
        with pytest.raises(ConnectionFailedError) as caught:
            client_of(f"http://127.0.0.1:{port}/api").get_setup("m")
        assert re.fullmatch(
            rf'setup "m": cannot reach http://127\.0\.0\.1:{port}: connection refused'
            r" \(6 attempts in \d+ s\) \[GET /v2/auto-monitor-setups/m\]",
            str(caught.value),
        )
        assert caught.value.summary == (f"cannot reach http://127.0.0.1:{port}: connection refused")

    def test_no_response(self, client_of: Clients, wire: Wires) -> None:
        url = wire(SILENT).url
        with pytest.raises(TransportError, match=f"no response from {url}: read timed out "):
            client_of(url, read_timeout=0.02).upsert_setup("m", SPEC)

    @pytest.mark.parametrize(
        ("source", "name"),
        [
            ({}, r"traceloop:apiKey \(or TRACELOOP_API_KEY\): "),
            ({"apiKey": "traceloop:apiKey"}, "traceloop:apiKey: "),
            ({"apiKey": "TRACELOOP_API_KEY"}, "TRACELOOP_API_KEY: "),
        ],
    )
    def test_the_key_by_the_setting_that_is_set(
        self, client_of: Clients, wire: Wires, source: dict[str, str], name: str
    ) -> None:
        settings = Settings(sources=tuple(source.items()))
        url = wire(answer(401, {"error": "Unauthorized"})).url
        with pytest.raises(
            AuthenticationError,
            match=f"{url} does not accept the API key; check {name}Unauthorized",
        ):
            client_of(url, settings=settings).list_setups()

    @pytest.mark.parametrize("stored_key", [True, False])
    def test_the_key_where_it_may_be_that_of_the_last_update(
        self, client_of: Clients, wire: Wires, stored_key: bool
    ) -> None:
        url = wire(answer(401, {"error": "Unauthorized"})).url
        with pytest.raises(AuthenticationError) as caught:
            client_of(url, key_is_stored=lambda: stored_key).list_setups()
        assert ("use the key of the last `pulumi up`" in str(caught.value)) is stored_key
        assert ("--run-program" in str(caught.value)) is stored_key

    @pytest.mark.parametrize(
        ("source", "hint", "cure"),
        [
            ("TRACELOOP_BASE_URL", "Traceloop SDK sends spans to as well", "; traceloop:baseUrl"),
            ("traceloop:baseUrl", "", ""),
        ],
    )
    @pytest.mark.parametrize("name", ["list", "get", "upsert", "bulk", "delete"])
    def test_a_404_that_may_be_a_collectors(
        self, client_of: Clients, wire: Wires, name: str, source: str, hint: str, cure: str
    ) -> None:
        url = wire(answer(404, b"404 page not found")).url
        settings = Settings(sources=(("baseUrl", source),))
        with pytest.raises(NotFoundError) as caught:
            CALLS[name].run(client_of(url, settings=settings))
        text = str(caught.value)
        assert f"{url} does not respond as the Traceloop API: 404 page not found" in text
        assert f"check the base URL ({source})" in text
        assert ("OpenTelemetry collector" in text) is bool(hint)
        assert hint in text
        assert cure in text

    @pytest.mark.parametrize("port", [4317, 4318])
    def test_the_port_of_a_collector(self, port: int) -> None:
        with TraceloopClient(KEY, f"http://127.0.0.1:{port}", sleep=lambda _: None) as client:
            missing = Response(404, {}, b"404 page not found", 18)
            request = Request("GET", SETUPS)
            error = client._reader.error(request, missing)
        assert f"port {port} is usually an OpenTelemetry collector's" in str(error)

    @pytest.mark.parametrize("status", [200, 404, 500])
    def test_the_request_id_for_support(self, client_of: Clients, wire: Wires, status: int) -> None:
        reply = answer(status, PAGE, {"X-Kong-Request-Id": "3f2a9c"})
        with pytest.raises(RequestError) as caught:
            client_of(wire(reply).url).get_setup("m")
        assert caught.value.request_id == "3f2a9c"
        assert "request 3f2a9c)" in str(caught.value)
        # The same for all that fail alike.
        assert "3f2a9c" not in caught.value.summary

    @pytest.mark.parametrize("value", ["", "a b", "x" * 65, "\x1b[31m", "é"])
    def test_no_request_id_that_is_none(self, client_of: Clients, wire: Wires, value: str) -> None:
        reply = answer(400, {"error": "no"}, {"X-Kong-Request-Id": value})
        with pytest.raises(RequestError) as caught:
            client_of(wire(reply).url).upsert_setup("m", SPEC)
        assert caught.value.request_id is None

    def test_no_request_id_that_is_the_key(self, client_of: Clients, wire: Wires) -> None:
        reply = answer(400, {"error": "no"}, {"X-Kong-Request-Id": KEY})
        with pytest.raises(RequestError) as caught:
            client_of(wire(reply).url).upsert_setup("m", SPEC)
        assert KEY not in f"{caught.value} {vars(caught.value)}"


class TestPacing:
    """A 429 slows all threads of a client down, and fails none while others get through."""

    def test_everybody_waits_after_a_429(self, client_of: Clients, wire: Wires, time: Time) -> None:
        server = wire(answer(429, b"", {"Retry-After": "7"}), answer(200, []))
        refused, held = threading.Event(), threading.Event()
        both = threading.Barrier(2, timeout=10)

        def sleep(seconds: float) -> None:
            until = time.now + seconds
            if not held.is_set():
                refused.set()
                both.wait()
                held.set()
            time.now = max(time.now, until)

        client = client_of(server.url, sleep=sleep)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(client.list_setups)
            assert refused.wait(10)
            client.list_setups()
            first.result()
        assert len(server.requests) == 3

    def under_way(self, pacer: Pacer) -> int:
        """Let as many requests begin as may be under way at once, in real time; return how many."""
        begun = 0
        while pacer.enter(monotonic() + 1.0 if begun == 0 else monotonic() + 0.05, 0) is not None:
            begun += 1
        return begun

    def test_a_429_halves_how_many_are_under_way_at_once(self) -> None:
        pacer = Pacer(monotonic, sleep)
        for _ in range(8):
            assert pacer.enter(monotonic() + 1, 0) is not None
        now = 8
        for expected in (4, 2, 1, 1):
            began = monotonic()
            for _ in range(now):
                pacer.slow_down(began, 0.0)  # of one burst, so it counts once
                pacer.leave(taken=False)
            pacer._refusals = 0  # not in a row: the pauses stay short
            now = self.under_way(pacer)
            assert now == expected

    def test_that_grows_again_as_the_service_takes_them(self) -> None:
        pacer = Pacer(monotonic, sleep)
        assert pacer.enter(monotonic() + 1, 0) is not None
        pacer.slow_down(monotonic(), 0.0)
        pacer.leave(taken=False)
        for _ in range(EASE * 2):
            assert pacer.enter(monotonic() + 1, 0) is not None
            pacer.leave(taken=True)
        assert self.under_way(pacer) == 2

    def test_refusals_without_end_are_asked_about_less_and_less(
        self, client_of: Clients, wire: Wires, time: Time
    ) -> None:
        server = wire(answer(429))
        with pytest.raises(RateLimitedError, match=r"8 attempts in 5\d s"):
            client_of(server.url, deadline=70.0).upsert_setup("m", SPEC)
        for wait, least in zip(time.waits, [0.5, 1, 2, 4, 8, 16, 20], strict=True):
            assert least <= wait <= least * 1.05

    def test_a_429_is_none_of_the_five_repetitions(self, client_of: Clients, wire: Wires) -> None:
        refusals = [answer(429, b"", {"Retry-After": "1"})] * 6
        lost = [answer(503)] * 5
        server = wire(*refusals, *lost, answer(204))
        assert client_of(server.url, deadline=300.0).delete_setup("m") is True
        assert len(server.requests) == 12

    def test_waiting_does_not_count_while_others_get_through(
        self, client_of: Clients, wire: Wires, time: Time
    ) -> None:
        """One that is refused for longer than its deadline fails only once nobody gets through."""

        def reply() -> bytes:
            if server.requests[-1].line.startswith("GET"):
                return answer(200, [])
            return answer(429, b"", {"Retry-After": "15"})

        waiting: list[float] = []
        others: list[object] = []

        def sleep(seconds: float) -> None:
            time.sleep(seconds)
            waiting.append(seconds)
            if len(waiting) == 1 and len(others) < 5:
                others.append(client.list_setups().setups)
            waiting.pop()

        server = wire(reply)
        client = client_of(server.url, sleep=sleep)
        began = time.now
        with pytest.raises(RateLimitedError, match=r"attempts in \d+ s"):
            client.delete_setup("m")
        assert others == [[]] * 5
        assert time.now - began > 5 * 15 + 30

    def test_a_request_whose_turn_never_comes_was_not_sent(
        self, client_of: Clients, wire: Wires
    ) -> None:
        server = wire(answer(429, b"", {"Retry-After": "20"}))
        client = client_of(server.url, deadline=5.0)
        with pytest.raises(RateLimitedError):
            client.list_setups()
        with pytest.raises(RateLimitedError, match="this one was not sent") as caught:
            client.upsert_setup("m", SPEC)
        assert not caught.value.outcome_unknown
        assert len(server.requests) == 1

    @pytest.mark.timed
    def test_many_threads_use_the_limit_and_no_request_fails(self) -> None:
        """In real time: 40 requests take what 5 a second allow, and less than a fifth more."""
        with Emulator(api_key=KEY) as emulator, TraceloopClient(KEY, emulator.url) as client:
            setups = {f"m{n}": SPEC for n in range(1000)}
            batches = [dict(list(setups.items())[n : n + 100]) for n in range(0, 1000, 100)]
            emulator.rate_limit = 5
            began = monotonic()
            with ThreadPoolExecutor(16) as pool:
                outcomes = list(pool.map(client.bulk_upsert, batches))
                deleted = list(pool.map(client.delete_setup, list(setups)[:30]))
            took = monotonic() - began
        assert sum(len(outcome.stored) for outcome in outcomes) == 1000
        assert deleted == [True] * 30
        assert 6.5 < took < 40 / 5 * 1.2
