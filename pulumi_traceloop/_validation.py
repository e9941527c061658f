"""Reads setups as the engine passes them: nested inputs of an `AutoMonitorSetup`, JSON in a batch.

What is not known yet, in a preview, is a `pulumi.output.Unknown`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from itertools import count
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from pulumi.output import Unknown

from .args import canonical

if TYPE_CHECKING:
    from ._models import Problem, SetupSpec

__all__ = ["differ", "holds_unknown", "parsed", "spec_inputs", "spec_of"]

#: The inputs of an `AutoMonitorSetup` that make up the setup itself.
_SPEC = ("selector", "evaluators", "evaluator_configs", "triggers")


def spec_inputs(props: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of an `AutoMonitorSetup` that make up the setup itself."""
    return {key: props[key] for key in _SPEC if props.get(key) is not None}


@cache
def _models() -> ModuleType:
    """Return the module of the models: the program, which needs none, does not load it."""
    from . import _models as models

    return models


def spec_of(setup: str | Mapping[str, Any]) -> SetupSpec:
    """Read a setup, all of which is known.

    Raises:
        pydantic.ValidationError: it is not valid.

    """
    return _read(setup if isinstance(setup, str) else canonical(spec_inputs(setup)))


@lru_cache(maxsize=16_384)
def _read(text: str) -> SetupSpec:
    # Cached, since what is checked is also compared and sent.
    return cast("SetupSpec", _models().SetupSpec.model_validate_json(text))


def parsed(setup: str | Mapping[str, Any]) -> tuple[SetupSpec | None, list[Problem]]:
    """Validate a setup; what is not known yet is not held against it."""
    models = _models()
    try:
        return spec_of(setup if isinstance(setup, str) else _supposed(setup)), []
    except models.ValidationError as error:
        return None, models.problems(error)


def _supposed(value: Any, name: str = "", number: Iterator[int] | None = None) -> Any:
    """Return *value* with what is not known yet replaced by something that would do there."""
    number = number or count()
    if isinstance(value, Unknown):
        one = f"unknown-{next(number)}"
        rule = {"key": one, "source": "span_attributes", "operator": "exists"}
        lists: dict[str, list[Any]] = {
            "selector": [rule],
            "evaluators": [one],
            "evaluator_configs": [{"slug": one}],
            "values": [one],
            "triggers": [one],
        }
        elements = {"selector[]": rule, "evaluator_configs[]": {"slug": one}}
        known = {"source": "span_attributes", "scope": "span"}
        return lists.get(name) or elements.get(name) or known.get(name, one)
    if isinstance(value, Mapping):
        value = dict(value)
        if isinstance(value.get("operator"), Unknown):
            value["operator"] = (
                "in" if "values" in value else "equals" if "value" in value else "exists"
            )
        return {key: _supposed(item, key, number) for key, item in value.items()}
    if isinstance(value, list):
        return [_supposed(item, f"{name}[]", number) for item in value]
    return value


def differ(old: str | Mapping[str, Any], new: object) -> bool:
    """Whether two setups differ in meaning or triggers; what is not known yet may."""
    if old == new:
        return False
    if not isinstance(new, (str, Mapping)):
        return True
    old_spec, _ = parsed(old)
    new_spec, _ = parsed(new)
    if old_spec is None or new_spec is None or holds_unknown(new):
        return True
    return old_spec.meaning != new_spec.meaning or old_spec.triggers != new_spec.triggers


def holds_unknown(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(map(holds_unknown, value.values()))
    if isinstance(value, list):
        return any(map(holds_unknown, value))
    return isinstance(value, Unknown)
