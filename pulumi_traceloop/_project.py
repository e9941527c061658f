"""What the provider process knows during one deployment.

The engine runs one process of the Python dynamic host for all dynamic resources of a stack, and
another one for a preview (seen on the Pulumi CLI 3.260). So what this module holds lives for one
deployment: which external_ids the program declares, and what Traceloop has.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ._text import name, names, printable, say
from .errors import ConfigurationError, ProjectMismatchError, TraceloopError

if TYPE_CHECKING:
    from ._client import TraceloopClient
    from ._models import Setup

__all__ = ["Connection", "Project", "connection", "in_parallel", "project"]

#: How many requests are under way at once, unless somebody wants fewer.
WORKERS = 24

#: How long a look at Traceloop may take that only makes a plan better, in seconds.
LOOK_DEADLINE = 5.0

#: So many single setups are looked up one by one before all are listed.
SINGLE_LOOKS = 8

#: How many setups that the list lacks are asked for by their id before the list is believed.
CONFIRMATIONS = 24

DEFAULT_NAMESPACE = "traceloop"

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(work: Callable[[T], R], items: Collection[T], workers: int = WORKERS) -> list[R]:
    """Return what *work* makes of each of *items*, in their order, a few at a time."""
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(workers, len(items))) as pool:
        return list(pool.map(work, items))


class Connection(NamedTuple):
    """How to reach the API."""

    #: Where the stack's configuration has it.
    namespace: str
    api_key: str | None
    #: ``None`` for the public service.
    base_url: str | None
    #: How long a request may take with all its retries, in seconds.
    deadline: float
    #: Whether an ``http://`` base URL may be on another machine.
    allow_http: bool = False


def connection(
    setting: Callable[[str], Any], environment: Mapping[str, str], namespace: str | None = None
) -> Connection:
    """Return the connection that the stack's configuration and the environment ask for.

    Args:
        setting: returns the value of a key such as ``traceloop:apiKey``, or ``None``.
        environment: what stands in for a setting that is not there.
        namespace: the configuration's namespace, ``traceloop`` if ``None``. The environment stands
            in for that one only: another namespace is there for another project.

    Raises:
        ConfigurationError: the deadline is no number of seconds.

    """
    own = namespace or DEFAULT_NAMESPACE

    def value(key: str, variable: str) -> Any:
        given = setting(f"{own}:{key}")
        return given if given or own != DEFAULT_NAMESPACE else environment.get(variable)

    deadline = value("deadline", "TRACELOOP_DEADLINE") or "60"
    try:
        seconds = float(deadline)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        variable = " (or TRACELOOP_DEADLINE)" if own == DEFAULT_NAMESPACE else ""
        raise ConfigurationError(
            f"{own}:deadline{variable} must be a number of seconds, such as 60,"
            f' not "{printable(str(deadline))}"'
        )
    allowed = str(value("allowHttp", "TRACELOOP_ALLOW_HTTP") or "false").lower()
    if allowed not in ("true", "false"):
        raise ConfigurationError(
            f'{own}:allowHttp must be true or false, not "{printable(allowed)}"'
        )
    return Connection(
        own,
        value("apiKey", "TRACELOOP_API_KEY"),
        value("baseUrl", "TRACELOOP_BASE_URL"),
        seconds,
        allowed == "true",
    )


class Project:
    """One Traceloop project and environment: what one API key at one base URL gives access to.

    Safe to use from several threads: the host serves up to four calls at once.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.RLock()
        self._client: TraceloopClient | None = None
        self._quick_client: TraceloopClient | None = None
        self._declarers: dict[str, str] = {}
        self._leaving: dict[str, str] = {}
        self._managed: set[str] = set()
        self._deleted: set[str] = set()
        self._granted: dict[str, tuple[Collection[str], str | None]] = {}
        self._known_to_memberships: dict[str, dict[str, bool]] = {}
        #: Why a plan cannot be compared with what Traceloop has, if it cannot.
        self.blind = ""
        self._looks = 0
        self._looked_at: dict[str, Setup | None] = {}
        self._env_project_id: str | None = None
        self._made_in: str | None = None
        self._listed: dict[str, list[Setup]] | None = None

    @property
    def namespace(self) -> str:
        """Where the stack's configuration has it."""
        return self._connection.namespace

    @property
    def env_project_id(self) -> str | None:
        """The project, as far as the state or the service has said."""
        return self._env_project_id or self._made_in

    @property
    def client(self) -> TraceloopClient:
        """The connection to the API.

        Raises:
            ConfigurationError: there is no API key, or the base URL is unusable.

        """
        with self._lock:
            if self._client is None:
                self._client = self._connect(self._connection.deadline)
            return self._client

    def _connect(self, deadline: float) -> TraceloopClient:
        from ._client import DEFAULT_BASE_URL, TraceloopClient

        namespace, api_key, base_url, _, allow_http = self._connection
        if not api_key:
            variable = (
                " or set the environment variable TRACELOOP_API_KEY"
                if namespace == DEFAULT_NAMESPACE
                else ""
            )
            raise ConfigurationError(
                "no Traceloop API key: run"
                f" `pulumi config set --secret {namespace}:apiKey <key>`{variable}"
            )
        return TraceloopClient(
            api_key,
            base_url or DEFAULT_BASE_URL,
            allow_http=allow_http,
            namespace=namespace,
            deadline=deadline,
            pool_size=2 * WORKERS,
        )

    # What the program declares. The engine checks every declared resource before it deletes
    # anything, so a delete can tell a setup that moved from one that left.

    def declare(self, external_id: str, declarer: str) -> str | None:
        """Note that *declarer* declares *external_id*; return who else does, if anybody."""
        with self._lock:
            first = self._declarers.setdefault(external_id, declarer)
            announced = self._leaving.pop(external_id, declarer)
        if announced != declarer:
            say(f"  > {name(external_id)} is not deleted: {declarer} declares it")
        return None if first == declarer else first

    def declarer(self, external_id: str) -> str | None:
        """Return who declares *external_id* in this deployment, if anybody."""
        with self._lock:
            return self._declarers.get(external_id)

    def leave(self, external_id: str, declarer: str) -> None:
        """Note that a plan has announced that *declarer*'s setup will be deleted.

        Should another resource turn out to declare it, the announcement is taken back.
        """
        with self._lock:
            self._leaving[external_id] = declarer

    def manage(self, external_ids: Iterable[str]) -> None:
        """Note what the state says that this stack manages."""
        with self._lock:
            self._managed.update(external_ids)

    def disown(self, external_ids: Iterable[str]) -> None:
        """Note that setups which the state mentions never came into this stack's hands."""
        with self._lock:
            self._managed.difference_update(external_ids)

    def manages(self, external_id: str) -> bool:
        """Whether a resource of this stack is known to manage the setup."""
        with self._lock:
            return external_id in self._managed

    def grant(
        self, declarer: str, external_ids: Collection[str], env_project_id: str | None = None
    ) -> None:
        """Note which setups of a group are taken to be in place, as the state says, unasked."""
        with self._lock:
            self._granted[declarer] = external_ids, env_project_id

    def granted(self, declarer: str) -> tuple[Collection[str], str | None]:
        """Return what was granted to the group, and the project that it is in."""
        with self._lock:
            return self._granted.get(declarer, ((), None))

    def leave_to_batch(
        self, declarer: str, owned: Iterable[str], gone_before: Iterable[str]
    ) -> None:
        """Note what a membership knew that goes together with its group.

        Args:
            declarer: the group.
            owned: what it still had to see to.
            gone_before: what it knew to have left; another membership may still have to see to it.

        """
        with self._lock:
            known = self._known_to_memberships.setdefault(declarer, {})
            known |= {i: False for i in gone_before if i not in known}
            known |= dict.fromkeys(owned, True)

    def known_to_memberships(self, declarer: str) -> Mapping[str, bool]:
        """Return what the group's memberships knew, and whether they still had to see to it."""
        with self._lock:
            return dict(self._known_to_memberships.get(declarer, {}))

    # What a plan looks up. It is never worth an error, and a service that is down costs it little.

    def look(self, external_ids: Collection[str]) -> dict[str, Setup]:
        """Return what Traceloop has of *external_ids*, as far as that can be told.

        Where it cannot be asked, that is said once and nothing is found.
        """
        with self._lock:
            if self.blind or not external_ids:
                return {}
            try:
                return self.find(external_ids, client=self._looker())
            except TraceloopError as error:
                self._cannot_look(error)
                return {}

    def look_at(self, external_id: str) -> Setup | None:
        """Return one setup if Traceloop has it, as far as that can be told.

        The answer is kept for `take`, so that a create does not ask again.
        """
        with self._lock:
            self._looks += 1
            if self._listed is not None or self.blind or self._looks > SINGLE_LOOKS:
                return self.look([external_id]).get(external_id)
        try:
            setup = self._looker().get_setup(external_id)
        except TraceloopError as error:
            self._cannot_look(error)
            return None
        with self._lock:
            self._looked_at[external_id] = setup
        return setup

    def take(self, external_id: str) -> Setup | None:
        """Return one setup: what `look_at` has just found, or what is asked for now."""
        with self._lock:
            if external_id in self._looked_at:
                setup = self._looked_at.pop(external_id)
                if setup is not None:
                    self.note(setup)
                return setup
        return self.get(external_id)

    def _looker(self) -> TraceloopClient:
        with self._lock:
            if self._quick_client is None:
                deadline = min(LOOK_DEADLINE, self._connection.deadline)
                self._quick_client = self._connect(deadline)
            return self._quick_client

    def _cannot_look(self, error: TraceloopError) -> None:
        with self._lock:
            said, self.blind = self.blind, getattr(error, "summary", str(error))
        if not said:
            say(f"The plan is not compared with what Traceloop has: {self.blind}")

    # What Traceloop has. The OpenAPI file says that the list is the organization's: it may hold
    # setups of other projects, where the same external_id is another monitor. Whose a setup is, is
    # certain only from an answer about it by id, or to a write: those are the key's own.

    def setups(self, *, fresh: bool = False) -> dict[str, Setup]:
        """Return this project's setups by external_id, as `find` does."""
        return self.find(None, fresh=fresh)

    def find(
        self,
        external_ids: Collection[str] | None,
        *,
        env_project_id: str | None = None,
        fresh: bool = False,
        client: TraceloopClient | None = None,
    ) -> dict[str, Setup]:
        """Return what the list has of *external_ids*, or of all, and is this project's own.

        Args:
            external_ids: which setups; ``None`` for all.
            env_project_id: the project that the state was made in. What the list has of that one
                is believed; of others, one setup is asked for by its id.
            fresh: list again what was listed already in this deployment.
            client: who asks.

        """
        client = client or self.client
        with self._lock:
            if self._listed is None or fresh:
                everything: dict[str, list[Setup]] = {}
                for setup in client.list_setups():
                    everything.setdefault(setup.external_id, []).append(setup)
                self._listed = everything
            listed = self._listed
            wanted = listed if external_ids is None else [i for i in external_ids if i in listed]
            found = {i: listed[i] for i in wanted}
        self._identify((s for each in found.values() for s in each), env_project_id, client)
        own = (self._env_project_id or env_project_id, None)
        mine = {i: [s for s in each if s.env_project_id in own] for i, each in found.items()}
        return {i: each[0] for i, each in mine.items() if each}

    def _identify(
        self,
        listed: Iterable[Setup],
        env_project_id: str | None,
        client: TraceloopClient | None = None,
    ) -> None:
        """Learn whose the key is, if that is not known and *listed* has a setup of another project.

        One setup of each such project is asked for by its id.
        """
        samples = {s.env_project_id: s for s in listed if s.env_project_id}
        with self._lock:
            for project_id, sample in samples.items():
                if project_id != env_project_id and self._env_project_id is None:
                    self.get(sample.external_id, client)

    def get(self, external_id: str, client: TraceloopClient | None = None) -> Setup | None:
        """Ask for one setup by its id."""
        setup = (client or self.client).get_setup(external_id)
        if setup is None:
            self.forget(external_id)
        else:
            self.note(setup)
        return setup

    def present(
        self, external_ids: Collection[str], env_project_id: str | None = None
    ) -> dict[str, Setup]:
        """Return what Traceloop has of *external_ids*.

        The list has no documented paging, so a setup that it lacks is asked for by its id before it
        counts as gone. If the first `CONFIRMATIONS` are all gone, so are the others.
        """
        if not external_ids:
            return {}
        found = self.find(external_ids, env_project_id=env_project_id)
        lacking = [i for i in external_ids if i not in found]
        head, rest = lacking[:CONFIRMATIONS], lacking[CONFIRMATIONS:]
        answers = [s for s in in_parallel(self.get, head) if s]
        if answers:
            answers += [s for s in in_parallel(self.get, rest) if s]
        return found | {s.external_id: s for s in answers}

    def note(self, *setups: Setup) -> None:
        """Keep what the service answered about some of the key's own setups."""
        with self._lock:
            for setup in setups:
                self._env_project_id = setup.env_project_id or self._env_project_id
                self._deleted.discard(setup.external_id)
                if self._listed is not None:
                    self._listed[setup.external_id] = [setup]

    def delete(self, external_id: str) -> None:
        """Delete a setup; one that is gone already is fine."""
        self.client.delete_setup(external_id)
        with self._lock:
            self._deleted.add(external_id)
            self.forget(external_id)

    def has_deleted(self, external_id: str) -> bool:
        """Whether the setup was deleted in this deployment."""
        with self._lock:
            return external_id in self._deleted

    def lacks(self, external_id: str) -> bool:
        """Whether all setups were listed in this deployment, and this one was not among them."""
        with self._lock:
            return self._listed is not None and external_id not in self._listed

    def forget(self, external_id: str) -> None:
        """Keep that a setup is gone."""
        with self._lock:
            if self._listed is not None:
                self._listed.pop(external_id, None)

    # Whose the state is.

    def made_in(self, env_project_id: str | None) -> None:
        """Note which project the state of a resource was made in, if it says."""
        with self._lock:
            self._made_in = self._made_in or env_project_id

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
            external_ids: setups that the state says are there. Where nothing has told yet whose the
                key is, one of them is asked for by its id; if it is gone, the list is.
            written: setups that were written before the key could be told.

        Raises:
            ProjectMismatchError: the key belongs to another project.

        """
        env_project_id = env_project_id or self._made_in
        if env_project_id is None:
            return
        sample = next(iter(external_ids), None)
        with self._lock:
            if self._env_project_id is None and sample is not None and self.get(sample) is None:
                self.find(None, env_project_id=env_project_id)
            listed = [s for each in (self._listed or {}).values() for s in each]
            self._identify(listed, env_project_id)
        known = self._env_project_id
        if known is not None and known != env_project_id:
            harm = (
                f"{names(sorted(written))} had been written there before that could be told"
                if written
                else "nothing was changed"
            )
            namespace = self._connection.namespace
            raise ProjectMismatchError(
                f'this API key belongs to the Traceloop environment "{printable(known)}", but'
                f' the stack\'s monitors are in "{printable(env_project_id)}"; {harm}. Set'
                f" {namespace}:apiKey and {namespace}:baseUrl back to the stack's own project, or"
                " use another stack for this one; what was once made in the wrong project leaves"
                " the state with `pulumi state delete <urn>`"
            )


_projects: dict[Connection, Project] = {}
_projects_lock = threading.Lock()


def project(connection: Connection) -> Project:
    """Return the `Project` of this connection, the same one for the life of the process."""
    with _projects_lock:
        return _projects.setdefault(connection, Project(connection))
