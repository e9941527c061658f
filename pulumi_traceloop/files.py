"""Monitor setups in a YAML or JSON file.

A file is composed to nodes, which the YAML library makes without building any object: no tag can
run code, and every value keeps its line. The library knows YAML 1.1, where ``on`` is a boolean,
``1.10`` the number 1.1 and ``12:30`` the number 750: such a value is refused, never converted.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import pulumi
import yaml

from ._naming import external_id_problem
from ._validation import problems, setup_path
from .errors import TraceloopError, printable

__all__ = ["SCHEMA", "FileError", "FileProblem", "load_setups"]

#: The JSON Schema of these files, for editors.
SCHEMA: Final = Path(__file__).with_name("monitors.schema.json")

#: A longer file, in bytes, is not a list of monitors: 20,000 setups are shorter.
_FILE_LIMIT = 10 * 1024 * 1024

#: How many values a file may have once its aliases are expanded, and how deep they may be nested.
_VALUE_LIMIT = 1_000_000
_DEPTH_LIMIT = 100

#: How many problems an error's message names; its attribute has them all.
_NAMED = 50

_Node: TypeAlias = yaml.ScalarNode | yaml.SequenceNode | yaml.MappingNode
#: A line and a column.
_Place: TypeAlias = tuple[int, int]

_YAML = "tag:yaml.org,2002:"


class FileProblem(NamedTuple):
    """What is wrong in a file: in which line, with which property, and why."""

    #: Counted from 1; ``None`` if the file as a whole is meant.
    line: int | None
    #: Such as ``setups["openai"].selector[0].value``; empty if the file as a whole is meant.
    path: str
    reason: str


class FileError(TraceloopError, pulumi.RunError):
    """A file of setups that cannot be used; the message names all that is wrong with it.

    It is a `pulumi.RunError`, which ends a program with its message and no traceback.

    Attributes:
        file: the file's name, as it was given.
        problems: what is wrong, in the order of the lines.

    """

    def __init__(self, file: str, problems: list[FileProblem]) -> None:
        self.file = file
        self.problems = sorted(problems, key=lambda problem: problem.line or 0)
        lines = [self._line(problem) for problem in self.problems[:_NAMED]]
        if len(self.problems) > 1:
            lines.insert(0, f"{len(self.problems)} problems in {printable(file)}:")
        if (rest := len(self.problems) - _NAMED) > 0:
            lines.append(f"and {rest} more")
        super().__init__("\n  ".join(lines))

    def _line(self, problem: FileProblem) -> str:
        line = f":{problem.line}" if problem.line else ""
        path = f"{printable(problem.path)}: " if problem.path else ""
        return f"{printable(self.file)}{line}: {path}{problem.reason}"


def load_setups(path: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """Return the setups of a file, as `AutoMonitorSetupGroup` takes them: by external_id.

    Example::

        # yaml-language-server: $schema=monitors.schema.json
        setups:
          openai:
            selector:
              - {key: gen_ai.system, source: span_attributes, value: openai}
            evaluators: [faithfulness]

    Anchors, aliases and merge keys may be used, and top-level keys that begin with ``x-`` may hold
    what is shared. JSON is YAML, so a JSON file does as well.

    Args:
        path: the file; a relative path begins at the working directory, which under ``pulumi up``
            is the project's folder.

    Raises:
        FileError: the file cannot be read, or something in it is wrong.

    """
    return _File(os.fspath(path)).setups()


class _UnreadableError(Exception):
    """The file cannot be read beyond this."""

    def __init__(self, place: _Place | None, reason: str) -> None:
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
        place = _place(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self._open:
                raise _UnreadableError(place, f"the alias *{event.anchor} is inside its own anchor")
            if event.anchor not in self.anchors:
                reason = f"the alias *{event.anchor} needs an anchor &{event.anchor} before it"
                raise _UnreadableError(place, reason)
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


class _File:
    def __init__(self, name: str) -> None:
        self._name = name
        self._problems: dict[tuple[object, ...], FileProblem] = {}
        #: How many values each node has with its aliases expanded, and how deep they are nested.
        self._extents: dict[int, tuple[int, int]] = {}

    def setups(self) -> dict[str, dict[str, Any]]:
        setups: dict[str, dict[str, Any]] = {}
        try:
            root = self._compose(self._text())
            self._survey(root, "")
            setups = dict(self._read(root))
        except _UnreadableError as error:
            self._wrong(error.place, "", error.reason)
        if self._problems:
            raise FileError(self._name, list(self._problems.values()))
        return setups

    def _wrong(self, place: _Place | None, path: str, reason: str) -> None:
        # What an alias brings to many setups is wrong in one place, and named once.
        once = (place, re.split(r"[.\[]", path)[-1], reason)
        line = place[0] + 1 if place else None
        self._problems.setdefault(once, FileProblem(line, path, reason))

    # From the file to nodes.

    def _text(self) -> str:
        try:
            with Path(self._name).open("rb") as file:
                content = file.read(_FILE_LIMIT + 1)
        except FileNotFoundError:
            where = "" if Path(self._name).is_absolute() else f" in {Path.cwd()}"
            raise _UnreadableError(
                None,
                f"there is no such file{where}; a relative path begins at the working directory,"
                " which under `pulumi up` is the project's folder",
            ) from None
        except OSError as error:
            raise _UnreadableError(None, f"cannot be read: {error.strerror}") from None
        if len(content) > _FILE_LIMIT:
            raise _UnreadableError(
                None,
                f"is longer than {_FILE_LIMIT // 1024**2} MiB, which no list of monitors is; split"
                " it into several files, each with a group of its own, if it is one",
            )
        try:
            text = content.decode("utf-8")  # PyYAML skips a byte order mark
        except UnicodeDecodeError as error:
            place = (content[: error.start].count(b"\n"), 0)
            raise _UnreadableError(place, "is not UTF-8 text; save the file as UTF-8") from None
        if bad := yaml.reader.Reader.NON_PRINTABLE.search(text):
            raise _UnreadableError(
                (text.count("\n", 0, bad.start()), 0),
                f"the character U+{ord(bad[0]):04X} is not allowed; remove it, or write it as an"
                " escape in double quotes",
            )
        if self._name.lower().endswith(".json"):
            return _as_yaml(text)
        if bad := _LINE_BREAK.search(text):
            raise _UnreadableError(
                (text.count("\n", 0, bad.start()), 0),
                f"the character U+{ord(bad[0]):04X} is a line break in YAML and would become a"
                f" blank; remove it, or write it as \\u{ord(bad[0]):04x} in double quotes",
            )
        return text

    def _compose(self, text: str) -> _Node:
        try:
            root: _Node | None = _Loader(text).get_single_node()
        except yaml.MarkedYAMLError as error:
            raise _syntax_error(error, text) from None
        if root is None or (_is_null(root) and not root.value):
            raise _UnreadableError(
                None, "is empty; a file that declares no monitors says so: `setups: {}`"
            )
        return root

    def _survey(self, node: _Node, path: str) -> tuple[int, int]:
        """Check a node's tag, keys and extent, and those of all nodes below, each of them once.

        Returns:
            How many values it has with its aliases expanded, and how deep they are nested.

        """
        if known := self._extents.get(id(node)):
            return known
        place = _place(node.start_mark)
        if not _has_its_own_tag(node):
            tag = node.tag.replace(_YAML, "!!")
            self._wrong(place, path, f"the tag {_shown(tag)} is not allowed here; remove it")
        size, depth = 1, 1
        for below, child in self._children(node, path):
            child_size, child_depth = self._survey(child, below)
            size, depth = size + child_size, max(depth, child_depth + 1)
            if size > _VALUE_LIMIT:
                raise _UnreadableError(
                    place,
                    f"has more than {_VALUE_LIMIT:,} values with its aliases expanded; use fewer"
                    " aliases, or split the file",
                )
        if depth > _DEPTH_LIMIT:
            raise _too_deep(place)
        self._extents[id(node)] = size, depth
        return size, depth

    def _children(self, node: _Node, path: str) -> Iterator[tuple[str, _Node]]:
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                yield f"{path}[{index}]", item
        elif isinstance(node, yaml.MappingNode):
            first: dict[str, int] = {}
            for key, value in node.value:
                place = _place(key.start_mark)
                if not isinstance(key, yaml.ScalarNode):
                    reason = (
                        "a list or mapping is no key; put a text that begins with [ or { in quotes"
                    )
                    self._wrong(place, path, reason)
                    continue
                if key.value in first:
                    cure = "; merge both with `<<: [*one, *other]`" if _merges(key) else ""
                    reason = f'duplicate key "{_shown(key.value)}" (first on line'
                    self._wrong(place, path, f"{reason} {first[key.value]}){cure}")
                first.setdefault(key.value, place[0] + 1)
                yield _join(path, key.value), value

    # From nodes to setups.

    def _read(self, root: _Node) -> Iterator[tuple[str, dict[str, Any]]]:
        if not isinstance(root, yaml.MappingNode):
            raise _UnreadableError(
                _place(root.start_mark),
                "the file must be a mapping with the key `setups`, such as `setups: {}`",
            )
        entries = self._entries(root, "")
        for name, (key, node) in entries.items():
            if name == "$schema":
                if not isinstance(self._value(node, name, {}), str):
                    reason = "must be a string: the schema's path or URL"
                    self._wrong(_place(node.start_mark), name, reason)
            elif name != "setups" and not name.startswith("x-"):
                near = difflib.get_close_matches(name, ["setups", "$schema"], 1)
                cure = (
                    f'did you mean "{near[0]}"?'
                    if near
                    else "setups belong under `setups`, shared parts under `x-...`"
                )
                self._wrong(_place(key.start_mark), _shown(name), f"is not a known key; {cure}")
        if "setups" not in entries:
            reason = "has no `setups`; to declare none: `setups: {}`"
            raise _UnreadableError(_place(root.start_mark), reason)
        key, node = entries["setups"]
        if not isinstance(node, yaml.MappingNode):
            reason = (
                "is empty; to declare none: `setups: {}`"
                if _is_null(node)
                else "must map each external_id to its setup"
            )
            self._wrong(_place(key.start_mark), "setups", reason)
            return
        for external_id, (key, setup) in self._entries(node, "setups").items():
            path = setup_path(external_id)
            if reason_against := external_id_problem(external_id):
                self._wrong(_place(key.start_mark), path, f"the external_id {reason_against}")
            yield external_id, self._setup(key, setup, path)

    def _setup(self, key: yaml.ScalarNode, node: _Node, path: str) -> dict[str, Any]:
        nodes: dict[str, tuple[_Place, _Node]] = {"": (_place(key.start_mark), node)}
        value = self._value(node, path, nodes)
        for at, reason in problems(value):
            nearest = at
            while nearest not in nodes:
                nearest = nearest[: max(nearest.rfind("."), nearest.rfind("["), 0)]
            place, wrong = nodes[nearest]
            quoted = nearest == at and _is_null(wrong) and wrong.value
            hint = f'; if the text is meant, put it in quotes, "{quoted}"' if quoted else ""
            self._wrong(place, f"{path}.{at}" if at else path, reason + hint)
        if not isinstance(value, dict):
            return {}
        return {name: item for name, item in value.items() if item is not None}

    def _value(
        self, node: _Node, path: str, nodes: dict[str, tuple[_Place, _Node]], at: str = ""
    ) -> Any:
        """Return what a node stands for.

        Args:
            node: the node.
            path: the path of the whole, for what is wrong.
            nodes: gets the place and the node of each property below the whole.
            at: the property's path there.

        """
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, f"{path}.{at}" if at else path, at)
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                below = f"{at}[{index}]"
                nodes[below] = _place(item.start_mark), item
                items.append(self._value(item, path, nodes, below))
            return items
        mapping = {}
        for name, (key, item) in self._entries(node, f"{path}.{at}" if at else path).items():
            below = f"{at}.{name}" if at else name
            nodes[below] = _place(key.start_mark), item
            mapping[name] = self._value(item, path, nodes, below)
        return mapping

    def _scalar(self, node: yaml.ScalarNode, path: str, at: str) -> Any:
        text: str = node.value
        if _is_null(node):
            return None
        meant = _meaning(node)
        if meant is None:
            return text
        # Only triggers may be numbers and booleans.
        if at.startswith("triggers") and _JSON_SCALAR.fullmatch(text):
            value = json.loads(text)
            if json.dumps(value) == text:
                return value
        shown = _shown(text)
        reason = f'YAML takes {shown} for {meant}; put it in quotes, "{shown}"'
        self._wrong(_place(node.start_mark), path, reason)
        return text

    def _entries(
        self, node: yaml.MappingNode, path: str
    ) -> dict[str, tuple[yaml.ScalarNode, _Node]]:
        """Return the entries, those of merged mappings included, and check the keys."""
        merged: dict[str, tuple[yaml.ScalarNode, _Node]] = {}
        own: dict[str, tuple[yaml.ScalarNode, _Node]] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # `_survey` has said so
            name = key.value
            if _merges(key):
                sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for source in reversed(sources):  # the first one wins
                    if isinstance(source, yaml.MappingNode):
                        merged |= self._entries(source, path)
                    else:
                        reason = (
                            "`<<` merges mappings only, such as `<<: *name` with an anchor &name"
                        )
                        self._wrong(_place(source.start_mark), path, reason)
            elif meant := "nothing" if _is_null(key) else _meaning(key):
                shown = _shown(name)
                reason = f'YAML takes the key {shown} for {meant}; put it in quotes, "{shown}"'
                self._wrong(_place(key.start_mark), path, reason)
            else:
                own.setdefault(name, (key, value))
        # The order is that of the file, with what is merged in first.
        return merged | own


#: What YAML 1.1 takes for a line break, and JSON for a character of a string.
_LINE_BREAK = re.compile("[\x85\u2028\u2029]")

#: JSON's two escapes of a character beyond the first 65,536, and the backslashes before them.
_PAIR = re.compile(
    r"(?<!\\)((?:\\\\)*)(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
)

_JSON_SCALAR = re.compile(r"true|false|-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")

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


def _syntax_error(error: yaml.MarkedYAMLError, text: str) -> _UnreadableError:
    mark = error.problem_mark or error.context_mark
    place = _place(mark) if mark else None
    problem, line = error.problem or "", ""
    if place and place[0] < len(lines := text.split("\n")):
        line = lines[place[0]]
    if "another document" in problem:
        return _UnreadableError(place, "begins a second document; keep one in the file")
    if "cannot start any token" in problem and place and line[place[1] : place[1] + 1]:
        found = line[place[1]]
        if found == "\t":
            return _UnreadableError(place, "begins with a tab; YAML is indented with spaces")
        reason = f'a value cannot begin with {found}; put it in quotes, "{found}..."'
        return _UnreadableError(place, reason)
    if "mapping values are not allowed" in problem:
        return _UnreadableError(
            place,
            'is not valid YAML: there is a ":" too many; check the indentation, and put a text that'
            ' holds ": " in quotes',
        )
    context = f" {error.context}" if error.context else ""
    begun = error.context_mark
    if begun and place and begun.line != place[0]:
        context += f" that begins in line {begun.line + 1}"
    return _UnreadableError(
        place,
        f"is not valid YAML:{context}{',' if context else ''} {_shown(problem, 200)}; check the"
        " quotes, brackets and indentation there",
    )


def _too_deep(place: _Place) -> _UnreadableError:
    reason = f"is nested more than {_DEPTH_LIMIT} deep; no setup is: check the brackets"
    return _UnreadableError(place, reason)


def _join(path: str, key: str) -> str:
    if path == "setups":
        return setup_path(key)
    return f"{path}.{key}" if path else key


def _place(mark: Any) -> _Place:
    return mark.line, mark.column


def _is_plain(node: _Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and not node.style


def _is_null(node: _Node) -> bool:
    return _is_plain(node) and node.tag == f"{_YAML}null"


def _merges(key: yaml.ScalarNode) -> bool:
    return _is_plain(key) and key.tag == f"{_YAML}merge"


def _has_its_own_tag(node: _Node) -> bool:
    return _is_plain(node) or node.tag == _YAML + _KINDS[type(node)]


_KINDS: Final[dict[type[yaml.Node], str]] = {
    yaml.ScalarNode: "str",
    yaml.SequenceNode: "seq",
    yaml.MappingNode: "map",
}


def _meaning(node: yaml.ScalarNode) -> str | None:
    """Return what YAML takes a plain text for, or ``None`` if that is a string."""
    if not _is_plain(node):
        return None
    if node.tag != f"{_YAML}str":
        return _MEANT.get(node.tag.removeprefix(_YAML), "something else")
    return next((meant for pattern, meant in _OTHERS if pattern.fullmatch(node.value)), None)


def _shown(text: str, limit: int = 60) -> str:
    return printable(text, limit)
