"""Describes a setup, and the difference between two, in short texts.

The input is display JSON: JSON with the placeholders `SECRET`, `UNKNOWN` and `HIDDEN` for values
that must not or cannot be displayed, or one placeholder for the whole setup. A literal that equals
a placeholder is escaped with a backslash.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ._codec import encoded
from ._text import cut, look_alike, name, pair, quoted

__all__ = [
    "HIDDEN",
    "OPERATORS",
    "SECRET",
    "UNKNOWN",
    "Difference",
    "description",
    "difference",
    "display_json",
    "evaluator_texts",
    "hides",
    "literal",
    "literals",
    "rule_text",
    "rule_texts",
    "setup",
    "unseen_change",
]

#: Placeholders for a secret, an unknown value, and a value that only Traceloop has, which may be
#: secret.
SECRET = "[secret]"  # noqa: S105 - it is none
UNKNOWN = "<unknown>"
HIDDEN = "..."
_PLACEHOLDERS = (SECRET, UNKNOWN, HIDDEN)
_LIKE_A_PLACEHOLDER = re.compile(rf"\\*({'|'.join(map(re.escape, _PLACEHOLDERS))})")

#: How an operator is displayed.
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

#: How many of a list's values, and of a selector's rules, are listed.
VALUES = 6
RULES = 6


class Difference(NamedTuple):
    """The difference between two setups.

    A text before is empty if the part is added; a text after is empty if it is removed.
    """

    #: For each rule: before, after, and the change, such as ``a = "x" -> "y"``.
    rules: Sequence[tuple[str, str, str]] = ()
    evaluators: Sequence[tuple[str, str, str]] = ()
    #: Changes of hidden values, and of triggers.
    notes: Sequence[str] = ()

    def texts(self) -> tuple[str, str]:
        """Return the changes of the selector, and those of the evaluators with the notes."""
        rules, evaluators = (
            cut([text for *_, text in found], RULES) for found in (self.rules, self.evaluators)
        )
        return ", ".join(rules), ", ".join([*evaluators, *self.notes])


def rule_text(rule: Any, *, source: bool = False) -> str:
    """Return a rule as a text, such as ``service.name in ("cart", "checkout")``.

    Args:
        rule: the rule.
        source: whether to mark a resource attribute.

    """
    if not isinstance(rule, Mapping):  # a placeholder for the whole rule
        return _value(rule)
    return f"{_attribute(rule, source)} {_condition(rule)}"


def description(text: str) -> tuple[str, str]:
    """Return the selector and the evaluators of a setup, as two texts."""
    spec = setup(text)
    if isinstance(spec, str):
        return spec, ""
    return " and ".join(rule_texts(spec)), ", ".join(evaluator_texts(spec))


def rule_texts(spec: Mapping[str, Any]) -> list[str]:
    """Return the rules of a setup, and the number of omitted ones."""
    rules = _rules(spec)
    sources = _ambiguous(rules)
    texts = [rule_text(rule, source=_key(rule) in sources) for rule in rules]
    return cut(texts, RULES, [_same(rule) for rule in rules])


def evaluator_texts(spec: Mapping[str, Any]) -> list[str]:
    """Return the evaluators of a setup, such as ``pii-detector (trace)``, cut as its rules are."""
    found = [_evaluator(slug, scopes) for slug, scopes in _evaluators(spec).items()]
    return cut(found, 2 * RULES, found)


def difference(before: str, after: str, *, secret_changes: bool = False) -> Difference:
    """Return the difference between two setups.

    Args:
        before: the setup before.
        after: the setup after.
        secret_changes: whether a value differs that both display as `SECRET`.

    """
    old, new = setup(before), setup(after)
    if isinstance(old, str) or isinstance(new, str):
        if old == new:
            return Difference(notes=[_unseen(before, after, secret_changes)])
        left, right = (spec if isinstance(spec, str) else "a known setup" for spec in (old, new))
        return Difference(rules=[(left, right, f"{left} -> {right}")])
    rules = _rule_changes(_rules(old), _rules(new))
    evaluators = _evaluator_changes(_evaluators(old), _evaluators(new))
    notes = []
    if secret_changes:
        notes.append("a secret value changes")
    if old.get("triggers") != new.get("triggers"):
        notes.append("triggers changed: sent again")
    if not rules and not evaluators and not notes:
        notes.append(_unseen(before, after, secret_changes))
    return Difference(rules, evaluators, notes)


def hides(text: str) -> bool:
    """Whether a placeholder hides a part of a setup, so that it cannot be compared."""
    return any(mark in text for mark in _PLACEHOLDERS)


def literals(value: Any) -> Any:
    """Return a part of a setup, without placeholders, as in display JSON."""
    if isinstance(value, Mapping):
        return {key: literals(item) for key, item in value.items()}
    if isinstance(value, list):
        return [literals(item) for item in value]
    alike = isinstance(value, str) and _LIKE_A_PLACEHOLDER.fullmatch(value)
    return f"\\{value}" if alike else value


def literal(value: str) -> str:
    """Return the literal text of a value in display JSON."""
    return value[1:] if value[:1] == "\\" and _LIKE_A_PLACEHOLDER.fullmatch(value) else value


def display_json(text: str) -> str:
    """Return the display JSON of a setup in JSON without placeholders."""
    # Few contain a text that must be escaped, and parsing thousands of setups is slow.
    return encoded(literals(json.loads(text))) if hides(text) else text


def _unseen(before: str, after: str, secret_changes: bool) -> str:
    if secret_changes:
        return "a secret value changes"
    if UNKNOWN in after or UNKNOWN in before:
        return "a value that is not known yet may change"
    if SECRET in after or SECRET in before:
        return "a secret value may change"
    return "only its notation changes"


def setup(text: str) -> dict[str, Any] | str:
    """Return a setup as values, or the placeholder for the whole of it."""
    if text in _PLACEHOLDERS:
        return text
    spec = json.loads(text)
    return spec if isinstance(spec, dict) else _value(spec)


def _rules(spec: Mapping[str, Any]) -> list[Any]:
    selector = spec.get("selector") or []
    return [selector] if isinstance(selector, str) else list(selector)


def _key(rule: Any) -> str:
    return str(rule.get("key", "")) if isinstance(rule, Mapping) else ""


def _ambiguous(*selectors: Iterable[Any]) -> set[str]:
    """Return the keys of rules about both a span and a resource attribute, before or after."""
    seen: dict[str, set[str]] = {}
    for rule in (r for rules in selectors for r in rules if isinstance(r, Mapping)):
        seen.setdefault(_key(rule), set()).add(str(rule.get("source")))
    return {key for key, sources in seen.items() if len(sources) > 1}


def _attribute(rule: Mapping[str, Any], source: bool) -> str:
    where = " (resource)" if source and rule.get("source") == "resource_attributes" else ""
    return f"{_word(rule.get('key'))}{where}"


def _operator(rule: Mapping[str, Any]) -> str:
    operator = str(rule.get("operator") or "equals")
    return OPERATORS.get(operator) or _word(operator)


def _condition(rule: Mapping[str, Any]) -> str:
    if isinstance(values := rule.get("values"), list):
        shown = ", ".join(cut([_value(v) for v in values], VALUES, sorted(map(_text, values))))
        return f"{_operator(rule)} ({shown})"
    operand = rule.get("values", rule.get("value"))
    return _operator(rule) if operand is None else f"{_operator(rule)} {_value(operand)}"


def _text(value: Any) -> str:
    return literal(value) if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _value(value: Any) -> str:
    return value if value in _PLACEHOLDERS else quoted(_text(value))


def _word(value: Any) -> str:
    if value in _PLACEHOLDERS:
        return str(value)
    text = _text(value)
    return quoted(text) if text in _PLACEHOLDERS else name(text)


def _same(rule: Any) -> str:
    """Return a text that equal rules share."""
    if not isinstance(rule, Mapping):
        return _text(rule)
    full = {"operator": "equals", **rule}
    if isinstance(full.get("values"), list):
        full["values"] = sorted({*map(_text, full["values"])})
    return json.dumps(full, sort_keys=True)


def _rule_changes(before: list[Any], after: list[Any]) -> list[tuple[str, str, str]]:
    old, new = ({_same(rule): rule for rule in rules} for rules in (before, after))
    removed = [rule for same, rule in old.items() if same not in new]
    added = [rule for same, rule in new.items() if same not in old]
    sources = _ambiguous(before, after)
    count = Counter(_key(rule) for rule in removed)
    changes = []
    for rule in removed:
        key = _key(rule)
        twins = [twin for twin in added if key and _key(twin) == key]
        if len(twins) == 1 and count[key] == 1 and key not in sources:
            added.remove(twins[0])
            changes.append(_rule_change(rule, twins[0]))
        else:
            text = rule_text(rule, source=key in sources)
            changes.append((text, "", f"- {text}"))
    for rule in added:
        text = rule_text(rule, source=_key(rule) in sources)
        changes.append(("", text, f"+ {text}"))
    return changes


def _rule_change(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return a change of one attribute's condition."""
    head = f"{_attribute(new, False)} {_operator(new)}"
    before, after = rule_text(old), rule_text(new)
    if _operator(old) != _operator(new):
        return before, after, f"{before} -> {_condition(new)}"
    if isinstance(old.get("values"), list) and isinstance(new.get("values"), list):
        left, right = old["values"], new["values"]
        changed = _list_change(left, right)
        if max(len(left), len(right)) > VALUES:
            before, after = f"{head} ({len(left)} values)", f"{head}: {changed}"
        else:
            before, after = (
                f"{head} ({', '.join(_beside(value, others) for value in values)})"
                for values, others in ((left, right), (right, left))
            )
        return before, after, f"{head}: {changed}"
    sides = [rule.get("values", rule.get("value")) for rule in (old, new)]
    if all(isinstance(v, str) and v not in _PLACEHOLDERS for v in sides):
        left, right = pair(_text(sides[0]), _text(sides[1]))
        return f"{head} {left}", f"{head} {right}", f"{head} {left} -> {right}"
    return before, after, f"{before} -> {_value(sides[1])}"


