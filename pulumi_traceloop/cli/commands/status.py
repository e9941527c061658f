"""`pulumi-traceloop status`: the status of the setups, once or until they are ready."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

import click
from click.core import ParameterSource

from ..._text import names
from .common import (
    ATTENTION,
    EXIT_CODES,
    TIMED_OUT,
    Runtime,
    base_url_option,
    json_option,
    note,
    note_unreadable,
    one_line,
    refuse_together,
    seconds_option,
    terminal,
    write,
)

__all__ = ["status"]


@click.command(epilog=EXIT_CODES)
@click.argument("external_ids", nargs=-1, metavar="[EXTERNAL_ID]...")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    # Not imported from `status`: that costs rich.
    type=click.Choice(
        ["pending", "in_progress", "waiting_for_spans", "completed", "partial", "failed"]
    ),
    help="Only setups with this status; may be repeated.",
)
@click.option("--wait", is_flag=True, help="Wait until every monitor exists or failed.")
@click.option(
    "--wait-for",
    type=click.Choice(["spans", "accepted"]),
    help="Wait until spans have matched (as --wait alone does), or only until Traceloop has"
    " processed the setups: then waiting_for_spans is enough.",
)
@click.option(
    "--stale",
    callback=seconds_option,
    metavar="TIME",
    help="End with 1 if a setup has waited for spans for longer: 30m, 24h, 7d.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="How long --wait waits.",
)
@click.option(
    "--stack",
    metavar="NAME",
    help="Only the setups of this Pulumi stack, with the key and the URL of its configuration.",
)
@click.option(
    "--unmanaged",
    is_flag=True,
    help="With --stack: those of its project that are in no resource of the stack.",
)
@base_url_option
@json_option
@click.pass_context
def status(
    context: click.Context,
    external_ids: Sequence[str],
    statuses: Sequence[str],
    wait_for: str | None,
    stale: int | None,
    timeout: float,
    stack: str | None,
    base_url: str | None,
    *,
    wait: bool,
    unmanaged: bool,
    as_json: bool,
) -> None:
    """Show the project's setups: their status, evaluators, errors and age.

    EXTERNAL_ID may be a pattern such as 'checkout-*'. Without any, all setups are shown. Those that
    need attention come first.

    --stack runs `pulumi stack export` and `pulumi config` in the current folder. What
    --unmanaged shows may belong to another stack, or was written by hand or by a killed update.

    A setup that is waiting_for_spans has no monitor yet: too few spans have matched. `match` shows
    why.

    Ends with 1 if a setup is failed or partial, cannot be read or does not exist; with
    --stale, also if one has waited for spans for longer.
    """
    wait = wait or wait_for is not None
    refuse_together({"--wait": wait, "--status": statuses})
    # The environment variable stands in for a stack's configuration, so that one is no conflict.
    given = context.get_parameter_source("base_url") is ParameterSource.COMMANDLINE
    refuse_together({"--stack": stack, "--base-url": given})
    if unmanaged and (wait or external_ids or not stack):
        raise click.UsageError(
            "--unmanaged needs --stack, and takes neither --wait nor an EXTERNAL_ID"
        )
    runtime: Runtime = context.obj
    with one_line():
        from .. import status as statuses_of

        longest = max(timeout, 1.0) if wait else None
        poll: statuses_of.Poll
        if stack:
            from ..project import open_connection
            from ..stack import read

            parts = [(p, open_connection(p.connection, longest=longest)) for p in read(stack)]
            if unmanaged:
                poll = partial(statuses_of.unmanaged, parts, statuses)
            else:
                poll = partial(statuses_of.read_stack, parts, external_ids, statuses)
        else:
            from ..project import open_project

            project = open_project(base_url, longest=longest)
            poll = partial(statuses_of.read_project, project, external_ids, statuses)
        if wait:
            display = statuses_of.progress_display(note, terminal=sys.stderr.isatty())
            with display as progress:
                report = statuses_of.wait(
                    poll,
                    timeout,
                    progress,
                    accepted=wait_for == "accepted",
                    clock=runtime.clock,
                    sleep=runtime.sleep,
                )
        else:
            report = poll()
    note_unreadable(report.unreadable)
    too_long = report.stale(runtime.now(), stale) if stale is not None else []
    if as_json:
        write(statuses_of.as_json(report, too_long) + "\n")
    else:
        width, colour = terminal()
        write(statuses_of.table(report, runtime.now(), width=width, colour=colour))
    if too_long:
        note(
            f"error: waiting for spans for too long, so no monitor exists: {names(too_long)};"
            " pulumi-traceloop match shows why"
        )
    if report.timed_out:
        note(f"error: timed out: {report.counts()}")
        raise click.exceptions.Exit(TIMED_OUT)
    if report.failed or report.missing or report.unreadable or too_long:
        raise click.exceptions.Exit(ATTENTION)
