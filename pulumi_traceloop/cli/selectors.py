"""Reads selectors from a file of setups, from a preview, or from Traceloop."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .._codec import unpacked
from .._describe import SECRET, UNKNOWN, literal, literals
from .._naming import is_named
from .._settings import DEFAULT_NAMESPACE
from ..spans.matching import Rule, SelectorRule
from .preview import READS, PreviewError, json_document

if TYPE_CHECKING:
    from .._models import Setup

__all__ = ["Declared", "Selector", "by_label", "from_file", "from_setups", "named", "selector"]

#: The command whose output has all setups.
COMMAND: Final = "pulumi preview --json --show-sames > preview.json"

_RESOURCES: Final = "pulumi-python:dynamic/traceloop:"
#: The steps whose new state is not a declared resource: of what is deleted, read by `get`, or
#: refreshed before the preview.
_OTHERS: Final = ("delete", "delete-replaced", "refresh", *READS)

#: The placeholders of the CLI and the package for secret and unknown values.
_HIDDEN: Final = (SECRET, UNKNOWN, "04da6b54-80e4-46f7-96ec-b56ff0331ba9")


@dataclass(frozen=True)
class Selector:
    """The rules of one setup."""

    rules: Sequence[SelectorRule]
    #: Whether more rules exist, with secret or unknown values.
    partly_hidden: bool = False


class Declared(NamedTuple):
    """The selector of one setup, and where it is from."""

    external_id: str
    selector: Selector
    file: str = ""
    namespace: str = ""


def from_setups(setups: Mapping[str, Setup]) -> list[Declared]:
    """Return the selectors of the setups in Traceloop."""
    return [Declared(i, Selector(setup.init_rules)) for i, setup in setups.items()]


def from_file(path: Path) -> list[Declared]:
    """Return the selectors of a file of setups, or of the output of `pulumi preview --json`.

    Raises:
        PreviewError: the file is neither, or the preview failed or lacks unchanged resources.
        OSError: the file cannot be read.

    """
    preview = _preview(path)
    if preview is not None:
        _check_complete(preview, path)
        return [
            Declared(external_id, selector(setup), str(path), namespace)
            for external_id, setup, namespace in _declared(preview)
        ]
    from ..files import FileError, load_setups

    try:
        setups = literals(load_setups(path))
    except FileError as error:
        raise PreviewError(str(error)) from None
    return [Declared(i, selector(setup), str(path)) for i, setup in setups.items()]


def named(
    declared: Sequence[Declared], patterns: Sequence[str]
) -> tuple[list[Declared], list[str]]:
    """Return the selectors that *patterns* name, and the patterns that name none.

    Without patterns, all selectors are returned.
    """
    if not patterns:
        return list(declared), []
    found = [each for each in declared if is_named(each.external_id, patterns)]
    missing = [p for p in patterns if not any(is_named(each.external_id, [p]) for each in found)]
    return found, missing


def by_label(declared: Iterable[Declared]) -> dict[str, Declared]:
    """Return the selectors by external_id.

    Where others of this external_id have other rules, the file or namespace is added:
    ``m (a.yaml)``.
    """
    groups: dict[str, list[Declared]] = {}
    for each in declared:
        groups.setdefault(each.external_id, []).append(each)
    found: dict[str, Declared] = {}
    for external_id, group in groups.items():
        same = all(each.selector == group[0].selector for each in group)
        files = len({each.file for each in group}) > 1
        namespaces = len({each.namespace for each in group}) > 1
        for each in group:
            parts = (each.file if files else "", each.namespace if namespaces else "")
            where = ", ".join(filter(None, parts))
            found[external_id if same or not where else f"{external_id} ({where})"] = each
    return found


def _preview(path: Path) -> Mapping[str, Any] | None:
    """Return the preview in a file; ``None`` if the file has none."""
    text = path.read_bytes()
    try:
        return json_document(text.decode(json.detect_encoding(text)))
    except (UnicodeError, PreviewError):
        return None  # `load_setups` reports the errors of other files


def _check_complete(preview: Mapping[str, Any], path: Path) -> None:
    """Refuse a preview that does not have all setups."""
    severities = [str(each.get("severity")) for each in preview.get("diagnostics") or []]
    if any(severity.partition("#")[0] == "error" for severity in severities):
        raise PreviewError(f"{path} is a preview that failed: it may lack setups")
    same = sum(step.get("op") == "same" for step in preview.get("steps") or [])
    if (preview.get("changeSummary") or {}).get("same", 0) > same:
        raise PreviewError(f"{path} lacks the unchanged resources. Write it with: {COMMAND}")


def _declared(preview: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Yield each setup that will exist after the update: external_id, setup and namespace."""
    for step in preview.get("steps") or []:
        state = step.get("newState") or {}
        inputs, kind = state.get("inputs") or {}, str(state.get("type", ""))
        if step.get("op") in _OTHERS or state.get("external"):
            continue
        namespace = str(inputs.get("config_namespace") or DEFAULT_NAMESPACE)
        if kind == f"{_RESOURCES}AutoMonitorSetup":
            yield str(inputs.get("external_id")), _seen(inputs, inputs.get("shown")), namespace
        elif kind == f"{_RESOURCES}AutoMonitorSetupBatch":
            shown = inputs.get("shown")
            for external_id, setup in _members(inputs).items():
                other = shown.get(external_id) if isinstance(shown, dict) else shown
                yield external_id, _seen(setup, other), namespace


def _members(batch: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return unpacked(batch)
    except (AttributeError, TypeError, ValueError, zlib.error):  # the CLI has masked them
        return {}


def _seen(setup: Any, shown: Any) -> Any:
    """Return the display JSON of a setup, whose JSON in a group holds no placeholder."""
    if isinstance(shown, str) and shown not in _HIDDEN:
        return json.loads(shown)
    if isinstance(setup, str):
        return None if setup in _HIDDEN else literals(json.loads(setup))
    return setup


def selector(setup: Any) -> Selector:
    """Return the selector of a setup, given as the values of its display JSON."""
    rules = setup.get("selector") if isinstance(setup, dict) else None
    if not isinstance(rules, list):
        return Selector((), partly_hidden=True)
    seen = [_rule(rule) for rule in rules]
    known = [rule for rule in seen if rule is not None]
    return replace(Selector(known), partly_hidden=len(known) < len(seen))


def _rule(rule: Any) -> Rule | None:
    """Return the rule; ``None`` if a part of it is hidden."""
    if not isinstance(rule, dict):
        return None
    values = rule.get("values")
    parts = [rule.get(name) for name in ("key", "source", "operator", "value")]
    if any(
        part in _HIDDEN for part in (*parts, *(values if isinstance(values, list) else [values]))
    ):
        return None
    key, source, operator, value = map(_literal, parts)
    return Rule(key, source, operator, value, values and [_literal(each) for each in values])


def _literal(part: Any) -> Any:
    return literal(part) if isinstance(part, str) else part
