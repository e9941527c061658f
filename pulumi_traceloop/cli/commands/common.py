"""Options, exit codes, one-line errors and output of all commands."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import click

from ..._text import quoted
from ...errors import (
    AuthenticationError,
    ConfigurationError,
    RequestError,
    TraceloopError,
    printable,
)
from ...spans.sources import SpanFileError
from ...spans.traffic import seconds_in
from ..preview import PreviewError

__all__ = [
    "ATTENTION",
    "EXIT_CODES",
    "TIMED_OUT",
    "Runtime",
    "Unusable",
    "base_url_option",
    "json_option",
    "note",
    "note_unreadable",
    "one_line",
    "refuse_together",
    "seconds_option",
    "terminal",
    "write",
]

#: Exit codes; 0 is success.
ATTENTION, UNUSABLE, UNREACHABLE, TIMED_OUT = 1, 2, 3, 124

EXIT_CODES = """\b
Exit codes:
  0    success
  1    something failed or needs attention
  2    wrong usage or configuration, or Traceloop does not accept the API key
  3    Traceloop could not be reached, or its response is malformed
  124  the time limit of --wait expired

The API key is read from the environment variable TRACELOOP_API_KEY: an option
would show it in the list of processes. `status --stack` prefers that of
the stack's configuration."""


@dataclass(frozen=True)
class Runtime:
    """The clocks that the commands use."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)


class Attention(click.ClickException):
    """An error on one line of standard error: something needs attention."""

    exit_code = ATTENTION

    def show(self, file: Any = None) -> None:
        """Print it to standard error."""
        click.echo(f"error: {self.message}", file=file, err=file is None)


class Unusable(Attention):
    """The usage or the configuration is wrong."""

    exit_code = UNUSABLE


class Unreachable(Attention):
    """Traceloop cannot be reached, or its response is malformed."""

    exit_code = UNREACHABLE


@contextmanager
def one_line() -> Iterator[None]:
    """Turn the package's errors into one line each."""
    try:
        yield
    except TraceloopError as error:
        kind = Attention
        if isinstance(
            error, (AuthenticationError, ConfigurationError, PreviewError, SpanFileError)
        ):
            kind = Unusable
        elif isinstance(error, RequestError):
            kind = Unreachable
        raise kind(printable(str(error), 2000)) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        raise Unusable(printable(f"{name}{error.strerror or error}")) from None


def refuse_together(given: Mapping[str, object]) -> None:
    """Refuse options that exclude each other, if several have a true value."""
    used = [option for option, value in given.items() if value]
    if len(used) > 1:
        raise click.UsageError(f"{' and '.join(used)} do not go together")


def write(text: str) -> None:
    """Write to standard output, in UTF-8 whatever the terminal's encoding."""
    click.echo(text.encode(errors="backslashreplace"), nl=False)


def terminal() -> tuple[int | None, bool]:
    """Return the width of standard output, ``None`` if it is no terminal, and whether to colour."""
    if not sys.stdout.isatty():
        return None, False
    return shutil.get_terminal_size().columns, not os.environ.get("NO_COLOR")


def note(text: str) -> None:
    """Write a line to standard error."""
    click.echo(text, err=True)


def note_unreadable(unreadable: Mapping[str, str]) -> None:
    """Name the setups that cannot be read, and why."""
    for external_id, why in unreadable.items():
        note(f"cannot read {quoted(external_id)}: {why}")


def seconds_option(context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    """Return a time such as ``24h`` in seconds."""
    if text is None:
        return None
    seconds = seconds_in(text)
    if seconds is None:
        raise click.BadParameter(f"{text!r} is not a time such as 30m, 24h or 7d", context, option)
    return seconds


base_url_option = click.option(
    "--base-url",
    envvar="TRACELOOP_BASE_URL",
    show_envvar=True,
    metavar="URL",
    help="The service's URL, if not https://api.traceloop.com.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON, for machines.")
