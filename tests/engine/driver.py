"""One interface to two engines: the real Pulumi CLI and the test engine.

stack = make_stack("test-engine", tmp_path, env={"PYTHONPATH": str(repo)})
stack.write_program("import pulumi; pulumi.export('a', 1)")
result = stack.up()
assert result.changes == {"create": 1}
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Kind = Literal["test-engine", "cli"]
KINDS: tuple[Kind, ...] = ("test-engine", "cli")
STACK_TYPE = "pulumi:pulumi:Stack"


@dataclass(frozen=True)
class Step:
    """A finished step of an operation, or a planned one of a preview, with the engine's op."""

    op: str
    urn: str


@dataclass(frozen=True)
class ResourceState:
    """One resource of the stored state, with secrets in plain text."""

    urn: str
    type: str
    id: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    #: The top-level inputs and outputs that are or contain a secret.
    secrets: frozenset[str]
    parent: str
    dependencies: tuple[str, ...]
    protect: bool
    retain_on_delete: bool
    #: Whether the program reads it (`.get`) without managing it.
    external: bool
    #: Whether it was replaced, and is deleted at the end of the next successful run.
    delete: bool

    @property
    def name(self) -> str:
        """The resource's name in the program."""
        return self.urn.rsplit("::", 1)[-1]


@dataclass(frozen=True)
class Result:
    """The result of one operation."""

    exit_code: int
    #: The terminal output, without colours.
    output: str
    #: The engine's summary, including the stack resource: {"create": 2, "same": 1}.
    changes: dict[str, int]
    #: The finished steps in order, without providers.
    steps: tuple[Step, ...]
    #: The failed steps.
    failed: tuple[Step, ...]
    #: The stack's outputs in the state after the operation, with secrets in plain text.
    outputs: dict[str, Any]

    @property
    def diagnostics(self) -> str:
        """The messages, each once: the CLI may display one twice."""
        return self.output.rpartition("Diagnostics:")[2].rpartition("\nResources:")[0]

    def ops(self) -> dict[str, tuple[str, ...]]:
        """The ops by resource name, without the stack resource."""
        found: dict[str, tuple[str, ...]] = {}
        for step in self.steps:
            _, kind, name = step.urn.rsplit("::", 2)
            if kind != STACK_TYPE:
                found[name] = (*found.get(name, ()), step.op)
        return found


@dataclass(frozen=True)
class Command:
    """The process to start for an operation."""

    args: Sequence[str | Path]
    cwd: Path
    env: Mapping[str, str]
    #: The first input; the pipe must stay open until the process ends.
    stdin: str = ""


class Running(Protocol):
    """A running `up`."""

    def kill(self) -> None:
        """Kill the engine, the program and the provider at once, as a power cut would."""

    def wait(self) -> Result:
        """Wait for the end, even after a kill."""


class Stack(Protocol):
    """One stack of one project, with its state in a separate folder."""

    kind: Kind
    #: The program's folder: a copy, if the stack was made from an existing project.
    project_dir: Path

    @property
    def state_file(self) -> Path:
        """The file with the state."""

    def write_program(self, source: str) -> None: ...
    def set_config(self, key: str, value: str, *, secret: bool = False) -> None: ...
    def remove_config(self, key: str) -> None: ...
    def preview(self) -> Result: ...
    def up(self, *, replace: Sequence[str] = (), refresh: bool = False) -> Result: ...
    def start_up(self, *args: str, replace: Sequence[str] = (), refresh: bool = False) -> Running:
        """Start an `up`; further options work on the CLI only."""

    def refresh(self, *, expect_no_changes: bool = False) -> Result: ...
    def operate(self, operation: str, *args: str) -> Result:
        """Run an operation with further options, on the CLI only."""

    def edit_state(self, *args: str) -> None:
        """Run `pulumi state`, on the CLI only."""

    def destroy(self) -> Result: ...
    def command(self, operation: str) -> Command:
        """Return the process to start for `preview`, `up`, `refresh` or `destroy`."""

    def state(self) -> list[ResourceState]: ...
    def lose_state(self) -> None: ...
    def import_state(self, deployment: Mapping[str, Any]) -> None:
        """Import a state that `pulumi stack export` wrote; it must not contain secrets."""

    def state_text(self) -> str: ...


def find_cli() -> Path | None:
    """Return the `pulumi` on PATH, if its Python language host is there too."""
    needed = ("pulumi-language-python", "pulumi-resource-pulumi-python")
    cli = shutil.which("pulumi")
    return Path(cli) if cli and all(map(shutil.which, needed)) else None


def make_stack(
    kind: Kind,
    directory: Path,
    *,
    project: str = "test-project",
    stack: str = "dev",
    env: Mapping[str, str] | None = None,
    source: Path | None = None,
) -> Stack:
    """Create or open a stack with all its files under `directory`.

    `source` is an existing project (Pulumi.yaml, __main__.py), which is copied with its project
    name. `env` is added to the environment of program and provider.
    """
    from .cli import CliStack
    from .local import LocalStack

    project_dir = directory / "project"
    project_dir.mkdir(parents=True, exist_ok=True)
    if source is not None:
        ignored = shutil.ignore_patterns(".*", "__pycache__", "venv", "node_modules")
        shutil.copytree(source, project_dir, ignore=ignored, dirs_exist_ok=True)
    made: type[CliStack | LocalStack] = CliStack if kind == "cli" else LocalStack
    return made(directory, project_dir, project, stack, dict(env or {}))


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without the user's Pulumi settings, for an engine."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PULUMI_")}
    return {**env, "PYTHONDONTWRITEBYTECODE": "1", **extra}


def descendants(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for child, parent in _processes():
        children.setdefault(parent, []).append(child)
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def kill_tree(pid: int) -> None:
    """Kill a process and all its descendants, which may lead process groups of their own."""
    doomed = descendants(pid)
    ends: list[int] = []
    for each in doomed:
        with contextlib.suppress(ProcessLookupError):
            if sys.platform == "linux":
                ends.append(os.pidfd_open(each))
            os.kill(each, signal.SIGKILL)
    for end in ends:  # a killed process may run for another moment
        select.select([end], [], [], 10)
        os.close(end)


def _processes() -> list[tuple[int, int]]:
    """Return ``(pid, parent's pid)`` of every process."""
    if not sys.platform.startswith("linux"):
        listing = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
        )
        pairs = (line.split() for line in listing.stdout.splitlines())
        return [(int(pid), int(parent)) for pid, parent in pairs]
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:  # it has just ended
            continue
        # The name, in parentheses, may contain spaces and parentheses.
        found.append((int(stat.parent.name), int(text.rpartition(")")[2].split()[1])))
    return found
