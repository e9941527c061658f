"""Files of setups: valid ones, invalid ones and their messages: `files.py`, `_yaml.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings

from pulumi_traceloop import _yaml
from pulumi_traceloop.errors import TraceloopError
from pulumi_traceloop.files import FileError, FileProblem, load_setups
from tests.support.files import EXAMPLE, JUNK, PLAUSIBLE, SETUPS, accepted, load, wrong
from tests.support.world import World

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture(params=["CSafeLoader", "SafeLoader"])
def _each_parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML has its fast parser or not; their messages differ."""
    parser = getattr(yaml, request.param, None)
    if parser is None:
        pytest.skip("this PyYAML has no libyaml")
    monkeypatch.setattr(_yaml, "_Loader", _yaml._loader(parser))


def in_setup(lines: str) -> str:
    """Return a file with one setup, whose lines begin in line 3."""
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
class TestValidFiles:
    def test_example_file(self) -> None:
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

    def test_explicitly_empty_file(self) -> None:
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

    def test_empty_values_are_left_out(self) -> None:
        lines = f"{RULE}\nevaluators:\nevaluator_configs: [{{slug: a, scope: }}]\ntriggers: ~"
        assert set(load(in_setup(lines))["m"]) == {"selector", "evaluator_configs"}

    def test_triggers_may_be_numbers_and_booleans(self) -> None:
        text = in_setup(GOOD + "\ntriggers: [1, -2.5, true, null, a, {b: [false]}]")
        assert load(text)["m"]["triggers"] == [1, -2.5, True, None, "a", {"b": [False]}]

    def test_merge_keys(self) -> None:
        """The setup's keys override merged ones; the first merged mapping overrides the next."""
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

    def test_json_file(self) -> None:
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

    def test_byte_order_mark_and_windows_line_ends(self) -> None:
        text = in_setup(GOOD)
        expected = load(text)
        assert load(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()) == expected

    def test_comments_directives_and_markers(self) -> None:
        text = in_setup(GOOD)
        assert load(f"%YAML 1.2\n---\n# all of them\n{text}...\n") == load(text)

    def test_thousands_of_setups(self) -> None:
        one = "selector: [*rule]\n    evaluators: [faithfulness, perplexity]\n"
        text = "x-r: &rule {key: a, source: span_attributes, operator: exists}\nsetups:\n"
        text += "".join(f"  m-{n}:\n    {one}" for n in range(2000))
        assert len(load(text)) == 2000


