"""What a plan shows of setups: its lines, with stand-ins for what must not or cannot be shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from pulumi.output import Unknown

from .._masking import masked, secret_values
from .._naming import resource_name
from .._plan import CAUSE_WIDTH, UNKNOWN, Entry, change, description, layout, summary
from .._text import printable
from ..args import canonical
from ._specs import holds_unknown, parsed, spec_inputs

if TYPE_CHECKING:
    from .._deployment import Deployment
    from .._models import Setup
    from .._project import Project

__all__ = [
    "again",
    "announce",
    "looked_at",
    "moved",
    "new_entry",
    "secrets",
    "secrets_of",
    "shown",
    "shown_of",
    "without_secrets",
]


def _with_stand_ins(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_stand_ins(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_stand_ins(item) for item in value]
    return UNKNOWN if isinstance(value, Unknown) else value


def shown(props: Mapping[str, Any]) -> str:
    """Return how the setup of an `AutoMonitorSetup` is shown, as JSON."""
    if isinstance(stand_in := props.get("shown"), str):
        return stand_in
    return canonical(_with_stand_ins(spec_inputs(props)))


def shown_of(batch: Mapping[str, Any], setups: Mapping[str, Any]) -> Callable[[str], str]:
    """Return what tells how a setup of the batch is shown."""
    stand_ins = batch.get("shown") or {}

    def shown(external_id: str) -> str:
        setup = stand_ins.get(external_id) or setups.get(external_id)
        return setup if isinstance(setup, str) else UNKNOWN

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


def new_entry(
    deployment: Deployment,
    where: Project,
    there: Setup | None,
    external_id: str,
    setup: str | Mapping[str, Any],
    shown: str,
) -> Entry:
    """Return the plan's entry for a setup that is not in the state of its resource."""
    if there is None:
        return Entry("+", external_id, partial(description, shown))
    spec = None if holds_unknown(setup) else parsed(setup)
    if spec is not None and spec.meaning == there.meaning:
        return Entry("=", external_id, lambda: ("already there, unchanged", ""))
    old = canonical(there.as_input())
    if deployment.manages(external_id, where, ask=False):
        return Entry("~", external_id, partial(change, old, shown, hide_old=True))
    return Entry("!", external_id, partial(_replaced, old, shown))


def moved(declarer: str) -> tuple[str, str]:
    """Describe a setup that another resource declares now."""
    return f"to {declarer}", ""


def _replaced(old: str, new: str) -> tuple[str, str]:
    selector, evaluators = change(old, new, hide_old=True)
    difference = ", ".join(filter(None, (selector, evaluators)))
    return f"replaces a setup that this stack does not manage: {difference}", ""


def again(shown: str, why: str) -> tuple[str, str]:
    """Describe a setup that is sent again after a failure."""
    selector, evaluators = description(shown)
    return selector, f"{evaluators}   tried again, failed before: {printable(why, CAUSE_WIDTH)}"


def looked_at(why: str) -> tuple[str, str]:
    """Describe a setup whose status is read again."""
    return f"is written but did not come up: {why}", ""


def announce(news: Mapping[str, Any], entries: list[Entry], unchanged: int) -> None:
    """Print a group's plan."""
    told = summary(entries, unchanged) or "no setups"
    head = f"{resource_name(news['declared_by'])}: {told}"
    # In one piece: the host serves several calls at once.
    print("\n".join([head, *layout(entries)]), flush=True)  # noqa: T201
