"""The commands, their options and their exit codes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import (
    AuthenticationError,
    ConfigurationError,
    RequestError,
    TraceloopError,
    printable,
)
from .preview import PreviewError

if TYPE_CHECKING:
    from .preview import Plan

__all__ = ["Runtime", "cli"]

#: Exit codes; 0 is "all is well".
ATTENTION, UNUSABLE, UNREACHABLE, TIMED_OUT = 1, 2, 3, 124

_EXIT_CODES = """\b
Exit codes:
  0    all is well
  1    something failed or needs attention
  2    wrong usage or configuration, also an API key that is not accepted
  3    Traceloop could not be reached, or did not answer as it should
  124  the time of --wait is up

The API key is read from the environment variable TRACELOOP_API_KEY: an option
would show it in the list of processes."""


@dataclass(frozen=True)
class Runtime:
    """What the commands take from outside."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)


class _Attention(click.ClickException):
    """An error on one line."""

    exit_code = ATTENTION

    def show(self, file: Any = None) -> None:
        """Print it to standard error."""
        click.echo(f"error: {self.message}", file=file, err=file is None)


class _Unusable(_Attention):
    exit_code = UNUSABLE


class _Unreachable(_Attention):
    exit_code = UNREACHABLE


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn the package's errors into one line each."""
    try:
        yield
    except TraceloopError as error:
        kind = _Attention
        if isinstance(error, (AuthenticationError, ConfigurationError, PreviewError)):
            kind = _Unusable
        elif isinstance(error, RequestError):
            kind = _Unreachable
        raise kind(printable(str(error), 2000)) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        raise _Unusable(printable(f"{name}{error.strerror or error}")) from None


def _write(text: str) -> None:
    """Write to standard output, in UTF-8 whatever the terminal's encoding."""
    click.echo(text.encode(errors="backslashreplace"), nl=False)


def _note(text: str) -> None:
    click.echo(text, err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EXIT_CODES)
@click.version_option(package_name="pulumi-traceloop")
@click.pass_context
def cli(context: click.Context) -> None:
    """Look after Traceloop's auto monitor setups beside Pulumi."""
    context.ensure_object(Runtime)


_base_url = click.option(
    "--base-url",
    envvar="TRACELOOP_BASE_URL",
    show_envvar=True,
    metavar="URL",
    help="The service, if not https://api.traceloop.com.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Write JSON, for machines.")


@cli.command(epilog=_EXIT_CODES)
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.File("rb"))
@click.option(
    "--stack",
    "stacks",
    multiple=True,
    metavar="NAME",
    help="What to call the stack; once for each file, in their order.",
)
@_json
def plan(files: Sequence[Any], stacks: Sequence[str], *, as_json: bool) -> None:
    """Write a pull-request comment about previews that were made before.

    \b
    Make each with
      TRACELOOP_PLAN=json pulumi preview --json --show-sames --show-replacement-steps > FILE
    or use `pulumi-traceloop preview`, which does both.

    Writes Markdown: which monitor setups will be created, changed, deleted or adopted. Secrets stay
    masked, and the comment stays below GitHub's limit.

    Needs no API key. Ends with 1 if a preview failed; the comment is written all the same. Ends
    with 2, without a comment, if a FILE is something else, or does not say what will happen.
    """
    from .preview import COMMAND, read

    if not files:
        if sys.stdin.isatty():
            raise click.UsageError(f"give a FILE, made with: {COMMAND}")
        files = [sys.stdin.buffer]
    if stacks and len(stacks) != len(files):
        raise click.UsageError(f"{len(stacks)} --stack for {len(files)} files")
    with _one_line():
        plans = [read(file.read(), _source(file)) for file in files]
    several = len({found.project for found in plans}) > 1
    names = stacks or [
        (f"{found.project}/{found.stack}" if several else found.stack) or _source(file)
        for found, file in zip(plans, files, strict=True)
    ]
    _write_plans(plans, names, as_json=as_json)


