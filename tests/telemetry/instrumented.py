"""Runs services of the shop with Traceloop's SDK, in the environment that `make` builds for it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.telemetry.model_api import model_api

#: `make .venv-sdk/.ready`
_SDK = Path(__file__).parent.parent.parent / ".venv-sdk"

_PROGRAM = Path(__file__).with_name("shop.py")

#: How long a service may run, in seconds.
_LIMIT = 120


class ServiceError(Exception):
    """A service failed; the text is what it printed."""


def has_sdk() -> bool:
    """Whether the environment is there."""
    return (_SDK / ".ready").exists()


def run_services(services: Iterable[str], *, base_url: str, api_key: str) -> None:
    """Run services side by side; each sends its spans before it ends.

    Args:
        services: their names, as in `shop`.
        base_url: where the spans go.
        api_key: the key for that.

    Raises:
        ServiceError: one of them failed.

    """
    with model_api() as models:
        environment = {
            **os.environ,
            "TRACELOOP_BASE_URL": base_url,
            "TRACELOOP_API_KEY": api_key,
            "TRACELOOP_TELEMETRY": "false",  # about the SDK's use, to its makers
            "MODEL_API": models,
        }
        running = [
            subprocess.Popen(
                [str(_SDK / "bin" / "python"), str(_PROGRAM), service],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for service in services
        ]
        try:
            for process in running:
                output, _ = process.communicate(timeout=_LIMIT)
                if process.returncode:
                    raise ServiceError(output)
        finally:
            for process in running:
                process.kill()
                process.communicate()
