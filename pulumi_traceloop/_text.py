"""What a person reads: texts that differ look different, and nothing in them acts on a terminal.

Two kinds of text: what somebody wrote to be read, such as a server's message, becomes `printable`;
what stands for a value, where one character more is another value, is `quoted` or a `name`.
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
    "name",
    "names",
    "pair",
    "printable",
    "quoted",
    "say",
    "use_utf8",
]

#: How many causes are reported, and how many external_ids of each.
CAUSES = 10
NAMES = 5

#: What is quoted of a server's message at most, in characters.
QUOTE_LIMIT = 500

#: How wide a value and a name get, in characters.
VALUE_WIDTH = 60
NAME_WIDTH = 120

#: How wide a column gets for the sake of a single cell.
COLUMN_WIDTH = 40

#: Printable as Unicode has it, but drawn as nothing: fillers, joiners and variation selectors.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
_SELECTORS = (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0))
_SHORT = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


_PRINTING = threading.Lock()


def printable(text: str, limit: int = QUOTE_LIMIT) -> str:
    """Return *text* on one line, cut after *limit* characters, without control characters.

    A server's words end up in a terminal; an escape sequence in them must not. Nor must what the
    engine takes for its own markup, ``<{%``: it fails at a colour that it does not know (seen on
    the Pulumi CLI 3.260).
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split())
    line = line.replace("<{%", "<\\u007b%")
    return line if len(line) <= limit else line[: limit - 3].rstrip() + "..."


def quoted(text: str, width: int = VALUE_WIDTH) -> str:
    """Return a value in quotes, with escapes for what nobody sees: two texts never look alike.

    A long one is cut in its middle, and a checksum stands for what is cut.
    """
    if len(text) <= width:
        return f'"{_escaped(text)}"'
    head, tail = text[: 2 * width // 3], text[-(width // 3) :]
    return f'"{_escaped(head)}"..."{_escaped(tail)}" (#{_checksum(text)})'


def name(external_id: str) -> str:
    """Return an external_id as it is, or `quoted` where it would not look like what it is."""
    text = quoted(external_id, NAME_WIDTH)
    plain = external_id and text == f'"{external_id}"' and " " not in external_id
    return external_id if plain else text


def pair(old: str, new: str, width: int = VALUE_WIDTH) -> tuple[str, str]:
    """Return two different values in quotes, cut around their first difference."""
    plain = _look_alike(old, new)
    if max(len(old), len(new)) <= width:
        return f'"{_escaped(old, plain)}"', f'"{_escaped(new, plain)}"'
    both = zip(old, new, strict=False)
    shared = next((n for n, (a, b) in enumerate(both) if a != b), min(len(old), len(new)))
    start = max(0, shared - width // 3)

    def side(text: str) -> str:
        shown = text[start : start + width]
        before, after = "..." if start else "", "..." if start + width < len(text) else ""
        return f'{before}"{_escaped(shown, plain)}"{after}'

    return side(old), side(new)


def cut(parts: Sequence[str], count: int, checked: Sequence[str] | None = None) -> list[str]:
    """Return the first *count* of *parts*, and how many more there are.

    Args:
        parts: what to list.
        count: how many of them at most; one more is not cut off alone.
        checked: what the parts stand for, if a checksum is to tell two lists apart that are cut.

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
        _code(char) if ascii_only and not char.isascii() else _seen(char, text[at - 1 : at])
        for at, char in enumerate(text)
    )


def _seen(char: str, before: str) -> str:
    """Return a character as it is, if it is seen for what it is after the one *before*."""
    if (short := _SHORT.get(char)) is not None:
        return short
    if char.isascii():
        # Of several blanks HTML shows one; the engine takes `<{%` for a colour.
        return char if char.isprintable() and before + char not in ("  ", "<{") else _code(char)
    hidden = (
        not char.isprintable()
        or char in _BLANK
        or any(ord(char) in selectors for selectors in _SELECTORS)
        # What looks like another spelling of the same character.
        or unicodedata.normalize("NFC", char) != char
        or (
            unicodedata.combining(char) > 0
            and len(unicodedata.normalize("NFC", before + char)) == 1
        )
    )
    return _code(char) if hidden else char


def _code(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def _look_alike(old: str, new: str) -> bool:
    """Whether two texts may be drawn alike: by compatibility, or by letters of another script."""
    if unicodedata.normalize("NFKC", old) == unicodedata.normalize("NFKC", new):
        return True
    differing = [(a, b) for a, b in zip(old, new, strict=False) if a != b]
    return len(old) == len(new) and all(a.isascii() != b.isascii() for a, b in differing)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a line for each row of cells, aligned; the last cell of a row may be of any width."""
    # As wide as the widest cell that another one follows, but for cells that are wider than fair.
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
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


def by_cause(failed: Mapping[str, str]) -> str:
    """Return one line for each cause in *failed* (``{external_id: why}``), with whom it hit.

    The most frequent cause comes first; what is cut off is counted.
    """
    hit: dict[str, list[str]] = {}
    for external_id, why in sorted(failed.items()):
        hit.setdefault(why, []).append(external_id)
    causes = sorted(hit.items(), key=lambda cause: (-len(cause[1]), cause[1]))
    lines = [f"  {names(external_ids)}: {why}" for why, external_ids in causes[:CAUSES]]
    rest = sum(len(external_ids) for _, external_ids in causes[CAUSES:])
    if rest:
        lines.append(f"  and {rest} more, for {len(causes) - CAUSES} other reasons")
    return "\n".join(lines)


def names(external_ids: Sequence[str]) -> str:
    """Return the first few of *external_ids*, quoted, and how many more there are."""
    shown = ", ".join(quoted(external_id, NAME_WIDTH) for external_id in external_ids[:NAMES])
    rest = len(external_ids) - NAMES
    return f"{shown} and {rest} more" if rest > 0 else shown


def use_utf8() -> None:
    """Have this process write UTF-8, and escape what even that cannot encode.

    A pipe has the encoding of the machine, such as cp1252 on Windows, while the engine reads UTF-8.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def say(text: str) -> None:
    """Print *text* at once: the provider's host serves several calls at a time.

    The host has no channel for messages: the engine reads its standard output, a pipe. A line is
    printed between a write to Traceloop and the response that records it in the state, so nothing
    raises here: neither a closed stream or a broken pipe, nor a text that the stream cannot encode.
    """
    with suppress(OSError, ValueError), _PRINTING:
        print(f"{text}\n", end="", flush=True)  # noqa: T201
