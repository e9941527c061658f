"""Adds what setups match to a plan, for `pulumi-traceloop plan --since` and `--spans`."""

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
    """Return *plan* with the matches of each setup, instead of those in the preview.

    A preview contains no secrets, so rules with a secret are skipped. For such a setup the result
    is an upper bound.
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
