"""Changes as a plan displays them, with placeholders for secret and unknown values."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pulumi.output import Unknown

from .._codec import spec_inputs
from .._describe import UNKNOWN, display_json, literals, unseen_change
from .._masking import masked, redacted, secret_values
from .._plan import Change
from ..args import canonical
from ._specs import holds_unknown, parsed

if TYPE_CHECKING:
    from .._deployment import Deployment
    from .._models import Setup
    from .._project import Project

__all__ = [
    "change_of",
    "drift_of",
    "lookup",
    "new_change",
    "secrets",
    "secrets_of",
    "text",
    "without_secrets",
]


def _with_placeholders(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_placeholders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_placeholders(item) for item in value]
    return UNKNOWN if isinstance(value, Unknown) else value


def text(props: Mapping[str, Any]) -> str:
    """Return the display JSON of an `AutoMonitorSetup`."""
    if isinstance(displayed := props.get("shown"), str):
        return displayed
    return canonical(_with_placeholders(literals(spec_inputs(props))))


def lookup(batch: Mapping[str, Any], setups: Mapping[str, Any]) -> Callable[[str], str]:
    """Return a function from external_id to the display JSON of the batch's setup."""
    displayed = batch.get("shown") or {}

    def display_of(external_id: str) -> str:
        if isinstance(known := displayed.get(external_id), str):
            return known
        setup = setups.get(external_id)
        return display_json(setup) if isinstance(setup, str) else UNKNOWN

    return display_of


def secrets(props: Mapping[str, Any]) -> set[str]:
    """Return the secret values of an `AutoMonitorSetup`."""
    return secret_values(spec_inputs(props), json.loads(text(props)))


def secrets_of(batch: Mapping[str, Any], external_id: str, setup: object) -> set[str]:
    """Return the secret values of a setup of the batch."""
    displayed = (batch.get("shown") or {}).get(external_id)
    if not isinstance(displayed, str) or not isinstance(setup, str):
        return set()
    return secret_values(json.loads(setup), json.loads(displayed))


def without_secrets(
    reasons: Mapping[str, str], batch: Mapping[str, Any], setups: Mapping[str, str]
) -> dict[str, str]:
    """Return *reasons* with the secrets of each setup masked."""
    return {i: masked(why, secrets_of(batch, i, setups[i])) for i, why in reasons.items()}


def new_change(
    deployment: Deployment,
    project: Project,
    remote: Setup | None,
    external_id: str,
    setup: str | Mapping[str, Any] | Unknown,
    displayed: str,
) -> Change:
    """Return the change of a setup that is not in the state of its resource.

    Args:
        deployment: knows which setups this stack manages.
        project: the setup's project.
        remote: the setup in Traceloop, if it exists.
        external_id: the setup's key.
        setup: the declared setup, as the engine passes it.
        displayed: the declared setup as display JSON.

    """
    if remote is None:
        return Change("create", external_id, after=displayed)
    if isinstance(setup, Unknown) or holds_unknown(setup):
        # No remote value can be matched to a declared one, so all of them are hidden.
        before = redacted(canonical(remote.as_input()), "{}", "{}")
    else:
        spec = parsed(setup)
        if spec is not None and spec.definition == remote.definition:
            return Change("adopt", external_id, after=displayed)
        before = redacted(canonical(remote.as_input()), _json(setup), displayed)
    managed = deployment.manages(external_id, project, ask=False)
    return Change("change" if managed else "replace", external_id, before, displayed)


def change_of(
    external_id: str, old: Any, new: Any, displayed_old: str, displayed_new: str
) -> Change:
    """Return the change of a setup that is in the state; *old* and *new* as the engine has them."""
    before, after = _json(old), _json(new)
    # Without hidden values nothing is parsed: parsing thousands of setups is slow.
    hidden = (before, after) != (displayed_old, displayed_new)
    unseen = hidden and unseen_change(before, after, displayed_old, displayed_new)
    return Change("change", external_id, displayed_old, displayed_new, secret_changes=unseen)


def drift_of(external_id: str, state: Any, found: str | None, displayed_state: str) -> Change:
    """Return the change from the state to what a refresh *found*; ``None`` if it found no setup."""
    if found is None:
        return Change("delete", external_id, displayed_state)
    declared = _json(state)
    # Without hidden values the state stores what was found, and later plans show it anyway.
    has_hidden = displayed_state != display_json(declared)
    displayed = redacted(found, declared, displayed_state) if has_hidden else display_json(found)
    return Change("change", external_id, displayed_state, displayed)


def _json(setup: Any) -> str:
    if isinstance(setup, Unknown):
        return UNKNOWN
    return setup if isinstance(setup, str) else canonical(_with_placeholders(spec_inputs(setup)))
