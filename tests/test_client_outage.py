"""How little an outage costs: `_client/_outage.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulumi_traceloop._client._outage import HOLD
from pulumi_traceloop.errors import (
    AuthenticationError,
    ConnectionFailedError,
    ServerError,
    TransportError,
)

if TYPE_CHECKING:
    pass
from tests.support.client import (
    CALLS,
    SETUPS,
    SPEC,
    Clients,
    Serve,
    stored,
)
from tests.support.clock import Clock
from tests.support.service import SILENT, Received, response, unused_port


def dead(kind: str, serve: Serve, clock: Clock) -> str:
    """Return the URL of a service with this kind of outage."""
    if kind == "refused":
        return f"http://127.0.0.1:{unused_port()}"
    if kind == "failing":
        return serve(response(500, {"error": "internal server error"})).url

    def silent(_: Received) -> bytes:
        clock.advance(30)
        return SILENT

    return serve(silent).url


class TestOutages:
    """An outage costs a deployment one deadline, not one for each resource."""

    @pytest.mark.parametrize("kind", ["refused", "failing", "silent"])
    @pytest.mark.parametrize("call", ["list", "get", "delete"])
    def test_twenty_calls_take_no_longer_than_one(
        self, client_of: Clients, serve: Serve, clock: Clock, call: str, kind: str
    ) -> None:
        timeout = 0.2 if kind == "silent" else 5.0
        client = client_of(dead(kind, serve, clock), read_timeout=timeout)
        began = clock()
        errors = []
        for _ in range(20):
            with pytest.raises((TransportError, ServerError)) as caught:
                CALLS[call].run(client)
            errors.append(caught.value)
        assert clock() - began <= 65
        assert {type(error) for error in errors} == {type(errors[0])}
        assert {error.summary for error in errors} == {errors[0].summary}

    @pytest.mark.parametrize("kind", ["refused", "failing"])
    def test_calls_after_an_exhausted_one_make_one_attempt_each(
        self, client_of: Clients, serve: Serve, clock: Clock, kind: str
    ) -> None:
        client = client_of(dead(kind, serve, clock))
        for expected in (5, 0, 0):
            clock.waits.clear()
            with pytest.raises((ConnectionFailedError, ServerError)):
                client.get_setup("m")
            assert len(clock.waits) == expected

    def test_one_request_in_ten_seconds_is_sent_after_the_deadline(
        self, client_of: Clients, serve: Serve, clock: Clock
    ) -> None:
        server = serve(response(500))
        client = client_of(server.url)

        def sent() -> int:
            before = len(server.requests)
            with pytest.raises(ServerError, match="internal server error"):
                client.get_setup("m")
            return len(server.requests) - before

        assert sent() == 6
        clock.advance(60)
        assert [sent() for _ in range(3)] == [1, 0, 0]
        clock.advance(HOLD)
        assert [sent() for _ in range(3)] == [1, 0, 0]

    def test_unsent_request_has_a_known_outcome(
        self, client_of: Clients, serve: Serve, clock: Clock
    ) -> None:
        client = client_of(serve(response(503)).url)
        with pytest.raises(ServerError) as sent:
            client.delete_setup("m")
        clock.advance(60)
        for expected in (True, False):
            with pytest.raises(ServerError) as unsent:
                client.delete_setup("n")
            assert unsent.value.outcome_unknown is expected
        assert unsent.value.external_id == "n"
        assert unsent.value.summary == sent.value.summary
        assert "6 attempts in" in str(unsent.value)

    def test_success_ends_the_outage(self, client_of: Clients, serve: Serve, clock: Clock) -> None:
        server = serve(*[response(503)] * 6, response(200, stored()), response(503))
        client = client_of(server.url)
        with pytest.raises(ServerError):
            client.get_setup("m")
        assert client.get_setup("m") is not None
        with pytest.raises(ServerError):
            client.get_setup("m")
        assert len(server.requests) == 6 + 1 + 6

    def test_failing_route_does_not_affect_another(
        self, client_of: Clients, serve: Serve, clock: Clock
    ) -> None:
        """One setup is still read if the list always times out."""

        def reply(request: Received) -> bytes:
            slow = request.line == f"GET {SETUPS} HTTP/1.1"
            clock.advance(30 * slow)
            return SILENT if slow else response(200, stored())

        server = serve(reply)
        client = client_of(server.url, read_timeout=0.02)
        with pytest.raises(TransportError):
            client.list_setups()
        assert client.get_setup("m") is not None
        with pytest.raises(TransportError):
            client.list_setups()

    def test_failed_write_does_not_block_others(self, client_of: Clients, serve: Serve) -> None:
        server = serve(response(500), response(500), response(200, stored()))
        client = client_of(server.url)
        for _ in range(2):
            with pytest.raises(ServerError):
                client.upsert_setup("m", SPEC)
        client.upsert_setup("m", SPEC)

    def test_lost_connection_affects_all_routes(self, client_of: Clients, clock: Clock) -> None:
        client = client_of(f"http://127.0.0.1:{unused_port()}")
        for call in CALLS.values():
            with pytest.raises(ConnectionFailedError) as caught:
                call.run(client)
            assert not caught.value.outcome_unknown
        assert len(clock.waits) == 5

    def test_concurrent_calls_share_the_deadline(
        self, client_of: Clients, serve: Serve, clock: Clock
    ) -> None:
        """A call that begins after another failed for half a minute has the other half."""
        began: list[float] = []

        def sleep(seconds: float) -> None:
            clock.sleep(max(seconds, 7.0))
            if len(began) < 5:
                began.append(clock())
                with pytest.raises(ServerError):
                    client.get_setup("m")

        client = client_of(serve(response(503)).url, sleep=sleep)
        start = clock()
        with pytest.raises(ServerError):
            client.get_setup("m")
        assert clock() - start <= 60 + 7

    def test_call_with_a_shorter_deadline_does_not_affect_others(
        self, client_of: Clients, serve: Serve, clock: Clock
    ) -> None:
        server = serve(response(503))
        client = client_of(server.url)
        with pytest.raises(ServerError):
            client.within(3.0).get_setup("m")
        few = len(server.requests)
        assert few < 6
        with pytest.raises(ServerError):
            client.get_setup("m")
        assert len(server.requests) == few + 6

    def test_rejected_key_is_not_an_outage(self, client_of: Clients, serve: Serve) -> None:
        """A firewall may refuse one setup only, so each call sends its request."""
        server = serve(response(403), response(200, stored()))
        client = client_of(server.url)
        with pytest.raises(AuthenticationError):
            client.get_setup("m")
        assert client.get_setup("m") is not None

    def test_past_failure_does_not_shorten_a_later_one(
        self, client_of: Clients, serve: Serve, clock: Clock
    ) -> None:
        server = serve(response(503))
        client = client_of(server.url)
        with pytest.raises(ServerError):
            client.within(3.0).get_setup("m")
        few = len(server.requests)
        clock.advance(1000)
        for _ in range(2):
            with pytest.raises(ServerError):
                client.get_setup("m")
        assert len(server.requests) == few + 6 + 1
