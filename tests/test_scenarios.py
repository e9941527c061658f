"""Users' workflows, end to end: a program, an engine, the real provider process, the emulator.

Every scenario runs on the test engine, and on the Pulumi CLI wherever one is on PATH, with the same
assertions.
"""

from __future__ import annotations

import pytest

from pulumi_traceloop._codec import unpacked
from pulumi_traceloop.args import canonical
from tests.support.world import World


class TestOneSetup:
    def test_life_of_a_setup(self, world: World) -> None:
        """Create, no change, change, destroy: each sends only the requests that it needs."""
        program = 'm = one("m")\npulumi.export("id", m.setup_id)'
        preview = world.preview(program)
        assert preview.ops() == {"m": ("create",)}
        assert world.requests == {"get": 1}
        up = world.up()
        assert world.requests == {"get": 1, "put": 1}
        assert up.outputs["id"] == world.traceloop.setups["m"]["id"]
        assert world.monitors == {"m": "openai"}

        assert world.up().ops() == {"m": ("same",)}
        assert world.requests == {}

        assert world.preview(program.replace('"m"', '"m", "azure"')).ops() == {"m": ("update",)}
        assert world.requests == {}
        assert world.up().ops() == {"m": ("update",)}
        assert world.requests == {"get": 1, "put": 1}
        assert world.monitors == {"m": "azure"}

        world.destroy()
        assert world.requests == {"get": 1, "delete": 1}
        assert world.monitors == {}

    @pytest.mark.not_sampled
    def test_equal_definition_is_no_change(self, world: World) -> None:
        """The order of rules and evaluators and an omitted default operator are no change."""
        world.up(
            """AutoMonitorSetup("m", evaluators=["faithfulness", "perplexity"], selector=[
                {"key": "a", "source": "span_attributes", "value": "1"},
                resource("b").is_in("x", "y")])"""
        )
        up = world.up(
            """AutoMonitorSetup("m", evaluators=["perplexity", "faithfulness"], selector=[
                resource("b").is_in("y", "x"), span("a").equals("1")])"""
        )
        assert up.ops() == {"m": ("same",)}
        assert world.requests == {}
        assert world.refresh(expect_no_changes=True).exit_code == 0

    @pytest.mark.not_sampled
    def test_equal_setup_is_adopted_without_a_write(self, world: World) -> None:
        world.up('one("m", "openai", "faithfulness", "perplexity")')
        world.stack.lose_state()
        world.up('one("other-name", "openai", "perplexity", "faithfulness", external_id="m")')
        assert world.requests == {"get": 1}
        assert world.traceloop.writes == {}

    def test_another_external_id_replaces_it(self, world: World) -> None:
        world.up('one("m", external_id="before")')
        preview = world.preview('one("m", external_id="after")')
        assert preview.ops()["m"][0] == "create-replacement"
        world.up()
        assert world.monitors == {"after": "openai"}

    def test_triggers_send_an_equal_setup_again(self, world: World) -> None:
        world.up('one("m", triggers=["2026-01"])')
        world.up('one("m", triggers=["2026-02"])')
        assert world.requests == {"get": 1, "put": 1}
        world.up()
        assert world.requests == {}

    @pytest.mark.not_sampled
    def test_scopes_reach_traceloop(self, world: World) -> None:
        world.up(
            """AutoMonitorSetup("m", selector=[span("a").exists()], evaluator_configs=[
                traceloop.EvaluatorConfigArgs("pii-detector", scope="trace"),
                {"slug": "perplexity"}])"""
        )
        evaluators = world.traceloop.setups["m"]["evaluators"]
        assert [(e["evaluator_type"], e.get("scope")) for e in evaluators] == [
            ("pii-detector", "trace"),
            ("perplexity", None),
        ]
        assert world.refresh(expect_no_changes=True).exit_code == 0
        world.up('one("m", "x", "perplexity", "pii-detector")')
        assert world.requests == {"get": 1, "put": 1}

    def test_drift_is_found_by_a_refresh_and_repaired(self, world: World) -> None:
        world.up('one("m")')
        world.traceloop.put(
            "m",
            selector=[{"key": "gen_ai.system", "value": "by-hand", "source": "span_attributes"}],
            evaluators=["faithfulness"],
        )
        assert world.up().ops() == {"m": ("same",)}
        world.refresh(expect_no_changes=True, fails=True)
        world.refresh()
        assert world.preview().ops() == {"m": ("update",)}
        world.up()
        assert world.monitors == {"m": "openai"}

    @pytest.mark.not_sampled
    def test_missing_setup_is_created_again(self, world: World) -> None:
        world.up('one("m")')
        world.traceloop.delete("m")
        world.refresh()
        assert world.preview().ops() == {"m": ("create",)}
        world.up()
        assert world.monitors == {"m": "openai"}

    @pytest.mark.not_sampled
    def test_delete_of_a_missing_setup_succeeds(self, world: World) -> None:
        world.up('one("m")')
        world.traceloop.delete("m")
        world.destroy()
        assert world.stack.state() == []

    def test_get_reads_without_managing(self, world: World) -> None:
        world.traceloop.put(
            "theirs",
            selector=[{"key": "a", "value": "b", "source": "span_attributes"}],
            evaluators=["faithfulness"],
        )
        up = world.up(
            'm = AutoMonitorSetup.get("m", "theirs")\n'
            'pulumi.export("id", m.setup_id)\npulumi.export("evaluators", m.evaluators)'
        )
        assert up.outputs == {
            "id": world.traceloop.setups["theirs"]["id"],
            "evaluators": ["faithfulness"],
        }
        world.destroy()
        assert world.monitors == {"theirs": "b"}

    @pytest.mark.not_sampled
    def test_status_is_not_drift(self, world: World) -> None:
        """A setup's status changes asynchronously; the state does not have it."""
        world.traceloop.settle = 0
        world.up('one("m")\ngroup("g", {"a": setup()})')
        assert {s["status"] for s in world.traceloop.setups.values()} == {"completed"}
        assert world.refresh(expect_no_changes=True).exit_code == 0


