"""`pulumi-traceloop plan`: what a preview says, as the Markdown of a pull-request comment.

The samples in `data/` are what the real CLI wrote, without what only slows a reader down. Where the
CLI is on PATH they are compared with what it writes now; `UPDATE_SAMPLES=1` writes them anew.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pulumi_traceloop._plan import ASKED, Change, ResourcePlan, decoded, encoded
from pulumi_traceloop._text import name as shown_name
from pulumi_traceloop.cli.app import cli
from pulumi_traceloop.cli.ci import links
from pulumi_traceloop.cli.markdown import LIMIT, MARKER, code
from pulumi_traceloop.cli.preview import COMMAND, read
from pulumi_traceloop.emulator import Emulator, Fault
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
    "pending": 'group("g", {"stays": setup()})\none("single", external_id="new")',
    "again": """
one("single", "x", "perplexity", wait_for_setup=True)
one("edited", "y", "perplexity", wait_for_setup=True)
one("hidden", config.require_secret("word"), "perplexity", wait_for_setup=True)
group("waits", {
    "late": setup("x", "perplexity"), "late-edited": setup("y", "perplexity"), "well": setup(),
    "late-secret": setup(config.require_secret("word"), "perplexity"),
}, wait_for_setup=True)
group("tried", {"refused": setup("b", "no-such-evaluator"), "mended": setup("b"),
    "put-back": setup("a")})
""",
}

#: How the previews are made.
FLAGS = ["--json", "--show-sames", "--show-replacement-steps"]

#: What was there before each preview.
BEFORE = {
    "create": (),
    **dict.fromkeys(["change", "delete", "broken"], (PROGRAMS["create"],)),
    # Deletes that the service refuses.
    "pending": (
        'group("g", {"stays": setup(), "leaves": setup()})\none("single", external_id="old")',
    ),
    # Refused changes of setups that were in place, and setups that did not come up.
    "again": (
        'group("tried", {i: setup("a") for i in ("refused", "mended", "put-back", "gone")})',
        PROGRAMS["again"].replace('"y"', '"x"').partition('group("tried"')[0]
        + """
