"""`pulumi-traceloop plan --json`: the same as the comment, for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .preview import Change, Definition, Plan

__all__ = ["document"]


def document(plans: Sequence[Plan], names: Sequence[str]) -> str:
    """Return the plans as JSON, in ASCII: what a server wrote cannot reach a terminal."""
    stacks = [
        {
            "stack": name,
            "project": plan.project,
            "failed": plan.failed,
            "errors": list(plan.errors),
            "warnings": list(plan.warnings),
            "counts": plan.counts(),
            "unchanged": plan.unchanged,
            "changes": [_change(change) for change in plan.changes],
        }
        for plan, name in zip(plans, names, strict=True)
    ]
    text = json.dumps({"stacks": stacks}, indent=2)
    return text.replace("\x7f", "\\u007f") + "\n"


def _change(change: Change) -> dict[str, Any]:
    return {
        "external_id": change.external_id,
        "action": change.action,
        "before": _setup(change.before),
        "after": _setup(change.after),
        "note": change.note,
    }


def _setup(definition: Definition | None) -> dict[str, list[str]] | None:
    if definition is None:
        return None
    return {
        "rules": [str(rule) for rule in definition.rules.values()],
        "evaluators": list(definition.evaluators.values()),
    }
