"""Reading setups in a program: plain and as Outputs, end to end, and under a unit test's mocks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime.settings import SETTINGS

from pulumi_traceloop import errors
from pulumi_traceloop.emulator import Emulator, Fault
from pulumi_traceloop.emulator.routes import GET_ROUTE, LIST_ROUTE
from pulumi_traceloop.functions import (
    AutoMonitorSetupResult,
    EvaluatorResult,
    SelectorRuleResult,
    get_auto_monitor_setup,
    list_auto_monitor_setups,
)
from tests.support import API_KEY
from tests.support.terminal import python
from tests.support.world import World

RULE = {"key": "gen_ai.system", "source": "span_attributes", "value": "openai"}

IMPORTS = """
from dataclasses import asdict
from pulumi_traceloop.functions import (
    get_auto_monitor_setup, get_auto_monitor_setup_output,
    list_auto_monitor_setups, list_auto_monitor_setups_output)
"""


@pytest.fixture
def project(traceloop: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """The project that the environment variables name, for calls outside of a deployment."""
    monkeypatch.setenv("TRACELOOP_API_KEY", traceloop.api_key)
    monkeypatch.setenv("TRACELOOP_BASE_URL", traceloop.url)
    return traceloop


class TestPlain:
    def test_get_returns_the_whole_setup(self, project: Emulator) -> None:
        project.put(
            "m",
            selector=[
                RULE,
                {
                    "key": "a",
                    "source": "resource_attributes",
                    "operator": "in",
                    "values": ["x", "y"],
                },
            ],
            evaluator_configs=[{"slug": "faithfulness"}, {"slug": "perplexity", "scope": "trace"}],
        )
        project.fail_evaluator("perplexity", "no quota left")
        stored = project.setups["m"]
        assert get_auto_monitor_setup("m") == AutoMonitorSetupResult(
            id=stored["id"],
            external_id="m",
            env_project_id=stored["env_project_id"],
            status=stored["status"],
            selector=(
                SelectorRuleResult("gen_ai.system", "span_attributes", "equals", "openai"),
                SelectorRuleResult("a", "resource_attributes", "in", values=("x", "y")),
            ),
            evaluators=(
                EvaluatorResult("faithfulness", "completed"),
                EvaluatorResult("perplexity", "failed", "trace", "no quota left"),
            ),
            created_at=stored["created_at"],
            updated_at=stored["updated_at"],
        )
        assert project.requests == {GET_ROUTE: 1}

    def test_get_of_a_missing_setup_says_what_to_do(self, project: Emulator) -> None:
        with pytest.raises(errors.NotFoundError) as caught:
            get_auto_monitor_setup("no/such")
        assert str(caught.value) == (
            'setup "no/such": the API key\'s Traceloop project has no such monitor'
            " setup: check the external_id (list_auto_monitor_setups() lists the existing ones)"
            " and traceloop:apiKey, or declare the setup with AutoMonitorSetup (HTTP 404)"
            " [GET /v2/auto-monitor-setups/no%2Fsuch]"
        )

    def test_get_rejects_an_external_id_that_no_url_can_carry(self, project: Emulator) -> None:
        with pytest.raises(errors.RejectedError, match=r"must not be \"\.\.\""):
            get_auto_monitor_setup("..")
        assert project.requests == {}

    def test_list_is_sorted_and_filtered(self, project: Emulator) -> None:
        for name in ("c", "a", "b"):
            project.put(name, selector=[RULE], evaluators=["faithfulness"])
        project.force_status("b", "failed")
        assert [s.external_id for s in list_auto_monitor_setups()] == ["a", "b", "c"]
        assert [s.external_id for s in list_auto_monitor_setups("failed")] == ["b"]
        assert list_auto_monitor_setups(status="partial") == []

    def test_list_is_read_each_time(self, project: Emulator) -> None:
        assert list_auto_monitor_setups() == []
        project.put("late", selector=[RULE], evaluators=["faithfulness"])
        assert [s.external_id for s in list_auto_monitor_setups()] == ["late"]

    def test_list_has_only_the_setups_of_the_keys_project(self, project: Emulator) -> None:
        """The OpenAPI file says that the list is the organization's."""
        project.put("mine", selector=[RULE], evaluators=["faithfulness"])
        foreign = {"id": "x", "external_id": "theirs", "env_project_id": "another"}
        own = {k: project.setups["mine"][k] for k in ("id", "external_id", "env_project_id")}
        project.inject(Fault(route=LIST_ROUTE, body=json.dumps([foreign, own])))
        assert [s.external_id for s in list_auto_monitor_setups()] == ["mine"]

    def test_missing_key_says_how_to_set_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("TRACELOOP_API_KEY", raising=False)
        for call in (list_auto_monitor_setups, lambda: get_auto_monitor_setup("m")):
            with pytest.raises(errors.ConfigurationError, match="pulumi config set --secret"):
                call()

    def test_rejected_key_is_not_printed(self, project: Emulator) -> None:
        project.revoke_key(project.api_key)
        with pytest.raises(errors.AuthenticationError) as caught:
            list_auto_monitor_setups()
        assert API_KEY not in str(caught.value)

    def test_traceback_ends_at_the_call(self, project: Emulator) -> None:
        project.revoke_key(project.api_key)
        with pytest.raises(errors.AuthenticationError) as caught:
            get_auto_monitor_setup("m")
        assert {Path(entry.path).name for entry in caught.traceback} == {
            "test_functions.py",
            "functions.py",
        }
        assert caught.value.__suppress_context__

    def test_output_argument_is_referred_to_the_output_variant(self) -> None:
        loop = asyncio.new_event_loop()
        output: Any = loop.run_until_complete(_output("m"))
        loop.close()
        with pytest.raises(TypeError, match="use get_auto_monitor_setup_output"):
            get_auto_monitor_setup(output)
        with pytest.raises(TypeError, match="use list_auto_monitor_setups_output"):
            list_auto_monitor_setups(output)


