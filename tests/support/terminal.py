"""Commands in separate processes, which import the package from this repository."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from click.testing import Result

from tests.support import REPOSITORY

#: The fixture `run`.
Run = Callable[..., Result]


def import_path() -> str:
    """Return a PYTHONPATH that begins with the repository."""
    return os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment, with the repository on the import path."""
    return {**os.environ, "PYTHONPATH": import_path(), **more}


def python(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run this interpreter and wait for its end; the caller checks the exit code."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