ids = ("refused", "mended", "put-back", "gone")
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
        assert len(cells) in (4, 5), cells
        setup = cells[1].split("\n")
        # Without the column of the group, that only some comments have.
        found[setup[0]] = [cells[0], *cells[-2:], "\n".join(setup[1:])]
    return found


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
            del self.rows[-1]

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
            "\n**1 to delete, 4 to change, 2 to send again, 1 to create, 2 to adopt,"
            " 1 to leave in place**, 2 unchanged\n" in comment
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
        assert found["kept"][0] == "leave in place"
        assert found["refused"][0] == "send again"
        assert found["refused"][3].startswith("the last update failed:\nunknown evaluator")
        assert "same" not in found

    def test_only_a_secret_that_changes_is_a_change_and_it_stays_masked(self) -> None:
        found = rows(plan_of(sample("change")))
        assert found["hidden"] == ["change", "", "a secret value changes", ""]
        assert "secret" not in found

    def test_a_setup_that_moves_has_one_row(self) -> None:
        found = rows(plan_of(sample("change")))
        assert found["moves"][0] == "adopt"
        assert found["moves"][3].endswith('moves here from AutoMonitorSetupGroup "g"')
        assert found["old-name"][0] == "adopt"

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
        assert found["secret"][1] == "gen_ai.system = [secret]\nruns faithfulness"

    def test_what_was_refused_is_compared_with_what_is_there(self) -> None:
        found = rows(plan_of(sample("again")))
        why = 'the last update failed:\nunknown evaluator slug "no-such-evaluator"'
        assert found["refused"] == [
            "send again",
            "gen_ai.system = ...\nruns faithfulness",
            'gen_ai.system = "b"\nruns no-such-evaluator',
            why,
        ]
        assert found["mended"] == ["send again", "gen_ai.system = ...", 'gen_ai.system = "b"', why]
        assert found["put-back"][0] == "adopt"
        # Nobody knows what is there: the state has what was refused.
        assert found["gone"] == ["delete", "", "", "(the last update did not get to delete it)"]

    def test_what_was_not_ready_is_checked_again(self) -> None:
        comment = plan_of(sample("again"))
        summary = "1 to delete, 2 to change, 2 to send again, 4 to check again, 1 to adopt"
        assert f"**{summary}**, 1 unchanged" in comment
        found = rows(comment)
        why = "Traceloop could not set it up (failed): perplexity: no model"
        for external_id in ("single", "late"):
            assert found[external_id] == [
                "check again",
                "",
                'gen_ai.system = "x"\nruns perplexity',
                f"written, but was not ready: nothing is sent\n{why}",
            ]

    def test_what_was_not_ready_and_is_edited_is_a_change_like_any_other(self) -> None:
        found = rows(plan_of(sample("again")))
        for external_id in ("edited", "late-edited"):
            change = ["change", 'gen_ai.system = "x"', 'gen_ai.system = "y"', ""]
            assert found[external_id] == change

    def test_a_delete_that_is_still_to_be_done_is_in_the_comment(self) -> None:
        found = rows(plan_of(sample("pending")))
        assert {i: cells[0] for i, cells in found.items()} == {"leaves": "delete", "old": "delete"}
        assert found["old"][3] == "(the last update did not get to delete it)"

    def test_a_failed_preview_is_told_and_ends_with_1(self) -> None:
        result = plan(str(DATA / "preview-broken.json"))
        assert result.exit_code == 1
        assert "**The preview failed**" in result.stdout
        assert "`ValueError: this program is broken`" in result.stdout
        assert rows(result.stdout)["single"][0] == "change"

    def test_no_sample_holds_the_secret_or_a_path(self) -> None:
        for file in DATA.glob("preview-*.json"):
            text = file.read_text("utf-8")
            plans = filter(None, (decoded(d["message"]) for d in diagnostics(json.loads(text))))
            for found in (text, *map(str, plans)):
                assert SECRET not in found
                assert API_KEY not in found
                assert "File " not in found
                assert "/tmp" not in found

    def test_json(self) -> None:
        (stack,) = json.loads(plan_of(sample("change"), "--json"))["stacks"]
        assert stack["stack"] == "dev"
        assert stack["counts"]["change"] == 4
        assert stack["unchanged"] == 2
        by_id = {change["external_id"]: change for change in stack["changes"]}
        assert by_id["changed"]["before"] == {
            "rules": ['gen_ai.system = "openai"'],
            "evaluators": ["faithfulness"],
        }
        assert by_id["unknown"]["differs"] == ['gen_ai.system = "an id" -> "known now"']
        assert by_id["unknown"]["owner"] == 'AutoMonitorSetupGroup "g"'
        assert by_id["leaves"]["after"] is None


