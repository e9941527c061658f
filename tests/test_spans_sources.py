"""Spans from files and from Traceloop, without content of end users: `spans/sources.py`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pulumi_traceloop._client import TraceloopClient
from pulumi_traceloop.errors import MalformedResponseError
from pulumi_traceloop.spans.matching import Span
from pulumi_traceloop.spans.sources import (
    SpanFileError,
    read_file,
    read_files,
    read_service,
)
from tests.support.span_service import PLANTED, SERVICE_SPAN, SpanService, page

CAPTURED = Path(__file__).parent / "data" / "spans" / "openllmetry-0.62.4.jsonl"


def otlp(*attributes: tuple[str, dict[str, Any]], **more: Any) -> dict[str, Any]:
    fields = [{"key": key, "value": value} for key, value in attributes]
    resource = [{"key": "service.name", "value": {"stringValue": "shop"}}]
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": resource},
                "scopeSpans": [{"spans": [{"name": "chat", "attributes": fields, **more}]}],
            }
        ]
    }


def written(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{x if isinstance(x, str) else json.dumps(x)}\n" for x in lines))
    return path


class TestFiles:
    def test_captured_spans_of_the_sdk(self) -> None:
        sample = read_file(CAPTURED)
        assert len(sample.spans) == 12
        assert not sample.problems
        chat = next(span for span in sample.spans if span.name == "openai.chat")
        assert chat.service == chat.resource_attributes["service.name"] == "shopping-assistant"
        assert chat.span_attributes["gen_ai.provider.name"] == "openai"
        assert chat.span_attributes["gen_ai.usage.total_tokens"] == "14"
        assert chat.span_attributes["gen_ai.response.finish_reasons"] == '["stop"]'
        assert chat.span_attributes["gen_ai.is_streaming"] == "false"
        assert chat.span_attributes["gen_ai.request.temperature"] == "0.2"
        assert chat.time == pytest.approx(1795678976.96)

    def test_content_of_end_users_is_dropped(self) -> None:
        spans = read_file(CAPTURED).spans
        assert any("gen_ai.input.messages" in span.span_attributes for span in spans)
        assert any("traceloop.entity.output" in span.span_attributes for span in spans)
        for text in ("order", "ship", "Refund", "SELECT"):
            assert text not in repr(
                [list(span.span_attributes.values()) for span in spans]
            ).replace("lookup_order", "")

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ({"stringValue": "1.0"}, "1.0"),
            ({"boolValue": True}, "true"),
            ({"intValue": "9007199254740993"}, "9007199254740993"),
            ({"intValue": 3}, "3"),
            ({"doubleValue": 1.0}, "1"),
            ({"doubleValue": 1}, "1"),
            ({"doubleValue": "NaN"}, "NaN"),
            ({"bytesValue": "aGVsbG8="}, "aGVsbG8="),
            ({"arrayValue": {"values": [{"intValue": "1"}, {"stringValue": "a"}]}}, '[1,"a"]'),
            ({"arrayValue": {}}, "[]"),
            (
                {"kvlistValue": {"values": [{"key": "a", "value": {"boolValue": False}}]}},
                '{"a":false}',
            ),
            ({"intValue": "many"}, ""),
            ({}, ""),
            (None, ""),
        ],
    )
    def test_values_become_text(self, tmp_path: Path, value: Any, text: str) -> None:
        (span,) = read_file(written(tmp_path / "x", otlp(("a", value)))).spans
        assert span.span_attributes == {"a": text}

    def test_one_document_over_many_lines(self, tmp_path: Path) -> None:
        text = json.dumps(otlp(("a", {"stringValue": "b"})), indent=2)
        assert len(read_file(written(tmp_path / "x", text)).spans) == 1

    @pytest.mark.parametrize(
        "document",
        [
            {"spans": {"data": [SERVICE_SPAN], "page_size": 1, "next_cursor": ""}},
            {"data": [SERVICE_SPAN]},
            [SERVICE_SPAN],
            SERVICE_SPAN,
        ],
    )
    def test_response_of_the_service(self, tmp_path: Path, document: Any) -> None:
        (span,) = read_file(written(tmp_path / "x", document)).spans
        assert span == Span(
            {
                "gen_ai.system": "openai",
                "gen_ai.usage.input_tokens": "9",
                "llm.is_streaming": "false",
                "gen_ai.prompt.0.content": None,
                "acme.notes": None,
            },
            {"service.name": "shop"},
            "openai.chat",
            "shop",
            1_700_000_000.5,
        )
        assert PLANTED not in repr(span)

    def test_malformed_line_is_named_and_skipped(self, tmp_path: Path) -> None:
        good = otlp(("a", {"stringValue": "b"}))
        path = written(
            tmp_path / "x.jsonl",
            good,
            f'{{"resourceSpans": "{PLANTED}',
            "",
            {"resourceMetrics": [PLANTED]},
            good,
        )
        sample = read_file(path)
        assert len(sample.spans) == 2
        assert sample.problems == [
            f"{path}:2: invalid JSON (Invalid control character at, column 40)",
            f"{path}:4: neither OTLP spans nor a response of Traceloop",
        ]

    def test_many_malformed_lines_are_counted(self, tmp_path: Path) -> None:
        path = written(tmp_path / "x", otlp(), *["{"] * 30)
        problems = read_file(path).problems
        assert len(problems) == 11
        assert problems[-1] == f"{path}: 20 more lines cannot be read"

    @pytest.mark.parametrize(
        "text",
        ["", PLANTED, "[]", "{}", "null", "[" * 100_000, '{"resourceSpans": []}', '"\ud800"'],
    )
    def test_file_without_spans_is_an_error(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "x"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(SpanFileError) as caught:
            read_file(path)
        assert str(path) in str(caught.value)
        assert PLANTED not in str(caught.value)

    @pytest.mark.parametrize(
        "broken",
        [
            {"resourceSpans": [None, 1, {"resource": 1, "scopeSpans": 2}]},
            {"resourceSpans": [{"scopeSpans": [None, {"spans": [None, 3]}]}]},
        ],
    )
    def test_items_that_are_not_spans_are_skipped(self, tmp_path: Path, broken: Any) -> None:
        assert len(read_file(written(tmp_path / "x", broken, otlp())).spans) == 1

    def test_list_of_export_requests(self, tmp_path: Path) -> None:
        (first, second) = read_file(
            written(tmp_path / "x", [otlp(("a", {"intValue": 1}))] * 2)
        ).spans
        assert first == second
        assert first.span_attributes == {"a": "1"}

    @pytest.mark.parametrize(
        "other",
        [
            {"data": [{"traceID": "1", "spans": [{"operationName": "x"}]}]},  # Jaeger
            [{"traceId": "1", "name": "x", "tags": {"a": "b"}}],  # Zipkin
            {"resource_spans": []},
            [[{"a": "b"}], {"a": "b"}],
        ],
    )
    def test_other_formats_are_an_error(self, tmp_path: Path, other: Any) -> None:
        """Their spans would have no attributes, so that every ``not_`` rule would match."""
        with pytest.raises(SpanFileError, match="neither OTLP spans nor a response of Traceloop"):
            read_file(written(tmp_path / "x", other))

    def test_odd_spans_are_spans(self, tmp_path: Path) -> None:
        odd = otlp(startTimeUnixNano="later")
        odd["resourceSpans"][0]["scopeSpans"][0]["spans"][0] |= {"attributes": [{}], "name": 3}
        (span,) = read_file(written(tmp_path / "x", odd)).spans
        assert span == Span({}, {"service.name": "shop"}, service="shop")

    @pytest.mark.parametrize("time", [0, -1, 1e300, "nan", "1" * 400, 2**80, None, [], True])
    def test_odd_times_are_dropped(self, tmp_path: Path, time: Any) -> None:
        service = {"spans": {"data": [{"span_name": "x", "timestamp": time}]}}
        sample = read_file(written(tmp_path / "x", otlp(startTimeUnixNano=time), service))
        assert len(sample.spans) == 2
        for span in sample.spans:
            assert span.time is None or span.time < 1

    def test_limit_of_spans(self, tmp_path: Path) -> None:
        path = written(tmp_path / "x", *[otlp()] * 5)
        sample = read_file(path, limit=3)
        assert len(sample.spans) == 3
        assert sample.problems == [f"{path}:4: no more than 3 spans are read"]

    def test_several_files(self, tmp_path: Path) -> None:
        paths = [written(tmp_path / name, otlp()) for name in "ab"]
        assert len(read_files([*paths, CAPTURED]).spans) == 14


@pytest.fixture
def warehouse() -> Iterator[SpanService]:
    with SpanService() as served:
        yield served


@pytest.fixture
def client(warehouse: SpanService) -> Iterator[TraceloopClient]:
    with TraceloopClient("key-of-a-project", warehouse.url) as opened:
        yield opened


class TestService:
    def test_pages_are_read_until_there_is_no_cursor(
        self, warehouse: SpanService, client: TraceloopClient
    ) -> None:
        warehouse.pages = {"": page(2, "one"), "one": page(1, "two"), "two": page(0, "")}
        sample = read_service(client, seconds=3600, now=lambda: 10_000.7)
        assert len(sample.spans) == 3
        assert warehouse.queries[0] == {
            "from_timestamp_sec": "6400",
            "limit": "200",
            "sort_by": "timestamp",
            "sort_order": "DESC",
        }
        assert [query.get("cursor") for query in warehouse.queries] == [None, "one", "two"]
        assert PLANTED not in repr(sample)

    def test_limit_of_spans(self, warehouse: SpanService, client: TraceloopClient) -> None:
        warehouse.pages = {"": page(2, "one"), "one": page(200, "two")}
        assert len(read_service(client, seconds=1, limit=3).spans) == 3
        assert [query["limit"] for query in warehouse.queries] == ["3", "1"]

    def test_repeated_cursor_ends_the_pages(
        self, warehouse: SpanService, client: TraceloopClient
    ) -> None:
        warehouse.pages = {"": page(1, "one"), "one": page(1, "one")}
        assert len(read_service(client, seconds=1).spans) == 2

    def test_no_spans(self, warehouse: SpanService, client: TraceloopClient) -> None:
        warehouse.pages = {"": {"spans": {"data": None}}}
        assert read_service(client, seconds=1).spans == []

    def test_slow_service_gives_a_small_sample(
        self, warehouse: SpanService, client: TraceloopClient
    ) -> None:
        warehouse.pages = {"": page(1, "one"), "one": page(1, "two")}
        times = iter([0.0, 30.0, 61.0])
        sample = read_service(client, seconds=1, clock=lambda: next(times))
        assert len(sample.spans) == 2
        assert sample.problems == ["only 2 spans were read: Traceloop took more than 60 s"]

    @pytest.mark.parametrize(
        "body",
        [f'{{"spans": {{"data": ["{PLANTED}', f'["{PLANTED}"]', PLANTED, f"<p>{PLANTED}</p>"],
    )
    def test_malformed_response_is_not_quoted(
        self, warehouse: SpanService, client: TraceloopClient, body: str
    ) -> None:
        warehouse.pages = {"": body}
        with pytest.raises(MalformedResponseError, match="should be a page of spans") as caught:
            read_service(client, seconds=1)
        assert PLANTED not in str(caught.value)
        assert PLANTED not in repr(vars(caught.value))
