"""The plan that a preview shows: what will happen to each monitor, in the user's own terms.

::

    monitors: 1 to create, 1 to change, 1 to delete, 96 unchanged
      + anthropic      gen_ai.provider.name = "anthropic"            faithfulness
      ~ openai-gpt4o   gen_ai.request.model = "gpt-4o" -> "gpt-5"    + toxicity-detector
      - old-monitor
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ._text import printable

__all__ = [
    "CAUSE_WIDTH",
    "HIDDEN",
    "OPERATORS",
    "SECRET",
    "UNKNOWN",
    "Entry",
    "change",
    "description",
    "evaluators_text",
    "layout",
    "rule_text",
    "summary",
]

#: How many setups are told one by one, and how wide a value, a column or the reason of an earlier
#: failure gets, in characters.
LINES = 60
VALUE_WIDTH = 40
COLUMN_WIDTH = 72
CAUSE_WIDTH = 80

#: What stands in for a value that must not, or cannot yet, be shown.
SECRET = "[secret]"  # noqa: S105 - it is none
UNKNOWN = "<unknown>"
#: And for one that only Traceloop has: nobody can tell whether it was a secret once.
HIDDEN = "..."

#: How a person says an operator.
OPERATORS = {
    "equals": "=",
    "not_equals": "!=",
    "contains": "contains",
    "not_contains": "does not contain",
    "in": "in",
    "not_in": "not in",
    "exists": "exists",
    "not_exists": "does not exist",
}


class Entry(NamedTuple):
    """What happens to one setup."""

    #: ``+`` created, ``~`` changed, ``-`` deleted, ``=`` adopted as it is, ``!`` somebody else's
    #: replaced, ``>`` moved to another resource, ``*`` tried again, ``?`` looked at again.
    symbol: str
    external_id: str
    #: Returns the texts about the selector and the evaluators; called for what is shown only.
    describe: Callable[[], tuple[str, str]] = lambda: ("", "")


#: The symbols, the most harmful first.
_HARM = "-!~*?>+="

_SUMMARY = {
    "+": "to create",
    "!": "to replace",
    "~": "to change",
    "*": "to try again",
    "?": "to look at again",
    "-": "to delete",
    ">": "to move",
    "=": "to adopt",
}


def summary(entries: Iterable[Entry], unchanged: int) -> str:
    """Return how many setups each thing happens to."""
    counts = Counter(entry.symbol for entry in entries)
    parts = [f"{counts[symbol]:,} {what}" for symbol, what in _SUMMARY.items() if counts[symbol]]
    return ", ".join([*parts, *([f"{unchanged:,} unchanged"] if unchanged else [])])


def layout(entries: Iterable[Entry]) -> list[str]:
    """Return a line for each entry, sorted by external_id, and a count of what is cut off."""
    # What is cut off is what does least harm.
    ordered = sorted(entries, key=lambda entry: (_HARM.find(entry.symbol), entry.external_id))
    told = sorted(ordered[:LINES], key=lambda entry: entry.external_id)
    shown = [(entry.symbol, printable(entry.external_id), *entry.describe()) for entry in told]
    # A column is as wide as its widest cell, but for cells that are wider than fair.
    widths = [
        max((len(row[column]) for row in shown if len(row[column]) <= COLUMN_WIDTH), default=0)
        for column in (1, 2)
    ]
    lines = [
        f"  {symbol} {name:<{widths[0]}}  {selector:<{widths[1]}}  {evaluators}".rstrip()
        for symbol, name, selector, evaluators in shown
    ]
    rest = len(ordered) - len(shown)
    return [*lines, f"  ... and {rest:,} more"] if rest else lines


def rule_text(rule: Mapping[str, Any] | str, *, source: bool = False, hidden: bool = False) -> str:
    """Return a rule as a person would say it, such as ``service.name in ("cart", "checkout")``.

    Args:
        rule: the rule.
        source: whether to tell a resource's attribute from a span's.
        hidden: whether to keep the values back.

    """
    if isinstance(rule, str):  # a whole rule that is secret or not known yet
        return rule
    key = printable(str(rule.get("key", "")), VALUE_WIDTH * 2)
    where = " (resource)" if source and rule.get("source") == "resource_attributes" else ""
    return f"{key}{where} {_condition(rule, hidden=hidden)}"


def _condition(rule: Mapping[str, Any], *, hidden: bool = False) -> str:
    operator = str(rule.get("operator") or "equals")
    operand = HIDDEN if hidden and rule.keys() & {"value", "values"} else _operand(rule)
    return f"{OPERATORS.get(operator) or printable(operator, VALUE_WIDTH)} {operand}".strip()


def _operand(rule: Mapping[str, Any]) -> str:
    if "values" in rule:
        values = rule["values"]
        if isinstance(values, str):
            return values
        return f"({', '.join(_quoted(value) for value in values)})"
    return _quoted(rule["value"]) if "value" in rule else ""


def _quoted(value: Any) -> str:
    if value in (SECRET, UNKNOWN, HIDDEN):
        return str(value)
    text = printable(str(value), VALUE_WIDTH)
    return json.dumps(text, ensure_ascii=False)


def description(setup: str) -> tuple[str, str]:
    """Return the selector and the evaluators of a setup, given as JSON, as two texts."""
    spec = _parsed(setup)
    if isinstance(spec, str):
        return spec, ""
    rules = _rules(spec)
    sources = _ambiguous(rules)
    selector = " and ".join(rule_text(rule, source=_key(rule) in sources) for rule in rules)
    return _cut(selector), evaluators_text(spec)


def evaluators_text(spec: Mapping[str, Any]) -> str:
    """Return a setup's evaluators, such as ``faithfulness, pii-detector (trace)``."""
    return ", ".join(_evaluator(slug, scope) for slug, scope in _evaluators(spec).items())


