"""Runs instrumented programs with Traceloop's SDK, in the environment that `make` builds for it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.telemetry.model_api import ModelApi

#: `make .venv-sdk/.ready`
_SDK = Path(__file__).parent.parent.parent / ".venv-sdk"

_PROGRAM = Path(__file__).with_name("shop.py")

#: How long a program may run, in seconds.
_LIMIT = 120


class ProgramError(Exception):
    """A program failed; the text is its output."""


def has_sdk() -> bool:
    """Whether the environment exists."""
    return (_SDK / ".ready").exists()


def service(name: str) -> list[str]:
    """Return Python's arguments for a service of the shop."""
    return [str(_PROGRAM), name]


def run_all(programs: Iterable[Sequence[str]], *, base_url: str, api_key: str) -> None:
    """Run programs side by side; each sends its spans before it ends.

    Args:
        programs: Python's arguments for each; see `service`.
        base_url: Where the spans go.
        api_key: The key for it.

    Raises:
        ProgramError: One of them failed.

    """
    with ModelApi() as models:
        environment = {
            **os.environ,
            "TRACELOOP_BASE_URL": base_url,
            "TRACELOOP_API_KEY": api_key,
            "TRACELOOP_TELEMETRY": "false",  # usage data for the SDK's makers
            "MODEL_API": models.url,
            "OPENAI_BASE_URL": f"{models.url}/v1",
            "OPENAI_API_KEY": "none",
        }
        running = [
            subprocess.Popen(
                [str(_SDK / "bin" / "python"), *arguments],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for arguments in programs
        ]
        try:
            for process in running:
                output, _ = process.communicate(timeout=_LIMIT)
                if process.returncode:
                    raise ProgramError(output)
        finally:
            for process in running:
                process.kill()
                process.communicate()
