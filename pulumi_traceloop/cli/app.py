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

from .._text import names, quoted
from ..errors import (
    AuthenticationError,
    ConfigurationError,
    RequestError,
    TraceloopError,
    printable,
)
from ..spans.sources import SAMPLE, SpanFileError
from ..spans.traffic import seconds_in
from .preview import PreviewError

if TYPE_CHECKING:
    from .._project import Project
    from .preview import Plan

__all__ = ["Runtime", "cli"]

#: Exit codes; 0 is success.
ATTENTION, UNUSABLE, UNREACHABLE, TIMED_OUT = 1, 2, 3, 124

_DAY = 86_400

_EXIT_CODES = """\b
Exit codes:
  0    success
  1    something failed or needs attention
  2    wrong usage or configuration, or Traceloop does not accept the API key
  3    Traceloop could not be reached, or its response is malformed
  124  the time limit of --wait expired

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
        if isinstance(
            error, (AuthenticationError, ConfigurationError, PreviewError, SpanFileError)
        ):
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


def _note_unreadable(*projects: Project) -> None:
    """Say which setups of the projects are missing from what is shown."""
    for project in projects:
        for external_id, why in sorted(project.unreadable.items()):
            _note(f"left out {quoted(external_id)}: {why}")


def _seconds(context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    """Return a time such as ``24h`` in seconds."""
    if text is None:
        return None
    seconds = seconds_in(text)
    if seconds is None:
        raise click.BadParameter(f"{text!r} is not a time such as 30m, 24h or 7d", context, option)
    return seconds


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EXIT_CODES)
@click.version_option(package_name="pulumi-traceloop")
@click.pass_context
def cli(context: click.Context) -> None:
    """Inspect, export and check Traceloop's auto monitor setups beside Pulumi."""
    context.ensure_object(Runtime)


