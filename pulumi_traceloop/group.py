"""The component that declares many setups."""

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
from ._validation import (
    Problem,
    group_problems,
    option_problems,
    setup_path,
    suspicious_group_texts,
    suspicious_texts_warning,
)
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
    display_of,
    options,
    refuse_provider,
)

__all__ = ["AutoMonitorSetupGroup"]


class AutoMonitorSetupGroup(pulumi.ComponentResource):
    """Many auto monitor setups, written through the bulk endpoint, 100 in a request.

    Example:
        ```python
        AutoMonitorSetupGroup(
            "monitors",
            setups={
                "openai": AutoMonitorSetupArgs(
                    selector=[span("gen_ai.provider.name").equals("openai")],
                    evaluators=["faithfulness"],
                ),
            },
        )
        ```

    A setup that Traceloop refuses does not block the others: the state records the successful ones,
    the program ends with one error that lists each failed setup and the reason, and the next
    ``pulumi up`` sends only the failed ones. The error also postpones resources that depend on the
    group's outputs, and all deletes of the deployment, until the next successful update.
    """

    #: ``{external_id: server id}``. In an update it fails while a setup has failed or is not ready.
    setup_ids: pulumi.Output[dict[str, str]]
    #: ``{external_id: why}`` of the setups that failed.
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
                Create and update hooks run around the group's writes. ``additional_secret_outputs``
                takes ``failed`` and ``setup_ids``. Most options without effect on a group are
                refused.
            if_exists: how to treat an existing setup that this stack does not manage. ``replace``
                (default): adopt it if equal, else overwrite it. ``adopt``: adopt it if equal, else
                fail. ``fail``: always fail. The stack owns adopted setups, and destroys them.
            wait_for_setup: whether the update waits until Traceloop has provisioned the setups, and
                fails if it cannot.
            wait_timeout: the longest wait, in seconds; 600 by default.
            wait_for: the state to wait for. ``spans`` (default): spans have matched and monitors
                exist. ``accepted``: Traceloop has processed the setups, with or without spans.
            max_deletes: the most setups to remove from the group in one update, as a number or a
                percentage such as ``"10%"``; above it, preview and update fail before the group's
                first write. No limit by default. It does not guard against the removal of the whole
                group: ``protect`` does.
            max_evaluations: the most evaluations a day for the whole group, estimated from recorded
                spans as matched spans a day times evaluators; above it, a preview fails. It needs
                the configuration ``traceloop:matchSpans``, and does not guard an update without a
                preview.
            config_namespace: the configuration namespace of ``apiKey`` and ``baseUrl``, for a
                second Traceloop project in one stack; ``traceloop`` by default.

        Raises:
            InputError: a known input is invalid.

        """
        refuse_provider("AutoMonitorSetupGroup", resource_name, opts)
        name = f'AutoMonitorSetupGroup "{resource_name}"'
        declared_by = declarer("AutoMonitorSetupGroup", resource_name, opts)
        batch_options = options(
            if_exists, wait_for_setup, wait_timeout, wait_for, max_evaluations, config_namespace
        ) | {
            "max_deletes": max_deletes,
            "retain_on_delete": (opts and opts.retain_on_delete) or None,
        }
        declared = _read(name, setups, [*option_problems(batch_options), *_option_problems(opts)])
        own_opts, batch_opts = _split_options(opts)
        super().__init__("traceloop:index:AutoMonitorSetupGroup", resource_name, None, own_opts)
        child = pulumi.ResourceOptions(parent=self)
        self._declared = declared
        packed_setups = packed(declared.known)
        batch = AutoMonitorSetupBatch(
            resource_name,
            declared.pending if packed_setups else {**declared.known, **declared.pending},
            packed_setups,
            declared.displayed,
            declared_by,
            batch_options,
            pulumi.ResourceOptions.merge(child, batch_opts),
        )
        for warning in warnings(setups.items(), config_namespace=config_namespace):
            pulumi.log.warn(warning, resource=batch)
        if suspicious := suspicious_texts_warning(declared.suspicious):
            pulumi.log.warn(suspicious, resource=batch)
        membership = AutoMonitorSetupMembership(
            resource_name, batch, declared_by, config_namespace, child
        )
        self.failed = batch.failed.apply(lambda failed: failed or {})

        def report(results: list[Any]) -> None:
            failed, not_ready, _ = results
            if pulumi.runtime.is_dry_run():
                return
            problems = []
            if failed:
                problems.append(
                    f"{len(failed)} of {len(setups)} monitor setups failed; the next `pulumi up`"
                    f" sends only these again:\n{by_cause(failed)}"
                )
            if not_ready:
                problems.append(
                    f"{len(not_ready)} of {len(setups)} monitor setups are written but not ready;"
                    f" the next `pulumi up` checks again:\n{by_cause(not_ready)}"
                )
            if problems:
                pulumi.log.error("\n".join(problems), resource=batch)
                count = len({*(failed or {}), *(not_ready or {})})
                raise pulumi.RunError(f"{name}: {count} of {len(setups)} setups failed")

        # The membership records the written setups before the program ends.
        reported = pulumi.Output.all(batch.failed, batch.unsettled, membership.id).apply(report)
        setup_ids = batch.setup_ids.apply(_ids)
        self.setup_ids = reported.apply(lambda _: setup_ids)
        # Without setup_ids: the SDK and the engine handle each value separately, and the batch
        # stores them. After the report: a remote component awaits its registered outputs only.
        failed = self.failed
        self.register_outputs({"failed": reported.apply(lambda _: failed)})

    @property
    def setups(self) -> pulumi.Output[dict[str, SetupOutput]]:
        """The declared setups by external_id, for exports and unit tests.

        The whole output is secret if one setup has a secret value.
        """
        known, pending, *_ = self._declared

        def decoded(texts: Mapping[str, Any]) -> dict[str, SetupOutput]:
            return {i: json.loads(text) for i, text in sorted({**known, **texts}.items())}

        return pulumi.Output.from_input(pending).apply(decoded)

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
            path: the file, relative to the working directory, which under ``pulumi up`` is the
                project's folder.
            opts: the component's options.
            resource_name: the group's name in Pulumi; the file's name without extension by default.
            if_exists: as in the constructor.
            wait_for_setup: as in the constructor.
            wait_timeout: as in the constructor.
            wait_for: as in the constructor.
            max_deletes: as in the constructor.
            max_evaluations: as in the constructor.
            config_namespace: as in the constructor.

        Raises:
            FileError: the file cannot be read or is invalid.
            InputError: an option is invalid.

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
    #: The setups that contain an Output.
    pending: dict[str, pulumi.Input[str]]
    #: Their display versions.
    displayed: dict[str, pulumi.Input[str]]
    suspicious: list[Problem]


def _read(group: str, setups: Any, found: list[Problem]) -> _Declared:
    """Validate and encode the setups of a group.

    Args:
        group: the group's name in messages.
        setups: the setups by external_id.
        found: the problems found so far.

    Raises:
        InputError: there is a problem.

    """
    declared = _Declared({}, {}, {}, [])
    if not isinstance(setups, Mapping):
        raise InputError(group, [*found, Problem("setups", _not_a_mapping(setups))])
    for external_id, setup in setups.items():
        text = canonical_if_known(setup)
        content = plain(setup) if text is None else json.loads(text)
        if problems := group_problems(external_id, content, pulumi.Output):
            found += problems
            continue
        if text is None and resolved(content):
            text = canonical(content)
        if text is not None:
            declared.known[external_id] = text
        else:
            declared.pending[external_id] = _json(group, external_id, content)
            if (displayed := display_of(content)) is not None:
                declared.displayed[external_id] = displayed
        declared.suspicious.extend(suspicious_group_texts(external_id, content, text))
    if found:
        raise InputError(group, found)
    return declared


def _not_a_mapping(setups: object) -> str:
    if isinstance(setups, (pulumi.Output, Awaitable)):
        return (
            "must map each external_id to its setup, and not be an Output: a preview needs the"
            " external_ids. Use the Output for a setup,"
            ' {"checkout": output.apply(lambda value: {...})}, or for a part of one,'
            ' {"selector": [span("service.name").equals(output)], ...}'
        )
    return f"must map each external_id to its setup, not be a {type(setups).__name__}"


def _json(group: str, external_id: str, setup: Any) -> pulumi.Output[str]:
    def encode(known: Any) -> str:
        try:
            return canonical(known)
        except TypeError as error:
            raise TypeError(f"{group}, {setup_path(external_id)}: {error}") from None

    return pulumi.Output.from_input(setup).apply(encode)


#: Options that a component does not pass to its children, and what to do instead.
_REFUSED_OPTIONS: Final = {
    "ignore_changes": (
        "has no effect on a group: remove the setup from the group, or declare it as an"
        " AutoMonitorSetup, which takes this option"
    ),
    "replace_on_changes": "has no effect on a group: to send a setup again, change its triggers",
    "custom_timeouts": (
        "reaches no dynamic provider: use wait_timeout, or traceloop:deadline in the configuration"
    ),
}
_SECRET_OUTPUTS: Final = ("failed", "setup_ids")


def _option_problems(opts: pulumi.ResourceOptions | None) -> list[Problem]:
    """Return the options that a group does not support."""
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
            "takes no delete hooks: the setups removed from a group are deleted together, after the"
            " program. Declare a setup that needs one as an AutoMonitorSetup"
        )
        found.append(Problem("opts.hooks", reason))
    return found


def _split_options(
    opts: pulumi.ResourceOptions | None,
) -> tuple[pulumi.ResourceOptions | None, pulumi.ResourceOptions]:
    """Return the options of the component and those of its batch."""
    if opts is None:
        return None, pulumi.ResourceOptions()
    own_opts = copy.copy(opts)
    own_opts.hooks = own_opts.additional_secret_outputs = None
    return own_opts, pulumi.ResourceOptions(
        hooks=opts.hooks, additional_secret_outputs=opts.additional_secret_outputs
    )
