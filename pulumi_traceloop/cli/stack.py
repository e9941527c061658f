"""Reads the setups of one Pulumi stack, and the API keys and URLs for them.

It runs `pulumi stack export` and `pulumi config --show-secrets` in the current folder. Secrets of
the configuration are used, never printed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from .._codec import unpacked
from .._settings import DEFAULT_NAMESPACE, Connection, connection
from ..errors import ConfigurationError, printable

__all__ = ["Part", "pulumi", "read"]

_TYPES = "pulumi-python:dynamic/traceloop:"


class Part(NamedTuple):
    """The stack's setups in one Traceloop project."""

    connection: Connection
    #: The project's id, if the state has it.
    env_project_id: str | None
    #: The declared external_ids, whether the setups exist or not.
    declared: Collection[str]
    #: All external_ids in the stack's resources, including those of pending deletes.
    mentioned: Collection[str]


def pulumi() -> str:
    """Return the path of the Pulumi CLI.

    Raises:
        ConfigurationError: it is not on PATH.

    """
    command = shutil.which("pulumi")
    if command is None:
        raise ConfigurationError(
            "pulumi is not on PATH: https://www.pulumi.com/docs/iac/download-install"
        )
    return command


def read(name: str) -> list[Part]:
    """Return the setups of the stack *name*, by Traceloop project.

    Raises:
        ConfigurationError: the folder's project has no such stack, or the stack has no API key.

    """
    config = _run("config", "--show-secrets", "--stack", name)
    settings = {key: entry.get("value") for key, entry in config.items()}
    resources = _run("stack", "export", "--stack", name)["deployment"].get("resources") or []
    mentioned: dict[str, set[str]] = {}
    declared: dict[str, set[str]] = {}
    projects: dict[str, str] = {}
    for resource in resources:
        kind = str(resource.get("type")).removeprefix(_TYPES)
        if kind == resource.get("type") or resource.get("external"):
            continue
        props = {**(resource.get("inputs") or {}), **(resource.get("outputs") or {})}
        namespace = props.get("config_namespace") or DEFAULT_NAMESPACE
        ids = {resource["id"]} if kind == "AutoMonitorSetup" else set(_members(props))
        mentioned.setdefault(namespace, set()).update(ids, _listed(props.get("left")))
        if not resource.get("delete"):
            declared.setdefault(namespace, set()).update(ids)
        if isinstance(project := props.get("env_project_id"), str):
            projects[namespace] = project
    parts = []
    for namespace in sorted({*mentioned, *([] if mentioned else [DEFAULT_NAMESPACE])}):
        reach = connection(settings.get, os.environ, namespace)
        if not reach.api_key:
            raise ConfigurationError(f"the stack has no API key: {namespace}:apiKey is not set")
        ids = declared.get(namespace, set())
        parts.append(Part(reach, projects.get(namespace), ids, mentioned.get(namespace, set())))
    return parts


def _run(*arguments: str) -> Any:
    json_flag = ["--json"] if arguments[0] == "config" else []
    done = subprocess.run(  # noqa: S603 - what is run is the user's own CLI
        [pulumi(), *arguments, *json_flag, "--non-interactive"],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        reason = printable(done.stderr.decode(errors="replace").strip())
        raise ConfigurationError(f"`pulumi {' '.join(arguments)}` failed: {reason}")
    return json.loads(done.stdout)


def _members(group: Mapping[str, Any]) -> Iterator[str]:
    """Yield the external_ids of a group's batch or membership; secrets are left out."""
    yield from _listed(group.get("owned"))
    yield from _listed(group.get("external_ids"))
    try:
        yield from unpacked(group)
    except (AttributeError, TypeError, ValueError, zlib.error):
        return


def _listed(text: Any) -> list[str]:
    return list(json.loads(text)) if isinstance(text, str) and text else []
