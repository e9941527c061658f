"""Spans from files and from Traceloop.

A file has OTLP as JSON, one export request on each line, as the OpenTelemetry Collector's file
exporter writes it, or one in all; or what Traceloop answers to ``GET /v2/warehouse/spans``. What is
broken in a file is named and skipped.

What end users wrote (`values.is_content`) is dropped right here: no `Span` has it. Nothing that is
read is quoted in an error either.
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

__all__ = ["SAMPLE", "Sample", "SpanFileError", "read_file", "read_files", "read_service"]

#: How many spans are read from Traceloop, unless somebody wants more or fewer.
SAMPLE: Final = 2_000

#: How many spans are asked for at once: prompts and completions come with them.
_PAGE: Final = 200

#: A document, or a line, may be so long, in bytes; and so many spans are read from files.
_DOCUMENT_LIMIT: Final = 64 * 1024 * 1024
_SPAN_LIMIT: Final = 200_000

_YEAR_10000: Final = 253_402_300_800

#: How many problems of a file are named.
_NAMED: Final = 10


class SpanFileError(TraceloopError):
    """A file has no span that can be read."""


@dataclass(frozen=True)
class Sample:
    """Spans, and what could not be read beside them."""

    spans: list[Span] = field(default_factory=list)
    #: One line each, such as ``spans.jsonl:7: no JSON``.
    problems: list[str] = field(default_factory=list)


class _UnknownError(Exception):
    """A JSON value is neither OTLP nor an answer of Traceloop."""


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
        seconds: how far back, in seconds.
        limit: how many spans at most.
        now: the time, in seconds since 1970.
        clock: a monotonic clock, in seconds.
        patience: after so many seconds no further page is asked for.

    Raises:
        RequestError: Traceloop could not be asked.

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
        # A cursor that comes back would go round for ever.
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
    return sample


def read_files(paths: Iterable[str | os.PathLike[str]]) -> Sample:
    """Return the spans of some files.

    Raises:
        SpanFileError: there is no span in one of them.
        OSError: one of them cannot be read.

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
        limit: how many spans at most; what is left out is a problem of the sample.

    Raises:
        SpanFileError: there is no span in it.
        OSError: it cannot be read.

    """
    name = printable(os.fspath(path))
    sample = Sample()
    broken = 0
    with Path(path).open("rb") as file:
        for line, document in _documents(file):
            where = f"{name}:{line}" if line else name
            try:
                found = list(_spans(document))
            except (_UnknownError, RecursionError) as error:
                broken += 1
                if broken <= _NAMED:
                    sample.problems.append(f"{where}: {_described(error)}")
                continue
            if len(sample.spans) + len(found) > limit:
                sample.problems.append(f"{where}: no more than {limit:,} spans are read")
                break
            sample.spans.extend(found)
    if broken > _NAMED:
        sample.problems.append(f"{name}: {broken - _NAMED} more lines cannot be read")
    if not sample.spans:
        raise SpanFileError(sample.problems[0] if broken else f"{name}: there is no span in it")
    return sample


def _described(error: Exception) -> str:
    return str(error) if isinstance(error, _UnknownError) else "nested too deeply"


def _documents(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Yield the file's JSON values, each with its line: 0 if there is only one.

    What is no JSON comes as an `_UnknownError`.
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
        # Not the error itself: it carries the text.
        return _UnknownError(f"no JSON ({error.msg}, column {error.colno})")
    except (ValueError, RecursionError):
        return _UnknownError("no JSON")


def _spans(document: Any) -> Iterator[Span]:
    match document:
        case _UnknownError():
            raise document
        case {"resourceSpans": list(resources)}:
            yield from _otlp_spans(resources)
        case {"spans": {"data": list(spans)}} | {"data": list(spans)} | list(spans):
            yield from (_service_span(span) for span in spans if isinstance(span, dict))
        case {"span_attributes": dict()}:
            yield _service_span(document)
        case _:
            raise _UnknownError("neither OTLP spans nor a response of Traceloop")


# Traceloop's own.


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
    """Return what an ``AnyValue`` is in Python; ``None`` for one that is none."""
    match value:
        case {"stringValue": str(text)} | {"bytesValue": str(text)}:
            return text
        case {"boolValue": bool(flag)}:
            return flag
        case {"intValue": int() | str() as number}:  # 64 bits are a string in this encoding
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
    """Return a time in seconds since 1970; ``None`` if it is none that a calendar has."""
    number = _number(float, count) if isinstance(count, (int, float, str)) else None
    return number / per_second if number and 0 < number / per_second < _YEAR_10000 else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    return (
        (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())
    )
