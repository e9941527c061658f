"""Lines of a preview about each monitor, and the options that depend on them, end to end."""

from __future__ import annotations

import pytest

from pulumi_traceloop.emulator import Fault
from pulumi_traceloop.emulator.routes import BULK_ROUTE, LIST_ROUTE
from tests.support.world import World, lines

THEIRS = {"key": "gen_ai.system", "value": "theirs", "source": "span_attributes"}


class TestPlanLines:
    def test_each_changed_setup_has_a_line(self, world: World) -> None:
        world.up('group("monitors", {"a": setup(), "b": setup("gpt-4o"), "old": setup()})')
        program = """group("monitors", {
            "a": setup(), "b": setup("gpt-5", "faithfulness", "toxicity-detector"),
            "new": setup("anthropic")})"""
        printed = lines(world.preview(program).output)
        assert "monitors: 1 to create, 1 to change, 1 to delete, 1 unchanged" in printed
        assert '~ b gen_ai.system = "gpt-4o" -> "gpt-5" + toxicity-detector' in printed
        assert '+ new gen_ai.system = "anthropic" faithfulness' in printed
        assert '- old gen_ai.system = "openai" faithfulness' in printed

    def test_update_reports_its_changes(self, world: World) -> None:
        world.up('group("monitors", {"a": setup(), "b": setup("gpt-4o"), "old": setup()})')
        program = 'group("monitors", {"a": setup(), "b": setup("5"), "new": setup("x")})\none("m")'
        printed = lines(world.up(program).output)
        assert "monitors: 1 created, 1 changed" in printed
        assert '~ b gen_ai.system = "gpt-4o" -> "5"' in printed
        assert 'monitors: deleted 1 monitor setup: "old"' in printed
        assert '+ m gen_ai.system = "openai" faithfulness (created)' in printed
        assert not any(" to create" in line or " to delete" in line for line in printed)

    def test_failed_changes_are_not_reported_as_done(self, world: World) -> None:
        world.up('group("g", {"a": setup("1"), "b": setup("1")})')
        up = world.up('group("g", {"a": setup("2"), "b": setup("2", "nope")})', fails=True)
        printed = lines(up.output)
        assert "g: 1 changed" in printed
        assert not any(line.startswith("~ b ") for line in printed)

    def test_destroyed_stack_and_removed_group_name_deleted_setups(self, world: World) -> None:
        program = 'group("g", {"a": setup(), "b": setup()})\none("m")'
        world.up(program)
        printed = lines(world.up('one("m")').output)
        assert 'g: deleted 2 monitor setups: "a", "b"' in printed
        world.up(program)
        printed = lines(world.destroy().output)
        assert 'g: deleted 2 monitor setups: "a", "b"' in printed
        assert 'm: deleted 1 monitor setup: "m"' in printed

    @pytest.mark.not_sampled
    def test_no_lines_without_changes(self, world: World) -> None:
        program = 'one("m")\ngroup("g", {"a": setup()})'
        world.stack.set_config("traceloop:ignoreWarnings", "gen_ai.system")
        world.up(program)
        for operation in (world.preview, world.up, world.refresh):
            output = operation().output
            assert "gen_ai.system" not in output
            assert "unchanged" not in output.replace("4 unchanged", "").replace("5 unchanged", "")

    def test_refresh_names_the_drifted_setup(self, world: World) -> None:
        program = 'one("m")\none("n")\ngroup("g", {"a": setup(), "b": setup(), "c": setup()})'
        world.up(program)
        for external_id in ("m", "a"):
            world.traceloop.put(external_id, selector=[THEIRS], evaluators=["faithfulness"])
        for external_id in ("n", "b"):
            world.traceloop.delete(external_id)
        printed = lines(world.refresh().output)
        assert '~ m gen_ai.system = "openai" -> "theirs" (changed outside of this stack)' in printed
        assert '- n gen_ai.system = "openai" faithfulness (gone)' in printed
        assert "g: 1 changed outside of this stack, 1 gone" in printed
        assert '~ a gen_ai.system = "openai" -> "theirs"' in printed
        assert not any(" c " in line for line in printed)

    @pytest.mark.not_sampled
    def test_large_group_names_the_drifted_setup(self, world: World) -> None:
        world.up('group("g", {f"m-{n:03}": setup() for n in range(300)})')
        world.traceloop.put("m-007", selector=[THEIRS], evaluators=["faithfulness"])
        printed = lines(world.refresh().output)
        assert '~ m-007 gen_ai.system = "openai" -> "theirs"' in printed
        assert "g: 1 changed outside of this stack" in printed

    @pytest.mark.not_sampled
    def test_retry_that_will_not_happen_is_not_announced(self, world: World) -> None:
        world.up('group("g", {i: setup("1") for i in ("back", "equal", "still", "other")})')
        up = 'group("g", {i: setup("2", "nope") for i in ("back", "equal", "still", "other")})'
        world.up(up, fails=True)
        rule = {**THEIRS, "value": "3"}
        world.traceloop.put("equal", selector=[rule], evaluators=["faithfulness"])
        printed = lines(
            world.preview(
                """group("g", {"back": setup("1"), "equal": setup("3"),
                    "still": setup("2", "nope"), "other": setup("4")})"""
            ).output
        )
        assert "g: 2 to send again, 2 to adopt" in printed
        assert "= back in Traceloop already and equal: nothing is sent" in printed
        assert "= equal in Traceloop already and equal: nothing is sent" in printed
        assert '* other gen_ai.system = ... -> "4"' in printed
        assert printed.count('"other", "still": unknown evaluator slug "nope"') == 1

    def test_pending_delete_is_in_the_plan(self, world: World) -> None:
        world.up('group("g", {"a": setup(), "b": setup(), "c": setup()})')
        world.traceloop.inject(Fault(method="DELETE", status=500, times=None))
        world.stack.set_config("traceloop:deadline", "2")
        world.up('group("g", {"a": setup(), "c": setup()})', fails=True)
        pending = "- b (the last update did not get to delete it)"
        printed = lines(world.preview().output)
        assert "g: 1 to delete, 2 unchanged" in printed
        assert pending in printed
        printed = lines(world.preview('group("g", {"a": setup("x")})').output)
        assert "g: 1 to change, 2 to delete" in printed
        assert pending in printed
        # No setup that another resource took over or that is missing.
        printed = lines(world.preview('one("b")\ngroup("g", {"a": setup(), "c": setup()})').output)
        taken_back = '> b is not deleted: AutoMonitorSetup "b" declares it'
        assert pending not in printed or taken_back in printed
        world.traceloop.delete("b")
        assert "- b" not in world.preview('group("g", {"a": setup(), "c": setup()})').output

    @pytest.mark.not_sampled
    def test_long_plan_is_truncated(self, world: World) -> None:
        preview = world.preview('group("g", {f"m-{n:03}": setup() for n in range(100)})')
        printed = lines(preview.output)
        assert "g: 100 to create" in printed
        assert "... and 40 more" in printed
        assert not any("m-060" in line for line in printed)

    @pytest.mark.not_sampled
    def test_single_setup_has_a_line(self, world: World) -> None:
        printed = lines(world.preview('one("m")').output)
        assert '+ m gen_ai.system = "openai" faithfulness' in printed
        world.up()
        printed = lines(world.preview('one("m", "azure")').output)
        assert '~ m gen_ai.system = "openai" -> "azure"' in printed

    @pytest.mark.not_sampled
    def test_single_setup_is_distinguished_from_those_of_a_group(self, world: World) -> None:
        """By its indentation, and by the resource's name if it differs."""
        program = 'group("g", {"a": setup()})\none("m")\none("r", external_id="x")'
        _, _, output = world.preview(program).output.partition("Diagnostics:")
        head = next(line for line in output.splitlines() if "g: 1 to create" in line)
        margin = len(head) - len(head.lstrip())
        (single,) = [line for line in output.splitlines() if line.lstrip().startswith("+ m ")]
        (member,) = [line for line in output.splitlines() if line.lstrip().startswith("+ a ")]
        assert single[margin] == "+"
        assert member[margin : margin + 3] == "  +"
        assert '+ x gen_ai.system = "openai" faithfulness (AutoMonitorSetup "r")' in lines(output)

    def test_replacement_is_one_line_with_the_deleted_setup(self, world: World) -> None:
        """The engine calls `check` twice."""
        world.up('one("m", external_id="old")')
        printed = lines(world.preview('one("m", external_id="new")').output)
        assert (
            printed.count('+ new gen_ai.system = "openai" faithfulness (AutoMonitorSetup "m")') == 1
        )
        assert (
            printed.count('- old gen_ai.system = "openai" faithfulness (AutoMonitorSetup "m")') == 1
        )
        world.up()
        assert set(world.monitors) == {"new"}

    @pytest.mark.not_sampled
    def test_replaced_setup_that_moves_is_not_reported_as_deleted(self, world: World) -> None:
        world.up('one("m", external_id="old")')
        program = 'one("m", external_id="new")\none("n", external_id="old")'
        printed = lines(world.preview(program).output)
        taken_back = '> old is not deleted: AutoMonitorSetup "n" declares it'
        assert not any(line.startswith("- old ") for line in printed) or taken_back in printed
        world.up()
        assert world.traceloop.writes == {"new": 1}

    @pytest.mark.not_sampled
    def test_refused_setup_that_is_removed_has_no_line(self, world: World) -> None:
        world.up('group("g", {"a": setup(), "b": setup("x", "nope")})', fails=True)
        printed = lines(world.preview('group("g", {"a": setup()})').output)
        assert not any(line.startswith("g: ") for line in printed)
        world.up()
        assert world.requests == {}

    @pytest.mark.parametrize("first", ["resource first", "group first"])
    def test_moved_setup_is_not_reported_as_deleted(self, world: World, first: str) -> None:
        world.up('group("g", {"a": setup(), "b": setup()})')
        program = ['one("r", external_id="b")', 'group("g", {"a": setup()})']
        printed = lines(world.preview("\n".join(program[:: 1 if first[0] == "r" else -1])).output)
        moved = '> b to AutoMonitorSetup "r"'
        taken_back = '> b is not deleted: AutoMonitorSetup "r" declares it'
        assert moved in printed or taken_back in printed
        assert not any(line.startswith("- b ") for line in printed) or taken_back in printed

    @pytest.mark.parametrize(
        ("program", "ops"),
        [
            ('group("g", {"a": setup(), "b": setup(), "c": setup()})', {"update"}),
            ('group("g", {"a": setup()})', {"create-replacement", "replace", "delete-replaced"}),
            (
                'group("g", {"a": setup()})\none("b")',
                {"create-replacement", "replace", "delete-replaced"},
            ),
        ],
        ids=["enters", "leaves", "moves"],
    )
    def test_membership_row_shows_no_other_project(
        self, world: World, program: str, ops: set[str]
    ) -> None:
        """Only what is removed, here or elsewhere, replaces it."""
        world.up('group("g", {"a": setup(), "b": setup()})')
        preview = world.preview(program)
        assert {s.op for s in preview.steps if "Membership::g" in s.urn} == ops
        rows = [row for row in lines(preview.output) if "AutoMonitorSetupMembership g" in row]
        assert any("external_ids" in row and "owned" in row for row in rows)
        assert not any("env_project_id" in row for row in rows)

    def test_membership_row_shows_another_project(self, world: World) -> None:
        world.traceloop.add_project("staging-key", env_project_id="staging")
        world.stack.set_config("traceloop-staging:apiKey", "staging-key", secret=True)
        world.stack.set_config("traceloop-staging:baseUrl", world.traceloop.url)
        world.up('group("g", {"a": setup(), "b": setup()})')
        preview = world.preview('group("g", {"a": setup()}, config_namespace="traceloop-staging")')
        rows = [row for row in lines(preview.output) if "AutoMonitorSetupMembership g" in row]
        assert any("env_project_id" in row for row in rows)

    def test_terminal_escapes_are_not_printed(self, world: World) -> None:
        program = 'group("g", {"a\\x1b[31m": setup("\\x1b]0;title\\x07")})'
        assert "\x1b" not in world.preview(program).output


