"""Setups as a program writes them, changed as a test wants them."""

from __future__ import annotations

from typing import Any

RULE = {"key": "gen_ai.system", "source": "span_attributes", "value": "openai"}


#: The same rule with the default operator, as the service stores it.
STORED_RULE = {**RULE, "operator": "equals"}


def without(mapping: dict[str, Any]) -> dict[str, Any]:
    """Drop values that are Ellipsis."""
    return {key: value for key, value in mapping.items() if value is not ...}


def setup(**changes: Any) -> dict[str, Any]:
    return without({"selector": [RULE], "evaluators": ["pii-detector"], **changes})


def rule(**changes: Any) -> dict[str, Any]:
    return without({**RULE, **changes})


def configs(*evaluators: Any) -> dict[str, Any]:
    return setup(evaluators=..., evaluator_configs=list(evaluators))