def _list_change(old: list[Any], new: list[Any]) -> str:
    changes = [("+", value, old) for value in new if value not in old]
    changes += [("-", value, new) for value in old if value not in new]
    # Comparing each value of long lists is slow, so only those that are listed.
    listed = 2 * VALUES + 1
    parts = [f"{sign} {_beside(value, others)}" for sign, value, others in changes[:listed]]
    return ", ".join(cut([*parts, *("" for _ in changes[listed:])], 2 * VALUES))


def _beside(value: Any, others: Sequence[Any]) -> str:
    """Return a value of a list; different values of the other side's list look different."""
    if isinstance(value, str) and value not in (*_PLACEHOLDERS, *others):
        for other in others:
            literals_only = isinstance(other, str) and other not in _PLACEHOLDERS
            if literals_only and look_alike(_text(value), _text(other)):
                return pair(_text(value), _text(other))[0]
    return _value(value)


def _evaluators(spec: Mapping[str, Any]) -> dict[str, list[str | None]]:
    """Return the scopes of each slug; one without a scope has ``None``."""
    found: dict[str, list[str | None]] = {}
    listed = spec.get("evaluator_configs") or spec.get("evaluators") or []
    for evaluator in [listed] if isinstance(listed, str) else listed:
        entry = evaluator if isinstance(evaluator, Mapping) else {"slug": evaluator}
        scope = entry.get("scope")
        found.setdefault(_word(entry.get("slug", "")), []).append(_word(scope) if scope else None)
    return found


