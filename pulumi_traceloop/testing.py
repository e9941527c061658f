"""Tests whether the monitors of a program match recorded spans.

Example:
    ```python
    from pulumi_traceloop.testing import assert_matches, declared_setups, load_spans

    def test_monitors_see_traffic() -> None:
        setups = declared_setups("__main__.py", config={"shop:chatModel": "gpt-4o"})
        assert_matches(setups, load_spans("tests/spans.jsonl"))
    ```

Programs run on a mocked engine, without requests to Pulumi or Traceloop.
"""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import pulumi
from pulumi.runtime import rpc
from pulumi.runtime.mocks import MockCallArgs, MockMonitor, MockResourceArgs

from ._codec import unpacked
from ._naming import is_named
from .args import AutoMonitorSetupArgs, AutoMonitorSetupArgsDict, plain, resolved
from .files import load_setups
from .spans.matching import Rule, Span, SpanIndex, Survey
from .spans.sources import read_files

__all__ = [
    "SetupMocks",
    "Setups",
    "Spans",
    "assert_matches",
    "assert_matches_nothing",
    "declared_setups",
    "load_spans",
    "surveys",
]

_RESOURCES = "pulumi-python:dynamic/traceloop:"

#: One setup, setups by external_id, or a file of setups.
Setups: TypeAlias = (
    AutoMonitorSetupArgs | AutoMonitorSetupArgsDict | Mapping[str, Any] | str | os.PathLike[str]
)

#: The result of `load_spans`, a file, or spans.
Spans: TypeAlias = SpanIndex | str | os.PathLike[str] | Iterable[Span]


def load_spans(*paths: str | os.PathLike[str]) -> SpanIndex:
    """Return the spans of files: OTLP as JSON, or responses of Traceloop.

    End-user content is dropped. Invalid parts of a file become warnings.

    Raises:
        SpanFileError: a file has no span.
        OSError: a file cannot be read.

    """
    sample = read_files(paths)
    for problem in sample.problems:
        warnings.warn(problem, stacklevel=2)
    return SpanIndex(sample.spans)


def surveys(setups: Setups, spans: Spans) -> dict[str, Survey]:
    """Return how many spans each setup matches, and why none if none.

    Args:
        setups: one setup, setups by external_id, or a file of setups.
        spans: the spans to match.

    Raises:
        TypeError: a selector contains an Output; use `declared_setups`.

    """
    index = _index(spans)
    return {external_id: index.survey(rules) for external_id, rules in _selectors(setups)}


def assert_matches(setups: Setups, spans: Spans, *, allow_none: Iterable[str] = ()) -> None:
    """Assert that each setup matches at least one span.

    Args:
        setups: one setup, setups by external_id, or a file of setups.
        spans: the spans to match.
        allow_none: the external_ids of setups that may match nothing, or patterns such as
            ``canary-*``.

    Raises:
        AssertionError: a setup matches nothing; the message explains why and what to change.
        TypeError: a selector contains an Output; use `declared_setups`.

    """
    __tracebackhide__ = True
    allowed = list(allow_none)
    found = surveys(setups, spans)
    silent = {
        external_id: survey
        for external_id, survey in found.items()
        if not survey.matched and not is_named(external_id, allowed)
    }
    if silent:
        raise AssertionError(_message(silent, found, "match no span"))


def assert_matches_nothing(setups: Setups, spans: Spans) -> None:
    """Assert that no setup matches any span.

    Args:
        setups: one setup, setups by external_id, or a file of setups.
        spans: the spans to match.

    Raises:
        AssertionError: a setup matches a span, or may match one.
        TypeError: a selector contains an Output; use `declared_setups`.

    """
    __tracebackhide__ = True
    found = surveys(setups, spans)
    matching = {i: survey for i, survey in found.items() if survey.matched or survey.undecided}
    if matching:
        raise AssertionError(_message(matching, found, "match spans, or may"))


def _message(listed: Mapping[str, Survey], found: Mapping[str, Survey], what: str) -> str:
    head = f"{len(listed)} of {len(found)} setups {what}:"
    return "\n".join([head, *(f"  {i}: {survey}" for i, survey in sorted(listed.items()))])


def _index(spans: Spans) -> SpanIndex:
    if isinstance(spans, SpanIndex):
        return spans
    if isinstance(spans, (str, os.PathLike)):
        return load_spans(spans)
    return SpanIndex(spans)


def _selectors(setups: Setups) -> Iterator[tuple[str, list[Rule]]]:
    if isinstance(setups, (str, os.PathLike)):
        setups = load_setups(setups)
    content = plain(setups)
    if isinstance(content, dict) and isinstance(content.get("selector"), list):
        content = {"the setup": content}
    if not isinstance(content, dict) or not content:
        raise TypeError("no setups given: pass one setup, setups by external_id, or a file")
    for external_id, setup in content.items():
        selector = setup.get("selector") if isinstance(setup, dict) else None
        if not isinstance(selector, list) or not resolved(selector):
            raise TypeError(
                f'setup "{external_id}": the selector is unknown; run the program with'
                " declared_setups, or with SetupMocks"
            )
        yield external_id, [Rule(**rule) for rule in selector]


