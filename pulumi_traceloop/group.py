"""The component that a program declares many setups with."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pulumi

from ._codec import packed
from ._naming import declarer
from ._text import by_cause
from .args import (
    AutoMonitorSetupArgs,
    AutoMonitorSetupArgsDict,
    canonical,
    canonical_if_known,
    plain,
    resolved,
)
from .evaluators import slugs
from .evaluators import warning as evaluators_warning
from .resources import (
    AutoMonitorSetupBatch,
    AutoMonitorSetupMembership,
    IfExists,
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
                    selector=[span("gen_ai.system").equals("openai")], evaluators=["faithfulness"]
                ),
            },
        )

    A setup that Traceloop refuses stops none of the others: what worked is in the state, the
    program ends with one error that names each failed setup and why, and the next ``pulumi up``
    sends only those. What ends the program also holds back what it declares after the group's
    outputs are known, and the deployment's deletes; they wait for the next good run.
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
        max_deletes: int | str | None = None,
        config_namespace: str | None = None,
    ) -> None:
        """Declare the setups of a group.

        Args:
            resource_name: the group's name in Pulumi.
            setups: the setups by external_id; a setup or any part of one may be an Output.
            opts: the component's options; ``protect`` makes the engine refuse to remove a setup.
            if_exists: what to do about setups that Traceloop has under these external_ids and that
                this stack does not manage. ``replace``, the default: take over those that are
                equal, overwrite those that differ. ``adopt``: take over those that are equal, fail
                over those that differ. ``fail``: take over none. What is taken over goes with the
                stack.
            wait_for_setup: end the update only when Traceloop has set the setups up, and fail if it
                could not.
            wait_timeout: for how long to wait, in seconds; 600 if left out.
            max_deletes: how many setups may leave the group in one update, as a number or a
                percentage such as ``"10%"``; over it, preview and update fail before the group's
                first write. No limit if left out.
            config_namespace: the configuration's namespace with the ``apiKey`` and ``baseUrl`` to
                use, for a second Traceloop project in one stack; ``traceloop`` if left out.

        Raises:
            TypeError: *setups* is not a mapping, or a setup holds what JSON does not have.

        """
        refuse_provider("AutoMonitorSetupGroup", resource_name, opts)
        super().__init__("traceloop:index:AutoMonitorSetupGroup", resource_name, None, opts)
        if not isinstance(setups, Mapping):
            raise TypeError(
                f'AutoMonitorSetupGroup "{resource_name}": setups must map each external_id to its'
                f" setup, not be a {type(setups).__name__}"
            )
        for external_id in setups:
            if not isinstance(external_id, str):
                raise TypeError(
                    f'AutoMonitorSetupGroup "{resource_name}": the external_id {external_id!r} must'
                    " be a string"
                )
        name = f'AutoMonitorSetupGroup "{resource_name}"'
        declared_by = declarer("AutoMonitorSetupGroup", resource_name, opts)
        child = pulumi.ResourceOptions(parent=self)
        known: dict[str, str] = {}
        texts: dict[str, pulumi.Input[str]] = {}
        stand_ins: dict[str, pulumi.Input[str]] = {}
        used: list[tuple[str, str]] = []
        for external_id, setup in setups.items():
            if (text := canonical_if_known(setup)) is not None:
                known[external_id] = text
            else:
                spelled = plain(setup)
                texts[external_id] = _json(name, external_id, spelled)
                if (stand_in := stand_in_of(spelled)) is not None:
                    stand_ins[external_id] = stand_in
            used += [(slug, external_id) for slug in slugs(setup)]
        packed_setups = packed(known)
        batch = AutoMonitorSetupBatch(
            resource_name,
            texts if packed_setups else {**known, **texts},
            packed_setups,
            stand_ins,
            declared_by,
            options(if_exists, wait_for_setup, wait_timeout, config_namespace)
            | {"max_deletes": max_deletes},
            child,
        )
        if warning := evaluators_warning(used):
            pulumi.log.warn(warning, resource=batch)
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
                    f"{len(unsettled)} of {len(setups)} monitor setups are written but did not come"
                    f" up; the next `pulumi up` looks again:\n{by_cause(unsettled)}"
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
        max_deletes: int | str | None = None,
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
            max_deletes: as of the class.
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
            max_deletes=max_deletes,
            config_namespace=config_namespace,
        )


def _ids(packed: str | None) -> dict[str, str]:
    return dict(json.loads(packed)) if packed else {}


def _json(group: str, external_id: str, setup: Any) -> pulumi.Input[str]:
    def spelled(known: Any) -> str:
        try:
            return canonical(known)
        except TypeError as error:
            raise TypeError(f'{group}, setups["{external_id}"]: {error}') from None

    return spelled(setup) if resolved(setup) else pulumi.Output.from_input(setup).apply(spelled)
