"""`pulumi-traceloop plan` and `preview`: the pull-request comment about previews."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...errors import printable
from .common import (
    ATTENTION,
    EXIT_CODES,
    Runtime,
    Unusable,
    base_url_option,
    json_option,
    note,
    one_line,
    refuse_together,
    seconds_option,
    write,
)

if TYPE_CHECKING:
    from ..preview import Plan

__all__ = ["plan", "preview"]


@click.command(epilog=EXIT_CODES)
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.File("rb"))
@click.option(
    "--stack",
    "stacks",
    multiple=True,
    metavar="NAME",
    help="The stack's name in the comment; once for each FILE, in their order.",
)
@click.option(
    "--since",
    callback=seconds_option,
    metavar="TIME",
    help="Show what each setup matches of the spans that Traceloop recorded in the last TIME: 30m,"
    " 24h, 7d.",
)
@click.option(
    "--spans",
    "span_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Show what each setup matches of the spans of a file: OTLP as JSON. May be repeated.",
)
@base_url_option
@json_option
@click.pass_obj
def plan(
    runtime: Runtime,
    files: Sequence[Any],
    stacks: Sequence[str],
    since: int | None,
    span_files: Sequence[Path],
    base_url: str | None,
    *,
    as_json: bool,
) -> None:
    """Write a pull-request comment about existing previews.

    \b
    Make each with
      TRACELOOP_PLAN=json pulumi preview --json --show-sames --show-replacement-steps > FILE
    or use `pulumi-traceloop preview`, which does both. For a destroy, make it with
      pulumi destroy --preview-only --json --show-replacement-steps > FILE

    Writes Markdown that lists the monitor setups to create, change, delete or adopt. Secrets stay
    masked, and the comment stays below GitHub's limit.

    With --since or --spans, or if the preview had the configuration traceloop:matchSpans, a
    column shows how many recorded spans each setup matches, and if none, why. Setups that match
    none come first in their table.

    Needs the API key only for --since. Ends with 1 if a preview failed; the comment is written
    anyway. Ends with 2, without a comment, if a FILE is no preview or has no plan.
    """
    from ..preview import COMMAND, read

    refuse_together({"--since": since is not None, "--spans": span_files})
    if not files:
        if sys.stdin.isatty():
            raise click.UsageError(f"give a FILE, made with: {COMMAND}")
        files = [sys.stdin.buffer]
    if stacks and len(stacks) != len(files):
        raise click.UsageError(f"{len(stacks)} --stack for {len(files)} files")
    with one_line():
        plans = [read(file.read(), _source(file)) for file in files]
        if since is not None or span_files:
            plans = _with_matches(plans, since, span_files, base_url, runtime)
    several = len({found.project for found in plans}) > 1
    names = stacks or [
        (f"{found.project}/{found.stack}" if several else found.stack) or _source(file)
        for found, file in zip(plans, files, strict=True)
    ]
    _write_plans(plans, names, as_json=as_json)


def _with_matches(
    plans: Sequence[Plan],
    since: int | None,
    span_files: Sequence[Path],
    base_url: str | None,
    runtime: Runtime,
) -> list[Plan]:
    from ...spans.traffic import of_files, of_service
    from ..project import open_project
    from ..traffic import with_matches

    if since is None:
        found = of_files(span_files)
    else:
        client = open_project(base_url).client
        found = of_service(client, since, now=lambda: runtime.now().timestamp())
    for problem in found.problems:
        note(f"warning: {printable(problem)}")
    return [with_matches(each, found) for each in plans]


def _write_plans(plans: Sequence[Plan], names: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        from ..document import document

        write(document(plans, names))
    else:
        from ..ci import links
        from ..markdown import comment

        write(comment(plans, names, links(os.environ)))
    if any(found.failed for found in plans):
        raise click.exceptions.Exit(ATTENTION)


@click.command(context_settings={"ignore_unknown_options": True}, epilog=EXIT_CODES)
@click.argument("arguments", nargs=-1, metavar="[PULUMI OPTION]...", type=click.UNPROCESSED)
def preview(arguments: Sequence[str]) -> None:
    """Run `pulumi preview`, and write the pull-request comment about it.

    `pulumi preview` receives every option, such as `--stack dev`. The comment is the same as that
    of `pulumi-traceloop plan`. Ends with 1 if the preview failed, and with 2 if it has no output to
    read.
    """
    from ..._plan import ASKED
    from ..preview import read
    from ..stack import pulumi

    flags = ["--json", "--show-sames", "--show-replacement-steps", "--non-interactive"]
    with one_line():
        done = subprocess.run(  # noqa: S603 - what is run is the user's own CLI
            [pulumi(), "preview", *flags, *arguments],
            env=os.environ | dict([ASKED]),
            stdout=subprocess.PIPE,
            check=False,
        )
        if done.returncode and not done.stdout.strip():
            raise Unusable(f"`pulumi preview` ended with {done.returncode}")
        found = read(done.stdout, "the output of `pulumi preview`")
    _write_plans([found], [found.stack or "preview"], as_json=False)
    if done.returncode:
        raise click.exceptions.Exit(ATTENTION)


def _source(file: Any) -> str:
    name = getattr(file, "name", None)
    return name if isinstance(name, str) and name not in ("-", "<stdin>") else "standard input"
