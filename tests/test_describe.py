"""Setups, and the differences between two, in the user's terms."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulumi_traceloop._codec import encoded
from pulumi_traceloop._describe import (
    HIDDEN,
    SECRET,
    UNKNOWN,
    description,
    difference,
    display_json,
    literal,
    literals,
    rule_text,
    unseen_change,
)

SERVICES = [f"service-{n:02}" for n in range(14)]


def rule(value: Any = "x", key: str = "k", **more: Any) -> dict[str, Any]:
    found = {"key": key, "source": "span_attributes", **more}
    if isinstance(value, list):
        return {"operator": "in", "values": value, **found}
    return found if value is None else {"value": value, **found}


def setup(*rules: Any, evaluators: Any = ("faithfulness",), **more: Any) -> str:
    return json.dumps({"selector": list(rules), "evaluators": list(evaluators), **more})


def texts(before: str, after: str, **options: bool) -> tuple[str, str]:
    return difference(before, after, **options).texts()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (rule("gpt-4o"), 'k = "gpt-4o"'),
        (rule('a"b', operator="not_equals"), 'k != "a\\"b"'),
        (rule("é", operator="contains"), 'k contains "é"'),
        (rule("x", operator="not_contains"), 'k does not contain "x"'),
        (rule(["a", "b"]), 'k in ("a", "b")'),
        (rule(["a"], operator="not_in"), 'k not in ("a")'),
        (rule(None, operator="exists"), "k exists"),
        (rule(None, operator="not_exists"), "k does not exist"),
        (rule(SECRET), "k = [secret]"),
        (rule(["a", SECRET]), 'k in ("a", [secret])'),
        (rule("x", operator="sounds_like"), 'k sounds_like "x"'),
        (rule("x", key="a b"), '"a b" = "x"'),
        (UNKNOWN, "<unknown>"),
    ],
)
def test_rule_in_the_users_terms(given: Any, text: str) -> None:
    assert rule_text(given) == text


PLACEHOLDERS = (SECRET, UNKNOWN, HIDDEN)


@pytest.mark.parametrize("mark", PLACEHOLDERS)
def test_literal_never_looks_like_a_placeholder(mark: str) -> None:
    alike = (mark, f"\\{mark}", f"\\\\{mark}")
    for part in ("value", "values", "key", "slug", "operator"):
        shown = [_described(part, mark), *(_described(part, literals(each)) for each in alike)]
        assert len({*shown}) == len(shown)
    before, after = (setup(rule(each)) for each in (mark, literals(mark)))
    assert texts(before, after)[0] == f'k = {mark} -> "{mark}"'
    assert texts(after, setup(rule("x")))[0] == f'k = "{mark}" -> "x"'


def _described(part: str, text: str) -> tuple[str, str]:
    if part == "slug":
        return description(setup(rule(), evaluators=[text]))
    return description(setup({**rule(), part: [text] if part == "values" else text}))


@given(st.text(alphabet="\\[]<>.secrtunkow", max_size=12) | st.sampled_from(PLACEHOLDERS))
@settings(deadline=None)
def test_display_json_stands_for_one_setup(value: str) -> None:
    text = encoded({"selector": [{"key": value, "values": [value, 1, None]}]})
    shown = json.loads(display_json(text))
    (found,) = shown["selector"]
    assert found["key"] not in PLACEHOLDERS
    assert literal(found["key"]) == literal(found["values"][0]) == value
    assert found["values"][1:] == [1, None]


def test_whole_setup() -> None:
    configs = [{"slug": "pii-detector", "scope": "trace"}, {"slug": "faithfulness"}]
    text = json.dumps({"selector": [rule(), rule(["y"], "l")], "evaluator_configs": configs})
    assert description(text) == ('k = "x" and l in ("y")', "pii-detector (trace), faithfulness")
    assert description(SECRET) == (SECRET, "")


def test_source_is_named_only_to_distinguish_two_rules() -> None:
    spans, resources = rule(), rule(source="resource_attributes")
    assert texts(setup(spans), setup(resources))[0] == '- k = "x", + k (resource) = "x"'
    assert description(setup(spans, resources))[0] == 'k = "x" and k (resource) = "x"'


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (rule("a"), rule("b"), 'k = "a" -> "b"'),
        (rule("a\n"), rule("a"), 'k = "a\\n" -> "a"'),
        (rule("a"), rule("a", operator="contains"), 'k = "a" -> contains "a"'),
        (rule(SERVICES), rule([*SERVICES[:-1], "new"]), 'k in: + "new", - "service-13"'),
        (rule(["a", "b"]), rule(["b", "a"]), ""),
        (rule(["gpt-4o"]), rule(["gpt-4\u043e"]), 'k in: + "gpt-4\\u043e", - "gpt-4o"'),
        (rule(["gpt-4o"]), rule(["gpt-4o", "gpt-4\u043e"]), 'k in: + "gpt-4\\u043e"'),
        (rule([HIDDEN]), rule(["\u2026"]), 'k in: + "\u2026", - ...'),
        (rule("a", key="l"), rule("a"), '- l = "a", + k = "a"'),
        (rule(HIDDEN), rule("b"), 'k = ... -> "b"'),
        (rule(SECRET), rule("b"), 'k = [secret] -> "b"'),
        (SECRET, rule("b"), '- [secret], + k = "b"'),
    ],
)
def test_changed_rule(before: Any, after: Any, text: str) -> None:
    assert texts(setup(before), setup(after))[0] == text


def test_values_of_a_list_that_look_alike_differ_side_by_side() -> None:
    (((before, after, _),), *_) = difference(setup(rule(["a", "é"])), setup(rule(["\u0430", "é"])))
    assert (before, after) == ('k in ("a", "é")', 'k in ("\\u0430", "é")')


def test_changed_value_among_many_is_visible() -> None:
    """Also in a whole setup: two lists that differ where they are truncated."""
    swapped = [*SERVICES[:-1], "new"]
    assert description(setup(rule(SERVICES))) != description(setup(rule(swapped)))


def test_added_removed_and_scoped_evaluators() -> None:
    before = setup(rule(), evaluators=["a", "b"])
    configs = [{"slug": "b", "scope": "trace"}, {"slug": "c"}]
    after = json.dumps({"selector": [rule()], "evaluator_configs": configs})
    assert texts(before, after) == ("", "- a, b (no scope -> trace), + c")


def test_order_and_defaults_are_not_a_change() -> None:
    before = setup(rule(operator="equals"), rule(key="l"), evaluators=["a", "b"])
    configs = [{"slug": "b"}, {"slug": "a"}]
    after = json.dumps({"selector": [rule(key="l"), rule()], "evaluator_configs": configs})
    assert not difference(before, after).rules
    assert not difference(before, after).evaluators


def test_changed_triggers_are_reported() -> None:
    found = texts(setup(rule(), triggers=["1"]), setup(rule(), triggers=["2"]))
    assert found == ("", "triggers changed: sent again")


def test_changed_secret_is_reported_beside_another_change() -> None:
    before, after = setup(rule(SECRET)), setup(rule(SECRET), rule("y", "l"))
    changed = difference(before, after, secret_changes=True).texts()
    assert changed == ('+ l = "y"', "a secret value changes")
    assert texts(before, before, secret_changes=True) == ("", "a secret value changes")
    assert texts(SECRET, SECRET, secret_changes=True) == ("", "a secret value changes")
    unknown = setup(rule(UNKNOWN))
    assert texts(unknown, unknown) == ("", "a value that is not known yet may change")


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        (setup(rule("s1")), setup(rule("s2")), True),
        (setup(rule("s1")), setup(rule("s1")), False),
        (setup(rule("s1"), rule("a", "l")), setup(rule("s1"), rule("b", "l")), False),
        (setup(rule("s1"), rule("a", "l")), setup(rule("s2"), rule("b", "l")), True),
        (setup(rule("s1"), triggers=["s1"]), setup(rule("s1"), triggers=["s2"]), True),
        (setup(rule("x"), evaluators=["s1"]), setup(rule("x"), evaluators=["s2"]), True),
    ],
)
def test_secret_changes_are_detected(old: str, new: str, changes: bool) -> None:
    def displayed(text: str) -> str:
        return text.replace('"s1"', f'"{SECRET}"').replace('"s2"', f'"{SECRET}"')

    assert unseen_change(old, new, displayed(old), displayed(new)) is changes


def test_setup_that_is_secret_as_a_whole() -> None:
    assert unseen_change("1", "2", SECRET, SECRET)
    assert not unseen_change("1", "1", SECRET, SECRET)
    assert texts(SECRET, setup(rule())) == ("[secret] -> a known setup", "")
