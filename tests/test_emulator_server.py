"""Start, stop and port: `emulator/server.py` and the pytest plugin."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from urllib.parse import urlsplit

import pytest

from pulumi_traceloop.emulator import Emulator, Fault
from tests.support.api import (
    SETUPS,
    Api,
)
from tests.support.clock import until
from tests.support.terminal import python


def test_fixture_is_an_empty_emulator(traceloop_emulator: Emulator) -> None:
    assert traceloop_emulator.setups == {}
    assert Api(traceloop_emulator.url, traceloop_emulator.api_key).upsert("m").status == 201


def test_listens_on_loopback_and_a_free_port() -> None:
    with Emulator() as one, Emulator() as two:
        assert one.url.startswith("http://127.0.0.1:")
        assert one.url != two.url


def test_start_on_a_used_port_fails(emulator: Emulator) -> None:
    other = Emulator(port=urlsplit(emulator.url).port or 0)
    with contextlib.closing(other), pytest.raises(OSError, match="in use"):
        other.start()


def test_restart_keeps_port_and_data(api: Api, emulator: Emulator) -> None:
    api.upsert("m")
    url = emulator.url
    emulator.stop()
    with pytest.raises(ConnectionRefusedError):
        api.list()
    emulator.start()
    assert emulator.url == url
    assert len(api.list()) == 1


def test_stop_does_not_wait_for_delayed_responses() -> None:
    with Emulator() as emulator:
        emulator.inject(Fault(delay=600))
        url = urlsplit(emulator.url)
        connection = http.client.HTTPConnection(url.netloc, timeout=20)
        connection.request("GET", SETUPS)
        until(lambda: bool(emulator.log) and not emulator.faults)
        start = time.monotonic()
        emulator.stop()
        assert time.monotonic() - start < 10
        connection.close()


def test_stop_ends_under_a_frozen_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tools that freeze the time also stop the event loop's timers."""
    emulator = Emulator().start()
    emulator.inject(Fault(delay=600))
    connection = http.client.HTTPConnection(urlsplit(emulator.url).netloc, timeout=20)
    connection.request("GET", SETUPS)
    until(lambda: bool(emulator.log) and not emulator.faults)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    closing = threading.Thread(target=emulator.close, daemon=True)
    closing.start()
    closing.join(20)
    assert not closing.is_alive()
    connection.close()


def test_loading_the_pytest_plugin_does_not_load_aiohttp() -> None:
    code = (
        "import sys, pulumi_traceloop.emulator.pytest_plugin as p; print('aiohttp' in sys.modules)"
    )
    assert python("-c", code).stdout.strip() == "False"
