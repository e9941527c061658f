"""Spans as an instrumented program sends them: OTLP, in JSON."""

from __future__ import annotations

import json
from typing import Any
from urllib.request import Request, urlopen

from pulumi_traceloop.emulator import Emulator

#: When the emulator's time begins here, and every span, in seconds since 1970.
START = 1_780_000_000

TRACE_ID, SPAN_ID, PARENT_ID = "9ecd6e4d554765e81aa82e875bb88265", "1fb6b5f313e23326", "51" * 8


def value_of(value: Any) -> dict[str, Any]:
    """Return a value as OTLP's JSON writes it."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [value_of(item) for item in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": attributes(value)}}
    return {} if value is None else {"stringValue": value}


def attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value_of(value)} for key, value in values.items()]


def span(
    name: str = "openai.chat",
    values: dict[str, Any] | None = None,
    *,
    after: float = 0,
    lasts: float = 1.85,
) -> dict[str, Any]:
    start = START + after
    return {
        "traceId": TRACE_ID,
        "spanId": SPAN_ID,
        "name": name,
        "kind": 3,
        "startTimeUnixNano": str(int(start * 1000) * 1_000_000),
        "endTimeUnixNano": str(int((start + lasts) * 1000) * 1_000_000),
        "attributes": attributes({"gen_ai.provider.name": "openai", **(values or {})}),
        "status": {},
    }


def export(*spans: dict[str, Any], **resource: Any) -> dict[str, Any]:
    resource = {"service.name": "shop", **resource}
    scope = {"name": "opentelemetry.instrumentation.openai.v1", "version": "0.62.4"}
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": attributes(resource)},
                "scopeSpans": [{"scope": scope, "spans": list(spans)}],
            }
        ]
    }


def send(emulator: Emulator, *spans: dict[str, Any]) -> None:
    """Send spans to the emulator's project, as an instrumented program does."""
    headers = {"Authorization": f"Bearer {emulator.api_key}", "Content-Type": "application/json"}
    body = json.dumps(export(*spans)).encode()
    with urlopen(Request(f"{emulator.url}/v1/traces", body, headers)) as response:
        assert response.status == 200
