"""Selectors matched with spans: one by one, and in bulk: `spans/matching.py`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulumi_traceloop._models import Rule as ModelRule
from pulumi_traceloop._models import SetupRule, content
from pulumi_traceloop.spans.matching import Rule, Span, SpanIndex, matches, verdict

SPAN = Span(
    {"gen_ai.request.model": "gpt-4o", "empty": "", "gen_ai.input.messages": None},
    {"service.name": "shop"},
)
OPERATORS = [
    "equals",
    "not_equals",
    "contains",
    "not_contains",
    "in",
    "not_in",
    "exists",
    "not_exists",
]


def rule(key: str, operator: str, *operands: str, source: str = "span_attributes") -> Rule:
    if operator in ("in", "not_in"):
        return Rule(key, source, operator, values=operands)
    return Rule(key, source, operator, *operands)


@pytest.mark.parametrize(
    ("operator", "operands", "expected"),
    [
        ("equals", ["gpt-4o"], True),
        ("equals", ["gpt-4"], False),
        ("equals", ["GPT-4o"], False),
        ("contains", ["4"], True),
        ("contains", [""], True),
        ("contains", ["5"], False),
        ("in", ["gpt-5", "gpt-4o"], True),
        ("in", ["gpt-5"], False),
        ("exists", [], True),
    ],
)
def test_operator_and_its_opposite(operator: str, operands: list[str], expected: bool) -> None:
    key = "gen_ai.request.model"
    assert verdict(rule(key, operator, *operands), SPAN) is expected
    assert verdict(rule(key, f"not_{operator}", *operands), SPAN) is not expected


@pytest.mark.parametrize("operator", OPERATORS)
def test_span_without_the_attribute_matches_negated_operators_only(operator: str) -> None:
    operands = [] if operator.endswith("exists") else [""]
    assert verdict(rule("absent", operator, *operands), SPAN) is operator.startswith("not_")


def test_empty_value_is_a_value() -> None:
    assert matches([rule("empty", "exists"), rule("empty", "equals", "")], SPAN)


def test_sources_are_separate() -> None:
    assert matches([rule("service.name", "exists", source="resource_attributes")], SPAN)
    assert not matches([rule("service.name", "exists")], SPAN)


def test_all_rules_must_match() -> None:
    good, bad = rule("gen_ai.request.model", "contains", "gpt"), rule("absent", "exists")
    assert matches([good, good], SPAN)
    assert not matches([good, bad], SPAN)
    assert matches([], SPAN)


@pytest.mark.parametrize("operator", OPERATORS)
def test_dropped_value_has_only_its_existence(operator: str) -> None:
    operands = [] if operator.endswith("exists") else ["x"]
    expected = {"exists": True, "not_exists": False}.get(operator)
    assert verdict(rule("gen_ai.input.messages", operator, *operands), SPAN) is expected


def test_undocumented_operator_is_undecided() -> None:
    assert verdict(rule("empty", "starts_with", ""), SPAN) is None
    assert verdict(rule("empty", "equals", "", source=""), SPAN) is None
    assert not matches([rule("empty", "starts_with", "")], SPAN)


def test_rules_of_the_models_match() -> None:
    declared = ModelRule(key="service.name", source="resource_attributes", value="shop")
    stored = SetupRule(**{**content(declared), "operator": None})
    assert matches([declared, stored], SPAN)


KEYS = st.sampled_from(["a", "b"])
VALUES = st.sampled_from(["", "x", "xy", "y"])
ATTRIBUTES = st.dictionaries(KEYS, st.none() | VALUES)
RULES = st.one_of(
    st.builds(
        Rule,
        KEYS,
        st.sampled_from(["span_attributes", "resource_attributes", "other"]),
        st.sampled_from([*OPERATORS, "starts_with"]),
        VALUES,
        st.lists(VALUES),
    )
)


@given(st.lists(st.builds(Span, ATTRIBUTES, ATTRIBUTES), max_size=20), st.lists(RULES, max_size=4))
def test_index_counts_as_single_spans_do(spans: list[Span], selector: list[Rule]) -> None:
    survey = SpanIndex(spans).survey(selector)
    verdicts = [[verdict(rule, span) for rule in selector] for span in spans]
    assert survey.spans == len(spans)
    assert survey.matched == sum(all(each) for each in verdicts)
    assert survey.undecided == sum(None in each and False not in each for each in verdicts)
    for number, found in enumerate(survey.rules):
        column = [each[number] for each in verdicts]
        assert (found.matched, found.undecided) == (column.count(True), column.count(None))
        alone = [
            each[number] is False and all(each[:number] + each[number + 1 :]) for each in verdicts
        ]
        assert found.excluded_alone == sum(alone)
    assert bool(survey.reasons) or survey.matched or not spans


def test_period_is_that_of_the_spans() -> None:
    assert SpanIndex([Span(time=5.0), Span(), Span(time=3.0)]).period == (3.0, 5.0)
    assert SpanIndex([Span()]).period is None
