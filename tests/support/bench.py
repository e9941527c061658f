"""A stack of the engine's own sample provider, on either engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.engine import Kind, ResourceState, make_stack
from tests.support import REPOSITORY

HEADER = """
import pulumi
from pulumi import ResourceOptions as Opts
from tests.engine.sample_provider import Pair, Sample
"""


class Bench:
    """A stack of samples, and the folder that is their server."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.server = folder / "server"
        self.server.mkdir(exist_ok=True)
        env = {"PYTHONPATH": str(REPOSITORY), "SAMPLE_DIR": str(self.server)}
        self.folder, self.kind, self.env = folder, kind, env
        self.stack = make_stack(kind, folder, project="sample", env=env)

    def program(self, source: str) -> None:
        self.stack.write_program(HEADER + source)
        (self.server / "calls.jsonl").write_text("")

    def calls(self) -> list[str]:
        """The provider's methods that were called since the program was written."""
        return [call["method"] for call in self.recorded()]

    def recorded(self) -> list[dict[str, Any]]:
        lines = (self.server / "calls.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def resource(self, name: str) -> ResourceState:
        (found,) = [each for each in self.stack.state() if each.name == name and not each.delete]
        return found

    def names(self) -> list[str]:
        return sorted(each.name for each in self.stack.state() if each.name != "sample-dev")

    def remote(self, name: str) -> Path:
        """The file that the sample server keeps for a resource."""
        return self.server / f"{self.resource(name).id}.json"
