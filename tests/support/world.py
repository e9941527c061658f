"""A stack on an engine, and the emulated Traceloop project that it is for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pulumi_traceloop.emulator import Emulator
from pulumi_traceloop.emulator.routes import (
    BULK_ROUTE,
    DELETE_ROUTE,
    GET_ROUTE,
    LIST_ROUTE,
    UPSERT_ROUTE,
)
from tests.engine import ResourceState, Result, Stack

_ROUTES = {
    LIST_ROUTE: "list",
    GET_ROUTE: "get",
    UPSERT_ROUTE: "put",
    BULK_ROUTE: "bulk",
    DELETE_ROUTE: "delete",
}

#: The start of every program of the scenarios.
PREAMBLE = """\
import pulumi
import pulumi_traceloop as traceloop
from pulumi_traceloop import AutoMonitorSetup, AutoMonitorSetupGroup, resource, span

config = pulumi.Config()

def setup(value="openai", *evaluators):
    return {
        "selector": [span("gen_ai.system").equals(value)],
        "evaluators": list(evaluators or ["faithfulness"]),
    }

def one(name, value="openai", *evaluators, **kwargs):
    return AutoMonitorSetup(name, **setup(value, *evaluators), **kwargs)

def group(name, setups, **kwargs):
    return AutoMonitorSetupGroup(name, setups, **kwargs)
"""


class World:
    """A stack and the emulated Traceloop project that it is for."""

    def __init__(self, stack: Stack, emulator: Emulator, *, configure: bool = True) -> None:
        self.stack = stack
        self.traceloop = emulator
        #: The requests of the last operation, such as ``{"list": 1, "bulk": 10}``.
        self.requests: dict[str, int] = {}
        if configure:
            self.configure()

    def configure(self) -> None:
        """Give the stack the emulator's URL and key."""
        self.stack.set_config("traceloop:baseUrl", self.traceloop.url)
        self.stack.set_config("traceloop:apiKey", self.traceloop.api_key, secret=True)

    def needs_cli(self, feature: str) -> None:
        """Skip the test on the test engine, which lacks this feature."""
        if self.stack.kind == "test-engine":
            pytest.skip(f"the test engine knows no {feature}")

    def planned(self, program: str, plan: Path) -> Result:
        """Save a preview's plan and run the update that it constrains."""
        self._write(program)
        self._checked(lambda: self.stack.operate("preview", "--save-plan", str(plan)), fails=False)
        return self._checked(lambda: self.stack.operate("up", "--plan", str(plan)), fails=False)

    def strict(self, program: str) -> Result:
        """Run an update that is constrained by its own preview."""
        self._write(program)
        options = ("--skip-preview=false", "--strict")
        return self._checked(lambda: self.stack.operate("up", *options), fails=False)

    def preview(self, program: str | None = None, *, fails: bool = False) -> Result:
        self._write(program)
        return self._checked(self.stack.preview, fails)

    def up(
        self,
        program: str | None = None,
        *,
        fails: bool = False,
        replace: tuple[str, ...] = (),
        refresh: bool = False,
    ) -> Result:
        self._write(program)
        return self._checked(lambda: self.stack.up(replace=replace, refresh=refresh), fails)

    def refresh(self, *, expect_no_changes: bool = False, fails: bool = False) -> Result:
        return self._checked(lambda: self.stack.refresh(expect_no_changes=expect_no_changes), fails)

    def destroy(self, *, fails: bool = False) -> Result:
        return self._checked(self.stack.destroy, fails)

    def resource(self, kind: str) -> ResourceState:
        """Return the only resource in the state whose type ends with *kind*."""
        (found,) = [r for r in self.stack.state() if r.type.endswith(f":{kind}") and not r.delete]
        return found

    def urn(self, kind: str) -> str:
        """Return the URN of the only resource whose type ends with *kind*."""
        return self.resource(kind).urn

    @property
    def monitors(self) -> dict[str, str]:
        """The project's setups: the value of the first rule by external_id."""
        return {i: s["init_rules"][0].get("value", "") for i, s in self.traceloop.setups.items()}

    def _write(self, program: str | None) -> None:
        if program is not None:
            self.stack.write_program(PREAMBLE + program)

    def _checked(self, operation: Callable[[], Result], fails: bool) -> Result:
        self.traceloop.reset_counts()
        result = operation()
        counted = Counter(self.traceloop.requests)
        self.requests = {_ROUTES.get(route, route): n for route, n in counted.items()}
        assert (result.exit_code != 0) is fails, result.output
        assert self.traceloop.api_key not in result.output
        assert self.traceloop.api_key not in self.stack.state_text()
        return result


def lines(output: str) -> list[str]:
    """Return the lines of *output* as words, so that columns do not matter."""
    return [" ".join(line.split()) for line in output.splitlines()]
