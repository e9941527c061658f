"""Reads the text of a YAML or JSON file to nodes, and bounds what it may hold.

The library composes nodes without building any object: no tag can run code, and every value keeps
its line. It knows YAML 1.1, where ``on`` is a boolean and ``1.10`` the number 1.1: `meaning` names
what such a text is taken for, so that nobody converts it unawares.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from ._text import printable
from ._validation import setup_path

__all__ = [
    "Node",
    "Place",
    "UnreadableError",
    "compose",
    "is_null",
    "join",
    "meaning",
    "merges",
    "place_of",
    "shown",
]

#: A longer file, in bytes, is not a list of monitors: 20,000 setups are shorter.
_FILE_LIMIT = 10 * 1024 * 1024

#: How many values a file may have once its aliases are expanded, and how deep they may be nested.
_VALUE_LIMIT = 1_000_000
_DEPTH_LIMIT = 100

Node: TypeAlias = yaml.ScalarNode | yaml.SequenceNode | yaml.MappingNode
#: A line and a column, counted from 0.
Place: TypeAlias = tuple[int, int]
#: Takes what is wrong: the place, the property's path and why.
Wrong: TypeAlias = Callable[[Place, str, str], None]

_YAML = "tag:yaml.org,2002:"


class UnreadableError(Exception):
    """The file cannot be read beyond this."""

    def __init__(self, place: Place | None, reason: str) -> None:
        self.place = place
        self.reason = reason
        super().__init__(reason)


class _Composer(yaml.composer.Composer):
    """Composes nodes, and bounds how deep they are nested: the library's own one recurses."""

    # What the parser that this is mixed into has.
    check_event: Any
    peek_event: Any

    def __init__(self) -> None:
        yaml.composer.Composer.__init__(self)
        #: The anchors of the nodes that are begun.
        self._open: list[str | None] = []

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        place = place_of(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self._open:
                raise UnreadableError(place, f"the alias *{event.anchor} is inside its own anchor")
            if event.anchor not in self.anchors:
                reason = f"the alias *{event.anchor} needs an anchor &{event.anchor} before it"
                raise UnreadableError(place, reason)
        if len(self._open) > _DEPTH_LIMIT:
            raise _too_deep(place)
        self._open.append(None if isinstance(event, yaml.AliasEvent) else event.anchor)
        node = super().compose_node(parent, index)
        self._open.pop()
        return node

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        tagged = self.peek_event().tag is not None
        node = super().compose_scalar_node(anchor)
        if tagged:  # as good as quotes
            node.style = '"'
        return node


def _loader(base: Any) -> Any:
    class Loader(_Composer, base):  # type: ignore[misc]
        def __init__(self, text: str) -> None:
            base.__init__(self, text)
            _Composer.__init__(self)

    return Loader


_Loader = _loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def compose(file: str, wrong: Wrong) -> Node:
    """Return the root of a file.

    Args:
        file: the file's name.
        wrong: gets what is wrong with tags and keys.

    Raises:
        UnreadableError: there is no file, or the rest of it makes no sense.

    """
    text = _text(file)
    try:
        root: Node | None = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text) from None
    if root is None or (is_null(root) and not root.value):
        raise UnreadableError(
            None, "is empty; a file that declares no monitors says so: `setups: {}`"
        )
    _Survey(wrong).check(root, "")
    return root


def _text(name: str) -> str:
    try:
        with Path(name).open("rb") as file:
            content = file.read(_FILE_LIMIT + 1)
    except FileNotFoundError:
        where = "" if Path(name).is_absolute() else f" in {Path.cwd()}"
        raise UnreadableError(
            None,
            f"there is no such file{where}; a relative path begins at the working directory,"
            " which under `pulumi up` is the project's folder",
        ) from None
    except OSError as error:
        raise UnreadableError(None, f"cannot be read: {error.strerror}") from None
    if len(content) > _FILE_LIMIT:
        raise UnreadableError(
            None,
            f"is longer than {_FILE_LIMIT // 1024**2} MiB, too long for a list of monitors; if"
            " it is one, split it into several files, one for each group",
        )
    try:
        text = content.decode("utf-8")  # PyYAML skips a byte order mark
    except UnicodeDecodeError as error:
        place = (content[: error.start].count(b"\n"), 0)
        raise UnreadableError(place, "is not UTF-8 text; save the file as UTF-8") from None
    if bad := yaml.reader.Reader.NON_PRINTABLE.search(text):
        raise UnreadableError(
            (text.count("\n", 0, bad.start()), 0),
            f"the character U+{ord(bad[0]):04X} is not allowed; remove it, or write it as an"
            " escape in double quotes",
        )
    if name.lower().endswith(".json"):
        return _as_yaml(text)
    if bad := _LINE_BREAK.search(text):
        raise UnreadableError(
            (text.count("\n", 0, bad.start()), 0),
            f"the character U+{ord(bad[0]):04X} is a line break in YAML and would become a"
            f" blank; remove it, or write it as \\u{ord(bad[0]):04x} in double quotes",
        )
    return text


