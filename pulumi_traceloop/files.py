"""Loads monitor setups from a YAML or JSON file.

Rules compare text, so a value that YAML reads as a number, boolean or date is refused, never
converted.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pulumi
import yaml

from ._naming import external_id_problem
from ._validation import problems, setup_path
from ._yaml import (
    Node,
    Place,
    UnreadableError,
    compose,
    excerpt,
    implied_type,
    is_null,
    merges,
    place_of,
)
from .errors import TraceloopError, printable

__all__ = ["SCHEMA", "FileError", "FileProblem", "load_setups"]

#: The JSON Schema of these files, for editors.
SCHEMA: Final = Path(__file__).with_name("monitors.schema.json")

#: How many problems the message of an error lists; its attribute has all.
_NAMED = 50


class FileProblem(NamedTuple):
    """An invalid place in a file: line, property and reason."""

    #: Counted from 1; ``None`` for the whole file.
    line: int | None
    #: Such as ``setups["openai"].selector[0].value``; empty for the whole file.
    path: str
    reason: str


class FileError(TraceloopError, pulumi.RunError):
    """An invalid file of setups; the message lists its problems.

    As a `pulumi.RunError` it ends a program with its message and no traceback.

    Attributes:
        file: the file's name as given.
        problems: the problems by line.

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
    """Return the setups of a file by external_id, as `AutoMonitorSetupGroup` takes them.

    Example:
        ```yaml
        # yaml-language-server: $schema=monitors.schema.json
        setups:
          openai:
            selector:
              - {key: gen_ai.provider.name, source: span_attributes, value: openai}
            evaluators: [faithfulness]
        ```

    Anchors, aliases and merge keys are allowed. Top-level keys that begin with ``x-`` may hold
    shared parts. A JSON file works too.

    Args:
        path: the file, relative to the working directory, which under ``pulumi up`` is the
            project's folder.

    Raises:
        FileError: the file cannot be read or is invalid.

    """
    return _File(os.fspath(path)).setups()