def _evaluator(slug: str, scopes: Iterable[str | None]) -> str:
    named = [scope for scope in scopes if scope]
    return f"{slug} ({', '.join(named)})" if named else slug


def _evaluator_changes(
    before: Mapping[str, list[str | None]], after: Mapping[str, list[str | None]]
) -> list[tuple[str, str, str]]:
    changes = []
    for slug in before.keys() - after.keys():
        text = _evaluator(slug, before[slug])
        changes.append((text, "", f"- {text}"))
    changes.sort()
    for slug, scopes in after.items():
        text = _evaluator(slug, scopes)
        if slug not in before:
            changes.append(("", text, f"+ {text}"))
        elif set(before[slug]) != set(scopes):
            old, new = (
                ", ".join(scope or "no scope" for scope in found)
                for found in (before[slug], scopes)
            )
            changes.append((_evaluator(slug, before[slug]), text, f"{slug} ({old} -> {new})"))
    return changes


def unseen_change(old: str, new: str, shown_old: str, shown_new: str) -> bool:
    """Whether two setups differ in a value that their display JSON hides.

    Args:
        old: the setup before, with its secrets.
        new: the setup after.
        shown_old: the display JSON of *old*.
        shown_new: the display JSON of *new*.

    """
    specs = [setup(text) for text in (old, new, shown_old, shown_new)]
    if any(isinstance(spec, str) for spec in specs):
        return old != new and shown_old == shown_new
    before, after, seen_before, seen_after = map(_parts, specs)
    return (before - after).total() > (seen_before - seen_after).total() or (
        (after - before).total() > (seen_after - seen_before).total()
    )


def _parts(spec: Any) -> Counter[str]:
    evaluators = ((slug, scope) for slug, scopes in _evaluators(spec).items() for scope in scopes)
    triggers = [json.dumps(spec["triggers"], sort_keys=True)] if "triggers" in spec else []
    return Counter([*map(_same, _rules(spec)), *map(json.dumps, evaluators), *triggers])
