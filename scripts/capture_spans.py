"""Capture what Traceloop's SDKs emit: `python -m scripts.capture_spans [NAME...]`.

Each capture installs an SDK and the clients in a temporary environment, runs services of the shop
(`tests/telemetry`) against a model API on loopback, and writes what they export to
`tests/data/spans/NAME.jsonl`: OTLP JSON, one service a line, with nothing of this machine in it.
Needs a package index, and for JavaScript `npm`. A newer SDK gets a capture of its own; the old ones
stay.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import venv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.telemetry.model_api import ModelApi

ROOT = Path(__file__).parent.parent
SHOP = ROOT / "tests" / "telemetry"
CAPTURES = ROOT / "tests" / "data" / "spans"

#: Every capture begins then, in nanoseconds since 1970; a span begins and ends 10 ms after the one
#: before it.
_BEGIN, _STEP = 1_780_000_000 * 10**9, 10 * 10**6

#: Attributes of resources that are about a machine or a process.
_MACHINE = re.compile(r"(host|process|os|container)\..*|service\.instance\.id")

_LOOPBACK = re.compile(r"(https?://)?127\.0\.0\.1(:\d+)?")


@dataclass(frozen=True)
class Capture:
    """What is installed, and which services run."""

    packages: tuple[str, ...]
    services: tuple[str, ...]
    program: str = "shop.py"


_ALL = ("checkout", "shopping-assistant", "search", "refunds", "support", "reports", "catalog")
_CLIENTS = ("openai", "anthropic", "httpx")  # the SDK imports httpx without asking for it

CAPTURES_BY_NAME = {
    "shop-python-0.62.4": Capture(("traceloop-sdk==0.62.4", *_CLIENTS), _ALL),
    "clients-python-0.62.4": Capture(
        # The newest clients that this version instruments.
        ("traceloop-sdk==0.62.4", *_CLIENTS, "cohere<6", "groq", "mistralai<2", "ollama"),
        ("other-models",),
    ),
    # Of October 2025: gen_ai.system, gen_ai.prompt.N.
    "shop-python-0.47.5": Capture(
        (
            *("traceloop-sdk==0.47.5", "opentelemetry-api<1.38", "openai<2", "anthropic<0.70"),
            "httpx",
        ),
        _ALL,
    ),
    "shop-node-0.27.0": Capture(
        ("@traceloop/node-server-sdk@0.27.0", "openai@6", "@anthropic-ai/sdk@0.65"),
        ("shopping-assistant", "refunds"),
        "shop.mjs",
    ),
}


def main(names: Iterable[str]) -> int:
    """Make these captures, or all."""
    for name in names or CAPTURES_BY_NAME:
        capture = CAPTURES_BY_NAME[name]
        print(f"{name} ...", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            command = _installed(capture, Path(folder))
            exports = [_exported([*command, service]) for service in capture.services]
        spans = [span for export in exports for span in _spans(export)]
        _anonymize(name, exports)
        text = "".join(f"{json.dumps(export)}\n" for export in exports)
        (CAPTURES / f"{name}.jsonl").write_text(_LOOPBACK.sub(_example, text), encoding="utf-8")
        print(f"  {len(spans)} spans", flush=True)
    return 0


def _installed(capture: Capture, folder: Path) -> list[str]:
    """Install the packages in the folder; return the command that runs a service."""
    if capture.program.endswith(".mjs"):
        subprocess.run(["npm", "install", "--silent", *capture.packages], cwd=folder, check=True)
        # Modules are found from where the program is.
        program = folder / capture.program
        program.write_bytes((SHOP / capture.program).read_bytes())
        return ["node", str(program)]
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    # pip gives up on what this SDK requires.
    subprocess.run([python, "-m", "pip", "install", "--quiet", "uv"], check=True)
    uv = [python, "-m", "uv", "pip", "install", "--quiet", "--python", python]
    subprocess.run([*uv, *capture.packages], check=True)
    return [python, str(SHOP / capture.program)]


def _exported(command: list[str]) -> dict[str, Any]:
    """Run a service; return all that it exported as one request."""
    bodies: list[bytes] = []
    with _collector(bodies) as url, ModelApi() as models:
        environment = {
            "TRACELOOP_BASE_URL": url,
            "TRACELOOP_API_KEY": "none",
            "TRACELOOP_TELEMETRY": "false",
            "TRACELOOP_METRICS_ENABLED": "false",
            "MODEL_API": models.url,
        }
        subprocess.run(command, env={**os.environ, **environment}, check=True, timeout=120)
    request = ExportTraceServiceRequest()
    for body in bodies:
        request.MergeFromString(body)  # appends
    document: dict[str, Any] = MessageToDict(request)
    return document


@contextmanager
def _collector(bodies: list[bytes]) -> Iterator[str]:
    """Take what is exported, as a collector; the context is its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self._body()
            if self.path == "/v1/traces":
                packed = self.headers.get("Content-Encoding") == "gzip"
                bodies.append(gzip.decompress(body) if packed else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _body(self) -> bytes:
            if "Content-Length" in self.headers:
                return self.rfile.read(int(self.headers["Content-Length"]))
            body = b""  # Node sends it in chunks
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _spans(export: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for resource_spans in export["resourceSpans"]:
        for scope_spans in resource_spans["scopeSpans"]:
            yield from scope_spans["spans"]


def _anonymize(name: str, exports: list[dict[str, Any]]) -> None:
    """Replace what differs from run to run, and from machine to machine."""
    ids: dict[str, str] = {}

    def replaced(encoded: str, digits: int) -> str:
        return ids.setdefault(encoded, sha256(f"{name} {len(ids)}".encode()).hexdigest()[:digits])

    for export in exports:
        for resource_spans in export["resourceSpans"]:
            resource = resource_spans["resource"]
            resource["attributes"] = [
                each for each in resource["attributes"] if not _MACHINE.fullmatch(each["key"])
            ]
        for number, span in enumerate(
            sorted(_spans(export), key=lambda span: int(span["startTimeUnixNano"]))
        ):
            span["traceId"] = replaced(span["traceId"], 32)
            span["spanId"] = replaced(span["spanId"], 16)
            if "parentSpanId" in span:
                span["parentSpanId"] = replaced(span["parentSpanId"], 16)
            span["startTimeUnixNano"] = str(_BEGIN + number * _STEP)
            span["endTimeUnixNano"] = str(_BEGIN + (number + 1) * _STEP)
            span.pop("events", None)
            for attribute in span["attributes"]:
                if attribute["key"] == "server.port":
                    attribute["value"] = {"intValue": "443"}


def _example(match: re.Match[str]) -> str:
    return f"{match[1]}models.example" if match[1] else "models.example"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