@pytest.mark.usefixtures("_each_parser")
class TestInvalidFiles:
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
    def test_value_that_is_not_a_string_must_be_quoted(self, value: str, meant: str) -> None:
        reason = f'YAML reads `{value}` as {meant}; put it in quotes, "{value}"'
        assert wrong(with_value(value)) == [(6, 'setups["m"].selector[0].value', reason)]
        assert load(with_value(f'"{value}"'))["m"]["selector"][0]["value"] == value

    @pytest.mark.parametrize("value", ["on", "1.10", "012", "1e3", "2024-01-01", ".nan", "True"])
    def test_trigger_that_json_writes_differently_must_be_quoted(self, value: str) -> None:
        (problem,) = wrong(in_setup(f"{GOOD}\ntriggers:\n  - a\n  - {value}"))
        assert problem[:2] == (7, 'setups["m"].triggers[1]')
        assert problem.reason.endswith(f'put it in quotes, "{value}"')

    @pytest.mark.parametrize(
        ("key", "meant"), [("1", "a number"), ("on", "a boolean"), ("~", "null")]
    )
    def test_external_id_that_is_not_a_string_must_be_quoted(self, key: str, meant: str) -> None:
        (problem,) = wrong(in_setup(GOOD).replace("m:", f"{key}:"))
        reason = f'YAML reads the key `{key}` as {meant}; put it in quotes, "{key}"'
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
    def test_invalid_setup(self, lines: str, line: int, path: str, reason: str) -> None:
        (problem,) = wrong(in_setup(lines))
        assert problem[:2] == (line, f'setups["m"]{path}')
        assert reason in problem.reason

    def test_all_problems_are_reported_at_once(self) -> None:
        """Also problems that the models find only after others are solved."""
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

    def test_message_names_file_line_setup_and_property(self) -> None:
        with pytest.raises(TraceloopError) as caught:
            load(with_value("on"), "team.yaml")
        assert str(caught.value) == (
            'team.yaml:6: setups["m"].selector[0].value: YAML reads `on` as a boolean; put it in'
            ' quotes, "on"'
        )
        with pytest.raises(FileError) as caught:
            load("setups:\n  a:\n  b: 1\n", "team.yaml")
        assert str(caught.value) == (
            "3 problems in team.yaml:\n"
            '  team.yaml:2: setups["a"]: must be a mapping\n'
            '  team.yaml:3: setups["b"]: YAML reads `1` as a number; put it in quotes, "1"\n'
            '  team.yaml:3: setups["b"]: must be a mapping'
        )

    def test_long_message_is_truncated_and_the_attribute_is_complete(self) -> None:
        with pytest.raises(FileError) as caught:
            load("setups:\n" + "".join(f"  m{n}: []\n" for n in range(80)))
        assert len(caught.value.problems) == 80
        lines = str(caught.value).splitlines()
        assert (len(lines), lines[-1]) == (52, "  and 30 more")

    def test_problem_behind_aliases_is_reported_once(self) -> None:
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
    def test_duplicate_key(self, text: str, line: int, path: str, key: str, first: int) -> None:
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
            # Enough to crash a parser that recurses in C.
            ("[" * 1_000_000, 1, "is nested more than 100 levels deep"),
            ("- " * 1_000_000, 1, "is nested more than 100 levels deep"),
        ],
    )
    def test_invalid_file(self, text: str | bytes, line: int | None, reason: str) -> None:
        assert [p for p in wrong(text) if p.line == line and reason in p.reason]

    @pytest.mark.parametrize("char", ["\x85", "\u2028", "\u2029"])
    def test_yaml_line_breaks_in_strings(self, char: str) -> None:
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

    def test_lone_surrogate(self) -> None:
        for text in (with_value('"\\ud83d"'), with_value("x").replace("m:", '"\\udc00":')):
            assert wrong(text)

    def test_alias_bomb_is_rejected_before_it_expands(self) -> None:
        text = "x-0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n"
        for n in range(1, 40):
            text += f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n"
        (problem,) = wrong(text + "setups: {}\n")
        assert problem.line == 7
        assert problem.reason.startswith("has more than 1,000,000 values with its aliases expanded")

    def test_long_chain_of_aliases_is_rejected(self) -> None:
        text = "x-0: &a0 {a: b}\n"
        text += "".join(f"x-{n}: &a{n} {{<<: *a{n - 1}}}\n" for n in range(1, 5000))
        (problem,) = wrong(text + "setups: {}\n")
        assert "is nested more than 100 levels deep" in problem.reason

    def test_huge_file_is_not_read(self) -> None:
        with Path("m.yaml").open("wb") as file:
            file.truncate(11 * 1024 * 1024)
        with pytest.raises(FileError, match="is longer than 10 MiB"):
            load_setups("m.yaml")

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileError) as caught:
            load_setups("no.yaml")
        assert str(caught.value) == (
            f"no.yaml: does not exist in {tmp_path}; a relative path begins at the working"
            " directory, which under `pulumi up` is the project's folder"
        )

    def test_unreadable_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileError, match="cannot be read: Is a directory"):
            load_setups(tmp_path)

    def test_terminal_control_sequences_are_not_printed(self) -> None:
        with pytest.raises(FileError) as caught:
            load('setups: {"\\e[2J": 1, "\\e[3J": {"\\e[4J": []}}')
        assert "\x1b" not in str(caught.value)


@settings(deadline=None)
@given(setup=SETUPS | PLAUSIBLE | JUNK)
def test_loader_accepts_what_validation_accepts(setup: Any) -> None:
    """Every rejected JSON setup has a problem with path and reason."""
    name = "generated.json"
    Path(name).write_text(json.dumps({"setups": {"m": setup}}))
    problems: list[FileProblem] = []
    try:
        loaded = load_setups(name)
    except FileError as error:
        problems = error.problems
    assert bool(problems) is not accepted(setup)
    assert all(p.line and p.path.startswith('setups["m"]') and p.reason for p in problems)
    if not problems:
        assert loaded["m"] == {k: v for k, v in setup.items() if v is not None}


class TestInAProgram:
    def test_file_becomes_a_group(self, world: World) -> None:
        (world.stack.project_dir / "monitors.yaml").write_text(EXAMPLE.read_text())
        program = 'AutoMonitorSetupGroup.from_file("monitors.yaml")'
        world.up(program)
        assert set(world.traceloop.setups) == set(load_setups(EXAMPLE))
        assert set(world.up().changes) == {"same"}

    def test_invalid_file_ends_the_preview(self, world: World) -> None:
        (world.stack.project_dir / "monitors.yaml").write_text(with_value("on"))
        program = 'AutoMonitorSetupGroup.from_file("monitors.yaml")'
        failed = world.preview(program, fails=True)
        assert 'monitors.yaml:6: setups["m"].selector[0].value: YAML reads `on`' in failed.output
        assert "Traceback" not in failed.output
