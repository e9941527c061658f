"""Tables for a terminal or a log."""

from __future__ import annotations

from io import StringIO

from rich.console import Console
from rich.table import Table

__all__ = ["new_table", "rendered"]


def new_table(columns: tuple[str, ...], width: int | None) -> Table:
    """Return an empty table with these columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=width is None)
    return table


def rendered(table: Table, *, width: int | None, colour: bool) -> str:
    """Return the table as text.

    Args:
        table: the table.
        width: the terminal's width; if ``None``, lines are not wrapped.
        colour: whether to colour it.

    """
    console = Console(
        file=StringIO(),
        width=width or 100_000,
        force_terminal=colour,
        no_color=not colour,
        highlight=False,
        legacy_windows=False,
    )
    with console.capture() as captured:
        console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())
