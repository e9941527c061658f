"""The emulator answers as Traceloop's documentation says, and breaks as it is told.

Requests go through `http.client`, which sends a path as it is; the product's client has no part.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from pulumi_traceloop.emulator import Emulator, Fault, ManualClock
from pulumi_traceloop.emulator.__main__ import main

ROOT = Path(__file__).parent.parent
SETUPS = "/v2/auto-monitor-setups"
BULK = f"{SETUPS}/bulk"
RULE = {"key": "gen_ai.system", "value": "openai", "source": "span_attributes"}
OTHER_RULE = {"key": "service.name", "value": "shop", "source": "resource_attributes"}
CONTENT: dict[str, Any] = {"selector": [RULE], "evaluators": ["answer-relevancy"]}

AWKWARD_IDS = [
    "a/b",
    "/a/",
    "a?b=c",
    "a#b",
    "100%",
    "a%2Fb",
    "a%252Fb",
    "urn:x:1",
    "two words",
    "a+b",
    "größe/日本",
    "{external_id}",
    "bulk",
    "by-external-id",
    "..",
    "a;b=c,d",
    'quo"te\\',
]


@dataclass
class Reply:
    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def error(self) -> Any:
        assert set(self.json) == {"error"}
        return self.json["error"]


class Api:
    """Requests to one emulator, one connection each."""

    def __init__(self, emulator: Emulator, key: str | None = None) -> None:
        self.emulator = emulator
        self.key = emulator.api_key if key is None else key

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """Send `body` (bytes as they are, the rest as JSON); return the whole answer."""
        url = urlsplit(self.emulator.url)
        connection = http.client.HTTPConnection(url.netloc, timeout=20)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if headers is None:
            headers = {"Authorization": f"Bearer {self.key}"}
        with contextlib.closing(connection):
            connection.request(method, url.path + path, data, headers)
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read().decode())

    def get(self, external_id: str) -> Reply:
        return self.call("GET", item(external_id))

    def list(self, query: str = "") -> list[Any]:
        reply = self.call("GET", SETUPS + query)
        assert reply.status == 200, reply.text
        setups = reply.json
        assert isinstance(setups, list)
        return setups

    def upsert(self, external_id: str, body: Any = None) -> Reply:
        return self.call("PUT", upsert_path(external_id), CONTENT if body is None else body)

    def bulk(self, *setups: Any) -> Reply:
        return self.call("POST", BULK, {"setups": setups})


def item(external_id: str) -> str:
    return f"{SETUPS}/{quote(external_id, safe='')}"


def upsert_path(external_id: str) -> str:
    return f"{SETUPS}/by-external-id/{quote(external_id, safe='')}"


def setup(external_id: str, **changes: Any) -> dict[str, Any]:
    return {"external_id": external_id, **CONTENT, **changes}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 1, 15, 10, 30, tzinfo=timezone.utc).timestamp())


@pytest.fixture
def emulator(clock: ManualClock) -> Iterator[Emulator]:
    with Emulator(clock=clock) as running:
        yield running


@pytest.fixture
def api(emulator: Emulator) -> Api:
    return Api(emulator)


# -- create --


def test_create_answers_201_with_the_documented_shape(api: Api) -> None:
    body = {
        "external_id": "my-agent-monitor-1",
        "evaluators": ["answer-relevancy", "toxicity-detector"],
        "selector": [RULE, {**RULE, "key": "gen_ai.request.model", "operator": "not_equals"}],
    }

    reply = api.call("POST", SETUPS, body)

    assert reply.status == 201
    created = reply.json
    assert re.fullmatch(r"cmm\w{22}", created.pop("id"))
    assert all(created.pop(name) for name in ("org_id", "project_id", "env_project_id"))
    assert created == {
        "external_id": "my-agent-monitor-1",
        "init_rules": [
            {**RULE, "operator": "equals"},
            {**RULE, "key": "gen_ai.request.model", "operator": "not_equals"},
        ],
        "evaluators": [
            {
                "evaluator_type": "answer-relevancy",
                "input_schema": [
                    {
                        "type": "string",
                        "name": "completion",
                        "description": "The LLM response to evaluate",
                    },
                    {
                        "type": "string",
                        "name": "context",
                        "description": "The context for the answer",
                    },
                    {
                        "type": "string",
                        "name": "question",
                        "description": "The original question",
                    },
                ],
                "output_schema": [
                    {
                        "type": "float",
                        "name": "answer_relevancy_score",
                        "description": "Relevancy score (0-1)",
                    }
                ],
                "status": "pending",
            },
            {
                "evaluator_type": "toxicity-detector",
                "input_schema": [
                    {
                        "type": "string",
                        "name": "text",
                        "description": "The text to analyze for toxicity",
                    }
                ],
                "output_schema": [
                    {
                        "type": "boolean",
                        "name": "is_toxic",
                        "description": "Whether the text is toxic",
                    }
                ],
                "status": "pending",
            },
        ],
        "status": "pending",
        "created_at": "2026-01-15T10:30:00Z",
        "updated_at": "2026-01-15T10:30:00Z",
    }


def test_create_may_leave_the_selector_out(api: Api) -> None:
    reply = api.call("POST", SETUPS, {"external_id": "m", "evaluators": ["faithfulness"]})
    assert (reply.status, reply.json["init_rules"]) == (201, [])


@pytest.mark.parametrize("evaluators", [{}, {"evaluators": []}, {"evaluators": None}])
def test_create_without_evaluators_is_refused(api: Api, evaluators: dict[str, Any]) -> None:
    reply = api.call("POST", SETUPS, {"external_id": "m", "selector": [RULE], **evaluators})
    assert reply.status == 400
    assert reply.error == "invalid input: evaluators must contain at least one item"


@pytest.mark.parametrize("external_id", [None, "", 7])
def test_create_without_external_id_is_refused(api: Api, external_id: Any) -> None:
    reply = api.call("POST", SETUPS, {**CONTENT, "external_id": external_id})
    assert (reply.status, reply.error) == (400, "invalid input: external_id is required")


def test_create_of_an_existing_external_id_is_refused_and_changes_nothing(
    api: Api, emulator: Emulator
) -> None:
    api.upsert("m")
    before = emulator.setups
    reply = api.call("POST", SETUPS, setup("m", evaluators=["faithfulness"]))
    assert reply.status == 400
    assert reply.error == 'invalid input: external_id "m" already exists'
    assert emulator.setups == before


# -- upsert --


def test_upsert_answers_201_when_it_creates_and_200_when_it_replaces(api: Api) -> None:
    assert api.upsert("m").status == 201
    assert api.upsert("m").status == 200


def test_upsert_replaces_the_content_and_keeps_the_identity(api: Api, clock: ManualClock) -> None:
    first = api.upsert("m").json
    clock.advance(30)
    api.upsert("m")
    clock.advance(30)
    second = api.upsert("m", {"selector": [OTHER_RULE], "evaluators": ["faithfulness"]}).json
    kept = ("id", "external_id", "org_id", "project_id", "env_project_id", "created_at")
    assert {name: second[name] for name in kept} == {name: first[name] for name in kept}
    assert second["init_rules"] == [{**OTHER_RULE, "operator": "equals"}]
    assert [e["evaluator_type"] for e in second["evaluators"]] == ["faithfulness"]
    assert second["updated_at"] == "2026-01-15T10:31:00Z"


def test_upsert_sets_the_status_back_to_pending_even_with_equal_content(
    api: Api, emulator: Emulator
) -> None:
    emulator.settle = 10
    api.upsert("m")
    assert isinstance(emulator.clock, ManualClock)
    emulator.clock.advance(10)
    assert api.get("m").json["status"] == "completed"
    api.upsert("m")
    assert api.get("m").json["status"] == "pending"


def test_the_answer_to_a_write_is_pending_without_any_settling_time(api: Api) -> None:
    assert api.upsert("m").json["status"] == "pending"
    assert api.get("m").json["status"] == "completed"


@pytest.mark.parametrize("selector", [{}, {"selector": []}, {"selector": None}])
def test_upsert_without_a_selector_is_refused(api: Api, selector: dict[str, Any]) -> None:
    reply = api.upsert("m", {"evaluators": ["faithfulness"], **selector})
    assert (reply.status, reply.error) == (400, "selector must have at least 1 filter")


@pytest.mark.parametrize(
    "evaluators", [{}, {"evaluators": []}, {"evaluator_configs": []}, {"evaluators": None}]
)
def test_upsert_without_evaluators_and_configs_is_refused(
    api: Api, evaluators: dict[str, Any]
) -> None:
    reply = api.upsert("m", {"selector": [RULE], **evaluators})
    assert (reply.status, reply.error) == (
        400,
        "one of evaluators or evaluator_configs is required",
    )


@pytest.mark.parametrize(
    "evaluators", [{"evaluators": ["nope"]}, {"evaluator_configs": [{"slug": "nope"}]}]
)
def test_an_unknown_evaluator_is_refused_and_nothing_written(
    api: Api, emulator: Emulator, evaluators: dict[str, Any]
) -> None:
    reply = api.upsert("m", {"selector": [RULE], **evaluators})
    assert (reply.status, reply.error) == (400, 'unknown evaluator slug "nope"')
    assert emulator.setups == {}
    assert not emulator.writes


def test_configs_win_over_evaluators_and_scope_shows_only_where_given(api: Api) -> None:
    configs = [{"slug": "faithfulness", "scope": "trace"}, {"slug": "word-count"}]
    evaluators = api.upsert("m", {**CONTENT, "evaluator_configs": configs}).json["evaluators"]
    assert [e["evaluator_type"] for e in evaluators] == ["faithfulness", "word-count"]
    assert evaluators[0]["scope"] == "trace"
    assert "scope" not in evaluators[1]


def test_empty_configs_do_not_win(api: Api) -> None:
    reply = api.upsert("m", {**CONTENT, "evaluator_configs": []})
    assert [e["evaluator_type"] for e in reply.json["evaluators"]] == ["answer-relevancy"]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"slug": "faithfulness", "scope": "request"}, "scope must be one of session, trace, span"),
        ({"scope": "trace"}, "slug is required"),
        ("faithfulness", "must be an object"),
    ],
)
def test_a_bad_config_is_refused(api: Api, config: Any, text: str) -> None:
    reply = api.upsert("m", {"selector": [RULE], "evaluator_configs": [config]})
    assert (reply.status, reply.error) == (400, f"invalid input: evaluator_configs[0]: {text}")


def test_an_external_id_in_the_body_of_an_upsert_is_ignored(api: Api, emulator: Emulator) -> None:
    assert api.upsert("m", setup("other")).json["external_id"] == "m"
    assert set(emulator.setups) == {"m"}


def test_a_custom_evaluator_is_accepted_once_added(api: Api, emulator: Emulator) -> None:
    body = {**CONTENT, "evaluators": ["my-judge"]}
    assert api.upsert("m", body).status == 400
    emulator.add_evaluator("my-judge")
    assert api.upsert("m", body).status == 201


# -- rules --


@pytest.mark.parametrize(
    "rule",
    [
        *({**RULE, "operator": op} for op in ("equals", "not_equals", "contains", "not_contains")),
        *(
            {"key": "k", "values": ["a", "b"], "source": "span_attributes", "operator": op}
            for op in ("in", "not_in")
        ),
        *(
            {"key": "k", "source": "resource_attributes", "operator": op}
            for op in ("exists", "not_exists")
        ),
    ],
    ids=lambda rule: rule["operator"],
)
def test_each_operator_is_stored_as_it_was_sent(api: Api, rule: dict[str, Any]) -> None:
    assert api.upsert("m", {**CONTENT, "selector": [rule]}).json["init_rules"] == [rule]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"key": None}, "key is required"),
        ({"key": ""}, "key is required"),
        ({"source": None}, "source is required"),
        ({"source": "spans"}, "source must be one of span_attributes, resource_attributes"),
        ({"operator": "like"}, "operator must be one of equals, not_equals, contains,"),
        ({"value": None}, "value is required for operator equals"),
        ({"operator": "contains", "value": None}, "value is required for operator contains"),
        ({"operator": "in"}, "values is required for operator in"),
        ({"operator": "not_in", "values": []}, "values is required for operator not_in"),
        ({"value": 7}, "value must be a string"),
        ({"operator": "in", "values": [7]}, "values must be an array of strings"),
    ],
)
def test_a_bad_rule_is_refused(api: Api, change: dict[str, Any], text: str) -> None:
    reply = api.upsert("m", {**CONTENT, "selector": [RULE, {**RULE, **change}]})
    assert reply.status == 400
    assert reply.error.startswith(f"invalid input: selector[1]: {text}")


@pytest.mark.parametrize("selector", [{"gen_ai.system": "openai"}, "openai", [["key"]]])
def test_a_selector_that_is_no_array_of_rules_is_refused(api: Api, selector: Any) -> None:
    assert api.upsert("m", {**CONTENT, "selector": selector}).status == 400


# -- get, list, update, delete --


def test_get_answers_what_the_upsert_stored(api: Api) -> None:
    written = api.upsert("m").json
    read = api.get("m")
    assert read.status == 200
    settled = {"evaluators", "status"}
    assert {k: v for k, v in read.json.items() if k not in settled} == {
        k: v for k, v in written.items() if k not in settled
    }


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_setup_that_does_not_exist_is_a_404(api: Api, method: str) -> None:
    reply = api.call(method, item("gone"), CONTENT if method == "PUT" else None)
    assert (reply.status, reply.error) == (404, 'auto monitor setup "gone" not found')


def test_list_of_nothing_is_an_empty_array(api: Api) -> None:
    assert api.list() == []


def test_list_shows_all_setups_and_filters_by_external_id(api: Api) -> None:
    for external_id in ("m-1", "a&b c+d"):
        api.upsert(external_id)
    assert [s["external_id"] for s in api.list()] == ["m-1", "a&b c+d"]
    found = api.list(f"?external_id={quote('a&b c+d', safe='')}")
    assert [s["external_id"] for s in found] == ["a&b c+d"]
    assert api.list("?external_id=absent") == []


def test_list_filters_by_status(api: Api, emulator: Emulator) -> None:
    api.upsert("done")
    api.upsert("waits")
    emulator.force_status("waits", "waiting_for_spans")
    assert [s["external_id"] for s in api.list("?status=completed")] == ["done"]
    assert [s["external_id"] for s in api.list("?status=waiting_for_spans")] == ["waits"]
    assert api.list("?status=waiting_for_spans&external_id=done") == []
    assert api.list("?status=unheard-of") == []


def test_update_changes_only_the_fields_given(api: Api) -> None:
    api.upsert("m")
    changed = api.call("PUT", item("m"), {"evaluators": ["faithfulness"]})
    assert changed.status == 200
    assert changed.json["init_rules"] == [{**RULE, "operator": "equals"}]
    changed = api.call("PUT", item("m"), {"selector": [OTHER_RULE]})
    assert changed.json["init_rules"] == [{**OTHER_RULE, "operator": "equals"}]
    assert [e["evaluator_type"] for e in changed.json["evaluators"]] == ["faithfulness"]


def test_update_of_nothing_writes_nothing(api: Api, emulator: Emulator) -> None:
    api.upsert("m")
    emulator.reset_counts()
    assert api.call("PUT", item("m"), {}).status == 200
    assert not emulator.writes


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"selector": []}, "selector must have at least 1 filter"),
        ({"evaluators": []}, "invalid input: evaluators must contain at least one item"),
        ({"evaluators": ["nope"]}, 'unknown evaluator slug "nope"'),
    ],
)
def test_a_bad_update_is_refused(api: Api, body: Any, text: str) -> None:
    api.upsert("m")
    reply = api.call("PUT", item("m"), body)
    assert (reply.status, reply.error) == (400, text)


def test_delete_answers_204_without_a_body_and_then_404(api: Api) -> None:
    api.upsert("m")
    reply = api.call("DELETE", item("m"))
    assert (reply.status, reply.text) == (204, "")
    assert api.call("DELETE", item("m")).status == 404


def test_a_setup_that_is_made_again_after_a_delete_has_another_id(api: Api) -> None:
    first = api.upsert("m").json["id"]
    api.call("DELETE", item("m"))
    assert api.upsert("m").json["id"] != first


# -- bulk --


def test_bulk_answers_207_with_one_entry_per_item_in_input_order(
    api: Api, emulator: Emulator
) -> None:
    api.upsert("old")
    reply = api.bulk(setup("new"), setup("bad", evaluators=["x"]), setup("old"))
    assert reply.status == 207
    new, bad, old = reply.json["setups"]
    assert bad == {
        "external_id": "bad",
        "status": "error",
        "error": 'setups[1]: unknown evaluator slug "x"',
    }
    assert [new["status"], old["status"]] == ["ok", "ok"]
    assert new["result"]["external_id"] == "new"
    assert old["result"]["status"] == "pending"
    assert set(emulator.setups) == {"old", "new"}


def test_bulk_replaces_what_exists_and_keeps_its_id(api: Api, emulator: Emulator) -> None:
    first = api.upsert("m").json
    entry = api.bulk(setup("m", evaluators=["faithfulness"])).json["setups"][0]
    assert entry["result"]["id"] == first["id"]
    assert [e["evaluator_type"] for e in emulator.setups["m"]["evaluators"]] == ["faithfulness"]


def test_bulk_results_have_the_shape_of_a_create(api: Api) -> None:
    created = api.upsert("m").json
    assert api.bulk(setup("m")).json["setups"][0]["result"] == created


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"selector": []}, "selector must have at least 1 filter"),
        (
            {"evaluators": None, "evaluator_configs": [{"slug": "faithfulness"}]},
            "invalid input: evaluators must contain at least one item",
        ),
        ({"selector": [{**RULE, "source": "x"}]}, "invalid input: selector[0]: source must be"),
        ({"evaluators": "faithfulness"}, "invalid input: evaluators must be an array of strings"),
    ],
)
def test_a_bulk_items_error_names_its_index(api: Api, change: Any, text: str) -> None:
    entries = api.bulk(setup("fine"), setup("m", **change)).json["setups"]
    assert entries[0]["status"] == "ok"
    assert entries[1]["status"] == "error"
    assert entries[1]["error"].startswith(f"setups[1]: {text}")


@pytest.mark.parametrize(
    ("setups", "text"),
    [
        ([], "invalid input: setups must contain at least one item"),
        ([setup(f"m-{i}") for i in range(101)], "invalid input: setups must contain at most 100"),
        ([setup("a"), CONTENT], "setups[1]: external_id is required"),
        ([setup("a"), setup("")], "setups[1]: external_id is required"),
        (
            [setup("a"), setup("b"), setup("a")],
            'setups[2]: duplicate external_id "a" (also at setups[0])',
        ),
        ([setup("a"), "b"], "setups[1]: must be an object"),
        (None, "invalid input: setups is required and must be an array"),
    ],
    ids=["empty", "too many", "no id", "empty id", "duplicate", "no object", "no array"],
)
def test_a_bad_batch_is_refused_whole_and_nothing_written(
    api: Api, emulator: Emulator, setups: Any, text: str
) -> None:
    reply = api.call("POST", BULK, {"setups": setups})
    assert reply.status == 400
    assert reply.error.startswith(text)
    assert emulator.setups == {}


def test_bulk_takes_a_hundred(api: Api, emulator: Emulator) -> None:
    assert api.bulk(*(setup(f"m-{i}") for i in range(100))).status == 207
    assert len(emulator.setups) == 100


# -- key, unknown routes, malformed requests --


@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "Bearer", "", "Basic emulator-key", "emulator-key"]
)
def test_a_missing_or_wrong_key_is_a_401(api: Api, emulator: Emulator, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    reply = api.call("PUT", upsert_path("m"), CONTENT, headers)
    assert (reply.status, reply.error) == (401, "unauthorized")
    assert emulator.setups == {}


def test_a_revoked_key_is_a_401(api: Api, emulator: Emulator) -> None:
    emulator.revoke_key(emulator.api_key)
    assert api.call("GET", SETUPS).status == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", item("m")),
        ("DELETE", SETUPS),
        ("HEAD", SETUPS),
        ("GET", upsert_path("m")),
        ("POST", item("m")),
    ],
)
def test_a_method_that_a_route_does_not_have_is_a_405(
    api: Api, emulator: Emulator, method: str, path: str
) -> None:
    reply = api.call(method, path)
    assert reply.status == 405
    assert reply.headers["Allow"]
    assert emulator.requests == {"unmatched": 1}


@pytest.mark.parametrize(
    "path", ["/", "/v2", "/v1/auto-monitor-setups", f"{SETUPS}/a/b", SETUPS + "/"]
)
def test_a_path_that_does_not_exist_is_a_404(api: Api, emulator: Emulator, path: str) -> None:
    reply = api.call("GET", path)
    assert (reply.status, reply.error) == (404, "not found")
    assert emulator.requests == {"unmatched": 1}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"\xff\xfe{", b'{"a": "\\ud800"}', b"[" * 100_000]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", SETUPS), ("POST", BULK), ("PUT", upsert_path("m")), ("PUT", item("m"))],
)
def test_a_body_that_is_no_json_object_is_a_400(
    api: Api, emulator: Emulator, method: str, path: str, body: bytes
) -> None:
    emulator.put("m", **CONTENT)
    reply = api.call(method, path, body)
    assert reply.status == 400
    assert reply.error.startswith("invalid request body: ")


def test_a_body_of_several_megabytes_is_accepted(api: Api) -> None:
    rule = {**RULE, "value": "x" * 3_000_000}
    assert api.upsert("m", {**CONTENT, "selector": [rule]}).status == 201


# -- awkward external ids --


@pytest.mark.parametrize("external_id", AWKWARD_IDS)
def test_an_awkward_external_id_works_on_every_route(
    api: Api, emulator: Emulator, external_id: str
) -> None:
    assert api.upsert(external_id).json["external_id"] == external_id
    assert set(emulator.setups) == {external_id}
    assert api.get(external_id).json["external_id"] == external_id
    assert api.call("PUT", item(external_id), {"evaluators": ["word-count"]}).status == 200
    assert len(api.list(f"?external_id={quote(external_id, safe='')}")) == 1
    assert api.bulk(setup(external_id)).json["setups"][0]["external_id"] == external_id
    assert len(emulator.setups) == 1
    assert emulator.writes == {external_id: 3}
    assert api.call("DELETE", item(external_id)).status == 204
    assert emulator.setups == {}


def test_ids_that_differ_only_in_their_encoding_are_different_setups(
    api: Api, emulator: Emulator
) -> None:
    for external_id in ("a/b", "a%2Fb", "a%252Fb"):
        assert api.upsert(external_id).status == 201
    assert set(emulator.setups) == {"a/b", "a%2Fb", "a%252Fb"}


def test_a_raw_path_reaches_the_log_still_encoded(emulator: Emulator) -> None:
    url = urlsplit(emulator.url)
    assert url.hostname
    assert url.port
    with socket.create_connection((url.hostname, url.port), timeout=20) as raw:
        raw.sendall(b"GET /v2/auto-monitor-setups/a%2Fb%3f HTTP/1.0\r\nHost: x\r\n\r\n")
        with raw.makefile("rb") as answer:
            assert b" 401 " in answer.readline()
    assert emulator.log[0].raw_path == "/v2/auto-monitor-setups/a%2Fb%3f"


def test_get_of_bulk_is_the_setup_of_that_name(api: Api) -> None:
    assert api.call("GET", BULK).status == 404
    api.upsert("bulk")
    assert api.call("GET", BULK).json["external_id"] == "bulk"


def test_an_external_id_in_invalid_utf8_does_not_break_the_server(api: Api) -> None:
    assert api.call("PUT", f"{SETUPS}/by-external-id/%FF", CONTENT).status < 500


def test_a_base_path_stands_in_front_of_every_route() -> None:
    with Emulator(base_path="api/") as emulator:
        api = Api(emulator)
        assert emulator.url.endswith("/api")
        assert emulator.root_url + "/api" == emulator.url
        assert api.upsert("a/b").status == 201
        assert api.get("a/b").status == 200
        assert emulator.requests["GET /v2/auto-monitor-setups/{external_id}"] == 1
        with contextlib.closing(http.client.HTTPConnection(urlsplit(emulator.url).netloc)) as bare:
            bare.request("GET", SETUPS)
            assert bare.getresponse().status == 404


# -- status --


def test_the_status_advances_with_the_clock(
    api: Api, emulator: Emulator, clock: ManualClock
) -> None:
    emulator.settle = 10
    api.upsert("m")
    seen = []
    for _ in range(3):
        seen.append(api.get("m").json["status"])
        clock.advance(5)
    assert seen == ["pending", "in_progress", "completed"]


def test_evaluators_get_their_ids_once_they_are_completed(
    api: Api, emulator: Emulator, clock: ManualClock
) -> None:
    emulator.settle = 10
    api.upsert("m")
    late = {"evaluator_id", "binding_id", "processed_at"}
    assert not late & set(api.get("m").json["evaluators"][0])
    clock.advance(10)
    evaluator = api.get("m").json["evaluators"][0]
    assert late < set(evaluator)
    assert evaluator["status"] == "completed"
    assert evaluator["processed_at"] == "2026-01-15T10:30:10Z"


def test_a_failing_evaluator_makes_its_setup_partial_or_failed(
    api: Api, emulator: Emulator
) -> None:
    emulator.fail_evaluator("faithfulness", "no quota")
    api.upsert("alone", {**CONTENT, "evaluators": ["faithfulness"]})
    api.upsert("both", {**CONTENT, "evaluators": ["faithfulness", "word-count"]})
    assert api.get("alone").json["status"] == "failed"
    both = api.get("both").json
    assert both["status"] == "partial"
    assert [e["status"] for e in both["evaluators"]] == ["failed", "completed"]
    assert both["evaluators"][0]["error_message"] == "no quota"
    assert "error_message" not in both["evaluators"][1]


def test_a_failed_setup_recovers_only_when_it_is_written_again(
    api: Api, emulator: Emulator
) -> None:
    api.upsert("m")
    emulator.fail_evaluator("answer-relevancy", "no quota")
    assert api.get("m").json["status"] == "failed"
    emulator.heal_evaluator("answer-relevancy")
    assert api.get("m").json["status"] == "failed"
    api.upsert("m")
    assert api.get("m").json["status"] == "completed"


def test_a_status_can_be_forced_until_it_is_released(api: Api, emulator: Emulator) -> None:
    api.upsert("m")
    emulator.force_status("m", "waiting_for_spans")
    assert api.get("m").json["status"] == "waiting_for_spans"
    assert api.upsert("m").json["status"] == "pending"
    emulator.force_status("m", None)
    assert api.get("m").json["status"] == "completed"


# -- projects --


def test_each_key_sees_only_its_own_project(api: Api, emulator: Emulator) -> None:
    emulator.add_project("key-2", env_project_id="env-2")
    other = Api(emulator, "key-2")
    api.upsert("m")
    assert other.list() == []
    assert other.get("m").status == 404
    assert other.call("DELETE", item("m")).status == 404
    theirs = other.upsert("m")
    assert (theirs.status, theirs.json["env_project_id"]) == (201, "env-2")
    assert theirs.json["id"] != emulator.setups["m"]["id"]
    assert emulator.setups_of("key-2")["m"]["env_project_id"] == "env-2"


def test_projects_get_different_environments_by_themselves(emulator: Emulator) -> None:
    first, second = emulator.add_project("key-2"), emulator.add_project("key-3")
    emulator.revoke_key("key-2")
    third = emulator.add_project("key-4")
    assert len({p.env_project_id for p in (first, second, third)}) == 3
    assert len({p.project_id for p in (first, second, third)}) == 3


def test_a_second_key_of_an_environment_sees_the_same_setups(api: Api, emulator: Emulator) -> None:
    env = api.upsert("m").json["env_project_id"]
    emulator.add_project("key-2", env_project_id=env)
    assert Api(emulator, "key-2").get("m").status == 200


def test_the_environment_is_kept_when_another_one_of_the_project_replaces_the_setup(
    api: Api, emulator: Emulator
) -> None:
    env = api.upsert("m").json["env_project_id"]
    emulator.add_project("key-2", env_project_id="staging", same_project_as=emulator.api_key)
    staging = Api(emulator, "key-2")
    replaced = staging.upsert("m")
    assert (replaced.status, replaced.json["env_project_id"]) == (200, env)
    assert staging.upsert("n").json["env_project_id"] == "staging"


# -- counters and changes behind the back --


def test_requests_are_counted_by_route(api: Api, emulator: Emulator) -> None:
    api.call("POST", SETUPS, setup("m"))
    api.list()
    api.list("?status=failed")
    api.get("m")
    api.call("PUT", item("m"), CONTENT)
    api.upsert("m")
    api.bulk(setup("m"))
    api.call("DELETE", item("m"))
    assert emulator.requests == {
        "POST /v2/auto-monitor-setups": 1,
        "GET /v2/auto-monitor-setups": 2,
        "GET /v2/auto-monitor-setups/{external_id}": 1,
        "PUT /v2/auto-monitor-setups/{external_id}": 1,
        "PUT /v2/auto-monitor-setups/by-external-id/{external_id}": 1,
        "POST /v2/auto-monitor-setups/bulk": 1,
        "DELETE /v2/auto-monitor-setups/{external_id}": 1,
    }
    assert emulator.writes == {"m": 4}


def test_the_log_says_what_each_request_did_but_not_the_key(
    api: Api, emulator: Emulator, clock: ManualClock
) -> None:
    api.bulk(setup("a"), setup("b", evaluators=["x"]))
    api.call("DELETE", item("a"))
    api.get("a")
    bulk, delete, get = emulator.log
    assert (bulk.method, bulk.raw_path, bulk.status) == ("POST", BULK, 207)
    assert bulk.external_ids == ("a",)
    assert json.loads(bulk.body)["setups"][1]["external_id"] == "b"
    assert (delete.status, delete.external_ids) == (204, ("a",))
    assert (get.route, get.status, get.external_ids) == (f"GET {SETUPS}/{{external_id}}", 404, ())
    assert get.time == clock()
    assert get.headers["Authorization"] == "[hidden]"
    assert emulator.api_key not in repr(emulator.log)


def test_reset_counts_forgets_requests_and_keeps_setups(api: Api, emulator: Emulator) -> None:
    api.upsert("m")
    emulator.reset_counts()
    assert (emulator.requests, emulator.writes, emulator.log) == ({}, {}, [])
    assert set(emulator.setups) == {"m"}


def test_a_refused_request_is_counted_and_no_write(api: Api, emulator: Emulator) -> None:
    api.upsert("m", {})
    assert sum(emulator.requests.values()) == 1
    assert not emulator.writes


def test_changes_by_somebody_else_are_seen_and_not_counted(api: Api, emulator: Emulator) -> None:
    emulator.put("m", selector=[RULE], evaluators=["word-count"])
    emulator.put("m", evaluator_configs=[{"slug": "faithfulness", "scope": "span"}])
    read = api.get("m").json
    assert read["init_rules"] == [{**RULE, "operator": "equals"}]
    assert [(e["evaluator_type"], e["scope"]) for e in read["evaluators"]] == [
        ("faithfulness", "span")
    ]
    assert emulator.delete("m")
    assert not emulator.delete("m")
    assert api.get("m").status == 404
    assert not emulator.writes
    assert set(emulator.requests) == {f"GET {SETUPS}/{{external_id}}"}


def test_an_invalid_change_by_somebody_else_is_a_value_error(emulator: Emulator) -> None:
    with pytest.raises(ValueError, match="unknown evaluator slug"):
        emulator.put("m", selector=[RULE], evaluators=["nope"])


def test_controls_and_requests_from_many_threads_do_not_disturb_each_other(
    api: Api, emulator: Emulator
) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(15):
                emulator.put(f"c-{number}-{i}", **CONTENT)
                assert api.bulk(setup(f"a-{number}-{i}"), setup(f"b-{number}-{i}")).status == 207
                emulator.fail_evaluator("faithfulness", "x")
                assert f"a-{number}-{i}" in emulator.setups
        except BaseException as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert errors == []
    assert len(emulator.setups) == 4 * 15 * 3


# -- faults --


@pytest.mark.parametrize("status", [401, 403, 408, 429, 500, 502, 503, 504])
def test_a_fault_answers_instead_of_the_service_and_nothing_is_written(
    api: Api, emulator: Emulator, status: int
) -> None:
    emulator.inject(Fault(status=status))
    reply = api.upsert("m")
    assert reply.status == status
    assert reply.error
    assert emulator.setups == {}
    assert api.upsert("m").status == 201


def test_the_text_of_a_500_is_the_documented_one(api: Api, emulator: Emulator) -> None:
    emulator.inject(Fault(status=500))
    assert api.get("m").error == "internal server error"


def test_a_fault_can_write_first(api: Api, emulator: Emulator) -> None:
    emulator.inject(Fault(status=502, when="after_write"))
    assert api.upsert("m").status == 502
    assert set(emulator.setups) == {"m"}


def test_a_fault_can_answer_a_gateways_page(api: Api, emulator: Emulator) -> None:
    emulator.inject(Fault(status=504, body_kind="html"))
    reply = api.get("m")
    assert reply.headers.get_content_type() == "text/html"
    assert "<h1>504 Gateway Timeout</h1>" in reply.text


def test_a_fault_can_answer_as_the_gateway_does(api: Api, emulator: Emulator) -> None:
    emulator.inject(Fault(status=404, body_kind="kong"))
    reply = api.get("m")
    assert json.loads(reply.text) == {"message": "no Route matched with those values"}
    assert len(reply.headers["X-Kong-Request-Id"]) == 32


@pytest.mark.parametrize(
    ("kind", "text"), [("text", "404 page not found\n"), ("empty", "")], ids=["text", "empty"]
)
def test_a_fault_can_answer_as_another_server_does(
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
def test_a_dropped_connection_gives_no_answer(
    api: Api, emulator: Emulator, drop: Any, written: set[str]
) -> None:
    emulator.inject(Fault(drop=drop))
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        api.upsert("m")
    assert set(emulator.setups) == written
    assert emulator.log[0].status is None


def test_a_truncated_body_can_be_a_complete_answer_with_half_a_document(
    api: Api, emulator: Emulator
) -> None:
    emulator.inject(Fault(truncate="json"))
    reply = api.upsert("größe")
    assert reply.status == 201
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(reply.text)


@pytest.mark.parametrize("kind", ["length", "chunked"])
def test_a_truncated_body_can_break_off(api: Api, emulator: Emulator, kind: Any) -> None:
    emulator.inject(Fault(truncate=kind))
    with pytest.raises(http.client.IncompleteRead) as caught:
        api.upsert("m")
    assert caught.value.partial
    assert set(emulator.setups) == {"m"}


@pytest.mark.parametrize(("body", "text"), [("[1, 2", "[1, 2"), (b"", ""), (b"\xc3\xa9", "é")])
def test_a_fault_can_send_any_body(api: Api, emulator: Emulator, body: Any, text: str) -> None:
    emulator.inject(Fault(body=body))
    reply = api.upsert("m")
    assert (reply.status, reply.text) == (201, text)
    emulator.inject(Fault(body=body, status=418))
    reply = api.upsert("m")
    assert (reply.status, reply.text) == (418, text)


@pytest.mark.parametrize(("when", "written"), [("before_write", set()), ("after_write", {"m"})])
def test_a_delay_falls_before_or_after_the_write(when: Any, written: set[str]) -> None:
    with Emulator() as emulator:
        emulator.inject(Fault(delay=600, when=when))
        url = urlsplit(emulator.url)
        connection = http.client.HTTPConnection(url.netloc, timeout=20)
        headers = {"Authorization": f"Bearer {emulator.api_key}"}
        connection.request("PUT", upsert_path("m"), json.dumps(CONTENT), headers)
        # Another request's answer shows that the first has got as far as it can.
        until(lambda: bool(emulator.log) and not emulator.faults)
        assert Api(emulator).list() is not None
        assert set(emulator.setups) == written
        connection.close()


def test_a_client_that_hangs_up_does_not_stop_the_write() -> None:
    with Emulator() as emulator:
        emulator.inject(Fault(delay=0.1))
        url = urlsplit(emulator.url)
        connection = http.client.HTTPConnection(url.netloc, timeout=20)
        headers = {"Authorization": f"Bearer {emulator.api_key}"}
        connection.request("PUT", upsert_path("m"), json.dumps(CONTENT), headers)
        until(lambda: bool(emulator.log) and not emulator.faults)
        connection.close()
        until(lambda: "m" in emulator.setups)


def test_latency_delays_every_answer_and_can_be_changed(api: Api, emulator: Emulator) -> None:
    emulator.latency = 0.05
    start = time.monotonic()
    api.list()
    assert time.monotonic() - start >= 0.05


def test_a_hidden_setup_is_missing_from_the_list_and_found_by_its_id(
    api: Api, emulator: Emulator
) -> None:
    for external_id in ("a", "b"):
        api.upsert(external_id)
    fault = emulator.inject(Fault(hide=["a"], times=None))
    assert [s["external_id"] for s in api.list()] == ["b"]
    assert api.list("?external_id=a") == []
    assert api.get("a").status == 200
    emulator.remove(fault)
    assert len(api.list()) == 2


def test_an_item_error_refuses_one_item_of_a_bulk(api: Api, emulator: Emulator) -> None:
    emulator.inject(Fault(item_error={"b": "internal error"}))
    entries = api.bulk(setup("a"), setup("b")).json["setups"]
    assert [e["status"] for e in entries] == ["ok", "error"]
    assert entries[1]["error"] == "setups[1]: internal error"
    assert set(emulator.setups) == {"a"}
    assert emulator.writes == {"a": 1}


def test_an_item_error_can_lie_about_a_write(api: Api, emulator: Emulator) -> None:
    emulator.inject(Fault(item_error={"a": "internal error"}, when="after_write"))
    assert api.bulk(setup("a")).json["setups"][0]["status"] == "error"
    assert set(emulator.setups) == {"a"}


def test_an_item_error_waits_for_a_batch_with_that_item(api: Api, emulator: Emulator) -> None:
    emulator.inject(Fault(item_error={"b": "internal error"}))
    api.bulk(setup("a"))
    api.upsert("b")
    assert api.bulk(setup("b")).json["setups"][0]["status"] == "error"


def test_a_bulk_answer_can_be_reordered_and_shortened(api: Api, emulator: Emulator) -> None:
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


def test_a_fault_without_end_lasts_until_it_is_removed(api: Api, emulator: Emulator) -> None:
    emulator.inject(Fault(status=503, times=None))
    assert [api.get("m").status for _ in range(3)] == [503] * 3
    emulator.clear_faults()
    assert api.get("m").status == 404


def test_faults_that_answer_follow_one_another(api: Api, emulator: Emulator) -> None:
    emulator.inject(Fault(status=503))
    emulator.inject(Fault(status=429))
    assert [api.get("m").status for _ in range(3)] == [503, 429, 404]


def test_a_fault_can_be_for_one_route(api: Api, emulator: Emulator) -> None:
    emulator.inject(Fault(route="POST /v2/auto-monitor-setups/bulk", status=503))
    assert api.upsert("m").status == 201
    assert api.bulk(setup("m")).status == 503


def test_a_fault_can_be_for_one_setup_on_any_route(api: Api, emulator: Emulator) -> None:
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
def test_a_fault_for_one_setup_leaves_odd_bodies_to_the_route(
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
def test_a_fault_that_makes_no_sense_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|has no effect"):
        Fault(**values)


def test_more_requests_than_the_rate_limit_are_a_429_until_the_second_is_over(
    api: Api, emulator: Emulator, clock: ManualClock
) -> None:
    emulator.rate_limit = 2
    emulator.add_project("key-2")
    replies = [api.upsert(f"m-{i}") for i in range(3)]
    assert [r.status for r in replies] == [201, 201, 429]
    assert replies[2].headers["Retry-After"] == "1"
    assert replies[2].error == "rate limit exceeded"
    assert set(emulator.setups) == {"m-0", "m-1"}
    assert Api(emulator, "key-2").list() == []
    clock.advance(1)
    assert api.upsert("m-2").status == 201


# -- the emulator's own routes --


def admin(emulator: Emulator, method: str, path: str, body: Any = None) -> Reply:
    return Api(emulator).call(method, f"/_emulator{path}", body, headers={})


def test_another_process_can_add_an_evaluator(api: Api, emulator: Emulator) -> None:
    assert admin(emulator, "POST", "/evaluators", {"slug": "my-judge"}).status == 204
    assert api.upsert("m", {**CONTENT, "evaluators": ["my-judge"]}).status == 201


def test_another_process_can_inject_and_clear_faults(api: Api, emulator: Emulator) -> None:
    fault = {"status": 503, "retry_after": 2, "times": None, "external_id": "m"}
    assert admin(emulator, "POST", "/faults", fault).status == 204
    assert api.get("m").headers["Retry-After"] == "2"
    assert admin(emulator, "DELETE", "/faults").status == 204
    assert api.get("m").status == 404


@pytest.mark.parametrize("body", [{}, {"stats": 503}, {"status": "x"}, [], {"hide": 7}])
def test_a_bad_fault_is_a_400(emulator: Emulator, body: Any) -> None:
    assert admin(emulator, "POST", "/faults", body).status == 400
    assert emulator.faults == []


def test_another_process_can_read_and_reset_the_counters(api: Api, emulator: Emulator) -> None:
    api.upsert("m")
    seen = admin(emulator, "GET", "/requests").json
    assert seen["requests"] == {f"PUT {SETUPS}/by-external-id/{{external_id}}": 1}
    assert seen["writes"] == {"m": 1}
    assert seen["log"][0]["external_ids"] == ["m"]
    assert admin(emulator, "DELETE", "/requests").status == 204
    assert emulator.requests == {}


def test_another_process_can_change_a_setup_behind_the_back(api: Api, emulator: Emulator) -> None:
    assert admin(emulator, "PUT", "/setups/a%2Fb", CONTENT).json["external_id"] == "a/b"
    assert set(emulator.setups) == {"a/b"}
    assert admin(emulator, "DELETE", "/setups/a%2Fb").json == {"deleted": True}
    assert emulator.setups == {}
    assert emulator.requests == {}


# -- running and keeping --


def test_the_fixture_gives_a_fresh_emulator(traceloop_emulator: Emulator) -> None:
    assert traceloop_emulator.setups == {}
    assert Api(traceloop_emulator).upsert("m").status == 201


def test_it_listens_on_loopback_and_a_free_port() -> None:
    with Emulator() as one, Emulator() as two:
        assert one.url.startswith("http://127.0.0.1:")
        assert one.url != two.url


def test_a_port_in_use_is_an_error_of_start(emulator: Emulator) -> None:
    other = Emulator(port=urlsplit(emulator.url).port or 0)
    with contextlib.closing(other), pytest.raises(OSError, match="in use"):
        other.start()


def test_it_can_stop_and_start_again_on_the_same_port_with_its_data(
    api: Api, emulator: Emulator
) -> None:
    api.upsert("m")
    url = emulator.url
    emulator.stop()
    with pytest.raises(ConnectionRefusedError):
        api.list()
    emulator.start()
    assert emulator.url == url
    assert len(api.list()) == 1


def test_a_stop_does_not_wait_for_delayed_answers() -> None:
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


def test_a_stop_under_a_frozen_clock_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tools that freeze the time for a test stop the event loop's timers, too."""
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