def change(old: str, new: str, *, hide_old: bool = False) -> tuple[str, str]:
    """Return what differs between two setups, given as JSON: in selector and evaluators.

    Args:
        old: the setup before.
        new: the setup after.
        hide_old: whether to keep the old values back.

    """
    before, after = _parsed(old), _parsed(new)
    if isinstance(before, str) or isinstance(after, str):
        return f"{_whole(before)} -> {_whole(after)}", ""
    selector = _selector_change(_rules(before), _rules(after), hide_old)
    evaluators = _evaluators_change(_evaluators(before), _evaluators(after))
    if before.get("triggers") != after.get("triggers"):
        evaluators = ", ".join(filter(None, (evaluators, "triggers changed: sent again")))
    if not selector and not evaluators:
        # Only what is masked differs.
        return f"{SECRET} or {UNKNOWN} values", ""
    return _cut(selector), evaluators


def _parsed(setup: str) -> dict[str, Any] | str:
    if setup in (SECRET, UNKNOWN):
        return setup
    spec = json.loads(setup)
    return spec if isinstance(spec, dict) else str(spec)


def _whole(spec: Mapping[str, Any] | str) -> str:
    return spec if isinstance(spec, str) else "a known setup"


def _rules(spec: Mapping[str, Any]) -> list[Any]:
    selector = spec.get("selector") or []
    return [selector] if isinstance(selector, str) else list(selector)


def _key(rule: Any) -> str:
    return str(rule.get("key", "")) if isinstance(rule, Mapping) else ""


def _ambiguous(*selectors: Any) -> set[str]:
    """Keys that are looked for both in spans and in resources, or that move between the two."""
    seen: dict[str, set[str]] = {}
    for rule in (r for rules in selectors for r in rules if isinstance(r, Mapping)):
        seen.setdefault(_key(rule), set()).add(str(rule.get("source")))
    return {key for key, sources in seen.items() if len(sources) > 1}


def _same(rule: Any) -> str:
    if not isinstance(rule, Mapping):
        return str(rule)
    full = {"operator": "equals", **rule}
    if isinstance(full.get("values"), list):
        full["values"] = sorted(map(str, full["values"]))
    return json.dumps(full, sort_keys=True)


def _selector_change(before: list[Any], after: list[Any], hide_old: bool) -> str:
    old = {_same(rule): rule for rule in before}
    new = {_same(rule): rule for rule in after}
    removed = [rule for same, rule in old.items() if same not in new]
    added = [rule for same, rule in new.items() if same not in old]
    sources = _ambiguous(before, after)
    parts = []
    for rule in removed:
        key = _key(rule)
        twins = [r for r in added if key and _key(r) == key]
        if len(twins) == 1 and sum(_key(r) == key for r in removed) == 1 and key not in sources:
            (twin,) = twins
            added.remove(twin)
            same_operator = OPERATORS.get(rule.get("operator", "equals")) == OPERATORS.get(
                twin.get("operator", "equals")
            )
            target = _operand(twin) if same_operator else _condition(twin)
            parts.append(f"{rule_text(rule, hidden=hide_old)} -> {target}")
        else:
            parts.append(f"- {rule_text(rule, source=key in sources, hidden=hide_old)}")
    parts += [f"+ {rule_text(rule, source=_key(rule) in sources)}" for rule in added]
    return ", ".join(parts)


def _evaluators(spec: Mapping[str, Any]) -> dict[str, list[str | None]]:
    """Return the scopes of each slug; one without a scope has ``None``."""
    found: dict[str, list[str | None]] = {}
    listed = spec.get("evaluator_configs") or spec.get("evaluators") or []
    for evaluator in [listed] if isinstance(listed, str) else listed:
        if isinstance(evaluator, Mapping):
            slug, scope = str(evaluator.get("slug", "")), evaluator.get("scope")
        else:
            slug, scope = str(evaluator), None
        scope = printable(str(scope), VALUE_WIDTH) if scope else None
        found.setdefault(printable(slug, VALUE_WIDTH), []).append(scope)
    return found


def _evaluator(slug: str, scopes: Sequence[str | None]) -> str:
    named = [scope for scope in scopes if scope]
    return f"{slug} ({', '.join(named)})" if named else slug


def _evaluators_change(
    before: Mapping[str, list[str | None]], after: Mapping[str, list[str | None]]
) -> str:
    parts = [f"- {_evaluator(slug, before[slug])}" for slug in before if slug not in after]
    for slug, scopes in after.items():
        if slug not in before:
            parts.append(f"+ {_evaluator(slug, scopes)}")
        elif set(before[slug]) != set(scopes):
            old = ", ".join(scope or "no scope" for scope in before[slug])
            new = ", ".join(scope or "no scope" for scope in scopes)
            parts.append(f"{slug} ({old} -> {new})")
    return ", ".join(parts)


def _cut(text: str) -> str:
    return text if len(text) <= 4 * VALUE_WIDTH else text[: 4 * VALUE_WIDTH - 3].rstrip() + "..."
