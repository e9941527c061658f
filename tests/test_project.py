"""What the provider process knows during one deployment."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pulumi_traceloop._client import TraceloopClient
from pulumi_traceloop._models import Setup
from pulumi_traceloop._project import (
    CONFIRMATIONS,
    WORKERS,
    Project,
    in_parallel,
    project,
)
from pulumi_traceloop._settings import Connection, connection
from pulumi_traceloop.emulator import Emulator, Fault
from pulumi_traceloop.emulator.routes import GET_ROUTE, LIST_ROUTE
from pulumi_traceloop.errors import ConfigurationError, ProjectMismatchError, ServerError
from tests.conftest import API_KEY

NO_SETTINGS: dict[str, str] = {}


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
    """Create setups; return the environment that they are in."""
    setups = [
        traceloop.put(i, selector=[RULE], evaluators=["faithfulness"], api_key=api_key)
        for i in external_ids
    ]
    return str(setups[0]["env_project_id"])


def shows(traceloop: Emulator, *api_keys: str) -> None:
    """Let the list show the setups of several projects, as one of an organization would."""
    listed = [setup for key in api_keys for setup in traceloop.setups_of(key).values()]
    traceloop.inject(Fault(route=LIST_ROUTE, body=json.dumps(listed), times=None))


class TestProject:
    def test_is_one_for_each_connection(self) -> None:
        one = at("key-1", "https://one.example")
        assert project(one) is project(at("key-1", "https://one.example"))
        assert project(one) is not project(one._replace(api_key="key-2"))
        assert project(one) is not project(one._replace(base_url="https://two.example"))

    def test_needs_a_key_only_when_it_asks(self) -> None:
        keyless = Project(at())
        assert keyless.declare("a", "one") is None
        with pytest.raises(ConfigurationError, match="pulumi config set --secret traceloop:apiKey"):
            keyless.setups()

    def test_has_one_client_for_all_threads(self) -> None:
        shared = Project(at("a-key", "https://traceloop.example"))
        with ThreadPoolExecutor(8) as pool:
            clients = set(pool.map(lambda _: id(shared.client), range(64)))
        assert clients == {id(shared.client)}


class TestDeclarations:
    def test_the_first_declarer_is_told_of_nobody(self, here: Project) -> None:
        assert here.declare("a", "one") is None
        assert here.declarer("a") == "one"

    def test_the_same_declarer_may_come_again(self, here: Project) -> None:
        here.declare("a", "one")
        assert here.declare("a", "one") is None

    def test_another_declarer_is_told_of_the_first(self, here: Project) -> None:
        here.declare("a", "one")
        assert here.declare("a", "other") == "one"
        assert here.declarer("a") == "one"

    def test_nobody_declares_the_rest(self, here: Project) -> None:
        here.declare("a", "one")
        assert here.declarer("b") is None

    def test_of_many_at_once_one_is_first(self, here: Project) -> None:
        with ThreadPoolExecutor(8) as pool:
            told = list(pool.map(lambda n: here.declare("a", f"declarer {n}"), range(64)))
        assert told.count(None) == 1
        assert set(told) == {None, here.declarer("a")}


class TestSetups:
    def test_are_listed_once_for_several_threads(self, here: Project, traceloop: Emulator) -> None:
        put(traceloop, "a", "b")
        barrier = threading.Barrier(4)

        def read(_: int) -> set[str]:
            barrier.wait()
            return set(here.setups())

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(read, range(4))) == [{"a", "b"}] * 4
        # And one of them is asked for by its id, which tells whose the list is.
        assert traceloop.requests == {LIST_ROUTE: 1, GET_ROUTE: 1}

    def test_are_listed_again_when_fresh_ones_are_asked_for(
        self, here: Project, traceloop: Emulator
    ) -> None:
        put(traceloop, "a")
        here.setups()
        put(traceloop, "b")
        assert set(here.setups()) == {"a"}
        assert set(here.setups(fresh=True)) == {"a", "b"}

    def test_are_asked_for_again_after_a_failure(self, here: Project, traceloop: Emulator) -> None:
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

    def test_that_name_no_environment_are_kept(self, here: Project, traceloop: Emulator) -> None:
        put(traceloop, "a")
        listed = [setup | {"env_project_id": None} for setup in traceloop.setups.values()]
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

    def test_forget_takes_what_was_deleted(self, here: Project, traceloop: Emulator) -> None:
        put(traceloop, "a", "b")
        here.setups()
        here.forget("a")
        assert set(here.setups()) == {"b"}

    def test_a_note_alone_is_no_list(self, here: Project, traceloop: Emulator) -> None:
        """One setup that is known does not mean that there are no others."""
        put(traceloop, "a", "b")
        here.note(Setup(id="1", external_id="c"))
        here.forget("a")
        assert set(here.setups()) == {"a", "b"}

    def test_get_keeps_it_true(self, here: Project, traceloop: Emulator) -> None:
        put(traceloop, "gone")
        here.setups()
        traceloop.delete("gone")
        put(traceloop, "new")
        assert here.get("gone") is None
        assert here.get("new") is not None
        assert set(here.setups()) == {"new"}
        assert traceloop.requests[LIST_ROUTE] == 1


class TestPresent:
    def test_of_nothing_asks_nothing(self, here: Project, traceloop: Emulator) -> None:
        assert here.present([]) == {}
        assert traceloop.requests == {}

    def test_of_what_is_listed_asks_for_the_list_only(
        self, here: Project, traceloop: Emulator
    ) -> None:
        env = put(traceloop, "a", "b", "c")
        assert set(here.present(["a", "b"], env)) == {"a", "b"}
        assert traceloop.requests == {LIST_ROUTE: 1}

    def test_asks_by_id_for_what_the_list_lacks(self, here: Project, traceloop: Emulator) -> None:
        env = put(traceloop, "hidden", "listed")
        traceloop.inject(Fault(route=LIST_ROUTE, hide=["hidden"]))
        assert set(here.present(["hidden", "listed", "gone"], env)) == {"hidden", "listed"}
        assert traceloop.requests == {LIST_ROUTE: 1, GET_ROUTE: 2}

    def test_believes_the_list_after_so_many_that_are_gone(
        self, here: Project, traceloop: Emulator
    ) -> None:
        env = put(traceloop, "listed")
        gone = [f"gone-{n:03}" for n in range(CONFIRMATIONS + 10)]
        assert set(here.present([*gone, "listed"], env)) == {"listed"}
        assert traceloop.requests[GET_ROUTE] == CONFIRMATIONS

    def test_asks_for_all_when_one_is_found(self, here: Project, traceloop: Emulator) -> None:
        wanted = [f"m-{n:03}" for n in range(CONFIRMATIONS + 10)]
        found = {wanted[CONFIRMATIONS - 1], wanted[-1]}
        put(traceloop, *found)
        traceloop.inject(Fault(route=LIST_ROUTE, hide=found))
        assert set(here.present(wanted)) == found
        assert traceloop.requests[GET_ROUTE] == len(wanted)

    def test_raises_where_one_cannot_be_confirmed(self, traceloop: Emulator) -> None:
        """A setup that nobody can ask about is not gone."""

        class Impatient(Project):
            @property
            def client(self) -> TraceloopClient:
                return TraceloopClient(API_KEY, traceloop.url, sleep=lambda _: None)

        traceloop.inject(Fault(route=GET_ROUTE, status=503, times=None))
        with pytest.raises(ServerError):
            Impatient(at(API_KEY, traceloop.url)).present(["a"])


class TestExpect:
    """Stop where the key is another project's than the state."""

    def test_a_state_that_does_not_say_is_believed(
        self, here: Project, traceloop: Emulator
    ) -> None:
        put(traceloop, "a")
        here.expect(None, ["a"])
        assert traceloop.requests == {}

    def test_the_listed_setups_tell(self, here: Project, traceloop: Emulator) -> None:
        env = put(traceloop, "a")
        here.setups()
        here.expect(env)
        with pytest.raises(ProjectMismatchError, match=f'"{env}".*"state-env"'):
            here.expect("state-env")

    def test_a_setup_that_the_state_has_tells(self, here: Project, traceloop: Emulator) -> None:
        env = put(traceloop, "a")
        here.expect(env, ["a"])
        assert traceloop.requests == {GET_ROUTE: 1}
        with pytest.raises(ProjectMismatchError):
            here.expect("state-env", ["a"])

    def test_where_that_setup_is_gone_the_list_tells(
        self, here: Project, traceloop: Emulator
    ) -> None:
        put(traceloop, "b")
        with pytest.raises(ProjectMismatchError):
            here.expect("state-env", ["gone"])

    def test_an_answer_that_came_before_tells_without_a_request(
        self, here: Project, traceloop: Emulator
    ) -> None:
        here.note(Setup(id="1", external_id="a", env_project_id="env"))
        here.expect("env", ["a"])
        with pytest.raises(ProjectMismatchError):
            here.expect("state-env", ["a"])
        assert traceloop.requests == {}

    def test_nothing_that_could_tell_is_no_mismatch(
        self, here: Project, traceloop: Emulator
    ) -> None:
        here.expect("state-env", ["a"])
        here.expect("state-env")

    def test_another_environments_setups_in_the_list_are_no_mismatch(
        self, here: Project, traceloop: Emulator
    ) -> None:
        traceloop.add_project("their-key", env_project_id="their-env")
        put(traceloop, "theirs", api_key="their-key")
        shows(traceloop, "their-key")
        here.setups()
        here.expect("state-env")

    def test_says_what_to_do(self, here: Project, traceloop: Emulator) -> None:
        put(traceloop, "a")
        with pytest.raises(ProjectMismatchError) as failure:
            here.expect("state-env", ["a"])
        for part in ("traceloop:apiKey", "traceloop:baseUrl", "nothing was changed"):
            assert part in str(failure.value)
        assert API_KEY not in str(failure.value)