class TestGroup:
    def test_life_of_a_group(self, world: World) -> None:
        program = 'g = group("g", {"a": setup(), "b": setup("azure")})\n'
        program += 'pulumi.export("ids", g.setup_ids)\npulumi.export("failed", g.failed)'
        assert world.preview(program).changes == {"create": 4}
        assert world.requests == {"get": 2}
        up = world.up()
        assert world.requests == {"get": 2, "bulk": 1}
        assert up.outputs == {
            "ids": {i: s["id"] for i, s in world.traceloop.setups.items()},
            "failed": {},
        }
        assert world.monitors == {"a": "openai", "b": "azure"}

        assert set(world.up().changes) == {"same"}
        assert world.requests == {}

        changed = program.replace("azure", "anthropic")
        assert world.preview(changed).changes == {"same": 3, "update": 1}
        world.up()
        assert world.requests == {"get": 1, "bulk": 1}
        assert world.traceloop.writes == {"b": 1}

        world.up(changed.replace('"a": setup(), ', ""))
        assert world.requests == {"get": 1, "delete": 1}
        assert world.monitors == {"b": "anthropic"}
        assert set(world.up().changes) == {"same"}
        assert world.requests == {}

        world.destroy()
        assert world.requests == {"get": 1, "delete": 1}
        assert world.monitors == {}

    def test_empty_group_sends_no_request(self, world: World) -> None:
        world.up('group("g", {})')
        assert world.requests == {}
        world.refresh()
        world.destroy()
        assert world.requests == {}

    @pytest.mark.not_sampled
    def test_250_setups_of_which_2_are_refused(self, world: World) -> None:
        """The others are in place, the error names both, and the next update sends only them."""
        program = """
slug = config.get("slug") or "no-such-slug"
setups = {f"m-{n:03}": setup() for n in range(250)}
setups["m-007"] = setup("openai", slug)
setups["m-249"] = setup("openai", "other-slug")
g = group("g", setups)
pulumi.export("ids", g.setup_ids)
"""
        up = world.up(program, fails=True)
        assert world.requests == {"list": 1, "bulk": 3}
        assert len(world.monitors) == 248
        assert '"m-007": unknown evaluator slug "no-such-slug"' in up.output
        assert '"m-249": unknown evaluator slug "other-slug"' in up.output
        assert "2 of 250" in up.output
        assert "Traceback" not in up.output
        assert "setups[" not in up.output

        preview = world.preview()
        assert "g: 2 to send again, 248 unchanged" in preview.output
        assert '"m-007": unknown evaluator slug "no-such-slug"' in preview.output
        assert "update" in preview.ops()["g"]

        world.traceloop.add_evaluator("other-slug")
        world.stack.set_config("slug", "perplexity")
        up = world.up()
        assert world.requests == {"get": 2, "bulk": 1}
        assert world.traceloop.writes == {"m-007": 1, "m-249": 1}
        assert len(up.outputs["ids"]) == 250
        assert set(world.up().changes) == {"same"}
        assert world.requests == {}
        world.destroy()
        assert world.monitors == {}

    @pytest.mark.not_sampled
    def test_group_grows_and_shrinks_past_the_packing_threshold(self, world: World) -> None:
        """However the state stores its setups, only changed ones are sent or deleted."""
        program = """
values = {"m-001": config.get("value") or "openai"}
secret = {"secret": setup(pulumi.Output.secret("planted"))}
group("g", {f"m-{n:03}": setup(values.get(f"m-{n:03}", "openai"))
            for n in range(config.require_int("count"))} | secret)
"""
        world.stack.set_config("count", "250")
        world.up(program)
        world.stack.set_config("count", "300")
        preview = world.preview()
        assert "g: 50 to create, 251 unchanged" in preview.output
        world.up()
        assert world.requests == {"list": 1, "get": 50, "bulk": 1}
        assert set(world.up().changes) == {"same"}
        assert world.requests == {}
        assert world.refresh(expect_no_changes=True).exit_code == 0

        world.stack.set_config("value", "azure")
        world.stack.set_config("count", "299")
        preview = world.preview()
        assert "g: 1 to change, 1 to delete, 299 unchanged" in preview.output
        assert '~ m-001  gen_ai.system = "openai" -> "azure"' in preview.output
        world.traceloop.delete("m-002")
        rules = [{"key": "by", "source": "span_attributes", "operator": "equals", "value": "hand"}]
        world.traceloop.put("m-003", rules, ["faithfulness"])
        world.refresh()
        batch = world.resource("AutoMonitorSetupBatch")
        by_hand = canonical({"selector": rules, "evaluators": ["faithfulness"]})
        assert batch.outputs["drifted"] == {"m-002": "gone", "m-003": by_hand}
        assert world.refresh(expect_no_changes=True).exit_code == 0
        up = world.up()
        assert "+ m-002" in up.output
        assert '~ m-003  - by = "hand", + gen_ai.system = "openai"' in up.output
        assert world.traceloop.writes == {"m-001": 1, "m-002": 1, "m-003": 1}
        assert "m-299" not in world.monitors
        batch = world.resource("AutoMonitorSetupBatch")
        assert "drifted" not in batch.outputs
        # What is compressed can't be searched.
        together = unpacked({"packed_setups": batch.outputs["packed_setups"]})
        assert set(together) == {f"m-{n:03}" for n in range(299)}

        world.stack.set_config("count", "200")
        world.up()
        assert world.traceloop.writes == {}
        assert len(world.monitors) == 201
        assert "planted" not in world.stack.state_text() + up.output
        world.destroy()
        assert world.monitors == {}

    def test_all_setups_refused(self, world: World) -> None:
        up = world.up(
            'group("g", {f"m-{n:02}": setup("openai", "nope") for n in range(20)})', fails=True
        )
        assert (
            '"m-00", "m-01", "m-02", "m-03", "m-04" and 15 more: unknown evaluator slug "nope"'
            in up.output
        )
        assert world.monitors == {}
        world.destroy()
        assert world.requests == {}

    @pytest.mark.not_sampled
    def test_refused_change_leaves_the_monitor_unchanged(self, world: World) -> None:
        world.up('group("g", {"a": setup(), "b": setup()})')
        world.up('group("g", {"a": setup("openai", "nope"), "b": setup("azure")})', fails=True)
        assert world.monitors == {"a": "openai", "b": "azure"}
        world.up('group("g", {"a": setup(), "b": setup("azure")})')
        assert world.traceloop.writes == {}
        world.destroy()
        assert world.monitors == {}

    @pytest.mark.not_sampled
    def test_refused_setup_is_never_deleted(self, world: World) -> None:
        """A refused setup of another owner is untouched by this stack."""
        world.traceloop.put(
            "theirs",
            selector=[{"key": "k", "value": "theirs", "source": "span_attributes"}],
            evaluators=["faithfulness"],
        )
        world.up('group("g", {"theirs": setup("x", "nope"), "mine": setup()})', fails=True)
        world.refresh()
        assert world.traceloop.setups["theirs"]["init_rules"][0]["value"] == "theirs"
        world.up('group("g", {"mine": setup()})')
        world.destroy()
        assert world.monitors == {"theirs": "theirs"}

    @pytest.mark.not_sampled
    def test_1000_new_setups_take_10_bulk_requests(self, world: World) -> None:
        program = 'group("g", {f"m-{n:04}": setup(f"v{n}") for n in range(1000)})'
        world.up(program)
        assert world.requests == {"list": 1, "bulk": 10}
        world.up()
        assert world.requests == {}
        world.up(program.replace('f"v{n}"', 'f"v{n}" if n != 500 else "changed"'))
        assert world.requests == {"get": 1, "bulk": 1}
        assert world.traceloop.writes == {"m-0500": 1}
        world.up(program.replace("range(1000)", "range(999)"))
        assert world.requests == {"get": 1, "bulk": 1, "delete": 1}
        world.destroy()
        assert world.requests == {"get": 1, "delete": 999}

    @pytest.mark.not_sampled
    def test_triggers_of_one_setup(self, world: World) -> None:
        world.up('group("g", {"a": {**setup(), "triggers": [1]}, "b": setup()})')
        world.up('group("g", {"a": {**setup(), "triggers": [2]}, "b": setup()})')
        assert world.traceloop.writes == {"a": 1}
        world.up()
        assert world.requests == {}

    def test_drift_in_a_group(self, world: World) -> None:
        """A refresh finds changed and missing setups."""
        world.up('group("g", {"a": setup(), "b": setup(), "c": setup()})')
        rule = {"key": "gen_ai.system", "value": "by-hand", "source": "span_attributes"}
        world.traceloop.put("a", selector=[rule], evaluators=["faithfulness"])
        world.traceloop.delete("b")
        world.refresh()
        assert world.requests == {"get": 3}
        assert "update" in world.preview().ops()["g"]
        world.up()
        assert world.traceloop.writes == {"a": 1, "b": 1}
        assert world.monitors == {"a": "openai", "b": "openai", "c": "openai"}
        assert world.refresh(expect_no_changes=True).exit_code == 0

    def test_refresh_in_the_update(self, world: World) -> None:
        world.up('group("g", {"a": setup(), "b": setup()})')
        world.traceloop.delete("b")
        world.up(refresh=True)
        assert world.monitors == {"a": "openai", "b": "openai"}
        assert world.traceloop.writes == {"b": 1}

    def test_all_setups_missing_at_once_keeps_the_state(self, world: World) -> None:
        world.up('group("g", {"a": setup(), "b": setup()})')
        for external_id in ("a", "b"):
            world.traceloop.delete(external_id)
        refresh = world.refresh(fails=True)
        assert "none of the 2 monitor setups" in refresh.output
        assert "--replace" in refresh.output
        world.up(replace=(world.urn("AutoMonitorSetupBatch"),))
        assert world.monitors == {"a": "openai", "b": "openai"}

    def test_protect_refuses_a_removal_at_preview(self, world: World) -> None:
        options = "opts=pulumi.ResourceOptions(protect=True)"
        program = f'group("g", {{"a": setup(), "b": setup()}}, {options})'
        world.up(program)
        preview = world.preview(program.replace('"a": setup(), ', ""), fails=True)
        assert "protect" in preview.output
        world.up(fails=True)
        assert world.monitors == {"a": "openai", "b": "openai"}

    def test_retain_on_delete_leaves_the_monitors(self, world: World) -> None:
        options = "opts=pulumi.ResourceOptions(retain_on_delete=True)"
        world.up(f'group("g", {{"a": setup()}}, {options})\none("m", {options})')
        world.up("")
        assert world.monitors == {"a": "openai", "m": "openai"}

    def test_retained_setup_of_a_group_is_given_up(self, world: World) -> None:
        options = "opts=pulumi.ResourceOptions(retain_on_delete=True), max_deletes=0"
        world.up(f'group("g", {{"a": setup(), "b": setup()}}, {options})')
        one_left = f'group("g", {{"a": setup()}}, {options})'
        preview = world.preview(one_left).output
        assert "> b  no longer managed, but stays in Traceloop" in preview
        assert "1 to leave in place" in preview
        assert "to delete" not in preview.split("Resources:")[0]
        assert "1 left in place" in world.up().output
        assert "> b" not in world.preview().output
        assert "- b" not in world.preview().output
        world.up('group("g", {"a": setup()})')
        world.up("")
        assert world.monitors == {"b": "openai"}

    @pytest.mark.parametrize("dies", [False, True], ids=["refresh", "a program that dies"])
    def test_option_that_is_no_longer_set(self, world: World, dies: bool) -> None:
        """The state of the batch, of the membership and the engine's own may differ."""
        options = "opts=pulumi.ResourceOptions(retain_on_delete=RETAINS), max_deletes=0"
        program = f'group("g", {{"a": setup(), "b": setup()}}, {options})'
        world.up(program.replace("RETAINS", "True"))
        world.up(program.replace("RETAINS", "False"))
        world.refresh()
        removed = program.replace("RETAINS", "False").replace(', "b": setup()', "")
        assert "max_deletes allows 0" in world.preview(removed, fails=True).output
        if dies:
            world.up(
                f'{program.replace("RETAINS", "True")}\nraise pulumi.RunError("dies")', fails=True
            )
            retained = removed.replace("False", "True")
            assert "to leave in place" in world.preview(retained).output
            world.up()
            assert set(world.monitors) == {"a", "b"}

    def test_option_counts_from_the_update_that_sets_it(self, world: World) -> None:
        """The engine asks the state, not the program, whether to retain."""
        options = "opts=pulumi.ResourceOptions(retain_on_delete=True)"
        world.up('group("g", {"a": setup(), "b": setup(), "c": setup()})')
        without = f'group("g", {{"a": setup(), "c": setup()}}, {options})'
        assert "1 to delete" in world.preview(without).output
        world.up()
        assert set(world.monitors) == {"a", "c"}
        last = 'group("g", {"a": setup()})'
        assert "1 to leave in place" in world.preview(last).output
        world.up()
        assert set(world.monitors) == {"a", "c"}


