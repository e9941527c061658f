"""What a provider process knows of a project during one deployment: `_project.py`."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pulumi_traceloop._client import TraceloopClient
from pulumi_traceloop._models import Listing, Setup
from pulumi_traceloop._project import (
    BEFORE_WRITE,
    READ_BY_ID,
    WORKERS,
    Project,
    in_parallel,
)
from pulumi_traceloop._settings import Connection, connection
from pulumi_traceloop.emulator import Emulator, Fault
from pulumi_traceloop.emulator.routes import GET_ROUTE, LIST_ROUTE
from pulumi_traceloop.errors import (
    ConfigurationError,
    MalformedResponseError,
    ProjectMismatchError,
    ServerError,
)
from tests.support import API_KEY
from tests.support.clock import Clock

NO_SETTINGS: dict[str, str] = {}

#: More setups than are read one by one.
MANY = [f"m-{n:03}" for n in range(READ_BY_ID + 10)]


def at(api_key: str | None = None, base_url: str | None = None, deadline: float = 60) -> Connection:
    settings = {
        "traceloop:apiKey": api_key,
        "traceloop:baseUrl": base_url,
        "traceloop:deadline": str(deadline),
    }
    return connection(settings.get, {})


RULE = {"key": "k", "source": "span_attributes", "value": "x"}


@pytest.fixture
def here(traceloop: Emulator) -> Iterator[Project]:
    """The emulated project."""
    project = Project(at(API_KEY, traceloop.url))
    yield project
    project.client.close()


def put(traceloop: Emulator, *external_ids: str, api_key: str | None = None) -> str:
    """Create setups; return their environment."""
    setups = [
        traceloop.put(i, selector=[RULE], evaluators=["faithfulness"], api_key=api_key)
        for i in external_ids
    ]
    return str(setups[0]["env_project_id"])


def shows(traceloop: Emulator, *api_keys: str) -> None:
    """Let the list have the setups of several projects, as one of an organization would."""
    listed = [setup for key in api_keys for setup in traceloop.setups_of(key).values()]
    traceloop.inject(Fault(route=LIST_ROUTE, body=json.dumps(listed), times=None))


class TestProject:
    def test_needs_a_key_only_for_requests(self) -> None:
        keyless = Project(at())
        with pytest.raises(ConfigurationError, match="pulumi config set --secret traceloop:apiKey"):
            keyless.setups()

    def test_has_one_client_for_all_threads(self) -> None:
        shared = Project(at("a-key", "https://traceloop.example"))
        with ThreadPoolExecutor(8) as pool:
            clients = set(pool.map(lambda _: id(shared.client), range(64)))
        assert clients == {id(shared.client)}

    @pytest.mark.parametrize(
        ("other", "same"),
        [
            (at("key", "https://traceloop.example/"), True),
            (at("key", "https://traceloop.example")._replace(namespace="other"), True),
            (at("other-key", "https://traceloop.example"), None),
            (at("key", "https://other.example"), None),
        ],
    )
    def test_equal_connections_are_one_project_and_others_are_undecided(
        self, other: Connection, same: bool | None
    ) -> None:
        one = Project(at("key", "https://traceloop.example"))
        assert one.is_same(Project(other)) is same

    @pytest.mark.parametrize(("env", "same"), [("env", True), ("other-env", False)])
    def test_responses_prove_whether_two_are_one(self, env: str, same: bool) -> None:
        one, other = Project(at("key")), Project(at("other-key"))
        one.note(Setup(id="1", external_id="a", env_project_id="env"))
        assert one.is_same(other) is None
        other.note(Setup(id="2", external_id="b", env_project_id=env))
        assert one.is_same(other) is same


class TestSetups:
    def test_are_listed_once_for_several_threads(self, here: Project, traceloop: Emulator) -> None:
        put(traceloop, "a", "b")
        barrier = threading.Barrier(4)

        def read(_: int) -> set[str]:
            barrier.wait()
            return set(here.setups())

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(read, range(4))) == [{"a", "b"}] * 4
        # Each thread also reads one by id, which proves whose the list is.
        assert traceloop.requests[LIST_ROUTE] == 1
        assert 1 <= traceloop.requests[GET_ROUTE] <= 4

    def test_are_listed_again_on_request(self, here: Project, traceloop: Emulator) -> None:
        put(traceloop, "a")
        here.setups()
        put(traceloop, "b")
        assert set(here.setups()) == {"a"}
        assert set(here.setups(fresh=True)) == {"a", "b"}

    def test_are_listed_again_after_a_failure(self, here: Project, traceloop: Emulator) -> None:
        put(traceloop, "a")
        traceloop.inject(Fault(route=LIST_ROUTE, status=403))
        with pytest.raises(Exception, match="403"):
            here.setups()
        assert set(here.setups()) == {"a"}

    def test_of_another_environment_are_left_out(self, here: Project, traceloop: Emulator) -> None:
        traceloop.add_project("their-key", env_project_id="their-env")
        env = put(traceloop, "both", "own")
        put(traceloop, "both", "theirs", api_key="their-key")
        shows(traceloop, API_KEY, "their-key")
        assert {i: s.env_project_id for i, s in here.setups().items()} == {"both": env, "own": env}

    def test_of_two_other_environments_are_left_out(
        self, here: Project, traceloop: Emulator
    ) -> None:
        for n in range(2):
            traceloop.add_project(f"key-{n}", env_project_id=f"env-{n}")
            put(traceloop, f"theirs-{n}", api_key=f"key-{n}")
        shows(traceloop, "key-0", "key-1")
        assert here.setups() == {}

    def test_without_an_environment_are_read_by_id(
        self, here: Project, traceloop: Emulator
    ) -> None:
        traceloop.add_project("their-key", env_project_id="their-env")
        put(traceloop, "a")
        put(traceloop, "theirs", api_key="their-key")
        both = [*traceloop.setups.values(), *traceloop.setups_of("their-key").values()]
        listed = [setup | {"env_project_id": None} for setup in both]
        traceloop.inject(Fault(route=LIST_ROUTE, body=json.dumps(listed)))
        assert set(here.setups()) == {"a"}


class TestCache:
    def test_note_adds_what_was_written(self, here: Project, traceloop: Emulator) -> None:
        here.setups()
        here.note(Setup(id="1", external_id="a"))
        assert here.setups()["a"].id == "1"
        assert traceloop.requests == {LIST_ROUTE: 1}

    def test_note_replaces_what_was_listed(self, here: Project, traceloop: Emulator) -> None:
        put(traceloop, "a")
        here.setups()
        here.note(Setup(id="1", external_id="a"))
        assert here.setups()["a"].id == "1"

    def test_delete_removes_the_setup(self, here: Project, traceloop: Emulator) -> None:
        put(traceloop, "a", "b")
        here.setups()
        here.delete("a")
        assert set(here.setups()) == {"b"}
        assert here.deleted == {"a"}

    def test_note_alone_is_not_a_list(self, here: Project, traceloop: Emulator) -> None:
        """One known setup does not mean that there are no others."""
        put(traceloop, "a", "b")
        here.note(Setup(id="1", external_id="c"))
        assert set(here.setups()) == {"a", "b", "c"}

    def test_get_updates_the_cache(self, here: Project, traceloop: Emulator) -> None:
        put(traceloop, "gone")
        here.setups()
        traceloop.delete("gone")
        put(traceloop, "new")
        assert here.get("gone") is None
        assert here.get("new") is not None
        assert set(here.setups()) == {"new"}
        assert traceloop.requests[LIST_ROUTE] == 1


class TestPresent:
    def test_of_nothing_sends_no_request(self, here: Project, traceloop: Emulator) -> None:
        assert here.present([]) == {}
        assert traceloop.requests == {}

    def test_few_are_read_by_id(self, here: Project, traceloop: Emulator) -> None:
        """The list has the setups of all projects and may be long."""
        put(traceloop, "a", "b", "c")
        assert set(here.present(["a", "b", "gone"])) == {"a", "b"}
        assert traceloop.requests == {GET_ROUTE: 3}

    def test_many_are_listed_and_one_read_confirms_the_project(
        self, here: Project, traceloop: Emulator
    ) -> None:
        env = put(traceloop, *MANY)
        assert set(here.present(MANY, env)) == set(MANY)
        assert traceloop.requests == {LIST_ROUTE: 1, GET_ROUTE: 1}

    def test_many_single_reads_switch_to_the_list(self, here: Project, traceloop: Emulator) -> None:
        put(traceloop, *MANY)
        for external_id in MANY:
            assert set(here.present([external_id])) == {external_id}
        assert traceloop.requests == {LIST_ROUTE: 1, GET_ROUTE: READ_BY_ID}

    @pytest.mark.parametrize("hidden", [1, len(MANY) - 1, len(MANY)])
    def test_all_that_the_list_lacks_are_read_by_id(
        self, here: Project, traceloop: Emulator, hidden: int
    ) -> None:
        env = put(traceloop, *MANY)
        traceloop.inject(Fault(route=LIST_ROUTE, hide=MANY[:hidden]))
        assert set(here.present([*MANY, "gone"], env)) == set(MANY)
        # One that the list has is read too, to prove whose it is.
        assert traceloop.requests == {LIST_ROUTE: 1, GET_ROUTE: hidden + 1 + (hidden < len(MANY))}

    def test_known_setups_are_not_read_again(self, here: Project, traceloop: Emulator) -> None:
        put(traceloop, "a")
        for _ in range(2):
            assert set(here.present(["a", "gone"])) == {"a"}
        assert traceloop.requests == {GET_ROUTE: 2}
        here.present(["a", "gone"], max_age=0)
        assert traceloop.requests == {GET_ROUTE: 4}

    def test_empty_list_is_trusted_if_the_state_is_empty(
        self, here: Project, traceloop: Emulator
    ) -> None:
        assert here.present(MANY) == {}
        assert traceloop.requests == {LIST_ROUTE: 1}

    def test_empty_list_is_not_trusted_if_the_state_has_setups(
        self, here: Project, traceloop: Emulator
    ) -> None:
        assert here.present(MANY, "env") == {}
        assert traceloop.requests == {LIST_ROUTE: 1, GET_ROUTE: len(MANY)}

    def test_list_without_environments_is_never_trusted(
        self, here: Project, traceloop: Emulator
    ) -> None:
        traceloop.add_project("their-key", env_project_id="their-env")
        put(traceloop, *MANY, api_key="their-key")
        theirs = traceloop.setups_of("their-key").values()
        listed = [setup | {"env_project_id": None} for setup in theirs]
        traceloop.inject(Fault(route=LIST_ROUTE, body=json.dumps(listed)))
        assert here.present(MANY) == {}

    def test_setups_of_another_project_are_not_those_of_the_state(
        self, here: Project, traceloop: Emulator
    ) -> None:
        """The key belongs to another project than the state, although the list has both."""
        traceloop.add_project("their-key", env_project_id="state-env")
        put(traceloop, *MANY, api_key="their-key")
        shows(traceloop, "their-key")
        assert here.present(MANY, "state-env") == {}

    def test_unreadable_setup_is_reported_beside_the_others(
        self, here: Project, traceloop: Emulator
    ) -> None:
        put(traceloop, "a", "b")
        traceloop.inject(Fault(external_id="a", method="GET", body='{"id": 1}', times=None))
        setups, unreadable = here.read(["a", "b"])
        assert (set(setups), set(unreadable)) == ({"b"}, {"a"})
        with pytest.raises(MalformedResponseError, match='setup "a"'):
            here.present(["a", "b"])

    def test_old_responses_are_not_used_for_a_write(self, traceloop: Emulator) -> None:
        """The resource may have waited for another one since they were read."""
        clock = Clock()
        project = Project(at(API_KEY, traceloop.url), clock=clock)
        put(traceloop, *MANY)
        project.present(["a"])
        project.present(MANY)
        traceloop.delete(MANY[0])
        clock.advance(BEFORE_WRITE - 1)
        assert set(project.present(MANY, max_age=BEFORE_WRITE)) == set(MANY)
        clock.advance(2)
        put(traceloop, "a")
        before = traceloop.requests
        assert set(project.present(MANY, max_age=BEFORE_WRITE)) == set(MANY[1:])
        assert set(project.present(["a"], max_age=BEFORE_WRITE)) == {"a"}
        assert traceloop.requests[LIST_ROUTE] == before[LIST_ROUTE] + 1

    def test_list_that_takes_long_is_not_old_when_it_arrives(self, traceloop: Emulator) -> None:
        clock = Clock()

        class SlowList(TraceloopClient):
            def list_setups(self, **given: Any) -> Listing:
                clock.advance(2 * BEFORE_WRITE)
                return super().list_setups(**given)

        class Here(Project):
            client = SlowList(API_KEY, traceloop.url)

        project = Here(at(API_KEY, traceloop.url), clock=clock)
        put(traceloop, *MANY)
        project.present(MANY)
        project.present(MANY, max_age=BEFORE_WRITE)
        assert traceloop.requests[LIST_ROUTE] == 1

    def test_list_requested_before_a_write_does_not_show_it(self, traceloop: Emulator) -> None:
        """It may have been requested by another thread, and arrive after the write."""
        clock = Clock(tick=0.001)
        arrived, written = threading.Event(), threading.Event()

        class SlowList(TraceloopClient):
            def list_setups(self, **given: Any) -> Listing:
                listing = super().list_setups(**given)
                if not arrived.is_set():
                    arrived.set()
                    assert written.wait(20)
                return listing

        class Here(Project):
            client = SlowList(API_KEY, traceloop.url)

        project = Here(at(API_KEY, traceloop.url), clock=clock)
        put(traceloop, *MANY)
        with ThreadPoolExecutor(1) as pool:
            old = pool.submit(project.present, MANY)
            assert arrived.wait(20)
            traceloop.put(MANY[0], selector=[RULE], evaluators=["word-count"])
            new = pool.submit(project.present, MANY, max_age=0)  # waits for the first
            now = project.present(MANY, max_age=0)
            written.set()
            old.result()
            for found in (now, new.result()):
                assert found[MANY[0]].evaluators[0].evaluator_type == "word-count"

    def test_one_failing_response_does_not_block_the_others(
        self, project: Project, traceloop: Emulator
    ) -> None:
        put(traceloop, "a", "b")
        traceloop.inject(Fault(external_id="a", method="GET", status=500, times=None))
        setups, unreadable = project.read(["a", "b", "c"])
        assert (set(setups), set(unreadable)) == ({"b"}, {"a"})
        with pytest.raises(ServerError, match='setup "a"'):
            project.present(["a"], max_age=0)

    def test_failing_response_is_read_again_before_a_write(
        self, project: Project, traceloop: Emulator
    ) -> None:
        put(traceloop, "a", "b")
        fault = traceloop.inject(Fault(external_id="a", method="GET", status=500, times=None))
        assert set(project.read(["a", "b"]).unreadable) == {"a"}
        traceloop.remove(fault)
        assert set(project.read(["a", "b"], max_age=BEFORE_WRITE).setups) == {"a", "b"}

    def test_an_outage_is_no_property_of_a_setup(
        self, project: Project, traceloop: Emulator
    ) -> None:
        put(traceloop, "a", "b")
        outage = traceloop.inject(Fault(method="GET", status=500, times=None))
        with pytest.raises(ServerError):
            project.read(["a", "b"])
        traceloop.remove(outage)
        assert set(project.read(["a", "b"]).setups) == {"a", "b"}

    def test_other_environments_are_probed_at_once_and_once(self, traceloop: Emulator) -> None:
        """While the key's own environment is unknown, and the list has many others."""
        keys = [f"key-{n}" for n in range(WORKERS // 2)]
        for key in keys:
            traceloop.add_project(key)
            put(traceloop, f"of-{key}", api_key=key)
        shows(traceloop, *keys)
        meeting = threading.Barrier(len(keys), timeout=20)

        class Meeting(TraceloopClient):
            def get_setup(self, external_id: str) -> Setup | None:
                meeting.wait()
                return super().get_setup(external_id)

        class Here(Project):
            client = Meeting(API_KEY, traceloop.url)

        project = Here(at(API_KEY, traceloop.url))
        assert project.setups() == project.setups() == {}
        assert traceloop.requests == {LIST_ROUTE: 1, GET_ROUTE: len(keys)}

    def test_no_lock_is_held_during_a_request(self, here: Project, traceloop: Emulator) -> None:
        """As many requests as setups are in the service at once."""
        meeting = threading.Barrier(4, timeout=20)

        class Meeting(Project):
            def get(self, external_id: str) -> Setup | None:
                meeting.wait()
                return super().get(external_id)

        project = Meeting(at(API_KEY, traceloop.url))
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda n: project.present([f"m-{n}"]), range(4)))
        assert found == [{}] * 4

    def test_raises_if_one_cannot_be_confirmed(self, traceloop: Emulator) -> None:
        """A setup that cannot be read is not missing."""

        class Impatient(Project):
            @property
            def client(self) -> TraceloopClient:
                return TraceloopClient(API_KEY, traceloop.url, sleep=lambda _: None)

        traceloop.inject(Fault(route=GET_ROUTE, status=503, times=None))
        with pytest.raises(ServerError):
            Impatient(at(API_KEY, traceloop.url)).present(["a"])


