"""Policies read setups, of groups of any size and of single resources."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pulumi_policy import proxy

from pulumi_traceloop._codec import STRINGS, compressed, packed
from pulumi_traceloop.args import canonical
from pulumi_traceloop.policy import setups_of
from tests.support import REPOSITORY
from tests.support.world import World

TYPE = "pulumi-python:dynamic/traceloop:AutoMonitorSetup"

SIZES = [1, STRINGS, STRINGS + 1, 1_000]


def setup(n: int) -> dict[str, Any]:
    rule = {"key": "n", "source": "span_attributes", "operator": "equals", "value": str(n)}
    return {"selector": [rule], "evaluators": ["faithfulness"]}


def batch(props: Mapping[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(resource_type=f"{TYPE}Batch", props=props)


@pytest.mark.parametrize("count", SIZES)
def test_inputs_and_outputs_of_a_group_give_the_same(count: int) -> None:
    setups = {f"m-{n}": setup(n) for n in range(count)}
    texts = {i: canonical(each) for i, each in setups.items()}
    inputs = packed(texts)
    assert (inputs is None) == (count <= STRINGS)
    alone = texts if inputs is None else {}
    assert setups_of(batch({"setups": alone, "packed_setups": inputs})) == setups
    assert setups_of(batch({"setups": alone, "packed_setups": compressed(inputs)})) == setups


def test_a_single_resource_has_one() -> None:
    props = {"external_id": "m", "declared_by": "x", "triggers": None, **setup(1)}
    given = SimpleNamespace(resource_type=TYPE, props=props)
    assert setups_of(given) == {"m": setup(1)}


def test_other_resources_have_none() -> None:
    given = SimpleNamespace(resource_type="aws:s3/bucket:Bucket", props={"setups": {"a": "{}"}})
    assert setups_of(given) == {}


@pytest.mark.parametrize("count", [3, STRINGS + 1])
def test_the_state_of_a_real_update_can_be_read(world: World, count: int) -> None:
    """A policy is given the type and the properties that the engine stores."""
    setups = f'{{f"m-{{n}}": setup(str(n)) for n in range({count})}}'
    world.up(f'group("g", {setups})\none("single", "s")')
    found = [
        setups_of(SimpleNamespace(resource_type=r.type, props=props))
        for r in world.stack.state()
        for props in (r.inputs, r.outputs)
    ]
    values = [{i: s["selector"][0].get("value") for i, s in each.items()} for each in found if each]
    group = {f"m-{n}": str(n) for n in range(count)}
    assert sorted(values, key=len) == [{"single": "s"}] * 2 + [group] * 2


def documented() -> str:
    """Return the policy pack of the documentation."""
    page = (REPOSITORY / "docs" / "policies.md").read_text("utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return str(code)


class TestPolicySDK:
    def test_proxies_are_read(self) -> None:
        texts = {f"m-{n}": canonical(setup(n)) for n in range(STRINGS + 1)}
        props: dict[str, Any] = {
            "setups": {"alone": canonical(setup(0))},
            "packed_setups": packed(texts),
        }
        found = setups_of(batch(proxy.unknown_checking_proxy(props)))
        assert found["alone"] == found["m-0"] == setup(0)
        assert len(found) == STRINGS + 2
        props = {"external_id": "m", **setup(1)}
        given = SimpleNamespace(resource_type=TYPE, props=proxy.unknown_checking_proxy(props))
        assert setups_of(given) == {"m": setup(1)}

    def test_unknown_value_is_the_error_of_the_sdk(self) -> None:
        props: dict[str, Any] = {"setups": {"m": proxy.UNKNOWN_STRING_VALUE}}
        with pytest.raises(proxy.UnknownValueError):
            setups_of(batch(proxy.unknown_checking_proxy(props)))

    def test_documented_policy(self) -> None:
        scope: dict[str, Any] = {}
        # The pack itself would begin to serve the engine.
        exec(documented().partition("\n\n\nPolicyPack(")[0], scope)
        found: list[str] = []
        rules = setup(1)["selector"]
        with_config = {"selector": rules, "evaluator_configs": [{"slug": "toxicity-detector"}]}
        args = batch({"setups": {"m": canonical(setup(1)), "n": canonical(with_config)}})
        scope["needs_toxicity_detector"](args, found.append)
        assert found == ["m has no toxicity-detector"]

    def test_documented_pack_on_the_engine(self, world: World, tmp_path: Path) -> None:
        world.needs_cli("policies")
        pack = tmp_path / "pack"
        pack.mkdir()
        runtime = {"name": "python", "options": {"virtualenv": sys.prefix}}
        (pack / "PulumiPolicy.yaml").write_text(json.dumps({"runtime": runtime}))
        (pack / "__main__.py").write_text(documented())
        setups = f'{{f"m-{{n}}": setup() for n in range({STRINGS + 1})}}'
        world.preview(f'group("g", {setups})\none("single")')
        result = world.stack.operate("preview", "--policy-pack", str(pack))
        assert result.exit_code != 0
        for external_id in ("single", "m-0", f"m-{STRINGS}"):
            assert f"{external_id} has no toxicity-detector" in result.output
