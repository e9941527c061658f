"""Raw HTTP requests to the emulator: `http.client` sends paths unchanged."""

from __future__ import annotations

import contextlib
import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from pulumi_traceloop.emulator import Emulator

SETUPS = "/v2/auto-monitor-setups"
BULK = f"{SETUPS}/bulk"
RULE = {"key": "gen_ai.system", "value": "openai", "source": "span_attributes"}
OTHER_RULE = {"key": "service.name", "value": "shop", "source": "resource_attributes"}
CONTENT: dict[str, Any] = {"selector": [RULE], "evaluators": ["answer-relevancy"]}


@dataclass
class Response:
    """A response, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def error(self) -> Any:
        assert set(self.json) == {"error"}
        return self.json["error"]


class Api:
    """Requests to an emulator's URL, one connection each."""

    def __init__(self, url: str, key: str) -> None:
        self.url, self.key = url, key

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Response:
        """Send *body* (bytes as they are, the rest as JSON); return the whole response."""
        url = urlsplit(self.url)
        connection = http.client.HTTPConnection(url.netloc, timeout=20)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if headers is None:
            headers = {"Authorization": f"Bearer {self.key}"}
        with contextlib.closing(connection):
            connection.request(method, url.path + path, data, headers)
            response = connection.getresponse()
            return Response(response.status, response.headers, response.read().decode())

    def exchange(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send *body* as JSON; return the status and the JSON of the response, if it has any."""
        reply = self.call(method, path, body)
        return reply.status, reply.json if reply.text else None

    def get(self, external_id: str) -> Response:
        return self.call("GET", item(external_id))

    def list(self, query: str = "") -> list[Any]:
        reply = self.call("GET", SETUPS + query)
        assert reply.status == 200, reply.text
        setups = reply.json
        assert isinstance(setups, list)
        return setups

    def upsert(self, external_id: str, body: Any = None) -> Response:
        return self.call("PUT", upsert_path(external_id), CONTENT if body is None else body)

    def bulk(self, *setups: Any) -> Response:
        return self.call("POST", BULK, {"setups": setups})


def item(external_id: str) -> str:
    """Return the path of a setup."""
    return f"{SETUPS}/{quote(external_id, safe='')}"


def upsert_path(external_id: str) -> str:
    """Return the path that a setup is upserted at."""
    return f"{SETUPS}/by-external-id/{quote(external_id, safe='')}"


def setup(external_id: str, **changes: Any) -> dict[str, Any]:
    """Return a setup as an item of the bulk route."""
    return {"external_id": external_id, **CONTENT, **changes}


def control(emulator: Emulator, method: str, path: str, body: Any = None) -> Response:
    """Send a request to one of the emulator's own routes, which take no key."""
    return Api(emulator.url, "").call(method, f"/_emulator{path}", body, headers={})