def diagnostics(preview: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = preview.get("diagnostics", [])
    return found


class TestWhatCounts:
    """What the providers say as data, and nothing that looks like it."""

    @pytest.mark.parametrize(
        "line",
        ["= a  (from the feature flags)", "g: 1 to delete", "  - a", "traceloop: 1 to create"],
    )
    def test_what_a_program_prints_means_nothing(self, line: str) -> None:
        preview = preview_of(group(create("a")))
        before = plan_of(preview)
        preview["diagnostics"].append({"severity": "info", "message": line})
        assert plan_of(preview) == before
        assert rows(before)["a"][0] == "create"

    def test_the_same_external_id_in_two_projects_is_two_setups(self) -> None:
        theirs = Change("replace", "m", setup("..."), setup("x"))
        preview = preview_of(
            group(Change("adopt", "m", after=setup()), project="staging"),
            group(theirs, owner='AutoMonitorSetupGroup "h"', project="production"),
        )
        tables = _Tables(plan_of(preview)).rows
        assert [(cells[0], cells[2]) for cells in tables] == [
            ("replace", "h\nin production"),
            ("adopt", "g\nin staging"),
        ]

    def test_two_namespaces_of_one_project_are_one_project(self) -> None:
        """A setup that moves from one to the other is not deleted."""
        gone = step("delete", "", inputs={"external_id": "m", "declared_by": "old"})
        gone["oldState"]["outputs"] = {"config_namespace": "other", "env_project_id": "p"}
        gone["oldState"]["id"] = "m"
        preview = preview_of(group(Change("adopt", "m", after=setup()), project="p"), steps=[gone])
        (found,) = read(json.dumps(preview), "x").changes
        assert found.change.action == "adopt"
        assert found.change.note == "moves here from old"

    def test_what_is_declared_is_not_deleted(self) -> None:
        """An unchanged resource is in no step, but its provider says what it declares."""
        pending = step("delete-replaced", "Membership", inputs={"owned": '["a", "b"]'})
        pending["oldState"]["delete"] = True
        preview = preview_of(group(declares=["a"]), steps=[pending])
        (found,) = read(json.dumps(preview), "x").changes
        assert (found.change.action, found.change.external_id) == ("delete", "b")

    def test_a_plan_without_a_look_says_so(self) -> None:
        preview = preview_of(group(create("a"), blind="no API key"))
        assert "- warning: `the plan is not compared with what Traceloop has: no API key`" in (
            plan_of(preview)
        )

    def test_errors_are_cut_and_counted(self) -> None:
        preview = preview_of(group(create("a")))
        preview["diagnostics"] += [
            {"severity": "error", "message": f"error: {n}"} for n in range(9)
        ]
        result = plan(stdin=json.dumps(preview))
        assert result.exit_code == 1
        assert "- `4`\n- and 4 more errors\n" in result.stdout

    def test_only_the_resources_own_warnings_are_told(self) -> None:
        preview = preview_of(group(create("a")))
        urn = preview["steps"][0]["urn"]
        preview["diagnostics"] += [
            {"message": "warning: did you mean?", "severity": "warning", "urn": urn},
            {"message": "warning: other", "severity": "warning"},
        ]
        comment = plan_of(preview)
        assert "- warning: `did you mean?`" in comment
        assert "other" not in comment


class TestEvidence:
    """Silence is not "no changes"."""

    def refused(self, text: str | bytes, why: str) -> None:
        result = plan(stdin=text)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert why in result.stderr
        assert COMMAND in result.stderr
        assert result.stderr.count("\n") == 1

    def test_a_preview_without_the_plan(self) -> None:
        preview = preview_of(group(create("a")))
        self.refused(json.dumps({**preview, "diagnostics": []}), "does not have the plan")
        hidden = {"steps": [stack_step("same")], "changeSummary": {"same": 5}, "diagnostics": []}
        self.refused(json.dumps(hidden), "has no plan")

    def test_one_resources_plan_is_missing(self) -> None:
        preview = preview_of(group(create("a")), group(create("b"), owner="other"))
        del preview["diagnostics"][1]
        self.refused(json.dumps(preview), "does not have the plan")

    def test_a_plan_that_was_damaged(self) -> None:
        preview = preview_of(group(create("a")))
        preview["diagnostics"][0]["message"] = preview["diagnostics"][0]["message"][:-9]
        self.refused(json.dumps(preview), "damaged")

    def test_a_refresh(self) -> None:
        steps = [stack_step("refresh"), step("update", "Batch", inputs={"declared_by": "g"})]
        self.refused(json.dumps({"steps": steps, "changeSummary": {}}), "is a refresh")

    def test_a_preview_with_a_refresh(self) -> None:
        """Only the steps after it are the update's."""
        preview = preview_of(group(create("a")))
        gone = step("delete", "", inputs={"external_id": "z"})
        preview["steps"] = [stack_step("refresh"), gone, stack_step("same"), *preview["steps"]]
        assert set(rows(plan_of(preview))) == {"a"}

    def test_a_stream_of_events(self) -> None:
        events = [{"sequence": n, "timestamp": 1, "diagnosticEvent": {}} for n in range(3)]
        self.refused("\n".join(map(json.dumps, events)), "stream of events")

    def test_a_summary(self) -> None:
        found = {"result": "succeeded", "duration": 1, "summary": {"same": 5}, "resources": []}
        self.refused(json.dumps(found), "--output json")

    @pytest.mark.parametrize(
        "text", ["", "no json", "[]", '{"a": 1}', '{"duration": 1}', '{"steps": [', "{" * 10_000]
    )
    def test_something_else(self, text: str) -> None:
        self.refused(text, "standard input is ")

    def test_bytes_that_are_no_text(self) -> None:
        self.refused(b'{"steps": [\xff\xff', "is not text")

    def test_text_around_the_preview(self) -> None:
        preview = json.dumps(preview_of(group(create("a"))), indent=4)
        expected = plan(stdin=preview).stdout
        around = f"Installing {{things}}\n{{ not json\n{preview}\nUpdate plan written\n"
        assert plan(stdin=around).stdout == expected


class TestMarkdown:
    def test_a_nasty_external_id_breaks_nothing(self) -> None:
        found = rows(plan_of(sample("create")))
        assert shown_name(NASTY) in found

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

    def test_a_long_table_is_folded(self) -> None:
        short = plan_of(preview_of(group(*(create(f"m{n}") for n in range(20)))))
        long = plan_of(preview_of(group(*(create(f"m{n}") for n in range(21)))))
        assert "<details>" not in short
        summary, table = long.split("<details><summary>21 setups</summary>\n\n")
        assert "**21 to create**" in summary
        assert table.endswith("\n\n</details>\n")
        assert len(rows(long)) == 21

    def test_what_does_harm_is_never_folded_up(self) -> None:
        changes = [create(f"m{n}") for n in range(30)]
        changes += [Change("delete", f"d{n}", setup()) for n in range(30)]
        changes += [Change("replace", f"r{n}", setup(), setup("x")) for n in range(30)]
        open_, folded = plan_of(preview_of(group(*changes))).split("<details>")
        assert {cells[0] for cells in rows(open_).values()} == {"delete", "replace"}
        assert len(rows(open_)) == 60
        assert {cells[0] for cells in rows(folded.split("</summary>")[1]).values()} == {"create"}

    def test_a_group_is_named_where_there_are_several(self) -> None:
        one, other = group(create("a")), group(create("b"), owner='AutoMonitorSetupGroup "h"')
        assert "| In |" not in plan_of(preview_of(one))
        (a, b) = _Tables(plan_of(preview_of(one, other))).rows
        assert (a[2], b[2]) == ("g", "h")

    def test_a_renamed_setup_is_hinted_at(self) -> None:
        comment = plan_of(preview_of(group(Change("delete", "old", setup()), create("new"))))
        assert rows(comment)["old"][3] == "(renamed to new? It is equal)"
        assert rows(comment)["new"][3] == "(renamed from old? It is equal)"

    def test_texts_that_differ_do_not_look_alike(self) -> None:
        """Neither in a column nor, as a browser draws it, beside each other."""
        arn = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/"
        pairs = [("a b", "a  b"), ("a", "a\n"), ("a b", "a\u00a0b"), (f"{arn}q1", f"{arn}z9")]
        changes = [
            Change("change", str(n), setup(old), setup(new)) for n, (old, new) in enumerate(pairs)
        ]
        for _, before, after, _ in rows(plan_of(preview_of(group(*changes)))).values():
            assert " ".join(before.split(" ")) != " ".join(after.split(" "))

    def test_it_links_to_the_commit_and_the_run(self, tmp_path: Path) -> None:
        event = tmp_path / "event.json"
        event.write_text(json.dumps({"pull_request": {"head": {"sha": "b" * 40}}}))
        github = {
            "GITHUB_SERVER_URL": "https://github.example",
            "GITHUB_REPOSITORY": "o/r",
            "GITHUB_SHA": "a" * 40,
            "GITHUB_RUN_ID": "7",
        }
        run = "[run](https://github.example/o/r/actions/runs/7)"
        for more, sha in (({}, "a"), ({"GITHUB_EVENT_PATH": str(event)}, "b")):
            commit = f"commit [`{sha * 7}`](https://github.example/o/r/commit/{sha * 40})"
            assert links(github | more) == [commit, run]
        gitlab = {
            "CI_PROJECT_URL": "https://gitlab.example/o/r",
            "CI_COMMIT_SHA": "c" * 40,
            "CI_JOB_URL": "https://gitlab.example/o/r/-/jobs/1",
        }
        assert links(gitlab) == [
            f"commit [`ccccccc`](https://gitlab.example/o/r/-/commit/{'c' * 40})",
            "[run](https://gitlab.example/o/r/-/jobs/1)",
        ]
        assert links({}) == []
        assert links({**github, "GITHUB_REPOSITORY": "o/r) **x**", "GITHUB_SHA": "x"}) == []
        preview = json.dumps(preview_of(group(create("a"))))
        result = CliRunner().invoke(cli, ["plan"], input=preview, env=github)
        assert result.stdout.endswith(f" · {run}</sub>\n")

    def test_the_comment_stays_below_githubs_limit_and_counts_what_is_left_out(self) -> None:
        spec = json.dumps(
            {"evaluators": ["e" * 500] * 30, "selector": [RULE | {"key": "😀|" * 300}]}
        )
        changes = [create(f"m{n:04}{'|' * n}", spec) for n in range(1500)]
        result = plan("-", stdin=json.dumps(preview_of(group(*changes))))
        assert len(result.stdout.encode("utf-16-le")) / 2 <= LIMIT
        shown = len(rows(result.stdout))
        assert shown > 20
        assert f"**Left out, because this comment is full: {1500 - shown:,} to create.**" in (
            result.stdout
        )
        assert result.stdout.endswith("\n")

    def test_many_stacks_share_the_room(self, tmp_path: Path) -> None:
        big = preview_of(group(*(create(f"m{n}", setup("k" * 50)) for n in range(2000))))
        files = []
        for n in range(3):
            files.append(tmp_path / f"{n}.json")
            files[-1].write_text(json.dumps(big if n else preview_of(group(create("only")))))
        result = plan(*map(str, files), "--stack", "a", "--stack", "b|c", "--stack", "d")
        assert len(result.stdout) <= LIMIT
        sections = result.stdout.split("### Monitor setups of ")
        assert [len(rows(section)) > 0 for section in sections[1:]] == [True] * 3
        assert len(rows(sections[2])) == pytest.approx(len(rows(sections[3])), rel=0.1)

    def test_too_many_stacks_are_counted(self, tmp_path: Path) -> None:
        file = tmp_path / "p.json"
        file.write_text(json.dumps(preview_of(group(declares=["a"]))))
        result = plan(*[str(file)] * 400)
        assert len(result.stdout) <= LIMIT
        shown = result.stdout.count("### ")
        assert f"**{400 - shown} more stacks left out**" in result.stdout


RULE = {"key": "k", "source": "span_attributes", "operator": "exists"}


def setup(value: str = "openai") -> str:
    rule = {"key": "k", "source": "span_attributes", "value": value}
    return json.dumps({"selector": [rule], "evaluators": ["e"]})


def create(external_id: str, after: str | None = None) -> Change:
    return Change("create", external_id, after=after or setup())


def group(*changes: Change, owner: str = 'AutoMonitorSetupGroup "g"', **more: Any) -> ResourcePlan:
    return ResourcePlan(owner, list(changes), **{"namespace": "traceloop", **more})


def step(op: str, kind: str, **state: Any) -> dict[str, Any]:
    """Return a step about a resource, whose state is *state*."""
    side = "oldState" if op.startswith("delete") else "newState"
    types = f"pulumi-python:dynamic/traceloop:AutoMonitorSetup{kind}"
    return {"op": op, "urn": f"urn:pulumi:dev::p::{types}::g", side: {"type": types, **state}}


def stack_step(op: str) -> dict[str, Any]:
    types = "pulumi:pulumi:Stack"
    return {"op": op, "urn": f"urn:pulumi:dev::p::{types}::p-dev", "newState": {"type": types}}


def preview_of(*plans: ResourcePlan, steps: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """Return the preview of groups with these plans."""
    updates = [step("update", "Batch", inputs={"declared_by": found.owner}) for found in plans]
    return {
        "steps": [*updates, *steps],
        "diagnostics": [{"severity": "info", "message": f"{encoded(p)}\n\n"} for p in plans],
        "changeSummary": {"update": len(plans)},
    }


class TestGroupThatGoes:
    @pytest.mark.parametrize("kinds", [["Batch", "Membership"], ["Batch"]])
    def test_its_setups_are_deleted(self, kinds: list[str]) -> None:
        """Its membership may be gone already, after a destroy that ended half-way."""
        inputs = {"setups": {"a": setup()}, "owned": '["a"]', "declared_by": "g"}
        steps = [step("delete", kind, inputs=inputs) for kind in kinds]
        (found,) = read(json.dumps(preview_of(steps=steps)), "x").changes
        assert (found.change.action, found.change.external_id) == ("delete", "a")
        assert found.change.before == setup()

    def test_a_text_like_the_mask_looks_different(self) -> None:
        inputs = {
            "setups": {"literal": setup("[secret]"), "masked": "[secret]"},
            "shown": {"masked": setup("[secret]")},
            "owned": '["literal", "masked"]',
        }
        steps = [step("delete", "Batch", inputs=inputs)]
        found = rows(plan_of(preview_of(steps=steps)))
        assert found["literal"][1].startswith('k = "[secret]"\n')
        assert found["masked"][1].startswith("k = [secret]\n")


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
        assert result.exception is None or isinstance(result.exception, SystemExit)


def trimmed(preview: dict[str, Any]) -> dict[str, Any]:
    """Return what the plan is made of, in an order of its own."""
    kept_of_a_state = ("type", "parent", "id", "inputs", "outputs", "retainOnDelete", "delete")
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
    plans = [d for d in diagnostics(preview) if d["severity"] == "info" and decoded(d["message"])]
    # The frames of a traceback are of no use here, and name this machine's folders.
    errors = [
        {**d, "message": "\n".join(x for x in d["message"].split("\n") if x[:1] != " ")}
        for d in diagnostics(preview)
        if d["severity"] == "error"
    ]
    found["diagnostics"] = [*sorted(plans, key=lambda d: str(decoded(d["message"]))), *errors]
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
            if name == "pending":
                traceloop.inject(Fault(method="DELETE", status=500, times=None))
                _write(stack, program)
                stack.up()
            _write(stack, program)
            done = subprocess.run(
                [stack._cli, "preview", *FLAGS, "-s", "dev", "--non-interactive"],
                cwd=stack.project_dir,
                env=stack._env | dict([ASKED]),
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


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliStack]:
    """A stack with a delete that is still to be done, and with a program that changes more."""
    if find_cli() is None:
        pytest.skip("no Pulumi CLI on PATH")
    with Emulator(api_key=API_KEY) as traceloop:
        path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
        stack = _stack(tmp_path_factory.mktemp("stack"), path.rstrip(os.pathsep), traceloop)
        _write(stack, 'group("g", {i: setup() for i in "abc"})\none("m", external_id="old")')
        assert stack.up().exit_code == 0
        traceloop.inject(Fault(method="DELETE", status=500, times=None))
        _write(stack, 'group("g", {i: setup() for i in "ab"})\none("m", external_id="new")')
        assert stack.up().exit_code != 0
        _write(stack, 'group("g", {"a": setup("x"), "d": setup()})\none("m", external_id="new")')
        yield stack


def _preview(stack: CliStack, *flags: str, **env: str) -> subprocess.CompletedProcess[str]:
    return _run(stack, "preview", *flags, **env)


def _run(stack: CliStack, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [stack._cli, *arguments, "-s", "dev", "--non-interactive"],
        cwd=stack.project_dir,
        env=stack._env | dict([ASKED]) | env,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("more", [[], ["--refresh"], ["--replace"]])
def test_the_flags_of_a_preview_change_nothing(stack: CliStack, more: list[str]) -> None:
    """Not even where everything is replaced: what is declared is not deleted."""
    if more == ["--replace"]:
        more = [part for r in stack.state() if "traceloop" in r.urn for part in (*more, r.urn)]
    expected = {"a": "change", "b": "delete", "c": "delete", "d": "create", "old": "delete"}
    if "--replace" in more:
        # A resource that is replaced puts its setups in place anew, which they are.
        expected |= {"new": "adopt"}
    for flags in (FLAGS, ["--json", "--show-replacement-steps"]):
        found = rows(plan(stdin=_preview(stack, *flags, *more).stdout).stdout)
        assert {i: cells[0] for i, cells in found.items()} == expected


@pytest.mark.parametrize(
    ("flags", "env", "why"),
    [
        (FLAGS, {ASKED[0]: ""}, "does not have the plan"),
        (["--output", "json"], {}, "summary of `--output json`"),
        (FLAGS, {"PULUMI_ENABLE_STREAMING_JSON_PREVIEW": "true"}, "stream of events"),
        ([], {}, "not what `pulumi preview --json` writes"),
    ],
)
def test_another_output_is_refused(
    stack: CliStack, flags: list[str], env: dict[str, str], why: str
) -> None:
    result = plan(stdin=_preview(stack, *flags, **env).stdout)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert why in result.stderr


def test_a_refresh_is_no_preview(stack: CliStack) -> None:
    result = plan(stdin=_run(stack, "refresh", "--preview-only", "--json").stdout)
    assert result.exit_code == 2
    assert "is a refresh" in result.stderr


@pytest.mark.parametrize("more", [[], ["--run-program"]])
def test_the_preview_of_a_destroy(stack: CliStack, more: list[str]) -> None:
    """The engine calls no provider for it, so the terminal names no setup."""
    flags = ["--preview-only", "--json", "--show-replacement-steps"]
    done = _run(stack, "destroy", *flags, *more, **{ASKED[0]: ""})
    found = rows(plan(stdin=done.stdout).stdout)
    assert {i: cells[0] for i, cells in found.items()} == dict.fromkeys(
        ("a", "b", "c", "new", "old"), "delete"
    )
    assert found["c"][-1] == found["old"][-1] == "(the last update did not get to delete it)"


class TestPreviewCommand:
    def run(self, stack: CliStack, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pulumi_traceloop.cli", "preview", *arguments],
            cwd=stack.project_dir,
            env=stack._env,
            capture_output=True,
            text=True,
            check=False,
        )

    def test_it_makes_the_preview_and_the_comment(self, stack: CliStack) -> None:
        done = self.run(stack, "--stack", "dev")
        assert done.returncode == 0, done.stderr
        assert done.stdout == plan(stdin=_preview(stack, *FLAGS).stdout).stdout

    def test_a_program_that_is_broken(self, stack: CliStack) -> None:
        program = (stack.project_dir / "__main__.py").read_text()
        stack.write_program(f"{program}\nraise ValueError('broken')")
        done = self.run(stack, "--stack", "dev")
        stack.write_program(program)
        assert done.returncode == 1
        assert "**The preview failed**" in done.stdout

    def test_a_preview_that_says_nothing(self, stack: CliStack) -> None:
        done = self.run(stack, "--stack", "nowhere")
        assert done.returncode == 2
        assert done.stdout == ""
        assert "no stack named 'nowhere' found" in done.stderr


def test_the_preview_command_needs_the_cli() -> None:
    result = CliRunner().invoke(cli, ["preview"], env={"PATH": ""})
    assert result.exit_code == 2
    assert result.stderr.startswith("error: pulumi is not on PATH")


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
