"""Functions that read setups in a program, like the ``get_...`` functions of other packages.

Dynamic providers have no functions, so these send requests from the program's process, in previews
too. Under `pulumi.runtime.set_mocks` they call the mocks instead.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import quote

import pulumi
from pulumi.runtime.mocks import MockMonitor
from pulumi.runtime.settings import get_monitor

from ._deployment import deployment
from ._settings import connection
from .args import Operator, Scope, SelectorRuleArgs, Source
from .errors import NotFoundError, TraceloopError

if TYPE_CHECKING:
    from ._models import Setup
    from ._project import Project

__all__ = [
    "AutoMonitorSetupResult",
    "EvaluatorResult",
    "SelectorRuleResult",
    "get_auto_monitor_setup",
    "get_auto_monitor_setup_output",
    "list_auto_monitor_setups",
    "list_auto_monitor_setups_output",
]

_GET = "traceloop:index:getAutoMonitorSetup"
_LIST = "traceloop:index:listAutoMonitorSetups"

_T = TypeVar("_T")


@dataclass(frozen=True)
class SelectorRuleResult(SelectorRuleArgs):
    """One rule of a setup that was read; usable in the selector of a new setup."""

    #: The attribute's key.
    key: str
    #: ``span_attributes``, ``resource_attributes`` or a source that Traceloop adds later.
    source: Source
    #: Such as ``equals``, or an operator that Traceloop adds later.
    operator: Operator = "equals"
    #: The operand of an operator that takes one value.
    value: str | None = None
    #: The operands of an operator that takes several.
    values: tuple[str, ...] | None = None


@dataclass(frozen=True)
class EvaluatorResult:
    """One evaluator of a setup that was read, and its status."""

    #: Such as ``faithfulness``.
    slug: str
    #: ``pending``, ``in_progress``, ``waiting_for_spans``, ``completed`` or ``failed``.
    status: str
    #: ``session``, ``trace`` or ``span``; ``None`` if the evaluator decides.
    scope: Scope | None = None
    #: Why the evaluator failed, if it did.
    error_message: str | None = None


@dataclass(frozen=True)
class AutoMonitorSetupResult:
    """A setup as Traceloop has it. Traceloop changes the statuses asynchronously."""

    #: The setup's id in Traceloop.
    id: str
    #: The setup's key.
    external_id: str
    #: The setup's Traceloop project and environment.
    env_project_id: str | None
    #: ``pending``, ``in_progress``, ``waiting_for_spans``, ``completed``, ``partial``, ``failed``.
    status: str
    #: The rules; a span has to match all of them.
    selector: tuple[SelectorRuleResult, ...]
    #: The evaluators that run on matching spans.
    evaluators: tuple[EvaluatorResult, ...]
    #: When the setup was created, as Traceloop reports it.
    created_at: str | None
    #: When the setup was last changed, as Traceloop reports it.
    updated_at: str | None


def get_auto_monitor_setup(
    external_id: str, *, config_namespace: str | None = None
) -> AutoMonitorSetupResult:
    """Read one setup, managed by this stack or not.

    Example:
        ```python
        existing = get_auto_monitor_setup("checkout-agent")
        AutoMonitorSetup("copy", selector=existing.selector, evaluators=["faithfulness"])
        ```

    The program waits for the response, in previews too.

    Args:
        external_id: the setup's key in Traceloop.
        config_namespace: the configuration namespace of ``apiKey`` and ``baseUrl``; ``traceloop``
            by default.

    Raises:
        NotFoundError: the API key's project has no such setup.
        ConfigurationError: a setting is invalid, or the API key is missing.
        RequestError: the request failed.
        TypeError: *external_id* is an Output.

    """
    if isinstance(external_id, pulumi.Output):
        raise TypeError("the external_id is an Output: use get_auto_monitor_setup_output")
    if _mocked():
        result = pulumi.runtime.invoke(_GET, {"external_id": external_id}).value
        return _mock_result({"external_id": external_id, **(result or {})})
    return _without_frames(partial(_get, _project(config_namespace), external_id))


def get_auto_monitor_setup_output(
    external_id: pulumi.Input[str], *, config_namespace: str | None = None
) -> pulumi.Output[AutoMonitorSetupResult]:
    """Read one setup without blocking the program.

    If *external_id* comes from a resource that is yet to be created, the setup is read after that;
    in a preview, the result is unknown.

    Args:
        external_id: the setup's key in Traceloop.
        config_namespace: the configuration namespace of ``apiKey`` and ``baseUrl``; ``traceloop``
            by default.

    """
    if _mocked():
        given = pulumi.Output.from_input(external_id)
        result = pulumi.runtime.invoke_output(_GET, {"external_id": given})
        return pulumi.Output.all(given, result).apply(
            lambda both: _mock_result({"external_id": both[0], **(both[1] or {})})
        )
    project = _project(config_namespace)
    return _when_created(external_id, lambda known: _get(project, known))


def list_auto_monitor_setups(
    status: str | None = None, *, config_namespace: str | None = None
) -> list[AutoMonitorSetupResult]:
    """Read all setups of the API key's project, sorted by external_id.

    Example:
        ```python
        broken = list_auto_monitor_setups(status="failed")
        ```

    The program waits for the response, in previews too.

    Args:
        status: the status to filter by.
        config_namespace: the configuration namespace of ``apiKey`` and ``baseUrl``; ``traceloop``
            by default.

    Raises:
        ConfigurationError: a setting is invalid, or the API key is missing.
        RequestError: the request failed.
        TypeError: *status* is an Output.

    """
    if isinstance(status, pulumi.Output):
        raise TypeError("the status is an Output: use list_auto_monitor_setups_output")
    if _mocked():
        return _mock_results(pulumi.runtime.invoke(_LIST, {"status": status}).value)
    return _without_frames(partial(_list, _project(config_namespace), status))


def list_auto_monitor_setups_output(
    status: pulumi.Input[str] | None = None, *, config_namespace: str | None = None
) -> pulumi.Output[list[AutoMonitorSetupResult]]:
    """Read all setups of the API key's project without blocking the program.

    Args:
        status: the status to filter by.
        config_namespace: the configuration namespace of ``apiKey`` and ``baseUrl``; ``traceloop``
            by default.

    """
    if _mocked():
        return pulumi.runtime.invoke_output(_LIST, {"status": status}).apply(_mock_results)
    project = _project(config_namespace)
    return _when_created(status, lambda known: _list(project, known))


def _project(config_namespace: str | None) -> Project:
    def setting(key: str) -> str | None:
        namespace, _, name = key.partition(":")
        return pulumi.Config(namespace).get(name)

    return deployment().project(connection(setting, os.environ, config_namespace))


def _without_frames(read: Callable[[], _T]) -> _T:
    # The traceback ends at the call in the program.
    try:
        return read()
    except TraceloopError as error:
        failure = error
    raise failure.with_traceback(None) from None


def _when_created(given: pulumi.Input[_T], read: Callable[[_T], Any]) -> pulumi.Output[Any]:
    """Read in a thread, once *given* is known and its resources exist.

    In a preview, the external_id of a resource may be known although the setup does not exist yet.
    """
    output = pulumi.Output.from_input(given)

    def in_thread(known: Any) -> Awaitable[Any]:
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(None, partial(_without_frames, partial(read, known)))

    async def result(known: Any) -> Any:
        resources = await output.resources()
        ids = [r.id for r in resources if isinstance(r, pulumi.CustomResource)]
        return pulumi.Output.all(*ids).apply(lambda _: in_thread(known))

    # The second apply unwraps the Output that the awaitable resolves to; the SDK does not.
    return output.apply(result).apply(lambda inner: inner)


def _get(project: Project, external_id: str) -> AutoMonitorSetupResult:
    setup = project.get(external_id)
    if setup is None:
        raise NotFoundError(
            "GET",
            f"/v2/auto-monitor-setups/{quote(external_id, safe='')}",
            "the API key's Traceloop project has no such monitor setup: check the"
            " external_id (list_auto_monitor_setups() lists the existing ones) and"
            " traceloop:apiKey, or declare the setup with AutoMonitorSetup",
            status=404,
            external_id=external_id,
        )
    return _result(setup)


def _list(project: Project, status: str | None) -> list[AutoMonitorSetupResult]:
    # Not filtered by the service: only the whole list shows which setups are the key's own.
    setups = project.setups(fresh=True)
    return [
        _result(setup)
        for _, setup in sorted(setups.items())
        if status is None or setup.status == status
    ]


def _result(setup: Setup) -> AutoMonitorSetupResult:
    return AutoMonitorSetupResult(
        id=setup.id,
        external_id=setup.external_id,
        env_project_id=setup.env_project_id,
        status=setup.status,
        selector=tuple(
            SelectorRuleResult(
                rule.key,
                cast("Source", rule.source),
                cast("Operator", rule.operator or "equals"),
                rule.value,
                None if rule.values is None else tuple(rule.values),
            )
            for rule in setup.init_rules
        ),
        evaluators=tuple(
            EvaluatorResult(
                e.evaluator_type, e.status, cast("Scope | None", e.scope or None), e.error_message
            )
            for e in setup.evaluators
        ),
        created_at=setup.created_at,
        updated_at=setup.updated_at,
    )


# Mocks, for unit tests of programs.


def _mocked() -> bool:
    return isinstance(get_monitor(), MockMonitor)


def _mock_results(result: Mapping[str, Any] | None) -> list[AutoMonitorSetupResult]:
    return [_mock_result(setup) for setup in (result or {}).get("setups", ())]


def _mock_result(given: Mapping[str, Any]) -> AutoMonitorSetupResult:
    """Return a mock's result, with defaults for omitted fields."""
    return AutoMonitorSetupResult(
        id=given.get("id", ""),
        external_id=given["external_id"],
        env_project_id=given.get("env_project_id"),
        status=given.get("status", "completed"),
        selector=tuple(
            SelectorRuleResult(**{**rule, "values": values and tuple(values)})
            for rule in given.get("selector", ())
            for values in [rule.get("values")]
        ),
        evaluators=tuple(
            EvaluatorResult(**{"status": "completed", **evaluator})
            for evaluator in given.get("evaluators", ())
        ),
        created_at=given.get("created_at"),
        updated_at=given.get("updated_at"),
    )
