"""A provider process as the engine sees it: gRPC to the real `python -m pulumi.dynamic`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.runtime.proto import provider_pb2

from pulumi_traceloop import providers
from pulumi_traceloop.args import canonical
from tests.engine.provider import Provider, ProviderError, start_provider
from tests.engine.state import Record
from tests.engine.wire import UNKNOWN
from tests.support import API_KEY, REPOSITORY

ONE = "AutoMonitorSetup"
BATCH = "AutoMonitorSetupBatch"
MEMBERSHIP = "AutoMonitorSetupMembership"

DIFF_NONE = provider_pb2.DiffResponse.DIFF_NONE
DIFF_SOME = provider_pb2.DiffResponse.DIFF_SOME

RULE = {"key": "gen_ai.system", "source": "span_attributes", "operator": "equals", "value": "x"}
EXISTS = {"key": "a", "source": "resource_attributes", "operator": "exists"}


#: One for all: in a process only one declarer may have an external_id.
DECLARER = 'group "g"'


def setup(value: object = "x", *evaluators: str, **more: object) -> dict[str, Any]:
    return {
        "selector": [{**RULE, "value": value}],
        "evaluators": list(evaluators or ["faithfulness"]),
        **more,
    }


def one(external_id: object = "m", **content: object) -> dict[str, Any]:
    """Return the inputs of a single setup."""
    given = {**(content or setup()), "external_id": external_id, "declared_by": DECLARER}
    return {key: value for key, value in given.items() if value is not None}


def batch(**setups: Any) -> dict[str, Any]:
    """Return the inputs of a group's batch."""
    encoded = {i: s if isinstance(s, str) else canonical(s) for i, s in setups.items()}
    return {"setups": encoded, "declared_by": DECLARER}


def packed(value: object) -> object:
    """Return a list or a mapping as the JSON that a property has."""
    return canonical(value) if isinstance(value, (list, dict)) else value


