"""`pulumi-traceloop plan`: what a preview says, as the Markdown of a pull-request comment.

The samples in `data/` are what the real CLI wrote, without what only slows a reader down. Where the
CLI is on PATH they are compared with what it writes now; `UPDATE_SAMPLES=1` writes them anew.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pulumi_traceloop._codec import compressed
from pulumi_traceloop._describe import rule_text
from pulumi_traceloop.cli.app import cli
from pulumi_traceloop.cli.markdown import LIMIT, MARKER, code
from pulumi_traceloop.cli.preview import PreviewError, read
from pulumi_traceloop.emulator import Emulator
from tests.conftest import API_KEY, PREAMBLE, REPOSITORY
from tests.engine import find_cli, make_stack
from tests.engine.cli import CliStack

DATA = Path(__file__).parent / "data"
SECRET = "s3cret-value-0815"

NASTY = 'a|b`c\n@octocat <img src=x> **#1** \\| {"é"} \x1b[31m'

#: The programs that the samples are previews of; each after an `up` of what `BEFORE` has.
PROGRAMS = {
    "create": """
r = one("single")
one("kept", opts=pulumi.ResourceOptions(retain_on_delete=True))
one("old-name")
one("hidden", config.require_secret("word"))
group("g", {
    "same": setup(), "changed": setup(), "leaves": setup("x"), "moves": setup("y"),
    "secret": setup(config.require_secret("word")),
    "unknown": setup(r.setup_id.apply(lambda _: "an id")),
    "refused": setup("z", "no-such-evaluator"), NASTY: setup("x", "no-such-evaluator"),
})
""",
    "change": """
one("single", "azure", "faithfulness", "perplexity")
one("moves", "y")
one("new-name", external_id="old-name")
one("hidden", config.require_secret("word").apply(lambda word: word + "!"))
group("g", {
    "same": setup(), "changed": {
        "selector": [span("gen_ai.system").is_in("openai", "azure"), resource("env").exists()],
        "evaluator_configs": [{"slug": "faithfulness", "scope": "trace"}],
    },
    "secret": setup(config.require_secret("word")), "unknown": setup("known now"),
    "refused": setup("z", "faithfulness"), NASTY: setup("x", "perplexity"), "new": setup("n"),
})
""",
    "delete": "",
    "broken": """
one("single", "azure")
raise ValueError("this program is broken")
""",
    "again": """
one("single", "x", "perplexity", wait_for_setup=True)
one("edited", "y", "perplexity", wait_for_setup=True)
one("hidden", config.require_secret("word"), "perplexity", wait_for_setup=True)
group("waits", {
    "late": setup("x", "perplexity"), "late-edited": setup("y", "perplexity"), "well": setup(),
    "late-secret": setup(config.require_secret("word"), "perplexity"),
}, wait_for_setup=True)
group("tried", {"refused": setup("b", "no-such-evaluator"), "mended": setup("b")})
""",
}

#: What was there before each preview.
BEFORE = {
    "create": (),
    **dict.fromkeys(["change", "delete", "broken"], (PROGRAMS["create"],)),
    # Refused changes of setups that were in place, and setups that did not come up.
    "again": (
        'group("tried", {i: setup("a") for i in ("refused", "mended", "gone")})',
        PROGRAMS["again"].replace('"y"', '"x"').partition('group("tried"')[0]
        + """
ids = ("refused", "mended", "gone")
group("tried", {i: setup("b", "no-such-evaluator") for i in ids})
""",
    ),
}


def sample(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / f"preview-{name}.json").read_text("utf-8"))
    return found


def plan(*arguments: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["plan", *arguments], input=stdin)


def plan_of(preview: object, *arguments: str) -> str:
    result = plan(*arguments, stdin=json.dumps(preview))
    assert result.exit_code == 0, result.output
    return result.stdout


def rows(comment: str) -> dict[str, list[str]]:
    """Return the cells of each setup's row, as GitHub's readers see them."""
    found = {}
    for cells in _Tables(comment).rows:
        assert len(cells) == 4, cells
        found[cells[1].split("\n")[0]] = [cells[0], *cells[2:], "\n".join(cells[1].split("\n")[1:])]
    return found


def _inputs(step: dict[str, Any], side: str) -> dict[str, Any]:
    """Return the inputs of one of a step's states, to change them."""
    return step.get(side, {}).get("inputs", {})  # type: ignore[no-any-return]


