"""Warns about rules on unknown or deprecated attributes.

``scripts/attributes.py`` generates ``attributes.json`` from the semantic conventions of
OpenTelemetry and Traceloop. The table is loaded with the first rule.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from .._naming import is_named
from .._text import names, printable

__all__ = ["Doubt", "doubts", "renames", "warning"]

#: How many attributes one warning lists.
_NAMED: Final = 10

#: How many unknown keys are compared with the known ones.
_COMPARED: Final = 200

_BUILDERS: Final = {"span_attributes": "span", "resource_attributes": "resource"}


class _Table(NamedTuple):
    #: The source of each known key.
    sources: Mapping[str, str]
    #: Prefixes of keys that users complete.
    open: tuple[str, ...]
    #: The successors of each deprecated key. A key that ends with a dot is a prefix.
    renamed: Mapping[str, Sequence[str]]
    #: Deprecated keys without successor.
    removed: Collection[str]
    values: Mapping[str, frozenset[str]]
    renamed_values: Mapping[str, Mapping[str, str]]
    #: The deprecated keys of each successor.
    former: Mapping[str, Sequence[str]]
    #: Suggestions for misspelled keys, by length.
    candidates: Mapping[int, Sequence[str]]


@lru_cache(maxsize=1)
def _table() -> _Table:
    path = Path(__file__).with_name("attributes.json")
    loaded = json.loads(path.read_text(encoding="utf-8"))
    sources = dict.fromkeys(loaded["span"], "span_attributes")
    sources |= dict.fromkeys(loaded["resource"], "resource_attributes")
    former: dict[str, list[str]] = {}
    for key, successors in loaded["renamed"].items():
        for successor in successors:
            former.setdefault(successor, []).append(key)
    candidates: dict[int, list[str]] = {}
    for key in sources.keys() - loaded["renamed"].keys() - set(loaded["removed"]):
        candidates.setdefault(len(key), []).append(key)
    return _Table(
        sources,
        tuple(loaded["open"]),
        loaded["renamed"],
        frozenset(loaded["removed"]),
        {key: frozenset(values) for key, values in loaded["values"].items()},
        loaded["renamed_values"],
        former,
        candidates,
    )


def _successors(key: str) -> Sequence[str]:
    renamed = _table().renamed
    if key in renamed:
        return renamed[key]
    # An indexed key, such as gen_ai.prompt.0.content.
    numbered = re.match(r"(.*?\.)\d", key)
    return renamed.get(numbered[1], ()) if numbered else ()


def _is_deprecated(key: str) -> bool:
    table = _table()
    return key in table.renamed or key in table.removed


def renames(key: str) -> Sequence[str]:
    """Return the attribute's names in other versions of the conventions, newer ones first.

    Example:
        ```python
        renames("gen_ai.system")         # ["gen_ai.provider.name"]
        renames("gen_ai.provider.name")  # ["gen_ai.system"]
        ```

    """
    former = [old for old in _table().former.get(key, ()) if not old.endswith(".")]
    return [*_successors(key), *former]


class Doubt(NamedTuple):
    """A doubt about one rule."""

    key: str
    #: Such as ``is deprecated; today's SDKs write "gen_ai.provider.name"``.
    text: str


def doubts(key: str, source: str, operands: Iterable[str] = ()) -> Iterator[Doubt]:
    """Yield doubts about a rule that today's SDKs may not match.

    Args:
        key: the attribute's key.
        source: ``span_attributes`` or ``resource_attributes``.
        operands: the operands of an equality. Only current or former documented values are quoted.

    """
    table = _table()
    successors = _successors(key)
    values = list(_value_doubts(key, successors, operands))
    if successors:
        written = " or ".join(f'"{successor}"' for successor in successors)
        yield Doubt(key, ", and ".join([f"is deprecated; today's SDKs write {written}", *values]))
    elif key in table.removed:
        yield Doubt(key, "is deprecated and has no successor")
    elif values:
        yield Doubt(key, f"has {' and '.join(values)} in today's SDKs")
    known = table.sources.get(key)
    if known and known != source and source in _BUILDERS:
        builder, right = _BUILDERS[known], (successors[0] if successors else key)
        text = f'is a {builder} attribute: write {builder}("{right}"), or source: {known}'
        yield Doubt(key, text)
    if not known and not successors and (near := _similar(key)):
        yield Doubt(key, f'is not a known attribute; did you mean "{near}"?')


def _value_doubts(key: str, successors: Sequence[str], operands: Iterable[str]) -> Iterator[str]:
    table = _table()
    new_key = next((s for s in successors if s in table.values), key)
    known = table.values.get(new_key)
    if not known:
        return
    former = table.renamed_values.get(new_key, {})
    folded = {value.casefold(): value for value in known}
    given = frozenset(operands)
    for operand in sorted(given - known):
        current = former.get(operand) or folded.get(operand.casefold())
        # A rule with both values is for older and newer SDKs.
        if current is not None and current not in given:
            yield f'"{current}" instead of "{operand}"'


@lru_cache(maxsize=4096)
def _similar(key: str) -> str | None:
    """Return the known key most similar to a misspelled one."""
    table = _table()
    if key.startswith(table.open):
        return None
    folded = key.casefold()
    near = [
        other
        for length in range(len(key) - 2, len(key) + 3)
        for other in table.candidates.get(length, ())
    ]
    # Keys of other namespaces are the user's own: the cutoff excludes them.
    found = get_close_matches(folded, near, n=1, cutoff=0.88)
    return found[0] if found else None


def warning(
    rules: Iterable[tuple[str, str, Iterable[str], str]], ignored: Collection[str] = ()
) -> str | None:
    """Return a warning about rules that may match nothing, or ``None``.

    Such rules may be correct: older SDKs and other instrumentations write other attributes.

    Args:
        rules: key, source, operands of an equality, and the setup's external_id of each rule.
        ignored: the keys to ignore, or patterns such as ``llm.*``.

    """
    used: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for key, source, operands, external_id in rules:
        used.setdefault((key, source, tuple(operands)), []).append(external_id)
    found: dict[Doubt, list[str]] = {}
    compared = 0
    sources, enumerated = _table().sources, _table().values
    for (key, source, operands), external_ids in used.items():
        # Fast path for the most frequent case, a known key with any value.
        if sources.get(key) == source and not _is_deprecated(key) and key not in enumerated:
            continue
        if is_named(key, ignored):
            continue
        if key not in sources:
            compared += 1
            if compared > _COMPARED:
                continue
        for doubt in doubts(key, source, operands):
            found.setdefault(doubt, []).extend(external_ids)
    if not found:
        return None
    lines = [
        f'"{printable(doubt.key)}" (in {names(list(dict.fromkeys(found[doubt])))}) {doubt.text}'
        for doubt in sorted(found)
    ]
    rest = len(lines) - _NAMED
    cut = [f"and {rest} more"] if rest > 0 else []
    head = "attributes that the spans of today's SDKs may not have:"
    return "\n".join([head, *(f"  {line}" for line in [*lines[:_NAMED], *cut])])
