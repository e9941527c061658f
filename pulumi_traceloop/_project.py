"""What one Traceloop project has, and how to reach it.

A response about one setup by its id, or to a write, is the API key's own and exact. The list is
neither: the OpenAPI file says that it is the organization's, so it may hold other projects' setups
under the same external_ids; its paging is not documented, so it may be cut off. So the list only
saves requests: what it has is believed where it is this project's, and what it lacks is asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ._settings import DEFAULT_BASE_URL
from ._text import names, printable, say
from .errors import (
    MalformedResponseError,
    ProjectMismatchError,
    TraceloopError,
)

if TYPE_CHECKING:
    from ._client import TraceloopClient
    from ._models import Listing, Setup
    from ._settings import Connection

__all__ = ["Project", "Reading", "in_parallel"]

#: How many requests are under way at once, unless somebody wants fewer.
WORKERS = 24

#: How many setups are asked for by their ids before all are listed: one round of requests.
READ_BY_ID = 24

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(work: Callable[[T], R], items: Collection[T], workers: int = WORKERS) -> list[R]:
    """Return what *work* makes of each of *items*, in their order, a few at a time."""
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(workers, len(items))) as pool:
        return list(pool.map(work, items))


class Reading(NamedTuple):
    """What Traceloop has of the setups that were asked for."""

    #: By external_id; what is in neither of the two is not there.
    setups: dict[str, Setup]
    #: By external_id: the service's response about the setup cannot be read.
    unreadable: dict[str, MalformedResponseError]


class Project:
    """One Traceloop project and environment: what one API key at one base URL gives access to.

    Safe to use from several threads: the host serves up to four calls at once. No lock is held
    while a request is under way.
    """

    def __init__(
        self, connection: Connection, *, key_is_stored: Callable[[], bool] = lambda: False
    ) -> None:
        """Open the project, without a request.

        Args:
            connection: how to reach it.
            key_is_stored: whether the key may be that of the last update, for what errors advise.

        """
        self._connection = connection
        self._key_is_stored = key_is_stored
        self._lock = threading.RLock()
        self._client: TraceloopClient | None = None
        #: What is known for certain; ``None`` where there is no such setup.
        self._known: dict[str, Setup | None] = {}
        self._unreadable: dict[str, MalformedResponseError] = {}
        self._asked = 0
        self._listing: Future[Listing] | None = None
        self._deleted: set[str] = set()
        self._env_project_id: str | None = None
        self._made_in: str | None = None
        #: One that the state has there.
        self._in_state: str | None = None
        #: Why a plan is not compared with what Traceloop has, if it is not.
        self.blind = ""

    @property
    def client(self) -> TraceloopClient:
        """The connection to the API.

        Raises:
            ConfigurationError: there is no API key, or the base URL is unusable.

        """
        with self._lock:
            if self._client is None:
                from ._client import TraceloopClient

                self._client = TraceloopClient.connect(
                    self._connection, pool_size=2 * WORKERS, key_is_stored=self._key_is_stored
                )
            return self._client

    # Which project this is.

    @property
    def namespace(self) -> str:
        """Where the stack's configuration has it."""
        return self._connection.namespace

    @property
    def env_project_id(self) -> str | None:
        """Which one it is, as far as a response or the state has said."""
        return self._env_project_id or self._made_in

    def is_same(self, other: Project) -> bool | None:
        """Whether *other* is the same Traceloop project; ``None`` if not known yet."""
        if other is self or other._address == self._address:
            return True
        with self._lock:
            own = self._env_project_id
        theirs = other._env_project_id
        return None if own is None or theirs is None else own == theirs

    @property
    def _address(self) -> tuple[str, str | None]:
        return (self._connection.base_url or DEFAULT_BASE_URL).rstrip("/"), self._connection.api_key

    # What Traceloop has.

    def read(
        self,
        external_ids: Collection[str],
        env_project_id: str | None = None,
        *,
        fresh: bool = False,
    ) -> Reading:
        """Return what Traceloop has of *external_ids*.

        A few are asked for by their ids, side by side. Of many, the list is read once in a
        deployment, and only what it lacks is asked for.

        Args:
            external_ids: which setups.
            env_project_id: the project that the state was made in, if it says.
            fresh: ask again for what is known already.

        Raises:
            TraceloopError: the service cannot be asked.

        """
        with self._lock:
            if fresh:
                for external_id in external_ids:
                    self._known.pop(external_id, None)
                    self._unreadable.pop(external_id, None)
            ask = self._not_known(external_ids)
            self._asked += len(ask)
            by_list = bool(ask) and (
                self._asked > READ_BY_ID or (self._listing is not None and not fresh)
            )
        if by_list:
            self._use_list(ask, env_project_id, fresh=fresh)
            with self._lock:
                ask = self._not_known(ask)
        in_parallel(self._get_readable, ask)
        with self._lock:
            known = {i: setup for i in external_ids if (setup := self._known.get(i)) is not None}
            unreadable = {i: self._unreadable[i] for i in external_ids if i in self._unreadable}
        return Reading(known, unreadable)

    def _not_known(self, external_ids: Collection[str]) -> list[str]:
        return [
            i
            for i in dict.fromkeys(external_ids)
            if i not in self._known and i not in self._unreadable
        ]

    def present(
        self,
        external_ids: Collection[str],
        env_project_id: str | None = None,
        *,
        fresh: bool = False,
    ) -> dict[str, Setup]:
        """Return what Traceloop has of *external_ids*, as `read` does.

        Raises:
            TraceloopError: the service cannot be asked, or a response cannot be read.

        """
        setups, unreadable = self.read(external_ids, env_project_id, fresh=fresh)
        for error in unreadable.values():
            raise error
        return setups

    def get(self, external_id: str) -> Setup | None:
        """Ask for one setup by its id, whatever is known already."""
        setup = self.client.get_setup(external_id)
        if setup is None:
            self._forget(external_id)
        else:
            self.note(setup)
        return setup

    def _get_readable(self, external_id: str) -> None:
        try:
            self.get(external_id)
        except MalformedResponseError as error:
            with self._lock:
                self._unreadable[external_id] = error

    def setups(self, *, fresh: bool = False) -> dict[str, Setup]:
        """Return this project's setups by external_id, as far as the list has them.

        Those that do not say which project they are in, and those that cannot be read and may be
        this one's, are asked for by their ids: see `unreadable`.
        """
        listing = self._list(None, fresh=fresh)
        own = self._own(listing.setups, None)
        asked = [s.external_id for s in listing.setups if not s.env_project_id]
        asked += [
            each.external_id
            for each in listing.unreadable
            if each.external_id and each.env_project_id in (None, self._env_project_id)
        ]
        in_parallel(self._get_readable, asked)
        with self._lock:
            if fresh:
                self._known |= own
            known = {i: setup for i, setup in self._known.items() if setup is not None}
            return {i: s for i, s in own.items() if i not in self._known} | known

    @property
    def unreadable(self) -> dict[str, str]:
        """``{external_id: why}`` of this project's setups whose response could not be read."""
        with self._lock:
            return {i: error.summary for i, error in self._unreadable.items()}

    def _use_list(
        self, external_ids: Collection[str], expected: str | None, *, fresh: bool
    ) -> None:
        """Learn from the list what it has of *external_ids*."""
        listing = self._list(expected, fresh=fresh)
        wanted = set(external_ids)
        found = self._own([s for s in listing.setups if s.external_id in wanted], expected)
        with self._lock:
            for external_id, setup in found.items():
                self._known.setdefault(external_id, setup)
            # A list that is cut off has something in it. One that has nothing is believed, unless
            # something is known to be there.
            empty = not (listing.setups or listing.unreadable)
            if empty and expected is None and not any(self._known.values()):
                self._known |= {i: None for i in external_ids if i not in self._known}

    def _list(self, expected: str | None, *, fresh: bool) -> Listing:
        """Return the list, read once for all who ask at the same time or later.

        Of other projects than this one, or the *expected* one, it has one setup each.
        """
        with self._lock:
            listing, mine = self._listing, False
            if listing is None or (fresh and listing.done()):
                listing = self._listing = Future()
                mine = True
            of_project = self._env_project_id or expected
        if mine:
            try:
                listing.set_result(self.client.list_setups(of_project=of_project))
            except BaseException as error:
                with self._lock:
                    self._listing = None
                listing.set_exception(error)
                raise
        return listing.result()

    def _own(self, listed: Iterable[Setup], expected: str | None) -> dict[str, Setup]:
        """Return which of *listed* are this project's, which is asked for by an id if need be.

        A setup that does not say which project it is in is never taken for this one's.
        """
        by_project: dict[str, dict[str, Setup]] = {}
        for setup in listed:
            if setup.env_project_id:
                by_project.setdefault(setup.env_project_id, {})[setup.external_id] = setup
        for project_id in sorted(by_project, key=lambda each: each != expected):
            if self._env_project_id is None:
                self.get(next(iter(by_project[project_id])))
        return by_project.get(self._env_project_id or "", {})

    def knows(self, external_id: str) -> bool:
        """Whether it is known for certain if Traceloop has the setup."""
        with self._lock:
            return external_id in self._known

    def note(self, *setups: Setup) -> None:
        """Keep what the service returned for some of the key's own setups."""
        with self._lock:
            for setup in setups:
                self._env_project_id = setup.env_project_id or self._env_project_id
                self._deleted.discard(setup.external_id)
                self._unreadable.pop(setup.external_id, None)
                self._known[setup.external_id] = setup

    def delete(self, external_id: str) -> None:
        """Delete a setup; one that is gone already is fine."""
        self.client.delete_setup(external_id)
        with self._lock:
            self._deleted.add(external_id)
            self._forget(external_id)

    @property
    def deleted(self) -> frozenset[str]:
        """What was deleted in this deployment."""
        with self._lock:
            return frozenset(self._deleted)

    def _forget(self, external_id: str) -> None:
        with self._lock:
            self._unreadable.pop(external_id, None)
            self._known[external_id] = None

    # What a plan looks up: it is never worth an error.

    def try_read(self, external_ids: Collection[str]) -> Reading | None:
        """Return what Traceloop has of *external_ids*; ``None``, said once, if it cannot be asked.

        What it finds is kept for the writes of the same deployment.
        """
        if self.blind:
            return None
        try:
            return self.read(external_ids)
        except TraceloopError as error:
            with self._lock:
                said, self.blind = self.blind, getattr(error, "summary", str(error))
            if not said:
                say(f"The plan is not compared with what Traceloop has: {printable(self.blind)}")
            return None

    # Which project the state was made in.

    def made_in(self, env_project_id: str | None, external_ids: Iterable[str] = ()) -> None:
        """Note which project the state of a resource was made in, if it says.

        Args:
            env_project_id: the project.
            external_ids: setups that the state has there.

        """
        with self._lock:
            self._made_in = self._made_in or env_project_id
            self._in_state = self._in_state or next(iter(external_ids), None)

    def expect(
        self,
        env_project_id: str | None,
        external_ids: Iterable[str] = (),
        written: Collection[str] = (),
    ) -> None:
        """Stop if the key belongs to another project than the state.

        Args:
            env_project_id: the project that the state was made in; ``None`` if it does not say,
                but perhaps that of another resource does (`made_in`).
            external_ids: setups that may be there. Where no response has told yet whose the key is,
                one of them is asked for by its id, and one that the state has; the list, if there
                is neither.
            written: setups that were written before the key could be told.

        Raises:
            ProjectMismatchError: the key belongs to another project.

        """
        env_project_id = env_project_id or self._made_in
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
        """Ask whose the key is, if no response has told yet."""
        for external_id in filter(None, (sample, self._in_state)):
            if self._env_project_id is None and not self.knows(external_id):
                self.get(external_id)
        if self._env_project_id is None:
            self._own(self._list(expected, fresh=False).setups, expected)
