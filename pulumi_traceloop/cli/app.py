"""The command `pulumi-traceloop` and its subcommands."""

from __future__ import annotations

import click

from .commands.common import EXIT_CODES, Runtime
from .commands.emulator import emulator
from .commands.export import export
from .commands.match import match
from .commands.plan import plan, preview
from .commands.status import status

__all__ = ["Runtime", "cli"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(package_name="pulumi-traceloop")
@click.pass_context
def cli(context: click.Context) -> None:
    """Inspect, export and check Traceloop's auto monitor setups beside Pulumi."""
    context.ensure_object(Runtime)


for _command in (plan, preview, status, export, match, emulator):
    cli.add_command(_command)
