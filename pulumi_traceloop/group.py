"""The component that a program declares many setups with."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import pulumi

from ._codec import packed
from ._naming import declarer
from ._text import by_cause
from ._validation import Problem, group_oddities, group_problems, option_problems, setup_path
from ._validation import warning as odd_texts_warning
from ._warnings import warnings
from .args import (
    AutoMonitorSetupArgs,
    AutoMonitorSetupArgsDict,
    InputError,
    SetupOutput,
    canonical,
    canonical_if_known,
    plain,
    resolved,
)
from .resources import (
    AutoMonitorSetupBatch,
    AutoMonitorSetupMembership,
    IfExists,
    WaitFor,
    options,
    refuse_provider,
    stand_in_of,
)

__all__ = ["AutoMonitorSetupGroup"]


class AutoMonitorSetupGroup(pulumi.ComponentResource):
    """Many auto monitor setups, written through the bulk endpoint, 100 in a request.

    Example::

        AutoMonitorSetupGroup(
            "monitors",
            setups={
                "openai": AutoMonitorSetupArgs(
                    selector=[span("gen_ai.provider.name").equals("openai")],
                    evaluators=["faithfulness"],
                ),
            },
        )

    A setup that Traceloop refuses does not block the others: what worked is in the state, the
    program ends with one error that names each failed setup and why, and the next ``pulumi up``
    sends only those. What ends the program also holds back what it declares after the group's
    outputs are known, and the deployment's deletes; they wait for the next successful update.
    """

    #: ``{external_id: the server's id}``. In an update it fails while a setup is not in place.
    setup_ids: pulumi.Output[dict[str, str]]
    #: ``{external_id: why}`` of the setups that are not in place.
    failed: pulumi.Output[dict[str, str]]

    def __init__(
        self,
        resource_name: str,
        setups: Mapping[str, pulumi.Input[AutoMonitorSetupArgs | AutoMonitorSetupArgsDict]],
        opts: pulumi.ResourceOptions | None = None,
        *,
        if_exists: IfExists | None = None,
        wait_for_setup: bool = False,
        wait_timeout: float | None = None,
        wait_for: WaitFor | None = None,
        max_deletes: int | str | None = None,
        max_evaluations: int | None = None,
        config_namespace: str | None = None,
    ) -> None:
        """Declare the setups of a group.

        Args:
            resource_name: the group's name in Pulumi.
            setups: the setups by external_id; a setup or any part of one may be an Output.
            opts: the component's options; ``protect`` makes the engine refuse to remove a setup.
                Hooks and ``additional_secret_outputs`` are those of the writes; what has no effect
                on a group is refused.
            if_exists: what to do about setups that Traceloop has under these external_ids and that
                this stack does not manage. ``replace``, the default: take over those that are
                equal, overwrite those that differ. ``adopt``: take over those that are equal, fail
                over those that differ. ``fail``: take over none. The stack owns what it takes over,
                and destroys it.
            wait_for_setup: end the update only when Traceloop has set the setups up, and fail if it
                could not.
            wait_timeout: for how long to wait, in seconds; 600 if left out.
            wait_for: what to wait for. ``spans``, the default: that spans have matched, until which
                no monitor exists. ``accepted``: that Traceloop has processed the setups, whether
                or not spans have matched.
            max_deletes: how many setups may leave the group in one update, as a number or a
                percentage such as ``"10%"``; over it, preview and update fail before the group's
                first write. No limit if left out. It does not guard against the removal of the
                whole group: ``protect`` does.
            max_evaluations: how many evaluations a day all setups of the group together may run, as
                estimated from recorded spans: matched spans a day times evaluators. Over it, a
                preview fails. It needs the configuration ``traceloop:matchSpans``, and does not
                guard an update without a preview.
            config_namespace: the configuration's namespace with the ``apiKey`` and ``baseUrl`` to
                use, for a second Traceloop project in one stack; ``traceloop`` if left out.

        Raises:
            InputError: an input that is known by now is wrong.

        """
        refuse_provider("AutoMonitorSetupGroup", resource_name, opts)
        name = f'AutoMonitorSetupGroup "{resource_name}"'
        declared_by = declarer("AutoMonitorSetupGroup", resource_name, opts)
        how = options(
            if_exists, wait_for_setup, wait_timeout, wait_for, max_evaluations, config_namespace
        ) | {"max_deletes": max_deletes}
        declared = _read(name, setups, [*option_problems(how), *_option_problems(opts)])
        own, for_batch = _own_and_handed_on(opts)
        super().__init__("traceloop:index:AutoMonitorSetupGroup", resource_name, None, own)
        child = pulumi.ResourceOptions(parent=self)
        self._declared = declared
        packed_setups = packed(declared.known)
        batch = AutoMonitorSetupBatch(
            resource_name,
            declared.awaited if packed_setups else {**declared.known, **declared.awaited},
            packed_setups,
            declared.stand_ins,
            declared_by,
            how,
            pulumi.ResourceOptions.merge(child, for_batch),
        )
        for warning in warnings(setups.items(), config_namespace=config_namespace):
            pulumi.log.warn(warning, resource=batch)
        if odd := odd_texts_warning(declared.odd):
            pulumi.log.warn(odd, resource=batch)
        membership = AutoMonitorSetupMembership(
            resource_name, batch, declared_by, config_namespace, child
        )
        self.failed = batch.failed.apply(lambda failed: failed or {})

        def report(results: list[Any]) -> None:
            failed, unsettled, _ = results
            if pulumi.runtime.is_dry_run():
                return
            problems = []
            if failed:
                problems.append(
                    f"{len(failed)} of {len(setups)} monitor setups failed; the next `pulumi up`"
                    f" sends only these again:\n{by_cause(failed)}"
                )
            if unsettled:
                problems.append(
                    f"{len(unsettled)} of {len(setups)} monitor setups are written but not ready;"
                    f" the next `pulumi up` checks again:\n{by_cause(unsettled)}"
                )
            if problems:
                pulumi.log.error("\n".join(problems), resource=batch)
                count = len({*(failed or {}), *(unsettled or {})})
                raise pulumi.RunError(f"{name}: {count} of {len(setups)} setups failed")

        # The membership has to know what was written before the program ends.
        reported = pulumi.Output.all(batch.failed, batch.unsettled, membership.id).apply(report)
        setup_ids = batch.setup_ids.apply(_ids)
        self.setup_ids = reported.apply(lambda _: setup_ids)
        # Not setup_ids: the SDK and the engine handle each value by itself, and the batch has them.
        # After the report: a component that is served to another program awaits these outputs, and
        # none that nobody returns.
        failed = self.failed
        self.register_outputs({"failed": reported.apply(lambda _: failed)})

    @property
    def setups(self) -> pulumi.Output[dict[str, SetupOutput]]:
        """The setups that the group declares, by external_id, for exports and for unit tests.

        It is a secret as a whole while one of the setups has a secret value.
        """
        known, awaited, *_ = self._declared

        def decoded(texts: Mapping[str, Any]) -> dict[str, SetupOutput]:
            return {i: json.loads(text) for i, text in sorted({**known, **texts}.items())}

        return pulumi.Output.from_input(awaited).apply(decoded)

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        opts: pulumi.ResourceOptions | None = None,
        *,
        resource_name: str | None = None,
        if_exists: IfExists | None = None,
        wait_for_setup: bool = False,
        wait_timeout: float | None = None,
        wait_for: WaitFor | None = None,
        max_deletes: int | str | None = None,
        max_evaluations: int | None = None,
        config_namespace: str | None = None,
    ) -> AutoMonitorSetupGroup:
        """Declare the setups of a YAML or JSON file.

        Args:
            path: the file; a relative path begins at the working directory, which under
                ``pulumi up`` is the project's folder.
            opts: the component's options.
            resource_name: the group's name in Pulumi; the file's, without its ending, if left out.
            if_exists: as of the class.
            wait_for_setup: as of the class.
            wait_timeout: as of the class.
            wait_for: as of the class.
            max_deletes: as of the class.
            max_evaluations: as of the class.
            config_namespace: as of the class.

        Raises:
            FileError: the file cannot be read, or something in it is wrong.

        """
        from .files import load_setups

        return cls(
            resource_name or Path(path).stem,
            cast("dict[str, AutoMonitorSetupArgsDict]", load_setups(path)),
            opts,
            if_exists=if_exists,
            wait_for_setup=wait_for_setup,
            wait_timeout=wait_timeout,
            wait_for=wait_for,
            max_deletes=max_deletes,
            max_evaluations=max_evaluations,
            config_namespace=config_namespace,
        )


def _ids(packed: str | None) -> dict[str, str]:
    return dict(json.loads(packed)) if packed else {}


class _Declared(NamedTuple):
    """The setups of a group, each as canonical JSON."""

    known: dict[str, str]
    #: Those that hold an Output.
    awaited: dict[str, pulumi.Input[str]]
    #: What people may see of those.
    stand_ins: dict[str, pulumi.Input[str]]
    odd: list[Problem]


def _read(group: str, setups: Any, found: list[Problem]) -> _Declared:
    """Validate and encode the setups of a group.

    Args:
        group: what people call the group.
        setups: the setups by external_id.
        found: the problems that were found before.

    Raises:
        InputError: there is a problem.

    """
    declared = _Declared({}, {}, {}, [])
    if not isinstance(setups, Mapping):
        raise InputError(group, [*found, Problem("setups", _no_mapping(setups))])
    for external_id, setup in setups.items():
        text = canonical_if_known(setup)
        spelled = plain(setup) if text is None else json.loads(text)
        if wrong := group_problems(external_id, spelled, pulumi.Output):
            found += wrong
            continue
        if text is None and resolved(spelled):
            text = canonical(spelled)
        if text is not None:
            declared.known[external_id] = text
        else:
            declared.awaited[external_id] = _json(group, external_id, spelled)
            if (stand_in := stand_in_of(spelled)) is not None:
                declared.stand_ins[external_id] = stand_in
        declared.odd.extend(group_oddities(external_id, spelled, text))
    if found:
        raise InputError(group, found)
    return declared


def _no_mapping(setups: object) -> str:
    if isinstance(setups, (pulumi.Output, Awaitable)):
        return (
            "must map each external_id to its setup, and not be an Output: a preview has to know"
            " which setups there are. Use the Output for a setup,"
            ' {"checkout": output.apply(lambda value: {...})}, or for a part of one,'
            ' {"selector": [span("service.name").equals(output)], ...}'
        )
    return f"must map each external_id to its setup, not be a {type(setups).__name__}"


def _json(group: str, external_id: str, setup: Any) -> pulumi.Output[str]:
    def spelled(known: Any) -> str:
        try:
            return canonical(known)
        except TypeError as error:
            raise TypeError(f"{group}, {setup_path(external_id)}: {error}") from None

    return pulumi.Output.from_input(setup).apply(spelled)


#: Options that a component does not hand on to its children, and what to do instead.
_REFUSED_OPTIONS: Final = {
    "ignore_changes": (
        "has no effect on a group: leave the setup out of the group, or declare it as an"
        " AutoMonitorSetup, which takes this option"
    ),
    "replace_on_changes": "has no effect on a group: to send a setup again, change its triggers",
    "custom_timeouts": (
        "reaches no dynamic provider: use wait_timeout, or traceloop:deadline in the configuration"
    ),
}
_SECRET_OUTPUTS: Final = ("failed", "setup_ids")


def _option_problems(opts: pulumi.ResourceOptions | None) -> list[Problem]:
    """Return which options a group cannot keep to."""
    found = [
        Problem(f"opts.{name}", reason)
        for name, reason in _REFUSED_OPTIONS.items()
        if getattr(opts, name, None)
    ]
    for name in (opts.additional_secret_outputs if opts else None) or ():
        if name not in _SECRET_OUTPUTS:
            reason = f'takes "failed" and "setup_ids", not "{name}"'
            found.append(Problem("opts.additional_secret_outputs", reason))
    hooks = opts.hooks if opts else None
    if hooks and (hooks.before_delete or hooks.after_delete):
        reason = (
            "takes no delete hooks: setups that leave a group are deleted together, after the"
            " program; declare what needs one as an AutoMonitorSetup"
        )
        found.append(Problem("opts.hooks", reason))
    return found


def _own_and_handed_on(
    opts: pulumi.ResourceOptions | None,
) -> tuple[pulumi.ResourceOptions | None, pulumi.ResourceOptions]:
    """Return the component's options, and those that are for the batch, which does the writing."""
    if opts is None:
        return None, pulumi.ResourceOptions()
    own = copy.copy(opts)
    own.hooks = own.additional_secret_outputs = None
    return own, pulumi.ResourceOptions(
        hooks=opts.hooks, additional_secret_outputs=opts.additional_secret_outputs
    )
