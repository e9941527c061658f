"""Reads the setups of the project that the environment's API key belongs to."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from .._naming import path_problem
from .._project import Project
from .._settings import Connection, connection

if TYPE_CHECKING:
    from .._models import Setup

__all__ = ["Selection", "matching", "open_connection", "open_project", "selected"]

_WILDCARDS = frozenset("*?[")


def open_project(base_url: str | None, *, longest: float | None = None) -> Project:
    """Return the project, without a request.

    Args:
        base_url: the service's URL, if not the public one.
        longest: an upper bound of the configured deadline, in seconds.

    Raises:
        ConfigurationError: there is no API key, or a setting is invalid.

    """
    found = connection({"traceloop:baseUrl": base_url}.get, os.environ)
    # No stack's configuration is read, so messages must not advise to set it.
    return open_connection(found._replace(namespace="", sources=()), longest=longest)


def open_connection(found: Connection, *, longest: float | None = None) -> Project:
    """Return the project of a connection, without a request; see `open_project`."""
    if longest is not None:
        found = found._replace(deadline=min(found.deadline, longest))
    return Project(found)


class Selection(NamedTuple):
    """The setups that patterns name."""

    #: The setups by external_id.
    setups: Mapping[str, Setup]
    #: The patterns that name no setup.
    missing: list[str]
    #: Why setups cannot be read, by external_id.
    unreadable: Mapping[str, str]


def selected(project: Project, patterns: Sequence[str], *, fresh: bool = False) -> Selection:
    """Return the setups that *patterns* name.

    Args:
        project: the project.
        patterns: external_ids, or patterns such as ``checkout-*``; without any, all setups.
        fresh: whether to read the list again.

    """
    setups = project.setups(fresh=fresh)
    unreadable = project.unreadable
    wanted, missing = matching([*setups, *(unreadable.keys() - setups.keys())], patterns)
    found = {i: setups[i] for i in wanted if i in setups}
    broken = {i: unreadable[i] for i in wanted if i not in setups}
    # A list may be incomplete: its paging is not documented.
    asked = [i for i in missing if not _WILDCARDS & set(i) and not path_problem(i)]
    read, errors = project.read(asked, max_age=0)
    found |= read
    broken |= {i: error.summary for i, error in errors.items()}
    missing = [i for i in missing if i not in found and i not in broken]
    return Selection(dict(sorted(found.items())), missing, dict(sorted(broken.items())))


def matching(
    external_ids: Collection[str], patterns: Sequence[str]
) -> tuple[Collection[str], list[str]]:
    """Return which of *external_ids* the *patterns* name, and the patterns that name none.

    Args:
        external_ids: the external_ids to choose from.
        patterns: external_ids, or patterns such as ``checkout-*``; without any, all.

    """
    if not patterns:
        return external_ids, []
    found: dict[str, None] = {}
    missing = []
    for pattern in dict.fromkeys(patterns):
        # An external_id may contain wildcards, so an exact match comes first.
        named = [pattern] if pattern in external_ids else []
        if not named and _WILDCARDS & set(pattern):
            named = [i for i in external_ids if fnmatchcase(i, pattern)]
        if not named:
            missing.append(pattern)
        found |= dict.fromkeys(named)
    return list(found), missing
