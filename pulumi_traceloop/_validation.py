"""Validates declared setups, for programs, files, the provider and the command.

Plain Python: importing pydantic alone takes longer than validating thousands of setups here
(``python -m benchmarks.validation``).

The shapes are those of the API's reference pages "Create an Auto Monitor Setup", "Upsert by
External ID" and "Bulk Upsert" (https://www.traceloop.com/docs/api-reference/auto-monitor-setups).
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

from ._naming import external_id_problem, text_problem
from ._text import printable

__all__ = [
    "FINAL",
    "MAX_DELETES",
    "VALUE_FIELD",
    "WAITING",
    "Operator",
    "Problem",
    "Scope",
    "Source",
    "group_problems",
    "option_problems",
    "problems",
    "problems_in_json",
    "setup_path",
    "suspicion",
    "suspicious_group_texts",
    "suspicious_texts",
]

Operator = Literal[
    "equals", "not_equals", "contains", "not_contains", "in", "not_in", "exists", "not_exists"
]
Source = Literal["span_attributes", "resource_attributes"]
Scope = Literal["session", "trace", "span"]

#: The value field that an operator needs; operators not listed need none.
VALUE_FIELD: Final[Mapping[str, str]] = {
    "equals": "value",
    "not_equals": "value",
    "contains": "value",
    "not_contains": "value",
    "in": "values",
    "not_in": "values",
}

#: A number or percentage. The engine passes every number as a float.
MAX_DELETES: Final = re.compile(r"(\d+)(?:\.0)?(%?)")

_OPERATORS: Final[tuple[str, ...]] = get_args(Operator)
_SOURCES: Final[tuple[str, ...]] = get_args(Source)
_SCOPES: Final[tuple[str, ...]] = get_args(Scope)

#: The final statuses of a stored setup, and that of one whose monitor is created when enough spans
#: match (page "Create"). Any other status, documented or not, means that Traceloop is at work.
FINAL: Final = ("completed", "partial", "failed")
WAITING: Final = "waiting_for_spans"

#: Operator names of query languages.
_ALIASES: Final = {
    "=": "equals",
    "==": "equals",
    "is": "equals",
    "!=": "not_equals",
    "ne": "not_equals",
    "neq": "not_equals",
    "like": "contains",
    "includes": "contains",
    "any_of": "in",
    "is_in": "in",
    "one_of": "in",
    "nin": "not_in",
}

#: The properties, in the order of error messages.
_SETUP: Final = dict.fromkeys(("selector", "evaluators", "evaluator_configs", "triggers"))
_RULE: Final = dict.fromkeys(("key", "source", "operator", "value", "values"))
_CONFIG: Final = dict.fromkeys(("slug", "scope"))
_OPERANDS: Final = {"value", "values"}

#: The types of unknown values, which are not validated.
Unknown: TypeAlias = type | tuple[type, ...]


class Problem(NamedTuple):
    """An invalid property: its path, such as ``selector[0].value``, and the reason."""

    path: str
    reason: str


def setup_path(external_id: object) -> str:
    """Return the path of one setup of a group, such as ``setups["checkout"]``."""
    return f"setups[{json.dumps(external_id, ensure_ascii=False, default=repr)}]"


def problems(setup: Any, unknown: Unknown = ()) -> list[Problem]:
    """Return all problems of a setup.

    Args:
        setup: the setup as JSON values.
        unknown: the types of unknown values.

    """
    if not isinstance(setup, dict):
        return [] if isinstance(setup, unknown) else [Problem("", "must be a mapping")]
    found, names = _unknown_keys(setup, _SETUP)
    selector, triggers = setup.get("selector"), setup.get("triggers")
    if isinstance(selector, list):
        # The API's error: "selector must have at least 1 filter". An empty one matches all spans.
        if not selector:
            found.append(Problem("selector", "needs at least one rule"))
        found += _in_items("selector", selector, _rule_problems, unknown)
    elif "selector" not in names:
        found.append(Problem("selector", "is missing"))
    elif "selector" in setup and not isinstance(selector, unknown):
        found.append(Problem("selector", "must be a list of rules"))
    found += _evaluator_problems(setup, names, unknown)
    if isinstance(triggers, list):
        found += _in_items("triggers", triggers, _json_problems, unknown)
    elif triggers is not None and not isinstance(triggers, unknown):
        found.append(Problem("triggers", "must be a list"))
    return found


def problems_in_json(text: str) -> list[Problem]:
    """Return all problems of a setup encoded as JSON."""
    try:
        setup = json.loads(text)
    except ValueError as error:
        return [Problem("", f"is not valid JSON: {error}")]
    return problems(setup)


def group_problems(external_id: Any, setup: Any, unknown: Unknown = ()) -> list[Problem]:
    """Return all problems of a group's setup and its external_id."""
    return _in_group(external_id, problems(setup, unknown), external_id_problem(external_id))