def test_setups_and_custom_evaluators_survive_a_restart(tmp_path: Path) -> None:
    data = str(tmp_path / "setups.db")
    with Emulator(data=data, evaluators=["my-judge"]) as emulator:
        Api(emulator).upsert("a/b", {**CONTENT, "evaluators": ["my-judge"]})
        Api(emulator).upsert("gone")
        before = emulator.setups["a/b"]
        ids = {s["id"] for s in emulator.setups.values()}
        emulator.delete("gone")
    with Emulator(data=data, api_key="new-key") as emulator:
        assert emulator.setups == {"a/b": before}
        fresh = Api(emulator).upsert("n", {**CONTENT, "evaluators": ["my-judge"]})
        assert fresh.status == 201
        assert fresh.json["id"] not in ids


@pytest.mark.parametrize("content", ["text", "sqlite"])
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.db"
    if content == "text":
        path.write_text("not a database, and long enough to be sure of it " * 50)
    else:
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE setups (a)")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="not a data file of this emulator"):
        Emulator(data=str(path))
    assert path.read_bytes() == before


def test_ids_are_the_same_in_each_run_and_differ_with_the_seed() -> None:
    def made(seed: int) -> Any:
        with Emulator(seed=seed) as emulator:
            return Api(emulator).upsert("m").json["id"]

    assert made(0) == made(0)
    assert made(0) != made(1)


