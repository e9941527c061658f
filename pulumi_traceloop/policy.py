"""Decodes the setups of a resource, for policy packs.

A group is one resource to Pulumi, and encodes its setups.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from ._codec import spec_inputs, unpacked

if TYPE_CHECKING:
    from .args import SetupOutput

__all__ = ["setups_of"]

_SINGLE = "pulumi-python:dynamic/traceloop:AutoMonitorSetup"
_BATCH = "pulumi-python:dynamic/traceloop:AutoMonitorSetupBatch"


def setups_of(resource: Any) -> dict[str, SetupOutput]:
    """Return the setups that a resource declares, by external_id.

    Example:
        ```python
        def no_toxicity(args, report_violation):
            for external_id, setup in setups_of(args).items():
                configs = setup.get("evaluator_configs", [])
                slugs = [*setup.get("evaluators", []), *(config["slug"] for config in configs)]
                if "toxicity-detector" not in slugs:
                    report_violation(f"{external_id} has no toxicity-detector")
        ```

    Args:
        resource: a `pulumi_policy.ResourceValidationArgs`, a `pulumi_policy.PolicyResource` of a
            stack, or another object with ``resource_type`` and ``props``.

    Returns:
        The setups of an `AutoMonitorSetup` or of an `AutoMonitorSetupGroup`'s batch; empty for
        other resources. Inputs and outputs have the same setups.

    Raises:
        pulumi_policy.UnknownValueError: a value is not known in a preview. The policy SDK turns
            this into a note that the policy cannot be evaluated yet.

    """
    props: Mapping[str, Any] = resource.props
    if resource.resource_type == _BATCH:
        batch = {key: _plain(props.get(key)) for key in ("setups", "packed_setups")}
        return {i: json.loads(text) for i, text in sorted(unpacked(batch).items())}
    if resource.resource_type == _SINGLE:
        return {props["external_id"]: cast("SetupOutput", _plain(spec_inputs(props)))}
    return {}


def _plain(value: Any) -> Any:
    """Return plain dicts and lists instead of the policy SDK's proxies."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return value