def _in_group(external_id: Any, found: list[Problem], why_not: str | None) -> list[Problem]:
    if why_not:
        found.insert(0, Problem("", f"the external_id {why_not}"))
    if not found:
        return found
    path = setup_path(external_id)
    return [Problem(_joined(path, below), reason) for below, reason in found]


def option_problems(options: Mapping[str, Any], unknown: Unknown = ()) -> list[Problem]:
    """Return all problems of the options of a setup or group."""
    found = []
    given = {k: v for k, v in options.items() if v is not None and not isinstance(v, unknown)}
    if given.get("if_exists", "fail") not in ("replace", "adopt", "fail"):
        found.append(Problem("if_exists", "must be 'replace', 'adopt' or 'fail'"))
    if given.get("wait_for", "spans") not in ("spans", "accepted"):
        found.append(Problem("wait_for", "must be 'spans' or 'accepted'"))
    timeout = given.get("wait_timeout", 1)
    is_number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not is_number or not timeout > 0:  # false for NaN
        found.append(Problem("wait_timeout", "must be a number of seconds above 0"))
    match = MAX_DELETES.fullmatch(str(given.get("max_deletes", 0)))
    if not match or (match[2] and int(match[1]) > 100):
        found.append(Problem("max_deletes", 'must be a number, or a percentage such as "10%"'))
    limit = given.get("max_evaluations", 0)
    is_number = isinstance(limit, (int, float)) and not isinstance(limit, bool)
    if not is_number or not 0 <= limit < float("inf"):
        found.append(Problem("max_evaluations", "must be a number of evaluations a day"))
    return found


# The parts of a setup. Paths are relative to the part; only problems join them.


def _in_items(
    name: str,
    items: list[Any],
    judge: Callable[[Any, Unknown], Iterable[Problem]],
    unknown: Unknown,
) -> Iterator[Problem]:
    for index, item in enumerate(items):
        for path, reason in judge(item, unknown):
            yield Problem(_joined(f"{name}[{index}]", path), reason)


def _joined(path: str, below: str) -> str:
    return f"{path}.{below}" if below and below[0] != "[" else path + below


def _unknown_keys(
    given: dict[Any, Any], known: Mapping[str, None]
) -> tuple[list[Problem], Set[Any]]:
    """Return the unknown keys, and the properties that are given or probably meant."""
    names = given.keys()
    if names <= known.keys():
        return [], names
    found, meant = [], set(names)
    for name in given:
        if name in known:
            continue
        near = _near(str(name), known)
        meant.add(near)
        cure = f'did you mean "{near}"?' if near else f"known are {', '.join(known)}"
        found.append(Problem(printable(str(name), 60), f"is not a known property; {cure}"))
    return found, meant


