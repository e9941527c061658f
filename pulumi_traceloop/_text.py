"""Formats text for people: different texts look different, and none controls the terminal.

Messages, such as a server's, become `printable`. Values, where every character counts, become
`quoted` or a `name`.
"""

from __future__ import annotations

import io
import sys
import threading
import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress

__all__ = [
    "by_cause",
    "columns",
    "cut",
    "look_alike",
    "name",
    "names",
    "pair",
    "printable",
    "quoted",
    "say",
    "use_utf8",
]

#: How many causes are listed, and how many external_ids of each.
CAUSES = 10
NAMES = 5

#: The longest quotation of a server's message, in characters.
QUOTE_LIMIT = 500

#: The width of a value and of a name, in characters.
VALUE_WIDTH = 60
NAME_WIDTH = 120

#: The widest cell that determines a column's width.
COLUMN_WIDTH = 40

#: Printable in Unicode but invisible: fillers, joiners and variation selectors.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
_SELECTORS = (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0))
_SHORT = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


_PRINTING = threading.Lock()


def printable(text: str, limit: int = QUOTE_LIMIT) -> str:
    """Return *text* on one line, without control characters, cut after *limit* characters.

    Also escapes ``<{%``, the engine's markup: the engine fails at an unknown colour (seen on the
    Pulumi CLI 3.260).
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split())
    line = line.replace("<{%", "<\\u007b%")
    return line if len(line) <= limit else line[: limit - 3].rstrip() + "..."


def quoted(text: str, width: int = VALUE_WIDTH) -> str:
    """Return a value in quotes, with invisible characters escaped.

    Different values never look alike: a long one is cut in the middle, and gets a checksum.
    """
    if len(text) <= width:
        return f'"{_escaped(text)}"'
    head, tail = text[: 2 * width // 3], text[-(width // 3) :]
    return f'"{_escaped(head)}"..."{_escaped(tail)}" (#{_checksum(text)})'


def name(external_id: str) -> str:
    """Return an external_id, `quoted` if it would be ambiguous."""
    text = quoted(external_id, NAME_WIDTH)
    plain = external_id and text == f'"{external_id}"' and " " not in external_id
    return external_id if plain else text


def pair(old: str, new: str, width: int = VALUE_WIDTH) -> tuple[str, str]:
    """Return two different values in quotes, cut around their first difference."""
    ascii_only = look_alike(old, new)
    if max(len(old), len(new)) <= width:
        return f'"{_escaped(old, ascii_only)}"', f'"{_escaped(new, ascii_only)}"'
    both = zip(old, new, strict=False)
    shared = next((n for n, (a, b) in enumerate(both) if a != b), min(len(old), len(new)))
    start = max(0, shared - width // 3)

    def side(text: str) -> str:
        part = text[start : start + width]
        before, after = "..." if start else "", "..." if start + width < len(text) else ""
        return f'{before}"{_escaped(part, ascii_only)}"{after}'

    return side(old), side(new)


def cut(parts: Sequence[str], count: int, checked: Sequence[str] | None = None) -> list[str]:
    """Return the first *count* of *parts*, and the number of the others.

    Args:
        parts: the parts to list.
        count: the most parts to list; a single further part is listed too.
        checked: the full values of the parts, for a checksum that distinguishes cut lists.

    """
    if len(parts) <= count + 1:
        return list(parts)
    mark = f" (#{_checksum(chr(0).join(checked))})" if checked else ""
    return [*parts[:count], f"and {len(parts) - count:,} more{mark}"]


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode(errors='surrogatepass')):08x}"


def _escaped(text: str, ascii_only: bool = False) -> str:
    if text.isascii() and text.isalnum():
        return text
    return "".join(
        _code(char) if ascii_only and not char.isascii() else _visible(char, text[at - 1 : at])
        for at, char in enumerate(text)
    )


def _visible(char: str, before: str) -> str:
    """Return a character, escaped if it is invisible or ambiguous after the one *before*."""
    if (short := _SHORT.get(char)) is not None:
        return short
    if char.isascii():
        # HTML collapses blanks; `<{%` is the engine's colour markup.
        return char if char.isprintable() and before + char not in ("  ", "<{") else _code(char)
    hidden = (
        not char.isprintable()
        or char in _BLANK
        or any(ord(char) in selectors for selectors in _SELECTORS)
        # Another encoding of the same character.
        or unicodedata.normalize("NFC", char) != char
        or (
            unicodedata.combining(char) > 0
            and len(unicodedata.normalize("NFC", before + char)) == 1
        )
    )
    return _code(char) if hidden else char


def _code(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def look_alike(old: str, new: str) -> bool:
    """Whether two texts may look alike: compatibility forms, or letters of another script."""
    if unicodedata.normalize("NFKC", old) == unicodedata.normalize("NFKC", new):
        return True
    differing = [(a, b) for a, b in zip(old, new, strict=False) if a != b]
    return len(old) == len(new) and all(a.isascii() != b.isascii() for a, b in differing)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return an aligned line for each row; the last cell of a row may have any width."""
    # The widest cell counts, except those above COLUMN_WIDTH and the last of a row.
    widths: dict[int, int] = {}
    for row in rows:
        for column, cell in enumerate(row[:-1]):
            if (width := _width(cell)) <= COLUMN_WIDTH:
                widths[column] = max(widths.get(column, 0), width)

    def padded(column: int, cell: str) -> str:
        return cell + " " * (widths.get(column, 0) - _width(cell))

    return [
        "  ".join([*(padded(*each) for each in enumerate(row[:-1])), *row[-1:]]) for row in rows
    ]


def _width(text: str) -> int:
    """Return the width of a text in terminal columns."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


def by_cause(failed: Mapping[str, str]) -> str:
    """Return one line for each cause in *failed* (``{external_id: why}``), with its setups.

    The most frequent cause comes first; further causes are counted.
    """
    causes: dict[str, list[str]] = {}
    for external_id, why in sorted(failed.items()):
        causes.setdefault(why, []).append(external_id)
    ranked = sorted(causes.items(), key=lambda cause: (-len(cause[1]), cause[1]))
    lines = [f"  {names(external_ids)}: {why}" for why, external_ids in ranked[:CAUSES]]
    rest = sum(len(external_ids) for _, external_ids in ranked[CAUSES:])
    if rest:
        lines.append(f"  and {rest} more, for {len(ranked) - CAUSES} other reasons")
    return "\n".join(lines)


def names(external_ids: Sequence[str]) -> str:
    """Return the first few of *external_ids*, quoted, and the number of the others."""
    listed = ", ".join(quoted(external_id, NAME_WIDTH) for external_id in external_ids[:NAMES])
    rest = len(external_ids) - NAMES
    return f"{listed} and {rest} more" if rest > 0 else listed


def use_utf8() -> None:
    """Write UTF-8, and escape surrogates.

    By default a pipe has the platform's encoding, such as cp1252, but the engine reads UTF-8.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def say(text: str) -> None:
    """Print *text* atomically: the provider's host serves concurrent calls.

    The engine reads the host's standard output, a pipe; there is no other channel. A line is
    printed between a write to Traceloop and the response that records it in the state. So nothing
    raises here: neither a closed stream or a broken pipe, nor text that the stream cannot encode.
    """
    with suppress(OSError, ValueError), _PRINTING:
        print(f"{text}\n", end="", flush=True)  # noqa: T201