class _Tables(HTMLParser):
    """The text of the cells of all tables in a piece of Markdown."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self._cell: list[str] | None = None
        self.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self._cell = []
        elif tag == "br" and self._cell is not None:
            self._cell.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == "td" and self._cell is not None:
            self.rows[-1].append("".join(self._cell))
            self._cell = None
        elif tag == "thead":
            self.rows.clear()

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)


class TestSamples:
    def test_creation(self) -> None:
        found = rows(plan_of(sample("create")))
        assert found["single"] == ["create", "", 'gen_ai.system = "openai"\nruns faithfulness', ""]
        assert found["secret"][2] == "gen_ai.system = [secret]\nruns faithfulness"
        assert found["unknown"][2] == "gen_ai.system = <unknown>\nruns faithfulness"
        assert found["hidden"][2] == "gen_ai.system = [secret]\nruns faithfulness"
        assert len(found) == 12

    def test_change(self) -> None:
        comment = plan_of(sample("change"))
        assert comment.startswith(f"{MARKER}\n### Monitor setups of `dev`\n")
        assert (
            "\n**1 to delete, 4 to change, 1 that may change, 3 to create, 2 to move,"
            " 1 to leave in place**, 1 unchanged\n" in comment
        )
        found = rows(comment)
        assert found["leaves"][:3] == ["delete", 'gen_ai.system = "x"\nruns faithfulness', ""]
        assert found["single"][:3] == [
            "change",
            'gen_ai.system = "openai"',
            'gen_ai.system = "azure"\nruns also perplexity',
        ]
        assert found["changed"][:3] == [
            "change",
            'gen_ai.system = "openai"\nruns faithfulness',
            'gen_ai.system in ("openai", "azure")\nenv exists\nruns faithfulness (trace)',
        ]
        assert found["unknown"][2] == 'gen_ai.system = "known now"'
        assert found["secret"][0] == "may change"
        assert found["kept"][0] == "leave in place"
        assert found["refused"][0] == "create"
        assert found["refused"][3].startswith("tried again; the last update failed: unknown eval")
        assert "same" not in found

    def test_a_secret_that_changes_is_a_change_and_stays_masked(self) -> None:
        found = rows(plan_of(sample("change")))
        assert found["hidden"][:3] == [
            "change",
            *["gen_ai.system = [secret]\nruns faithfulness"] * 2,
        ]

    def test_a_moved_setup_is_not_told_as_deleted(self) -> None:
        found = rows(plan_of(sample("change")))
        assert found["moves"][0] == "move"
        assert found["moves"][3].endswith(
            'moves from AutoMonitorSetupGroup "g" to AutoMonitorSetup "moves"'
        )
        assert found["old-name"][0] == "move"

    def test_deletion_of_all(self) -> None:
        found = rows(plan_of(sample("delete")))
        # What never came into being is not deleted either.
        assert {i: cells[0] for i, cells in found.items()} == {
            "single": "delete",
            "old-name": "delete",
            "hidden": "delete",
            "same": "delete",
            "changed": "delete",
            "leaves": "delete",
            "moves": "delete",
            "secret": "delete",
            "unknown": "delete",
            "kept": "leave in place",
        }

    def test_what_was_refused_is_not_told_as_what_was_there(self) -> None:
        """Traceloop still has what it accepted last, and the preview does not know that one."""
        found = rows(plan_of(sample("again")))
        tried = 'tried again; the last update failed: unknown evaluator slug "no-such-evaluator"'
        refused, mended = (
            f'gen_ai.system = "b"\nruns {slug}' for slug in ("no-such-evaluator", "faithfulness")
        )
        assert found["refused"] == ["change", "", refused, tried]
        assert found["mended"] == ["change", "", mended, tried]
        assert found["gone"] == ["delete", "", "", ""]

    def test_what_did_not_come_up_is_looked_at_again(self) -> None:
        comment = plan_of(sample("again"))
        summary = "1 to delete, 4 to change, 1 that may change, 3 to look at again"
        assert f"**{summary}**, 1 unchanged" in comment
        found = rows(comment)
        why = "Traceloop could not set it up (failed): perplexity: no model"
        for external_id in ("single", "late"):
            assert found[external_id] == [
                "look again",
                "",
                'gen_ai.system = "x"\nruns perplexity',
                f"is written but did not come up: nothing is sent\n{why}",
            ]

    def test_what_did_not_come_up_and_is_edited_is_a_change_like_any_other(self) -> None:
        found = rows(plan_of(sample("again")))
        for external_id in ("edited", "late-edited"):
            change = ["change", 'gen_ai.system = "x"', 'gen_ai.system = "y"', ""]
            assert found[external_id] == change

    def test_a_failed_preview_is_told_and_ends_with_1(self) -> None:
        result = plan(str(DATA / "preview-broken.json"))
        assert result.exit_code == 1
        assert "**The preview failed**" in result.stdout
        assert "`ValueError: this program is broken`" in result.stdout
        assert rows(result.stdout)["single"][0] == "change"

    def test_no_sample_holds_the_secret_or_a_path(self) -> None:
        for file in DATA.glob("preview-*.json"):
            text = file.read_text("utf-8")
            assert SECRET not in text
            assert API_KEY not in text
            assert "File " not in text
            assert "/tmp" not in text

    def test_json(self) -> None:
        (stack,) = json.loads(plan_of(sample("change"), "--json"))["stacks"]
        assert stack["stack"] == "dev"
        assert stack["counts"]["change"] == 4
        assert stack["unchanged"] == 1
        by_id = {change["external_id"]: change for change in stack["changes"]}
        assert by_id["changed"]["before"] == {
            "rules": ['gen_ai.system = "openai"'],
            "evaluators": ["faithfulness"],
        }
        assert by_id["leaves"]["after"] is None


class TestDiagnostics:
    def with_lines(self, name: str, *lines: str, severity: str = "info#out") -> dict[str, Any]:
        diagnostics = [{"message": f"{line}\n\n", "severity": severity} for line in lines]
        return {**sample(name), "diagnostics": diagnostics}

    def test_adoption_comes_from_the_providers_own_lines(self) -> None:
        found = rows(
            plan_of(
                self.with_lines(
                    "create",
                    "g: 5 to create",
                    "  = same   already there, unchanged",
                    "  ! changed    replaces a setup that this stack does not manage: a -> b",
                )
            )
        )
        assert found["same"][0] == "adopt"
        assert found["changed"][0] == "replace"
        assert found["changed"][3].endswith("\na -> b")
        assert found["leaves"][0] == "create"

    def test_a_line_about_another_setup_means_nothing(self) -> None:
        found = rows(plan_of(self.with_lines("create", "  = same-but-longer   already there")))
        assert {cells[0] for cells in found.values()} == {"create"}

    def test_the_provider_knows_whether_a_secret_changed(self) -> None:
        found = rows(plan_of(self.with_lines("change", "  ~ secret   [secret] -> [secret]")))
        assert found["secret"][0] == "change"

    def test_a_secret_that_the_plan_does_not_tell_is_unchanged(self) -> None:
        comment = plan_of(self.with_lines("change", "g: 1 to change", "  ~ changed   a -> b"))
        assert "2 unchanged" in comment
        assert "secret" not in rows(comment)

    def test_a_plan_that_is_cut_off_tells_nothing_about_secrets(self) -> None:
        found = rows(plan_of(self.with_lines("change", "g: 99 to change", "  ... and 39 more")))
        assert found["secret"][0] == "may change"

    @pytest.mark.parametrize(
        ("lines", "action"),
        [
            (
                ["waits: 1 to change, 2 to look at again", "  ? late-secret  is written"],
                "look again",
            ),
            (["waits: 2 to change", "  ~ late-secret  [secret] or <unknown> values"], "change"),
            (["waits: 99 to change", "  ... and 39 more"], "may change"),
            ([], "may change"),
        ],
    )
    def test_a_secret_that_did_not_come_up(self, lines: list[str], action: str) -> None:
        assert rows(plan_of(self.with_lines("again", *lines)))["late-secret"][0] == action

    def test_a_single_secret_that_did_not_come_up(self) -> None:
        """The provider tells a change of a single setup, however long the plan is."""
        assert rows(plan_of(sample("again")))["hidden"][0] == "look again"
        found = rows(plan_of(self.with_lines("again", "  ~ hidden  [secret] -> [secret]")))
        assert found["hidden"][0] == "change"

    def test_errors_are_cut_and_counted(self) -> None:
        preview = self.with_lines("create", *(f"error: {n}" for n in range(9)), severity="error")
        result = plan(stdin=json.dumps(preview))
        assert result.exit_code == 1
        assert "- `4`\n- and 4 more errors\n" in result.stdout

    def test_only_the_resources_own_warnings_are_told(self) -> None:
        urn = sample("create")["steps"][2]["urn"]
        preview = sample("create") | {
            "diagnostics": [
                {"message": "warning: did you mean?", "severity": "warning", "urn": urn},
                {"message": "warning: other", "severity": "warning"},
            ]
        }
        comment = plan_of(preview)
        assert "- warning: `did you mean?`" in comment
        assert "other" not in comment


class TestMarkdown:
    def test_a_nasty_external_id_breaks_nothing(self) -> None:
        found = rows(plan_of(sample("create")))
        (shown,) = [i for i in found if i.startswith("a|b")]
        assert shown == ('a|b`c\\n@octocat <img src=x> **#1** \\| {"é"} \\x1b[31m')

    @given(st.lists(st.text(max_size=30), min_size=1, max_size=5, unique=True))
    @settings(max_examples=150, deadline=None)
    def test_any_text_stays_in_its_cell(self, texts: list[str]) -> None:
        """Nothing in a name or value ends the cell, or becomes a tag, a link or emphasis."""
        table = "| | a |\n|---|---|\n" + "".join(f"| x | {code(text)} |\n" for text in texts)
        parsed = _Tables(table)
        assert [len(cells) for cells in parsed.rows] == [2] * len(texts)
        assert parsed.tags <= {"table", "thead", "tbody", "tr", "th", "td", "code"}
        for text, (_, shown) in zip(texts, parsed.rows, strict=True):
            visible = "".join(
                c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode()
                for c in text
            )
            assert shown.strip(" ") == visible.strip(" ")

    @pytest.mark.parametrize(
        ("rule", "text"),
        [
            ({"key": "m", "value": "gpt-4o"}, 'm = "gpt-4o"'),
            ({"key": "m", "operator": "not_equals", "value": 'a"b'}, 'm != "a\\"b"'),
            ({"key": "m", "operator": "contains", "value": "é"}, 'm contains "é"'),
            ({"key": "m", "operator": "not_contains", "value": "x"}, 'm does not contain "x"'),
            ({"key": "m", "operator": "in", "values": ["a", "b"]}, 'm in ("a", "b")'),
            ({"key": "m", "operator": "not_in", "values": ["a"]}, 'm not in ("a")'),
            ({"key": "m", "operator": "exists"}, "m exists"),
            ({"key": "m", "operator": "not_exists"}, "m does not exist"),
            ({"key": "m", "operator": "equals", "value": "[secret]"}, "m = [secret]"),
            ({"key": "m", "operator": "sounds_like", "value": "x"}, 'm sounds_like "x"'),
        ],
    )
    def test_rules_are_told_in_the_users_terms(self, rule: dict[str, Any], text: str) -> None:
        assert str(rule_text(rule)) == text
        # The provider's own plan lines say the same.
        assert plan_rule_text(rule) == text

    def test_the_source_is_told_where_it_tells_two_rules_apart(self) -> None:
        before = {"evaluators": ["e"], "selector": [rule_of("service.name", "span_attributes")]}
        after = {"evaluators": ["e"], "selector": [rule_of("service.name", "resource_attributes")]}
        found = rows(plan_of(preview_of({"m": before}, {"m": after})))
        assert found["m"][1:3] == ["service.name exists", "service.name (resource) exists"]

    def test_order_and_defaults_are_no_change(self) -> None:
        before = {
            "evaluators": ["a", "b"],
            "selector": [rule_of("k", operator="equals", value="v")],
        }
        after = {
            "evaluator_configs": [{"slug": "b"}, {"slug": "a"}],
            "selector": [{"key": "k", "source": "span_attributes", "value": "v"}],
        }
        comment = plan_of(preview_of({"m": before}, {"m": after}))
        assert "No monitor setup changes, 1 unchanged" in comment

    def test_an_unchanged_group_with_a_secret_is_unchanged(self) -> None:
        """With `--show-sames` its steps are there, and nobody needs to compare anything."""
        setup = {"evaluators": ["e"], "selector": [rule_of("k")]}
        preview = preview_of({"m": setup, "s": setup}, {"m": setup, "s": setup})
        for step in preview["steps"]:
            step["op"] = "same"
            for side in ("oldState", "newState"):
                step[side]["inputs"].get("setups", {})["s"] = "[secret]"
        assert "No monitor setup changes, 2 unchanged" in plan_of(preview)

    def test_setups_that_share_a_string_are_told_one_by_one(self) -> None:
        """As those of a group that has very many are."""
        preview = sample("change")
        for step in preview["steps"]:
            for inputs in (_inputs(step, side) for side in ("oldState", "newState")):
                setups = inputs.get("setups", {})
                alone = {i: s for i, s in setups.items() if not s.startswith("{")}
                rest = {i: json.loads(s) for i, s in setups.items() if i not in alone}
                inputs |= {"setups": alone, "packed_setups": {"00": json.dumps(rest)}}
            if outputs := step.get("oldState", {}).get("outputs"):
                outputs["setups"] = step["oldState"]["inputs"]["setups"]
                outputs["packed_setups"] = compressed(step["oldState"]["inputs"]["packed_setups"])
        assert rows(plan_of(preview)) == rows(plan_of(sample("change")))

    @pytest.mark.parametrize(
        "masked", ["[secret]", {"00": "[secret]"}, {"zlib": "[secret]"}, {"zlib": "abcd"}]
    )
    def test_what_the_cli_masked_as_a_whole_may_change(self, masked: object) -> None:
        preview = preview_of({}, {"m": {"evaluators": ["e"], "selector": [rule_of("k")]}})
        for step in preview["steps"]:
            _inputs(step, "newState")["packed_setups"] = masked
        (cells,) = rows(plan_of(preview)).values()
        assert cells[0] == "may change"

    def test_the_same_external_id_in_another_project_is_another_setup(self) -> None:
        state: dict[str, Any] = {
            "type": "pulumi-python:dynamic/traceloop:AutoMonitorSetup",
            "inputs": {"external_id": "m", "selector": [rule_of("k")], "evaluators": ["e"]},
        }
        moved = {**state, "inputs": {**state["inputs"], "config_namespace": "staging"}}
        steps = [
            {"op": "delete", "urn": "u", "oldState": state},
            {"op": "create", "urn": "u", "newState": moved},
        ]
        (stack,) = json.loads(plan_of({"steps": steps}, "--json"))["stacks"]
        assert stack["counts"] == {"delete": 1, "create": 1}

    def test_changed_triggers_are_told(self) -> None:
        old = {"evaluators": ["e"], "selector": [rule_of("k")], "triggers": ["1"]}
        found = rows(plan_of(preview_of({"m": old}, {"m": {**old, "triggers": ["2"]}})))
        assert found["m"][:3] == ["change", "", "other triggers: it is set up again"]

    def test_a_long_table_is_folded(self) -> None:
        setup = {"evaluators": ["e"], "selector": [rule_of("k")]}
        short = plan_of(preview_of({}, {f"m{n}": setup for n in range(20)}))
        long = plan_of(preview_of({}, {f"m{n}": setup for n in range(21)}))
        assert "<details>" not in short
        summary, table = long.split("<details><summary>21 setups</summary>\n\n")
        assert "**21 to create**" in summary
        assert table.endswith("\n\n</details>\n")
        assert len(rows(long)) == 21

    def test_the_comment_stays_below_githubs_limit_and_counts_what_is_left_out(self) -> None:
        setup = {"evaluators": ["e" * 500] * 30, "selector": [rule_of("😀|" * 300)] * 30}
        setups = {f"m{n:04}{'|' * n}": setup for n in range(1500)}
        previews = [preview_of(setups, {}), preview_of({}, setups), preview_of({}, {"z": setup})]
        result = plan("-", stdin=json.dumps(previews[1]))
        assert len(result.stdout.encode("utf-16-le")) / 2 <= LIMIT
        shown = len(rows(result.stdout))
        assert shown > 20
        assert f"**Left out, because this comment is full: {1500 - shown:,} to create.**" in (
            result.stdout
        )
        assert result.stdout.endswith("\n")

    def test_many_stacks_share_the_room(self, tmp_path: Path) -> None:
        setup = {"evaluators": ["e"], "selector": [rule_of("k" * 100)]}
        big = preview_of({}, {f"m{n}": setup for n in range(2000)})
        files = []
        for n in range(3):
            files.append(tmp_path / f"{n}.json")
            files[-1].write_text(json.dumps(big if n else preview_of({}, {"only": setup})))
        result = plan(*map(str, files), "--stack", "a", "--stack", "b|c", "--stack", "d")
        assert len(result.stdout) <= LIMIT
        sections = result.stdout.split("### Monitor setups of ")
        assert [len(rows(section)) > 0 for section in sections[1:]] == [True] * 3
        assert len(rows(sections[2])) == pytest.approx(len(rows(sections[3])), rel=0.1)

    def test_too_many_stacks_are_counted(self, tmp_path: Path) -> None:
        file = tmp_path / "p.json"
        file.write_text(json.dumps(preview_of({}, {})))
        result = plan(*[str(file)] * 400)
        assert len(result.stdout) <= LIMIT
        shown = result.stdout.count("### ")
        assert f"**{400 - shown} more stacks left out**" in result.stdout


def rule_of(key: str, source: str = "span_attributes", **rest: str) -> dict[str, str]:
    return {"key": key, "source": source, **({"operator": "exists"} | rest)}


def preview_of(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return the preview of a group whose setups were *old* and are *new*."""
    base = "urn:pulumi:dev::p::traceloop:index:AutoMonitorSetupGroup"
    types = "pulumi-python:dynamic/traceloop:AutoMonitorSetup"

    def state(kind: str, **inputs: Any) -> dict[str, Any]:
        return {"type": types + kind, "parent": f"{base}::g", "inputs": inputs}

    before, after = ({i: json.dumps(s) for i, s in setups.items()} for setups in (old, new))
    steps = [
        {
            "op": "update" if old else "create",
            "urn": f"{base}${types}Batch::g",
            "newState": state("Batch", setups=after, declared_by="g"),
        },
        {
            "op": "replace" if old else "create",
            "urn": f"{base}${types}Membership::g",
            "newState": state("Membership", external_ids=json.dumps(list(new))),
        },
    ]
    if old:
        steps[0]["oldState"] = state("Batch", setups=before, owned=json.dumps(list(old)), failed={})
        steps[1]["oldState"] = state("Membership", owned=json.dumps(list(old)))
    return {"steps": steps, "changeSummary": {"same": 1}}


