"""`pulumi-traceloop export`: existing setups as a program or as YAML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ...errors import printable
from .common import (
    ATTENTION,
    EXIT_CODES,
    Unusable,
    base_url_option,
    note,
    note_unreadable,
    one_line,
    write,
)

__all__ = ["export"]


@click.command(epilog=EXIT_CODES)
@click.argument("external_ids", nargs=-1, metavar="[EXTERNAL_ID]...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["python", "yaml"]),
    default="python",
    show_default=True,
    help="A Pulumi program, or the file that AutoMonitorSetupGroup.from_file reads.",
)
@click.option("--name", default="monitors", show_default=True, help="The group's name in Pulumi.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write, instead of standard output.",
)
@click.option("--force", is_flag=True, help="Overwrite the output if it exists.")
@base_url_option
def export(
    external_ids: Sequence[str],
    form: str,
    name: str,
    output: Path | None,
    base_url: str | None,
    *,
    force: bool,
) -> None:
    """Write the project's setups as a Pulumi program, or as YAML.

    EXTERNAL_ID may be a pattern such as 'checkout-*'. Without any, all setups are written. The
    first `pulumi up` of that program adopts the setups and sends nothing.

    Ends with 1 if a setup cannot be read or expressed, or does not exist.
    """
    if output is not None and output.exists() and not force:
        raise Unusable(f"{output} exists: --force overwrites it")
    with one_line():
        from .. import export as exports
        from ..project import open_project, selected

        project = open_project(base_url)
        setups, missing, unreadable = selected(project, external_ids)
        note_unreadable(unreadable)
        found = exports.exportable(setups.values())
        if form == "python":
            text = exports.as_python(found.setups, name)
        else:
            text = exports.as_yaml(found.setups)
        for line in exports.refusals(found.refused):
            note(line)
        for pattern in missing:
            note(f'no setup "{printable(pattern)}"')
        if external_ids and not setups:
            raise click.exceptions.Exit(ATTENTION)
        if output is None:
            write(text)
        else:
            # "x" also: the file may exist by now.
            with output.open("w" if force else "x", encoding="utf-8", newline="\n") as file:
                file.write(text)
            note(f"{len(found.setups)} setups written to {output}")
    if found.refused or missing or unreadable:
        raise click.exceptions.Exit(ATTENTION)
