"""The resources that a program declares."""

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
from ._masking import shown
from ._naming import declarer, external_id_problem
from ._text import use_utf8
from ._validation import Problem, oddities, oddity, option_problems, problems
from ._validation import warning as odd_texts_warning
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

#: What to do about a setup that Traceloop has already and this stack does not manage.
IfExists = Literal["replace", "adopt", "fail"]

#: When a setup is up: once spans match it, or once Traceloop waits for such spans.
WaitFor = Literal["spans", "accepted"]

__all__ = ["AutoMonitorSetup", "AutoMonitorSetupBatch", "AutoMonitorSetupMembership"]

#: The package of the dynamic provider in Python.
_DYNAMIC = "pulumi-python"

if pulumi.runtime.settings.SETTINGS.monitor is not None:
    # An engine runs this program, and reads what it prints as UTF-8.
    use_utf8()


class _Hosted(Resource):
    """A resource whose provider is serialized once, and not for each resource.

    Each time, the SDK wraps the pickler of the process once more (`serialize_provider` of SDK
    3.272): after some 300 resources, another provider with a state of its own fails with a
    `RecursionError`.
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

    Example::

        AutoMonitorSetup(
            "checkout-agent",
            selector=[span("gen_ai.provider.name").equals("openai")],
            evaluators=["answer-relevancy", "toxicity-detector"],
        )

    A setup that Traceloop already has under the external_id is taken over: it is written only where
    it differs. Many setups are faster and fail one by one in an `AutoMonitorSetupGroup`.
    """

    #: The key of the setup in Traceloop.
    external_id: pulumi.Output[str]
    #: The rules that a span has to match.
    selector: pulumi.Output[Sequence[dict[str, Any]]]
    #: The slugs of the evaluators, where no options were given.
    evaluators: pulumi.Output[Sequence[str] | None]
    #: The evaluators with their options, where some were given.
    evaluator_configs: pulumi.Output[Sequence[dict[str, Any]] | None]
    #: What makes Traceloop process the setup again when it changes.
    triggers: pulumi.Output[Sequence[Any] | None]
    #: The id that Traceloop gave the setup.
    setup_id: pulumi.Output[str]
    #: The Traceloop project and environment that the setup is in.
    env_project_id: pulumi.Output[str]
    #: Why the setup was not ready, where ``wait_for_setup`` waited for it.
    unsettled: pulumi.Output[str | None]
    #: Why it is not known whether the setup is in place; the next update reads it again.
    failed: pulumi.Output[str | None]
    #: The digest of the setup as Traceloop stores it, where that differs from the declared one.
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
            args: the contents of the setup, in place of the four keywords from *selector* to
                *triggers*.
            opts: the resource's options.
            external_id: the setup's key in Traceloop, unique in the project; the resource's name if
                left out. Another one makes another setup: the resource is replaced. It is the
                resource's id, so it is shown and stored even where it comes from a secret.
            selector: the rules that a span has to match, all of them; at least one.
            evaluators: the slugs of the evaluators to run on what matches.
            evaluator_configs: the evaluators with options; in place of *evaluators*.
            triggers: any values; when they change, the setup is sent again even if it is equal to
                what Traceloop has.
            if_exists: what to do about a setup that Traceloop has under the external_id and that
                this stack does not manage. ``replace``, the default: take over one that is equal,
                overwrite one that differs. ``adopt``: take over one that is equal, fail over one
                that differs. ``fail``: take over none. The stack owns what it takes
                over, and destroys it.
            wait_for_setup: end the update only when Traceloop has set the setup up, and fail if it
                could not.
            wait_timeout: for how long to wait, in seconds; 600 if left out.
            wait_for: what to wait for. ``spans``, the default: that spans have matched, until which
                no monitor exists. ``accepted``: that Traceloop has processed the setup, whether or
                not spans have matched.
            max_evaluations: how many evaluations a day the setup may run, as estimated from
                recorded spans: matched spans a day times evaluators. Over it, a preview fails. It
                needs the configuration ``traceloop:matchSpans``, and does not guard an update
                without a preview.
            config_namespace: the configuration's namespace with the ``apiKey`` and ``baseUrl`` to
                use, for a second Traceloop project in one stack; ``traceloop`` if left out.

        Raises:
            InputError: an input that is known by now is wrong.

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
                reason = f"has the contents of the setup, so leave out {', '.join(setup)}"
                found.append(Problem("args", reason))
            setup = plain(args)
        key = resource_name if external_id is None else external_id
        how = options(
            if_exists, wait_for_setup, wait_timeout, wait_for, max_evaluations, config_namespace
        )
        if not only_read:
            awaited = isinstance(key, (pulumi.Output, Awaitable))
            if not awaited and (why := external_id_problem(key)):
                found.append(Problem("external_id", why))
            found += problems(setup, pulumi.Output) + option_problems(how)
        if found:
            raise InputError(f'AutoMonitorSetup "{resource_name}"', found)
        props: dict[str, Any] = {
            "external_id": key,
            **dict.fromkeys(("selector", "evaluators", "evaluator_configs", "triggers")),
            **setup,
            "shown": stand_in_of(setup),
            "preview": pulumi.runtime.is_dry_run() or None,
            "upcoming": None if only_read else _announced(key, config_namespace),
            "declared_by": declarer("AutoMonitorSetup", resource_name, opts),
            **how,
            **dict.fromkeys(("setup_id", "env_project_id", "unsettled", "failed", "normalized")),
        }
        refuse_provider("AutoMonitorSetup", resource_name, opts)
        super().__init__(AutoMonitorSetupProvider, resource_name, props, opts)
        name = key if isinstance(key, str) else resource_name
        odd = [Problem("external_id", why)] if (why := oddity(key)) else []
        for text in (
            *warnings([(name, setup)], config_namespace=config_namespace),
            odd_texts_warning([*odd, *oddities(setup)]),
        ):
            if text:
                pulumi.log.warn(text, resource=self)
        report_in_program(pulumi.Output.all(self.failed, self.unsettled), self._report)

    def _report(self, results: Sequence[str | None]) -> None:
        failed, unsettled = results
        if pulumi.runtime.is_dry_run() or not (failed or unsettled):
            return
        name = f'AutoMonitorSetup "{self.pulumi_resource_name}"'
        if failed:
            pulumi.log.error(f"{failed}; the next `pulumi up` reads it again", resource=self)
            raise pulumi.RunError(f"{name}: it is not known whether the setup is in place")
        pulumi.log.error(f"the monitor setup is written, but {unsettled}", resource=self)
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
            config_namespace: the configuration's namespace with the ``apiKey`` and ``baseUrl`` to
                use; ``traceloop`` if left out.

        """
        opts = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(id=id))
        declare: Any = AutoMonitorSetup  # a setup that is only read declares no rules
        found: AutoMonitorSetup = declare(
            resource_name, external_id=id, config_namespace=config_namespace, opts=opts
        )
        return found


class AutoMonitorSetupBatch(_Hosted, module="traceloop", name="AutoMonitorSetupBatch"):
    """The setups of an `AutoMonitorSetupGroup`, which declares it; it is of no use alone."""

    #: ``{external_id: why}`` of the setups that are not in place.
    failed: pulumi.Output[dict[str, str] | None]
    #: ``{external_id: why}`` of those that are in place but not ready.
    unsettled: pulumi.Output[dict[str, str] | None]
    #: The external_ids that this group wrote or adopted, or may have written, as JSON.
    owned: pulumi.Output[str | None]
    #: ``{external_id: the server's id, or null}`` of what it owned before, as JSON.
    left: pulumi.Output[str | None]
    #: ``{external_id: the server's id}`` of the setups that are in place, as JSON.
    setup_ids: pulumi.Output[str | None]
    #: The Traceloop project and environment that the setups are in.
    env_project_id: pulumi.Output[str | None]
    #: The external_ids of the setups, as JSON: of those too that a transform has added.
    external_ids: pulumi.Output[str]
    #: ``{external_id: digest}`` of setups that Traceloop stores differently than declared.
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
    """Which setups an `AutoMonitorSetupGroup` owns; the group declares it."""

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


#: By stack and namespace: the external_ids that the program has declared and the provider does not
#: know of yet.
_upcoming: WeakKeyDictionary[object, dict[str | None, list[str]]] = WeakKeyDictionary()


def _announced(
    external_id: object, config_namespace: str | None
) -> pulumi.Output[str | None] | None:
    """Return which setups the program declares, as JSON, for one of the first to be registered.

    None is registered before the program has declared all that do not wait for an Output. The
    engine checks one at a time, and the provider reads the next ones ahead.
    """
    monitor = pulumi.runtime.settings.SETTINGS.monitor
    if monitor is None or isinstance(monitor, MockMonitor) or not isinstance(external_id, str):
        return None
    by_namespace = _upcoming.setdefault(monitor, {})
    by_namespace.setdefault(config_namespace, []).append(external_id)

    async def all_so_far() -> str | None:
        found = by_namespace.pop(config_namespace, [])
        # A text: the SDK takes longer over a list, and the other resources would come first.
        return canonical(found) if len(found) > 1 else None

    return pulumi.Output.from_input(all_so_far())


def report_in_program(results: pulumi.Output[Any], report: Callable[[Any], None]) -> None:
    """Let *report* end the program, wherever the resource stands.

    An exception in an Output that nobody reads is lost in a component that is served to another
    program: that awaits only requests (`wait_for_rpcs` of SDK 3.272). So this is counted as one.
    """

    async def reported() -> None:
        await results.apply(report).future()

    asyncio.ensure_future(_get_rpc_manager().do_rpc("report of a monitor setup", reported)())  # noqa: RUF006 - the manager keeps it


def refuse_provider(kind: str, name: str, opts: pulumi.ResourceOptions | None) -> None:
    """Refuse an explicit provider.

    It would run in a separate process, which does not know what the rest of the program declares:
    a setup that moves to or from the resource would be deleted.

    Raises:
        pulumi.RunError: the options, or a parent's, have one.

    """
    if opts is None:
        return
    given = [opts.provider] if opts.provider else []
    several = opts.providers or []
    given += several.values() if isinstance(several, Mapping) else several
    inherited = opts.parent and opts.parent.get_provider(f"{_DYNAMIC}:dynamic:Resource")
    if inherited or any(provider.package == _DYNAMIC for provider in given):
        raise pulumi.RunError(
            f'{kind} "{name}": an explicit provider runs in a separate process, which does not know'
            " what the rest of the program declares, and would delete a monitor setup that moves."
            " Remove the options `provider` and `providers`; config_namespace chooses the project"
        )


def stand_in_of(setup: Any) -> pulumi.Input[str] | None:
    """Return what people may see of the `plain` *setup*; ``None`` if that is the setup itself."""
    if resolved(setup):
        return None

    async def spelled() -> str:
        return canonical(await shown(setup))

    return pulumi.Output.from_input(spelled())


def options(
    if_exists: IfExists | None,
    wait_for_setup: bool,
    wait_timeout: float | None,
    wait_for: WaitFor | None,
    max_evaluations: int | None,
    config_namespace: str | None,
) -> dict[str, Any]:
    """Return the inputs that say how to put setups in place; what is left out is ``None``."""
    return {
        "if_exists": if_exists,
        "wait_for_setup": wait_for_setup or None,
        "wait_timeout": wait_timeout,
        "wait_for": wait_for,
        "max_evaluations": max_evaluations,
        "config_namespace": config_namespace,
    }
