"""What is known about attributes without any span, and warnings about rules that doubt it.

The table beside this module is made by ``scripts/attributes.py`` from OpenTelemetry's semantic
conventions and Traceloop's own. It is loaded when a rule is first looked at.
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

#: How many attributes one warning names.
_NAMED: Final = 10

#: So many unknown keys are compared with the known ones.
_COMPARED: Final = 200

_BUILDERS: Final = {"span_attributes": "span", "resource_attributes": "resource"}


class _Table(NamedTuple):
    #: Every known key, and the source where it belongs.
    sources: Mapping[str, str]
    #: Keys that users complete begin like this.
    open: tuple[str, ...]
    #: What is written in the place of a deprecated key. One that ends with a dot stands for all
    #: that begin with it.
    renamed: Mapping[str, Sequence[str]]
    #: Deprecated keys without a successor.
    removed: Collection[str]
    values: Mapping[str, frozenset[str]]
    renamed_values: Mapping[str, Mapping[str, str]]
    #: The deprecated keys by their successor.
    former: Mapping[str, Sequence[str]]
    #: The keys that a misspelled one may have meant, by their length.
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
    # gen_ai.prompt.0.content: one key in many parts.
    numbered = re.match(r"(.*?\.)\d", key)
    return renamed.get(numbered[1], ()) if numbered else ()


def _is_deprecated(key: str) -> bool:
    table = _table()
    return key in table.renamed or key in table.removed


def renames(key: str) -> Sequence[str]:
    """Return what the attribute is called in other versions of the conventions, newer ones first.

    Example::

        renames("gen_ai.system")         # ["gen_ai.provider.name"]
        renames("gen_ai.provider.name")  # ["gen_ai.system"]

    """
    former = [old for old in _table().former.get(key, ()) if not old.endswith(".")]
    return [*_successors(key), *former]


class Doubt(NamedTuple):
    """What is doubtful about one rule."""

    key: str
    #: Such as ``is deprecated; today's SDKs write "gen_ai.provider.name"``.
    text: str


def doubts(key: str, source: str, operands: Iterable[str] = ()) -> Iterator[Doubt]:
    """Yield what is doubtful about a rule; nothing, if all is as today's SDKs write it.

    Args:
        key: the attribute's key.
        source: ``span_attributes`` or ``resource_attributes``.
        operands: what it is compared with for equality. They are quoted only where they are a
            documented value, or were one.

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
    if not known and not successors and (near := _meant(key)):
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
        meant = former.get(operand) or folded.get(operand.casefold())
        # Whoever names both means spans of older and of newer SDKs.
        if meant is not None and meant not in given:
            yield f'"{meant}" instead of "{operand}"'


@lru_cache(maxsize=4096)
def _meant(key: str) -> str | None:
    """Return the known key that a misspelled one may have meant."""
    table = _table()
    if key.startswith(table.open):
        return None
    folded = key.casefold()
    near = [
        other
        for length in range(len(key) - 2, len(key) + 3)
        for other in table.candidates.get(length, ())
    ]
    # A key of a namespace that is not known is the user's own.
    found = get_close_matches(folded, near, n=1, cutoff=0.88)
    return found[0] if found else None


def warning(
    rules: Iterable[tuple[str, str, Iterable[str], str]], ignored: Collection[str] = ()
) -> str | None:
    """Return a warning about rules that may match nothing; ``None`` if none is doubtful.

    They may be right all the same: older SDKs and other instrumentations write other attributes.

    Args:
        rules: of each, the key, the source, the operands that it is compared with for equality, and
            the external_id of the setup.
        ignored: the keys that nobody wants to hear of; they may be patterns, such as ``llm.*``.

    """
    used: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for key, source, operands, external_id in rules:
        used.setdefault((key, source, tuple(operands)), []).append(external_id)
    found: dict[Doubt, list[str]] = {}
    compared = 0
    sources, valued = _table().sources, _table().values
    for (key, source, operands), external_ids in used.items():
        # The most frequent case, a known key of any value, comes first: there may be thousands.
        if sources.get(key) == source and not _is_deprecated(key) and key not in valued:
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
