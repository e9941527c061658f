"""Drives the test engine: each operation is a separate process (deployment.py)."""

from __future__ import annotations

import json
import os
import sys
import tempfile
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
    kill_tree,
)
from .spawner import Spawned
from .state import Record, State, load
from .wire import plain, secret_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PACKAGE = "tests.engine"
_MAIN = f"{_PACKAGE}.deployment:main"
_FAULT = 70  # as in deployment.py, which is not imported here because it imports the SDK


class LocalStack:
    """A stack on the test engine. Secrets of the configuration are never written to a file."""

    kind: Kind = "test-engine"

    def __init__(
        self, directory: Path, project_dir: Path, project: str, stack: str, env: dict[str, str]
    ) -> None:
        self.project_dir = project_dir
        self._stack = stack
        self._env = env
        self._project = project
        self.state_file = directory / "state.jsonl"
        self._config: dict[str, str] = {}
        self._secret_keys: set[str] = set()
        self._read_project()

    def _read_project(self) -> None:
        """Read the name and configuration of an existing project."""
        file = self.project_dir / "Pulumi.yaml"
        described = yaml.safe_load(file.read_text()) if file.exists() else {}
        self._project = described.get("name", self._project)
        if described.get("main"):
            raise NotImplementedError("unsupported: `main` in Pulumi.yaml")
        file = self.project_dir / f"Pulumi.{self._stack}.yaml"
        settings = yaml.safe_load(file.read_text()) if file.exists() else {}
        defaults = {
            key: value["default"] if isinstance(value, dict) else value
            for key, value in (described.get("config") or {}).items()
            if not isinstance(value, dict) or "default" in value
        }
        for key, value in {**defaults, **(settings.get("config") or {})}.items():
            if isinstance(value, dict | list):
                raise NotImplementedError(f"unsupported: a structured or encrypted value of {key}")
            text = str(value).lower() if isinstance(value, bool) else str(value)
            self.set_config(key, text)

    def write_program(self, source: str) -> None:
        (self.project_dir / "__main__.py").write_text(source)

    def set_config(self, key: str, value: str, *, secret: bool = False) -> None:
        key = self._full(key)
        self._config[key] = value
        (self._secret_keys.add if secret else self._secret_keys.discard)(key)

    def remove_config(self, key: str) -> None:
        self._config.pop(self._full(key), None)
        self._secret_keys.discard(self._full(key))

    def _full(self, key: str) -> str:
        return key if ":" in key else f"{self._project}:{key}"

    def preview(self) -> Result:
        return self._start("preview").wait()

    def up(self, *, replace: Sequence[str] = (), refresh: bool = False) -> Result:
        return self.start_up(replace=replace, refresh=refresh).wait()

    def start_up(
        self, *args: str, replace: Sequence[str] = (), refresh: bool = False
    ) -> LocalRunning:
        if args:
            raise NotImplementedError(f"the test engine knows no up {' '.join(args)}")
        return self._start("up", replace=list(replace), refresh=refresh)

    def refresh(self, *, expect_no_changes: bool = False) -> Result:
        return self._start("refresh", expect_no_changes=expect_no_changes).wait()

    def operate(self, operation: str, *args: str) -> Result:
        raise NotImplementedError(f"the test engine knows no {operation} {' '.join(args)}")

    def edit_state(self, *args: str) -> None:
        raise NotImplementedError(f"the test engine knows no state {' '.join(args)}")

    def destroy(self) -> Result:
        return self._start("destroy").wait()

    def state(self) -> list[ResourceState]:
        return [_resource_state(record) for record in load(self.state_file).values()]

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs in the state."""
        found = (each for each in load(self.state_file).values() if each.type == STACK_TYPE)
        record = next(found, None)
        return {k: plain(v) for k, v in record.outputs.items()} if record else {}

    def lose_state(self) -> None:
        self.state_file.unlink(missing_ok=True)

    def import_state(self, deployment: Mapping[str, Any]) -> None:
        resources = deployment["deployment"]["resources"]
        kept = [each for each in resources if not each["type"].startswith("pulumi:providers:")]
        records = {
            key: Record(
                urn=each["urn"],
                type=each["type"],
                custom=each["custom"],
                id=each.get("id", ""),
                inputs=each.get("inputs", {}),
                outputs=each.get("outputs", {}),
                parent=each.get("parent", ""),
                dependencies=each.get("dependencies", []),
                property_dependencies=each.get("propertyDependencies", {}),
                key=key,
            )
            for key, each in enumerate(kept, start=1)
        }
        State(self.state_file, records)

    def state_text(self) -> str:
        return self.state_file.read_text() if self.state_file.exists() else ""

    def command(self, operation: str) -> Command:
        return self._command(operation, os.devnull)

    def _command(self, kind: str, result_file: str, **options: Any) -> Command:
        root = str(Path(__file__).parents[2])
        # For the engine's own output, whatever encoding its children's pipes have.
        env = child_environment(self._env) | {"PYTHONIOENCODING": "utf-8"}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [root, env.get("PYTHONPATH")]))
        request = {
            "kind": kind,
            "project": self._project,
            "stack": self._stack,
            "project_dir": str(self.project_dir.resolve()),
            "state_file": str(self.state_file.resolve()),
            "result_file": result_file,
            "config": self._config,
            "secret_keys": sorted(self._secret_keys),
            "env": child_environment(self._env),  # not what the engine itself was given
            "replace": [],
            **options,
        }
        args = [sys.executable, "-m", _PACKAGE]
        return Command(args, Path.cwd(), env, json.dumps(request) + "\n")

    def _start(self, kind: str, **options: Any) -> LocalRunning:
        handle, result_file = tempfile.mkstemp(suffix=".json")
        os.close(handle)
        command = self._command(kind, result_file, **options)
        engine = Spawned(_MAIN, command.cwd, command.env, command.stdin)
        return LocalRunning(self, engine, Path(result_file))


class LocalRunning:
    """A running operation of the test engine."""

    def __init__(self, stack: LocalStack, process: Spawned, result: Path) -> None:
        self._stack = stack
        self._process = process
        self._result = result

    def kill(self) -> None:
        if self._process.running:
            kill_tree(self._process.pid)

    def wait(self) -> Result:
        output = self._process.stdout.read()
        exit_code = self._process.wait()
        if exit_code == _FAULT:
            raise RuntimeError(f"the test engine itself failed:\n{output}")
        text = self._result.read_text()
        self._result.unlink()
        found = json.loads(text) if text else {"changes": {}, "steps": [], "failed": []}
        steps, failed = ([Step(*each) for each in found[kind]] for kind in ("steps", "failed"))
        return Result(
            exit_code, output, found["changes"], tuple(steps), tuple(failed), self._stack.outputs()
        )


def _resource_state(record: Record) -> ResourceState:
    return ResourceState(
        urn=record.urn,
        type=record.type,
        id=record.id,
        inputs={k: plain(v) for k, v in record.inputs.items()},
        outputs={k: plain(v) for k, v in record.outputs.items()},
        secrets=secret_names(record.inputs, record.outputs),
        parent=record.parent,
        dependencies=tuple(sorted(record.dependencies)),
        protect=record.protect,
        retain_on_delete=record.retain_on_delete,
        external=record.external,
        delete=record.delete,
    )
