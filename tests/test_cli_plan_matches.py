"""The comment's column of matches, from the preview or from given spans: `cli/traffic.py`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pulumi_traceloop._plan import SECRET, Change, Matches
from pulumi_traceloop._text import printable
from tests.engine.cli import CliStack
from tests.support.previews import (
    FLAGS,
    Tables,
    create,
    group,
    plan,
    plan_of,
    preview_of,
    run_preview,
)
from tests.support.span_service import SERVICE_SPAN, SpanService, page

SOME = Matches(1240, 2000, hours=24, evaluations=2480)
NONE = Matches(0, 2000, hours=24, why="no span has a|b; 3 have c (`x` 3)")


def cells(comment: str) -> dict[str, str]:
    """Return the last cell of each setup's row, in order."""
    return {row[1].split("\n")[0]: row[-1] for row in Tables(comment).rows}


def by(key: str, value: str, *evaluators: str) -> str:
    rule = {"key": key, "source": "span_attributes", "value": value}
    return json.dumps({"selector": [rule], "evaluators": list(evaluators or ["e"])})


def test_matches_in_the_preview_are_a_column_warnings_first() -> None:
    changes = [
        create("a")._replace(matches=SOME),
        create("b"),
        create("c")._replace(matches=NONE),
        create("d")._replace(matches=Matches(0, 2000, undecided=5)),
    ]
    comment = plan_of(preview_of(group(*changes)))
    assert cells(comment) == {
        "c": "none of 2,000 (24 h)\nno span has a|b; 3 have c (`x` 3)",
        "a": "1,240 of 2,000 (24 h)\n2,480 evaluations a day",
        "b": "",
        "d": "up to 5 of 2,000",
    }
    lines = comment.splitlines()
    assert '- **warning: 1 of 3 setups match no span**: `"c"`' in lines
    assert "About 2,480 evaluations a day: matched spans x evaluators." in lines
    (stack,) = json.loads(plan_of(preview_of(group(*changes)), "--json"))["stacks"]
    found = {change["external_id"]: change["matches"] for change in stack["changes"]}
    assert found["a"] == SOME._asdict()
    assert found["b"] is None


def test_no_column_without_spans() -> None:
    comment = plan_of(preview_of(group(create("a"))))
    assert "Matches" not in comment
    assert "match" not in comment


def test_note_is_one_warning() -> None:
    note = "spans were not read: Traceloop is down"
    plans = [group(create("a"), notes=note), group(create("b"), owner="h", notes=note)]
    assert plan_of(preview_of(*plans)).count(f"- warning: `{note}`") == 1


def test_spans_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "spans.json"
    file.write_text(json.dumps(page(3)))
    preview = preview_of(
        group(
            create("good", by("gen_ai.system", "openai")),
            create("typo", by("gen_ai.system", "opnai"))._replace(matches=SOME),
            create("secret", by("gen_ai.system", SECRET)),
            create("prompt", by("gen_ai.prompt.0.content", "x")),
            Change("delete", "old", before=by("gen_ai.system", "openai")),
            Change("change", "moved", by("a", "b"), by("gen_ai.system", "openai")),
        )
    )
    found = cells(plan_of(preview, "--spans", str(file)))
    assert found["good"] == found["moved"] == "3 of 3"
    assert found["typo"] == (
        "none of 3\nno span has gen_ai.system with such a value; 3 have it with other values"
        " (openai 3)"
    )
    # Deletes have a separate table.
    assert list(found)[:3] == ["old", "typo", "moved"]
    # A rule that cannot be tried has no figure.
    assert found["secret"] == found["old"] == ""
    assert found["prompt"].startswith("up to 3 of 3")


def test_spans_from_traceloop(monkeypatch: pytest.MonkeyPatch) -> None:
    with SpanService() as service:
        monkeypatch.setenv("TRACELOOP_API_KEY", "k")
        monkeypatch.setenv("TRACELOOP_BASE_URL", service.url)
        service.pages[""] = {"spans": {"data": [SERVICE_SPAN] * 4}}
        preview = preview_of(group(create("a", by("gen_ai.system", "openai", "e", "f"))))
        comment = plan_of(preview, "--since", "12h")
    assert cells(comment)["a"] == "4 of 4 (12 h)\n16 evaluations a day"
    assert len(service.queries) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["--since", "soon"], 2, "is not a time"),
        (["--since", "1h", "--spans", __file__], 2, "do not go together"),
        (["--spans", __file__], 2, "invalid JSON"),
        (["--since", "1h"], 2, "TRACELOOP_API_KEY"),
    ],
)
def test_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, why: str
) -> None:
    monkeypatch.delenv("TRACELOOP_API_KEY", raising=False)
    result = plan(*arguments, stdin=json.dumps(preview_of(group(create("a")))))
    assert result.exit_code == code
    assert why in printable(result.output, 2000)


@pytest.mark.not_sampled
def test_real_preview_has_the_column(cli_stack: CliStack) -> None:
    (cli_stack.project_dir / "spans.json").write_text(json.dumps(page(5)))
    cli_stack.set_config("traceloop:matchSpans", "spans.json")
    done = run_preview(cli_stack, *FLAGS)
    comment = plan(stdin=done.stdout).stdout
    found = cells(comment)
    assert found["d"] == "5 of 5"
    assert found["a"].startswith(
        "none of 5\nno span has gen_ai.system with such a value; 5 have it"
    )
    assert list(found).index("a") < list(found).index("d")
    assert '- **warning: 1 of 2 setups match no span**: `"a"`' in comment.splitlines()
