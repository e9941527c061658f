"""`pulumi-traceloop plan --json`: the content of the comment, for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .._describe import difference, evaluator_texts, rule_texts, setup

if TYPE_CHECKING:
    from .preview import Entry, Plan

__all__ = ["document"]


def document(plans: Sequence[Plan], names: Sequence[str]) -> str:
    """Return the plans as JSON, in ASCII: no control character of a server reaches a terminal."""
    stacks = [
        {
            "stack": name,
            "project": plan.project,
            "failed": plan.failed,
            "errors": list(plan.errors),
            "warnings": list(plan.warnings),
            "counts": plan.counts(),
            "unchanged": plan.unchanged,
            "changes": [_entry(entry) for entry in plan.changes],
        }
        for plan, name in zip(plans, names, strict=True)
    ]
    text = json.dumps({"stacks": stacks}, indent=2)
    return text.replace("\x7f", "\\u007f") + "\n"


def _entry(entry: Entry) -> dict[str, Any]:
    change = entry.change
    differs: Sequence[str] = ()
    if change.before is not None and change.after is not None:
        found = difference(change.before, change.after, secret_changes=change.secret_changes)
        differs = [text for *_, text in (*found.rules, *found.evaluators)] + list(found.notes)
    return {
        "external_id": change.external_id,
        "action": change.action,
        "owner": entry.owner,
        "traceloop_project": entry.project,
        "before": _setup(change.before),
        "after": _setup(change.after),
        "differs": differs,
        "note": change.note,
        "matches": change.matches and change.matches._asdict(),
    }


def _setup(text: str | None) -> dict[str, list[str]] | None:
    if text is None:
        return None
    spec = setup(text)
    if isinstance(spec, str):
        return {"rules": [spec], "evaluators": []}
    return {"rules": rule_texts(spec), "evaluators": evaluator_texts(spec)}
