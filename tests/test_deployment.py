"""Who declares what in a deployment, whatever the names of the connections."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pulumi_traceloop._deployment import PROBES, Deployment
from pulumi_traceloop._project import Project
from pulumi_traceloop._settings import Connection, connection
from pulumi_traceloop.emulator import Emulator
from tests.support import API_KEY

RULE = {"key": "k", "source": "span_attributes", "value": "x"}
SECOND_KEY = "tl-a-second-key-of-the-project"
THEIR_KEY = "tl-a-key-of-another-project"


def at(traceloop: Emulator, api_key: str, namespace: str = "traceloop") -> Connection:
    settings = {f"{namespace}:apiKey": api_key, f"{namespace}:baseUrl": traceloop.url}
    return connection(settings.get, {}, namespace)


@pytest.fixture
def deployment() -> Deployment:
    return Deployment()


@pytest.fixture
def here(deployment: Deployment, traceloop: Emulator) -> Project:
    return deployment.project(at(traceloop, API_KEY))


@pytest.fixture
def second_key(traceloop: Emulator) -> None:
    """Add a second key of the project."""
    env = str(put(traceloop, "probe")["env_project_id"])
    traceloop.delete("probe")
    traceloop.add_project(SECOND_KEY, env_project_id=env)


@pytest.fixture
def same(deployment: Deployment, traceloop: Emulator, second_key: None) -> Project:
    """The same project by another key."""
    return deployment.project(at(traceloop, SECOND_KEY, "second"))


@pytest.fixture
def other(deployment: Deployment, traceloop: Emulator) -> Project:
    """Another project."""
    traceloop.add_project(THEIR_KEY, env_project_id="their-env")
    return deployment.project(at(traceloop, THEIR_KEY, "staging"))


def put(traceloop: Emulator, external_id: str, api_key: str = API_KEY) -> dict[str, Any]:
    return traceloop.put(external_id, selector=[RULE], evaluators=["faithfulness"], api_key=api_key)


class TestProjects:
    def test_are_one_for_each_connection(self, deployment: Deployment, traceloop: Emulator) -> None:
        one = at(traceloop, "key-1")
        assert deployment.project(one) is deployment.project(at(traceloop, "key-1"))
        assert deployment.project(one) is not deployment.project(one._replace(api_key="key-2"))

    def test_known_to_be_one_need_no_request(
        self, deployment: Deployment, traceloop: Emulator, here: Project
    ) -> None:
        renamed = deployment.project(at(traceloop, API_KEY, "renamed"))
        assert deployment.same_project(here, renamed, "a") is True
        assert traceloop.requests == {}

    def test_with_a_common_setup_are_one(
        self, deployment: Deployment, traceloop: Emulator, here: Project, same: Project
    ) -> None:
        put(traceloop, "a")
        assert deployment.same_project(here, same, "a") is True

    def test_with_different_setups_are_two(
        self, deployment: Deployment, traceloop: Emulator, here: Project, other: Project
    ) -> None:
        put(traceloop, "a")
        put(traceloop, "a", THEIR_KEY)
        assert deployment.same_project(here, other, "a") is False

    def test_without_setups_are_indistinguishable_and_asked_a_few_times_only(
        self, deployment: Deployment, traceloop: Emulator, here: Project, other: Project
    ) -> None:
        for n in range(PROBES + 5):
            assert deployment.same_project(here, other, f"m-{n}") is None
        assert sum(traceloop.requests.values()) == 2 * PROBES


class TestDeclarations:
    def test_first_declarer_has_no_rival(self, deployment: Deployment, here: Project) -> None:
        assert deployment.declare("a", "one", here) is None
        assert deployment.declarer("a", here) == "one"

    def test_same_declarer_may_declare_again(self, deployment: Deployment, here: Project) -> None:
        deployment.declare("a", "one", here)
        assert deployment.declare("a", "one", here) is None

    def test_second_declarer_learns_the_first(self, deployment: Deployment, here: Project) -> None:
        deployment.declare("a", "one", here)
        assert deployment.declare("a", "other", here) == "one"
        assert deployment.declarer("a", here) == "one"

    def test_undeclared_ids_have_no_declarer(self, deployment: Deployment, here: Project) -> None:
        deployment.declare("a", "one", here)
        assert deployment.declarer("b", here) is None

    def test_one_of_many_concurrent_declarers_is_first(
        self, deployment: Deployment, here: Project
    ) -> None:
        with ThreadPoolExecutor(8) as pool:
            found = list(
                pool.map(lambda n: deployment.declare("a", f"declarer {n}", here), range(64))
            )
        assert found.count(None) == 1
        assert set(found) == {None, deployment.declarer("a", here)}

    def test_declarer_in_another_project_is_not_a_rival(
        self, deployment: Deployment, traceloop: Emulator, here: Project, other: Project
    ) -> None:
        put(traceloop, "a")
        put(traceloop, "a", THEIR_KEY)
        deployment.declare("a", "one", here)
        assert deployment.declare("a", "other", other) is None
        assert deployment.rivals(["a"], "other", other) == {}

    def test_rival_with_a_second_key_is_found_before_the_write(
        self, deployment: Deployment, traceloop: Emulator, here: Project, same: Project
    ) -> None:
        deployment.declare("a", "one", here)
        assert deployment.declare("a", "other", same) is None
        put(traceloop, "a")
        assert deployment.rivals(["a"], "one", here) == {}
        assert deployment.rivals(["a"], "other", same) == {"a": "one"}


class TestDeclarersOfOtherConnections:
    """A delete checks who declares the setup in its project."""

    def test_by_a_renamed_namespace(
        self, deployment: Deployment, traceloop: Emulator, here: Project
    ) -> None:
        renamed = deployment.project(at(traceloop, API_KEY, "renamed"))
        deployment.declare("a", "one", renamed)
        assert deployment.declarer("a", here) == "one"
        assert traceloop.requests == {}

    def test_by_a_second_key_of_the_project(
        self, deployment: Deployment, traceloop: Emulator, here: Project, same: Project
    ) -> None:
        put(traceloop, "a")
        deployment.declare("a", "one", same)
        assert deployment.known_declarer("a", here) is None
        assert deployment.declarer("a", here) == "one"
        assert deployment.known_declarer("a", here) == "one"

    def test_by_a_key_of_another_project(
        self, deployment: Deployment, traceloop: Emulator, here: Project, other: Project
    ) -> None:
        put(traceloop, "a")
        deployment.declare("a", "one", other)
        assert deployment.declarer("a", here) is None
        put(traceloop, "a", THEIR_KEY)
        assert deployment.declarer("a", here) is None
