"""What a plan says of setups, with stand-ins for what must not or cannot be shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pulumi.output import Unknown

from .._describe import UNKNOWN, display_form, literals, unseen_change
from .._masking import masked, secret_values, stand_in_of_other
from .._plan import Change
from ..args import canonical
from ._specs import holds_unknown, parsed, spec_inputs

if TYPE_CHECKING:
    from .._deployment import Deployment
    from .._models import Setup
    from .._project import Project

__all__ = [
    "change_of",
    "drift_of",
    "new_change",
    "secrets",
    "secrets_of",
    "shown",
    "shown_of",
    "without_secrets",
]


def _with_placeholders(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_placeholders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_placeholders(item) for item in value]
    return UNKNOWN if isinstance(value, Unknown) else value


def shown(props: Mapping[str, Any]) -> str:
    """Return how the setup of an `AutoMonitorSetup` is shown, as JSON."""
    if isinstance(stand_in := props.get("shown"), str):
        return stand_in
    return canonical(_with_placeholders(literals(spec_inputs(props))))


def shown_of(batch: Mapping[str, Any], setups: Mapping[str, Any]) -> Callable[[str], str]:
    """Return what tells how a setup of the batch is shown."""
    stand_ins = batch.get("shown") or {}

    def shown(external_id: str) -> str:
        if isinstance(stand_in := stand_ins.get(external_id), str):
            return stand_in
        setup = setups.get(external_id)
        return display_form(setup) if isinstance(setup, str) else UNKNOWN

    return shown


def secrets(props: Mapping[str, Any]) -> set[str]:
    """Return the secret values of an `AutoMonitorSetup`."""
    return secret_values(spec_inputs(props), json.loads(shown(props)))


def secrets_of(batch: Mapping[str, Any], external_id: str, setup: object) -> set[str]:
    """Return the secret values of a setup of the batch."""
    shown = (batch.get("shown") or {}).get(external_id)
    if not isinstance(shown, str) or not isinstance(setup, str):
        return set()
    return secret_values(json.loads(setup), json.loads(shown))


def without_secrets(
    reasons: Mapping[str, str], batch: Mapping[str, Any], setups: Mapping[str, str]
) -> dict[str, str]:
    """Return *reasons* without the secrets of the setups that they are about."""
    return {i: masked(why, secrets_of(batch, i, setups[i])) for i, why in reasons.items()}


def new_change(
    deployment: Deployment,
    where: Project,
    there: Setup | None,
    external_id: str,
    setup: str | Mapping[str, Any] | Unknown,
    shown: str,
) -> Change:
    """Return what happens to a setup that is not in the state of its resource.

    Args:
        deployment: who manages what.
        where: the project that the setup is in.
        there: what Traceloop has, if anything.
        external_id: the setup's key.
        setup: the declared setup, as the engine passes it.
        shown: the same, as people may see it.

    """
    if there is None:
        return Change("create", external_id, after=shown)
    if isinstance(setup, Unknown) or holds_unknown(setup):
        # Nobody can tell which values of what is there are the declared ones.
        before = stand_in_of_other(canonical(there.as_input()), "{}", "{}")
    else:
        spec = parsed(setup)
        if spec is not None and spec.meaning == there.meaning:
            return Change("adopt", external_id, after=shown)
        before = stand_in_of_other(canonical(there.as_input()), _text(setup), shown)
    managed = deployment.manages(external_id, where, ask=False)
    return Change("change" if managed else "replace", external_id, before, shown)


def change_of(external_id: str, old: Any, new: Any, shown_old: str, shown_new: str) -> Change:
    """Return the change of a setup that is in the state, given as `new_change` takes it."""
    before, after = _text(old), _text(new)
    # Where nothing is hidden, nothing has to be parsed: for thousands of setups that takes long.
    hidden = (before, after) != (shown_old, shown_new)
    unseen = hidden and unseen_change(before, after, shown_old, shown_new)
    return Change("change", external_id, shown_old, shown_new, secret_changes=unseen)


def drift_of(external_id: str, state: Any, found: str | None, shown_state: str) -> Change:
    """Return how a setup differs from the state, that a refresh has *found* or not."""
    if found is None:
        return Change("delete", external_id, shown_state)
    declared = _text(state)
    # Where nothing is hidden, the state has what was found, and every later plan shows it.
    if shown_state == display_form(declared):
        seen = display_form(found)
    else:
        seen = stand_in_of_other(found, declared, shown_state)
    return Change("change", external_id, shown_state, seen)


def _text(setup: Any) -> str:
    if isinstance(setup, Unknown):
        return UNKNOWN
    return setup if isinstance(setup, str) else canonical(_with_placeholders(spec_inputs(setup)))