_base_url = click.option(
    "--base-url",
    envvar="TRACELOOP_BASE_URL",
    show_envvar=True,
    metavar="URL",
    help="The service's URL, if not https://api.traceloop.com.",
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
@click.option(
    "--since",
    callback=_seconds,
    metavar="TIME",
    help="Say what each setup matches of the spans that Traceloop recorded in so long a time: 30m,"
    " 24h, 7d.",
)
@click.option(
    "--spans",
    "span_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Say what each setup matches of the spans of a file: OTLP as JSON. May be repeated.",
)
@_base_url
@_json
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
    """Write a pull-request comment about previews that were made before.

    \b
    Make each with
      TRACELOOP_PLAN=json pulumi preview --json --show-sames --show-replacement-steps > FILE
    or use `pulumi-traceloop preview`, which does both.

    Writes Markdown: which monitor setups will be created, changed, deleted or adopted. Secrets stay
    masked, and the comment stays below GitHub's limit.

    With --since or --spans, or where the preview had the configuration traceloop:matchSpans, a
    column says how many recorded spans each setup matches, and if none, why; those come first.

    Needs the API key only for --since. Ends with 1 if a preview failed; the comment is written
    anyway. Ends with 2, without a comment, if a FILE is something else, or does not say what will
    happen.
    """
    from .preview import COMMAND, read

    if since is not None and span_files:
        raise click.UsageError("--since and --spans do not go together")
    if not files:
        if sys.stdin.isatty():
            raise click.UsageError(f"give a FILE, made with: {COMMAND}")
        files = [sys.stdin.buffer]
    if stacks and len(stacks) != len(files):
        raise click.UsageError(f"{len(stacks)} --stack for {len(files)} files")
    with _one_line():
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
    from ..spans.traffic import of_files, of_service
    from .project import open_project
    from .traffic import with_matches

    if since is None:
        found = of_files(span_files)
    else:
        client = open_project(base_url).client
        found = of_service(client, since, now=lambda: runtime.now().timestamp())
    for problem in found.problems:
        _note(f"warning: {printable(problem)}")
    return [with_matches(each, found) for each in plans]


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
    `pulumi-traceloop plan`. Ends with 1 if the preview failed, and with 2 if there is no
    preview to read.
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
@click.option("--wait", is_flag=True, help="Wait until every monitor exists or failed.")
@click.option(
    "--wait-for",
    type=click.Choice(["spans", "accepted"]),
    help="Wait until matching spans have come (as --wait alone does), or only until Traceloop has"
    " processed the setups: then waiting_for_spans is enough.",
)
@click.option(
    "--stale",
    callback=_seconds,
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
@_base_url
@_json
@click.pass_obj
def status(
    runtime: Runtime,
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
    --unmanaged finds may be another stack's, written by hand, or by an update that was killed.

    A setup that is waiting_for_spans has no monitor yet: too few matching spans came. `match`
    shows why.

    Ends with 1 if one of them is failed or partial, or does not exist; with --stale, also if one
    has waited for spans for longer.
    """
    wait = wait or wait_for is not None
    if wait and statuses:
        raise click.UsageError("--wait and --status do not go together")
    if unmanaged and (wait or external_ids or not stack):
        raise click.UsageError(
            "--unmanaged needs --stack, and takes neither --wait nor an EXTERNAL_ID"
        )
    with _one_line():
        from . import status as statuses_of

        longest = max(timeout, 1.0) if wait else None
        look: statuses_of.Look
        if stack:
            from .project import open_connection
            from .stack import read

            parts = [(p, open_connection(p.connection, longest=longest)) for p in read(stack)]
            projects = [project for _, project in parts]
            if unmanaged:
                look = partial(statuses_of.unmanaged, parts, statuses)
            else:
                look = partial(statuses_of.look_at_stack, parts, external_ids, statuses)
        else:
            from .project import open_project

            project = open_project(base_url, longest=longest)
            projects = [project]
            look = partial(statuses_of.look, project, external_ids, statuses)
        if wait:
            terminal = sys.stderr.isatty()
            with statuses_of.progress_display(_note, terminal=terminal) as progress:
                report = statuses_of.wait(
                    look,
                    timeout,
                    progress,
                    accepted=wait_for == "accepted",
                    clock=runtime.clock,
                    sleep=runtime.sleep,
                )
        else:
            report = look()
    _note_unreadable(*projects)
    too_long = report.stale(runtime.now(), stale) if stale is not None else []
    if as_json:
        _write(statuses_of.as_json(report, too_long) + "\n")
    else:
        terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if terminal else None
        colour = terminal and not os.environ.get("NO_COLOR")
        _write(statuses_of.table(report, runtime.now(), width=width, colour=colour))
    if too_long:
        _note(
            f"error: waiting for spans for too long, so no monitor exists: {names(too_long)};"
            " pulumi-traceloop match shows why"
        )
    if report.timed_out:
        _note(f"error: timed out: {report.counts()}")
        raise click.exceptions.Exit(TIMED_OUT)
    if report.failed or report.missing or too_long:
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
    first `pulumi up` of that program adopts the setups and sends nothing.

    Ends with 1 if a setup cannot be expressed or does not exist.
    """
    if output is not None and output.exists() and not force:
        raise _Unusable(f"{output} exists: --force overwrites it")
    with _one_line():
        from . import export as exports
        from .project import open_project, selected

        project = open_project(base_url)
        setups, missing = selected(project, external_ids)
        _note_unreadable(project)
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


@cli.command(epilog=_EXIT_CODES)
@click.argument("subjects", nargs=-1, metavar="[FILE|EXTERNAL_ID]...")
@click.option(
    "--since",
    callback=_seconds,
    metavar="TIME",
    help="Try the spans that Traceloop recorded in so long a time: 30m, 24h (the default), 7d.",
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
@_base_url
@_json
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

    FILE is a file of setups (monitors.yaml) or what `pulumi preview --json` wrote. Without one, the
    setups are those that Traceloop has. EXTERNAL_ID, or a pattern such as 'checkout-*', picks some.

    Where a monitor matches nothing, it shows why and what to change. What end users wrote (prompts,
    completions, inputs and outputs) is dropped while spans are read.

    Ends with 1 if a setup matches no span or does not exist. Needs the API key unless both the
    setups and the spans come from files.
    """
    if since is not None and span_files:
        raise click.UsageError("--since and --spans do not go together")
    if as_json and as_markdown:
        raise click.UsageError("--json and --markdown do not go together")
    files = [Path(subject) for subject in subjects if _is_file(subject)]
    patterns = [subject for subject in subjects if not _is_file(subject)]
    with _one_line():
        from ..spans.matching import SpanIndex
        from ..spans.sources import read_files, read_service
        from . import match as matches
        from . import selectors
        from .project import open_project, selected

        project = None if files and span_files else open_project(base_url)
        found: dict[str, selectors.Selector] = {}
        for file in files:
            found |= selectors.from_file(file)
        if project is not None and not files:
            setups, missing = selected(project, patterns)
            _note_unreadable(project)
            found = selectors.from_setups(setups)
        else:
            found, missing = selectors.named(found, patterns)
        if project is not None and not span_files:
            seconds = since if since is not None else _DAY
            now = runtime.now().timestamp()
            sample = read_service(project.client, seconds=seconds, limit=limit, now=lambda: now)
            if not sample.spans:
                sample.problems.append(
                    "Traceloop recorded no span in this time, in the environment of the API key"
                )
        else:
            sample = read_files(span_files)
        report = matches.match(
            found,
            SpanIndex(sample.spans),
            allowed=allowed,
            missing=missing,
            problems=sample.problems,
        )
    if as_json:
        _write(matches.as_json(report) + "\n")
    elif as_markdown:
        _write(matches.as_markdown(report))
    else:
        terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if terminal else None
        _write(
            matches.table(report, width=width, colour=terminal and not os.environ.get("NO_COLOR"))
        )
    for problem in report.problems:
        _note(f"warning: {printable(problem)}")
    _note(report.summary())
    if report.silent or report.missing:
        raise click.exceptions.Exit(ATTENTION)


def _is_file(subject: str) -> bool:
    return subject.endswith((".yaml", ".yml", ".json")) or Path(subject).is_file()


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