class TestOneFailure:
    """A setup that cannot be read does not hide whose key it is."""

    @pytest.mark.parametrize("broken", ["a", "b"])
    def test_another_setup_proves_the_project(
        self, project: Project, traceloop: Emulator, broken: str
    ) -> None:
        env = put(traceloop, "a", "b")
        traceloop.inject(Fault(external_id=broken, method="GET", status=500, times=None))
        project.expect(env, ["a"])
        assert project.env_project_id == env
        with pytest.raises(ProjectMismatchError):
            project.expect("state-env", ["a"])

    def test_without_any_the_failure_is_raised(self, project: Project, traceloop: Emulator) -> None:
        put(traceloop, "a", "b")
        traceloop.inject(Fault(method="GET", route=GET_ROUTE, status=500, times=None))
        with pytest.raises(ServerError):
            project.expect("state-env", ["a"])


class TestExpect:
    """Stop if the key belongs to another project than the state."""

    def test_state_without_an_environment_is_trusted(
        self, here: Project, traceloop: Emulator
    ) -> None:
        put(traceloop, "a")
        here.expect(None, ["a"])
        assert traceloop.requests == {}

    def test_listed_setups_prove_the_project(self, here: Project, traceloop: Emulator) -> None:
        env = put(traceloop, "a")
        here.setups()
        here.expect(env)
        with pytest.raises(ProjectMismatchError, match=f'"{env}".*"state-env"'):
            here.expect("state-env")

    def test_setup_in_the_state_proves_the_project(
        self, here: Project, traceloop: Emulator
    ) -> None:
        env = put(traceloop, "a")
        here.expect(env, ["a"])
        assert traceloop.requests == {GET_ROUTE: 1}
        with pytest.raises(ProjectMismatchError):
            here.expect("state-env", ["a"])

    def test_list_proves_the_project_if_that_setup_is_missing(
        self, here: Project, traceloop: Emulator
    ) -> None:
        put(traceloop, "b")
        with pytest.raises(ProjectMismatchError):
            here.expect("state-env", ["gone"])

    def test_earlier_response_proves_the_project_without_a_request(
        self, here: Project, traceloop: Emulator
    ) -> None:
        here.note(Setup(id="1", external_id="a", env_project_id="env"))
        here.expect("env", ["a"])
        with pytest.raises(ProjectMismatchError):
            here.expect("state-env", ["a"])
        assert traceloop.requests == {}

    def test_no_evidence_is_no_mismatch(self, here: Project, traceloop: Emulator) -> None:
        here.expect("state-env", ["a"])
        here.expect("state-env")

    def test_listed_setups_of_another_environment_are_no_mismatch(
        self, here: Project, traceloop: Emulator
    ) -> None:
        traceloop.add_project("their-key", env_project_id="their-env")
        put(traceloop, "theirs", api_key="their-key")
        shows(traceloop, "their-key")
        here.setups()
        here.expect("state-env")

    def test_mismatch_says_what_to_do(self, here: Project, traceloop: Emulator) -> None:
        put(traceloop, "a")
        with pytest.raises(ProjectMismatchError) as failure:
            here.expect("state-env", ["a"])
        for part in ("traceloop:apiKey", "traceloop:baseUrl", "nothing was changed"):
            assert part in str(failure.value)
        assert API_KEY not in str(failure.value)


class TestInParallel:
    @pytest.mark.parametrize("count", [0, 1, 2, 3 * WORKERS])
    def test_results_are_in_the_items_order(self, count: int) -> None:
        assert in_parallel(lambda n: n * 2, range(count)) == [n * 2 for n in range(count)]

    def test_failure_is_raised(self) -> None:
        work: Callable[[int], float] = lambda n: 1 / n  # noqa: E731
        with pytest.raises(ZeroDivisionError):
            in_parallel(work, [1, 0, 2])

    def test_few_run_concurrently(self) -> None:
        """As many calls as workers meet here; sequential calls would wait forever."""
        barrier = threading.Barrier(WORKERS, timeout=20)
        assert len(in_parallel(lambda _: barrier.wait(), range(WORKERS))) == WORKERS
        lock, running, most = threading.Lock(), 0, 0

        def work(_: Any) -> None:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            with lock:
                running -= 1

        in_parallel(work, range(20 * WORKERS))
        assert most <= WORKERS
