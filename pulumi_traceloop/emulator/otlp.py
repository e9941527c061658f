"""Converts OTLP over HTTP to the spans that the service returns.

The encodings are protobuf, and JSON with hexadecimal ids (OpenTelemetry's specification "OTLP",
part "OTLP/HTTP"). The output follows the page "Get Spans".
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from ..spans.matching import Span
from ..spans.values import as_text
from .validation import InvalidRequestError, parse_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans

PROTOBUF, JSON = "application/x-protobuf", "application/json"


class ReceivedSpan(NamedTuple):
    """A span: its attributes for rules, and its JSON in responses (without `environment`)."""

    attributes: Span
    response: dict[str, Any]


def decode(body: bytes, content_type: str) -> list[ReceivedSpan]:
    """Return the spans of one export request.

    Args:
        body: the request's body, decompressed.
        content_type: `application/x-protobuf` or `application/json`.

    Raises:
        InvalidRequestError: the body is invalid.

    """
    as_json = content_type == JSON
    request = ExportTraceServiceRequest()
    try:
        if as_json:
            # Receivers "MUST ignore message fields with unknown names".
            ParseDict(parse_object(body), request, ignore_unknown_fields=True)
        else:
            request.ParseFromString(body)
        return list(_spans(request, as_json=as_json))
    except (DecodeError, ParseError) as error:
        raise InvalidRequestError(f"invalid request body: {error}") from None


def success(content_type: str) -> str:
    """Return the body of a success: an empty message."""
    return "{}" if content_type == JSON else ""


def _spans(request: ExportTraceServiceRequest, *, as_json: bool) -> Iterator[ReceivedSpan]:
    for resource_spans in request.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield _received(span, scope_spans, resource, as_json=as_json)


def _received(
    span: OtlpSpan, scope_spans: ScopeSpans, resource: dict[str, str], *, as_json: bool
) -> ReceivedSpan:
    own = _attributes(span.attributes)
    service = resource.get("service.name", "")
    response = {
        "timestamp": span.start_time_unix_nano // 1_000_000,
        "trace_id": _hexadecimal(span.trace_id, 16, as_json=as_json),
        "span_id": _hexadecimal(span.span_id, 8, as_json=as_json),
        "parent_span_id": _hexadecimal(span.parent_span_id, 8, as_json=as_json),
        "trace_state": span.trace_state,
        "span_name": span.name,
        "span_kind": _name(OtlpSpan.SpanKind, span.kind),
        "service_name": service,
        "resource_attributes": resource,
        "scope_name": scope_spans.scope.name,
        "scope_version": scope_spans.scope.version,
        "span_attributes": own,
        "duration": max(0, span.end_time_unix_nano - span.start_time_unix_nano) // 1_000_000,
        "status_code": _name(Status.StatusCode, span.status.code),
        "status_message": span.status.message,
        # The page has keys such as "llm.prompts.0.role" here. It does not document today's
        # attributes, such as gen_ai.input.messages: they stay in span_attributes.
        "prompts": _content(own, "prompt"),
        "completions": _content(own, "completion"),
        "input": own.get("traceloop.entity.input", ""),
        "output": own.get("traceloop.entity.output", ""),
    }
    attributes = Span(own, resource, span.name, service, span.start_time_unix_nano / 1e9)
    return ReceivedSpan(attributes, response)


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, str]:
    return {pair.key: as_text(_value(pair.value)) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: _value(pair.value) for pair in value.kvlist_value.values}
    return getattr(value, kind)


def _content(attributes: dict[str, str], kind: str) -> dict[str, str]:
    prefix = f"gen_ai.{kind}."
    return {
        f"llm.{kind}s.{key.removeprefix(prefix)}": value
        for key, value in attributes.items()
        if key.startswith(prefix)
    }


def _hexadecimal(value: bytes, size: int, *, as_json: bool) -> str:
    # OTLP's JSON has hexadecimal ids, which protobuf's JSON parser decoded as base64: undo that.
    text = b64encode(value).decode() if as_json else value.hex()
    if text and not re.fullmatch(f"[0-9a-fA-F]{{{2 * size}}}", text):
        raise InvalidRequestError(f"invalid request body: an id has {size} bytes, in hexadecimal")
    return text.lower()


def _name(kinds: Any, number: int) -> str:
    """Return the name of an enum number; an unknown one stays a number."""
    return str(kinds.Name(number)) if number in kinds.values() else str(number)
