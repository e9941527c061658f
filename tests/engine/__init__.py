"""Runs Pulumi programs end to end: on the real CLI, or on a small engine for tests only.

README.md describes it; driver.py is the interface to both.
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