def _write_plans(plans: Sequence[Plan], names: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        from .document import document

        _write(document(plans, names))
    else:
        from .ci import links
        from .markdown import comment

        _write(comment(plans, names, links(os.environ)))
    if any(found.failed for found in plans):
        raise click.exceptions.Exit(ATTENTION)


@cli.command(context_settings={"ignore_unknown_options": True}, epilog=_EXIT_CODES)
@click.argument("arguments", nargs=-1, metavar="[PULUMI OPTION]...", type=click.UNPROCESSED)
def preview(arguments: Sequence[str]) -> None:
    """Run `pulumi preview`, and write the pull-request comment about it.

    Every option, such as `--stack dev`, goes to `pulumi preview`. The comment is that of
    `pulumi-traceloop plan`. Ends with 1 if the preview failed, and with 2 if it did not even say
    so.
    """
    from .._plan import ASKED
    from .preview import read
    from .stack import pulumi

    flags = ["--json", "--show-sames", "--show-replacement-steps", "--non-interactive"]
    with _one_line():
        done = subprocess.run(  # noqa: S603 - what is run is the user's own CLI
            [pulumi(), "preview", *flags, *arguments],
            env=os.environ | dict([ASKED]),
            stdout=subprocess.PIPE,
            check=False,
        )
        if done.returncode and not done.stdout.strip():
            raise _Unusable(f"`pulumi preview` ended with {done.returncode}")
        found = read(done.stdout, "the output of `pulumi preview`")
    _write_plans([found], [found.stack or "preview"], as_json=False)
    if done.returncode:
        raise click.exceptions.Exit(ATTENTION)


def _source(file: Any) -> str:
    name = getattr(file, "name", None)
    return name if isinstance(name, str) and name not in ("-", "<stdin>") else "standard input"


@cli.command(epilog=_EXIT_CODES)
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
@click.option("--wait", is_flag=True, help="Wait until none is pending or in_progress any more.")
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
@_base_url
@_json
@click.pass_obj
def status(
    runtime: Runtime,
    external_ids: Sequence[str],
    statuses: Sequence[str],
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
    --unmanaged finds may be another stack's, somebody's own, or left by an update that was killed.

    Ends with 1 if one of them is failed or partial, or is not there.
    """
    if wait and statuses:
        raise click.UsageError("--wait and --status do not go together")
    if unmanaged and (wait or external_ids or not stack):
        raise click.UsageError("--unmanaged goes with --stack, without --wait or an EXTERNAL_ID")
    with _one_line():
        from . import status as statuses_of

        longest = max(timeout, 1.0) if wait else None
        look: statuses_of.Look
        if stack:
            from .project import open_connection
            from .stack import read

            parts = [(p, open_connection(p.connection, longest=longest)) for p in read(stack)]
            if unmanaged:
                look = partial(statuses_of.unmanaged, parts, statuses)
            else:
                look = partial(statuses_of.look_at_stack, parts, external_ids, statuses)
        else:
            from .project import open_project

            project = open_project(base_url, longest=longest)
            look = partial(statuses_of.look, project, external_ids, statuses)
        if wait:
            terminal = sys.stderr.isatty()
            with statuses_of.progress_display(_note, terminal=terminal) as progress:
                report = statuses_of.wait(
                    look,
                    timeout,
                    progress,
                    clock=runtime.clock,
                    sleep=runtime.sleep,
                )
        else:
            report = look()
    if as_json:
        _write(statuses_of.as_json(report) + "\n")
    else:
        terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if terminal else None
        colour = terminal and not os.environ.get("NO_COLOR")
        _write(statuses_of.table(report, runtime.now(), width=width, colour=colour))
    if report.timed_out:
        _note(f"error: the time is up: {report.counts()}")
        raise click.exceptions.Exit(TIMED_OUT)
    if report.failed or report.missing:
        raise click.exceptions.Exit(ATTENTION)


@cli.command(epilog=_EXIT_CODES)
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
    help="Where to write, if not to standard output.",
)
@click.option("--force", is_flag=True, help="Overwrite the output if it exists.")
@_base_url
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
    first `pulumi up` of what was written takes the setups over and sends nothing.

    Ends with 1 if a setup had to be left out, or is not there.
    """
    if output is not None and output.exists() and not force:
        raise _Unusable(f"{output} exists: --force overwrites it")
    with _one_line():
        from . import export as exports
        from .project import open_project, selected

        setups, missing = selected(open_project(base_url), external_ids)
        found = exports.exportable(setups.values())
        if form == "python":
            text = exports.as_python(found.setups, name)
        else:
            text = exports.as_yaml(found.setups)
        for line in exports.refusals(found.refused):
            _note(line)
        for pattern in missing:
            _note(f'no setup "{printable(pattern)}"')
        if external_ids and not setups:
            raise click.exceptions.Exit(ATTENTION)
        if output is None:
            _write(text)
        else:
            # "x" once more: the file may have come into being by now.
            with output.open("w" if force else "x", encoding="utf-8", newline="\n") as file:
                file.write(text)
            _note(f"{len(found.setups)} setups written to {output}")
    if found.refused or missing:
        raise click.exceptions.Exit(ATTENTION)


@cli.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def emulator(arguments: Sequence[str]) -> None:
    """Start a local emulator of the API; --help shows its options."""
    if find_spec("aiohttp") is None:
        raise _Unusable(
            'the emulator\'s libraries are missing: pip install "pulumi-traceloop[emulator]"'
        )
    from ..emulator.__main__ import main

    sys.exit(main(arguments, prog="pulumi-traceloop emulator"))
