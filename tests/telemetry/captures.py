"""The captured spans, with made-up content of end users."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.request import Request, urlopen

from pulumi_traceloop.emulator.otlp import JSON, decode
from pulumi_traceloop.spans.matching import Span, SpanIndex

FOLDER = Path(__file__).parent.parent / "data" / "spans"

#: Of SDKs that emit what examples should name, and of one that does not.
CURRENT = (
    "openllmetry-0.62.4",
    "shop-python-0.62.4",
    "clients-python-0.62.4",
    "shop-node-0.27.0",
)
OLD = ("shop-python-0.47.5",)


def spans(*names: str) -> list[Span]:
    """Return the spans of these captures."""
    lines = (
        line for name in names for line in (FOLDER / f"{name}.jsonl").read_bytes().split(b"\n")
    )
    return [span.attributes for line in lines if line for span in decode(line, JSON)]


def index(*names: str) -> SpanIndex:
    """Return the spans of these captures, ready to be matched."""
    return SpanIndex(spans(*names))


def send_captured(services: Iterable[str], *, base_url: str, api_key: str) -> None:
    """Send what these services of the shop exported, as if it were now.

    Args:
        services: Their names.
        base_url: Where the spans go.
        api_key: The key for it.

    """
    exports = map(json.loads, (FOLDER / f"{CURRENT[1]}.jsonl").read_text("utf-8").splitlines())
    now = str(time.time_ns())
    for export in exports:
        (resource_spans,) = export["resourceSpans"]
        names = {
            attribute["value"].get("stringValue")
            for attribute in resource_spans["resource"]["attributes"]
            if attribute["key"] == "service.name"
        }
        if names.isdisjoint(services):
            continue
        for scope_spans in resource_spans["scopeSpans"]:
            for each in scope_spans["spans"]:
                each["startTimeUnixNano"] = each["endTimeUnixNano"] = now
        headers = {"Authorization": f"Bearer {api_key}", "Content-Type": JSON}
        with urlopen(Request(f"{base_url}/v1/traces", json.dumps(export).encode(), headers)):
            pass
