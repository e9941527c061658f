"""Reading setups in a program, as other packages' ``get_...`` functions do.

Dynamic providers have no functions, so these ask Traceloop from the program's own process, in
previews as well. A program under `pulumi.runtime.set_mocks` asks its mocks instead.
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
    """One rule of a setup that was read; a new setup takes it as it is."""

    #: The attribute's key.
    key: str
    #: ``span_attributes`` or ``resource_attributes``; another text if Traceloop adds one.
    source: Source
    #: Such as ``equals``; another text if Traceloop adds one.
    operator: Operator = "equals"
    #: What the operator compares with, if it takes one value.
    value: str | None = None
    #: What the operator compares with, if it takes several.
    values: tuple[str, ...] | None = None


@dataclass(frozen=True)
class EvaluatorResult:
    """One evaluator of a setup that was read, and its status."""

    #: Such as ``faithfulness``.
    slug: str
    #: ``pending``, ``in_progress``, ``waiting_for_spans``, ``completed`` or ``failed``.
    status: str
    #: ``session``, ``trace`` or ``span``; ``None`` where the evaluator decides.
    scope: Scope | None = None
    #: Why it failed, if it did.
    error_message: str | None = None


@dataclass(frozen=True)
class AutoMonitorSetupResult:
    """A setup as Traceloop has it. Its status and those of its evaluators change by themselves."""

    #: The id that Traceloop gave the setup.
    id: str
    #: The setup's key.
    external_id: str
    #: The Traceloop project and environment that the setup is in.
    env_project_id: str | None
    #: ``pending``, ``in_progress``, ``waiting_for_spans``, ``completed``, ``partial``, ``failed``.
    status: str
    #: The rules that a span has to match.
    selector: tuple[SelectorRuleResult, ...]
    #: The evaluators that run on what matches.
    evaluators: tuple[EvaluatorResult, ...]
    #: When the setup was created, as Traceloop reports it.
    created_at: str | None
    #: When the setup was last changed, as Traceloop reports it.
    updated_at: str | None


def get_auto_monitor_setup(
    external_id: str, *, config_namespace: str | None = None
) -> AutoMonitorSetupResult:
    """Read one setup, whoever manages it.

    Example::

        theirs = get_auto_monitor_setup("checkout-agent")
        AutoMonitorSetup("copy", selector=theirs.selector, evaluators=["faithfulness"])

    The program waits for the response, in previews as well.

    Args:
        external_id: the setup's key in Traceloop.
        config_namespace: the configuration's namespace with the ``apiKey`` and ``baseUrl`` to use;
            ``traceloop`` if left out.

    Raises:
        NotFoundError: there is no such setup in the API key's project.
        ConfigurationError: there is no API key, or the base URL is unusable.
        RequestError: the request failed.
        TypeError: *external_id* is an Output.

    """
    if isinstance(external_id, pulumi.Output):
        raise TypeError("the external_id is an Output; use get_auto_monitor_setup_output")
    if _mocked():
        answer = pulumi.runtime.invoke(_GET, {"external_id": external_id}).value
        return _mock_result({"external_id": external_id, **(answer or {})})
    return _asked(partial(_get, _project(config_namespace), external_id))


def get_auto_monitor_setup_output(
    external_id: pulumi.Input[str], *, config_namespace: str | None = None
) -> pulumi.Output[AutoMonitorSetupResult]:
    """Read one setup, as `get_auto_monitor_setup` does, but without making the program wait.

    If *external_id* comes from a resource that is not created yet, the setup is read after
    that; in a preview, the result is then not known.

    Args:
        external_id: the setup's key in Traceloop.
        config_namespace: the configuration's namespace with the ``apiKey`` and ``baseUrl`` to use;
            ``traceloop`` if left out.

    """
    if _mocked():
        given = pulumi.Output.from_input(external_id)
        answer = pulumi.runtime.invoke_output(_GET, {"external_id": given})
        return pulumi.Output.all(given, answer).apply(
            lambda both: _mock_result({"external_id": both[0], **(both[1] or {})})
        )
    there = _project(config_namespace)
    return _when_created(external_id, lambda known: _get(there, known))


def list_auto_monitor_setups(
    status: str | None = None, *, config_namespace: str | None = None
) -> list[AutoMonitorSetupResult]:
    """Read all setups of the API key's project, whoever manages them, by external_id.

    Example::

        broken = list_auto_monitor_setups(status="failed")

    The program waits for the response, in previews as well.

    Args:
        status: only those with this status.
        config_namespace: the configuration's namespace with the ``apiKey`` and ``baseUrl`` to use;
            ``traceloop`` if left out.

    Raises:
        ConfigurationError: there is no API key, or the base URL is unusable.
        RequestError: the request failed.
        TypeError: *status* is an Output.

    """
    if isinstance(status, pulumi.Output):
        raise TypeError("the status is an Output; use list_auto_monitor_setups_output")
    if _mocked():
        answer = pulumi.runtime.invoke(_LIST, {"status": status}).value
        return _mock_results(answer)
    return _asked(partial(_list, _project(config_namespace), status))


def list_auto_monitor_setups_output(
    status: pulumi.Input[str] | None = None, *, config_namespace: str | None = None
) -> pulumi.Output[list[AutoMonitorSetupResult]]:
    """Read all setups, as `list_auto_monitor_setups` does, but without making the program wait.

    Args:
        status: only those with this status.
        config_namespace: the configuration's namespace with the ``apiKey`` and ``baseUrl`` to use;
            ``traceloop`` if left out.

    """
    if _mocked():
        return pulumi.runtime.invoke_output(_LIST, {"status": status}).apply(_mock_results)
    there = _project(config_namespace)
    return _when_created(status, lambda known: _list(there, known))


def _project(config_namespace: str | None) -> Project:
    def setting(key: str) -> str | None:
        namespace, _, name = key.partition(":")
        return pulumi.Config(namespace).get(name)

    return deployment().project(connection(setting, os.environ, config_namespace))


def _asked(ask: Callable[[], _T]) -> _T:
    # What the user sees is the program's own traceback, which ends at the call.
    try:
        return ask()
    except TraceloopError as error:
        failure = error
    raise failure.with_traceback(None) from None


def _when_created(given: pulumi.Input[_T], ask: Callable[[_T], Any]) -> pulumi.Output[Any]:
    """Ask in a thread, once *given* is known and the resources that it comes from are there.

    A resource that is yet to be created may well know its external_id in a preview, but reading
    that would fail.
    """
    output = pulumi.Output.from_input(given)

    def in_thread(known: Any) -> Awaitable[Any]:
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(None, partial(_asked, partial(ask, known)))

    async def answer(known: Any) -> Any:
        resources = await output.resources()
        ids = [r.id for r in resources if isinstance(r, pulumi.CustomResource)]
        return pulumi.Output.all(*ids).apply(lambda _: in_thread(known))

    # The second one unwraps: an awaitable that ends in an Output is none to the SDK.
    return output.apply(answer).apply(lambda answered: answered)


def _get(there: Project, external_id: str) -> AutoMonitorSetupResult:
    setup = there.get(external_id)
    if setup is None:
        raise NotFoundError(
            "GET",
            f"/v2/auto-monitor-setups/{quote(external_id, safe='')}",
            "the Traceloop project that the API key belongs to has no such monitor setup; check the"
            " external_id (list_auto_monitor_setups() lists the existing ones) and"
            " traceloop:apiKey, or declare the setup with AutoMonitorSetup",
            status=404,
            external_id=external_id,
        )
    return _result(setup)


def _list(there: Project, status: str | None) -> list[AutoMonitorSetupResult]:
    # Not filtered by the service: which setups are the key's own shows in the whole list only.
    setups = there.setups(fresh=True)
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


# Unit tests of programs.


def _mocked() -> bool:
    return isinstance(get_monitor(), MockMonitor)


def _mock_results(answer: Mapping[str, Any] | None) -> list[AutoMonitorSetupResult]:
    return [_mock_result(setup) for setup in (answer or {}).get("setups", ())]


def _mock_result(given: Mapping[str, Any]) -> AutoMonitorSetupResult:
    """Return what a mock answers with the names of the results; what it leaves out has defaults."""
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