class TestSecretsInPlans:
    def test_secrets_and_unknowns_have_placeholders(self, world: World) -> None:
        world.stack.set_config("tenant", "s3cret-tenant", secret=True)
        program = """
tenant = config.require_secret("tenant")
first = one("first")
group("g", {
    "secret": {"selector": [span("tenant").equals(tenant), span("a").equals("b")],
               "evaluators": ["faithfulness"]},
    "unknown": setup(first.setup_id),
    "whole": tenant.apply(lambda t: setup(t)),
})
one("single", tenant)
"""
        preview = world.preview(program)
        printed = lines(preview.output)
        assert '+ secret tenant = [secret] and a = "b" faithfulness' in printed
        assert "+ unknown gen_ai.system = <unknown> faithfulness" in printed
        assert "+ whole [secret]" in printed
        assert "+ single gen_ai.system = [secret] faithfulness" in printed
        up = world.up()
        world.stack.set_config("tenant", "s3cret-other", secret=True)
        again = world.preview()
        assert "~ whole a secret value changes" in lines(again.output)
        assert "~ single a secret value changes" in lines(again.output)
        for output in (preview.output, up.output, again.output, world.stack.state_text()):
            assert "s3cret" not in output

    @pytest.mark.not_sampled
    def test_text_like_the_mask_looks_different(self, world: World) -> None:
        world.stack.set_config("tenant", "s3cret-tenant", secret=True)
        program = """
tenant = config.require_secret("tenant")
group("g", {"plain": setup("[secret]"), "masked": setup(tenant), "both": {
    "selector": [span("tenant").equals(tenant), span("dots").equals("...")],
    "evaluators": ["faithfulness"],
}})
one("m", "<unknown>")
"""
        printed = lines(world.preview(program).output)
        assert '+ plain gen_ai.system = "[secret]" faithfulness' in printed
        assert "+ masked gen_ai.system = [secret] faithfulness" in printed
        assert '+ both tenant = [secret] and dots = "..." faithfulness' in printed
        assert '+ m gen_ai.system = "<unknown>" faithfulness' in printed
        world.up()
        for external_id in ("plain", "m"):
            world.traceloop.put(external_id, selector=[THEIRS], evaluators=["faithfulness"])
        printed = lines(world.refresh().output)
        assert '~ plain gen_ai.system = "[secret]" -> "theirs"' in printed
        assert (
            '~ m gen_ai.system = "<unknown>" -> "theirs" (changed outside of this stack)' in printed
        )
        changed = program.replace('setup("[secret]")', "setup(tenant)").replace(
            '"masked": setup(tenant)', '"masked": setup("[secret]")'
        )
        printed = lines(world.preview(changed).output)
        assert '~ plain gen_ai.system = "theirs" -> [secret]' in printed
        assert '~ masked gen_ai.system = [secret] -> "[secret]"' in printed

    @pytest.mark.not_sampled
    def test_problem_of_a_secret_is_reported_without_it(self, world: World) -> None:
        """It is not a secret of the configuration, which the CLI masks itself."""
        program = """
s = pulumi.Output.secret("PLANTED")
rule = {"key": "k", "source": s, "operator": s, "value": "x"}
broken = {"selector": [rule], "evaluator_configs": [{"slug": "faithfulness", "scope": s}]}
twice = {"selector": [span("k").equals(s)], "evaluators": [s, s]}
"""
        for declared in (
            'group("g", {"a": broken, "b": twice})',
            'AutoMonitorSetup("m", **broken)',
            'AutoMonitorSetup("m", **twice)',
            'AutoMonitorSetup("m", selector=s, evaluators=["faithfulness"])',
        ):
            output = world.preview(program + declared, fails=True).output
            assert "PLANTED" not in output
            assert "selector" in output or "evaluator" in output

    @pytest.mark.not_sampled
    def test_drift_beside_a_secret_is_reported_as_drift(self, world: World) -> None:
        program = """
s = pulumi.Output.secret("PLANTED")
group("g", {"a": setup(s), "b": setup(s)})
one("m", s)
"""
        world.up(program)
        ours = {**THEIRS, "value": "PLANTED"}
        for external_id in ("a", "m"):
            world.traceloop.put(external_id, selector=[ours], evaluators=["perplexity"])
        world.traceloop.put("b", selector=[THEIRS], evaluators=["faithfulness"])
        refresh = world.refresh()
        assert "~ b gen_ai.system = [secret] -> ..." in lines(refresh.output)
        preview = world.preview()
        printed = lines(preview.output)
        assert "~ a - perplexity, + faithfulness" in printed
        assert "~ m - perplexity, + faithfulness" in printed
        # The remote value may have been a secret once.
        assert "~ b gen_ai.system = ... -> [secret]" in printed
        for text in (refresh.output, preview.output, world.stack.state_text()):
            assert "PLANTED" not in text
        world.up()
        assert world.traceloop.writes == {"a": 1, "b": 1, "m": 1}

    @pytest.mark.parametrize("echo", ['bad value "s3cret-tenant"', "s3cret-tenant is not allowed"])
    def test_service_message_that_echoes_a_secret(self, world: World, echo: str) -> None:
        world.stack.set_config("tenant", "s3cret-tenant", secret=True)
        world.traceloop.inject(Fault(route=BULK_ROUTE, item_error={"a": echo}, times=None))
        world.traceloop.inject(Fault(method="PUT", status=400, message=echo, times=None))
        program = 't = config.require_secret("tenant")\n'
        for declared in ('group("g", {"a": setup(t)})', 'one("m", t)'):
            up = world.up(program + declared, fails=True)
            assert "[secret]" in up.output
            preview = world.preview()
            for text in (up.output, preview.output, world.stack.state_text()):
                assert "s3cret-tenant" not in text