@pytest.mark.timed
def test_ten_thousand_setups_are_listed_in_well_under_a_second(
    api: Api, emulator: Emulator
) -> None:
    for start in range(0, 10_000, 100):
        api.bulk(*(setup(f"m-{i}") for i in range(start, start + 100)))
    api.list()
    begin = time.monotonic()
    reply = api.call("GET", SETUPS)
    assert time.monotonic() - begin < 1
    assert len(reply.json) == 10_000


# -- the command --


@contextlib.contextmanager
def command(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the emulator as a user does; yield the process and what it printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pulumi_traceloop.emulator", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with process:
        try:
            assert process.stdout
            lines = []
            for line in process.stdout:
                lines.append(line)
                if "TRACELOOP_API_KEY" in line:
                    break
            yield process, "".join(lines)
        finally:
            process.kill()


def call_url(url: str, method: str, path: str, key: str, body: Any = None) -> Reply:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    with contextlib.closing(connection):
        data = None if body is None else json.dumps(body).encode()
        connection.request(
            method, urlsplit(url).path + path, data, {"Authorization": f"Bearer {key}"}
        )
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read().decode())


def url_in(text: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+\S*?(?=,)", text)
    assert found, text
    return found.group()


def test_the_command_prints_how_to_use_it_and_stops_on_sigterm() -> None:
    arguments = ["--api-key", "k 1", "--evaluator", "my-judge", "--base-path", "/api"]
    with command(*arguments, "--project", "k2=env-2", "--settle", "0") as (process, text):
        url = url_in(text)
        assert f"pulumi config set traceloop:baseUrl {url}\n" in text
        assert "pulumi config set --secret traceloop:apiKey 'k 1'\n" in text
        assert f"export TRACELOOP_BASE_URL={url}\n" in text
        assert "export TRACELOOP_API_KEY='k 1'\n" in text
        body = {**CONTENT, "evaluators": ["my-judge"]}
        assert call_url(url, "PUT", upsert_path("m"), "k 1", body).status == 201
        other = call_url(url, "PUT", upsert_path("m"), "k2", body)
        assert (other.status, other.json["env_project_id"]) == (201, "env-2")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, "", "")


