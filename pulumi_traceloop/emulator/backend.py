"""The emulated service without HTTP: projects, clock, counters and controls for tests."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from itertools import count
from math import ceil
from typing import TYPE_CHECKING, Any

from ..spans.matching import SpanIndex
from . import validation
from .faults import Fault, FaultQueue
from .organization import foreign_setups
from .span_log import SpanLog
from .store import Record, Store, phase_of, render, selector_of, status_of, stored_evaluators
from .validation import Content, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from .otlp import ReceivedSpan

DEFAULT_API_KEY = "emulator-key"
DEFAULT_ENV_PROJECT_ID = "cm9v2ga9i0000emulatorenv0"

#: The most requests in `Emulator.log`.
LOG_SIZE = 20_000


class ManualClock:
    """A clock that moves on `advance` only, in seconds since the epoch.

    Example:
        ```python
        clock = ManualClock()
        with Emulator(clock=clock, settle=10) as emulator:
            ...
            clock.advance(10)  # every setup written so far is completed
        ```

    """

    def __init__(self, start: float = 1_780_000_000.0) -> None:
        self._now = start

    def __call__(self) -> float:
        """Return the time."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Advance the time. Can replace a client's `sleep`."""
        self._now += seconds


@dataclass(frozen=True)
class Project:
    """The project and environment of an API key ("Authentication" page)."""

    org_id: str
    project_id: str
    env_project_id: str
    #: The key of its setups. Environments with the same space share their setups.
    space: str


@dataclass
class RequestRecord:
    """One request as received."""

    method: str
    #: Percent-encoded path and query.
    raw_path: str
    #: Template, "PUT /v2/auto-monitor-setups/by-external-id/{external_id}", or "unmatched".
    route: str
    #: The emulator's time, in seconds since the epoch.
    time: float
    #: `Authorization` is "[hidden]".
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    #: None: the connection was dropped, or the response is pending.
    status: int | None = None
    #: The setups that this request wrote or deleted.
    external_ids: tuple[str, ...] = ()


