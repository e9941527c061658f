"""Parses the list of setups while it arrives.

An organization may have tens of thousands of setups of 2 kB each. Parsed as a whole, 100,000 took
1.2 GiB; item by item, they take the memory of the setups that are kept, and less time. `json` finds
the end of each item: ijson 3.6 with its C backend takes a third longer (``benchmarks/README.md``).
"""

from __future__ import annotations

import codecs
import json
import re

from pydantic import ValidationError

from .._mismatch import mismatch
from .._models import SETUP, UNREADABLE_LIMIT, Listing, Setup, Unreadable, unreadable

__all__ = ["ListStream"]

#: The longest item, in characters.
_ITEM_LIMIT = 1024 * 1024

_BLANKS = re.compile(r"[ \t\n\r]*")


def _no_json(constant: str) -> None:
    raise ValueError(constant)  # NaN and Infinity, which Python would accept


_decode = json.JSONDecoder(parse_constant=_no_json).raw_decode


class ListStream:
    """Parses the response of the list route: an array of setups, or ``null`` for an empty one.

    An invalid item does not block the others.

    Args:
        of_project: keep the setups with this ``env_project_id``, those without one, and one of
            each other project; all if ``None``.

    """

    def __init__(self, of_project: str | None = None) -> None:
        self._of_project = of_project
        self._projects: set[str] = set()
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        #: The unparsed text, and its length at which the next attempt to parse it is due.
        self._text, self._enough = "", 1
        self._begun = self._ended = False
        self._count = 0
        self._setups: list[Setup] = []
        self._unreadable: list[Unreadable] = []
        #: The number of invalid items, and the first one's problem.
        self._problems = 0
        self._first_problem: str | None = None
        #: Why this is not a list of setups: an item's problem, or the whole response's.
        self.wrong_item: str | None = None
        self.problem: str | None = None

    @property
    def failed(self) -> bool:
        """Whether this is not a list of setups, so that the rest need not be read."""
        return self.problem is not None or self.wrong_item is not None

    def feed(self, data: bytes, *, last: bool = False) -> None:
        """Parse the next part of the body.

        Args:
            data: the next bytes of the body.
            last: whether the body ends with them.

        """
        if self.failed:
            return
        try:
            self._text += self._decoder.decode(data, last)
        except UnicodeDecodeError:
            self.problem = "it is not UTF-8"
            return
        if not last and len(self._text) < self._enough:
            return
        before = len(self._text)
        position = self._read()
        self._text = self._text[position:]
        # An incomplete item is parsed again from its start, so not before the text has doubled.
        self._enough = 1 if position else 2 * before
        if before - position > _ITEM_LIMIT:
            self.problem = f"an item is no JSON, or longer than {_ITEM_LIMIT:,} characters"
        elif last and not self.failed:
            self._end()

    def listing(self) -> Listing:
        """Return the setups of the whole list."""
        return Listing(self._setups, self._unreadable)

    def _end(self) -> None:
        if not self._begun and self._text.strip(" \t\n\r") == "null":
            return  # Go encodes a nil slice as null
        if not self._ended:
            self.problem = "invalid JSON, or cut off"
        elif self._first_problem and not (self._setups or self._unreadable):
            self.wrong_item = self._first_problem

    def _read(self) -> int:
        """Parse all complete items; return the position of the next one."""
        text, position = self._text, self._after_blanks(0)
        if not self._begun:
            if position == len(text) or (text[position] != "[" and len(text) - position < 64):
                return 0  # it may be "null"
            if text[position] != "[":
                self.problem = "no array"
                return position
            self._begun = True
            position = self._after_blanks(position + 1)
        if not self._count and text[position : position + 1] == "]":
            self._ended = True
            position = self._after_blanks(position + 1)
        while position < len(text) and not self._ended and not self.failed:
            try:
                value, end = _decode(text, position)
            except RecursionError:
                self.problem = "an item is nested too deeply"
                break
            except ValueError:
                break  # incomplete or invalid
            end = self._after_blanks(end)
            if end == len(text):
                break  # a number may continue in the next chunk
            if text[end] not in ",]":
                self.problem = "invalid JSON"
                break
            # JSON can contain lone surrogates, and pydantic accepts them.
            escaped = text.find("\\ud", position, end) >= 0 or text.find("\\uD", position, end) >= 0
            self._add(value, "" if not escaped or _is_unicode(value) else "it is no Unicode text")
            self._ended = text[end] == "]"
            position = self._after_blanks(end + 1)
        if self._ended and position < len(text):
            self.problem = "something follows the array"
        return position

    def _after_blanks(self, position: int) -> int:
        found = _BLANKS.match(self._text, position)
        return found.end() if found else position

    def _add(self, item: object, problem: str) -> None:
        where = f"[{self._count}]"
        self._count += 1
        project = item.get("env_project_id") if isinstance(item, dict) else None
        foreign = self._of_project is not None and isinstance(project, str)
        if foreign and project != self._of_project and project in self._projects:
            return
        if not problem:
            try:
                setup = SETUP.validate_python(item)
            except ValidationError as error:
                problem = mismatch(error)
                self._first_problem = self._first_problem or mismatch(error, where)
            else:
                self._setups.append(setup)
                if setup.env_project_id is not None:
                    self._projects.add(setup.env_project_id)
                return
        self._first_problem = self._first_problem or f"{where}: {problem}"
        self._problems += 1
        if found := unreadable(item, problem):
            self._unreadable.append(found)
        if self._problems > UNREADABLE_LIMIT:
            self.wrong_item = self._first_problem


def _is_unicode(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
