"""The documentation is true: links lead to files, programs run, the quick start works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pulumi_traceloop.emulator import Emulator
from pulumi_traceloop.files import FileError, load_setups
from tests.engine import KINDS, Kind, driver, find_cli, make_stack
from tests.support import API_KEY, REPOSITORY
from tests.support.terminal import import_path

README = REPOSITORY / "README.md"
PAGES = [README, REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: A block that is a file, behind a line with the file's name.
FILE = re.compile(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)")


def blocks(language: str) -> list[tuple[str, str]]:
    """Return the blocks in one language: (page and number, text)."""
    return [
        (f"{page.stem}-{number}", text)
        for page in PAGES
        for number, (kind, text) in enumerate(BLOCK.findall(page.read_text("utf-8")), start=1)
        if kind == language
    ]


PYTHON = blocks("python")
#: Pages with tests of their own.
TESTED = ("spans-", "policies-")
#: Only blocks that import this package are complete.
WHOLE = [
    (name, text)
    for name, text in PYTHON
    if re.search(r"^(from|import) pulumi_trace", text, re.M) and not name.startswith(TESTED)
]
TESTS = [(name, text) for name, text in WHOLE if "def test_" in text]
SCRIPTS = [(name, text) for name, text in WHOLE if "with Emulator(" in text]
PROGRAMS = [each for each in WHOLE if each not in TESTS + SCRIPTS]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files(page: Path) -> None:
    targets = [each for each in LINK.findall(page.read_text("utf-8")) if "://" not in each]
    assert [each for each in targets if not (page.parent / each).exists()] == []


def test_readme_fits_on_three_screens_and_names_the_targets() -> None:
    text = README.read_text("utf-8")
    assert len(text.splitlines()) <= 150
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    named = re.findall(r"^make ([\w-]+)", text, re.MULTILINE)
    assert {"demo", "test"} <= {*named}
    assert [each for each in named if not re.search(rf"^{each}:", makefile, re.MULTILINE)] == []


@pytest.mark.parametrize("text", [text for _, text in PYTHON], ids=[name for name, _ in PYTHON])
def test_block_parses(text: str) -> None:
    compile(text, "documentation", "exec")


@pytest.mark.engine
@pytest.mark.parametrize("program", [text for _, text in PROGRAMS], ids=[n for n, _ in PROGRAMS])
def test_documented_program_runs(program: str, tmp_path: Path, traceloop: Emulator) -> None:
    only_on_the_cli = "transforms=" in program
    if only_on_the_cli and find_cli() is None:
        pytest.skip("no Pulumi CLI on PATH")
    kind: Kind = "cli" if only_on_the_cli else "test-engine"
    stack = make_stack(kind, tmp_path, env={"PYTHONPATH": import_path()})
    stack.set_config("traceloop:baseUrl", traceloop.url)
    stack.set_config("traceloop:apiKey", traceloop.api_key, secret=True)
    stack.set_config("traceloop-staging:baseUrl", traceloop.url)
    stack.set_config("traceloop-staging:apiKey", traceloop.api_key, secret=True)
    stack.set_config("tenant", "acme", secret=True)
    for name in ("monitors.yaml", "staging.yaml"):
        (stack.project_dir / name).write_text("setups: {}\n")
    stack.write_program(program)
    result = stack.up()
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("script", [text for _, text in SCRIPTS], ids=[n for n, _ in SCRIPTS])
def test_documented_script_runs(script: str) -> None:
    exec(compile(script, "documentation", "exec"), {})


@pytest.mark.engine
@pytest.mark.parametrize("test", [text for _, text in TESTS], ids=[name for name, _ in TESTS])
def test_documented_test_passes(test: str, tmp_path: Path) -> None:
    if "automation" in test and find_cli() is None:
        pytest.skip("no Pulumi CLI on PATH")
    (tmp_path / "test_it.py").write_text(test)
    env = driver.child_environment({"PYTHONPATH": import_path()})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "test_it.py"],
        cwd=tmp_path,
        env={**env, "PULUMI_HOME": os.fspath(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "text", [text for _, text in blocks("yaml") if text.lstrip("# \n").startswith("setups:")]
)
def test_documented_file_loads(text: str, tmp_path: Path) -> None:
    (tmp_path / "monitors.yaml").write_text(text)
    if "evaluatrs" in text:  # the example of an invalid file
        with pytest.raises(FileError, match="did you mean"):
            load_setups(tmp_path / "monitors.yaml")
    else:
        assert load_setups(tmp_path / "monitors.yaml")


@pytest.mark.engine
@pytest.mark.parametrize("kind", KINDS)
def test_quick_start(kind: Kind, tmp_path: Path, traceloop: Emulator) -> None:
    """From an empty folder: the files and the commands of the README, without the download."""
    if kind == "cli" and find_cli() is None:
        pytest.skip("no Pulumi CLI on PATH")
    folder = tmp_path / "empty"
    folder.mkdir()
    text = README.read_text("utf-8")
    files = dict(FILE.findall(text))
    assert sorted(files) == ["Pulumi.yaml", "__main__.py", "requirements.txt"]
    for name, content in files.items():
        (folder / name).write_text(content)
    (commands,) = [each for kind, each in BLOCK.findall(text) if "pulumi stack init" in each]
    assert commands.splitlines()[0] == "pulumi install"
    if kind == "cli":
        (folder / "venv").symlink_to(sys.prefix)  # the result of `pulumi install`
        _run_commands(commands, folder, tmp_path, traceloop)
    else:
        stack = make_stack("test-engine", tmp_path, source=folder)
        stack.set_config("traceloop:baseUrl", traceloop.url)
        stack.set_config("traceloop:apiKey", traceloop.api_key, secret=True)
        assert stack.up().exit_code == 0
    assert set(traceloop.setups) == {"checkout-quality", "support-safety"}


def _run_commands(commands: str, folder: Path, home: Path, traceloop: Emulator) -> None:
    backend = home / "backend"
    backend.mkdir()
    env = driver.child_environment(
        {
            "PULUMI_HOME": os.fspath(home / "home"),
            "PULUMI_BACKEND_URL": backend.as_uri(),
            "PULUMI_CONFIG_PASSPHRASE": "for tests",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "TRACELOOP_BASE_URL": traceloop.url,
        }
    )
    for command in commands.splitlines()[1:]:
        done = subprocess.run(
            f"{command.partition('#')[0]} {'--yes' if command == 'pulumi up' else ''}",
            shell=True,
            cwd=folder,
            env=env,
            input=API_KEY,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