class Backend:
    """State and controls of the emulator. Thread-safe.

    `Emulator` documents the arguments.
    """

    def __init__(
        self,
        *,
        api_key: str = DEFAULT_API_KEY,
        env_project_id: str = DEFAULT_ENV_PROJECT_ID,
        data: str | None = None,
        evaluators: Iterable[str] = (),
        settle: float = 0,
        latency: float = 0,
        rate_limit: int | None = None,
        spans_needed: int = 0,
        foreign_setups: int = 0,
        clock: Callable[[], float] = time.time,
        seed: int = 0,
    ) -> None:
        self.api_key = api_key
        self.settle = settle
        self.spans_needed = spans_needed
        self.latency = latency
        self.rate_limit = rate_limit
        #: The number of other projects' setups in the organization's list, 2 kB each.
        self.foreign_setups = foreign_setups
        self.clock = clock
        #: A function from a rule to the rule that the service stores, such as one that lower-cases
        #: values; ``None`` to store rules as they are.
        self.normalize: Callable[[dict[str, Any]], dict[str, Any]] | None = None
        self._lock = threading.RLock()
        self._store = Store(data or ":memory:", seed=seed)
        self._spans = SpanLog()
        self._faults = FaultQueue()
        self._projects: dict[str, Project] = {}
        self._numbers = count()
        self._failing: dict[str, str] = {}
        self._forced: dict[str, str] = {}
        self._recent: dict[str, deque[float]] = {}
        self._requests: Counter[str] = Counter()
        self._writes: Counter[str] = Counter()
        self._log: deque[RequestRecord] = deque(maxlen=LOG_SIZE)
        self.add_project(api_key, env_project_id=env_project_id)
        for slug in evaluators:
            self.add_evaluator(slug)

    # -- reads for tests --

    @property
    def requests(self) -> Counter[str]:
        """Requests since `reset_counts` by route template, including refused ones.

        "unmatched" counts requests for unknown paths or methods.
        """
        with self._lock:
            return Counter(self._requests)

    @property
    def writes(self) -> Counter[str]:
        """Writes over HTTP by external id; deletes do not count."""
        with self._lock:
            return Counter(self._writes)

    @property
    def log(self) -> list[RequestRecord]:
        """The latest requests, oldest first."""
        with self._lock:
            return [replace(record) for record in self._log]

    def reset_counts(self) -> None:
        """Empty `requests`, `writes` and `log`."""
        with self._lock:
            self._requests.clear()
            self._writes.clear()
            self._log.clear()

    @property
    def setups(self) -> dict[str, dict[str, Any]]:
        """The default project's setups by external id, as the service would return them now."""
        return self.setups_of(self.api_key)

    def setups_of(self, api_key: str) -> dict[str, dict[str, Any]]:
        """Like `setups`, for another project."""
        records = self._store.all(self._projects[api_key].space)
        return {record.external_id: json.loads(self.to_json(record)) for record in records}

    @property
    def spans(self) -> list[dict[str, Any]]:
        """The default project's latest spans, oldest first, as the service returns them."""
        return self._spans.all(self._projects[self.api_key].env_project_id)

    # -- changes by tests --

    def add_project(
        self,
        api_key: str,
        *,
        env_project_id: str | None = None,
        same_project_as: str | None = None,
    ) -> Project:
        """Add a key, by default for a new project.

        Args:
            api_key: the new key. An existing one moves to this project.
            env_project_id: its environment; an existing one makes this a second key for the same
                setups.
            same_project_as: a key of the same project in another environment. External ids are
                unique "for the org/project" ("Upsert by External ID" page), so either key can
                replace the other's setup, which keeps its env_project_id.
        """
        with self._lock:
            number = next(self._numbers)
            env = env_project_id or f"cm9v2ga9i{number:04}emulatorenv0"
            known = [
                project for project in self._projects.values() if project.env_project_id == env
            ]
            if same_project_as is not None:
                project = replace(self._projects[same_project_as], env_project_id=env)
            elif known:
                project = known[0]
            else:
                project = Project(
                    org_id="c108269c-0000-4000-8000-000000000000",
                    project_id=f"cm9v2g95l{number:04}emulatorprj0",
                    env_project_id=env,
                    space=env,
                )
            self._projects[api_key] = project
            return project

    def revoke_key(self, api_key: str) -> None:
        """Make a key invalid: its requests get a 401. Its setups stay."""
        with self._lock:
            self._projects.pop(api_key, None)

    def add_evaluator(self, slug: str) -> None:
        """Add a custom evaluator to every project."""
        self._store.add_evaluator(slug)

    def fail_evaluator(self, slug: str, message: str) -> None:
        """Make this evaluator fail, in existing and later setups.

        After `settle` the evaluator is `failed` with this `error_message`, and its setup `partial`,
        or `failed` without other evaluators.
        """
        with self._lock:
            self._failing[slug] = message
            self._store.fail_evaluator(slug, message)

    def heal_evaluator(self, slug: str) -> None:
        """End `fail_evaluator`. A failed setup stays failed until its next write."""
        with self._lock:
            self._failing.pop(slug, None)

    def force_status(self, external_id: str, status: str | None) -> None:
        """Make reads of a setup return another status, even an unknown one; None ends it.

        Responses to writes still say "pending".
        """
        with self._lock:
            if status is None:
                self._forced.pop(external_id, None)
            else:
                self._forced[external_id] = status

    def put(
        self,
        external_id: str,
        selector: Sequence[Mapping[str, Any]] | None = None,
        evaluators: Sequence[str] | None = None,
        evaluator_configs: Sequence[Mapping[str, Any]] | None = None,
        *,
        api_key: str | None = None,
    ) -> dict[str, Any]:
        """Create or change a setup without a request, counts or faults.

        In an existing setup only the given parts change. Returns the setup, raises ValueError on
        invalid content.
        """
        given = {
            "selector": selector,
            "evaluators": evaluators,
            "evaluator_configs": evaluator_configs,
        }
        project = self._projects[api_key or self.api_key]
        try:
            with self._lock, self._store.transaction():
                check = (
                    validation.for_update
                    if self.find(project, external_id)
                    else validation.for_upsert
                )
                content = check(json.loads(json.dumps(given)), self.known_evaluators())
                record, _ = self.write(project, external_id, content)
        except InvalidRequestError as error:
            raise ValueError(str(error)) from None
        setup: dict[str, Any] = json.loads(self.to_json(record))
        return setup

    def delete(self, external_id: str, *, api_key: str | None = None) -> bool:
        """Delete a setup without a request; False if it does not exist."""
        return self._store.delete(self._projects[api_key or self.api_key].space, external_id)

    def clear_spans(self) -> None:
        """Remove the spans of every project. Completed setups stay completed."""
        self._spans.clear()

    def inject(self, fault: Fault) -> Fault:
        """Add a fault; pass the result to `remove` to end it."""
        return self._faults.inject(fault)

    def remove(self, fault: Fault) -> None:
        """Remove a fault."""
        self._faults.remove(fault)

    def clear_faults(self) -> None:
        """Remove every fault."""
        self._faults.clear()

    @property
    def faults(self) -> list[Fault]:
        """The pending faults."""
        return self._faults.pending()

    # -- methods for the routes --

    def project_of(self, authorization: str) -> Project | None:
        """Return the project of an `Authorization` header, None if missing or invalid."""
        scheme, _, key = authorization.partition(" ")
        return self._projects.get(key.strip()) if scheme.lower() == "bearer" else None

    def known_evaluators(self) -> frozenset[str]:
        """Return all valid slugs."""
        return validation.DOCUMENTED_EVALUATORS.union(self._store.evaluators())

    def find(self, project: Project, external_id: str) -> Record | None:
        """Return one setup."""
        return self._store.get(project.space, external_id)

    def listed(self, project: Project, external_id: str | None) -> list[Record]:
        """Return the project's setups, or only one."""
        return self._store.all(project.space, external_id)

    def foreign(self, project: Project, status: str | None, external_id: str | None) -> str:
        """Return the JSON of other projects' setups that these filters of the list select."""
        if external_id or status not in (None, "", "completed"):
            return ""
        return foreign_setups(self.foreign_setups, project.org_id)

    def write(self, project: Project, external_id: str, content: Content) -> tuple[Record, bool]:
        """Create a setup, or replace the given parts; True if it is new."""
        now = self.clock()
        with self._lock, self._store.transaction():
            evaluators = stored_evaluators(content, self._failing)
            if self.normalize and content.rules is not None:
                content = replace(content, rules=[self.normalize(r) for r in content.rules])
            identity = (project.org_id, project.project_id, project.env_project_id)
            new = self._store.insert(
                project.space, external_id, identity, content.rules or [], evaluators or [], now
            )
            if new is not None:
                return new, True
            record = self._store.update(project.space, external_id, content.rules, evaluators, now)
            return record, False

    def write_all(self, work: Callable[[], None]) -> None:
        """Run several writes in one transaction."""
        with self._lock, self._store.transaction():
            work()

    def drop_setup(self, project: Project, external_id: str) -> bool:
        """Delete a setup; False if it does not exist."""
        return self._store.delete(project.space, external_id)

    def receive(self, spans: Sequence[ReceivedSpan], project: Project) -> None:
        """Store spans, and count the setups of their environment that they match.

        Only spans after a setup's last write count ("incoming spans", "Create" page).
        """
        environment = project.env_project_id
        now = self.clock()
        with self._lock, self._store.transaction():
            self._spans.add(environment, spans)
            waiting = self._store.unmatched(project.space, environment, self.spans_needed)
            if not waiting:
                return
            index = SpanIndex(span.attributes for span in spans)
            matched = [(r, index.survey(selector_of(r)).matched) for r in waiting]
            self._store.add_matches([(r, count) for r, count in matched if count], now)

    def find_spans(self, project: Project, query: Mapping[str, str]) -> dict[str, Any]:
        """Return a page of the project's spans."""
        return self._spans.find(project.env_project_id, query)

    def to_json(self, record: Record, *, written_now: bool = False) -> str:
        """Return a setup's JSON; after a write it says `pending` even if `settle` is 0."""
        phase, status = ("pending", "pending") if written_now else self._state(record)
        return render(record, phase, status, max(record.written + self.settle, record.last_match))

    def status(self, record: Record) -> str:
        """Return a setup's current status."""
        return self._state(record)[1]

    def _state(self, record: Record) -> tuple[str, str]:
        forced = self._forced.get(record.external_id)
        phase = phase_of(record, self.clock(), self.settle, self.spans_needed)
        if forced is not None:
            return (forced if forced == "waiting_for_spans" else phase), forced
        return phase, status_of(record, phase)

    def over_limit(self, authorization: str) -> int | None:
        """Count a request against the rate limit; return the `Retry-After` seconds if exceeded."""
        limit = self.rate_limit
        if limit is None:
            return None
        now = self.clock()
        with self._lock:
            recent = self._recent.setdefault(authorization, deque())
            while recent and recent[0] <= now - 1:
                recent.popleft()
            if len(recent) < limit:
                recent.append(now)
                return None
            return max(1, ceil(recent[0] + 1 - now)) if recent else 1

    def take_faults(self, method: str, route: str, external_ids: frozenset[str]) -> list[Fault]:
        """Return the faults of this request."""
        return self._faults.take(method, route, external_ids)

    def seen(self, record: RequestRecord) -> None:
        """Record a request before its work."""
        with self._lock:
            self._requests[record.route] += 1
            self._log.append(record)

    def wrote(self, record: RequestRecord, external_ids: Iterable[str]) -> None:
        """Record the setups that a request wrote."""
        with self._lock:
            record.external_ids = tuple(external_ids)
            self._writes.update(record.external_ids)