class TestAdoption:
    @pytest.fixture(autouse=True)
    def _their_setups(self, world: World) -> None:
        ours = {"key": "gen_ai.system", "value": "openai", "source": "span_attributes"}
        for external_id, rule in (("same", ours), ("other", THEIRS)):
            world.traceloop.put(external_id, selector=[rule], evaluators=["faithfulness"])

    @pytest.mark.parametrize(
        "program",
        [
            'group("g", {"same": setup(), "other": setup(), "new": setup()})',
            'one("same")\none("other")\none("new")',
        ],
    )
    def test_existing_setups_are_marked(self, world: World, program: str) -> None:
        printed = lines(world.preview(program).output)
        assert "= same in Traceloop already and equal: nothing is sent" in printed
        replaces = "! other replaces what Traceloop has:"
        # The remote value may be a secret.
        assert f'{replaces} gen_ai.system = ... -> "openai"' in printed
        assert '+ new gen_ai.system = "openai" faithfulness' in printed
        world.up()
        assert world.traceloop.writes == {"other": 1, "new": 1}

    @pytest.mark.not_sampled
    def test_plan_without_a_key_says_so_once(self, world: World) -> None:
        world.stack.remove_config("traceloop:apiKey")
        output = world.preview('group("g", {"same": setup()})\none("m")').output
        diagnostics = output[output.index("Diagnostics:") :]
        assert diagnostics.count("The plan is not compared with what Traceloop has") == 1
        assert '+ same gen_ai.system = "openai" faithfulness' in lines(output)

    @pytest.mark.not_sampled
    def test_plan_during_an_outage_says_so(self, world: World) -> None:
        world.stack.set_config("traceloop:deadline", "0.5")
        world.traceloop.stop()
        output = world.preview('group("g", {"same": setup()})').output
        assert "The plan is not compared with what Traceloop has" in output
        world.traceloop.start()

    @pytest.mark.not_sampled
    def test_if_exists_adopt_stops_before_anything_is_written(self, world: World) -> None:
        programs = (
            'group("g", {"other": setup(), "new": setup()}, if_exists="adopt")',
            'one("other", if_exists="adopt")',
        )
        for program in programs:
            for operation in (world.preview, world.up):
                output = operation(program, fails=True).output
                assert 'another setup "other"' in output
                assert world.traceloop.writes == {}
        world.up('group("g", {"same": setup(), "new": setup()}, if_exists="adopt")')
        assert world.traceloop.writes == {"new": 1}

    @pytest.mark.parametrize("external_id", ["other", "same"])
    def test_if_exists_fail_takes_over_nothing(self, world: World, external_id: str) -> None:
        for program in (
            f'group("g", {{"{external_id}": setup(), "new": setup()}}, if_exists="fail")',
            f'one("{external_id}", if_exists="fail")',
        ):
            for operation in (world.preview, world.up):
                output = operation(program, fails=True).output
                assert f'setup "{external_id}"' in output
                assert 'which this stack does not manage, and if_exists is "fail"' in output
                assert ("(gen_ai.system = ... -> " in output) is (external_id == "other")
                assert world.traceloop.writes == {}
        # A setup of this stack is not in the way.
        world.up('group("g", {"new": setup()}, if_exists="fail")')
        world.up('group("g", {"new": setup("changed")}, if_exists="fail")')
        assert world.traceloop.writes == {"new": 1}

    @pytest.mark.not_sampled
    @pytest.mark.parametrize("trouble", ["no key", "service down"])
    def test_if_exists_adopt_holds_after_an_update_that_sent_nothing(
        self, world: World, trouble: str
    ) -> None:
        """The state has the failed setup, but this stack never owned it."""
        program = (
            'group("g", {"other": setup(), "same": setup(), "new": setup()}, if_exists="adopt")'
        )
        world.stack.set_config("traceloop:deadline", "0.5")
        if trouble == "no key":
            world.stack.remove_config("traceloop:apiKey")
        else:
            world.traceloop.stop()
        world.up(program, fails=True)
        if trouble == "no key":
            world.stack.set_config("traceloop:apiKey", world.traceloop.api_key, secret=True)
        else:
            world.traceloop.start()
        world.stack.set_config("traceloop:deadline", "60")
        for operation in (world.preview, world.up):
            assert 'another setup "other"' in operation(fails=True).output
            assert world.traceloop.writes == {}

        printed = lines(world.preview(program.replace('"adopt"', '"replace"')).output)
        assert "g: 1 to replace, 1 to send again, 1 to adopt" in printed
        assert "= same in Traceloop already and equal: nothing is sent" in printed
        assert any(line.startswith("! other replaces what Traceloop has") for line in printed)
        world.up()
        assert world.traceloop.writes == {"other": 1, "new": 1}

    @pytest.mark.not_sampled
    def test_if_exists_adopt_holds_if_the_preview_could_not_read(self, world: World) -> None:
        """The write itself skips a setup that the plan could not read; the others are written."""
        world.traceloop.inject(Fault(route=LIST_ROUTE, hide=["other"]))
        up = world.up('group("g", {"other": setup(), "new": setup()})', fails=False)
        assert up.exit_code == 0
        world.traceloop.inject(Fault(method="GET", status=400, times=1))
        up = world.up('one("x")\ngroup("h", {"same": setup("1")}, if_exists="adopt")', fails=True)
        assert 'another setup "same"' in up.output
        assert "same" not in world.traceloop.writes