def _rule_problems(rule: Any, unknown: Unknown) -> Collection[Problem]:
    if not isinstance(rule, dict):
        wrong = [Problem("", "must be a mapping with key, source and operator")]
        return () if isinstance(rule, unknown) else wrong
    found, names = _unknown_keys(rule, _RULE)
    if "key" not in names:
        found.append(Problem("key", "is missing"))
    elif "key" in rule and (reason := _text(rule["key"], unknown)):
        found.append(Problem("key", reason))
    if "source" not in names:
        found.append(Problem("source", "is missing"))
    elif "source" in rule and (reason := _choice(rule["source"], _SOURCES, unknown)):
        found.append(Problem("source", reason))
    operator = rule.get("operator", "equals")
    if reason := _choice(operator, _OPERATORS, unknown):
        found.append(Problem("operator", reason))
    # An invalid or unknown operator does not say which value field is right.
    operator_known = not reason and not isinstance(operator, unknown)
    needed = VALUE_FIELD.get(operator) if operator_known else None
    # A misspelled field, or the other one, is reported already: do not report it as missing too.
    given_any = rule.get("value") is not None or rule.get("values") is not None
    missing = needed if not given_any and not (names - rule.keys()) & _OPERANDS else None
    for field in ("value", "values"):
        given = rule.get(field)
        if given is None:
            if field == missing:
                found.append(Problem(field, f'operator "{operator}" needs "{field}"'))
        elif operator_known and field != needed:
            hint = f'"{needed}" instead' if needed else "neither value nor values"
            found.append(Problem(field, f'operator "{operator}" takes {hint}'))
        elif field == "value":
            if reason := _value(given, _NO_VALUE, unknown):
                found.append(Problem(field, reason))
        elif isinstance(given, list):
            if not given and operator_known:
                found.append(Problem(field, f'operator "{operator}" needs at least one value'))
            found += [
                Problem(f"values[{index}]", reason)
                for index, value in enumerate(given)
                if (reason := _value(value, "must not be empty; remove it", unknown))
            ]
        elif not isinstance(given, unknown):
            found.append(Problem(field, "must be a list"))
    return found


#: The API does not document whether an empty value matches a missing attribute.
_NO_VALUE = (
    'must not be empty; use the operator "exists" for spans that have the attribute, "not_exists"'
    " for those that lack it"
)


def _evaluator_problems(
    setup: Mapping[str, Any], names: Set[Any], unknown: Unknown
) -> list[Problem]:
    slugs, configs = setup.get("evaluators"), setup.get("evaluator_configs")
    found: list[Problem] = []
    if slugs is None and configs is None:
        if not (names - setup.keys()) & {"evaluators", "evaluator_configs"}:
            reason = "give either evaluators or evaluator_configs"
            found.append(Problem("evaluators", reason))
    elif slugs is not None and configs is not None:
        # An unknown value may turn out to be None.
        if not isinstance(slugs, unknown) and not isinstance(configs, unknown):
            reason = "give either evaluators or evaluator_configs, not both"
            found.append(Problem("evaluators", reason))
    elif [] in (slugs, configs):
        name = "evaluator_configs" if slugs is None else "evaluators"
        found.append(Problem(name, "needs at least one evaluator"))
    if isinstance(slugs, list):
        found += _in_items("evaluators", slugs, _slug_problems, unknown)
        found += _repeated("evaluators", slugs)
    elif slugs is not None and not isinstance(slugs, unknown):
        such_as = f', such as ["{printable(slugs, 60)}"]' if isinstance(slugs, str) else ""
        found.append(Problem("evaluators", f"must be a list{such_as}"))
    if isinstance(configs, list):
        found += _in_items("evaluator_configs", configs, _config_problems, unknown)
        found += _repeated("evaluator_configs", map(_identity, configs))
    elif configs is not None and not isinstance(configs, unknown):
        found.append(Problem("evaluator_configs", "must be a list"))
    return found


