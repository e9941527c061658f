"""How a 429 slows down all threads of a client: `_client/_pace.py`."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep
from typing import TYPE_CHECKING

import pytest

from pulumi_traceloop._client import TraceloopClient
from pulumi_traceloop._client._pace import EASE, Pacer
from pulumi_traceloop.emulator import Emulator
from pulumi_traceloop.errors import (
    RateLimitedError,
)

if TYPE_CHECKING:
    pass
from tests.support import API_KEY
from tests.support.client import (
    SPEC,
    Clients,
    Serve,
)
from tests.support.clock import Clock
from tests.support.service import Received, response


class TestPacing:
    """A 429 slows down all threads of a client, and fails none while others succeed."""

    def test_all_threads_wait_after_a_429(
        self, client_of: Clients, serve: Serve, clock: Clock
    ) -> None:
        server = serve(response(429, b"", {"Retry-After": "7"}), response(200, []))
        refused, held = threading.Event(), threading.Event()
        both = threading.Barrier(2, timeout=10)

        def sleep(seconds: float) -> None:
            until = clock() + seconds
            if not held.is_set():
                refused.set()
                both.wait()
                held.set()
            clock.advance(max(0.0, until - clock()))

        client = client_of(server.url, sleep=sleep)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(client.list_setups)
            assert refused.wait(10)
            client.list_setups()
            first.result()
        assert len(server.requests) == 3

    def under_way(self, pacer: Pacer) -> int:
        """Start as many requests as may run concurrently, in real time; return how many."""
        begun = 0
        while pacer.enter(monotonic() + 1.0 if begun == 0 else monotonic() + 0.05, 0) is not None:
            begun += 1
        return begun

    def test_429_halves_the_concurrency(self) -> None:
        pacer = Pacer(monotonic, sleep)
        for _ in range(8):
            assert pacer.enter(monotonic() + 1, 0) is not None
        now = 8
        for expected in (4, 2, 1, 1):
            began = monotonic()
            for _ in range(now):
                pacer.slow_down(began, 0.0)  # one burst counts once
                pacer.leave(taken=False)
            pacer._refusals = 0  # not consecutive: the pauses stay short
            now = self.under_way(pacer)
            assert now == expected

    def test_concurrency_grows_again_with_successes(self) -> None:
        pacer = Pacer(monotonic, sleep)
        assert pacer.enter(monotonic() + 1, 0) is not None
        pacer.slow_down(monotonic(), 0.0)
        pacer.leave(taken=False)
        for _ in range(EASE * 2):
            assert pacer.enter(monotonic() + 1, 0) is not None
            pacer.leave(taken=True)
        assert self.under_way(pacer) == 2

    def test_waits_grow_with_repeated_refusals(
        self, client_of: Clients, serve: Serve, clock: Clock
    ) -> None:
        server = serve(response(429))
        with pytest.raises(RateLimitedError, match=r"8 attempts in 5\d s"):
            client_of(server.url, deadline=70.0).upsert_setup("m", SPEC)
        for wait, least in zip(clock.waits, [0.5, 1, 2, 4, 8, 16, 20], strict=True):
            assert least <= wait <= least * 1.05

    def test_429_does_not_count_as_a_retry(self, client_of: Clients, serve: Serve) -> None:
        refusals = [response(429, b"", {"Retry-After": "1"})] * 6
        lost = [response(503)] * 5
        server = serve(*refusals, *lost, response(204))
        assert client_of(server.url, deadline=300.0).delete_setup("m") is True
        assert len(server.requests) == 12

    def test_waiting_does_not_count_while_others_succeed(
        self, client_of: Clients, serve: Serve, clock: Clock
    ) -> None:
        """A call refused for longer than its deadline fails only if no other succeeds."""

        def reply(request: Received) -> bytes:
            if request.line.startswith("GET"):
                return response(200, [])
            return response(429, b"", {"Retry-After": "15"})

        waiting: list[float] = []
        others: list[object] = []

        def sleep(seconds: float) -> None:
            clock.sleep(seconds)
            waiting.append(seconds)
            if len(waiting) == 1 and len(others) < 5:
                others.append(client.list_setups().setups)
            waiting.pop()

        server = serve(reply)
        client = client_of(server.url, sleep=sleep)
        began = clock()
        with pytest.raises(RateLimitedError, match=r"attempts in \d+ s"):
            client.delete_setup("m")
        assert others == [[]] * 5
        assert clock() - began > 5 * 15 + 30

    def test_request_without_a_turn_was_not_sent(self, client_of: Clients, serve: Serve) -> None:
        server = serve(response(429, b"", {"Retry-After": "20"}))
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
        with (
            Emulator(api_key=API_KEY) as emulator,
            TraceloopClient(API_KEY, emulator.url) as client,
        ):
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
