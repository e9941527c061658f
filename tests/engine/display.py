"""The test engine's output: a line for each change, then diagnostics, outputs and a summary."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from .wire import masked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BANNER = "This is the test engine of this package's own tests. It is not Pulumi."

#: By op: the sign, the text in a preview, and the text in an update.
_WORDS = {
    "create": ("+", "create", "created"),
    "update": ("~", "update", "updated"),
    "delete": ("-", "delete", "deleted"),
    "create-replacement": ("++", "create replacement", "created replacement"),
    "replace": ("+-", "replace", "replaced"),
    "delete-replaced": ("--", "delete original", "deleted original"),
    "refresh": ("~", "refresh", "refreshed"),
    "read": (">", "read", "read"),
    "read-replacement": (">>", "read for replacement", "read for replacement"),
    "discard": ("<", "discard", "discarded"),
    "discard-replaced": ("<<", "discard original", "discarded original"),
    "remove-pending-replace": ("~", "complete replacement", "completed replacement"),
}
#: The engine's colour markup.
_MARKUP = re.compile(r"<\{%.*?%\}>")
#: The steps that the summary counts: a replacement is one change, not three.
COUNTED = ("create", "update", "delete", "replace", "read", "discard", "same")


class Display:
    """Prints changes at once, and collects the rest for the end."""

    def __init__(self, kind: str, stack: str, root: str) -> None:
        self._preview = kind == "preview"
        self._root = root
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._diagnostics: dict[str, list[str]] = {}
        self._errored: set[str] = set()
        title = {"preview": "Previewing update", "up": "Updating"}
        title |= {"refresh": "Refreshing", "destroy": "Destroying"}
        self._print(f"{BANNER}\n{title[kind]} ({stack}):\n")

    def _print(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def step(self, op: str, urn: str, changed: Sequence[str] = (), note: str = "") -> None:
        """Print the line of a finished step, unless it is an unchanged resource."""
        if op in ("same", "refresh"):
            return
        sign, planned, done = _WORDS[op]
        names = f" [diff: ~{','.join(changed)}]" if changed else ""
        words = planned if self._preview else done
        with self._lock:
            self._print(f" {sign:<2} {_label(urn, ' ')} {words}{names}{note}")

    def failed(self, op: str, urn: str) -> None:
        with self._lock:
            self._print(f" {_WORDS[op][0]:<2} {_label(urn, ' ')} {_WORDS[op][1]} **failed**")

    def diagnostic(self, severity: str, message: str, urn: str = "") -> None:
        """Keep a message for the end; without a resource, it belongs to the stack."""
        message = _MARKUP.sub("", message)
        prefix = "" if severity == "info" else f"{severity}: "
        with self._lock:
            urn = urn or self._root
            self._diagnostics.setdefault(urn, []).append(prefix + message.rstrip("\n"))
            if severity == "error":
                self._errored.add(urn)

    def end(
        self, changes: Mapping[str, int], old: Mapping[str, Any], new: Mapping[str, Any]
    ) -> None:
        if self._diagnostics:
            self._print("\nDiagnostics:")
        for urn, messages in self._diagnostics.items():
            self._print(f"  {_label(urn, ' (')}):")
            for message in messages:
                self._print("\n".join(f"    {line}" for line in message.split("\n")))
            self._print("")
        self._print_outputs(old, new)
        self._print("Resources:")
        counts = Counter(changes)
        for op in COUNTED:
            if counts[op] and op != "same":
                sign, planned, done = _WORDS[op]
                words = f"to {planned}" if self._preview else done
                self._print(f"    {sign} {counts[op]} {words}")
        if counts["same"]:
            self._print(f"    {counts['same']} unchanged")
        if self._errored:
            self._print(f"    {len(self._errored)} errored")
        self._print(f"\nDuration: {time.monotonic() - self._started:.1f}s")

    def _print_outputs(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        if not old and not new:
            return
        self._print("Outputs:")
        for name in sorted({*old, *new}):
            if name not in new:
                self._print(f"  - {name}: {masked(old[name])}")
            elif name in old and old[name] != new[name]:
                self._print(f"  ~ {name}: {masked(old[name])} => {masked(new[name])}")
            else:
                sign = " " if name in old or not old else "+"
                self._print(f"  {sign} {name}: {masked(new[name])}")
        self._print("")


def _label(urn: str, between: str) -> str:
    """Return a resource's type and name, as the CLI displays a URN."""
    _, _, types, name = urn.split("::", 3)
    return f"{types.rpartition('$')[2]}{between}{name}"