class TestValues:
    def test_outputs_unknown_in_a_preview_are_known_in_the_update(self, world: World) -> None:
        program = """
first = one("first")
group("g", {
    "leaf": {"selector": [span("k").equals(first.setup_id)], "evaluators": ["faithfulness"]},
    "whole": first.setup_id.apply(lambda i: setup(i)),
    "args": first.setup_id.apply(lambda i: traceloop.AutoMonitorSetupArgs(**setup(i))),
    "plain": setup(),
})
one("m", first.setup_id)
one("n", external_id=first.setup_id)
"""
        world.preview(program)
        world.up()
        first = world.traceloop.setups["first"]["id"]
        assert world.monitors == {
            "first": "openai",
            "plain": "openai",
            "leaf": first,
            "whole": first,
            "args": first,
            "m": first,
            first: "openai",
        }
        assert set(world.up().changes) == {"same"}
        assert world.requests == {}

    def test_secret_stays_secret(self, world: World) -> None:
        world.stack.set_config("tenant", "s3cret-tenant", secret=True)
        program = """
tenant = config.require_secret("tenant")
one("m", tenant)
group("g", {"a": setup(tenant), "b": setup()})
"""
        outputs = [world.preview(program).output, world.up().output]
        assert world.monitors == {"m": "s3cret-tenant", "a": "s3cret-tenant", "b": "openai"}
        world.traceloop.delete("b")
        outputs += [world.refresh().output, world.preview().output, world.up().output]
        assert set(world.up().changes) == {"same"}
        outputs.append(world.destroy().output)
        assert not any("s3cret-tenant" in output for output in outputs)

    def test_secret_is_not_in_the_state(self, world: World) -> None:
        world.stack.set_config("tenant", "s3cret-tenant", secret=True)
        world.up('t = config.require_secret("tenant")\none("m", t)\ngroup("g", {"a": setup(t)})')
        assert "s3cret-tenant" not in world.stack.state_text()
        world.refresh()
        assert "s3cret-tenant" not in world.stack.state_text()


