"""Setups in a file: what is read, what is refused and how that is told, and the editors' schema."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pulumi_traceloop import _naming, _validation, _yaml
from pulumi_traceloop.errors import TraceloopError
from pulumi_traceloop.evaluators import DOCUMENTED, incompatibility
from pulumi_traceloop.files import SCHEMA, FileError, FileProblem, load_setups
from pulumi_traceloop.spans.attributes import doubts, renames
from tests.conftest import REPOSITORY, World

EXAMPLE = REPOSITORY / "examples" / "monitors.yaml"


@pytest.fixture(params=["CSafeLoader", "SafeLoader"])
def _each_parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML is built with its fast parser or without; they differ in their messages."""
    parser = getattr(yaml, request.param, None)
    if parser is None:
        pytest.skip("this PyYAML has no libyaml")
    monkeypatch.setattr(_yaml, "_Loader", _yaml._loader(parser))


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str | bytes, name: str = "m.yaml") -> dict[str, dict[str, Any]]:
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_setups(name)


def wrong(text: str | bytes, name: str = "m.yaml") -> list[FileProblem]:
    with pytest.raises(FileError) as caught:
        load(text, name)
    return caught.value.problems


def in_setup(lines: str) -> str:
    """Return a file with one setup, whose own lines begin in line 3."""
    return "setups:\n  m:\n" + "".join(f"    {line}\n" for line in lines.strip().split("\n"))


RULE = "selector: [{key: a, source: span_attributes, operator: exists}]"
GOOD = f"{RULE}\nevaluators: [faithfulness]"


def with_value(value: str) -> str:
    return in_setup(f"""
selector:
  - key: a
    source: span_attributes
    value: {value}
evaluators: [faithfulness]""")


@pytest.mark.usefixtures("_each_parser")
class TestGoodFiles:
    def test_the_example(self) -> None:
        setups = load_setups(EXAMPLE)
        assert list(setups) == [
            "assistant-quality",
            "assistant-conversations",
            "pii-everywhere",
            "search-answers",
        ]
        assert setups["assistant-conversations"] == {
            "selector": [
                {
                    "key": "service.name",
                    "source": "resource_attributes",
                    "value": "shopping-assistant",
                },
                {
                    "key": "deployment.environment.name",
                    "source": "resource_attributes",
                    "value": "production",
                },
            ],
            "evaluator_configs": [
                {"slug": "conversation-quality", "scope": "session"},
                {"slug": "tone-detection", "scope": "trace"},
            ],
        }

    def test_no_setups_said_so(self) -> None:
        assert load("setups: {}") == {}
        assert load('{"$schema": "s.json", "setups": {}}', "m.json") == {}

    @pytest.mark.parametrize(
        ("written", "value"),
        [
            ("openai", "openai"),
            ("'on'", "on"),
            ('"1"', "1"),
            ("!!str 1.10", "1.10"),
            ("gpt-4.1", "gpt-4.1"),
            ("1.2.3", "1.2.3"),
            ("On the way", "On the way"),
            ("'null'", "null"),
            ("|-\n          a\n          b", "a\nb"),
            ('"\\u00e9\\U0001F600"', "é😀"),
            ('"<<"', "<<"),
        ],
    )
    def test_strings_are_kept_as_written(self, written: str, value: str) -> None:
        assert load(with_value(written))["m"]["selector"][0]["value"] == value

    def test_what_is_empty_is_left_out(self) -> None:
        lines = f"{RULE}\nevaluators:\nevaluator_configs: [{{slug: a, scope: }}]\ntriggers: ~"
        assert set(load(in_setup(lines))["m"]) == {"selector", "evaluator_configs"}

    def test_triggers_may_be_numbers_and_booleans(self) -> None:
        text = in_setup(GOOD + "\ntriggers: [1, -2.5, true, null, a, {b: [false]}]")
        assert load(text)["m"]["triggers"] == [1, -2.5, True, None, "a", {"b": [False]}]

    def test_merge_keys(self) -> None:
        """The setup's own keys win, then the first mapping that is merged, and so on."""
        setups = load("""
x-one: &one {evaluators: [one], triggers: [one]}
x-two: &two
  evaluators: [two]
  selector: [{key: two, source: span_attributes, operator: exists}]
setups:
  a: {<<: [*one, *two], triggers: [own]}
  b: &b {<<: *two}
  c: {<<: *b}
""")
        selector = [{"key": "two", "source": "span_attributes", "operator": "exists"}]
        assert setups == {
            "a": {"selector": selector, "evaluators": ["one"], "triggers": ["own"]},
            "b": {"selector": selector, "evaluators": ["two"]},
            "c": {"selector": selector, "evaluators": ["two"]},
        }

    def test_json_as_tools_write_it(self) -> None:
        """With tabs, escapes beyond the first 65,536 characters, and everything on one line."""
        value = '😀 \\ud83d " / \\\U0001f680\U0001f680'
        rule = {"key": "a", "source": "span_attributes", "value": value}
        setups = {
            "é\t\u2028|": {"selector": [rule], "evaluators": ["x"], "triggers": [1, 1.5, None]}
        }
        for indent in (None, 2, "\t"):
            for ascii_only in (True, False):
                text = json.dumps({"setups": setups}, indent=indent, ensure_ascii=ascii_only)
                assert load(text, "M.JSON") == setups
        text = json.dumps({"setups": setups}, separators=(",", ":")).replace("/", "\\/")
        assert load(text, "m.json") == setups

    def test_a_byte_order_mark_and_windows_lines(self) -> None:
        text = in_setup(GOOD)
        expected = load(text)
        assert load(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()) == expected

    def test_comments_directives_and_markers(self) -> None:
        text = in_setup(GOOD)
        assert load(f"%YAML 1.2\n---\n# all of them\n{text}...\n") == load(text)

    def test_thousands(self) -> None:
        one = "selector: [*rule]\n    evaluators: [faithfulness, perplexity]\n"
        text = "x-r: &rule {key: a, source: span_attributes, operator: exists}\nsetups:\n"
        text += "".join(f"  m-{n}:\n    {one}" for n in range(2000))
        assert len(load(text)) == 2000


