"""One interface to two engines: the real Pulumi CLI, and this package's own test engine.

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
    """One step that an operation finished (or, in a preview, would take), in the engine's words."""

    op: str
    urn: str


@dataclass(frozen=True)
class ResourceState:
    """One resource of the stored state, values in the clear."""

    urn: str
    type: str
    id: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    #: Names of the top-level properties, of inputs or outputs, that are or hold a secret.
    secrets: frozenset[str]
    parent: str
    dependencies: tuple[str, ...]
    protect: bool
    retain_on_delete: bool
    #: Read by the program (`.get`), not managed by it.
    external: bool
    #: Already replaced: waits for its deletion at the end of the next good run.
    delete: bool

    @property
    def name(self) -> str:
        """The name that the program gave to the resource."""
        return self.urn.rsplit("::", 1)[-1]


@dataclass(frozen=True)
class Result:
    """What one operation did."""

    exit_code: int
    #: All that a user sees in the terminal, without colours.
    output: str
    #: The engine's own summary, the stack resource included: {"create": 2, "same": 1}.
    changes: dict[str, int]
    #: Finished steps in the order of their ends, providers left out.
    steps: tuple[Step, ...]
    #: Steps that were begun and failed.
    failed: tuple[Step, ...]
    #: The stack's outputs in the state after the operation, secrets in the clear.
    outputs: dict[str, Any]

    @property
    def diagnostics(self) -> str:
        """The messages, each once: the CLI may also show one while it arrives."""
        return self.output.rpartition("Diagnostics:")[2].rpartition("\nResources:")[0]

    def ops(self) -> dict[str, tuple[str, ...]]:
        """The steps by the resource's name, without the stack's own."""
        found: dict[str, tuple[str, ...]] = {}
        for step in self.steps:
            _, kind, name = step.urn.rsplit("::", 2)
            if kind != STACK_TYPE:
                found[name] = (*found.get(name, ()), step.op)
        return found


@dataclass(frozen=True)
class Command:
    """How an operation is started: a process of its own."""

    args: Sequence[str | Path]
    cwd: Path
    env: Mapping[str, str]
    #: What it reads first; the pipe must stay open until it ends.
    stdin: str = ""


class Running(Protocol):
    """An `up` that is under way."""

    def kill(self) -> None:
        """Kill the engine, the program and the provider at once, as a power cut would."""

    def wait(self) -> Result:
        """Wait for the end, also after a kill."""


class Stack(Protocol):
    """One stack of one project, its state in a folder of its own."""

    kind: Kind
    #: Where the program is: a copy, if the stack was made from an existing project.
    project_dir: Path

    @property
    def state_file(self) -> Path:
        """Where the engine keeps the state."""

    def write_program(self, source: str) -> None: ...
    def set_config(self, key: str, value: str, *, secret: bool = False) -> None: ...
    def remove_config(self, key: str) -> None: ...
    def preview(self) -> Result: ...
    def up(self, *, replace: Sequence[str] = (), refresh: bool = False) -> Result: ...
    def start_up(self, *args: str, replace: Sequence[str] = (), refresh: bool = False) -> Running:
        """Start an `up`, on the CLI with more options."""

    def refresh(self, *, expect_no_changes: bool = False) -> Result: ...
    def operate(self, operation: str, *args: str) -> Result:
        """Run an operation with more options, which only the CLI knows."""

    def edit_state(self, *args: str) -> None:
        """Run `pulumi state`, which only the CLI knows."""

    def destroy(self) -> Result: ...
    def command(self, operation: str) -> Command:
        """How `preview`, `up`, `refresh` or `destroy` is started, for who watches it run."""

    def state(self) -> list[ResourceState]: ...
    def lose_state(self) -> None: ...
    def import_state(self, deployment: Mapping[str, Any]) -> None:
        """Take the state from what `pulumi stack export` wrote; it must hold no secret."""

    def state_text(self) -> str: ...


def find_cli() -> Path | None:
    """The `pulumi` on PATH, if what it runs Python programs and providers with is there too."""
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
    """Make a stack that keeps everything under `directory`, or open the one that is there.

    `source` is an existing project (Pulumi.yaml, __main__.py): it is copied, never written to, and
    its own project name is used. `env` is added to the environment of program and provider.
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
    """The environment for an engine: this process's, less whatever of Pulumi's the user has set."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PULUMI_")}
    return {**env, "PYTHONDONTWRITEBYTECODE": "1", **extra}


def descendants(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
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
    for end in ends:  # a killed process may take a moment, and could do something in it
        select.select([end], [], [], 10)
        os.close(end)


def _processes() -> list[tuple[int, int]]:
    """(pid, parent's pid) of every process."""
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
        except OSError:  # it ended while we looked
            continue
        # The name, in parentheses, may itself hold spaces and parentheses.
        found.append((int(stat.parent.name), int(text.rpartition(")")[2].split()[1])))
    return found