#: Two places that can declare the setup "x", as programs.
PLACES = {
    "resource": 'one("r", external_id="x")',
    "renamed resource": 'one("renamed", external_id="x")',
    "group": 'group("g", {"x": setup(), "other-g": setup()})',
    "other group": 'group("h", {"x": setup(), "other-h": setup()})',
}
EMPTY = {
    "resource": "",
    "renamed resource": "",
    "group": 'group("g", {"other-g": setup()})',
    "other group": 'group("h", {"other-h": setup()})',
}
MOVES = [(a, b) for a in PLACES for b in PLACES if a != b]


class TestDeclaredSetupsStay:
    @pytest.mark.parametrize(("origin", "target"), MOVES)
    @pytest.mark.parametrize("first", ["old first", "new first"])
    def test_moving_a_setup(self, world: World, origin: str, target: str, first: str) -> None:
        """Between resources and groups, in any order: no write and no delete."""
        places = [origin, target] if first == "old first" else [target, origin]

        def program(declaring: str) -> str:
            lines = [PLACES[p] if p == declaring else EMPTY[p] for p in places]
            return "\n".join(lines)

        world.up(program(origin))
        before = world.monitors
        world.up(program(target))
        assert world.monitors == before
        assert world.traceloop.writes == {}
        assert "delete" not in world.requests
        world.destroy()
        assert world.monitors == {}

    def test_renaming_a_group(self, world: World) -> None:
        world.up('group("before", {"a": setup(), "b": setup()})')
        world.up('group("after", {"a": setup(), "b": setup("azure")})')
        assert world.traceloop.writes == {"b": 1}
        assert "delete" not in world.requests
        assert world.monitors == {"a": "openai", "b": "azure"}

    def test_swapping_two_external_ids(self, world: World) -> None:
        world.up('one("m", "1", external_id="x")\none("n", "2", external_id="y")')
        world.up('one("m", "1", external_id="y")\none("n", "2", external_id="x")')
        assert world.monitors == {"x": "2", "y": "1"}

    @pytest.mark.parametrize(
        "kind", ["AutoMonitorSetup", "AutoMonitorSetupBatch", "AutoMonitorSetupMembership"]
    )
    def test_forced_replacement(self, world: World, kind: str) -> None:
        world.up('one("m")\ngroup("g", {"a": setup(), "b": setup()})')
        world.up(replace=(world.urn(kind),))
        assert world.traceloop.writes == {}
        assert "delete" not in world.requests
        assert set(world.monitors) == {"m", "a", "b"}

    def test_program_that_fails_half_way(self, world: World) -> None:
        """The next successful run deletes removed setups, except those declared again."""
        world.up('group("g", {"a": setup(), "b": setup(), "c": setup()})\none("m")')
        failing = 'g = group("g", {"c": setup()})\n'
        failing += "g.setup_ids.apply(lambda ids: 1 / 0)"
        world.up(failing, fails=True)
        assert set(world.monitors) == {"a", "b", "c", "m"}
        world.refresh()
        assert set(world.monitors) == {"a", "b", "c", "m"}
        world.up('group("g", {"c": setup(), "b": setup()})\none("m")')
        assert set(world.monitors) == {"b", "c", "m"}
        assert "b" not in world.traceloop.writes

    def test_refused_setup_holds_back_the_deletes(self, world: World) -> None:
        world.up('group("g", {"a": setup(), "b": setup()})')
        world.up('group("g", {"b": setup("x", "nope")})', fails=True)
        assert set(world.monitors) == {"a", "b"}
        world.up('group("g", {"b": setup()})')
        assert set(world.monitors) == {"b"}

    def test_lost_state_writes_no_equal_setup(self, world: World) -> None:
        program = 'one("m")\ngroup("g", {f"m-{n}": setup(str(n)) for n in range(120)} | more)'
        world.up("more = {}\n" + program)
        world.stack.lose_state()
        world.up('more = {"new": setup()}\n' + program)
        assert world.traceloop.writes == {"new": 1}
        world.destroy()
        assert world.monitors == {}

    def test_unmanaged_setup_is_untouched(self, world: World) -> None:
        rule = {"key": "k", "value": "theirs", "source": "span_attributes"}
        world.traceloop.put("theirs", selector=[rule], evaluators=["faithfulness"])
        world.up('one("m")\ngroup("g", {"a": setup()})')
        world.refresh()
        world.up('group("g", {})')
        world.destroy()
        assert world.monitors == {"theirs": "theirs"}