@pytest.mark.usefixtures("_each_parser")
class TestBadFiles:
    @pytest.mark.parametrize(
        ("value", "meant"),
        [
            *[(value, "a boolean") for value in ("on", "yes", "No", "TRUE", "false", "y", "N")],
            *[
                (value, "a number")
                for value in ("1", "1.10", "-3", "012", "0x1f", "1_000", "12:30")
            ],
            *[(value, "a number") for value in (".nan", "-.inf", "0o17", "1e3", "6.", ".5")],
            *[
                (value, "a date")
                for value in ("2024-01-01", "2024-01-01 10:00:00", "2024-1-1T1:00:00Z")
            ],
            ("=", "something else"),
        ],
    )
    def test_a_value_that_is_no_string_has_to_be_quoted(self, value: str, meant: str) -> None:
        reason = f'YAML reads {value} as {meant}; put it in quotes, "{value}"'
        assert wrong(with_value(value)) == [(6, 'setups["m"].selector[0].value', reason)]
        assert load(with_value(f'"{value}"'))["m"]["selector"][0]["value"] == value

    @pytest.mark.parametrize("value", ["on", "1.10", "012", "1e3", "2024-01-01", ".nan", "True"])
    def test_a_trigger_that_json_does_not_spell_so_has_to_be_quoted(self, value: str) -> None:
        (problem,) = wrong(in_setup(f"{GOOD}\ntriggers:\n  - a\n  - {value}"))
        assert problem[:2] == (7, 'setups["m"].triggers[1]')
        assert problem.reason.endswith(f'put it in quotes, "{value}"')

    @pytest.mark.parametrize(
        ("key", "meant"), [("1", "a number"), ("on", "a boolean"), ("~", "null")]
    )
    def test_an_external_id_that_is_no_string_has_to_be_quoted(self, key: str, meant: str) -> None:
        (problem,) = wrong(in_setup(GOOD).replace("m:", f"{key}:"))
        reason = f'YAML reads the key {key} as {meant}; put it in quotes, "{key}"'
        assert problem == (2, "setups", reason)

    @pytest.mark.parametrize(
        ("lines", "line", "path", "reason"),
        [
            (RULE, 2, ".evaluators", "give either evaluators or evaluator_configs"),
            (f"{RULE}\nevaluators: []", 4, ".evaluators", "needs at least one evaluator"),
            ("evaluators: [a]", 2, ".selector", "is missing"),
            (
                f"{GOOD}\nselectr: []",
                5,
                ".selectr",
                'not a known property; did you mean "selector"?',
            ),
            (f"{GOOD}\ncolour: []", 5, ".colour", "not a known property; known are selector, eval"),
            (f"{RULE}\nevaluators:\n  - a\n  - a", 6, ".evaluators[1]", '"a" is listed twice'),
            (f"{RULE}\nevaluators:\n  - a\n  - ' '", 6, ".evaluators[1]", "must not be empty"),
            (f"{RULE}\nevaluators:\n  - a\n  -", 6, ".evaluators[1]", "must be a string"),
            (f"{RULE}\nevaluators: a", 4, ".evaluators", "must be a list"),
            (
                f"{RULE}\nevaluators:\n  - a\n  - null",
                6,
                ".evaluators[1]",
                'must be a string; if a string is meant, put it in quotes, "null"',
            ),
            (
                f"{RULE}\nevaluator_configs:\n- slug: a\n  scope: spans",
                6,
                ".evaluator_configs[0].scope",
                "must be one of 'session', 'trace' or 'span', not \"spans\"",
            ),
            (f"{GOOD}\ntriggers: 2026", 5, ".triggers", "must be a list"),
            ("- a", 2, "", "must be a mapping"),
        ],
    )
    def test_a_bad_setup(self, lines: str, line: int, path: str, reason: str) -> None:
        (problem,) = wrong(in_setup(lines))
        assert problem[:2] == (line, f'setups["m"]{path}')
        assert reason in problem.reason

    def test_everything_wrong_is_told_at_once(self) -> None:
        """Also what the models see only once the rest is right."""
        found = wrong("""\
colour: red
setups:
  a:
    selector:
      - {key: k, source: spans, value: on}
      - {source: span_attributes, operator: in, value: x}
      - {key: k, source: span_attributes, operator: exists, valeu: x}
    evaluators: [a, a, b, b]
  b:
    selector: []
    evaluators: []
    evaluator_configs: []
  "..":
    selector: [{key: k, source: span_attributes, operator: like, value: [x]}]
    evaluators: [" "]
""")
        a, b, dots = ('setups["a"]', 'setups["b"]', 'setups[".."]')
        assert sorted((problem.line, problem.path) for problem in found) == [
            (1, "colour"),
            (5, f"{a}.selector[0].source"),
            (5, f"{a}.selector[0].value"),
            (6, f"{a}.selector[1].key"),
            (6, f"{a}.selector[1].value"),
            (7, f"{a}.selector[2].valeu"),
            (8, f"{a}.evaluators[1]"),
            (8, f"{a}.evaluators[3]"),
            (10, f"{b}.selector"),
            (11, f"{b}.evaluators"),
            (13, dots),
            (14, f"{dots}.selector[0].operator"),
            (14, f"{dots}.selector[0].value"),
            (15, f"{dots}.evaluators[0]"),
        ]
        assert [problem.line for problem in found] == sorted(p.line or 0 for p in found)

    def test_the_message_names_file_line_setup_and_property(self) -> None:
        with pytest.raises(TraceloopError) as caught:
            load(with_value("on"), "team.yaml")
        assert str(caught.value) == (
            'team.yaml:6: setups["m"].selector[0].value: YAML reads on as a boolean; put it in'
            ' quotes, "on"'
        )
        with pytest.raises(FileError) as caught:
            load("setups:\n  a:\n  b: 1\n", "team.yaml")
        assert str(caught.value) == (
            "3 problems in team.yaml:\n"
            '  team.yaml:2: setups["a"]: must be a mapping\n'
            '  team.yaml:3: setups["b"]: YAML reads 1 as a number; put it in quotes, "1"\n'
            '  team.yaml:3: setups["b"]: must be a mapping'
        )

    def test_a_long_message_is_cut_and_the_attribute_is_not(self) -> None:
        with pytest.raises(FileError) as caught:
            load("setups:\n" + "".join(f"  m{n}: []\n" for n in range(80)))
        assert len(caught.value.problems) == 80
        lines = str(caught.value).splitlines()
        assert (len(lines), lines[-1]) == (52, "  and 30 more")

    def test_what_an_alias_repeats_is_told_once(self) -> None:
        text = "x-s: &s\n  selector: []\n  evaluators: [on]\nsetups: {a: *s, b: *s, c: {<<: *s}}\n"
        found = [(problem.line, problem.path) for problem in wrong(text)]
        assert found == [(2, 'setups["a"].selector'), (3, 'setups["a"].evaluators[0]')]

    @pytest.mark.parametrize(
        ("text", "line", "path", "key", "first"),
        [
            ("setups: {}\nsetups: {}\n", 2, "", "setups", 1),
            ("setups:\n  a: 'x'\n  b: 'x'\n  'a': 'x'\n", 4, "setups", "a", 2),
            (in_setup(f"{GOOD}\nevaluators: [x]"), 5, 'setups["m"]', "evaluators", 4),
            (
                in_setup(f"{GOOD}\ntriggers:\n  - x: 'a'\n    x: 'b'"),
                7,
                'setups["m"].triggers[0]',
                "x",
                6,
            ),
            ("x-a:\n  b: 1\n  b: 2\nsetups: {}\n", 3, "x-a", "b", 2),
        ],
    )
    def test_a_duplicate_key(self, text: str, line: int, path: str, key: str, first: int) -> None:
        problem = next(p for p in wrong(text) if "duplicate" in p.reason)
        assert problem == (line, path, f'duplicate key "{key}" (first on line {first})')

    def test_two_merge_keys(self) -> None:
        found = wrong("x-a: &a {}\nsetups:\n  <<: *a\n  <<: *a\n")
        assert [(p.line, p.reason[-35:]) for p in found] == [
            (4, "merge both with `<<: [*one, *other]`"[-35:])
        ]

    @pytest.mark.parametrize("merged", ["x", "[x]", "[*a, x]", "{{ y }}"])
    def test_only_mappings_are_merged(self, merged: str) -> None:
        found = wrong(f"x-a: &a {{}}\nsetups:\n  <<: {merged}\n")
        assert found[0].line == 3

    @pytest.mark.parametrize(
        ("text", "line", "reason"),
        [
            ("", None, "is empty; to declare no monitors, write `setups: {}`"),
            ("# nothing\n---\n", None, "is empty;"),
            ("~", 1, "must be a mapping with the key `setups`"),
            ("- a", 1, "must be a mapping with the key `setups`"),
            ("setups", 1, "must be a mapping with the key `setups`"),
            ("{}", 1, "has no `setups`; to declare none, write `setups: {}`"),
            ("x-a: 1", 1, "has no `setups`"),
            ("setups:\n  # a: b\n", 1, "is empty; to declare none, write `setups: {}`"),
            ("setups: [a]", 1, "must map each external_id to its setup"),
            ("setups: {}\nsetup: {}", 2, 'is not a known key; did you mean "setups"?'),
            ("setups: {}\nshared: {}", 2, "setups belong under `setups`, shared parts under `x-"),
            ("setups: {}\n$schema: {}", 2, "must be a string: the schema's path or URL"),
            ("setups: {}\n$schema: 1", 2, 'put it in quotes, "1"'),
            ("setups: {}\n---\nsetups: {}", 2, "begins a second document"),
            ("setups:\n\tm: x", 2, "begins with a tab; YAML is indented with spaces"),
            ("setups: @x", 1, 'a value cannot begin with @; put it in quotes, "@..."'),
            ("setups: `x`", 1, "a value cannot begin with `"),
            ("setups: a: b", 1, 'unexpected ":"'),
            ("setups:\n  m: 'x\n\n", 4, "that begins in line 2"),
            ("setups: {a: [b}", 1, "is not valid YAML"),
            ("setups: {}\n  a", 2, "is not valid YAML"),
            ("setups: *s", 1, "the alias *s needs an anchor &s before it"),
            ("setups: &s {a: *s}", 1, "the alias *s is inside its own anchor"),
            ("setups: {a: &s {}, b: &s {}}", 1, "found duplicate anchor"),
            ("setups: {? [a] : b}", 1, "a key cannot be a list or mapping"),
            ("setups: {{ all }}", 1, "quote a string that begins with [ or {"),
            (
                "setups: !!python/object/apply:os.abort []",
                1,
                "!!python/object/apply:os.abort is not",
            ),
            ("setups: !include x.yaml", 1, "the tag !include is not allowed here; remove it"),
            ("setups: {a: !!int '1'}", 1, "the tag !!int is not allowed here; remove it"),
            ("setups: !!set {a}", 1, "the tag !!set is not allowed here; remove it"),
            (b"setups: {}\n# caf\xe9", 2, "is not UTF-8 text; save the file as UTF-8"),
            ("setups: {}\n\x1b[2J", 2, "the character U+001B is not allowed"),
            ("setups: " + "[" * 200 + "]" * 200, 1, "is nested more than 100 levels deep"),
            # So many that a parser which recurses in C crashes.
            ("[" * 1_000_000, 1, "is nested more than 100 levels deep"),
            ("- " * 1_000_000, 1, "is nested more than 100 levels deep"),
        ],
    )
    def test_a_bad_file(self, text: str | bytes, line: int | None, reason: str) -> None:
        assert [p for p in wrong(text) if p.line == line and reason in p.reason]

    @pytest.mark.parametrize("char", ["\x85", "\u2028", "\u2029"])
    def test_what_yaml_takes_for_a_line_break(self, char: str) -> None:
        """YAML would make it a blank, JSON keeps it; as an escape both keep it."""
        code = f"{ord(char):04X}"
        (problem,) = wrong(with_value(f'"a{char}b"'))
        assert problem[:2] == (6, "")
        assert problem.reason == (
            f"the character U+{code} is a line break in YAML and would become a blank; remove it,"
            f" or write it as \\u{code.lower()} in double quotes"
        )
        assert wrong(f"# a{char}setups: {{}}\nsetups: {{}}")[0].line == 1
        rule = {"key": "a", "source": "span_attributes", "value": f"a{char}b"}
        setups = {f"m{char}n": {"selector": [rule], "evaluators": ["x"]}}
        for ascii_only in (True, False):
            text = json.dumps({"setups": setups}, ensure_ascii=ascii_only)
            assert load(text, "m.json") == setups
        escaped = f'"a\\u{code.lower()}b"'
        assert load(with_value(escaped))["m"]["selector"][0]["value"] == f"a{char}b"

    def test_half_of_a_character(self) -> None:
        for text in (with_value('"\\ud83d"'), with_value("x").replace("m:", '"\\udc00":')):
            assert wrong(text)

    def test_an_alias_bomb_is_refused_before_it_goes_off(self) -> None:
        text = "x-0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n"
        for n in range(1, 40):
            text += f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n"
        (problem,) = wrong(text + "setups: {}\n")
        assert problem.line == 7
        assert problem.reason.startswith("has more than 1,000,000 values with its aliases expanded")

    def test_a_long_chain_of_aliases_is_refused(self) -> None:
        text = "x-0: &a0 {a: b}\n"
        text += "".join(f"x-{n}: &a{n} {{<<: *a{n - 1}}}\n" for n in range(1, 5000))
        (problem,) = wrong(text + "setups: {}\n")
        assert "is nested more than 100 levels deep" in problem.reason

    def test_a_huge_file_is_not_read(self) -> None:
        with Path("m.yaml").open("wb") as file:
            file.truncate(11 * 1024 * 1024)
        with pytest.raises(FileError, match="is longer than 10 MiB"):
            load_setups("m.yaml")

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileError) as caught:
            load_setups("no.yaml")
        assert str(caught.value) == (
            f"no.yaml: does not exist in {tmp_path}; a relative path begins at the working"
            " directory, which under `pulumi up` is the project's folder"
        )

    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(FileError, match="cannot be read: Is a directory"):
            load_setups(tmp_path)

    def test_terminal_control_sequences_are_not_repeated(self) -> None:
        with pytest.raises(FileError) as caught:
            load('setups: {"\\e[2J": 1, "\\e[3J": {"\\e[4J": []}}')
        assert "\x1b" not in str(caught.value)


