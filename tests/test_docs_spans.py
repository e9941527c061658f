"""docs/spans.md: its example runs unchanged, and its outputs are current."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pulumi_traceloop._warnings import warnings
from pulumi_traceloop.cli.app import Runtime, cli
from pulumi_traceloop.files import load_setups
from tests.support import CAPTURED, REPOSITORY

PAGE = (REPOSITORY / "docs" / "spans.md").read_text(encoding="utf-8")
FENCES = re.findall(r"^```\w*\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def fence(first_line: str) -> str:
    """Return the only code block that begins with this line."""
    (found,) = [text for text in FENCES if text.startswith(f"{first_line}\n")]
    return str(found)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("__main__.py", "test_monitors.py", "monitors.yaml"):
        (tmp_path / name).write_text(fence(f"# {name}"))
    shutil.copy(CAPTURED, tmp_path / "spans.jsonl")
    return tmp_path


def run_pytest(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_example_fails_as_documented(folder: Path) -> None:
    output = run_pytest(folder).stdout
    (expected,) = [text for text in FENCES if text.startswith("E   AssertionError")]
    printed = [
        line.removeprefix("E").strip() for line in output.splitlines() if line.startswith("E ")
    ]
    assert printed[:4] == [line.removeprefix("E").strip() for line in expected.splitlines()]
    assert "1 failed, 1 passed" in output


def test_example_passes_with_repaired_monitors(folder: Path) -> None:
    text = (folder / "monitors.yaml").read_text()
    for old, new in (
        ("gen_ai.system", "gen_ai.provider.name"),
        ("claude-sonnet-4}", "claude-sonnet-4-5}"),
        ("service.name, source: span_attributes", "service.name, source: resource_attributes"),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "monitors.yaml").write_text(text)
    done = run_pytest(folder)
    assert "2 passed" in done.stdout, done.stdout


def test_command_prints_the_documented_output(folder: Path) -> None:
    command, _, expected = fence(
        "$ pulumi-traceloop match monitors.yaml --spans spans.jsonl"
    ).partition("\n")
    result = CliRunner().invoke(cli, command.split()[2:], obj=Runtime())
    assert result.stdout == expected


def test_warning_is_the_documented_one(folder: Path) -> None:
    (expected,) = [text for text in FENCES if text.startswith("warning: ")]
    *_, text = warnings(load_setups("monitors.yaml").items())
    assert f"warning: {text}".splitlines()[:-1] == expected.splitlines()