class _File:
    def __init__(self, name: str) -> None:
        self._name = name
        self._problems: dict[tuple[object, ...], FileProblem] = {}

    def setups(self) -> dict[str, dict[str, Any]]:
        setups: dict[str, dict[str, Any]] = {}
        try:
            setups = dict(self._read(compose(self._name, self._report)))
        except UnreadableError as error:
            self._report(error.place, "", error.reason)
        if self._problems:
            raise FileError(self._name, list(self._problems.values()))
        return setups

    def _report(self, place: Place | None, path: str, reason: str) -> None:
        # An alias repeats a problem in many setups: report it once.
        once = (place, re.split(r"[.\[]", path)[-1], reason)
        line = place[0] + 1 if place else None
        self._problems.setdefault(once, FileProblem(line, path, reason))

    def _read(self, root: Node) -> Iterator[tuple[str, dict[str, Any]]]:
        if not isinstance(root, yaml.MappingNode):
            raise UnreadableError(
                place_of(root.start_mark),
                "the file must be a mapping with the key `setups`, such as `setups: {}`",
            )
        entries = self._entries(root, "")
        for name, (key, node) in entries.items():
            if name == "$schema":
                if not isinstance(self._value(node, name, {}), str):
                    reason = "must be a string: the schema's path or URL"
                    self._report(place_of(node.start_mark), name, reason)
            elif name != "setups" and not name.startswith("x-"):
                near = difflib.get_close_matches(name, ["setups", "$schema"], 1)
                hint = (
                    f'did you mean "{near[0]}"?'
                    if near
                    else "setups belong under `setups`, shared parts under `x-...`"
                )
                self._report(place_of(key.start_mark), excerpt(name), f"is not a known key; {hint}")
        if "setups" not in entries:
            reason = "has no `setups`; to declare none, write `setups: {}`"
            raise UnreadableError(place_of(root.start_mark), reason)
        key, node = entries["setups"]
        if not isinstance(node, yaml.MappingNode):
            reason = (
                "is empty; to declare none, write `setups: {}`"
                if is_null(node)
                else "must map each external_id to its setup"
            )
            self._report(place_of(key.start_mark), "setups", reason)
            return
        for external_id, (key, setup) in self._entries(node, "setups").items():
            path = setup_path(external_id)
            if problem := external_id_problem(external_id):
                self._report(place_of(key.start_mark), path, f"the external_id {problem}")
            yield external_id, self._setup(key, setup, path)

    def _setup(self, key: yaml.ScalarNode, node: Node, path: str) -> dict[str, Any]:
        nodes: dict[str, tuple[Place, Node]] = {"": (place_of(key.start_mark), node)}
        value = self._value(node, path, nodes)
        for below, reason in problems(value):
            nearest = below
            while nearest not in nodes:
                nearest = nearest[: max(nearest.rfind("."), nearest.rfind("["), 0)]
            place, invalid = nodes[nearest]
            null = nearest == below and is_null(invalid) and invalid.value
            hint = f'; if a string is meant, put it in quotes, "{null}"' if null else ""
            self._report(place, f"{path}.{below}" if below else path, reason + hint)
        if not isinstance(value, dict):
            return {}
        return {name: item for name, item in value.items() if item is not None}

    def _value(
        self, node: Node, path: str, nodes: dict[str, tuple[Place, Node]], prefix: str = ""
    ) -> Any:
        """Return the value of a node.

        Args:
            node: the node.
            path: the root's path, for error messages.
            nodes: receives the place and node of each property below the root.
            prefix: the node's path below the root.

        """
        full_path = f"{path}.{prefix}" if prefix else path
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, full_path, prefix)
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                below = f"{prefix}[{index}]"
                nodes[below] = place_of(item.start_mark), item
                items.append(self._value(item, path, nodes, below))
            return items
        mapping = {}
        for name, (key, item) in self._entries(node, full_path).items():
            below = f"{prefix}.{name}" if prefix else name
            nodes[below] = place_of(key.start_mark), item
            mapping[name] = self._value(item, path, nodes, below)
        return mapping

    def _scalar(self, node: yaml.ScalarNode, path: str, prefix: str) -> Any:
        text: str = node.value
        if is_null(node):
            return None
        kind = implied_type(node)
        if kind is None:
            return text
        # Only triggers may be numbers and booleans.
        if prefix.startswith("triggers") and _JSON_SCALAR.fullmatch(text):
            value = json.loads(text)
            if json.dumps(value) == text:
                return value
        written = excerpt(text)
        reason = f'YAML reads `{written}` as {kind}; put it in quotes, "{written}"'
        self._report(place_of(node.start_mark), path, reason)
        return text

    def _entries(
        self, node: yaml.MappingNode, path: str
    ) -> dict[str, tuple[yaml.ScalarNode, Node]]:
        """Return the entries, including those of merged mappings, and check the keys."""
        merged: dict[str, tuple[yaml.ScalarNode, Node]] = {}
        own: dict[str, tuple[yaml.ScalarNode, Node]] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # `compose` reported it
            name = key.value
            if merges(key):
                sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for source in reversed(sources):  # the first one wins
                    if isinstance(source, yaml.MappingNode):
                        merged |= self._entries(source, path)
                    else:
                        reason = (
                            "`<<` merges mappings only, such as `<<: *name` with an anchor &name"
                        )
                        self._report(place_of(source.start_mark), path, reason)
            elif kind := "null" if is_null(key) else implied_type(key):
                written = excerpt(name)
                reason = f'YAML reads the key `{written}` as {kind}; put it in quotes, "{written}"'
                self._report(place_of(key.start_mark), path, reason)
            else:
                own.setdefault(name, (key, value))
        # In file order, with merged entries first.
        return merged | own


_JSON_SCALAR = re.compile(r"true|false|-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