def _slug_problems(slug: Any, unknown: Unknown) -> Collection[Problem]:
    if isinstance(slug, dict):
        return [Problem("", "must be a slug; an evaluator with a scope goes to evaluator_configs")]
    reason = _text(slug, unknown)
    return [Problem("", reason)] if reason else ()


def _config_problems(config: Any, unknown: Unknown) -> Collection[Problem]:
    if not isinstance(config, dict):
        slug = printable(config, 60) if isinstance(config, str) else "..."
        wrong = [Problem("", f'must be a mapping, such as {{"slug": "{slug}"}}')]
        return () if isinstance(config, unknown) else wrong
    found, names = _unknown_keys(config, _CONFIG)
    if "slug" not in names:
        found.append(Problem("slug", "is missing"))
    elif "slug" in config and (reason := _text(config["slug"], unknown)):
        found.append(Problem("slug", reason))
    scope = config.get("scope")
    if scope is not None and (reason := _choice(scope, _SCOPES, unknown)):
        found.append(Problem("scope", reason))
    return found


def _identity(config: Any) -> tuple[str, str | None] | None:
    """Return the identity of a config; ``None`` if it is invalid or unknown."""
    slug, scope = (config.get("slug"), config.get("scope")) if isinstance(config, dict) else (0, 0)
    return (slug, scope) if isinstance(slug, str) and isinstance(scope, (str, type(None))) else None


def _repeated(name: str, evaluators: Iterable[Any]) -> Iterator[Problem]:
    seen = set()
    for index, evaluator in enumerate(evaluators):
        if not isinstance(evaluator, (str, tuple)):
            continue
        if evaluator in seen:
            slug = evaluator if isinstance(evaluator, str) else evaluator[0]
            yield Problem(f"{name}[{index}]", f'"{printable(slug, 60)}" is listed twice')
        seen.add(evaluator)


def _json_problems(value: Any, unknown: Unknown) -> Iterable[Problem]:
    """Yield the values of a trigger that JSON cannot represent."""
    if isinstance(value, dict):
        for key, item in value.items():
            for path, reason in _json_problems(item, unknown):
                yield Problem(_joined(str(key), path), reason)
    elif isinstance(value, list):
        yield from _in_items("", value, _json_problems, unknown)
    elif isinstance(value, float) and not math.isfinite(value):
        yield Problem("", "must be a finite number")
    elif value is not None and not isinstance(value, (str, int, float, unknown)):
        kind = type(value).__name__
        yield Problem("", f"is a {kind}, which JSON does not have; use its text, str(...)")


# Single values: each function returns why a value is invalid, or None.


def _value(value: Any, empty: str, unknown: Unknown) -> str | None:
    if value == "":
        return empty
    # A value may consist of blanks.
    return None if isinstance(value, str) and value.isspace() else _text(value, unknown)


def _text(value: Any, unknown: Unknown) -> str | None:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, unknown):
        return None
    if isinstance(value, list):
        return (
            'must be a string, not a list; pass the strings one by one, such as is_in("a", "b") or'
            " is_in(*names)"
        )
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # The engine passes every number as a float.
        whole = isinstance(value, float) and value.is_integer()
        return f'must be a string, such as "{int(value) if whole else value}"'
    return "must be a string"


@lru_cache(maxsize=16_384)  # keys and slugs repeat
def _string(value: str) -> str | None:
    return text_problem(value) if value.strip() else "must not be empty"


def _choice(value: Any, choices: tuple[str, ...], unknown: Unknown) -> str | None:
    if isinstance(value, str):
        if value in choices:
            return None
        near = _near(value, choices)
        hint = f', not "{printable(value, 60)}"' + (f'; did you mean "{near}"?' if near else "")
    elif isinstance(value, unknown):
        return None
    else:
        hint = ""
    *most, last = (f"'{choice}'" for choice in choices)
    return f"must be one of {', '.join(most)} or {last}{hint}"


