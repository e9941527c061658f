"""Composes the nodes of a YAML or JSON file, with limits on size and depth.

PyYAML composes nodes without constructing objects: no tag can run code, and every value keeps its
line. It implements YAML 1.1, where ``on`` is a boolean and ``1.10`` the number 1.1: `implied_type`
reports such a type, so that callers can refuse the value.
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
    "excerpt",
    "implied_type",
    "is_null",
    "join",
    "merges",
    "place_of",
]

#: The longest file, in bytes; 20,000 setups are shorter.
_FILE_LIMIT = 10 * 1024 * 1024

#: The most values of a file with its aliases expanded, and the deepest nesting.
_VALUE_LIMIT = 1_000_000
_DEPTH_LIMIT = 100

Node: TypeAlias = yaml.ScalarNode | yaml.SequenceNode | yaml.MappingNode
#: A line and a column, counted from 0.
Place: TypeAlias = tuple[int, int]
#: Reports a problem: the place, the property's path and the reason.
Report: TypeAlias = Callable[[Place, str, str], None]

_YAML = "tag:yaml.org,2002:"


class UnreadableError(Exception):
    """The rest of the file cannot be read."""

    def __init__(self, place: Place | None, reason: str) -> None:
        self.place = place
        self.reason = reason
        super().__init__(reason)


class _Composer(yaml.composer.Composer):
    """Limits the nesting of nodes: PyYAML's composer recurses."""

    # Methods of the parser that this is mixed into.
    check_event: Any
    peek_event: Any

    def __init__(self) -> None:
        yaml.composer.Composer.__init__(self)
        #: The anchors of the enclosing nodes.
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
        if tagged:  # an explicit tag counts as quotes
            node.style = '"'
        return node


def _loader(base: Any) -> Any:
    class Loader(_Composer, base):  # type: ignore[misc]
        def __init__(self, text: str) -> None:
            base.__init__(self, text)
            _Composer.__init__(self)

    return Loader


_Loader = _loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def compose(file: str, report: Report) -> Node:
    """Return the root node of a file.

    Args:
        file: the file's name.
        report: receives problems of tags and keys.

    Raises:
        UnreadableError: the file or the rest of it cannot be read.

    """
    text = _text(file)
    try:
        root: Node | None = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text) from None
    if root is None or (is_null(root) and not root.value):
        raise UnreadableError(None, "is empty; to declare no monitors, write `setups: {}`")
    _Checker(report).check(root, "")
    return root


def _text(name: str) -> str:
    try:
        with Path(name).open("rb") as file:
            content = file.read(_FILE_LIMIT + 1)
    except FileNotFoundError:
        where = "" if Path(name).is_absolute() else f" in {Path.cwd()}"
        raise UnreadableError(
            None,
            f"does not exist{where}; a relative path begins at the working directory,"
            " which under `pulumi up` is the project's folder",
        ) from None
    except OSError as error:
        raise UnreadableError(None, f"cannot be read: {error.strerror}") from None
    if len(content) > _FILE_LIMIT:
        raise UnreadableError(
            None,
            f"is longer than {_FILE_LIMIT // 1024**2} MiB; split it into several files, one per"
            " group",
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


class _Checker:
    """Checks the tags, keys, size and depth of nodes, each node once."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._extents: dict[int, tuple[int, int]] = {}

    def check(self, node: Node, path: str) -> tuple[int, int]:
        """Check a node and its children.

        Returns:
            The number of values with aliases expanded, and their depth.

        """
        if known := self._extents.get(id(node)):
            return known
        place = place_of(node.start_mark)
        if not _has_default_tag(node):
            tag = node.tag.replace(_YAML, "!!")
            self._report(place, path, f"the tag {excerpt(tag)} is not allowed here; remove it")
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
                        "a key cannot be a list or mapping; quote a string that begins with [ or {"
                    )
                    self._report(place, path, reason)
                    continue
                if key.value in first:
                    hint = "; merge both with `<<: [*one, *other]`" if merges(key) else ""
                    reason = f'duplicate key "{excerpt(key.value)}" (first on line'
                    self._report(place, path, f"{reason} {first[key.value]}){hint}")
                first.setdefault(key.value, place[0] + 1)
                yield join(path, key.value), value


#: Line breaks in YAML 1.1, but string characters in JSON.
_LINE_BREAK = re.compile("[\x85\u2028\u2029]")

#: JSON's surrogate pair escapes, and the backslashes before them.
_PAIR = re.compile(
    r"(?<!\\)((?:\\\\)*)(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
)

#: Strings in PyYAML that other parsers convert: ``y`` is a boolean in YAML 1.1, ``0o17`` and
#: ``1e3`` are numbers in YAML 1.2.
_OTHER_TYPES = (
    (re.compile(r"[yYnN]"), "a boolean"),
    (re.compile(r"0o[0-7]+|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), "a number"),
)

_TYPES = {"bool": "a boolean", "int": "a number", "float": "a number", "timestamp": "a date"}


def _as_yaml(text: str) -> str:
    """Return JSON without constructs that YAML reads differently.

    These are tab indentation, surrogate pair escapes, and characters that are line breaks in YAML.
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
        return UnreadableError(place, "begins a second document; keep one per file")
    if "cannot start any token" in problem and place and line[place[1] : place[1] + 1]:
        found = line[place[1]]
        if found == "\t":
            return UnreadableError(place, "begins with a tab; YAML is indented with spaces")
        reason = f'a value cannot begin with {found}; put it in quotes, "{found}..."'
        return UnreadableError(place, reason)
    if "mapping values are not allowed" in problem:
        return UnreadableError(
            place,
            'is not valid YAML: unexpected ":"; check the indentation, and quote a string that'
            ' contains ": "',
        )
    context = f" {error.context}" if error.context else ""
    start = error.context_mark
    if start and place and start.line != place[0]:
        context += f" that begins in line {start.line + 1}"
    return UnreadableError(
        place,
        f"is not valid YAML:{context}{',' if context else ''} {excerpt(problem, 200)}; check the"
        " quotes, brackets and indentation",
    )


def _too_deep(place: Place) -> UnreadableError:
    reason = f"is nested more than {_DEPTH_LIMIT} levels deep: check the brackets"
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


def _has_default_tag(node: Node) -> bool:
    return _is_plain(node) or node.tag == _YAML + _KINDS[type(node)]


_KINDS: Final[dict[type[yaml.Node], str]] = {
    yaml.ScalarNode: "str",
    yaml.SequenceNode: "seq",
    yaml.MappingNode: "map",
}


def implied_type(node: yaml.ScalarNode) -> str | None:
    """Return the type that YAML implies for a plain scalar, or ``None`` for a string."""
    if not _is_plain(node):
        return None
    if node.tag != f"{_YAML}str":
        return _TYPES.get(node.tag.removeprefix(_YAML), "something else")
    return next((kind for pattern, kind in _OTHER_TYPES if pattern.fullmatch(node.value)), None)


def excerpt(text: str, limit: int = 60) -> str:
    return printable(text, limit)