# The schema.

TEXTS = st.sampled_from(["", " ", "\t\u2003", "a", "b", "faithfulness", "é", "1"])
JUNK = st.sampled_from([None, True, 0, 1.5, "", "x", [], ["x"], [1], [None], {}, {"a": "b"}])
OPERATORS = st.sampled_from(typing.get_args(_validation.Operator))
RULES = st.fixed_dictionaries(
    {"key": st.just("a"), "source": st.sampled_from(typing.get_args(_validation.Source))},
    optional={
        "operator": OPERATORS,
        "value": TEXTS | st.none(),
        "values": st.lists(TEXTS, max_size=2) | st.none(),
    },
)
ANY_RULES = RULES | st.fixed_dictionaries(
    {},
    optional={
        "key": TEXTS | JUNK,
        "source": st.just("span_attributes") | JUNK,
        "operator": OPERATORS | JUNK,
        "value": TEXTS | JUNK,
        "values": st.lists(TEXTS | JUNK, max_size=2) | JUNK,
        "valeu": JUNK,
    },
)
SCOPES = st.sampled_from([None, *typing.get_args(_validation.Scope)])
CONFIGS = st.fixed_dictionaries({"slug": TEXTS}, optional={"scope": SCOPES})
ANY_CONFIGS = CONFIGS | st.fixed_dictionaries(
    {}, optional={"slug": TEXTS | JUNK, "scope": SCOPES | JUNK, "scop": JUNK}
)
GOOD_RULES = st.just({"key": "a", "source": "span_attributes", "operator": "exists"})
SETUPS = st.fixed_dictionaries(
    {},
    optional={
        "selector": st.lists(GOOD_RULES | RULES | ANY_RULES, max_size=2) | JUNK,
        "evaluators": st.lists(TEXTS | JUNK, max_size=3) | JUNK,
        "evaluator_configs": st.lists(ANY_CONFIGS | JUNK, max_size=3) | JUNK,
        "triggers": JUNK,
        "evaluatrs": JUNK,
    },
)
PLAUSIBLE = st.one_of(
    st.fixed_dictionaries(
        {"selector": st.lists(RULES, min_size=1, max_size=1), "evaluators": st.just(["a"])}
    ),
    st.fixed_dictionaries(
        {"selector": st.just([]) | st.lists(GOOD_RULES, min_size=1, max_size=1)},
        optional={
            "evaluators": st.none() | st.lists(TEXTS, max_size=2),
            "evaluator_configs": st.none() | st.lists(CONFIGS, max_size=2),
            "triggers": st.none() | st.lists(JUNK, max_size=2),
        },
    ),
)


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    return Draft202012Validator(json.loads(SCHEMA.read_text()))