class TestFind:
    def test_another_environments_setups_are_not_found(
        self, here: Project, traceloop: Emulator
    ) -> None:
        """Not even where the list shows no others."""
        traceloop.add_project("their-key", env_project_id="their-env")
        put(traceloop, "a", "b", api_key="their-key")
        shows(traceloop, "their-key")
        assert here.find(["a", "b"]) == {}
        assert here.find(["a"], env_project_id="state-env") == {}

    def test_what_the_state_knows_is_found_without_another_request(
        self, here: Project, traceloop: Emulator
    ) -> None:
        env = put(traceloop, "a", "b")
        assert set(here.find(["a", "c"], env_project_id=env)) == {"a"}
        assert traceloop.requests == {LIST_ROUTE: 1}

    def test_nothing_that_is_listed_means_nothing_to_identify(
        self, here: Project, traceloop: Emulator
    ) -> None:
        put(traceloop, "somebody-elses")
        assert here.find(["new"]) == {}
        assert traceloop.requests == {LIST_ROUTE: 1}


class TestInParallel:
    @pytest.mark.parametrize("count", [0, 1, 2, 3 * WORKERS])
    def test_results_are_in_the_items_order(self, count: int) -> None:
        assert in_parallel(lambda n: n * 2, range(count)) == [n * 2 for n in range(count)]

    def test_a_failure_is_raised(self) -> None:
        work: Callable[[int], float] = lambda n: 1 / n  # noqa: E731
        with pytest.raises(ZeroDivisionError):
            in_parallel(work, [1, 0, 2])

    def test_a_few_are_under_way_at_once(self) -> None:
        """As many as there are workers meet here; one after another would wait for ever."""
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
