"""The emulator accepts OTLP, returns spans as the page "Get Spans" says, and matches them."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pulumi_traceloop.emulator import Emulator, Fault
from pulumi_traceloop.emulator.app import make_app
from pulumi_traceloop.emulator.span_log import KEPT
from tests.support import REPOSITORY
from tests.support.api import Api
from tests.support.clock import Clock
from tests.support.otlp import PARENT_ID, SPAN_ID, START, TRACE_ID, export, span

TRACES, SPANS = "/v1/traces", "/v2/warehouse/spans"
PROTOBUF, JSON = "application/x-protobuf", "application/json"

CAPTURE = Path(__file__).parent / "data" / "spans" / "openllmetry-0.62.4.jsonl"


def as_protobuf(document: dict[str, Any]) -> bytes:
    """Return the document in protobuf, whose ids are bytes, not base64."""
    request = ParseDict(document, ExportTraceServiceRequest())
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for each in scope_spans.spans:
                each.trace_id, each.span_id = bytes.fromhex(TRACE_ID), bytes.fromhex(SPAN_ID)
    return request.SerializeToString()


class Telemetry(Api):
    """Requests of an instrumented program, and of one that reads spans."""

    def send(self, *spans: dict[str, Any], **resource: Any) -> None:
        reply = self.post(json.dumps(export(*spans, **resource)).encode())
        assert reply == (200, "{}")

    def post(self, body: bytes, kind: str = JSON, **headers: str) -> tuple[int, str]:
        auth = {"Authorization": f"Bearer {self.key}", "Content-Type": kind}
        reply = self.call("POST", TRACES, body, {**auth, **headers})
        return reply.status, reply.text

    def find(self, **query: Any) -> dict[str, Any]:
        query = {"from_timestamp_sec": 0, **query}
        if "filters" in query:
            query["filters"] = json.dumps(query["filters"])
        reply = self.call("GET", f"{SPANS}?{urlencode(query)}")
        assert reply.status == 200, reply.text
        found = reply.json["spans"]
        assert isinstance(found, dict)
        return found

    def names(self, **query: Any) -> list[str]:
        return [each["span_name"] for each in self.find(**query)["data"]]

    def status(self, external_id: str) -> str:
        status = self.get(external_id).json["status"]
        assert isinstance(status, str)
        return status


@pytest.fixture
def clock() -> Clock:
    return Clock(START)


@pytest.fixture
def emulator(clock: Clock) -> Iterator[Emulator]:
    with Emulator(clock=clock, spans_needed=1) as running:
        yield running


@pytest.fixture
def api(emulator: Emulator) -> Telemetry:
    return Telemetry(emulator.url, emulator.api_key)


def monitor(value: str = "openai", key: str = "gen_ai.provider.name", **rule: Any) -> Any:
    rules = [{"key": key, "source": "span_attributes", "value": value, **rule}]
    return {"selector": rules, "evaluators": ["faithfulness"]}


class TestIntake:
    """`POST /v1/traces`."""

    def test_span_has_the_documented_shape(self, api: Telemetry) -> None:
        sent = {
            **span(values={"gen_ai.usage.input_tokens": 150, "gen_ai.prompt.0.content": "Hello"}),
            "parentSpanId": PARENT_ID,
            "status": {"code": 2, "message": "boom"},
        }
        api.send(sent, **{"telemetry.sdk.language": "python"})
        (found,) = api.find()["data"]
        assert found == {
            "environment": "cm9v2ga9i0000emulatorenv0",
            "timestamp": START * 1000,
            "trace_id": TRACE_ID,
            "span_id": SPAN_ID,
            "parent_span_id": PARENT_ID,
            "trace_state": "",
            "span_name": "openai.chat",
            "span_kind": "SPAN_KIND_CLIENT",
            "service_name": "shop",
            "resource_attributes": {"service.name": "shop", "telemetry.sdk.language": "python"},
            "scope_name": "opentelemetry.instrumentation.openai.v1",
            "scope_version": "0.62.4",
            "span_attributes": {
                "gen_ai.provider.name": "openai",
                "gen_ai.usage.input_tokens": "150",
                "gen_ai.prompt.0.content": "Hello",
            },
            "duration": 1850,
            "status_code": "STATUS_CODE_ERROR",
            "status_message": "boom",
            "prompts": {"llm.prompts.0.content": "Hello"},
            "completions": {},
            "input": "",
            "output": "",
        }

    def test_values_are_stored_as_text(self, api: Telemetry) -> None:
        given = {"a": True, "b": 7, "c": 0.5, "d": ["x", 1], "e": {"k": False}, "f": None, "g": 1.0}
        api.send(span(values=given))
        (found,) = api.find()["data"]
        texts = {key: found["span_attributes"][key] for key in given}
        assert texts == {
            "a": "true",
            "b": "7",
            "c": "0.5",
            "d": '["x",1]',
            "e": '{"k":false}',
            "f": "",
            "g": "1",
        }

    def test_protobuf_and_json_are_equivalent(self, api: Telemetry) -> None:
        document = export(
            span(values={"n": 1, "f": 0.25, "many": ["a"], "traceloop.entity.input": "{}"})
        )
        assert api.post(json.dumps(document).encode()) == (200, "{}")
        assert api.post(as_protobuf(document), PROTOBUF) == (200, "")
        first, second = api.find()["data"]
        assert first == second
        assert first["trace_id"] == TRACE_ID
        assert first["input"] == "{}"

    @pytest.mark.parametrize("kind", [PROTOBUF, JSON])
    def test_gzip_body(self, api: Telemetry, kind: str) -> None:
        document = export(span())
        body = as_protobuf(document) if kind == PROTOBUF else json.dumps(document).encode()
        packed = {"Content-Encoding": "gzip"}
        assert api.post(gzip.compress(body), kind, **packed)[0] == 200
        assert api.names() == ["openai.chat"]
        assert api.post(body, kind, **packed)[0] == 400

    def test_captured_export_of_the_sdk_is_accepted(self, api: Telemetry) -> None:
        for line in CAPTURE.read_bytes().splitlines():
            assert api.post(line) == (200, "{}")
        found = api.find()
        assert found["total_results"] == 12
        assert {each["span_kind"] for each in found["data"]} == {
            "SPAN_KIND_CLIENT",
            "SPAN_KIND_INTERNAL",
        }

    @pytest.mark.parametrize(
        ("body", "kind", "status"),
        [
            (b"{}", "text/plain", 415),
            (b"{", JSON, 400),
            (b"[]", JSON, 400),
            (b"\xff\xff", JSON, 400),
            (b'{"resourceSpans": 1}', JSON, 400),
            (b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"abcd"}]}]}]}', JSON, 400),
            (b"\x0a\x05ab", PROTOBUF, 400),
        ],
    )
    def test_malformed_export_is_refused(
        self, api: Telemetry, emulator: Emulator, body: bytes, kind: str, status: int
    ) -> None:
        got, text = api.post(body, kind)
        assert got == status
        assert set(json.loads(text)) == {"error"}
        assert emulator.spans == []

    def test_unknown_fields_and_an_empty_export_are_accepted(self, api: Telemetry) -> None:
        assert api.post(b'{"resourceSpans":[], "later": {"x": 1}}') == (200, "{}")
        assert api.post(b"", PROTOBUF) == (200, "")

    def test_key_is_required_and_faults_apply(self, api: Telemetry, emulator: Emulator) -> None:
        assert api.post(b"{}", Authorization="Bearer wrong")[0] == 401
        emulator.inject(Fault(route="POST /v1/traces", status=503, retry_after=1))
        assert api.post(b"{}")[0] == 503
        assert api.post(b"{}")[0] == 200

    def test_metrics_are_accepted_and_dropped(self, api: Telemetry, emulator: Emulator) -> None:
        headers = {"Authorization": f"Bearer {api.key}", "Content-Type": PROTOBUF}
        assert api.call("POST", "/v1/metrics", b"anything", headers).status == 200
        assert emulator.spans == []

    def test_content_of_end_users_is_in_no_log_and_no_file(self, tmp_path: Path) -> None:
        planted = "my-card-is-4711"
        data = tmp_path / "emulator.db"
        with Emulator(data=str(data), spans_needed=1) as emulator:
            api = Telemetry(emulator.url, emulator.api_key)
            body = json.dumps(export(span(values={"gen_ai.input.messages": planted}))).encode()
            api.post(body)
            api.post(body, Authorization="Bearer wrong")
            assert planted in json.dumps(emulator.spans)
            assert planted not in repr(emulator.log)
            assert planted not in api.call("GET", "/_emulator/requests").text
        with contextlib.closing(sqlite3.connect(data)) as db:
            assert planted not in "\n".join(db.iterdump())

    def test_latest_spans_are_kept(self, api: Telemetry, emulator: Emulator) -> None:
        for start in range(0, KEPT + 1000, 1000):
            api.send(*(span(f"s{start + i}") for i in range(1000)))
        assert len(emulator.spans) == KEPT
        assert emulator.spans[0]["span_name"] == "s1000"


class TestFinding:
    """`GET /v2/warehouse/spans`."""

    @pytest.fixture(autouse=True)
    def spans(self, api: Telemetry) -> None:
        api.send(
            span("b", {"traceloop.workflow.name": "answer", "n": 9}, after=2, lasts=1),
            span("a", {"traceloop.workflow.name": "search", "n": 10}, after=1, lasts=3),
            span("c", {"gen_ai.provider.name": "anthropic"}, after=3, lasts=2),
        )

    def test_start_is_required(self, api: Telemetry) -> None:
        reply = api.call("GET", SPANS)
        assert (reply.status, reply.error) == (
            400,
            "invalid input: from_timestamp_sec is required",
        )

    def test_oldest_first_by_default(self, api: Telemetry) -> None:
        assert api.names() == ["a", "b", "c"]
        assert api.names(sort_order="DESC") == ["c", "b", "a"]
        assert api.names(sort_by="duration_ms") == ["b", "c", "a"]
        assert api.names(sort_by="span_name", sort_order="DESC") == ["c", "b", "a"]
        assert api.names(sort_by="traceloop_workflow_name") == ["c", "b", "a"]

    def test_times_limit_the_result(self, api: Telemetry) -> None:
        assert api.names(from_timestamp_sec=START + 2) == ["b", "c"]
        assert api.names(to_timestamp_sec=START + 2) == ["a", "b"]

    def test_simple_filters(self, api: Telemetry) -> None:
        assert api.names(workflow="answer") == ["b"]
        assert api.names(span_name="c") == ["c"]
        assert api.names(**{"gen_ai.provider.name": "openai"}) == ["a", "b"]
        assert api.names(**{"gen_ai.provider.name": "openai", "n": 9}) == ["b"]

    @pytest.mark.parametrize(
        ("operator", "value", "names"),
        [
            ("equals", 10, ["a"]),
            ("not_equals", "10", ["b", "c"]),
            ("greater_than", 9, ["a"]),
            ("greater_than_or_equal", 9, ["a", "b"]),
            ("less_than", "10", ["b"]),
            ("less_than_or_equal", 10, ["a", "b"]),
            ("contains", "0", ["a"]),
            ("starts_with", "1", ["a"]),
            ("in", [9, "x"], ["b"]),
            ("not_in", ["9"], ["a", "c"]),
            ("exists", None, ["a", "b"]),
            ("not_exists", None, ["c"]),
        ],
    )
    def test_filters_by_operator(
        self, api: Telemetry, operator: str, value: Any, names: list[str]
    ) -> None:
        filters = [{"id": "n", "operator": operator, "value": value}]
        assert api.names(filters=filters) == names

    def test_results_are_paged(self, api: Telemetry) -> None:
        """Spans that arrive between two pages neither repeat nor hide others."""
        first = api.find(limit=2, sort_order="DESC")
        assert [each["span_name"] for each in first["data"]] == ["c", "b"]
        assert (first["page_size"], first["total_results"]) == (2, 3)
        api.send(span("d", after=4))
        second = api.find(limit=2, sort_order="DESC", cursor=first["next_cursor"])
        assert [each["span_name"] for each in second["data"]] == ["a"]
        assert second["next_cursor"] == ""

    @pytest.mark.parametrize(
        "query",
        [
            {"from_timestamp_sec": "yesterday"},
            {"limit": "0"},
            {"sort_order": "asc"},
            {"sort_by": "colour"},
            {"cursor": "x"},
            {"filters": "x"},
            {"filters": '[{"id": "n"}]'},
            {"filters": '[{"id": "n", "operator": "like", "value": "x"}]'},
            {"filters": '[{"id": "n", "operator": "in", "value": 1}]'},
        ],
    )
    def test_invalid_request_is_refused(self, api: Telemetry, query: dict[str, str]) -> None:
        reply = api.call("GET", f"{SPANS}?{urlencode({'from_timestamp_sec': 0, **query})}")
        assert reply.status == 400, reply.text
        assert reply.error.startswith("invalid input: ")

    def test_each_key_sees_its_own_environment(self, api: Telemetry, emulator: Emulator) -> None:
        emulator.add_project("key-2", env_project_id="env-2")
        other = Telemetry(emulator.url, "key-2")
        assert other.names() == []
        other.send(span("theirs"))
        assert other.find()["data"][0]["environment"] == "env-2"
        assert "theirs" not in api.names()


class TestStatus:
    """accepted, then `waiting_for_spans`, then `completed`."""

    def test_setup_waits_until_a_span_matches(
        self, api: Telemetry, emulator: Emulator, clock: Clock
    ) -> None:
        emulator.settle = 10
        api.upsert("seen", monitor())
        api.upsert("unseen", monitor(key="gen_ai.system"))
        assert api.status("seen") == "pending"
        clock.advance(10)
        assert api.status("seen") == "waiting_for_spans"
        assert [e["status"] for e in api.get("seen").json["evaluators"]] == ["pending"]
        api.send(span())
        assert api.status("seen") == "completed"
        (evaluator,) = api.get("seen").json["evaluators"]
        assert evaluator["status"] == "completed"
        assert api.status("unseen") == "waiting_for_spans"
        assert [s["external_id"] for s in api.list("?status=waiting_for_spans")] == ["unseen"]

    def test_time_of_the_match_is_the_time_of_processing(
        self, api: Telemetry, clock: Clock
    ) -> None:
        api.upsert("m", monitor())
        clock.advance(100)
        api.send(span())
        (evaluator,) = api.get("m").json["evaluators"]
        assert evaluator["processed_at"] == "2026-05-28T20:28:20Z"

    def test_required_number_of_spans(self, api: Telemetry, emulator: Emulator) -> None:
        emulator.spans_needed = 3
        api.upsert("m", monitor())
        api.send(span(), span(values={"gen_ai.provider.name": "anthropic"}), span())
        assert api.status("m") == "waiting_for_spans"
        api.send(span())
        assert api.status("m") == "completed"

    def test_all_rules_must_match_on_both_sides(self, api: Telemetry) -> None:
        service = {"key": "service.name", "source": "resource_attributes", "value": "cart"}
        api.upsert("m", {**monitor(), "selector": [*monitor()["selector"], service]})
        api.send(span())
        assert api.status("m") == "waiting_for_spans"
        api.send(span(), **{"service.name": "cart"})
        assert api.status("m") == "completed"

    def test_spans_before_the_write_do_not_count(self, api: Telemetry) -> None:
        """The page says "incoming" spans; an upsert starts again."""
        api.send(span())
        api.upsert("m", monitor())
        assert api.status("m") == "waiting_for_spans"
        api.send(span())
        assert api.status("m") == "completed"
        api.upsert("m", monitor())
        assert api.status("m") == "waiting_for_spans"

    def test_spans_of_another_environment_do_not_count(
        self, api: Telemetry, emulator: Emulator
    ) -> None:
        emulator.add_project("key-2", same_project_as=api.key)
        api.upsert("m", monitor())
        Telemetry(emulator.url, "key-2").send(span())
        assert api.status("m") == "waiting_for_spans"

    def test_failing_evaluator_fails_when_spans_arrive(
        self, api: Telemetry, emulator: Emulator
    ) -> None:
        emulator.fail_evaluator("faithfulness", "no quota")
        api.upsert("m", monitor())
        assert api.status("m") == "waiting_for_spans"
        api.send(span())
        assert api.status("m") == "failed"

    def test_completes_by_time_if_no_spans_are_required(self, api: Telemetry) -> None:
        """The default of `Emulator`, for tests that send no spans."""
        with Emulator() as emulator:
            emulator.put("m", **monitor())
            assert emulator.setups["m"]["status"] == "completed"

    def test_restart_keeps_the_matches(self, tmp_path: Path) -> None:
        data = str(tmp_path / "emulator.db")
        with Emulator(data=data, spans_needed=1) as emulator:
            api = Telemetry(emulator.url, emulator.api_key)
            api.upsert("m", monitor())
            api.send(span())
        with Emulator(data=data, spans_needed=1) as emulator:
            assert emulator.setups["m"]["status"] == "completed"
            assert emulator.spans == []

    def test_data_file_without_spans_is_read(self, tmp_path: Path) -> None:
        data = tmp_path / "emulator.db"
        data.write_bytes((Path(__file__).parent / "data" / "state-0.1.0.db").read_bytes())
        with Emulator(data=str(data)) as emulator:
            before = emulator.setups
            assert {s["status"] for s in before.values()} == {"completed"}
        with Emulator(data=str(data)) as emulator:
            assert emulator.setups == before


class TestControl:
    """From another process, under `/_emulator/`."""

    def test_required_spans_can_be_set(self, api: Telemetry) -> None:
        api.upsert("m", monitor())
        assert api.call("PUT", "/_emulator/spans_needed", {"spans": 0}).status == 204
        assert api.status("m") == "completed"

    @pytest.mark.parametrize("spans", [-1, "1", None, True])
    def test_invalid_number_is_refused(self, api: Telemetry, spans: Any) -> None:
        reply = api.call("PUT", "/_emulator/spans_needed", {"spans": spans})
        assert (reply.status, reply.error) == (400, "spans must be an integer, at least 0")

    def test_spans_can_be_forgotten(self, api: Telemetry) -> None:
        api.upsert("m", monitor())
        api.send(span())
        assert api.call("DELETE", "/_emulator/spans").status == 204
        assert api.names() == []
        assert api.status("m") == "completed"

    def test_documentation_has_every_route(self, emulator: Emulator) -> None:
        page = (REPOSITORY / "docs" / "emulator.md").read_text(encoding="utf-8")
        routes = {
            f"{route.method} {route.resource.canonical}"
            for route in make_app(emulator).router.routes()
            if route.resource and route.resource.canonical.startswith("/_emulator")
        }
        assert routes == set(re.findall(r"^\| `(\w+ /_emulator\S*)`", page, re.MULTILINE))