def accepted(setup: object) -> bool:
    return not _validation.problems(setup)


class TestSchema:
    def test_is_a_schema(self, schema: Draft202012Validator) -> None:
        schema.check_schema(schema.schema)

    @settings(deadline=None)
    @given(setup=SETUPS | PLAUSIBLE | JUNK)
    def test_accepts_what_validation_accepts(
        self, schema: Draft202012Validator, setup: Any
    ) -> None:
        # The one difference: a schema cannot tell that no scope and an empty one are the same.
        configs = setup.get("evaluator_configs") if isinstance(setup, dict) else None
        for config in configs if isinstance(configs, list) else []:
            assume(not (isinstance(config, dict) and config.get("scope", "") is None))
        assert schema.is_valid({"setups": {"m": setup}}) is accepted(setup)

    @pytest.mark.parametrize(
        ("changes", "right"),
        [
            ({}, True),
            ({"evaluators": ["a", "b"]}, True),
            ({"evaluators": None, "evaluator_configs": [{"slug": "a"}]}, True),
            ({"evaluator_configs": None, "triggers": None}, True),
            ({"evaluator_configs": [{"slug": "a"}]}, False),
            ({"evaluators": None}, False),
            ({"evaluators": []}, False),
            ({"evaluators": ["a", "a"]}, False),
            ({"evaluators": None, "evaluator_configs": []}, False),
            ({"evaluators": None, "evaluator_configs": [{"slug": "a"}, {"slug": "a"}]}, False),
            ({"evaluators": None, "evaluator_configs": [{"slug": "a", "scope": "all"}]}, False),
            ({"selector": []}, False),
            ({"selector": [{"key": "a", "source": "span", "value": "b"}]}, False),
            ({"selector": [{"key": "a", "source": "span_attributes", "operator": "like"}]}, False),
            ({"triggers": {}}, False),
        ],
    )
    def test_agrees_at_the_edges(
        self, schema: Draft202012Validator, changes: dict[str, Any], right: bool
    ) -> None:
        rule = {"key": "a", "source": "span_attributes", "operator": "exists"}
        setup = {"selector": [rule], "evaluators": ["a"], **changes}
        assert accepted(setup) is right
        assert schema.is_valid({"setups": {"m": setup}}) is right

    def test_knows_the_words(self) -> None:
        definitions = json.loads(SCHEMA.read_text())["$defs"]
        rule = definitions["rule"]["properties"]
        scope = definitions["evaluatorConfig"]["properties"]["scope"]
        assert rule["operator"]["enum"] == list(typing.get_args(_validation.Operator))
        assert rule["source"]["enum"] == list(typing.get_args(_validation.Source))
        assert scope["enum"] == [*typing.get_args(_validation.Scope), None]

    @settings(deadline=None)
    @given(operator=OPERATORS | st.none(), fields=st.sets(st.sampled_from(["value", "values"])))
    def test_knows_which_operator_takes_what(
        self, schema: Draft202012Validator, operator: str | None, fields: set[str]
    ) -> None:
        rule: dict[str, Any] = {"key": "a", "source": "span_attributes"}
        rule |= {"operator": operator} if operator else {}
        rule |= {field: {"value": "a", "values": ["a"]}[field] for field in fields}
        setup = {"selector": [rule], "evaluators": ["a"]}
        assert schema.is_valid({"setups": {"m": setup}}) is accepted(setup)

    @pytest.mark.parametrize(
        "external_id",
        ["", " ", ".", "..", "...", "a", "a/b", "é", "a b", " a", "a\n", "a" * 2000, "a" * 2001],
    )
    def test_external_ids(self, schema: Draft202012Validator, external_id: str) -> None:
        setup = {
            "selector": [{"key": "a", "source": "span_attributes", "operator": "exists"}],
            "evaluators": ["a"],
        }
        right = _naming.external_id_problem(external_id) is None
        assert schema.is_valid({"setups": {external_id: setup}}) is right

    @pytest.mark.parametrize(
        ("file", "right"),
        [
            ({"setups": {}}, True),
            ({"setups": {}, "$schema": "s.json", "x-a": 1}, True),
            ({"setups": {}, "shared": {}}, False),
            ({"setups": {}, "$schema": 1}, False),
            ({"setups": None}, False),
            ({"setups": []}, False),
            ({}, False),
            ([], False),
            (None, False),
        ],
    )
    def test_the_top_level_is_the_loaders(
        self, schema: Draft202012Validator, file: object, right: bool
    ) -> None:
        assert schema.is_valid(file) is right
        if right:
            load(json.dumps(file))
        else:
            wrong(json.dumps(file))

    def test_suggests_the_documented_evaluators_and_takes_others(self) -> None:
        suggested, others = json.loads(SCHEMA.read_text())["$defs"]["slug"]["anyOf"]
        assert set(suggested["enum"]) == set(DOCUMENTED)
        assert others["type"] == "string"

    def test_its_hints_about_evaluators_are_the_warnings(self) -> None:
        suggested, _ = json.loads(SCHEMA.read_text())["$defs"]["slug"]["anyOf"]
        hints = dict(zip(suggested["enum"], suggested["enumDescriptions"], strict=True))
        for slug, hint in hints.items():
            why = incompatibility(slug) or incompatibility(slug, self_hosted=True) or ""
            assert bool(hint) is bool(why)
            assert hint[1:-1] == why[1 : len(hint) - 1]

    def test_its_hints_about_attributes_are_the_warnings(self) -> None:
        key = json.loads(SCHEMA.read_text())["$defs"]["rule"]["properties"]["key"]
        spans, resources, *deprecated, _ = key["anyOf"]
        sources = ("span_attributes", "resource_attributes")
        for suggested, right, wrong in ((spans, *sources), (resources, *reversed(sources))):
            for name in suggested["enum"]:
                assert list(doubts(name, right)) == []
                assert len(list(doubts(name, wrong))) == 1
        assert {each["const"] for each in deprecated} >= {"gen_ai.system", "deployment.environment"}
        for each in deprecated:
            assert each["deprecated"] is True
            successors = renames(each["const"])
            assert each["deprecationMessage"] == f"today's SDKs write {' or '.join(successors)}"
            assert each["description"] == f"Deprecated; {each['deprecationMessage']}."

    @pytest.mark.skipif(
        not SCHEMA.is_relative_to(REPOSITORY), reason="the package is not in the repository"
    )
    def test_the_example_names_it_and_fits(self, schema: Draft202012Validator) -> None:
        text = EXAMPLE.read_text()
        named = text.splitlines()[0].partition("$schema=")[2]
        assert (EXAMPLE.parent / named).resolve() == SCHEMA.resolve()
        schema.validate(yaml.safe_load(text))


