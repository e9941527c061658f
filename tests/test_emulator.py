"""The emulator responds to each route as Traceloop's documentation says: `emulator/app.py`."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
from urllib.parse import quote, urlsplit

import pytest

from pulumi_traceloop.emulator import Emulator
from tests.support import API_KEY
from tests.support.api import (
    BULK,
    CONTENT,
    OTHER_RULE,
    RULE,
    SETUPS,
    Api,
    item,
    setup,
    upsert_path,
)
from tests.support.clock import Clock

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


# -- create --


def test_create_returns_201_with_the_documented_shape(api: Api) -> None:
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
        "created_at": "1970-01-01T00:16:40Z",
        "updated_at": "1970-01-01T00:16:40Z",
    }


def test_create_of_an_existing_external_id_is_refused(api: Api, emulator: Emulator) -> None:
    api.upsert("m")
    before = emulator.setups
    reply = api.call("POST", SETUPS, setup("m", evaluators=["faithfulness"]))
    assert reply.status == 400
    assert reply.error == 'invalid input: external_id "m" already exists'
    assert emulator.setups == before


# -- upsert --


def test_upsert_returns_201_if_it_creates_and_200_if_it_replaces(api: Api) -> None:
    assert api.upsert("m").status == 201
    assert api.upsert("m").status == 200


def test_upsert_replaces_the_content_and_keeps_the_identity(api: Api, clock: Clock) -> None:
    first = api.upsert("m").json
    clock.advance(30)
    api.upsert("m")
    clock.advance(30)
    second = api.upsert("m", {"selector": [OTHER_RULE], "evaluators": ["faithfulness"]}).json
    kept = ("id", "external_id", "org_id", "project_id", "env_project_id", "created_at")
    assert {name: second[name] for name in kept} == {name: first[name] for name in kept}
    assert second["init_rules"] == [{**OTHER_RULE, "operator": "equals"}]
    assert [e["evaluator_type"] for e in second["evaluators"]] == ["faithfulness"]
    assert second["updated_at"] == "1970-01-01T00:17:40Z"


def test_upsert_resets_the_status_even_with_equal_content(api: Api, emulator: Emulator) -> None:
    emulator.settle = 10
    api.upsert("m")
    assert isinstance(emulator.clock, Clock)
    emulator.clock.advance(10)
    assert api.get("m").json["status"] == "completed"
    api.upsert("m")
    assert api.get("m").json["status"] == "pending"


def test_response_to_a_write_is_pending_even_without_settling_time(api: Api) -> None:
    assert api.upsert("m").json["status"] == "pending"
    assert api.get("m").json["status"] == "completed"


def test_external_id_in_the_body_of_an_upsert_is_ignored(api: Api, emulator: Emulator) -> None:
    assert api.upsert("m", setup("other")).json["external_id"] == "m"
    assert set(emulator.setups) == {"m"}


# -- get, list, update, delete --


def test_get_returns_what_the_upsert_stored(api: Api) -> None:
    written = api.upsert("m").json
    read = api.get("m")
    assert read.status == 200
    settled = {"evaluators", "status"}
    assert {k: v for k, v in read.json.items() if k not in settled} == {
        k: v for k, v in written.items() if k not in settled
    }


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_missing_setup_is_a_404(api: Api, method: str) -> None:
    reply = api.call(method, item("gone"), CONTENT if method == "PUT" else None)
    assert (reply.status, reply.error) == (404, 'auto monitor setup "gone" not found')


def test_list_of_an_empty_project_is_an_empty_array(api: Api) -> None:
    assert api.list() == []


def test_list_returns_all_setups_and_filters_by_external_id(api: Api) -> None:
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


def test_empty_update_writes_nothing(api: Api, emulator: Emulator) -> None:
    api.upsert("m")
    emulator.reset_counts()
    assert api.call("PUT", item("m"), {}).status == 200
    assert not emulator.writes


def test_delete_returns_204_without_a_body_then_404(api: Api) -> None:
    api.upsert("m")
    reply = api.call("DELETE", item("m"))
    assert (reply.status, reply.text) == (204, "")
    assert api.call("DELETE", item("m")).status == 404


def test_recreated_setup_has_another_id(api: Api) -> None:
    first = api.upsert("m").json["id"]
    api.call("DELETE", item("m"))
    assert api.upsert("m").json["id"] != first


# -- bulk --


def test_bulk_returns_207_with_one_entry_per_item_in_input_order(
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


def test_bulk_accepts_a_hundred(api: Api, emulator: Emulator) -> None:
    assert api.bulk(*(setup(f"m-{i}") for i in range(100))).status == 207
    assert len(emulator.setups) == 100


# -- key, unknown routes, malformed requests --


@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "Bearer", "", f"Basic {API_KEY}", API_KEY]
)
def test_missing_or_wrong_key_is_a_401(api: Api, emulator: Emulator, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    reply = api.call("PUT", upsert_path("m"), CONTENT, headers)
    assert (reply.status, reply.error) == (401, "unauthorized")
    assert emulator.setups == {}


def test_revoked_key_is_a_401(api: Api, emulator: Emulator) -> None:
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
def test_unsupported_method_is_a_405(api: Api, emulator: Emulator, method: str, path: str) -> None:
    reply = api.call(method, path)
    assert reply.status == 405
    assert reply.headers["Allow"]
    assert emulator.requests == {"unmatched": 1}


@pytest.mark.parametrize(
    "path", ["/", "/v2", "/v1/auto-monitor-setups", f"{SETUPS}/a/b", SETUPS + "/"]
)
def test_unknown_path_is_a_404(api: Api, emulator: Emulator, path: str) -> None:
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
def test_body_that_is_not_a_json_object_is_a_400(
    api: Api, emulator: Emulator, method: str, path: str, body: bytes
) -> None:
    emulator.put("m", **CONTENT)
    reply = api.call(method, path, body)
    assert reply.status == 400
    assert reply.error.startswith("invalid request body: ")


def test_body_of_several_megabytes_is_accepted(api: Api) -> None:
    rule = {**RULE, "value": "x" * 3_000_000}
    assert api.upsert("m", {**CONTENT, "selector": [rule]}).status == 201


# -- awkward external ids --


@pytest.mark.parametrize("external_id", AWKWARD_IDS)
def test_awkward_external_id_works_on_every_route(
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


def test_ids_that_differ_only_in_encoding_are_different_setups(
    api: Api, emulator: Emulator
) -> None:
    for external_id in ("a/b", "a%2Fb", "a%252Fb"):
        assert api.upsert(external_id).status == 201
    assert set(emulator.setups) == {"a/b", "a%2Fb", "a%252Fb"}


def test_log_has_the_raw_path(emulator: Emulator) -> None:
    url = urlsplit(emulator.url)
    assert url.hostname
    assert url.port
    with socket.create_connection((url.hostname, url.port), timeout=20) as raw:
        raw.sendall(b"GET /v2/auto-monitor-setups/a%2Fb%3f HTTP/1.0\r\nHost: x\r\n\r\n")
        with raw.makefile("rb") as response:
            assert b" 401 " in response.readline()
    assert emulator.log[0].raw_path == "/v2/auto-monitor-setups/a%2Fb%3f"


def test_get_of_bulk_is_the_setup_with_that_external_id(api: Api) -> None:
    assert api.call("GET", BULK).status == 404
    api.upsert("bulk")
    assert api.call("GET", BULK).json["external_id"] == "bulk"


def test_external_id_in_invalid_utf8_does_not_break_the_server(api: Api) -> None:
    assert api.call("PUT", f"{SETUPS}/by-external-id/%FF", CONTENT).status < 500


def test_base_path_prefixes_every_route() -> None:
    with Emulator(base_path="api/") as emulator:
        api = Api(emulator.url, emulator.api_key)
        assert emulator.url.endswith("/api")
        assert emulator.root_url + "/api" == emulator.url
        assert api.upsert("a/b").status == 201
        assert api.get("a/b").status == 200
        assert emulator.requests["GET /v2/auto-monitor-setups/{external_id}"] == 1
        with contextlib.closing(http.client.HTTPConnection(urlsplit(emulator.url).netloc)) as bare:
            bare.request("GET", SETUPS)
            assert bare.getresponse().status == 404
