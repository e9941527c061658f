"""Failures that a test injects: `emulator/faults.py`."""

from __future__ import annotations

import http.client
import json
import time
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

import pytest

from pulumi_traceloop.emulator import Emulator, Fault
from tests.support.api import (
    BULK,
    CONTENT,
    SETUPS,
    Api,
    setup,
    upsert_path,
)
from tests.support.clock import Clock, until


@pytest.mark.parametrize("status", [401, 403, 408, 429, 500, 502, 503, 504])
def test_fault_replaces_the_response_and_prevents_the_write(
    api: Api, emulator: Emulator, status: int
) -> None:
    emulator.inject(Fault(status=status))
    reply = api.upsert("m")
    assert reply.status == status
    assert reply.error
    assert emulator.setups == {}
    assert api.upsert("m").status == 201


def test_message_of_a_500_is_the_documented_one(api: Api, emulator: Emulator) -> None:
    emulator.inject(Fault(status=500))
    assert api.get("m").error == "internal server error"


def test_fault_can_come_after_the_write(api: Api, emulator: Emulator) -> None:
    emulator.inject(Fault(status=502, when="after_write"))
    assert api.upsert("m").status == 502
    assert set(emulator.setups) == {"m"}


def test_fault_can_be_an_html_page_of_a_gateway(api: Api, emulator: Emulator) -> None:
    emulator.inject(Fault(status=504, body_kind="html"))
    reply = api.get("m")
    assert reply.headers.get_content_type() == "text/html"
    assert "<h1>504 Gateway Timeout</h1>" in reply.text


def test_fault_can_be_a_response_of_kong(api: Api, emulator: Emulator) -> None:
    emulator.inject(Fault(status=404, body_kind="kong"))
    reply = api.get("m")
    assert json.loads(reply.text) == {"message": "no Route matched with those values"}
    assert len(reply.headers["X-Kong-Request-Id"]) == 32


@pytest.mark.parametrize(
    ("kind", "text"), [("text", "404 page not found\n"), ("empty", "")], ids=["text", "empty"]
)
def test_fault_can_be_a_response_of_another_server(
    api: Api, emulator: Emulator, kind: Any, text: str
) -> None:
    emulator.inject(Fault(status=404, body_kind=kind))
    reply = api.get("m")
    assert (reply.status, reply.text) == (404, text)


@pytest.mark.parametrize(
    ("given", "header"),
    [
        (3, "3"),
        (3.0, "3"),
        (0.5, "0.5"),
        ("soon", "soon"),
        (datetime(2026, 1, 15, 10, 30, tzinfo=timezone.utc), "Thu, 15 Jan 2026 10:30:00 GMT"),
        (None, None),
    ],
)
def test_retry_after_is_seconds_a_date_or_a_text(
    api: Api, emulator: Emulator, given: Any, header: str | None
) -> None:
    emulator.inject(Fault(status=429, retry_after=given))
    assert api.get("m").headers["Retry-After"] == header


@pytest.mark.parametrize(("drop", "written"), [("before", set()), ("after", {"m"})])
def test_dropped_connection_has_no_response(
    api: Api, emulator: Emulator, drop: Any, written: set[str]
) -> None:
    emulator.inject(Fault(drop=drop))
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        api.upsert("m")
    assert set(emulator.setups) == written
    assert emulator.log[0].status is None


def test_truncated_json_in_a_complete_response(api: Api, emulator: Emulator) -> None:
    emulator.inject(Fault(truncate="json"))
    reply = api.upsert("größe")
    assert reply.status == 201
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(reply.text)


@pytest.mark.parametrize("kind", ["length", "chunked"])
def test_truncated_body_breaks_the_transfer(api: Api, emulator: Emulator, kind: Any) -> None:
    emulator.inject(Fault(truncate=kind))
    with pytest.raises(http.client.IncompleteRead) as caught:
        api.upsert("m")
    assert caught.value.partial
    assert set(emulator.setups) == {"m"}


@pytest.mark.parametrize(("body", "text"), [("[1, 2", "[1, 2"), (b"", ""), (b"\xc3\xa9", "é")])
def test_fault_can_have_any_body(api: Api, emulator: Emulator, body: Any, text: str) -> None:
    emulator.inject(Fault(body=body))
    reply = api.upsert("m")
    assert (reply.status, reply.text) == (201, text)
    emulator.inject(Fault(body=body, status=418))
    reply = api.upsert("m")
    assert (reply.status, reply.text) == (418, text)


@pytest.mark.parametrize(("when", "written"), [("before_write", set()), ("after_write", {"m"})])
def test_delay_comes_before_or_after_the_write(when: Any, written: set[str]) -> None:
    with Emulator() as emulator:
        emulator.inject(Fault(delay=600, when=when))
        url = urlsplit(emulator.url)
        connection = http.client.HTTPConnection(url.netloc, timeout=20)
        headers = {"Authorization": f"Bearer {emulator.api_key}"}
        connection.request("PUT", upsert_path("m"), json.dumps(CONTENT), headers)
        # The response to another request proves that the first one is waiting.
        until(lambda: bool(emulator.log) and not emulator.faults)
        assert Api(emulator.url, emulator.api_key).list() is not None
        assert set(emulator.setups) == written
        connection.close()


def test_write_continues_after_the_client_hung_up() -> None:
    with Emulator() as emulator:
        emulator.inject(Fault(delay=0.1))
        url = urlsplit(emulator.url)
        connection = http.client.HTTPConnection(url.netloc, timeout=20)
        headers = {"Authorization": f"Bearer {emulator.api_key}"}
        connection.request("PUT", upsert_path("m"), json.dumps(CONTENT), headers)
        until(lambda: bool(emulator.log) and not emulator.faults)
        connection.close()
        until(lambda: "m" in emulator.setups)


