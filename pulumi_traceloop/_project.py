"""The setups of one Traceloop project: reads, deletes and a cache for one deployment.

A GET by id and the response to a write concern the API key's own project, and are exact. The list
is not: the OpenAPI file calls it the organization's, so it may contain other projects' setups with
the same external_ids. Its paging is not documented, so it may be truncated. So the list only saves
requests: its setups count if they are in this project, and a setup that it lacks is read by id.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ._settings import DEFAULT_BASE_URL
from ._text import name, names, printable, say
from .errors import (
    MalformedResponseError,
    ProjectMismatchError,
    RequestError,
    ServerError,
    TraceloopError,
)

if TYPE_CHECKING:
    from ._client import TraceloopClient
    from ._models import Listing, Setup
    from ._settings import Connection

__all__ = ["Project", "Reading", "in_parallel"]

#: Concurrent requests, by default.
WORKERS = 32

#: How many setups a deployment reads by id before it reads the list: one round of requests.
READ_BY_ID = 24

#: How old a cached response may be before a write, in seconds. A resource may have waited for
#: others for minutes since it was checked.
BEFORE_WRITE = 60.0

#: How many setups of the state's project are read to find out whether it is the key's.
_PROBES = 3

_NOT_COMPARED = "The plan is not compared with what Traceloop has"

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(work: Callable[[T], R], items: Collection[T], workers: int = WORKERS) -> list[R]:
    """Return the result of *work* for each of *items*, in order; up to *workers* run at once."""
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(workers, len(items))) as pool:
        return list(pool.map(work, items))


class Reading(NamedTuple):
    """The result of a read. A requested setup that is in neither mapping does not exist."""

    #: The setups by external_id.
    setups: dict[str, Setup]
    #: By external_id: why the setup cannot be read, although others can.
    unreadable: dict[str, RequestError]


class _Arrived(NamedTuple):
    """A list, and when its request began and its response arrived."""

    listing: Listing
    began: float
    arrived: float


class Project:
    """The Traceloop project and environment of one API key and base URL.

    Thread-safe: the host serves up to four calls at once. No lock is held during a request.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        key_is_stored: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the project, without a request.

        Args:
            connection: the connection to the API.
            key_is_stored: whether the key may be that of the last update; error messages say so.
            clock: a monotonic clock, in seconds.

        """
        self._connection = connection
        self._clock = clock
        self._key_is_stored = key_is_stored
        self._lock = threading.RLock()
        self._client: TraceloopClient | None = None
        #: The cache, from exact responses and this project's entries in the list; ``None`` if a
        #: setup does not exist.
        self._known: dict[str, Setup | None] = {}
        self._unreadable: dict[str, RequestError] = {}
        #: When the response arrived that each of them is from.
        self._read_at: dict[str, float] = {}
        #: How many setups were requested, cached ones excluded.
        self._requested = 0
        #: The last list with the time when it arrived, and when its request began.
        self._listing: tuple[Future[_Arrived], float] | None = None
        self._deleted: set[str] = set()
        self._env_project_id: str | None = None
        #: The project according to the state.
        self._state_project_id: str | None = None
        #: A setup that exists according to the state.
        self._in_state: str | None = None
        #: Why plans are not compared with what Traceloop has; empty if they are.
        self.blind = ""
        #: By external_id: why the plan of one setup is not.
        self._not_compared: dict[str, str] = {}

    @property
    def client(self) -> TraceloopClient:
        """The API client, created on first use.

        Raises:
            ConfigurationError: the API key is missing, or the base URL is invalid.

        """
        with self._lock:
            if self._client is None:
                from ._client import TraceloopClient

                self._client = TraceloopClient.connect(
                    self._connection, pool_size=2 * WORKERS, key_is_stored=self._key_is_stored
                )
            return self._client

    # Identity.

    @property
    def namespace(self) -> str:
        """The configuration namespace of the connection."""
        return self._connection.namespace

    @property
    def env_project_id(self) -> str | None:
        """The id of the project and environment; ``None`` before a response or the state has it."""
        return self._env_project_id or self._state_project_id

    def is_same(self, other: Project) -> bool | None:
        """Whether *other* is the same Traceloop project; ``None`` if unknown."""
        if other is self or other._address == self._address:
            return True
        with self._lock:
            own = self._env_project_id
        theirs = other._env_project_id
        return None if own is None or theirs is None else own == theirs

    def is_in(self, env_project_id: str, external_id: str) -> bool | None:
        """Whether this is the project *env_project_id*; ``None`` if unknown.

        If no response has shown that yet, *external_id* is read.

        Raises:
            TraceloopError: the read failed.

        """
        if self._env_project_id is None:
            self.present([external_id])
        known = self._env_project_id
        return None if known is None else known == env_project_id

    @property
    def _address(self) -> tuple[str, str | None]:
        return (self._connection.base_url or DEFAULT_BASE_URL).rstrip("/"), self._connection.api_key

    # Reads.

    def read(
        self,
        external_ids: Collection[str],
        env_project_id: str | None = None,
        *,
        max_age: float | None = None,
    ) -> Reading:
        """Read setups.

        A few are read by id, concurrently. For more than `READ_BY_ID` in a deployment, the list is
        read once, and only the setups that it lacks are read by id.

        Args:
            external_ids: the setups to read.
            env_project_id: the project according to the state, if known.
            max_age: the age of the oldest cached response to use, in seconds; any if ``None``.

        Raises:
            TraceloopError: the read failed.

        """
        oldest = float("-inf") if max_age is None else self._clock() - max_age
        with self._lock:
            unknown = self._not_known(external_ids, oldest)
            new = [i for i in unknown if i not in self._read_at]
            self._requested += len(new)
            has_list = self._has_list(oldest)
            many = len(unknown) > READ_BY_ID or (new and self._requested > READ_BY_ID)
        if unknown and (many or has_list):
            self._use_list(unknown, env_project_id, oldest)
            with self._lock:
                unknown = self._not_known(unknown, oldest)
        in_parallel(self._get_readable, unknown)
        with self._lock:
            known = {i: setup for i in external_ids if (setup := self._known.get(i)) is not None}
            unreadable = {i: self._unreadable[i] for i in external_ids if i in self._unreadable}
            outage = next((e for e in unreadable.values() if isinstance(e, ServerError)), None)
            if outage and not any(i in self._known for i in external_ids):
                # Kept: another thread may have counted it as cached. It is read again.
                self._read_at |= dict.fromkeys(unreadable, float("-inf"))
                raise outage
        return Reading(known, unreadable)

    def _not_known(self, external_ids: Collection[str], oldest: float) -> list[str]:
        """Return the setups that are not cached, or from a response not after *oldest*.

        Before a write (an *oldest* is given), a failure that was probably temporary is not cached.
        """
        temporary = ServerError if oldest > float("-inf") else ()
        return [
            i
            for i in dict.fromkeys(external_ids)
            if self._read_at.get(i, oldest) <= oldest
            or isinstance(self._unreadable.get(i), temporary)
        ]

    def present(
        self,
        external_ids: Collection[str],
        env_project_id: str | None = None,
        *,
        max_age: float | None = None,
    ) -> dict[str, Setup]:
        """Return the setups that `read` finds.

        Raises:
            TraceloopError: the read failed, or a setup cannot be read.

        """
        setups, unreadable = self.read(external_ids, env_project_id, max_age=max_age)
        for error in unreadable.values():
            raise error
        return setups

    def get(self, external_id: str) -> Setup | None:
        """Read one setup by id, cached or not."""
        setup = self.client.get_setup(external_id)
        if setup is None:
            self._forget(external_id)
        else:
            self.note(setup)
        return setup

    def _get_readable(self, external_id: str) -> None:
        try:
            self.get(external_id)
        except (MalformedResponseError, ServerError) as error:
            with self._lock:
                self._known.pop(external_id, None)
                self._unreadable[external_id] = error
                self._read_at[external_id] = self._clock()

    def setups(self, *, fresh: bool = False) -> dict[str, Setup]:
        """Return this project's setups by external_id, as far as the list has them.

        Listed setups without an ``env_project_id``, and unreadable ones that may be in this
        project, are read by id. Those that stay unreadable are in `unreadable`.
        """
        oldest = self._clock() if fresh else float("-inf")
        listing, _, arrived = self._list(None, oldest)
        own = self._own(listing.setups, None)
        unclear = [s.external_id for s in listing.setups if not s.env_project_id]
        unclear += [
            each.external_id
            for each in listing.unreadable
            if each.external_id and each.env_project_id in (None, self._env_project_id)
        ]
        in_parallel(self._get_readable, unclear)
        with self._lock:
            if fresh:
                self._known |= own
                self._read_at |= dict.fromkeys(own, arrived)
            known = {i: setup for i, setup in self._known.items() if setup is not None}
            return {i: s for i, s in own.items() if i not in self._known} | known

    @property
    def unreadable(self) -> dict[str, str]:
        """``{external_id: why}`` of this project's setups whose response could not be read."""
        with self._lock:
            return {i: error.summary for i, error in self._unreadable.items()}

    def _use_list(self, external_ids: Collection[str], expected: str | None, oldest: float) -> None:
        """Cache the setups of *external_ids* that are in a list not older than *oldest*."""
        listing, began, arrived = self._list(expected, oldest)
        wanted = set(external_ids)
        found = self._own([s for s in listing.setups if s.external_id in wanted], expected)
        with self._lock:
            for external_id in self._not_known(found, oldest):
                # The list does not show a write that came after its request.
                if self._read_at.get(external_id, began) <= began:
                    self._known[external_id] = found[external_id]
                    self._unreadable.pop(external_id, None)
                    self._read_at[external_id] = arrived
            # A truncated list is not empty. So an empty one shows that nothing exists, unless the
            # state has a project or an exact response has a setup.
            empty = not (listing.setups or listing.unreadable)
            if empty and expected is None and not any(self._known.values()):
                absent = self._not_known(external_ids, oldest)
                self._known |= dict.fromkeys(absent)
                self._read_at |= dict.fromkeys(absent, arrived)

    def _has_list(self, oldest: float) -> bool:
        """Whether a list arrived after *oldest*, or was requested then and will arrive."""
        if self._listing is None:
            return False
        listing, began = self._listing
        return began > oldest or (listing.done() and listing.result().arrived > oldest)

    def _list(self, expected: str | None, oldest: float) -> _Arrived:
        """Return a list as `_has_list` has it; callers share one request.

        Of each project other than this one, or the *expected* one, it contains one setup.
        """
        with self._lock:
            last, mine = self._listing, False
            if last is None or not self._has_list(oldest):
                last = self._listing = (Future(), self._clock())
                mine = True
            of_project = self._env_project_id or expected
        listing, began = last
        if mine:
            try:
                found = self.client.list_setups(of_project=of_project)
            except BaseException as error:
                with self._lock:
                    if self._listing is last:
                        self._listing = None
                listing.set_exception(error)
                raise
            listing.set_result(_Arrived(found, began, self._clock()))
        return listing.result()

    def _own(self, listed: Iterable[Setup], expected: str | None) -> dict[str, Setup]:
        """Return the *listed* setups of this project.

        While the project is unknown, a GET by id of a listed setup may reveal it. A setup without
        an ``env_project_id`` does not count as this project's.
        """
        by_project: dict[str, dict[str, Setup]] = {}
        for setup in listed:
            if setup.env_project_id:
                by_project.setdefault(setup.env_project_id, {})[setup.external_id] = setup
        # One response may fail, but hardly several.
        for external_id in islice(by_project.get(expected or "", ()), _PROBES):
            if self._env_project_id is None and external_id not in self._unreadable:
                self._get_readable(external_id)
        if self._env_project_id is None:
            first = [next(iter(setups)) for setups in by_project.values()]
            candidates = [i for i in first if i not in self._known and i not in self._unreadable]
            # Not `get`: the first response decides, in the list's order, whichever arrives first.
            found = in_parallel(self.client.get_setup, candidates)
            for external_id, remote in zip(candidates, found, strict=True):
                if remote is None:
                    self._forget(external_id)
                elif self._env_project_id is None:
                    self.note(remote)
        return by_project.get(self._env_project_id or "", {})

    def knows(self, external_id: str) -> bool:
        """Whether the cache shows if the setup exists."""
        with self._lock:
            return external_id in self._known

    def note(self, *setups: Setup) -> None:
        """Cache setups from a GET by id or the response to a write."""
        with self._lock:
            self._read_at |= dict.fromkeys((s.external_id for s in setups), self._clock())
            for setup in setups:
                self._env_project_id = setup.env_project_id or self._env_project_id
                self._deleted.discard(setup.external_id)
                self._unreadable.pop(setup.external_id, None)
                self._known[setup.external_id] = setup

    def delete(self, external_id: str) -> None:
        """Delete a setup, if it exists."""
        self.client.delete_setup(external_id)
        with self._lock:
            self._deleted.add(external_id)
            self._forget(external_id)

    @property
    def deleted(self) -> frozenset[str]:
        """The external_ids of the setups deleted in this deployment."""
        with self._lock:
            return frozenset(self._deleted)

    def _forget(self, external_id: str) -> None:
        with self._lock:
            self._unreadable.pop(external_id, None)
            self._known[external_id] = None
            self._read_at[external_id] = self._clock()

    def try_read(self, external_ids: Collection[str]) -> Reading | None:
        """Read setups for a plan, without errors: print the first one, and return ``None``."""
        if self.blind:
            return None
        try:
            reading = self.read(external_ids)
        except TraceloopError as error:
            with self._lock:
                reported, self.blind = self.blind, getattr(error, "summary", str(error))
            if not reported:
                say(f"{_NOT_COMPARED}: {printable(self.blind)}")
            return None
        with self._lock:
            found = {i: e.summary for i, e in reading.unreadable.items()}
            new = {i: why for i, why in found.items() if i not in self._not_compared}
            self._not_compared |= new
        for external_id, why in sorted(new.items()):
            say(f"{_NOT_COMPARED} for {name(external_id)}: {printable(why)}")
        return reading

    @property
    def not_compared(self) -> str:
        """Why plans are not, or not all, compared with what Traceloop has; empty if they are."""
        with self._lock:
            each = sorted(self._not_compared.items())
        return self.blind or "; ".join(f"{name(i)}: {why}" for i, why in each)

    # The project according to the state.

    def note_state(self, env_project_id: str | None, external_ids: Iterable[str] = ()) -> None:
        """Record what the state of a resource shows about the project.

        Args:
            env_project_id: the project, if the state has it.
            external_ids: setups that exist according to the state.

        """
        with self._lock:
            self._state_project_id = self._state_project_id or env_project_id
            self._in_state = self._in_state or next(iter(external_ids), None)

    def expect(
        self,
        env_project_id: str | None,
        external_ids: Iterable[str] = (),
        written: Collection[str] = (),
    ) -> None:
        """Raise an error if the key belongs to another project than the state.

        Args:
            env_project_id: the project according to a resource's state; ``None`` if that lacks it,
                so that the state of another resource counts (`note_state`).
            external_ids: setups that may exist; no request without them. While the key's project is
                unknown, the first of them and a setup of the state are read by id, then the list.
            written: setups that were written before the key's project was known.

        Raises:
            ProjectMismatchError: the key belongs to another project.

        """
        env_project_id = env_project_id or self._state_project_id
        if env_project_id is None:
            return
        sample = next(iter(external_ids), None)
        if sample is not None:
            self._find_out(sample, env_project_id)
        known = self._env_project_id
        if known is not None and known != env_project_id:
            harm = (
                f"{names(sorted(written))} had been written there before the mismatch showed"
                if written
                else "nothing was changed"
            )
            namespace = self._connection.namespace
            raise ProjectMismatchError(
                f'this API key belongs to the Traceloop environment "{printable(known)}", but'
                f' the stack\'s monitors are in "{printable(env_project_id)}"; {harm}. Set'
                f" {namespace}:apiKey and {namespace}:baseUrl back to the stack's own project, or"
                " use another stack for this one; `pulumi state delete <urn>` removes from the"
                " state what was created in the wrong project"
            )

    def _find_out(self, sample: str, expected: str) -> None:
        """Find out the key's project, unless it is known."""
        candidates = [i for i in (sample, self._in_state) if i]
        for external_id in candidates:
            if self._env_project_id is None and not self.knows(external_id):
                self._get_readable(external_id)
        if self._env_project_id is None:
            self._own(self._list(expected, float("-inf")).listing.setups, expected)
        for external_id in candidates:
            if self._env_project_id is None and external_id in self._unreadable:
                raise self._unreadable[external_id]
