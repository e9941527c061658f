"""Reads spans from files and from Traceloop.

A file contains OTLP as JSON, as a single export request or one per line (the format of the
OpenTelemetry Collector's file exporter), or a response of ``GET /v2/warehouse/spans``. Invalid
parts are reported and skipped.

End-user content (`values.is_content`) is dropped here: no `Span` contains it, and errors never
quote it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from .._text import printable
from ..errors import TraceloopError
from .matching import Span
from .values import as_text, is_content

if TYPE_CHECKING:
    from .._client import TraceloopClient

__all__ = [
    "SAMPLE",
    "Sample",
    "SpanFileError",
    "read_file",
    "read_files",
    "read_service",
]

#: How many spans are read from Traceloop by default.
SAMPLE: Final = 2_000

#: The page size; spans include prompts and completions.
_PAGE: Final = 200

#: The longest document or line, in bytes, and the most spans read from files.
_DOCUMENT_LIMIT: Final = 64 * 1024 * 1024
_SPAN_LIMIT: Final = 200_000

#: Without one of these, a JSON object is no span of Traceloop.
_SPAN_FIELDS: Final = frozenset({"span_attributes", "resource_attributes", "span_name"})

_YEAR_10000: Final = 253_402_300_800

#: How many problems of a file are listed.
_NAMED: Final = 10


class SpanFileError(TraceloopError):
    """A file has no readable span."""


@dataclass(frozen=True)
class Sample:
    """Spans, and the problems of reading them."""

    spans: list[Span] = field(default_factory=list)
    #: One line each, such as ``spans.jsonl:7: invalid JSON``.
    problems: list[str] = field(default_factory=list)


class _UnknownError(Exception):
    """A JSON value is neither OTLP nor a response of Traceloop."""


def read_service(
    client: TraceloopClient,
    *,
    seconds: float,
    limit: int = SAMPLE,
    now: Callable[[], float] = time.time,
    clock: Callable[[], float] = time.monotonic,
    patience: float = 60.0,
) -> Sample:
    """Return the newest spans that Traceloop recorded in the key's environment.

    Args:
        client: the connection to Traceloop.
        seconds: the age of the oldest span, in seconds.
        limit: the most spans to read.
        now: the time, in seconds since 1970.
        clock: a monotonic clock, in seconds.
        patience: the time, in seconds, after which no further page is read.

    Raises:
        RequestError: the request failed.

    """
    sample = Sample()
    since = int(now() - seconds)
    end = clock() + patience
    cursor: str | None = None
    seen: set[str | None] = {None, ""}
    while len(sample.spans) < limit:
        page = client.spans(
            since=since, limit=min(_PAGE, limit - len(sample.spans)), cursor=cursor
        ).spans
        sample.spans.extend(map(_service_span, page.data))
        cursor = page.next_cursor
        # A repeated cursor would loop forever.
        if cursor in seen:
            break
        seen.add(cursor)
        if clock() >= end and len(sample.spans) < limit:
            sample.problems.append(
                f"only {len(sample.spans):,} spans were read: Traceloop took more than"
                f" {patience:g} s"
            )
            break
    del sample.spans[limit:]
    if not sample.spans:
        sample.problems.append(
            "Traceloop recorded no span in this time, in the environment of the API key"
        )
    return sample


def read_files(paths: Iterable[str | os.PathLike[str]]) -> Sample:
    """Return the spans of some files.

    Raises:
        SpanFileError: a file has no span.
        OSError: a file cannot be read.

    """
    result = Sample()
    for path in paths:
        sample = read_file(path, _SPAN_LIMIT - len(result.spans))
        result.spans.extend(sample.spans)
        result.problems.extend(sample.problems)
    return result


def read_file(path: str | os.PathLike[str], limit: int = _SPAN_LIMIT) -> Sample:
    """Return the spans of a file.

    Args:
        path: the file.
        limit: the most spans to read; more are reported as a problem.

    Raises:
        SpanFileError: the file has no span.
        OSError: the file cannot be read.

    """
    name = printable(os.fspath(path))
    sample = Sample()
    broken = 0
    with Path(path).open("rb") as file:
        for line, document in _documents(file):
            location = f"{name}:{line}" if line else name
            try:
                found = list(_spans(document))
            except (_UnknownError, RecursionError) as error:
                broken += 1
                if broken <= _NAMED:
                    sample.problems.append(f"{location}: {_described(error)}")
                continue
            if len(sample.spans) + len(found) > limit:
                sample.problems.append(f"{location}: no more than {limit:,} spans are read")
                break
            sample.spans.extend(found)
    if broken > _NAMED:
        sample.problems.append(f"{name}: {broken - _NAMED} more lines cannot be read")
    if not sample.spans:
        raise SpanFileError(sample.problems[0] if broken else f"{name}: contains no span")
    return sample


def _described(error: Exception) -> str:
    return str(error) if isinstance(error, _UnknownError) else "nested too deeply"


def _documents(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Yield the file's JSON values with line numbers; 0 for a single document.

    Invalid JSON is yielded as an `_UnknownError`.
    """
    head = file.read(_DOCUMENT_LIMIT + 1)
    if len(head) <= _DOCUMENT_LIMIT and not isinstance(whole := _loaded(head), _UnknownError):
        yield 0, whole
        return
    file.seek(0)
    number = 0
    while line := file.readline(_DOCUMENT_LIMIT + 1):
        number += 1
        if line.strip():
            yield number, _loaded(line)