async def _output(value: str) -> pulumi.Output[str]:
    return pulumi.Output.from_input(value)


class TestInAProgram:
    @pytest.mark.not_sampled
    def test_all_functions_read_in_previews_and_updates(self, world: World) -> None:
        world.traceloop.put("theirs", selector=[RULE], evaluators=["faithfulness"])
        world.traceloop.force_status("theirs", "failed")
        program = f"""{IMPORTS}
pulumi.export("get", asdict(get_auto_monitor_setup("theirs")))
pulumi.export("list", [s.external_id for s in list_auto_monitor_setups("failed")])
later = get_auto_monitor_setup_output(pulumi.Output.from_input("theirs"))
pulumi.export("get_output", later.apply(asdict))
pulumi.export("lifted", later.selector[0].value)
pulumi.export("list_output", list_auto_monitor_setups_output().apply(len))
"""
        world.preview(program)
        assert world.requests == {"get": 2, "list": 2}
        up = world.up()
        assert world.requests == {"get": 2, "list": 2}
        stored = world.traceloop.setups["theirs"]
        found = {
            "id": stored["id"],
            "external_id": "theirs",
            "env_project_id": stored["env_project_id"],
            "status": "failed",
            "selector": [{**RULE, "operator": "equals"}],
            "evaluators": [{"slug": "faithfulness", "status": "completed"}],
            "created_at": stored["created_at"],
            "updated_at": stored["updated_at"],
        }
        assert _without_none(up.outputs) == {
            "get": found,
            "list": ["theirs"],
            "get_output": found,
            "lifted": "openai",
            "list_output": 1,
        }
        assert world.traceloop.writes == {}

    @pytest.mark.not_sampled
    def test_result_declares_another_setup(self, world: World) -> None:
        world.traceloop.put(
            "theirs",
            selector=[
                RULE,
                {"key": "a", "source": "span_attributes", "operator": "in", "values": ["x"]},
            ],
            evaluators=["faithfulness"],
        )
        world.up(
            f"""{IMPORTS}
AutoMonitorSetup("copy", selector=get_auto_monitor_setup("theirs").selector,
    evaluators=["perplexity"])
later = get_auto_monitor_setup_output("theirs")
group("g", {{"copies": {{"selector": later.selector, "evaluators": ["perplexity"]}}}})
"""
        )
        setups = world.traceloop.setups
        assert setups["copy"]["init_rules"] == setups["theirs"]["init_rules"]
        assert setups["copies"]["init_rules"] == setups["theirs"]["init_rules"]

    def test_new_setup_is_read_after_its_creation(self, world: World) -> None:
        """In the preview it does not exist, which is no error."""
        world.preview('one("m")')
        without_reading = world.requests
        world.preview(
            f"""{IMPORTS}
m = one("m")
pulumi.export("status", get_auto_monitor_setup_output(m.external_id).status)
"""
        )
        assert world.requests == without_reading
        assert world.up().outputs == {"status": "completed"}
        world.preview()
        assert world.requests == {"get": 1}

    @pytest.mark.not_sampled
    @pytest.mark.parametrize("variant", ["", "_output"])
    def test_missing_setup_ends_the_program(self, world: World, variant: str) -> None:
        failed = world.preview(f'{IMPORTS}\nget_auto_monitor_setup{variant}("nowhere")', fails=True)
        assert 'setup "nowhere": the API key\'s Traceloop project' in failed.output
        assert "client.py" not in failed.output

    def test_second_project_in_one_stack(self, world: World) -> None:
        world.traceloop.add_project("key-of-staging")
        world.stack.set_config("staging:apiKey", "key-of-staging", secret=True)
        world.stack.set_config("staging:baseUrl", world.traceloop.url)
        for api_key, name in ((None, "ours"), ("key-of-staging", "theirs")):
            world.traceloop.put(name, selector=[RULE], evaluators=["faithfulness"], api_key=api_key)
        up = world.up(
            f"""{IMPORTS}
staging = {{"config_namespace": "staging"}}
pulumi.export("all", [
    list_auto_monitor_setups()[0].external_id,
    get_auto_monitor_setup("theirs", **staging).external_id,
    list_auto_monitor_setups(**staging)[0].external_id,
    get_auto_monitor_setup_output("theirs", **staging).external_id,
    list_auto_monitor_setups_output(**staging)[0].external_id,
])
"""
        )
        assert up.outputs == {"all": ["ours", "theirs", "theirs", "theirs", "theirs"]}
        assert "key-of-staging" not in up.output + world.stack.state_text()

    @pytest.mark.not_sampled
    @pytest.mark.parametrize("variant", ["", "_output"])
    def test_missing_key_ends_the_program(self, world: World, variant: str) -> None:
        world.stack.remove_config("traceloop:apiKey")
        failed = world.preview(f"{IMPORTS}\nlist_auto_monitor_setups{variant}()", fails=True)
        assert "no Traceloop API key: run `pulumi config set --secret" in failed.output


