"""Which setups may be declared, and messages about the others: `_validation.py`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pulumi_traceloop._codec import encoded
from pulumi_traceloop._validation import (
    group_problems,
    option_problems,
    problems,
    problems_in_json,
    suspicious_group_texts,
    suspicious_texts,
    suspicious_texts_warning,
)
from tests.support.setups import RULE, configs, rule, setup

OPERATORS = (
    "'equals', 'not_equals', 'contains', 'not_contains', 'in', 'not_in', 'exists' or 'not_exists'"
)
SCOPES = "'session', 'trace' or 'span'"
SOURCES = "'span_attributes' or 'resource_attributes'"
OUTPUT = """Calling __str__ on an Output[T] is not supported.

To get the value of an Output[T] as an Output[str] consider:
1. o.apply(lambda v: f"prefix{v}suffix")"""
OUTPUT_REASON = (
    "is the text of an Output, not its value: use the Output itself, or"
    ' pulumi.Output.format("...{0}", output) for a text around it'
)
NO_VALUE = (
    'must not be empty; use the operator "exists" for spans that have the attribute, "not_exists"'
    " for those that lack it"
)
NO_VALUES = "must not be empty; remove it"
A_LIST = (
    'must be a string, not a list; pass the strings one by one, such as is_in("a", "b") or'
    " is_in(*names)"
)


class Later:
    """A value that is not known yet."""


LATER = Later()


class TestInvalidSetups:
    @pytest.mark.parametrize(
        ("given", "path", "reason"),
        [
            (setup(selector=...), "selector", "is missing"),
            (setup(selector=[]), "selector", "needs at least one rule"),
            (setup(selector={"a": "b"}), "selector", "must be a list of rules"),
            (setup(selector=None), "selector", "must be a list of rules"),
            (
                setup(selector=["a"]),
                "selector[0]",
                "must be a mapping with key, source and operator",
            ),
            (setup(evaluators=...), "evaluators", "give either evaluators or evaluator_configs"),
            (setup(evaluators=None), "evaluators", "give either evaluators or evaluator_configs"),
            (
                setup(evaluator_configs=[{"slug": "a"}]),
                "evaluators",
                "give either evaluators or evaluator_configs, not both",
            ),
            (setup(evaluators=[]), "evaluators", "needs at least one evaluator"),
            (configs(), "evaluator_configs", "needs at least one evaluator"),
            (setup(evaluators="a"), "evaluators", 'must be a list, such as ["a"]'),
            (setup(evaluators={}), "evaluators", "must be a list"),
            (
                setup(evaluators=[{"slug": "a"}]),
                "evaluators[0]",
                "must be a slug; an evaluator with a scope goes to evaluator_configs",
            ),
            (setup(evaluators=[OUTPUT]), "evaluators[0]", OUTPUT_REASON),
            (setup(evaluators=..., evaluator_configs="a"), "evaluator_configs", "must be a list"),
            (setup(evaluators=["a", " "]), "evaluators[1]", "must not be empty"),
            (setup(evaluators=[7]), "evaluators[0]", 'must be a string, such as "7"'),
            (setup(evaluators=["a", "b", "a"]), "evaluators[2]", '"a" is listed twice'),
            (configs({"slug": ""}), "evaluator_configs[0].slug", "must not be empty"),
            (configs({"scope": "span"}), "evaluator_configs[0].slug", "is missing"),
            (
                configs("a"),
                "evaluator_configs[0]",
                'must be a mapping, such as {"slug": "a"}',
            ),
            (
                configs({"slug": "a", "scope": "spans"}),
                "evaluator_configs[0].scope",
                f'must be one of {SCOPES}, not "spans"; did you mean "span"?',
            ),
            (
                configs({"slug": "a", "scope": "span"}, {"slug": "a", "scope": "span"}),
                "evaluator_configs[1]",
                '"a" is listed twice',
            ),
            (
                configs({"slug": "a", "scop": "span"}),
                "evaluator_configs[0].scop",
                'is not a known property; did you mean "scope"?',
            ),
            (
                setup(evaluators=..., evaluatrs=[]),
                "evaluatrs",
                'is not a known property; did you mean "evaluators"?',
            ),
            (
                setup(selector=..., selectors=[]),
                "selectors",
                'is not a known property; did you mean "selector"?',
            ),
            (
                setup(colour=1),
                "colour",
                (
                    "is not a known property; known are selector, evaluators, evaluator_configs,"
                    " triggers"
                ),
            ),
            (
                setup(triggers=[{"a": [float("nan")]}]),
                "triggers[0].a[0]",
                "must be a finite number",
            ),
            (
                setup(triggers=[[b"x"]]),
                "triggers[0][0]",
                "is a bytes, which JSON does not have; use its text, str(...)",
            ),
            (setup(triggers="a"), "triggers", "must be a list"),
            ([], "", "must be a mapping"),
        ],
    )
    def test_is_reported_with_path_and_reason(self, given: object, path: str, reason: str) -> None:
        assert problems(given) == [(path, reason)]

    @pytest.mark.parametrize(
        ("given", "field", "reason"),
        [
            (rule(operator="near"), "operator", f'must be one of {OPERATORS}, not "near"'),
            (rule(operator=None), "operator", f"must be one of {OPERATORS}"),
            (
                rule(source="spans"),
                "source",
                f'must be one of {SOURCES}, not "spans"',
            ),
            (rule(source=...), "source", "is missing"),
            (rule(key=...), "key", "is missing"),
            (rule(key=" "), "key", "must not be empty"),
            (rule(value=...), "value", 'operator "equals" needs "value"'),
            (rule(operator="contains", value=None), "value", 'operator "contains" needs "value"'),
            (rule(operator="in", value=...), "values", 'operator "in" needs "values"'),
            (
                rule(operator="not_in", value=..., values=[]),
                "values",
                'operator "not_in" needs at least one value',
            ),
            (rule(operator="in"), "value", 'operator "in" takes "values" instead'),
            (rule(values=["a"]), "values", 'operator "equals" takes "value" instead'),
            (
                rule(operator="exists"),
                "value",
                'operator "exists" takes neither value nor values',
            ),
            (
                rule(operator="not_exists", value=..., values=["a"]),
                "values",
                'operator "not_exists" takes neither value nor values',
            ),
            (rule(value=5), "value", 'must be a string, such as "5"'),
            (rule(value=0.5), "value", 'must be a string, such as "0.5"'),
            (rule(value=True), "value", "must be a string"),
            (rule(value=["a"]), "value", A_LIST),
            (
                rule(operator="in", value=..., values=["a", 3]),
                "values[1]",
                'must be a string, such as "3"',
            ),
            (rule(operator="in", value=..., values="a"), "values", "must be a list"),
            (rule(op="in"), "op", 'is not a known property; did you mean "operator"?'),
            (rule(key=OUTPUT), "key", OUTPUT_REASON),
            (rule(value=f"x-{OUTPUT}"), "value", OUTPUT_REASON),
            (rule(value=""), "value", NO_VALUE),
            (rule(operator="in", value=..., values=["a", ""]), "values[1]", NO_VALUES),
            (rule(operator="in", value=..., values=[["a", "b"]]), "values[0]", A_LIST),
            (rule(value="a\ud800"), "value", "must be valid Unicode text"),
            (
                rule(value=..., valeu="x"),
                "valeu",
                'is not a known property; did you mean "value"?',
            ),
        ],
    )
    def test_in_a_rule_is_reported_with_its_index(
        self, given: dict[str, Any], field: str, reason: str
    ) -> None:
        assert problems(setup(selector=[RULE, given])) == [(f"selector[1].{field}", reason)]

    def test_all_problems_are_reported_at_once(self) -> None:
        given = setup(selector=[rule(value=1), rule(source="x")], evaluators=[""])
        assert [path for path, _ in problems(given)] == [
            "selector[0].value",
            "selector[1].source",
            "evaluators[0]",
        ]


class TestValidSetups:
    @pytest.mark.parametrize("operator", ["equals", "not_equals", "contains", "not_contains"])
    @pytest.mark.parametrize("value", ["openai", " ", "é"])
    def test_rule_with_a_value(self, operator: str, value: str) -> None:
        assert problems(setup(selector=[rule(operator=operator, value=value)])) == []

    @pytest.mark.parametrize("operator", ["in", "not_in"])
    def test_rule_with_values(self, operator: str) -> None:
        given = rule(operator=operator, value=..., values=["a", "b"])
        assert problems(setup(selector=[given])) == []

    @pytest.mark.parametrize("operator", ["exists", "not_exists"])
    def test_rule_without_a_value(self, operator: str) -> None:
        assert problems(setup(selector=[rule(operator=operator, value=...)])) == []

    def test_one_evaluator_in_two_scopes(self) -> None:
        given = configs({"slug": "a", "scope": "span"}, {"slug": "a", "scope": "trace"})
        assert problems(given) == []

    def test_triggers_accept_any_json(self) -> None:
        assert problems(setup(triggers=[1, True, 1.5, {"a": [None]}])) == []


class TestSuggestions:
    @pytest.mark.parametrize(
        ("given", "meant"),
        [
            ("eq", "equals"),
            ("Equals", "equals"),
            ("==", "equals"),
            ("!=", "not_equals"),
            ("not-equals", "not_equals"),
            ("not equal", "not_equals"),
            ("contain", "contains"),
            ("like", "contains"),
            ("is_in", "in"),
            ("not_int", "not_in"),
            ("exist", "exists"),
            ("~", None),
            ("", None),
        ],
    )
    def test_suggestion_for_an_operator(self, given: str, meant: str | None) -> None:
        ((path, reason),) = problems(setup(selector=[rule(operator=given)]))
        assert path == "selector[0].operator"
        hint = f'; did you mean "{meant}"?' if meant else ""
        assert reason == f'must be one of {OPERATORS}, not "{given}"{hint}'

    @pytest.mark.parametrize(
        ("given", "meant"), [("span", "span_attributes"), ("resource", "resource_attributes")]
    )
    def test_suggestion_for_a_source(self, given: str, meant: str) -> None:
        ((_, reason),) = problems(setup(selector=[rule(source=given)]))
        assert reason.endswith(f'not "{given}"; did you mean "{meant}"?')


class TestUnknownValues:
    @pytest.mark.parametrize(
        "given",
        [
            LATER,
            setup(selector=LATER),
            setup(selector=[LATER]),
            *(setup(selector=[rule(**{name: LATER})]) for name in ("key", "source", "value")),
            setup(selector=[rule(operator=LATER)]),
            setup(selector=[rule(operator=LATER, values=[LATER])]),
            setup(selector=[rule(operator="in", value=..., values=LATER)]),
            setup(selector=[rule(operator="in", value=..., values=["a", LATER])]),
            setup(evaluators=LATER),
            setup(evaluators=[LATER, "a"]),
            setup(evaluators=LATER, evaluator_configs=[{"slug": "a"}]),
            configs(LATER),
            configs({"slug": LATER}, {"slug": "a", "scope": LATER}),
            setup(triggers=LATER),
            setup(triggers=[{"a": LATER}]),
        ],
    )
    def test_unknown_value_is_not_checked(self, given: Any) -> None:
        assert problems(given, Later) == []
        assert problems(given) != []

    def test_known_values_beside_it_are_checked(self) -> None:
        given = setup(selector=[rule(operator=LATER, value=1, source="span")], evaluators=LATER)
        assert [path for path, _ in problems(given, Later)] == [
            "selector[0].source",
            "selector[0].value",
        ]


class TestInAGroup:
    def test_paths_begin_with_the_setup(self) -> None:
        found = group_problems('a"b ', setup(selector=[rule(source=...)]))
        assert found == [
            ('setups["a\\"b "]', "the external_id must not begin or end with a blank"),
            ('setups["a\\"b "].selector[0].source', "is missing"),
        ]

    @pytest.mark.parametrize("external_id", [1, None, ("a",)])
    def test_external_id_that_is_not_a_string(self, external_id: object) -> None:
        ((path, reason),) = group_problems(external_id, setup())
        assert path.startswith("setups[")
        assert reason == "the external_id must be a string"


def test_text_that_is_not_json_is_a_problem() -> None:
    assert problems_in_json(json.dumps(setup())) == []
    ((path, reason),) = problems_in_json("{")
    assert (path, reason[:18]) == ("", "is not valid JSON:")
    assert problems_in_json("[]") == [("", "must be a mapping")]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, []),
        ({"if_exists": None, "wait_timeout": None, "max_deletes": None}, []),
        ({"if_exists": "fail", "wait_timeout": 0.5, "max_deletes": "100%"}, []),
        ({"if_exists": LATER, "wait_timeout": LATER, "max_deletes": LATER}, []),
        ({"max_deletes": 10.0}, []),
        ({"if_exists": "keep"}, [("if_exists", "must be 'replace', 'adopt' or 'fail'")]),
        *(
            ({"wait_timeout": value}, [("wait_timeout", "must be a number of seconds above 0")])
            for value in (0, -1, "60", True, float("nan"))
        ),
        *(
            (
                {"max_deletes": value},
                [("max_deletes", 'must be a number, or a percentage such as "10%"')],
            )
            for value in (-1, "101%", "ten", 1.5)
        ),
    ],
)
def test_options_of_a_resource(options: dict[str, Any], found: list[tuple[str, str]]) -> None:
    assert option_problems(options, Later) == found


class TestOddTexts:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("${env}", "has a placeholder that nothing fills in: ${env}"),
            ("a-${", "has a placeholder that nothing fills in: ${"),
            ("a {{ env }} b", "has a placeholder that nothing fills in: {{ env }}"),
            ("\u201copenai\u201d", "has a curly quote: \u201c"),
            ("o\u2019neill", "has a curly quote: \u2019"),
            ("a\u200bb", "has an invisible character: U+200B"),
            ("\ufeffa", "has an invisible character: U+FEFF"),
            ("a\u200db", "has an invisible character: U+200D"),
            (" a", "begins or ends with a blank"),
            ("a\n", "begins or ends with a blank"),
            ("a\u00a0", "begins or ends with a blank"),
            (" ", "begins or ends with a blank"),
            # A family, a Persian word, JSON, a price.
            *(
                (t, None)
                for t in ("\U0001f468\u200d\U0001f469", "\u0645\u06cc\u200c\u062e", "{}", "$5")
            ),
        ],
    )
    def test_is_a_warning_in_any_property(self, text: str, reason: str | None) -> None:
        given = setup(
            selector=[
                rule(value=text),
                rule(key=text if text.strip() else "k "),
                rule(operator="in", value=..., values=["a", text]),
            ],
            evaluators=["a", text],
        )
        assert problems(setup(selector=[rule(value=text)])) == []
        for setup_of_one in (given, configs({"slug": text})):
            found = suspicious_group_texts("m", setup_of_one)
            assert suspicious_group_texts("m", setup_of_one, encoded(setup_of_one)) == found
        found = list(suspicious_texts(given)) + list(suspicious_texts(configs({"slug": text})))
        paths = ("selector[0].value", "selector[1].key", "selector[2].values[1]", "evaluators[1]")
        expected = [(path, reason) for path in (*paths, "evaluator_configs[0].slug") if reason]
        assert found == expected

    def test_in_an_external_id(self) -> None:
        assert suspicious_group_texts("a-{{b}}", setup()) == [
            (
                'setups["a-{{b}}"]',
                "the external_id has a placeholder that nothing fills in: {{b}}",
            )
        ]

    def test_triggers_have_no_warning(self) -> None:
        assert list(suspicious_texts(setup(triggers=["${x}", " "]))) == []

    def test_one_warning_names_the_first_ten(self) -> None:
        assert suspicious_texts_warning([]) is None
        given = setup(selector=[rule(value=f"{n} ") for n in range(12)])
        lines = (suspicious_texts_warning(list(suspicious_texts(given))) or "").splitlines()
        assert lines[0] == "rules match texts literally; check these:"
        assert lines[1] == "  selector[0].value begins or ends with a blank"
        assert (len(lines), lines[-1]) == (12, "  and 2 more")
