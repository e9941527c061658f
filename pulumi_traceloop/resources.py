"""The dynamic resources: a single setup, and the two children of a group."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, overload
from weakref import WeakKeyDictionary

import pulumi
from pulumi.dynamic import Resource, ResourceProvider
from pulumi.dynamic.dynamic import PROVIDER_KEY, serialize_provider
from pulumi.runtime.mocks import MockMonitor
from pulumi.runtime.settings import _get_rpc_manager

from . import providers
from ._codec import SETUP_PARTS
from ._masking import displayed
from ._naming import declarer, external_id_problem
from ._text import use_utf8
from ._validation import (
    Problem,
    option_problems,
    problems,
    suspicion,
    suspicious_texts,
    suspicious_texts_warning,
)
from ._warnings import warnings
from .args import (
    AutoMonitorSetupArgs,
    AutoMonitorSetupArgsDict,
    EvaluatorConfigsInput,
    EvaluatorsInput,
    InputError,
    SelectorInput,
    TriggersInput,
    canonical,
    plain,
    resolved,
)
from .providers import (
    AutoMonitorSetupBatchProvider,
    AutoMonitorSetupMembershipProvider,
    AutoMonitorSetupProvider,
)

#: How to treat an existing setup that this stack does not manage.
IfExists = Literal["replace", "adopt", "fail"]

#: When a setup is ready: once spans match it, or once Traceloop waits for such spans.
WaitFor = Literal["spans", "accepted"]

__all__ = ["AutoMonitorSetup", "AutoMonitorSetupBatch", "AutoMonitorSetupMembership"]

#: The package of Python's dynamic provider.
_DYNAMIC = "pulumi-python"

if pulumi.runtime.settings.SETTINGS.monitor is not None:
    # The engine reads the program's output as UTF-8.
    use_utf8()


class _Hosted(Resource):
    """A resource whose provider is serialized once per process.

    Each serialization adds another wrapper to the pickler of the process (`serialize_provider` of
    SDK 3.272). After some 300, a provider with attributes of its own fails with a `RecursionError`.
    """

    def __init__(
        self,
        provider: type[ResourceProvider],
        name: str,
        props: dict[str, Any],
        opts: pulumi.ResourceOptions | None,
    ) -> None:
        props = {**props, PROVIDER_KEY: _serialized(provider.__name__)}
        pulumi.CustomResource.__init__(
            self, f"{_DYNAMIC}:{self._resource_type_name}", name, props, opts
        )


@cache
def _serialized(name: str) -> str:
    return str(serialize_provider(getattr(providers, name)()))


class AutoMonitorSetup(_Hosted, module="traceloop", name="AutoMonitorSetup"):
    """One auto monitor setup.

    Example:
        ```python
        AutoMonitorSetup(
            "checkout-agent",
            selector=[span("gen_ai.provider.name").equals("openai")],
            evaluators=["answer-relevancy", "toxicity-detector"],
        )
        ```

    An existing setup with the external_id is adopted, and written only if it differs. For many
    setups use an `AutoMonitorSetupGroup`: it is faster, and one failure does not block the others.
    """

    #: The key of the setup in Traceloop.
    external_id: pulumi.Output[str]
    #: The rules that a span has to match.
    selector: pulumi.Output[Sequence[dict[str, Any]]]
    #: The slugs of the evaluators, if declared without options.
    evaluators: pulumi.Output[Sequence[str] | None]
    #: The evaluators with options, if declared with options.
    evaluator_configs: pulumi.Output[Sequence[dict[str, Any]] | None]
    #: Values whose change makes Traceloop process the setup again.
    triggers: pulumi.Output[Sequence[Any] | None]
    #: The setup's id in Traceloop.
    setup_id: pulumi.Output[str]
    #: The setup's Traceloop project and environment.
    env_project_id: pulumi.Output[str]
    #: Why the setup was not ready, if ``wait_for_setup`` waited for it.
    unsettled: pulumi.Output[str | None]
    #: Why the outcome of the write is unknown; the next update reads the setup again.
    failed: pulumi.Output[str | None]
    #: The digest of the setup as Traceloop normalized it, if that differs from the declared one.
    normalized: pulumi.Output[str | None]

    @overload
    def __init__(
        self,
        resource_name: str,
        args: AutoMonitorSetupArgs | AutoMonitorSetupArgsDict,
        opts: pulumi.ResourceOptions | None = None,
        *,
        external_id: pulumi.Input[str] | None = None,
        if_exists: IfExists | None = None,
        wait_for_setup: bool = False,
        wait_timeout: float | None = None,
        wait_for: WaitFor | None = None,
        max_evaluations: int | None = None,
        config_namespace: str | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        resource_name: str,
        *,
        external_id: pulumi.Input[str] | None = None,
        selector: SelectorInput,
        evaluators: EvaluatorsInput,
        evaluator_configs: None = None,
        triggers: TriggersInput | None = None,
        if_exists: IfExists | None = None,
        wait_for_setup: bool = False,
        wait_timeout: float | None = None,
        wait_for: WaitFor | None = None,
        max_evaluations: int | None = None,
        config_namespace: str | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        resource_name: str,
        *,
        external_id: pulumi.Input[str] | None = None,
        selector: SelectorInput,
        evaluators: None = None,
        evaluator_configs: EvaluatorConfigsInput,
        triggers: TriggersInput | None = None,
        if_exists: IfExists | None = None,
        wait_for_setup: bool = False,
        wait_timeout: float | None = None,
        wait_for: WaitFor | None = None,
        max_evaluations: int | None = None,
        config_namespace: str | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None: ...

    def __init__(
        self,
        resource_name: str,
        args: AutoMonitorSetupArgs | AutoMonitorSetupArgsDict | None = None,
        opts: pulumi.ResourceOptions | None = None,
        *,
        external_id: pulumi.Input[str] | None = None,
        selector: SelectorInput | None = None,
        evaluators: EvaluatorsInput | None = None,
        evaluator_configs: EvaluatorConfigsInput | None = None,
        triggers: TriggersInput | None = None,
        if_exists: IfExists | None = None,
        wait_for_setup: bool = False,
        wait_timeout: float | None = None,
        wait_for: WaitFor | None = None,
        max_evaluations: int | None = None,
        config_namespace: str | None = None,
    ) -> None:
        """Declare a setup.

        Args:
            resource_name: the resource's name in Pulumi.
            args: the contents of the setup, instead of the four keywords *selector* to *triggers*.
            opts: the resource's options.
            external_id: the setup's key in Traceloop, unique in the project; the resource's name by
                default. A change replaces the resource. It is the resource's id, so it is displayed
                and stored in plain text even if it comes from a secret.
            selector: the rules, at least one; a span has to match all of them.
            evaluators: the slugs of the evaluators to run on matching spans.
            evaluator_configs: the evaluators with options, instead of *evaluators*.
            triggers: any values; when they change, the setup is sent again even if Traceloop has an
                equal one.
            if_exists: how to treat an existing setup that this stack does not manage. ``replace``
                (default): adopt it if equal, else overwrite it. ``adopt``: adopt it if equal, else
                fail. ``fail``: always fail. The stack owns an adopted setup, and destroys it.
            wait_for_setup: whether the update waits until Traceloop has provisioned the setup, and
                fails if it cannot.
            wait_timeout: the longest wait, in seconds; 600 by default.
            wait_for: the state to wait for. ``spans`` (default): spans have matched and a monitor
                exists. ``accepted``: Traceloop has processed the setup, with or without spans.
            max_evaluations: the most evaluations a day, estimated from recorded spans as matched
                spans a day times evaluators; above it, a preview fails. It needs the configuration
                ``traceloop:matchSpans``, and does not guard an update without a preview.
            config_namespace: the configuration namespace of ``apiKey`` and ``baseUrl``, for a
                second Traceloop project in one stack; ``traceloop`` by default.

        Raises:
            InputError: a known input is invalid.

        """
        setup = plain(
            {
                "selector": selector,
                "evaluators": evaluators,
                "evaluator_configs": evaluator_configs,
                "triggers": triggers,
            }
        )
        found: list[Problem] = []
        only_read = opts is not None and (opts.id is not None or opts.urn is not None)
        if args is not None:
            if setup:
                reason = f"has the contents of the setup: remove {', '.join(setup)}"
                found.append(Problem("args", reason))
            setup = plain(args)
        key = resource_name if external_id is None else external_id
        write_options = options(
            if_exists, wait_for_setup, wait_timeout, wait_for, max_evaluations, config_namespace
        )
        if not only_read:
            pending = isinstance(key, (pulumi.Output, Awaitable))
            if not pending and (why := external_id_problem(key)):
                found.append(Problem("external_id", why))
            found += problems(setup, pulumi.Output) + option_problems(write_options)
        if found:
            raise InputError(f'AutoMonitorSetup "{resource_name}"', found)
        props: dict[str, Any] = {
            "external_id": key,
            **dict.fromkeys(SETUP_PARTS),
            **setup,
            "shown": display_of(setup),
            "preview": pulumi.runtime.is_dry_run() or None,
            "upcoming": None if only_read else _announced(key, config_namespace),
            "declared_by": declarer("AutoMonitorSetup", resource_name, opts),
            **write_options,
            **dict.fromkeys(("setup_id", "env_project_id", "unsettled", "failed", "normalized")),
        }
        refuse_provider("AutoMonitorSetup", resource_name, opts)
        super().__init__(AutoMonitorSetupProvider, resource_name, props, opts)
        name = key if isinstance(key, str) else resource_name
        suspicious = [Problem("external_id", why)] if (why := suspicion(key)) else []
        for text in (
            *warnings([(name, setup)], config_namespace=config_namespace),
            suspicious_texts_warning([*suspicious, *suspicious_texts(setup)]),
        ):
            if text:
                pulumi.log.warn(text, resource=self)
        report_in_program(pulumi.Output.all(self.failed, self.unsettled), self._report)

    def _report(self, results: Sequence[str | None]) -> None:
        failed, not_ready = results
        if pulumi.runtime.is_dry_run() or not (failed or not_ready):
            return
        name = f'AutoMonitorSetup "{self.pulumi_resource_name}"'
        if failed:
            pulumi.log.error(f"{failed}; the next `pulumi up` reads it again", resource=self)
            raise pulumi.RunError(f"{name}: the outcome of the write is unknown")
        pulumi.log.error(f"the monitor setup is written, but {not_ready}", resource=self)
        raise pulumi.RunError(f"{name} is not ready")

    @staticmethod
    def get(
        resource_name: str,
        id: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
        *,
        config_namespace: str | None = None,
    ) -> AutoMonitorSetup:
        """Read an existing setup without managing it.

        Args:
            resource_name: the resource's name in Pulumi.
            id: the setup's external_id.
            opts: the resource's options.
            config_namespace: the configuration namespace of ``apiKey`` and ``baseUrl``;
                ``traceloop`` by default.

        """
        opts = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(id=id))
        declare: Any = AutoMonitorSetup  # without rules, unlike its overloads
        found: AutoMonitorSetup = declare(
            resource_name, external_id=id, config_namespace=config_namespace, opts=opts
        )
        return found


class AutoMonitorSetupBatch(_Hosted, module="traceloop", name="AutoMonitorSetupBatch"):
    """The setups of an `AutoMonitorSetupGroup`, which declares it; do not use it directly."""

    #: ``{external_id: why}`` of the setups that failed.
    failed: pulumi.Output[dict[str, str] | None]
    #: ``{external_id: why}`` of the setups that are written but not ready.
    unsettled: pulumi.Output[dict[str, str] | None]
    #: The external_ids that this group wrote, adopted or may have written, as JSON.
    owned: pulumi.Output[str | None]
    #: ``{external_id: server id or null}`` of the setups that it owned before, as JSON.
    left: pulumi.Output[str | None]
    #: ``{external_id: server id}`` of the stored setups, as JSON.
    setup_ids: pulumi.Output[str | None]
    #: The setups' Traceloop project and environment.
    env_project_id: pulumi.Output[str | None]
    #: The external_ids of the setups, including those added by a transform, as JSON.
    external_ids: pulumi.Output[str]
    #: ``{external_id: digest}`` of the setups that Traceloop normalized.
    normalized: pulumi.Output[dict[str, str] | None]

    def __init__(
        self,
        resource_name: str,
        setups: Mapping[str, pulumi.Input[str]],
        packed_setups: dict[str, str] | None,
        shown: dict[str, pulumi.Input[str]],
        declared_by: pulumi.Input[str],
        options: dict[str, Any],
        opts: pulumi.ResourceOptions,
    ) -> None:
        props = {
            "setups": setups,
            "packed_setups": packed_setups,
            "shown": shown or None,
            "preview": pulumi.runtime.is_dry_run() or None,
            "declared_by": declared_by,
            **options,
            **dict.fromkeys(
                (
                    "failed",
                    "unsettled",
                    "owned",
                    "left",
                    "setup_ids",
                    "env_project_id",
                    "external_ids",
                    "normalized",
                )
            ),
        }
        super().__init__(AutoMonitorSetupBatchProvider, resource_name, props, opts)


class AutoMonitorSetupMembership(_Hosted, module="traceloop", name="AutoMonitorSetupMembership"):
    """The setups that an `AutoMonitorSetupGroup` owns; the group declares it."""

    def __init__(
        self,
        resource_name: str,
        batch: AutoMonitorSetupBatch,
        declared_by: pulumi.Input[str],
        config_namespace: str | None,
        opts: pulumi.ResourceOptions,
    ) -> None:
        props = {
            "external_ids": batch.external_ids,
            "group_id": batch.id,
            "owned": batch.owned,
            "left": batch.left,
            "env_project_id": batch.env_project_id,
            "declared_by": declared_by,
            "config_namespace": config_namespace,
        }
        super().__init__(AutoMonitorSetupMembershipProvider, resource_name, props, opts)


#: By stack and namespace: the declared external_ids that no resource has passed on yet.
_upcoming: WeakKeyDictionary[object, dict[str | None, list[str]]] = WeakKeyDictionary()


def _announced(
    external_id: object, config_namespace: str | None
) -> pulumi.Output[str | None] | None:
    """Return an input that lists the declared setups as JSON, so that the provider can read ahead.

    The engine checks one resource at a time. The SDK registers the first one after the program has
    declared all that wait for no Output, so the first one passes the list, and the others ``None``.
    """
    monitor = pulumi.runtime.settings.SETTINGS.monitor
    if monitor is None or isinstance(monitor, MockMonitor) or not isinstance(external_id, str):
        return None
    by_namespace = _upcoming.setdefault(monitor, {})
    by_namespace.setdefault(config_namespace, []).append(external_id)

    async def all_so_far() -> str | None:
        found = by_namespace.pop(config_namespace, [])
        # As text: the SDK serializes a list more slowly, and other resources would come first.
        return canonical(found) if len(found) > 1 else None

    return pulumi.Output.from_input(all_so_far())


def report_in_program(results: pulumi.Output[Any], report: Callable[[Any], None]) -> None:
    """Let *report* end the program, in remote components too.

    A remote component awaits only RPCs (`wait_for_rpcs` of SDK 3.272), and loses an exception in an
    unused Output. So the report is registered as an RPC.
    """

    async def reported() -> None:
        await results.apply(report).future()

    asyncio.ensure_future(_get_rpc_manager().do_rpc("report of a monitor setup", reported)())  # noqa: RUF006 - the manager keeps it


def refuse_provider(kind: str, name: str, opts: pulumi.ResourceOptions | None) -> None:
    """Refuse an explicit provider.

    It would run in a separate process, which does not know the program's other declarations: it
    would delete a setup that moves to or from the resource.

    Raises:
        pulumi.RunError: the options or a parent have one.

    """
    if opts is None:
        return
    given = [opts.provider] if opts.provider else []
    several = opts.providers or []
    given += several.values() if isinstance(several, Mapping) else several
    inherited = opts.parent and opts.parent.get_provider(f"{_DYNAMIC}:dynamic:Resource")
    if inherited or any(provider.package == _DYNAMIC for provider in given):
        raise pulumi.RunError(
            f'{kind} "{name}": an explicit provider runs in a separate process, does not know the'
            " program's other declarations, and would delete a monitor setup that moves. Remove"
            " the options `provider` and `providers`; config_namespace chooses the project"
        )


def display_of(setup: Any) -> pulumi.Input[str] | None:
    """Return the display JSON of a `plain` *setup*; ``None`` if it has no Outputs."""
    if resolved(setup):
        return None

    async def display() -> str:
        return canonical(await displayed(setup))

    return pulumi.Output.from_input(display())


def options(
    if_exists: IfExists | None,
    wait_for_setup: bool,
    wait_timeout: float | None,
    wait_for: WaitFor | None,
    max_evaluations: int | None,
    config_namespace: str | None,
) -> dict[str, Any]:
    """Return the inputs that control writes; an omitted one is ``None``."""
    return {
        "if_exists": if_exists,
        "wait_for_setup": wait_for_setup or None,
        "wait_timeout": wait_timeout,
        "wait_for": wait_for,
        "max_evaluations": max_evaluations,
        "config_namespace": config_namespace,
    }
