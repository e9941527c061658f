"""The emulator, with an eye on each write and a gate where the world can be stopped."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote
from urllib.request import urlopen

from pulumi_traceloop.emulator import Emulator, Fault, ManualClock, Project, RequestRecord
from pulumi_traceloop.emulator.store import Record
from pulumi_traceloop.emulator.validation import Content

from .plans import IDS, SECRET, UNKNOWN_OUTCOME

if TYPE_CHECKING:
    from typing_extensions import Self

#: A second key of the project, and one of another project of the organization.
SECOND_KEY = "tl-key-the-second-of-the-project-4712"
OTHER_KEY = "tl-key-of-another-project-4713"

#: How long a request waits at the gate at most, in seconds.
_GATE_SECONDS = 60


class Meaning(NamedTuple):
    """What a setup does; made without the package's own idea of it."""

    rules: frozenset[tuple[str, str, str, str | None, frozenset[str]]]
    evaluators: frozenset[tuple[str, str | None]]


def upper(rule: dict[str, Any]) -> dict[str, Any]:
    """What a service makes of a rule that has a spelling of its own; it leaves the secret alone.

    The package keeps no digest of a setup with a secret, so that would be drift.
    """
    value = rule.get("value")
    return rule if value in (None, SECRET) else rule | {"value": str(value).upper()}


def meaning_of(content: Mapping[str, Any], *, normalized: bool = False) -> Meaning:
    """The meaning of a setup as a program or a request has it, or as the service stores it."""
    configs = content.get("evaluator_configs") or [
        {"slug": slug} for slug in content.get("evaluators") or ()
    ]
    rules = [upper(rule) if normalized else rule for rule in content["selector"]]
    return _meaning(rules, ((c["slug"], c.get("scope")) for c in configs))


def meaning_in(record: Record) -> Meaning:
    """The meaning of a setup as the emulator keeps it."""
    stored = json.loads(record.evaluators)
    return _meaning(json.loads(record.rules), ((slug, scope) for slug, scope, _ in stored))


def _meaning(
    rules: Iterable[Mapping[str, Any]], evaluators: Iterable[tuple[str, str | None]]
) -> Meaning:
    return Meaning(
        frozenset(
            (
                rule["source"],
                rule["key"],
                rule.get("operator") or "equals",
                rule.get("value"),
                frozenset(rule.get("values") or ()),
            )
            for rule in rules
        ),
        frozenset(evaluators),
    )


class Touch(NamedTuple):
    """One setup written or deleted over HTTP."""

    external_id: str
    #: ``None``: there was none.
    before: Meaning | None
    #: ``None``: deleted.
    after: Meaning | None


@dataclass
class Gate:
    """Stops the service, and with it whoever waits for an answer, at the n-th request."""

    nth: int
    #: Whether that request never reaches the service.
    lost: bool
    #: Done when the request is there.
    reached: Future[None] = field(default_factory=Future)
    released: threading.Event = field(default_factory=threading.Event)


class WatchedEmulator(Emulator):
    """An emulator that notes what each write and delete found."""

    def __init__(self, api_key: str) -> None:
        self._moving_clock = ManualClock()
        super().__init__(api_key=api_key, clock=self._moving_clock)
        #: Since `forget`.
        self.touched: list[Touch] = []
        #: The setups in write requests, and those in requests whose outcome was left unknown.
        self.sent: set[str] = set()
        self.uncertain: set[str] = set()
        #: How often each fault hit.
        self.hits: Counter[str] = Counter()
        self.gate: Gate | None = None
        self._names: dict[Fault, str] = {}
        self.add_project(OTHER_KEY)
        env_project_id = self._projects[api_key].env_project_id
        self.add_project(SECOND_KEY, env_project_id=env_project_id)
        foreign = {"key": "system", "source": "span_attributes", "value": "foreign"}
        for external_id in (*IDS, "foreign"):
            self.put(external_id, [foreign], ["faithfulness"], api_key=OTHER_KEY)

    def __enter__(self) -> Self:
        self.start()
        return self

    def forget(self) -> None:
        """Begin a new operation: without faults, and nothing touched yet."""
        self.clear_faults()
        self.reset_counts()
        self.touched.clear()
        self.sent.clear()
        self.uncertain.clear()
        self.gate = None
        self._names.clear()

    def drain(self) -> None:
        """Wait until the requests that somebody sent before being killed have been served."""
        for _ in range(3):  # each takes as many turns of the server's loop as one of theirs
            with urlopen(f"{self.root_url}/_emulator/requests") as answer:
                answer.read()

    def records(self) -> dict[str, Record]:
        """All that is kept of each setup, down to the number of its writes."""
        return {r.external_id: r for r in super().listed(self._projects[self.api_key], None)}

    def listed(self, project: Project, external_id: str | None) -> list[Record]:
        """The list is the organization's: other projects have setups of the same names."""
        foreign = super().listed(self._projects[OTHER_KEY], external_id)
        return [*foreign, *super().listed(project, external_id)]

    def trouble(self, name: str, fault: Fault) -> None:
        """Inject a fault that is counted under this name."""
        self._names[self.inject(fault)] = name

    def write(self, project: Project, external_id: str, content: Content) -> tuple[Record, bool]:
        before = self.find(project, external_id)
        self._moving_clock.advance(1)
        record, new = super().write(project, external_id, content)
        if threading.current_thread() is self._thread:  # else it was somebody else: `put`
            found = meaning_in(before) if before else None
            self.touched.append(Touch(external_id, found, meaning_in(record)))
        return record, new

    def drop_setup(self, project: Project, external_id: str) -> bool:
        before = self.find(project, external_id)
        if before:
            self.touched.append(Touch(external_id, meaning_in(before), None))
        return super().drop_setup(project, external_id)

    def seen(self, record: RequestRecord) -> None:
        super().seen(record)
        if record.method == "PUT":
            self.sent.add(unquote(record.raw_path.rsplit("/", 1)[-1]))
        elif record.method == "POST":
            self.sent.update(each["external_id"] for each in json.loads(record.body)["setups"])
        gate = self.gate
        if gate is None:
            return
        gate.nth -= 1
        if gate.nth == 0:
            if gate.lost:
                self.inject(Fault(drop="before"))
            gate.reached.set_result(None)
            if not gate.released.wait(_GATE_SECONDS):
                raise TimeoutError("nobody opened the gate")

    def take_faults(self, method: str, route: str, external_ids: frozenset[str]) -> list[Fault]:
        if self.gate and self.gate.nth == 0 and self.gate.lost:
            self.gate.nth = -1
            return [Fault(drop="before")]
        hits = super().take_faults(method, route, external_ids)
        for fault in hits:
            name = self._names.get(fault, "")
            self.hits[name] += 1
            if name in UNKNOWN_OUTCOME:
                self.uncertain |= external_ids & set(fault.item_error or external_ids)
        return hits