@settings(deadline=None)
@given(setup=SETUPS | PLAUSIBLE | JUNK)
def test_the_loader_accepts_what_validation_accepts(setup: Any) -> None:
    """And whatever it refuses it says where and why, for any setup that JSON can spell."""
    name = "generated.json"
    Path(name).write_text(json.dumps({"setups": {"m": setup}}))
    told: list[FileProblem] = []
    try:
        loaded = load_setups(name)
    except FileError as error:
        told = error.problems
    assert bool(told) is not accepted(setup)
    assert all(p.line and p.path.startswith('setups["m"]') and p.reason for p in told)
    if not told:
        assert loaded["m"] == {k: v for k, v in setup.items() if v is not None}


class TestInAProgram:
    def test_a_file_becomes_a_group(self, world: World) -> None:
        (world.stack.project_dir / "monitors.yaml").write_text(EXAMPLE.read_text())
        program = 'AutoMonitorSetupGroup.from_file("monitors.yaml")'
        world.up(program)
        assert set(world.traceloop.setups) == set(load_setups(EXAMPLE))
        assert set(world.up().changes) == {"same"}

    def test_what_is_wrong_ends_the_preview(self, world: World) -> None:
        (world.stack.project_dir / "monitors.yaml").write_text(with_value("on"))
        program = 'AutoMonitorSetupGroup.from_file("monitors.yaml")'
        failed = world.preview(program, fails=True)
        assert 'monitors.yaml:6: setups["m"].selector[0].value: YAML reads on' in failed.output
        assert "Traceback" not in failed.output