class TestGroupThatGoes:
    @pytest.mark.parametrize("membership", [True, False])
    def test_its_setups_are_deleted(self, membership: bool) -> None:
        """Its membership may be gone already, after a destroy that ended half-way."""
        setups = {"a": {"selector": [], "evaluators": ["faithfulness"]}}
        preview = preview_of(setups, setups)
        for step in preview["steps"]:
            step["op"] = "delete"
            del step["newState"]
        preview["steps"] = preview["steps"][: 1 + membership]
        (change,) = read(json.dumps(preview), "x").changes
        assert (change.action, change.external_id) == ("delete", "a")


class TestInput:
    def test_files_make_sections(self) -> None:
        files = [str(DATA / "preview-create.json"), str(DATA / "preview-delete.json")]
        result = plan(*files, "--stack", "one", "--stack", "two")
        assert result.exit_code == 0
        headings = [line for line in result.stdout.splitlines() if line.startswith("### ")]
        assert headings == ["### Monitor setups of `one`", "### Monitor setups of `two`"]

    def test_utf16_as_powershell_writes_it(self) -> None:
        text = (DATA / "preview-create.json").read_text("utf-8")
        assert plan(stdin=text.encode("utf-16")).exit_code == 0

    @pytest.mark.parametrize("text", ["", "no json", "[]", '{"a": 1}', '{"steps": []}{}'])
    def test_something_else_is_refused_in_one_line(self, text: str) -> None:
        result = plan(stdin=text)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.startswith("error: standard input is ")
        assert result.stderr.count("\n") == 1

    def test_a_preview_without_steps_is_no_error(self) -> None:
        assert read('{"duration": 1}', "x").changes == ()
        with pytest.raises(PreviewError, match="x is empty"):
            read(b" ", "x")

    @pytest.mark.parametrize(
        "arguments", [["nowhere.json"], ["--stack", "a", "--stack", "b"], ["--api-key", "k"]]
    )
    def test_wrong_usage(self, arguments: list[str]) -> None:
        assert plan(*arguments, stdin="{}").exit_code == 2

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("[secret]"),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "setups",
                            "selector",
                            "external_id",
                            "owned",
                            "inputs",
                            "key",
                            "packed_setups",
                            "zlib",
                        ]
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=12,
        )
    )
    @settings(max_examples=150, deadline=None)
    def test_odd_states_do_not_end_in_a_traceback(self, state: Any) -> None:
        types = "pulumi-python:dynamic/traceloop:AutoMonitorSetup"
        steps = [
            {
                "op": op,
                "urn": "u",
                "oldState": {"type": types + kind, "inputs": state, "outputs": state},
                "newState": {"type": types + kind, "inputs": state},
            }
            for op in ("create", "update", "replace", "same", "delete")
            for kind in ("", "Batch", "Membership")
        ]
        result = plan(stdin=json.dumps({"steps": steps}))
        assert result.exception is None


