"""The service's route of spans, page by page as a test scripts them: broken ones, too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.service import Received, Service, response

#: Content of end users, which no output, error or object may have.
PLANTED = "my-card-is-4111-1111"

SERVICE_SPAN = {
    "environment": "prd",
    "timestamp": 1_700_000_000_500,
    "trace_id": "t",
    "span_id": "s",
    "span_name": "openai.chat",
    "service_name": "shop",
    "resource_attributes": {"service.name": "shop"},
    "span_attributes": {
        "gen_ai.system": "openai",
        "gen_ai.usage.input_tokens": "9",
        "llm.is_streaming": False,
        "gen_ai.prompt.0.content": PLANTED,
        "acme.notes": PLANTED * 100,
    },
    "prompts": [PLANTED],
    "completions": [PLANTED],
    "input": PLANTED,
    "output": PLANTED,
}


def page(count: int, next_cursor: str | None = None) -> dict[str, Any]:
    """Return a page of so many spans."""
    return {"spans": {"data": [SERVICE_SPAN] * count, "next_cursor": next_cursor}}


class SpanService(Service):
    """A service that has spans and setups, and takes no writes."""

    def __init__(self) -> None:
        #: The response to each cursor; text is sent as it is.
        self.pages: dict[str, object] = {}
        #: The project's setups.
        self.setups: list[dict[str, Any]] = []
        #: The query of each request for spans.
        self.queries: list[dict[str, str]] = []
        super().__init__()

    def reply(self, request: Received) -> bytes | Iterable[bytes]:
        url = urlsplit(request.target)
        if url.path == "/v2/warehouse/spans":
            query = {key: value for key, (value,) in parse_qs(url.query).items()}
            self.queries.append(query)
            found = self.pages[query.get("cursor", "")]
        elif url.path == "/v2/auto-monitor-setups":
            found = self.setups
        else:
            external_id = unquote(url.path.removeprefix("/v2/auto-monitor-setups/"))
            (found,) = [s for s in self.setups if s["external_id"] == external_id]
        return response(200, found.encode() if isinstance(found, str) else found)
