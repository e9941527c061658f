"""`pulumi-traceloop emulator`: a local Traceloop API."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

import click

from .common import Unusable

__all__ = ["emulator"]


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def emulator(arguments: Sequence[str]) -> None:
    """Start a local emulator of the API; --help shows its options."""
    if find_spec("aiohttp") is None:
        raise Unusable(
            'the emulator\'s libraries are missing: pip install "pulumi-traceloop[emulator]"'
        )
    from ...emulator.__main__ import main

    sys.exit(main(arguments, prog="pulumi-traceloop emulator"))
