"""What the setups of a plan match, for `pulumi-traceloop plan --since` and `--spans`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from .._describe import setup
from .._plan import LEAVES, Change, Matches
from .selectors import selector

if TYPE_CHECKING:
    from ..spans.traffic import Traffic
    from .preview import Plan

__all__ = ["with_matches"]


def with_matches(plan: Plan, traffic: Traffic) -> Plan:
    """Return *plan* with what each setup of it matches; what the preview itself said is replaced.

    A preview shows no secret, so rules with one are not tried: of such a setup, the most is said
    that it can match.
    """
    entries = [
        entry._replace(change=entry.change._replace(matches=_matches(entry.change, traffic)))
        for entry in plan.changes
    ]
    return replace(plan, changes=tuple(entries))


def _matches(change: Change, traffic: Traffic) -> Matches | None:
    if change.after is None or change.action in LEAVES:
        return None
    definition = setup(change.after)
    found = selector(definition)
    if not found.rules or isinstance(definition, str):
        return None
    listed = definition.get("evaluator_configs") or definition.get("evaluators") or []
    evaluators = len({json.dumps(each, sort_keys=True) for each in listed})
    return traffic.matches(found.rules, evaluators, partly_hidden=found.partly_hidden)
