"""Spans that a preview matches setups against, if ``traceloop:matchSpans`` is set.

The first setup that needs spans reads them, once per process, and imports `spans`. No function here
raises. Updates read no spans: `HostedProvider` calls this module in previews only.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from pulumi.output import Unknown

from .._text import printable, say
from ..errors import TraceloopError
from ._specs import holds_unknown, parsed

if TYPE_CHECKING:
    from .._plan import Matches
    from .._project import Project
    from ..spans.traffic import Traffic

__all__ = ["SETTING", "matches", "note", "notes", "traffic"]

SETTING = "traceloop:matchSpans"

_reading, _noting = threading.Lock(), threading.Lock()
#: By project; spans of a file under ``None``.
_read: dict[Project | None, Traffic | None] = {}
_noted: dict[str, None] = {}


def note(text: str) -> None:
    """Print a line once per process, and keep it for `notes`."""
    with _noting:
        known = text in _noted
        _noted[text] = None
    if not known:
        say(text)


def notes() -> str:
    """Return the notes so far, one per line."""
    with _noting:
        return "\n".join(_noted)


def traffic(project: Project, setting: str) -> Traffic | None:
    """Return the spans; ``None``, and a note, if they cannot be read.

    Args:
        project: the project that recorded the spans.
        setting: a duration such as ``24h``, or a file.

    """
    from ..spans.traffic import seconds_in

    seconds = seconds_in(setting)
    key = None if seconds is None else project
    with _reading:  # one thread reads, the others wait
        if key not in _read:
            _read[key] = _sampled(project, setting, seconds)
        return _read[key]


def _sampled(project: Project, setting: str, seconds: int | None) -> Traffic | None:
    from ..spans.traffic import of_files, of_service

    why = project.blind if seconds is not None else ""
    if not why:
        try:
            found = of_files([setting]) if seconds is None else of_service(project.client, seconds)
        except TraceloopError as error:
            why = getattr(error, "summary", str(error))
        except FileNotFoundError:
            why = f'{SETTING} is "{setting}": neither a duration such as 24h nor a file'
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path
            why = f"{setting}: {getattr(error, 'strerror', None) or error}"
        else:
            for problem in found.problems:
                note(f"spans: {printable(problem)}")
            return found
    note(f"spans were not read: {printable(why)}")
    return None


def matches(
    sample: Traffic, setup: str | Mapping[str, Any] | Unknown, secrets: Collection[str]
) -> Matches | None:
    """Return the spans that a setup matches; ``None`` if a value is unknown or there are no spans.

    Args:
        sample: the spans.
        setup: the setup, as the engine passes it.
        secrets: the setup's secret values.

    """
    if isinstance(setup, Unknown) or holds_unknown(setup):
        return None
    spec = parsed(setup)
    if spec is None:
        return None
    return sample.matches(spec.selector, len(spec.definition.evaluators), secrets=secrets)