def trimmed(preview: dict[str, Any]) -> dict[str, Any]:
    """Return what the plan is made of, in an order of its own."""
    kept_of_a_state = ("type", "parent", "inputs", "outputs", "retainOnDelete")
    steps = []
    for step in preview.get("steps", []):
        kept = {"op": step["op"], "urn": step["urn"]}
        for side in ("oldState", "newState"):
            if side in step:
                kept[side] = {k: step[side][k] for k in kept_of_a_state if k in step[side]}
                for values in ("inputs", "outputs"):
                    kept[side].get(values, {}).pop("__provider", None)
                kept[side].get("outputs", {}).pop("setup_id", None)
                kept[side].get("outputs", {}).pop("setup_ids", None)
        steps.append(kept)
    found: dict[str, Any] = {"steps": sorted(steps, key=lambda step: (step["urn"], step["op"]))}
    errors = [d for d in preview.get("diagnostics", []) if d["severity"] == "error"]
    if errors:
        # The frames of a traceback are of no use here, and name this machine's folders.
        found["diagnostics"] = [
            {**d, "message": "\n".join(x for x in d["message"].split("\n") if x[:1] != " ")}
            for d in errors
        ]
    return found | {"changeSummary": preview["changeSummary"]}


@pytest.fixture(scope="module")
def previews(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the CLI writes now for each of the programs."""
    if find_cli() is None:
        pytest.skip("no Pulumi CLI on PATH")
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    with Emulator(api_key=API_KEY, settle=0) as traceloop:
        traceloop.fail_evaluator("perplexity", "no model")
        stacks: dict[tuple[str, ...], CliStack] = {}
        found = {}
        for name, program in PROGRAMS.items():
            if (stack := stacks.get(BEFORE[name])) is None:
                directory = tmp_path_factory.mktemp("stack")
                stack = stacks[BEFORE[name]] = _stack(directory, path, traceloop)
                for before in BEFORE[name]:
                    _write(stack, before)
                    stack.up()  # where something is refused, it fails
            _write(stack, program)
            done = subprocess.run(
                [stack._cli, "preview", "--json", "--show-sames", "-s", "dev", "--non-interactive"],
                cwd=stack.project_dir,
                env=stack._env,
                capture_output=True,
                text=True,
                check=False,
            )
            found[name] = done.stdout
        yield found


def _stack(directory: Path, path: str, traceloop: Emulator) -> CliStack:
    stack = make_stack("cli", directory, env={"PYTHONPATH": path})
    assert isinstance(stack, CliStack)
    stack.set_config("traceloop:baseUrl", traceloop.url)
    stack.set_config("traceloop:apiKey", traceloop.api_key, secret=True)
    stack.set_config("test-project:word", SECRET, secret=True)
    return stack


def _write(stack: CliStack, program: str) -> None:
    stack.write_program(f"{PREAMBLE}\nNASTY = {NASTY!r}\n{program}")


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_samples_are_what_the_cli_writes(previews: dict[str, str], name: str) -> None:
    now = trimmed(json.loads(previews[name]))
    if os.environ.get("UPDATE_SAMPLES"):
        text = json.dumps(now, indent=1, ensure_ascii=False)
        (DATA / f"preview-{name}.json").write_text(f"{text}\n", "utf-8")
    assert plan(stdin=json.dumps(now)).stdout == plan(stdin=json.dumps(sample(name))).stdout


def test_the_clis_whole_output_keeps_its_secrets(previews: dict[str, str]) -> None:
    for name, text in previews.items():
        for form in ([], ["--json"]):
            result = plan(*form, stdin=text)
            assert result.exit_code == (1 if name == "broken" else 0)
            assert SECRET not in result.output
            assert API_KEY not in result.output
            assert "04da6b54" not in result.output
