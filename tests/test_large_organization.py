"""Other projects' setups in the list: what they cost, and that they change nothing."""

from __future__ import annotations

import pytest
import requests

from pulumi_traceloop._client import TraceloopClient
from pulumi_traceloop.emulator import Emulator
from tests.support import API_KEY
from tests.support.world import World

FOREIGN = 3_000

GROUP = """AutoMonitorSetupGroup("g", {
    f"m-{n}": {"selector": [span("gen_ai.request.model").equals("MODEL" if n == 7 else "gpt-4o")],
               "evaluators": ["faithfulness"]} for n in range(300)})"""


def test_only_the_list_has_foreign_setups(traceloop: Emulator) -> None:
    traceloop.foreign_setups = FOREIGN
    with TraceloopClient(API_KEY, traceloop.url) as client:
        listing = client.list_setups()
        assert len(listing.setups) == FOREIGN
        assert listing.unreadable == []
        names = {setup.external_id for setup in listing.setups}
        assert len(names) == FOREIGN
        assert len({setup.env_project_id for setup in listing.setups}) == 5
        assert client.get_setup(min(names)) is None
        assert len(client.list_setups(of_project="mine").setups) == 5
        assert client.list_setups(status="failed").setups == []
    assert traceloop.setups == {}


def test_a_control_route_sets_how_many_there_are(traceloop: Emulator) -> None:
    url = f"{traceloop.root_url}/_emulator/foreign_setups"
    assert requests.put(url, json={"count": 20}, timeout=10).status_code == 204
    assert traceloop.foreign_setups == 20
    refused = requests.put(url, json={"count": -1}, timeout=10)
    assert refused.json() == {"error": "count must be an integer, at least 0"}


@pytest.mark.not_sampled
def test_one_changed_setup_of_a_group_is_read_by_its_id(world: World) -> None:
    world.up(GROUP)
    world.traceloop.foreign_setups = FOREIGN
    world.up(GROUP.replace("MODEL", "gpt-5"))
    assert world.requests == {"get": 1, "bulk": 1}
    assert set(world.traceloop.writes) == {"m-7"}


@pytest.mark.not_sampled
def test_a_refresh_reads_the_list_once(world: World) -> None:
    world.up(GROUP)
    world.traceloop.foreign_setups = FOREIGN
    world.refresh(expect_no_changes=True)
    assert world.requests == {"get": 1, "list": 1}
