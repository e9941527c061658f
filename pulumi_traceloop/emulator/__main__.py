"""Start the emulator from a shell: `python -m pulumi_traceloop.emulator`."""
# ruff: noqa: T201 (a command prints to stdout)

from __future__ import annotations

import argparse
import errno
import shlex
import signal
import sys
import threading
from typing import TYPE_CHECKING

from .backend import DEFAULT_API_KEY

if TYPE_CHECKING:
    from collections.abc import Sequence


#: The default program name.
_PROG = "python -m pulumi_traceloop.emulator"


def main(argv: Sequence[str] | None = None, prog: str = _PROG) -> int:
    """Run until Ctrl-C or SIGTERM; return the exit status, 2 if it cannot start.

    Args:
        argv: the arguments; those of the process if ``None``.
        prog: the program name in the help text.

    """
    options = _parser(prog).parse_args(argv)
    try:
        from .server import Emulator
    except ModuleNotFoundError as error:
        print(f'{error}: install "pulumi-traceloop[emulator]"', file=sys.stderr)
        return 1
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    emulator = None
    try:
        emulator = Emulator(
            host=options.host,
            port=options.port,
            base_path=options.base_path,
            api_key=options.api_key,
            data=options.data,
            evaluators=options.evaluator,
            settle=options.settle,
            latency=options.latency,
            rate_limit=options.rate_limit,
            spans_needed=options.spans_needed,
            foreign_setups=options.foreign_setups,
        )
        for api_key, env_project_id in options.project:
            emulator.add_project(api_key, env_project_id=env_project_id)
        emulator.start()
    except (OSError, ValueError) as error:
        reason = str(error)
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            reason = f"port {options.port} is in use; --port 0 chooses a free one"
        print(f"cannot start: {reason}", file=sys.stderr)
        if emulator is not None:
            emulator.close()
        return 2
    try:
        url, key = emulator.url, shlex.quote(options.api_key)
        print(
            f"Traceloop API emulator on {url}, setups in {options.data or 'memory'}."
            " Ctrl-C stops it.\n"
        )
        print("For a stack:")
        print(f"  pulumi config set traceloop:baseUrl {url}")
        print(f"  pulumi config set --secret traceloop:apiKey {key}")
        print("or in the environment:")
        print(f"  export TRACELOOP_BASE_URL={url}")
        print(f"  export TRACELOOP_API_KEY={key}", flush=True)
        while not stop.wait(3600):
            pass
    finally:
        emulator.close()
    return 0


def _parser(prog: str = _PROG) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description="A local emulator of Traceloop's auto-monitor-setups API."
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=8787, help="0 chooses a free one (default: %(default)s)")
    add(
        "--base-path", default="", metavar="PATH", help="path in front of every route, such as /api"
    )
    add(
        "--api-key",
        default=DEFAULT_API_KEY,
        metavar="KEY",
        help="the key to accept (default: %(default)s)",
    )
    add(
        "--project",
        type=_project,
        action="append",
        default=[],
        metavar="KEY=ENV_PROJECT_ID",
        help="another project, with its own key; may be repeated",
    )
    add("--data", metavar="FILE", help="keep the setups in this file (default: in memory)")
    add(
        "--evaluator",
        action="append",
        default=[],
        metavar="SLUG",
        help="a custom evaluator; may be repeated",
    )
    add(
        "--settle",
        type=_seconds,
        default=5.0,
        metavar="SECONDS",
        help="time from a write to the end of processing (default: %(default)s)",
    )
    add(
        "--spans-needed",
        type=_natural,
        default=1,
        metavar="N",
        help="matching spans that complete a setup, which is waiting_for_spans until then; 0 if you"
        " send none (default: %(default)s)",
    )
    add(
        "--foreign-setups",
        type=_natural,
        default=0,
        metavar="N",
        help="so many setups of other projects, 2 kB each, are in the organization's list as well"
        " (default: %(default)s)",
    )
    add(
        "--latency",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="delay of every response (default: %(default)s)",
    )
    add(
        "--rate-limit",
        type=_count,
        metavar="N",
        help="requests per second; further ones get a 429 (default: none)",
    )
    return parser


def _project(text: str) -> tuple[str, str]:
    key, equals, env_project_id = text.partition("=")
    if not (key and equals and env_project_id):
        raise argparse.ArgumentTypeError("must be KEY=ENV_PROJECT_ID")
    return key, env_project_id


def _seconds(text: str) -> float:
    seconds = float(text)
    if seconds < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return seconds


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return count


def _natural(text: str) -> int:
    count = int(text)
    if count < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return count


if __name__ == "__main__":
    sys.exit(main())