@pytest.mark.not_sampled
class TestSuggestions:
    def test_deprecated_attribute_is_a_warning(self, world: World) -> None:
        output = world.preview('one("m")\ngroup("g", {"a": setup()})').output
        for external_id in ("m", "a"):
            assert (
                f'"gen_ai.system" (in "{external_id}") is deprecated; today\'s SDKs write'
                ' "gen_ai.provider.name"'
            ) in output

    def test_undocumented_evaluator_is_a_warning(self, world: World) -> None:
        world.traceloop.add_evaluator("my-own-judge")
        up = world.up('group("g", {"a": setup("x", "my-own-judge")})')
        assert "my-own-judge" in up.output
        assert "did you mean" not in up.output
        preview = world.preview('one("m", "x", "faithfullness")')
        assert '"faithfullness" (in "m"); did you mean "faithfulness"?' in preview.output


@pytest.mark.not_sampled
class TestWaiting:
    def test_update_ends_when_the_setups_are_ready(self, world: World) -> None:
        world.traceloop.settle = 1.5
        world.up('group("g", {"a": setup(), "b": setup()}, wait_for_setup=True)')
        assert {s["status"] for s in world.traceloop.setups.values()} == {"completed"}
        world.up('one("m", wait_for_setup=True)')
        assert world.traceloop.setups["m"]["status"] == "completed"
        assert world.refresh(expect_no_changes=True).exit_code == 0

    @pytest.mark.parametrize(
        "program",
        [
            'group("g", {"a": setup(), "b": setup("x", "perplexity")}, wait_for_setup=True)',
            'one("a", wait_for_setup=True)',
        ],
    )
    def test_failed_setup_is_polled_again_and_not_sent_again(
        self, world: World, program: str
    ) -> None:
        world.traceloop.settle = 0
        world.traceloop.fail_evaluator("faithfulness", "no model configured")
        up = world.up(program, fails=True)
        assert "faithfulness: no model configured" in up.output
        assert world.traceloop.writes["a"] == 1
        printed = lines(world.preview().output)
        assert "? a written, but was not ready: nothing is sent" in printed
        assert any(
            line.startswith('"a": Traceloop could not set it up (failed)') for line in printed
        )
        world.up(fails=True)
        assert world.traceloop.writes == {}
        world.traceloop.force_status("a", "completed")
        world.up()
        assert world.traceloop.writes == {}
        assert set(world.up().changes) == {"same"}

    def test_wait_that_is_turned_on_later(self, world: World) -> None:
        """Else a setup that waits for spans would look ready."""
        world.traceloop.settle = 3600
        program = 'group("g", {"a": setup(), "b": setup()}WAIT)\none("m"WAIT)'
        world.up(program.replace("WAIT", ""))
        waiting = program.replace("WAIT", ', wait_for_setup=True, wait_timeout=1, wait_for="spans"')
        printed = lines(world.preview(waiting).output)
        for name in "abm":
            assert f"? {name} waits until it is ready: nothing is sent" in printed
        up = world.up(fails=True)
        assert up.output.count("still not set up after 1 s") > 0
        for name in "abm":
            world.traceloop.force_status(name, "waiting_for_spans")
        accepted = waiting.replace('"spans"', '"accepted"')
        world.up(accepted)
        assert set(world.up(accepted).changes) == {"same"}
        assert "no spans have matched it" in world.up(waiting, fails=True).output
        assert world.traceloop.writes == {}

    def test_time_limit_of_the_wait(self, world: World) -> None:
        world.traceloop.settle = 3600
        up = world.up('group("g", {"a": setup()}, wait_for_setup=True, wait_timeout=1)', fails=True)
        assert "still not set up after 1 s" in up.output
        world.up('group("g", {"a": setup()})')
        assert world.traceloop.writes == {}