def unpacked(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs with their JSON parsed."""
    names = outputs.keys() & {"owned", "left", "setup_ids", "external_ids"}
    return {**outputs, **{name: json.loads(outputs[name]) for name in names if outputs[name]}}


def membership(
    external_ids: object, owned: object, env_project_id: object = None
) -> dict[str, Any]:
    """Return the inputs of a group's membership."""
    return {
        "external_ids": packed(external_ids),
        "owned": packed(owned),
        "env_project_id": env_project_id,
        "declared_by": DECLARER,
    }


class Host:
    """One provider process. Its output can be read after its end."""

    def __init__(self, folder: Path, config: Mapping[str, str]) -> None:
        self._lines: list[str] = []
        env = {k: v for k, v in os.environ.items() if not k.startswith(("TRACELOOP_", "PULUMI_"))}
        env |= {"PYTHONPATH": str(REPOSITORY), "PULUMI_PROJECT": "project"}
        secrets = ["traceloop:apiKey"]
        self._process = start_provider(str(folder), env)
        self._provider = Provider(self._process, config, secrets, self._lines.append)
        self._ended = False

    def check(
        self, kind: str, inputs: dict[str, Any], state: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        """Return the checked inputs and their problems: (property, reason)."""
        record = _record(kind, inputs)
        inputs, failures = self._provider.check(record.urn, state or {}, record.inputs)
        return _without_provider(inputs), failures

    def diff(
        self, kind: str, state: dict[str, Any], inputs: dict[str, Any]
    ) -> provider_pb2.DiffResponse:
        record = _record(kind, state, id_="any")
        return self._provider.diff(record, _record(kind, inputs).inputs, [])

    def create(self, kind: str, inputs: dict[str, Any]) -> Record:
        record = _record(kind, inputs)
        self._provider.create(record)
        return record

    def update(self, record: Record, inputs: dict[str, Any]) -> Record:
        updated = _record(record.type, inputs, id_=record.id)
        self._provider.update(record, updated)
        return updated

    def read(self, record: Record) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """Return id, outputs and inputs; the id of a missing resource is empty."""
        id_, outs, inputs = self._provider.read(
            record.urn, record.id, record.inputs, record.outputs
        )
        return id_, _without_provider(outs), _without_provider(inputs or {})

    def delete(self, record: Record) -> None:
        self._provider.delete(record)

    def stop_reading(self) -> None:
        """Close the other end of the pipe that the process prints to."""
        line = {**one("stop-reading"), "preview": True}
        self.check(ONE, line)
        with Path(os.devnull).open() as nothing:
            os.dup2(nothing.fileno(), self._process.stdout.fileno())
        self.check(ONE, {**line, "external_id": "stopped"})  # what is being read has to end
        assert self._provider._reader is not None
        self._provider._reader.join()

    def printed(self) -> str:
        """End the process; return what it printed, on stdout and stderr."""
        if not self._ended:
            self._ended = True
            self._provider.close()
        return "\n".join(self._lines)


def _record(kind: str, inputs: dict[str, Any], id_: str = "") -> Record:
    blob = serialize_provider(getattr(providers, f"{kind}Provider")())
    inputs = {**inputs, "__provider": blob}
    urn = f"urn:pulumi:stack::project::pulumi-python:dynamic/traceloop:{kind}::name"
    return Record(urn, kind, custom=True, id=id_, inputs=inputs, outputs=inputs)


def _without_provider(bag: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in bag.items() if key != "__provider"}


def ends_with(failure: pytest.ExceptionInfo[ProviderError], error: str, *parts: str) -> None:
    """Assert that the failure is one message, after the host's frames and one more.

    Before SDK 3.260 the host passes on the message without the traceback that names the class.
    """
    details = str(failure.value)
    frames = [line for line in details.splitlines() if line.startswith('  File "')]
    own = [line for line in frames if "dynamic/__main__.py" not in line]
    assert len(own) <= 1, details
    start = f"pulumi_traceloop.errors.{error}: " if frames else "Exception calling application: "
    _, found, message = details.rpartition(start)
    assert found, details
    for part in parts:
        assert part in message
    assert API_KEY not in details


OPERATORS = (
    "'equals', 'not_equals', 'contains', 'not_contains', 'in', 'not_in', 'exists' or 'not_exists'"
)

BAD_SETUPS = {
    "no rules": (setup(selector=[]), "selector", "needs at least one rule"),
    "unknown operator": (
        setup(selector=[{**RULE, "operator": "like"}]),
        "selector[0].operator",
        f'must be one of {OPERATORS}, not "like"; did you mean "contains"?',
    ),
    "in without values": (
        setup(selector=[{"key": "a", "source": "span_attributes", "operator": "in"}]),
        "selector[0].values",
        'operator "in" needs "values"',
    ),
    "in with no values": (
        setup(selector=[{"key": "a", "source": "span_attributes", "operator": "in", "values": []}]),
        "selector[0].values",
        'operator "in" needs at least one value',
    ),
    "exists with a value": (
        setup(selector=[{**EXISTS, "value": "x"}]),
        "selector[0].value",
        'operator "exists" takes neither value nor values',
    ),
    "equals with values": (
        setup(selector=[{**RULE, "values": ["x"]}]),
        "selector[0].values",
        'operator "equals" takes "value" instead',
    ),
    "unknown source": (
        setup(selector=[{**RULE, "source": "span"}]),
        "selector[0].source",
        (
            "must be one of 'span_attributes' or 'resource_attributes', not \"span\"; did you mean"
            ' "span_attributes"?'
        ),
    ),
    "both kinds of evaluators": (
        setup(evaluator_configs=[{"slug": "perplexity"}]),
        "evaluators",
        "give either evaluators or evaluator_configs, not both",
    ),
    "no kind of evaluators": (
        {"selector": [RULE]},
        "evaluators",
        "give either evaluators or evaluator_configs",
    ),
    "no evaluators": (setup(evaluators=[]), "evaluators", "needs at least one evaluator"),
    "an evaluator twice": (
        setup("x", "perplexity", "perplexity"),
        "evaluators[1]",
        '"perplexity" is listed twice',
    ),
    "unknown scope": (
        {"selector": [RULE], "evaluator_configs": [{"slug": "perplexity", "scope": "day"}]},
        "evaluator_configs[0].scope",
        "must be one of 'session', 'trace' or 'span', not \"day\"",
    ),
    "a number for a value": (
        setup(5),
        "selector[0].value",
        'must be a string, such as "5"',
    ),
    "a rule's typing error": (
        setup(selector=[{**RULE, "operater": "equals"}]),
        "selector[0].operater",
        'is not a known property; did you mean "operator"?',
    ),
}


A = {"key": "a", "source": "span_attributes", "operator": "equals", "value": "1"}
A_BY_DEFAULT = {"key": "a", "source": "span_attributes", "value": "1"}
B = {"key": "b", "source": "span_attributes", "operator": "in", "values": ["x", "y"]}
B_REVERSED = {**B, "values": ["y", "x"]}
AB = {"selector": [A, B], "evaluators": ["faithfulness", "perplexity"]}

SAME = {
    "itself": AB,
    "rules in another order": {**AB, "selector": [B, A]},
    "values in another order": {**AB, "selector": [A, B_REVERSED]},
    "evaluators in another order": {**AB, "evaluators": ["perplexity", "faithfulness"]},
    "the default operator left out": {**AB, "selector": [A_BY_DEFAULT, B]},
    "configs without options": {
        "selector": [A, B],
        "evaluator_configs": [{"slug": "faithfulness"}, {"slug": "perplexity"}],
    },
}
DIFFERENT = {
    "a value": {**AB, "selector": [{**A, "value": "2"}, B]},
    "a rule less": {**AB, "selector": [A]},
    "an evaluator more": {**AB, "evaluators": ["faithfulness", "perplexity", "word-count"]},
    "a scope": {
        "selector": [A, B],
        "evaluator_configs": [{"slug": "faithfulness", "scope": "span"}, {"slug": "perplexity"}],
    },
    "triggers": {**AB, "triggers": ["2026-02"]},
    "something unknown": {**AB, "selector": [{**A, "value": UNKNOWN}, B]},
    "an unknown selector": {**AB, "selector": UNKNOWN},
}
