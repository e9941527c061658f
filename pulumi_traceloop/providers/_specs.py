"""Parses setups as the engine passes them: nested inputs of an `AutoMonitorSetup`, JSON in a batch.

In a preview an unknown value is a `pulumi.output.Unknown`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache, lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from pulumi.output import Unknown

from .._codec import spec_inputs, unpacked
from .._validation import problems_in_json
from ..args import canonical

if TYPE_CHECKING:
    from .._models import SetupSpec

__all__ = [
    "differ",
    "forced_of",
    "holds_unknown",
    "parsed",
    "spec_of",
    "to_send",
    "triggers_of",
]


@cache
def _models() -> ModuleType:
    """Return the module of the models, imported lazily: the program does not need pydantic."""
    from .. import _models as models

    return models


def spec_of(setup: str | Mapping[str, Any]) -> SetupSpec:
    """Parse a setup without unknown values.

    Raises:
        pydantic.ValidationError: the setup is invalid.

    """
    return _read(setup if isinstance(setup, str) else canonical(spec_inputs(setup)))


@lru_cache(maxsize=16_384)
def _read(text: str) -> SetupSpec:
    # Cached: a setup is checked, compared and sent.
    return cast("SetupSpec", _models().SETUP_SPEC.validate_json(text))


def parsed(setup: str | Mapping[str, Any]) -> SetupSpec | None:
    """Return the parsed setup, or ``None`` if it is invalid."""
    try:
        return spec_of(setup)
    except _models().ValidationError:
        return None


def differ(old: str | Mapping[str, Any], new: object) -> bool:
    """Whether two setups differ in definition or triggers; an unknown one counts as different."""
    if old == new:
        return False
    if not isinstance(new, (str, Mapping)) or holds_unknown(new):
        return True
    old_spec, new_spec = parsed(old), parsed(new)
    if old_spec is None or new_spec is None:
        return True
    return old_spec.definition != new_spec.definition or old_spec.triggers != new_spec.triggers


def holds_unknown(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(map(holds_unknown, value.values()))
    if isinstance(value, list):
        return any(map(holds_unknown, value))
    return isinstance(value, Unknown)


def to_send(
    setups: Mapping[str, str], state: Mapping[str, Any]
) -> tuple[dict[str, SetupSpec], dict[str, str]]:
    """Return the new, changed and failed setups to send, and the invalid ones with the reason.

    `check` skips an unchanged setup, so one that a newer version refuses is found here and does not
    block the others.
    """
    before, failed = unpacked(state), state.get("failed") or {}
    specs: dict[str, SetupSpec] = {}
    invalid: dict[str, str] = {}
    for external_id, setup in setups.items():
        known = external_id in before and external_id not in failed
        if known and not differ(before[external_id], setup):
            continue
        spec = parsed(setup)
        problems = problems_in_json(setup) if spec is None or external_id in failed else []
        if spec is None or problems:
            invalid[external_id] = "; ".join(f"{p.path} {p.reason}" for p in problems)
        else:
            specs[external_id] = spec
    return specs, invalid


def forced_of(specs: Mapping[str, SetupSpec], state: Mapping[str, Any]) -> set[str]:
    """Return the setups to send even if equal: triggers changed, now or in a failed update."""
    before = unpacked(state)
    changed = {
        i for i, spec in specs.items() if i in before and triggers_of(before[i]) != spec.triggers
    }
    return changed | set(state.get("resend") or ())


def triggers_of(setup: str) -> Any:
    return json.loads(setup).get("triggers")
