"""Runs Pulumi programs end to end: on the real CLI, or on a small engine for tests only.

driver.py      the one interface to both: start reading here
cli.py         the real CLI
local.py       the test engine, as a process for each operation:
deployment.py    the operation: refreshes, deletes, the result
monitor.py       what the program registers, turned into steps
provider.py      calls to the SDK's own provider host
child.py         how program and provider are started
spawner.py       how the operation's process is started
state.py, wire.py, display.py
"""

from .driver import (
    KINDS,
    Command,
    Kind,
    ResourceState,
    Result,
    Running,
    Stack,
    Step,
    descendants,
    find_cli,
    make_stack,
)

__all__ = [
    "KINDS",
    "Command",
    "Kind",
    "ResourceState",
    "Result",
    "Running",
    "Stack",
    "Step",
    "descendants",
    "find_cli",
    "make_stack",
]
