"""The Markdown of a comment, whatever the texts in it: `cli/markdown.py`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from pulumi_traceloop._plan import Change
from pulumi_traceloop._text import name as shown_name
from pulumi_traceloop.cli.app import cli
from pulumi_traceloop.cli.ci import links
from pulumi_traceloop.cli.markdown import LIMIT, code
from tests.support.previews import (
    NASTY,
    RULE,
    Tables,
    create,
    group,
    plan,
    plan_of,
    preview_of,
    rows,
    sample,
    setup,
)


class TestMarkdown:
    def test_hostile_external_id_breaks_nothing(self) -> None:
        found = rows(plan_of(sample("create")))
        assert shown_name(NASTY) in found

    @given(st.lists(st.text(max_size=30), min_size=1, max_size=5, unique=True))
    @settings(max_examples=150, deadline=None)
    def test_any_text_stays_in_its_cell(self, texts: list[str]) -> None:
        """No name or value ends its cell or becomes a tag, a link or emphasis."""
        table = "| | a |\n|---|---|\n" + "".join(f"| x | {code(text)} |\n" for text in texts)
        parsed = Tables(table)
        assert [len(cells) for cells in parsed.rows] == [2] * len(texts)
        assert parsed.tags <= {"table", "thead", "tbody", "tr", "th", "td", "code"}
        for text, (_, displayed) in zip(texts, parsed.rows, strict=True):
            visible = "".join(
                c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode()
                for c in text
            )
            assert displayed.strip(" ") == visible.strip(" ")

    def test_long_table_is_folded(self) -> None:
        short = plan_of(preview_of(group(*(create(f"m{n}") for n in range(20)))))
        long = plan_of(preview_of(group(*(create(f"m{n}") for n in range(21)))))
        assert "<details>" not in short
        summary, table = long.split("<details><summary>21 setups</summary>\n\n")
        assert "**21 to create**" in summary
        assert table.endswith("\n\n</details>\n")
        assert len(rows(long)) == 21

    def test_destructive_changes_are_never_folded(self) -> None:
        changes = [create(f"m{n}") for n in range(30)]
        changes += [Change("delete", f"d{n}", setup()) for n in range(30)]
        changes += [Change("replace", f"r{n}", setup(), setup("x")) for n in range(30)]
        open_, folded = plan_of(preview_of(group(*changes))).split("<details>")
        assert {cells[0] for cells in rows(open_).values()} == {"delete", "replace"}
        assert len(rows(open_)) == 60
        assert {cells[0] for cells in rows(folded.split("</summary>")[1]).values()} == {"create"}

    def test_groups_are_named_if_there_are_several(self) -> None:
        one, other = group(create("a")), group(create("b"), owner='AutoMonitorSetupGroup "h"')
        assert "| In |" not in plan_of(preview_of(one))
        (a, b) = Tables(plan_of(preview_of(one, other))).rows
        assert (a[2], b[2]) == ("g", "h")

    def test_likely_rename_has_a_hint(self) -> None:
        comment = plan_of(preview_of(group(Change("delete", "old", setup()), create("new"))))
        assert rows(comment)["old"][3] == "(renamed to new? It is equal)"
        assert rows(comment)["new"][3] == "(renamed from old? It is equal)"

    def test_different_texts_look_different(self) -> None:
        """They differ in a column, and side by side in a browser."""
        arn = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/"
        pairs = [("a b", "a  b"), ("a", "a\n"), ("a b", "a\u00a0b"), (f"{arn}q1", f"{arn}z9")]
        changes = [
            Change("change", str(n), setup(old), setup(new)) for n, (old, new) in enumerate(pairs)
        ]
        for _, before, after, _ in rows(plan_of(preview_of(group(*changes)))).values():
            assert " ".join(before.split(" ")) != " ".join(after.split(" "))

    def test_changed_evaluators_are_never_cut(self) -> None:
        """Not even below many changed rules."""
        before, after = (
            json.dumps(
                {"selector": [RULE | {"key": f"k{n}", "value": v} for n in range(12)], **more}
            )
            for v, more in (("x", {"evaluators": ["a", "b"]}), ("y", {"evaluators": ["b"]}))
        )
        change = Change("change", "m", before, after, secret_changes=True)
        _, old, new, _ = rows(plan_of(preview_of(group(change))))["m"]
        assert old.endswith("\nand 2 more\nruns a")
        assert new.endswith("\nand 2 more\na secret value changes")

    def test_links_to_the_commit_and_the_run(self, tmp_path: Path) -> None:
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

    def test_comment_stays_below_githubs_limit_and_counts_what_it_omits(self) -> None:
        spec = json.dumps(
            {"evaluators": ["e" * 500] * 30, "selector": [RULE | {"key": "😀|" * 300}]}
        )
        changes = [create(f"m{n:04}{'|' * n}", spec) for n in range(1500)]
        result = plan("-", stdin=json.dumps(preview_of(group(*changes))))
        assert len(result.stdout.encode("utf-16-le")) / 2 <= LIMIT
        displayed = len(rows(result.stdout))
        assert displayed > 20
        assert f"**Left out, because this comment is full: {1500 - displayed:,} to create.**" in (
            result.stdout
        )
        assert result.stdout.endswith("\n")

    def test_many_stacks_share_the_space(self, tmp_path: Path) -> None:
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
        displayed = result.stdout.count("### ")
        assert f"**{400 - displayed} more stacks left out**" in result.stdout
