"""A service with spans, whose answers a test sets as it likes: broken ones, too."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

#: What no output, error or object may have.
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


class Warehouse:
    """Answers the route of spans, page by page as a test wants them, and lists setups."""

    def __init__(self) -> None:
        #: Cursor to the body of the answer.
        self.pages: dict[str, object] = {}
        #: The project's setups.
        self.setups: list[dict[str, Any]] = []
        self.queries: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = {key: value for key, (value,) in parse_qs(url.query).items()}
                if url.path == "/v2/warehouse/spans":
                    outer.queries.append(query)
                    page: object = outer.pages[query.get("cursor", "")]
                elif url.path == "/v2/auto-monitor-setups":
                    page = outer.setups
                else:
                    external_id = url.path.removeprefix("/v2/auto-monitor-setups/")
                    (page,) = [s for s in outer.setups if s["external_id"] == external_id]
                body = page.encode() if isinstance(page, str) else json.dumps(page).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Warehouse:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def page(count: int, next_cursor: str | None = None) -> dict[str, Any]:
    return {"spans": {"data": [SERVICE_SPAN] * count, "next_cursor": next_cursor}}
