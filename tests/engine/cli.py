"""Drives the real Pulumi CLI, with its own home and file backend."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from .driver import (
    STACK_TYPE,
    Command,
    Kind,
    ResourceState,
    Result,
    Step,
    child_environment,
    find_cli,
    kill_tree,
)
from .wire import SIGNATURE, map_secrets, secret_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PROVIDER_TYPES = "pulumi:providers:"


#: How often a state that is being written is read at most.
_EXPORTS = 20


class CliStack:
    """A stack driven by the real CLI."""

    kind: Kind = "cli"

    def __init__(
        self, directory: Path, project_dir: Path, project: str, stack: str, env: dict[str, str]
    ) -> None:
        cli = find_cli()
        if cli is None:
            raise RuntimeError("no pulumi with its Python language host and provider on PATH")
        self.project_dir = project_dir
        self._cli = cli
        self._stack = stack
        self._backend = directory / "backend"
        self._events = directory / "events"
        self._events.mkdir(exist_ok=True)
        self._env = child_environment(
            {
                **env,
                "PULUMI_HOME": str(directory / "home"),
                "PULUMI_BACKEND_URL": self._backend.as_uri(),
                "PULUMI_CONFIG_PASSPHRASE": "for tests",
                "PULUMI_SKIP_UPDATE_CHECK": "true",
                "PULUMI_DEBUG_COMMANDS": "true",  # enables --event-log
            }
        )
        self._project = self._write_project_file(project)
        self._ensure_stack()

    def _write_project_file(self, project: str) -> str:
        """Make the program run in this interpreter's environment, whatever the project names."""
        file = self.project_dir / "Pulumi.yaml"
        described: dict[str, Any] = yaml.safe_load(file.read_text()) if file.exists() else {}
        described.setdefault("name", project)
        options: dict[str, Any] = {}
        if sys.prefix != sys.base_prefix:
            options["virtualenv"] = sys.prefix
        else:
            self._env["PULUMI_PYTHON_CMD"] = sys.executable
        described["runtime"] = {"name": "python", "options": options}
        file.write_text(yaml.safe_dump(described))
        return str(described["name"])

    def _ensure_stack(self) -> None:
        self._backend.mkdir(exist_ok=True)
        if not self.state_file.exists():
            self._run("stack", "init", self._stack)

    def write_program(self, source: str) -> None:
        (self.project_dir / "__main__.py").write_text(source)

    def set_config(self, key: str, value: str, *, secret: bool = False) -> None:
        kind = "--secret" if secret else "--plaintext"
        self._run("config", "set", "-s", self._stack, kind, key, stdin=value)

    def remove_config(self, key: str) -> None:
        self._run("config", "rm", "-s", self._stack, key)

    def preview(self) -> Result:
        return self._start(self.command("preview")).wait()

    def up(self, *, replace: Sequence[str] = (), refresh: bool = False) -> Result:
        return self.start_up(replace=replace, refresh=refresh).wait()

    def start_up(
        self, *args: str, replace: Sequence[str] = (), refresh: bool = False
    ) -> CliRunning:
        options = [*args, *(part for urn in replace for part in ("--replace", urn))]
        return self._start(self.command("up"), *options, *(["--refresh"] if refresh else []))

    def refresh(self, *, expect_no_changes: bool = False) -> Result:
        expected = ["--expect-no-changes"] if expect_no_changes else []
        return self._start(self.command("refresh"), *expected).wait()

    def operate(self, operation: str, *args: str) -> Result:
        return self._start(self.command(operation), *args).wait()

    def edit_state(self, *args: str) -> None:
        self._run("state", *args, "-y", "-s", self._stack)

    def destroy(self) -> Result:
        return self._start(self.command("destroy")).wait()

    def command(self, operation: str) -> Command:
        agreed = [] if operation == "preview" else ["-y", "-f"]
        flags = ["-s", self._stack, "--non-interactive", "--color", "never"]
        return Command([self._cli, operation, *agreed, *flags], self.project_dir, self._env)

    def state(self) -> list[ResourceState]:
        return [
            _resource_state(each)
            for each in self._stored()
            if not each["type"].startswith(_PROVIDER_TYPES)
        ]

    def lose_state(self) -> None:
        shutil.rmtree(self._backend)
        self._ensure_stack()

    def import_state(self, deployment: Mapping[str, Any]) -> None:
        self._run("stack", "import", "-s", self._stack, stdin=json.dumps(deployment))

    def state_text(self) -> str:
        files = sorted(each for each in self._backend.rglob("*") if each.is_file())
        return "\n".join(filter(None, map(_text, files)))

    def unlock(self) -> None:
        """Remove the lock of a killed CLI, as a user would have to.

        The file backend writes the state in place. If the CLI was killed meanwhile, its backup from
        before the write replaces the state.
        """
        try:
            json.loads(self.state_file.read_text())
        except ValueError:
            shutil.copy(f"{self.state_file}.bak", self.state_file)
        self._run("cancel", "-y", "-s", self._stack)

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs in the state."""
        for each in self._stored():
            if each["type"] == STACK_TYPE:
                return {k: _plain(v) for k, v in each.get("outputs", {}).items()}
        return {}

    @property
    def state_file(self) -> Path:
        return self._backend / ".pulumi" / "stacks" / self._project / f"{self._stack}.json"

    def _stored(self) -> list[dict[str, Any]]:
        text = self.state_file.read_text()
        if SIGNATURE in text:  # only the CLI can decrypt secrets; without any, the file is faster
            exported = self._export()
            deployment = json.loads(exported)["deployment"]
        else:
            deployment = json.loads(text)["checkpoint"].get("latest") or {}
        return deployment.get("resources") or []

    def _export(self) -> str:
        for _ in range(_EXPORTS):
            with suppress(_BeingWrittenError):
                return self._run("stack", "export", "--show-secrets", "-s", self._stack)
        raise RuntimeError("pulumi stack export: the state is still being written")

    def _run(self, *args: str, stdin: str = "") -> str:
        done = subprocess.run(
            [self._cli, *args, "--non-interactive", "--color", "never"],
            cwd=self.project_dir,
            env=self._env,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            being_written = "failed to load checkpoint: EOF" in done.stderr
            error = _BeingWrittenError if being_written else RuntimeError
            raise error(f"pulumi {' '.join(args)}: {done.stdout}{done.stderr}")
        return done.stdout

    def _start(self, command: Command, *args: str) -> CliRunning:
        with tempfile.NamedTemporaryFile(dir=self._events, suffix=".json", delete=False) as file:
            events = Path(file.name)
        process = subprocess.Popen(
            [*command.args, *args, "--event-log", events],
            cwd=command.cwd,
            env=command.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return CliRunning(self, process, events)


class _BeingWrittenError(RuntimeError):
    """The file backend writes the state in place: another command of the CLI is at it."""


class CliRunning:
    """A running operation of the CLI."""

    def __init__(self, stack: CliStack, process: subprocess.Popen[str], events: Path) -> None:
        self._stack = stack
        self._process = process
        self._events = events

    def kill(self) -> None:
        if self._process.poll() is None:
            kill_tree(self._process.pid)
            self._process.wait()
            self._stack.unlock()

    def wait(self) -> Result:
        output, _ = self._process.communicate()
        changes: dict[str, int] = {}
        steps: list[Step] = []
        failed: list[Step] = []
        for event in _events(self._events):
            if summary := event.get("summaryEvent"):
                changes = dict(summary["resourceChanges"] or {})
            for kind, into in (("resOutputsEvent", steps), ("resOpFailedEvent", failed)):
                if found := event.get(kind):
                    step = found["metadata"]
                    if not step["type"].startswith(_PROVIDER_TYPES):
                        into.append(Step(step["op"], step["urn"]))
        return Result(
            self._process.returncode,
            output,
            changes,
            tuple(steps),
            tuple(failed),
            self._stack.outputs(),
        )


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except FileNotFoundError:  # a running CLI has just renamed it
        return ""


def _events(file: Path) -> list[dict[str, Any]]:
    lines = file.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]  # a kill truncates a line


def _resource_state(stored: dict[str, Any]) -> ResourceState:
    inputs, outputs = stored.get("inputs") or {}, stored.get("outputs") or {}
    return ResourceState(
        urn=stored["urn"],
        type=stored["type"],
        id=stored.get("id", ""),
        inputs={k: _plain(v) for k, v in inputs.items()},
        outputs={k: _plain(v) for k, v in outputs.items()},
        secrets=secret_names(inputs, outputs),
        parent=stored.get("parent", ""),
        dependencies=tuple(sorted(stored.get("dependencies") or ())),
        protect=stored.get("protect", False),
        retain_on_delete=stored.get("retainOnDelete", False),
        external=stored.get("external", False),
        delete=stored.get("delete", False),
    )


def _plain(value: Any) -> Any:
    """Return the value with its secrets, which the CLI exports as JSON texts, in plain text."""
    return map_secrets(value, lambda secret: json.loads(secret["plaintext"]))
