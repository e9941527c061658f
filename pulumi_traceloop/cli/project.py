"""The setups of the project that the environment's key belongs to."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from .._naming import path_problem
from .._project import Project
from .._settings import connection

if TYPE_CHECKING:
    from .._models import Setup

__all__ = ["open_project", "selected"]

_WILDCARDS = frozenset("*?[")


def open_project(base_url: str | None, *, longest: float | None = None) -> Project:
    """Return the project, without a request.

    Args:
        base_url: the service, if not the public one.
        longest: how long a request may take, in seconds, if less than is configured.

    Raises:
        ConfigurationError: there is no API key, or something else is unusable.

    """
    found = connection({"traceloop:baseUrl": base_url}.get, os.environ)
    if longest is not None:
        found = found._replace(deadline=min(found.deadline, longest))
    # The configuration of a stack is not read, so no message may advise it.
    return Project(found._replace(namespace="", sources=()))


def selected(
    project: Project, patterns: Sequence[str], *, fresh: bool = False
) -> tuple[Mapping[str, Setup], list[str]]:
    """Return the setups that *patterns* name, and the patterns that name none.

    Args:
        project: whose setups.
        patterns: external_ids, or patterns such as ``checkout-*``; none of them means all setups.
        fresh: whether to list them again.

    """
    setups = project.setups(fresh=fresh)
    if not patterns:
        return dict(sorted(setups.items())), []
    found: dict[str, Setup] = {}
    missing = []
    for pattern in dict.fromkeys(patterns):
        # An external_id may hold wildcards itself, so it comes first.
        matching = [pattern] if pattern in setups else []
        if not matching and _WILDCARDS & set(pattern):
            matching = [i for i in setups if fnmatchcase(i, pattern)]
        if not matching:
            missing.append(pattern)
        found |= {i: setups[i] for i in matching}
    # A list that lacks a setup is not believed: its paging is not documented.
    asked = [i for i in missing if not _WILDCARDS & set(i) and not path_problem(i)]
    found |= project.present(asked)
    return dict(sorted(found.items())), [i for i in missing if i not in found]
