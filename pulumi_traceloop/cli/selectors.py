"""Reads selectors from a file of setups, from a preview, or from Traceloop."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .._codec import unpacked
from .._describe import SECRET, UNKNOWN, literal, literals
from .._naming import is_named
from ..spans.matching import Rule, SelectorRule
from .preview import PreviewError

if TYPE_CHECKING:
    from .._models import Setup

__all__ = ["Selector", "from_file", "from_setups", "named", "selector"]

_RESOURCES: Final = "pulumi-python:dynamic/traceloop:"
_DELETES: Final = ("delete", "delete-replaced", "discard", "discard-replaced")

#: The placeholders of the CLI and the package for secret and unknown values.
_HIDDEN: Final = (SECRET, UNKNOWN, "04da6b54-80e4-46f7-96ec-b56ff0331ba9")


@dataclass(frozen=True)
class Selector:
    """The rules of one setup."""

    rules: Sequence[SelectorRule]
    #: Whether more rules exist, with secret or unknown values.
    partly_hidden: bool = False


def from_setups(setups: Mapping[str, Setup]) -> dict[str, Selector]:
    """Return the selectors of the setups in Traceloop."""
    return {external_id: Selector(setup.init_rules) for external_id, setup in setups.items()}


def from_file(path: Path) -> dict[str, Selector]:
    """Return the selectors of a file of setups, or of the output of `pulumi preview --json`.

    Raises:
        PreviewError: the file is neither.
        OSError: the file cannot be read.

    """
    preview = _preview(path)
    if preview is None:
        from ..files import FileError, load_setups

        try:
            setups: Mapping[str, Any] = literals(load_setups(path))
        except FileError as error:
            raise PreviewError(str(error)) from None
    else:
        setups = dict(_declared(preview))
    return {external_id: selector(setup) for external_id, setup in sorted(setups.items())}


def named(
    selectors: Mapping[str, Selector], patterns: Sequence[str]
) -> tuple[dict[str, Selector], list[str]]:
    """Return the selectors that *patterns* name, and the patterns that name none.

    Without patterns, all selectors are returned.
    """
    if not patterns:
        return dict(selectors), []
    found = {
        external_id: selector
        for external_id, selector in selectors.items()
        if is_named(external_id, patterns)
    }
    missing = [p for p in patterns if not any(is_named(each, [p]) for each in found)]
    return found, missing


def _preview(path: Path) -> Mapping[str, Any] | None:
    """Return the file's content if it is a preview."""
    text = path.read_bytes()
    if not text.lstrip(b"\xef\xbb\xbf\xff\xfe \r\n\t").startswith(b"{"):
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None  # YAML may begin with a brace too; `load_setups` reports its errors
    is_preview = isinstance(document, dict) and document.keys() & {"steps", "changeSummary"}
    return document if is_preview else None


def _declared(preview: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield each setup that will exist after the update, with its external_id."""
    for step in preview.get("steps") or []:
        state = step.get("newState") or {}
        inputs, kind = state.get("inputs") or {}, str(state.get("type", ""))
        if step.get("op") in _DELETES:
            continue
        if kind == f"{_RESOURCES}AutoMonitorSetup":
            yield str(inputs.get("external_id")), _seen(inputs, inputs.get("shown"))
        elif kind == f"{_RESOURCES}AutoMonitorSetupBatch":
            shown = inputs.get("shown")
            for external_id, setup in _members(inputs).items():
                other = shown.get(external_id) if isinstance(shown, dict) else shown
                yield external_id, _seen(setup, other)


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
