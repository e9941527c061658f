"""The captured spans, with what end users wrote: here it is made up."""

from __future__ import annotations

from pathlib import Path

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
