"""From a program to a monitor that sees traffic: Pulumi, the emulator and Traceloop's own SDK."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from markdown_it import MarkdownIt

from pulumi_traceloop.cli.app import cli
from pulumi_traceloop.emulator import Emulator
from tests.engine import find_cli, make_stack
from tests.support import REPOSITORY
from tests.telemetry.instrumented import has_sdk, run_all, service

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not has_sdk(), reason="no SDK: make .venv-sdk/.ready"),
]


def first_program(page: Path) -> str:
    """Return the first Python code of a page."""
    tokens = MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8"))
    return next(t.content for t in tokens if t.type == "fence" and t.info == "python")


def test_first_example_of_the_readme_matches_traffic(tmp_path: Path, traceloop: Emulator) -> None:
    """Its monitors complete with the program on the emulator's page, next to another one.

    One with an older SDK's attribute waits, and `match` says why.
    """
    traceloop.spans_needed = 1
    environment = {"TRACELOOP_BASE_URL": traceloop.url, "TRACELOOP_API_KEY": traceloop.api_key}
    stack = make_stack("cli" if find_cli() else "test-engine", tmp_path, env=environment)
    stack.write_program(first_program(REPOSITORY / "README.md"))
    up = stack.up()
    assert up.exit_code == 0, up.output
    declared = set(traceloop.setups)
    rule = {"key": "gen_ai.system", "source": "span_attributes", "value": "openai"}
    traceloop.put("wrong", selector=[rule], evaluators=["faithfulness"])
    assert statuses(traceloop) == dict.fromkeys([*declared, "wrong"], "waiting_for_spans")

    traceloop.reset_counts()
    run_all(
        [["-c", first_program(REPOSITORY / "docs" / "emulator.md")], service("support")],
        base_url=traceloop.url,
        api_key=traceloop.api_key,
    )

    assert traceloop.requests["unmatched"] == 0
    assert statuses(traceloop) == {
        **dict.fromkeys(declared, "completed"),
        "wrong": "waiting_for_spans",
    }
    found = CliRunner().invoke(cli, ["match", "--since", "1h"], env=environment)
    assert found.exit_code == 1, found.output
    (line,) = [line for line in found.stdout.splitlines() if line.startswith("wrong ")]
    assert "no span has gen_ai.system" in line
    assert "have gen_ai.provider.name (" in line
    assert "openai" in line


def statuses(traceloop: Emulator) -> dict[str, str]:
    return {i: setup["status"] for i, setup in traceloop.setups.items()}