def test_the_commands_help_tells_each_default_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith("usage: python -m pulumi_traceloop.emulator [-h]")
    assert re.findall(r"\(default: ([^)]*)\)", text) == [
        *("127.0.0.1", "8787", "emulator-key", "in memory", "5.0", "1", "0", "0.0", "none")
    ]


def test_the_command_stops_cleanly_on_ctrl_c() -> None:
    with command() as (process, _):
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (0, "")


def test_setups_survive_a_sigkill(tmp_path: Path) -> None:
    data = str(tmp_path / "setups.db")
    with command("--data", data, "--api-key", "k") as (process, text):
        batch = {"setups": [setup(f"m-{i}") for i in range(50)]}
        assert call_url(url_in(text), "POST", BULK, "k", batch).status == 207
        process.kill()
        process.wait(20)
    with Emulator(data=data) as emulator:
        assert len(emulator.setups) == 50


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--port", "{port}", r"port \d+ is in use; --port 0 chooses a free one"),
        ("--port", "99999", r"the port must be from 0 to 65535, not 99999"),
        ("--port", "-1", r"the port must be from 0 to 65535, not -1"),
        ("--data", "{path}/x", r".*/x is not a data file of this emulator: file is not a database"),
        (
            "--data",
            "{path}",
            r".* is not a data file of this emulator: unable to open database file",
        ),
        ("--data", "{path}/no/x", r".*/x is not a data file of this emulator: unable to open .*"),
    ],
)
def test_the_command_says_in_one_line_why_it_cannot_start(
    emulator: Emulator, tmp_path: Path, option: str, value: str, reason: str
) -> None:
    (tmp_path / "x").write_text("not a database, and long enough to be sure of it " * 50)
    given = value.format(port=urlsplit(emulator.url).port, path=tmp_path)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pulumi_traceloop.emulator", f"{option}={given}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"cannot start: {reason}\n", done.stderr)


def test_loading_the_pytest_plugin_does_not_load_aiohttp() -> None:
    code = (
        "import sys, pulumi_traceloop.emulator.pytest_plugin as p; print('aiohttp' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.strip() == "False"


def until(condition: Any, seconds: float = 20) -> None:
    """Wait for what another thread is about to do."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)