#: A user's unit test, in a separate process: mocks stay set for the life of a process.
UNIT_TEST = """
import pulumi
from pulumi_traceloop.functions import *

class Mocks(pulumi.runtime.Mocks):
    calls = []
    def new_resource(self, args):
        return args.name + "-id", args.inputs
    def call(self, args):
        self.calls.append((args.token, args.args))
        if args.args.get("external_id") == "broken":
            return {}, [("external_id", "no such setup")]
        return RESULT

pulumi.runtime.set_mocks(Mocks())

@pulumi.runtime.test
def program():
"""


def run_unit_test(result: object, *lines: str) -> str:
    source = UNIT_TEST.replace("RESULT", repr(result))
    source += "".join(f"    {line}\n" for line in lines) + "program()\n"
    done = python("-W", "ignore", "-c", source)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class TestUnderMocks:
    """`pulumi.runtime.set_mocks`: no request is sent, no key is needed."""

    @pytest.fixture(autouse=True)
    def _no_key(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.delenv("TRACELOOP_API_KEY", raising=False)
        yield
        assert SETTINGS.monitor is None

    def test_get_calls_the_mocks(self) -> None:
        result = {
            "id": "1",
            "status": "failed",
            "selector": [
                {"key": "a", "source": "span_attributes", "operator": "in", "values": ["x"]}
            ],
            "evaluators": [{"slug": "perplexity", "error_message": "no quota"}],
        }
        expected = AutoMonitorSetupResult(
            id="1",
            external_id="m",
            env_project_id=None,
            status="failed",
            selector=(SelectorRuleResult("a", "span_attributes", "in", values=("x",)),),
            evaluators=(EvaluatorResult("perplexity", "completed", error_message="no quota"),),
            created_at=None,
            updated_at=None,
        )
        printed = run_unit_test(
            result,
            'found = get_auto_monitor_setup("m")',
            "print(repr(found))",
            "print(Mocks.calls)",
            'return get_auto_monitor_setup_output(pulumi.Output.from_input("m")).apply('
            "lambda later: print(later == found))",
        )
        token = "traceloop:index:getAutoMonitorSetup"
        calls = [(token, {"external_id": "m"})]
        assert printed.splitlines() == [repr(expected), str(calls), "True"]

    def test_list_calls_the_mocks(self) -> None:
        printed = run_unit_test(
            {"setups": [{"external_id": "a"}, {"external_id": "b"}]},
            'print([s.external_id for s in list_auto_monitor_setups("failed")])',
            "print(list_auto_monitor_setups()[0].status)",
            "print(Mocks.calls)",
            "return list_auto_monitor_setups_output().apply(lambda s: print(len(s)))",
        )
        token = "traceloop:index:listAutoMonitorSetups"
        assert printed.splitlines() == [
            "['a', 'b']",
            "completed",
            f"[('{token}', {{'status': 'failed'}}), ('{token}', {{}})]",
            "2",
        ]

    def test_mocks_may_return_nothing(self) -> None:
        """As in every tutorial: ``return {}``."""
        printed = run_unit_test(
            {},
            'print(get_auto_monitor_setup("m").external_id, list_auto_monitor_setups())',
            "both = pulumi.Output.all(get_auto_monitor_setup_output('m'),"
            " list_auto_monitor_setups_output())",
            "return both.apply(lambda both: print(both[0].external_id, both[1]))",
        )
        assert printed.splitlines() == ["m []", "m []"]

    def test_mocks_may_fail(self) -> None:
        printed = run_unit_test(
            {},
            "try:",
            '    get_auto_monitor_setup("broken")',
            "except Exception as error:",
            "    print(error)",
        )
        assert "no such setup" in printed


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, list) else value
