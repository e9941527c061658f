"""Many single resources: what they read, and that they leave other providers alone."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from pulumi.dynamic import ConfigureRequest
from pulumi.dynamic.config import Config

from pulumi_traceloop._project import READ_BY_ID
from pulumi_traceloop.emulator import Emulator
from pulumi_traceloop.providers import AutoMonitorSetupProvider
from tests.support import API_KEY
from tests.support.world import World

SINGLES = """
for n in range({count}):
    one(f"m-{{n}}")
"""

#: A provider of the program's own whose state is pickled, dicts inside dicts.
BESIDE_ANOTHER = """
from pulumi.dynamic import CreateResult, Resource, ResourceProvider

class OtherProvider(ResourceProvider):
    def __init__(self):
        self.state = {"a": {"b": {"c": 1}}}

    def create(self, props):
        return CreateResult("other", props)

class Other(Resource):
    def __init__(self, name):
        super().__init__(OtherProvider(), name, {})

Other("other")
"""


@pytest.mark.not_sampled
def test_hundreds_stand_beside_another_dynamic_provider(world: World) -> None:
    """The SDK's `serialize_provider` nests the pickler once more with each call."""
    assert "other" in world.preview(SINGLES.format(count=400) + BESIDE_ANOTHER).ops()


def checked(
    provider: AutoMonitorSetupProvider,
    external_id: str,
    olds: Mapping[str, object] | None = None,
    **more: object,
) -> dict[str, object]:
    inputs = {
        "external_id": external_id,
        "selector": [{"key": "k", "source": "span_attributes", "value": "v"}],
        "evaluators": ["faithfulness"],
        "declared_by": f'AutoMonitorSetup "{external_id}"',
        **more,
    }
    result = provider.check(dict(olds or {}), inputs)
    assert result.failures == []
    return result.inputs


@pytest.fixture
def provider(traceloop: Emulator) -> AutoMonitorSetupProvider:
    provider = AutoMonitorSetupProvider()
    settings = {"traceloop:baseUrl": traceloop.url, "traceloop:apiKey": API_KEY}
    provider.configure(ConfigureRequest(Config(settings, "project")))
    return provider


def test_new_ones_are_read_ahead(provider: AutoMonitorSetupProvider, traceloop: Emulator) -> None:
    """Each time as many as were new so far: what is not new is read at most once in two reads."""
    names = [f"ahead-{n}" for n in range(40)]
    asked = []
    for number, name in enumerate(names[:20]):
        upcoming = json.dumps(names) if number == 0 else None
        assert "upcoming" not in checked(provider, name, upcoming=upcoming)
        asked.append(sum(traceloop.requests.values()))
    assert asked[:15] == [1, 3, 3, 7, 7, 7, 7, *[15] * 8]


def test_few_new_ones_are_read_together(
    provider: AutoMonitorSetupProvider, traceloop: Emulator
) -> None:
    names = [f"few-{n}" for n in range(READ_BY_ID)]
    checked(provider, names[0], upcoming=json.dumps(names))
    assert traceloop.requests == {"GET /v2/auto-monitor-setups/{external_id}": READ_BY_ID}


def test_few_beside_one_in_the_state_are_not(
    provider: AutoMonitorSetupProvider, traceloop: Emulator
) -> None:
    names = [f"beside-{n}" for n in range(READ_BY_ID)]
    checked(provider, names[0], {"external_id": names[0]}, upcoming=json.dumps(names))
    checked(provider, names[1])
    assert traceloop.requests == {"GET /v2/auto-monitor-setups/{external_id}": 1}


def test_what_is_read_ahead_is_of_the_same_namespace(
    provider: AutoMonitorSetupProvider, traceloop: Emulator
) -> None:
    checked(provider, "space-1", upcoming='["space-1", "space-2", "space-3"]')
    before = sum(traceloop.requests.values())
    checked(provider, "elsewhere", config_namespace="other")
    assert sum(traceloop.requests.values()) == before


class TestProgram:
    def test_that_is_new(self, world: World) -> None:
        world.preview(SINGLES.format(count=60))
        # How many depends on which of the concurrent checks comes first.
        assert world.requests["get"] <= READ_BY_ID
        assert world.requests["list"] == 1
        up = world.up()
        assert world.requests["put"] == 60
        assert world.requests["get"] <= 60
        assert world.requests["list"] == 1
        assert len(world.monitors) == 60
        state = json.dumps([r.inputs for r in world.stack.state()])
        assert "upcoming" not in state
        assert set(up.ops().values()) == {("create",)}
        assert world.up().ops()["m-0"] == ("same",)
        assert world.requests == {}

    def test_with_one_new_among_many(self, world: World) -> None:
        world.up(SINGLES.format(count=30))
        world.up(SINGLES.format(count=30) + 'one("new")')
        # One of the others tells that the key is still the state's project's.
        assert world.requests == {"get": 2, "put": 1}
