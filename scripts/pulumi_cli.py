"""Where the Pulumi CLI comes from: PATH, or a download by the SDK's own installer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.engine import find_cli

#: Where a downloaded CLI is kept; git ignores it.
DOWNLOADED = Path(__file__).parent.parent / ".cache" / "pulumi"

#: How long a download may take, in seconds.
TIME_LIMIT = 60

_INSTALL = """\
import sys
from pulumi.automation import PulumiCommand
PulumiCommand.install(root=sys.argv[1])
"""


def use_downloaded() -> None:
    """Put a CLI that was downloaded before on PATH, behind the user's own."""
    path = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join(part for part in (path, str(DOWNLOADED / "bin")) if part)


def provide() -> str | None:
    """Find or download the CLI and put it on PATH; return why there is none, if so."""
    use_downloaded()
    if find_cli():
        return None
    print("No Pulumi CLI on PATH: downloading one ...", flush=True)
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", _INSTALL, str(DOWNLOADED)],
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"its download took longer than {TIME_LIMIT} s"
    if find_cli():
        return None
    lines = done.stderr.strip().splitlines()
    return f"its download failed ({lines[-1][:120] if lines else 'no reason given'})"
