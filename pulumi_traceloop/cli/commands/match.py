"""`pulumi-traceloop match`: which monitors see traffic, and why others do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from ...errors import printable
from ...spans.sources import SAMPLE
from .common import (
    ATTENTION,
    EXIT_CODES,
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

__all__ = ["match"]

_DAY = 86_400


@click.command(epilog=EXIT_CODES)
@click.argument("subjects", nargs=-1, metavar="[FILE|EXTERNAL_ID]...")
@click.option(
    "--since",
    callback=seconds_option,
    metavar="TIME",
    help="Try the spans that Traceloop recorded in the last TIME: 30m, 24h (the default), 7d.",
)
@click.option(
    "--spans",
    "span_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Try the spans of a file instead: OTLP as JSON. May be repeated.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=SAMPLE,
    show_default=True,
    metavar="N",
    help="How many of Traceloop's spans to try: the newest ones.",
)
@click.option(
    "--allow-none",
    "allowed",
    multiple=True,
    metavar="EXTERNAL_ID",
    help="A setup that may match nothing, or a pattern. May be repeated.",
)
@base_url_option
@json_option
@click.option("--markdown", "as_markdown", is_flag=True, help="Write a Markdown table.")
@click.pass_obj
def match(
    runtime: Runtime,
    subjects: Sequence[str],
    since: int | None,
    span_files: Sequence[Path],
    limit: int,
    allowed: Sequence[str],
    base_url: str | None,
    *,
    as_json: bool,
    as_markdown: bool,
) -> None:
    """Show which monitors see traffic: how many real spans each one's selector matches.

    FILE is a file of setups (monitors.yaml) or the output of
    `pulumi preview --json --show-sames`. Without one, the setups are those in Traceloop.
    EXTERNAL_ID, or a pattern such as 'checkout-*', selects some.

    If a monitor matches no span, it shows why and what to change. End-user content (prompts,
    completions, inputs and outputs) is dropped while spans are read.

    Ends with 1 if a setup matches no span, cannot be read or does not exist, or if there is no
    setup. Needs the API key unless both the setups and the spans come from files.
    """
    refuse_together({"--since": since is not None, "--spans": span_files})
    refuse_together({"--json": as_json, "--markdown": as_markdown})
    files = [Path(subject) for subject in subjects if _is_file(subject)]
    patterns = [subject for subject in subjects if not _is_file(subject)]
    with one_line():
        from ...spans.matching import SpanIndex
        from ...spans.sources import read_files, read_service
        from .. import match as matches
        from .. import selectors
        from ..project import open_project, selected

        unreadable: Mapping[str, str] = {}
        project = None if files and span_files else open_project(base_url)
        found = [each for file in files for each in selectors.from_file(file)]
        if project is not None and not files:
            setups, missing, unreadable = selected(project, patterns)
            note_unreadable(unreadable)
            found = selectors.from_setups(setups)
        else:
            found, missing = selectors.named(found, patterns)
        if project is not None and not span_files:
            seconds = since if since is not None else _DAY
            now = runtime.now().timestamp()
            sample = read_service(project.client, seconds=seconds, limit=limit, now=lambda: now)
        else:
            sample = read_files(span_files)
        report = matches.match(
            selectors.by_label(found),
            SpanIndex(sample.spans),
            allowed=allowed,
            missing=missing,
            unreadable=unreadable,
            problems=sample.problems,
        )
    if as_json:
        write(matches.as_json(report) + "\n")
    elif as_markdown:
        write(matches.as_markdown(report))
    else:
        width, colour = terminal()
        write(matches.table(report, width=width, colour=colour))
    for problem in report.problems:
        note(f"warning: {printable(problem)}")
    note(report.summary())
    # A selection without any setup is a mistake, not a success.
    if report.silent or report.missing or report.unreadable or not report.results:
        raise click.exceptions.Exit(ATTENTION)


def _is_file(subject: str) -> bool:
    return subject.endswith((".yaml", ".yml", ".json")) or Path(subject).is_file()