def _near(given: str, choices: Iterable[str]) -> str | None:
    """Return the choice that *given* probably means."""
    given = given.strip().lower().replace("-", "_").replace(" ", "_")
    given = _ALIASES.get(given, given)
    completed = [choice for choice in choices if len(given) > 1 and choice.startswith(given)]
    return next(iter([*completed, *difflib.get_close_matches(given, choices, 1)]), None)


# Suspicious texts: valid, but probably a mistake.

#: How many texts one warning lists.
_WARNED = 10

_SUSPICIONS: Final = (
    (re.compile(r"\$\{[^}]*\}?|\{\{.*?(?:\}\}|$)"), "has a placeholder that nothing fills in: {}"),
    (re.compile("[\u2018\u2019\u201a\u201c\u201d\u201e]"), "has a curly quote: {}"),
    (
        # Some scripts and emojis need the last two; Latin text does not.
        re.compile("[\u00ad\u200b\u200e\u200f\u2060\ufeff]|(?<=[ -~])[\u200c\u200d]"),
        "has an invisible character: {}",
    ),
    (re.compile(r"^\s|\s$"), "begins or ends with a blank"),
)


def suspicious_texts(setup: Any) -> Iterator[Problem]:
    """Yield the texts of a setup that are valid, but probably a mistake."""
    for index, rule in _dicts(setup, "selector"):
        for name in ("key", "value"):
            if reason := suspicion(rule.get(name)):
                yield Problem(f"selector[{index}].{name}", reason)
        values = rule.get("values")
        for number, value in enumerate(values if isinstance(values, list) else ()):
            if reason := suspicion(value):
                yield Problem(f"selector[{index}].values[{number}]", reason)
    for index, slug in _items(setup, "evaluators"):
        if reason := suspicion(slug):
            yield Problem(f"evaluators[{index}]", reason)
    for index, config in _dicts(setup, "evaluator_configs"):
        if reason := suspicion(config.get("slug")):
            yield Problem(f"evaluator_configs[{index}].slug", reason)


def suspicious_group_texts(external_id: str, setup: Any, text: str | None = None) -> list[Problem]:
    """Return the suspicious texts of a group's setup and its external_id.

    Args:
        external_id: the setup's key.
        setup: the setup.
        text: the setup as canonical JSON, if available: it rules out most setups quickly.

    """
    found = list(suspicious_texts(setup)) if text is None or _may_be_suspicious(text) else []
    return _in_group(external_id, found, suspicion(external_id))


def _may_be_suspicious(text: str) -> bool:
    # A backslash may escape a blank. Canonical JSON has no blank beside a quote otherwise.
    return (
        not text.isascii()
        or "${" in text
        or "{{" in text
        or "\\" in text
        or ' "' in text
        or '" ' in text
    )


def suspicious_texts_warning(found: Sequence[Problem]) -> str | None:
    """Return one warning about *found* texts; ``None`` if there are none."""
    if not found:
        return None
    lines = [f"  {printable(path)} {reason}" for path, reason in found[:_WARNED]]
    rest = [f"  and {len(found) - _WARNED} more"] if len(found) > _WARNED else []
    return "\n".join(["rules match texts literally; check these:", *lines, *rest])


def _items(setup: Any, name: str) -> Iterable[tuple[int, Any]]:
    items = setup.get(name) if isinstance(setup, dict) else None
    return enumerate(items) if isinstance(items, list) else ()


def _dicts(setup: Any, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    return ((i, item) for i, item in _items(setup, name) if isinstance(item, dict))


def suspicion(text: object) -> str | None:
    """Return why *text* is probably a mistake, or ``None``."""
    return _suspicion(text) if isinstance(text, str) else None


@lru_cache(maxsize=16_384)
def _suspicion(text: str) -> str | None:
    for pattern, reason in _SUSPICIONS:
        if found := pattern.search(text):
            char = found[0] if found[0].isprintable() else f"U+{ord(found[0]):04X}"
            return reason.format(char)
    return None