def _loaded(text: bytes) -> Any:
    if len(text) > _DOCUMENT_LIMIT:
        return _UnknownError(f"longer than {_DOCUMENT_LIMIT // 2**20} MiB")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        # Not the error itself: it contains the text.
        return _UnknownError(f"invalid JSON ({error.msg}, column {error.colno})")
    except (ValueError, RecursionError):
        return _UnknownError("invalid JSON")


def _spans(document: Any) -> Iterator[Span]:
    match document:
        case _UnknownError():
            raise document
        case {"resourceSpans": list(resources)}:
            yield from _otlp_spans(resources)
        case {"spans": {"data": list(items)}} | {"data": list(items)} | list(items):
            for item in _mappings(items):
                yield from _spans(item)
        case dict() if _SPAN_FIELDS & document.keys():
            yield _service_span(document)
        case _:
            raise _UnknownError("neither OTLP spans nor a response of Traceloop")


# Traceloop's format.


def _service_span(span: Mapping[str, Any]) -> Span:
    return Span(
        _service_attributes(span.get("span_attributes")),
        _service_attributes(span.get("resource_attributes")),
        name=_name(span.get("span_name")),
        service=_name(span.get("service_name")),
        time=_moment(span.get("timestamp"), 1e3),
    )


def _service_attributes(attributes: Any) -> dict[str, str | None]:
    if not isinstance(attributes, dict):
        return {}
    return {key: _kept(key, value) for key, value in attributes.items()}


def _name(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _kept(key: str, value: Any) -> str | None:
    text = as_text(value)
    return None if is_content(key, text) else text


# OTLP, as JSON: opentelemetry-proto, "JSON Protobuf Encoding".


def _otlp_spans(resources: list[Any]) -> Iterator[Span]:
    for resource in _mappings(resources):
        of_resource = _otlp_attributes(_mapping(resource.get("resource")).get("attributes"))
        service = of_resource.get("service.name") or ""
        for scope in _mappings(resource.get("scopeSpans")):
            for span in _mappings(scope.get("spans")):
                yield Span(
                    _otlp_attributes(span.get("attributes")),
                    of_resource,
                    name=_name(span.get("name")),
                    service=service,
                    time=_moment(span.get("startTimeUnixNano"), 1e9),
                )


def _otlp_attributes(attributes: Any) -> dict[str, str | None]:
    result: dict[str, str | None] = {}
    for attribute in _mappings(attributes):
        key = attribute.get("key")
        if isinstance(key, str):
            result[key] = _kept(key, _plain(attribute.get("value")))
    return result


def _plain(value: Any) -> Any:
    """Return an ``AnyValue`` as a Python value; ``None`` if it is invalid."""
    match value:
        case {"stringValue": str(text)} | {"bytesValue": str(text)}:
            return text
        case {"boolValue": bool(flag)}:
            return flag
        case {"intValue": int() | str() as number}:  # int64 is a string in this encoding
            return _number(int, number)
        case {"doubleValue": int() | float() | str() as number}:  # "NaN" is a string
            return _number(float, number)
        case {"arrayValue": {"values": list(values)}}:
            return [_plain(item) for item in values]
        case {"arrayValue": dict()}:
            return []
        case {"kvlistValue": dict(pairs)}:
            entries = _mappings(pairs.get("values"))
            return {str(entry.get("key")): _plain(entry.get("value")) for entry in entries}
    return None


def _number(kind: Callable[[Any], Any], text: Any) -> Any:
    try:
        return kind(text)
    except (ValueError, OverflowError):
        return None


def _moment(count: Any, per_second: float) -> float | None:
    """Return a time in seconds since 1970; ``None`` if it is out of range."""
    number = _number(float, count) if isinstance(count, (int, float, str)) else None
    return number / per_second if number and 0 < number / per_second < _YEAR_10000 else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    return (
        (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())
    )
