"""A project whose client waits without taking any time, and setups for it."""

from __future__ import annotations

from typing import Any

from pulumi_traceloop._client import TraceloopClient
from pulumi_traceloop._models import SETUP_SPEC, SetupSpec
from pulumi_traceloop._project import Project
from pulumi_traceloop._settings import connection
from tests.support.clock import Clock

NO_SETTINGS: dict[str, str] = {}


class QuickProject(Project):
    """A project whose client waits without taking any time."""

    def __init__(self, url: str, api_key: str) -> None:
        super().__init__(connection({"traceloop:apiKey": api_key}.get, {}))
        clock = Clock()
        self._quick = TraceloopClient(api_key, url, clock=clock, sleep=clock.sleep)

    @property
    def client(self) -> TraceloopClient:
        return self._quick


def content(value: str = "x", evaluator: str = "faithfulness") -> dict[str, Any]:
    rule = {"key": "k", "source": "span_attributes", "operator": "equals", "value": value}
    return {"selector": [rule], "evaluators": [evaluator]}


def spec(value: str = "x", evaluator: str = "faithfulness") -> SetupSpec:
    return SETUP_SPEC.validate_python(content(value, evaluator))


def specs(count: int) -> dict[str, SetupSpec]:
    return {f"m-{n:03}": spec() for n in range(count)}
