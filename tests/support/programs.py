"""Programs on a mocked engine, with what they register in the form that goes over the wire."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pulumi
from pulumi.runtime.mocks import MockMonitor, MockResourceArgs
from pulumi.runtime.proto import resource_pb2

from pulumi_traceloop import (
    AutoMonitorSetupArgs,
    AutoMonitorSetupGroup,
    span,
)
from tests.engine.wire import Bag, from_struct

ONE = "pulumi-python:dynamic/traceloop:AutoMonitorSetup"
BATCH = "pulumi-python:dynamic/traceloop:AutoMonitorSetupBatch"
MEMBERSHIP = "pulumi-python:dynamic/traceloop:AutoMonitorSetupMembership"
GROUP = "traceloop:index:AutoMonitorSetupGroup"


class Registration:
    """One resource as the program registered it; secrets are marked in its inputs."""

    def __init__(self, request: resource_pb2.RegisterResourceRequest) -> None:
        self.type: str = request.type
        self.name: str = request.name
        self.parent: str = request.parent
        self.inputs: Bag = from_struct(request.object)
        self.secret_outputs = list(request.additionalSecretOutputs)
        self.hooks = {f.name: list(names) for f, names in request.hooks.ListFields()}


class Mocks(pulumi.runtime.Mocks):
    """An engine that returns a resource's inputs, and a batch's outputs with them."""

    def __init__(self, **outputs: object) -> None:
        self._outputs = outputs

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        outputs = self._outputs if args.typ in (BATCH, ONE) else {}
        return f"{args.name}-id", {**args.inputs, **outputs}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[str, Any], None]:
        return {}, None


class Monitor(MockMonitor):
    """Records what is registered, in the form that goes over the wire."""

    def __init__(self, mocks: Mocks) -> None:
        super().__init__(mocks)
        self.registered: list[Registration] = []
        self.read: list[Bag] = []

    def ReadResource(self, request: resource_pb2.ReadResourceRequest) -> Any:  # noqa: N802
        self.read.append(from_struct(request.properties))
        return _with_a_loop(lambda: super(Monitor, self).ReadResource(request))  # type: ignore[no-untyped-call]

    def RegisterResource(self, request: resource_pb2.RegisterResourceRequest) -> Any:  # noqa: N802
        if request.type != "pulumi:pulumi:Stack":  # only the first program of a process has it
            self.registered.append(Registration(request))
        return _with_a_loop(lambda: super(Monitor, self).RegisterResource(request))  # type: ignore[no-untyped-call]


def _with_a_loop(call: Callable[[], Any]) -> Any:
    """Call in a worker's thread; the SDK would make an event loop for it and leave that open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return call()
    finally:
        asyncio.set_event_loop(None)
        loop.close()


class Program:
    """Runs programs on a mocked engine."""

    def __init__(self) -> None:
        self.registered: list[Registration] = []
        self.read: list[Bag] = []

    def run(
        self, program: Callable[[], object], *, preview: bool = False, **outputs: object
    ) -> None:
        mocks = Mocks(**outputs)
        monitor = Monitor(mocks)
        self.registered, self.read = monitor.registered, monitor.read
        logger = logging.getLogger("pulumi-mocks")
        pulumi.runtime.set_mocks(mocks, preview=preview, logger=logger, monitor=monitor)
        pulumi.runtime.test(lambda: program() and None)()  # type: ignore[no-untyped-call]

    def of(self, type_: str) -> Registration:
        (found,) = [each for each in self.registered if each.type == type_]
        return found

    def setups(self, **setups: Any) -> dict[str, Any]:
        """Return what a group's batch sends for these setups."""
        self.run(lambda: AutoMonitorSetupGroup("g", setups))
        return dict(self.of(BATCH).inputs["setups"])


DICT: Any = {"selector": [span("k").equals("v")], "evaluators": ["faithfulness"]}
ARGS = AutoMonitorSetupArgs([span("k").equals("v")], ["faithfulness"])
JSON = (
    '{"evaluators":["faithfulness"],"selector":'
    '[{"key":"k","operator":"equals","source":"span_attributes","value":"v"}]}'
)


class Component(pulumi.ComponentResource):
    def __init__(self, name: str) -> None:
        super().__init__("shop:index:Monitoring", name)