@pytest.mark.not_sampled
class TestMaxDeletes:
    @pytest.mark.parametrize("limit", ["2", "'20%'"])
    def test_nothing_is_written_over_the_limit(self, world: World, limit: str) -> None:
        program = f'group("g", {{f"m-{{n}}": setup(VALUE) for n in RANGE}}, max_deletes={limit})'
        world.up(program.replace("VALUE", '"1"').replace("RANGE", "range(10)"))
        fewer = program.replace("VALUE", '"2"').replace("RANGE", "range(7)")
        for operation in (world.preview, world.up):
            output = operation(fewer, fails=True).output
            assert "would delete 3 of the group's 10 monitor setups" in output
            assert '"m-7", "m-8", "m-9"' in output
            assert world.traceloop.writes == {}
        world.up(program.replace("VALUE", '"2"').replace("RANGE", "range(8)"))
        assert len(world.monitors) == 8

    @pytest.mark.parametrize("limit", ["-1", "'many'", "'200%'", "1.5"])
    def test_invalid_limit(self, world: World, limit: str) -> None:
        preview = world.preview(f'group("g", {{"a": setup()}}, max_deletes={limit})', fails=True)
        assert "must be a number, or a percentage" in preview.output


class TestSeveralProjects:
    def test_each_namespace_has_its_own_key(self, world: World) -> None:
        """The same external_id in two projects is two monitors."""
        world.traceloop.add_project("staging-key", env_project_id="staging")
        world.stack.set_config("traceloop-staging:apiKey", "staging-key", secret=True)
        world.stack.set_config("traceloop-staging:baseUrl", world.traceloop.url)
        program = """
staging = {"config_namespace": "traceloop-staging"}
one("m")
one("m-staging", "azure", external_id="m", **staging)
group("g", {"a": setup()})
group("g-staging", {"a": setup("azure")}, **staging)
"""
        world.up(program)
        assert world.monitors == {"m": "openai", "a": "openai"}
        assert world.traceloop.setups_of("staging-key").keys() == {"m", "a"}
        assert world.refresh(expect_no_changes=True).exit_code == 0
        world.up('one("m")\ngroup("g", {"a": setup()})')
        assert world.traceloop.setups_of("staging-key") == {}
        assert set(world.monitors) == {"m", "a"}

    def test_moving_to_another_project(self, world: World) -> None:
        world.traceloop.add_project("staging-key", env_project_id="staging")
        world.stack.set_config("traceloop-staging:apiKey", "staging-key", secret=True)
        world.stack.set_config("traceloop-staging:baseUrl", world.traceloop.url)
        world.up('one("m")\ngroup("g", {"a": setup()})')
        staging = 'config_namespace="traceloop-staging"'
        world.up(f'one("m", {staging})\ngroup("g", {{"a": setup()}}, {staging})')
        assert world.monitors == {}
        assert world.traceloop.setups_of("staging-key").keys() == {"m", "a"}

    @pytest.mark.not_sampled
    def test_missing_key_names_its_namespace(self, world: World) -> None:
        up = world.up('group("g", {"a": setup()}, config_namespace="traceloop-eu")', fails=True)
        assert "pulumi config set --secret traceloop-eu:apiKey" in up.output