class SetupMocks(pulumi.runtime.Mocks):
    """Mocks for `pulumi.runtime.set_mocks` that record the declared setups.

    Example:
        ```python
        mocks = SetupMocks()
        pulumi.runtime.set_mocks(mocks)
        ```

    Args:
        mocks: the test's mocks, which respond; without them, a resource's outputs are its inputs.

    """

    def __init__(self, mocks: pulumi.runtime.Mocks | None = None) -> None:
        self._mocks = mocks
        #: The setups of resources and groups by external_id, complete when the program has ended.
        self.setups: dict[str, dict[str, Any]] = {}

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        """Record the setups of a resource, and respond."""
        self.setups |= _declared(args)
        if self._mocks is not None:
            return self._mocks.new_resource(args)
        return f"{args.name}-id", args.inputs

    def call(self, args: MockCallArgs) -> Any:
        """Respond to a function call."""
        return self._mocks.call(args) if self._mocks is not None else {}


def _declared(args: MockResourceArgs) -> dict[str, dict[str, Any]]:
    inputs = _open(args.inputs)
    kind = args.typ.removeprefix(_RESOURCES)
    if kind == "AutoMonitorSetup" and not args.resource_id:  # else a `get`
        parts = {name: inputs.get(name) for name in ("evaluators", "evaluator_configs")}
        known = {name: part for name, part in parts.items() if part is not None}
        return {inputs["external_id"]: {"selector": inputs.get("selector"), **known}}
    if kind == "AutoMonitorSetupBatch":
        return {external_id: json.loads(text) for external_id, text in unpacked(inputs).items()}
    return {}


def _open(value: Any) -> Any:
    """Return the value with secrets unwrapped."""
    value = rpc.unwrap_rpc_secret(value)
    if isinstance(value, dict):
        return {key: _open(item) for key, item in value.items()}
    return [_open(item) for item in value] if isinstance(value, list) else value


def declared_setups(
    program: Callable[[], object] | str | os.PathLike[str],
    *,
    config: Mapping[str, str] | None = None,
    project: str = "project",
    stack: str = "stack",
    mocks: pulumi.runtime.Mocks | None = None,
) -> dict[str, dict[str, Any]]:
    """Run a program on a mocked engine, and return its setups by external_id.

    They include resources, groups and files; Outputs and secrets are resolved.

    Args:
        program: a function that declares resources, or the program's file, such as
            ``__main__.py``.
        config: the stack's configuration, such as ``{"shop:chatModel": "gpt-4o"}``.
        project: the project's name.
        stack: the stack's name.
        mocks: the mocks that respond; without them, a resource's outputs are its inputs.

    Raises:
        Exception: an exception of the program.

    """
    recorder = SetupMocks(mocks)
    run = program if callable(program) else partial(_run_file, Path(program))
    # The SDK's settings belong to a context and its event loop to a thread: isolate both.
    with ThreadPoolExecutor(1) as thread:
        started = thread.submit(
            copy_context().run, _run, run, recorder, dict(config or {}), project, stack
        )
        started.result()
    return recorder.setups


def _run_file(path: Path) -> None:
    folder = path.absolute().parent
    sys.path.insert(0, str(folder))
    before = set(sys.modules)
    try:
        runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.path.remove(str(folder))
        # The next program may have other modules of the same names, and each declares anew.
        for name in sys.modules.keys() - before:
            if _is_below(folder, sys.modules[name]):
                del sys.modules[name]


def _is_below(folder: Path, module: ModuleType) -> bool:
    """Whether a module is the program's own, not a library in a virtual environment there."""
    # A namespace package has no file.
    places = [getattr(module, "__file__", None) or "", *getattr(module, "__path__", ())]
    below = [Path(each).relative_to(folder) for each in places if Path(each).is_relative_to(folder)]
    return any("site-packages" not in path.parts for path in below)


class _Monitor(MockMonitor):
    """A mocked engine that closes the event loops of the SDK's worker threads."""

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802
        return _in_a_loop(super().RegisterResource, request)

    def ReadResource(self, request: Any) -> Any:  # noqa: N802
        return _in_a_loop(super().ReadResource, request)

    def Invoke(self, request: Any) -> Any:  # noqa: N802
        return _in_a_loop(super().Invoke, request)


def _in_a_loop(call: Callable[[Any], Any], request: Any) -> Any:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return call(request)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _run(
    program: Callable[[], object],
    mocks: SetupMocks,
    config: dict[str, str],
    project: str,
    stack: str,
) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        pulumi.runtime.set_all_config(config)
        pulumi.runtime.set_mocks(mocks, project=project, stack=stack, monitor=_Monitor(mocks))
        pulumi.runtime.test(lambda: program() and None)()  # type: ignore[no-untyped-call]
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        asyncio.set_event_loop(None)
        loop.close()
