"""The `pulumi-traceloop` command: the extra ``cli``.

Reading order: `app`, `commands` (options, help, exit codes), `preview` and `markdown` (``plan`` and
``preview``), `status`, `export`, `match`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import NoReturn

from .._text import use_utf8

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command, which ends the process with its exit code."""
    use_utf8()
    # Found, not imported: `--help` and `plan` are faster without rich.
    if not all(find_spec(name) for name in ("click", "rich")):
        print(  # noqa: T201
            'pulumi-traceloop: its libraries are missing: pip install "pulumi-traceloop[cli]"',
            file=sys.stderr,
        )
        sys.exit(2)
    from .app import cli

    cli.main(argv, prog_name="pulumi-traceloop")
