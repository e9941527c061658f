"""The measured programs, each in a separate stack."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tests.engine import Stack, make_stack

if TYPE_CHECKING:
    from .measure import Service

REPOSITORY = Path(__file__).parent.parent

PROGRAMS = {
    "empty": "import pulumi\n",
    "smallest": """\
import pulumi
from pulumi.dynamic import CreateResult, Resource, ResourceProvider

class Smallest(ResourceProvider):
    serialize_as_secret_always = False

    def create(self, props):
        return CreateResult("id", props)

class One(Resource):
    def __init__(self):
        super().__init__(Smallest(), "one", {})

One()
""",
    "group": """\
AutoMonitorSetupGroup("g", {f"m-{n:05}": setup(n) for n in range(count)})
""",
    "resources": """\
for n in range(count):
    AutoMonitorSetup(f"m-{n:05}", **setup(n))
""",
}

PREAMBLE = """\
import pulumi
from pulumi_traceloop import AutoMonitorSetup, AutoMonitorSetupGroup, span

config = pulumi.Config()
count, changed = config.require_int("count"), config.get_int("changed") or 0

def setup(n):
    model = "gpt-5" if n < changed else "gpt-4o"
    return {"selector": [span("gen_ai.request.model").equals(model), span("n").equals(str(n))],
            "evaluators": ["faithfulness", "answer-relevancy"]}

"""


def make(folder: str, service: Service, declared: str, count: int, *, cli: bool) -> Stack:
    """Return a stack that declares *count* setups.

    Args:
        folder: the folder for the stack's files.
        service: the service to write to.
        declared: the kind of declaration, a key of `PROGRAMS`.
        count: the number of setups.
        cli: whether it runs on the Pulumi CLI, or on the test engine.

    """
    stack = make_stack(
        "cli" if cli else "test-engine",
        Path(folder),
        env={"PYTHONPATH": os.fspath(REPOSITORY), "TRACELOOP_API_KEY": service.api_key},
    )
    own = declared in ("empty", "smallest")
    stack.write_program(("" if own else PREAMBLE) + PROGRAMS[declared])
    stack.set_config("traceloop:baseUrl", service.url)
    stack.set_config("count", str(count))
    return stack