def test_latency_delays_every_response(api: Api, emulator: Emulator) -> None:
    emulator.latency = 0.05
    start = time.monotonic()
    api.list()
    assert time.monotonic() - start >= 0.05


def test_hidden_setup_is_missing_from_the_list_only(api: Api, emulator: Emulator) -> None:
    for external_id in ("a", "b"):
        api.upsert(external_id)
    fault = emulator.inject(Fault(hide=["a"], times=None))
    assert [s["external_id"] for s in api.list()] == ["b"]
    assert api.list("?external_id=a") == []
    assert api.get("a").status == 200
    emulator.remove(fault)
    assert len(api.list()) == 2


def test_item_error_refuses_one_item_of_a_bulk(api: Api, emulator: Emulator) -> None:
    emulator.inject(Fault(item_error={"b": "internal error"}))
    entries = api.bulk(setup("a"), setup("b")).json["setups"]
    assert [e["status"] for e in entries] == ["ok", "error"]
    assert entries[1]["error"] == "setups[1]: internal error"
    assert set(emulator.setups) == {"a"}
    assert emulator.writes == {"a": 1}


def test_item_error_can_hide_a_write(api: Api, emulator: Emulator) -> None:
    emulator.inject(Fault(item_error={"a": "internal error"}, when="after_write"))
    assert api.bulk(setup("a")).json["setups"][0]["status"] == "error"
    assert set(emulator.setups) == {"a"}


def test_item_error_waits_for_a_batch_with_that_item(api: Api, emulator: Emulator) -> None:
    emulator.inject(Fault(item_error={"b": "internal error"}))
    api.bulk(setup("a"))
    api.upsert("b")
    assert api.bulk(setup("b")).json["setups"][0]["status"] == "error"


def test_bulk_response_can_be_reordered_and_shortened(api: Api, emulator: Emulator) -> None:
    batch = [setup(external_id) for external_id in "abc"]
    emulator.inject(Fault(reorder=True))
    assert [e["external_id"] for e in api.bulk(*batch).json["setups"]] == ["c", "b", "a"]
    emulator.inject(Fault(shorten=2))
    assert [e["external_id"] for e in api.bulk(*batch).json["setups"]] == ["a"]
    assert emulator.writes == {"a": 2, "b": 2, "c": 2}


def test_times_and_skip_count_matching_requests(api: Api, emulator: Emulator) -> None:
    emulator.inject(Fault(method="PUT", status=503, skip=2, times=2))
    statuses = []
    for _ in range(5):
        api.list()
        statuses.append(api.upsert("m").status)
    assert statuses == [201, 200, 503, 503, 200]
    assert emulator.faults == []


def test_fault_without_a_count_lasts_until_it_is_removed(api: Api, emulator: Emulator) -> None:
    emulator.inject(Fault(status=503, times=None))
    assert [api.get("m").status for _ in range(3)] == [503] * 3
    emulator.clear_faults()
    assert api.get("m").status == 404


def test_faults_with_a_response_apply_in_order(api: Api, emulator: Emulator) -> None:
    emulator.inject(Fault(status=503))
    emulator.inject(Fault(status=429))
    assert [api.get("m").status for _ in range(3)] == [503, 429, 404]


def test_fault_of_one_route(api: Api, emulator: Emulator) -> None:
    emulator.inject(Fault(route="POST /v2/auto-monitor-setups/bulk", status=503))
    assert api.upsert("m").status == 201
    assert api.bulk(setup("m")).status == 503


def test_fault_of_one_setup_on_any_route(api: Api, emulator: Emulator) -> None:
    emulator.inject(Fault(external_id="a/b", status=503, times=None))
    assert api.list() == []
    assert api.upsert("b").status == 201
    assert api.upsert("a/b").status == 503
    assert api.get("a/b").status == 503
    assert api.call("GET", f"{SETUPS}?external_id=a%2Fb").status == 503
    assert api.call("POST", SETUPS, setup("a/b")).status == 503
    assert api.bulk(setup("b"), setup("a/b")).status == 503
    assert api.bulk(setup("b")).status == 207


@pytest.mark.parametrize("body", [[], ["x"], {"setups": 7}, {"setups": [[]]}, 7])
def test_fault_of_one_setup_leaves_malformed_bodies_to_the_route(
    api: Api, emulator: Emulator, body: Any
) -> None:
    emulator.inject(Fault(external_id="m", status=503))
    assert api.call("POST", BULK, body).status == 400


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"times": 0, "status": 500},
        {"status": 500, "route": "GET /"},
        {"status": 99},
        {"drop": "now"},
        {"truncate": "half"},
    ],
)
def test_invalid_fault_is_a_value_error(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|has no effect"):
        Fault(**values)


def test_rate_limit_returns_429_until_the_second_is_over(
    api: Api, emulator: Emulator, clock: Clock
) -> None:
    emulator.rate_limit = 2
    emulator.add_project("key-2")
    replies = [api.upsert(f"m-{i}") for i in range(3)]
    assert [r.status for r in replies] == [201, 201, 429]
    assert replies[2].headers["Retry-After"] == "1"
    assert replies[2].error == "rate limit exceeded"
    assert set(emulator.setups) == {"m-0", "m-1"}
    assert Api(emulator.url, "key-2").list() == []
    clock.advance(1)
    assert api.upsert("m-2").status == 201
