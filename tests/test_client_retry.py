"""Which requests the client repeats, and until when: `_client/_retry.py`."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest

from pulumi_traceloop.errors import (
    ConnectionFailedError,
    RateLimitedError,
    RequestError,
    ServerError,
    TransportError,
)

if TYPE_CHECKING:
    pass
from tests.support.client import (
    CALLS,
    SPEC,
    Call,
    Clients,
    Serve,
)
from tests.support.clock import Clock
from tests.support.service import SILENT, Received, Service, response, unused_port


class TestRetries:
    @pytest.mark.parametrize("status", [400, 401, 403, 410, 413, 422, 501, 505])
    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_permanent_refusal_is_not_repeated(
        self, client_of: Clients, serve: Serve, clock: Clock, call: Call, status: int
    ) -> None:
        refusal = response(status, b"no", {"Retry-After": "1"})
        server = serve(refusal, call.good)
        with pytest.raises(RequestError) as caught:
            call.run(client_of(server.url))
        assert (len(server.requests), clock.waits) == (1, [])
        assert caught.value.status == status
        assert caught.value.outcome_unknown == (status >= 500)

    @pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_transient_failure_is_repeated_if_idempotent(
        self, client_of: Clients, serve: Serve, call: Call, status: int
    ) -> None:
        server = serve(response(status, {"error": "try later"}, {"Retry-After": "1"}), call.good)
        client = client_of(server.url)
        if call.repeatable:
            call.run(client)
        else:
            with pytest.raises(ServerError, match="try later") as caught:
                call.run(client)
            assert caught.value.outcome_unknown
        assert len(server.requests) == 1 + call.repeatable

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_429_is_repeated_for_any_request(
        self, client_of: Clients, serve: Serve, call: Call
    ) -> None:
        server = serve(response(429), response(429, b"", {"Retry-After": "3"}), call.good)
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
    def test_lost_response_is_repeated_if_idempotent(
        self, client_of: Clients, serve: Serve, call: Call, broken: bytes
    ) -> None:
        server = serve(broken, call.good)
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
    def test_late_response_is_a_lost_response(
        self, client_of: Clients, serve: Serve, call: Call
    ) -> None:
        server = serve(SILENT)
        with pytest.raises(TransportError, match="timed out") as caught:
            call.run(client_of(server.url, read_timeout=0.02))
        assert caught.value.outcome_unknown
        expected = 6 if call.repeatable else 1
        assert server.received(expected) == expected

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_failed_connection_is_repeated_for_any_request(
        self, client_of: Clients, serve: Serve, call: Call
    ) -> None:
        port = unused_port()
        servers: list[Service] = []

        def sleep(seconds: float) -> None:
            servers.append(serve(call.good, port=port))

        call.run(client_of(f"http://127.0.0.1:{port}", sleep=sleep))
        assert [len(server.requests) for server in servers] == [1]

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_nothing_was_sent_if_no_attempt_connected(
        self, client_of: Clients, clock: Clock, call: Call
    ) -> None:
        client = client_of(f"http://127.0.0.1:{unused_port()}")
        with pytest.raises(
            ConnectionFailedError, match=r"cannot reach .*refused \(6 attempts in \d+ s\)"
        ) as caught:
            call.run(client)
        assert not caught.value.outcome_unknown
        assert "0x" not in str(caught.value)
        assert len(clock.waits) == 5

    def test_failed_connection_after_a_lost_response_leaves_the_outcome_unknown(
        self, client_of: Clients, serve: Serve
    ) -> None:
        server = serve(b"")
        client = client_of(server.url, sleep=lambda _: server.close())
        with pytest.raises(TransportError, match="refused") as caught:
            client.delete_setup("m")
        assert caught.value.outcome_unknown

    def test_failed_connection_after_a_429_has_a_known_outcome(
        self, client_of: Clients, serve: Serve, clock: Clock
    ) -> None:
        def sleep(seconds: float) -> None:
            clock.sleep(seconds)
            server.close()

        server = serve(response(429, b"", {"Connection": "close"}))
        client = client_of(server.url, sleep=sleep)
        with pytest.raises(ConnectionFailedError, match="refused") as caught:
            client.upsert_setup("m", SPEC)
        assert not caught.value.outcome_unknown

    def test_unknown_host_is_reported(self, client_of: Clients) -> None:
        with pytest.raises(ConnectionFailedError, match=r"resolve 'traceloop\.invalid'"):
            client_of("http://traceloop.invalid", allow_http=True).list_setups()

    @pytest.mark.parametrize("host", ["a" * 64 + ".invalid", "a..invalid"])
    def test_impossible_host_name_is_not_repeated(
        self, client_of: Clients, clock: Clock, host: str
    ) -> None:
        with pytest.raises(ConnectionFailedError, match=r"label|host"):
            client_of(f"http://{host}", allow_http=True).list_setups()
        assert clock.waits == []

    def test_unreachable_proxy_is_repeated(
        self, client_of: Clients, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused_port()}")
        with pytest.raises(ConnectionFailedError, match="no connection through the proxy"):
            client_of("http://traceloop.invalid", allow_http=True).upsert_setup("m", SPEC)
        assert len(clock.waits) == 5

    def test_missing_ca_bundle_fails_at_once(
        self, client_of: Clients, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/bundle.pem")
        with pytest.raises(ConnectionFailedError, match=r"/no/such/bundle\.pem"):
            client_of("https://127.0.0.1").upsert_setup("m", SPEC)
        assert clock.waits == []

    def test_server_without_tls_breaks_the_connection(
        self, client_of: Clients, serve: Serve
    ) -> None:
        url = serve(greeting=b"220 no TLS here\r\n").url.replace("http:", "https:")
        with pytest.raises(TransportError, match="TLS connection broken") as caught:
            client_of(url).upsert_setup("m", SPEC)
        assert caught.value.outcome_unknown

    def test_waits_grow_and_are_jittered(
        self, client_of: Clients, serve: Serve, clock: Clock
    ) -> None:
        server = serve(response(503))
        for _ in range(2):
            with pytest.raises(ServerError, match=r"\(HTTP 503, 6 attempts in \d+ s\)"):
                client_of(server.url, deadline=1000.0).list_setups()
        assert len(server.requests) == 12
        for waits in (clock.waits[:5], clock.waits[5:]):
            for wait, least in zip(waits, [0, 1, 2, 4, 8], strict=True):
                assert least < wait <= least + 1
        assert clock.waits[:5] != clock.waits[5:]

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
        serve: Serve,
        clock: Clock,
        retry_after: str,
        least: float,
        most: float,
    ) -> None:
        server = serve(response(429, b"", {"Retry-After": retry_after}), response(204))
        assert client_of(server.url).delete_setup("m")
        (wait,) = clock.waits
        assert least <= wait <= most

    @pytest.mark.parametrize(("seconds", "least", "most"), [(10, 8, 11), (7200, 20, 20)])
    def test_retry_after_may_be_a_date(
        self, client_of: Clients, serve: Serve, clock: Clock, seconds: int, least: int, most: int
    ) -> None:
        date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=seconds), usegmt=True)
        server = serve(response(503, b"", {"Retry-After": date}), response(200, []))
        client_of(server.url).list_setups()
        (wait,) = clock.waits
        assert least <= wait <= most

    def test_retries_are_logged_at_debug_level(
        self, client_of: Clients, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        server = serve(response(503), b"", response(200, []))
        client_of(server.url).list_setups()
        own = [record for record in caplog.records if record.name == "pulumi_traceloop"]
        assert [record.levelno for record in own] == [logging.DEBUG] * 2
        assert "HTTP 503; attempt 2 follows in" in own[0].getMessage()
        assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


class TestDeadline:
    def test_no_wait_and_no_attempt_begins_after_it(
        self, client_of: Clients, serve: Serve, clock: Clock
    ) -> None:
        server = serve(response(429, {"error": "slow down"}, {"Retry-After": "300"}))
        with pytest.raises(
            RateLimitedError, match=r"slow down \(HTTP 429, 3 attempts in 40 s\)"
        ) as caught:
            client_of(server.url).upsert_setup("m", SPEC)
        assert not caught.value.outcome_unknown
        assert clock.waits == [20, 20]
        assert len(server.requests) == 3

    def test_time_of_the_attempts_counts(
        self, client_of: Clients, serve: Serve, clock: Clock
    ) -> None:
        def late(_: Received) -> bytes:
            clock.advance(61)
            return response(503)

        server = serve(late)
        # A client that begins to read after the clock moved rejects the response.
        with pytest.raises((ServerError, TransportError)):
            client_of(server.url).list_setups()
        assert (len(server.requests), clock.waits) == (1, [])

    def test_no_attempt_follows_an_overlong_wait(
        self, client_of: Clients, serve: Serve, clock: Clock
    ) -> None:
        def oversleep(seconds: float) -> None:
            clock.sleep(seconds + 100)

        server = serve(response(503))
        with pytest.raises(ServerError):
            client_of(server.url, sleep=oversleep).list_setups()
        assert len(server.requests) == 1

    def test_each_call_has_its_own_deadline(
        self, client_of: Clients, serve: Serve, clock: Clock
    ) -> None:
        client = client_of(serve(response(200, [])).url)
        client.list_setups()
        clock.advance(1000)
        assert client.list_setups().setups == []

    def test_attempt_gets_at_most_the_time_left(self, client_of: Clients, serve: Serve) -> None:
        server = serve(SILENT)
        # The read timeout alone would block the test for an hour.
        client = client_of(server.url, read_timeout=3600.0, deadline=0.02)
        with pytest.raises(TransportError, match="read timed out"):
            client.upsert_setup("m", SPEC)

    def test_dripping_body_is_abandoned_at_the_deadline(
        self, client_of: Clients, serve: Serve, clock: Clock
    ) -> None:
        def drip(_: Received) -> bytes:
            clock.advance(61)
            return b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n["

        with pytest.raises(
            TransportError, match=r"did not come in time \(1 attempt in 61 s\)"
        ) as caught:
            client_of(serve(drip).url, read_timeout=3600.0).list_setups()
        assert caught.value.outcome_unknown