class _Survey:
    """Checks the tags, keys and extent of nodes, each of them once."""

    def __init__(self, wrong: Wrong) -> None:
        self._wrong = wrong
        self._extents: dict[int, tuple[int, int]] = {}

    def check(self, node: Node, path: str) -> tuple[int, int]:
        """Check a node and all below it.

        Returns:
            How many values it has with its aliases expanded, and how deep they are nested.

        """
        if known := self._extents.get(id(node)):
            return known
        place = place_of(node.start_mark)
        if not _has_its_own_tag(node):
            tag = node.tag.replace(_YAML, "!!")
            self._wrong(place, path, f"the tag {shown(tag)} is not allowed here; remove it")
        size, depth = 1, 1
        for below, child in self._children(node, path):
            child_size, child_depth = self.check(child, below)
            size, depth = size + child_size, max(depth, child_depth + 1)
            if size > _VALUE_LIMIT:
                raise UnreadableError(
                    place,
                    f"has more than {_VALUE_LIMIT:,} values with its aliases expanded; use fewer"
                    " aliases, or split the file",
                )
        if depth > _DEPTH_LIMIT:
            raise _too_deep(place)
        self._extents[id(node)] = size, depth
        return size, depth

    def _children(self, node: Node, path: str) -> Iterator[tuple[str, Node]]:
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                yield f"{path}[{index}]", item
        elif isinstance(node, yaml.MappingNode):
            first: dict[str, int] = {}
            for key, value in node.value:
                place = place_of(key.start_mark)
                if not isinstance(key, yaml.ScalarNode):
                    reason = (
                        "a list or mapping is no key; put a text that begins with [ or { in quotes"
                    )
                    self._wrong(place, path, reason)
                    continue
                if key.value in first:
                    cure = "; merge both with `<<: [*one, *other]`" if merges(key) else ""
                    reason = f'duplicate key "{shown(key.value)}" (first on line'
                    self._wrong(place, path, f"{reason} {first[key.value]}){cure}")
                first.setdefault(key.value, place[0] + 1)
                yield join(path, key.value), value


#: What YAML 1.1 takes for a line break, and JSON for a character of a string.
_LINE_BREAK = re.compile("[\x85\u2028\u2029]")

#: JSON's two escapes of a character beyond the first 65,536, and the backslashes before them.
_PAIR = re.compile(
    r"(?<!\\)((?:\\\\)*)(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
)

#: What the library does not take for anything but other readers of YAML do: 1.1 says that ``y`` is
#: a boolean, 1.2 that ``0o17`` and ``1e3`` are numbers.
_OTHERS = (
    (re.compile(r"[yYnN]"), "a boolean"),
    (re.compile(r"0o[0-7]+|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), "a number"),
)

_MEANT = {"bool": "a boolean", "int": "a number", "float": "a number", "timestamp": "a date"}


def _as_yaml(text: str) -> str:
    """Return JSON without what YAML does not read as JSON does.

    That is an indentation of tabs, characters beyond the first 65,536 as two escapes, and
    characters that are line breaks in YAML.
    """
    text = _PAIR.sub(lambda pair: pair[1] + json.loads(f'"{pair[2]}"'), text.replace("\t", " "))
    return _LINE_BREAK.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _syntax_error(error: yaml.MarkedYAMLError, text: str) -> UnreadableError:
    mark = error.problem_mark or error.context_mark
    place = place_of(mark) if mark else None
    problem, line = error.problem or "", ""
    if place and place[0] < len(lines := text.split("\n")):
        line = lines[place[0]]
    if "another document" in problem:
        return UnreadableError(place, "begins a second document; keep one in the file")
    if "cannot start any token" in problem and place and line[place[1] : place[1] + 1]:
        found = line[place[1]]
        if found == "\t":
            return UnreadableError(place, "begins with a tab; YAML is indented with spaces")
        reason = f'a value cannot begin with {found}; put it in quotes, "{found}..."'
        return UnreadableError(place, reason)
    if "mapping values are not allowed" in problem:
        return UnreadableError(
            place,
            'is not valid YAML: there is a ":" too many; check the indentation, and put a text that'
            ' holds ": " in quotes',
        )
    context = f" {error.context}" if error.context else ""
    begun = error.context_mark
    if begun and place and begun.line != place[0]:
        context += f" that begins in line {begun.line + 1}"
    return UnreadableError(
        place,
        f"is not valid YAML:{context}{',' if context else ''} {shown(problem, 200)}; check the"
        " quotes, brackets and indentation there",
    )


def _too_deep(place: Place) -> UnreadableError:
    reason = f"is nested more than {_DEPTH_LIMIT} deep; no setup is: check the brackets"
    return UnreadableError(place, reason)


def join(path: str, key: str) -> str:
    if path == "setups":
        return setup_path(key)
    return f"{path}.{key}" if path else key


def place_of(mark: Any) -> Place:
    return mark.line, mark.column


def _is_plain(node: Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and not node.style


def is_null(node: Node) -> bool:
    return _is_plain(node) and node.tag == f"{_YAML}null"


def merges(key: yaml.ScalarNode) -> bool:
    return _is_plain(key) and key.tag == f"{_YAML}merge"


def _has_its_own_tag(node: Node) -> bool:
    return _is_plain(node) or node.tag == _YAML + _KINDS[type(node)]


_KINDS: Final[dict[type[yaml.Node], str]] = {
    yaml.ScalarNode: "str",
    yaml.SequenceNode: "seq",
    yaml.MappingNode: "map",
}


def meaning(node: yaml.ScalarNode) -> str | None:
    """Return what YAML takes a plain text for, or ``None`` if that is a string."""
    if not _is_plain(node):
        return None
    if node.tag != f"{_YAML}str":
        return _MEANT.get(node.tag.removeprefix(_YAML), "something else")
    return next((meant for pattern, meant in _OTHERS if pattern.fullmatch(node.value)), None)


def shown(text: str, limit: int = 60) -> str:
    return printable(text, limit)
