"""Programs whose inputs are wrong: the error names the resource, the property and the cure."""

from __future__ import annotations

import pytest

from tests.support.world import World


class TestInvalidInput:
    @pytest.mark.parametrize(
        ("selector", "rest", "problem"),
        [
            ("[]", "", "selector: needs at least one rule"),
            (
                '[{"key": "a", "source": "span_attributes", "operator": "like", "value": "x"}]',
                "",
                "selector[0].operator: must be one of 'equals'",
            ),
            (
                '[{"key": "a", "source": "span_attributes", "operator": "in"}]',
                "",
                'selector[0].values: operator "in" needs "values"',
            ),
            (
                '[{"key": "a", "source": "span_attributes", "operator": "exists", "value": "1"}]',
                "",
                'selector[0].value: operator "exists" takes neither value nor values',
            ),
            (
                '[span("a").exists()]',
                ', "evaluator_configs": [{"slug": "perplexity"}]',
                "evaluators: give either evaluators or evaluator_configs, not both",
            ),
        ],
    )
    def test_invalid_setup(self, world: World, selector: str, rest: str, problem: str) -> None:
        """The preview names resource, property and cure, for a single setup and a group."""
        setup = f'{{"selector": {selector}, "evaluators": ["faithfulness"]{rest}}}'
        preview = world.preview(f'AutoMonitorSetup("m", **{setup})', fails=True)
        _assert_input_error(preview.output, f'AutoMonitorSetup "m", {problem}')
        preview = world.preview(f'group("g", {{"a": {setup}}})', fails=True)
        _assert_input_error(preview.output, f'AutoMonitorSetupGroup "g", setups["a"].{problem}')
        assert world.requests == {}
        assert preview.ops() == {}

    def test_invalid_setup_that_is_known_late(self, world: World) -> None:
        """The provider validates it by the same rules, in the preview if it is known by then."""
        late = """
late = pulumi.Output.from_input("eq").apply(lambda it: it)
rule = {"key": "a", "source": "span_attributes", "operator": late, "value": "x"}
bad = {"selector": [rule], "evaluators": ["faithfulness"]}
"""
        reason = 'not "eq"; did you mean "equals"?'
        preview = world.preview(late + 'AutoMonitorSetup("m", bad)', fails=True)
        _assert_check_failure(preview.output, "selector[0].operator", reason)
        preview = world.preview(late + 'group("g", {"a": bad})', fails=True)
        _assert_check_failure(preview.output, 'setups["a"].selector[0].operator', reason)
        assert world.requests == {}

    @pytest.mark.not_sampled
    @pytest.mark.parametrize("external_id", ["", "  ", ".", ".."])
    def test_invalid_external_id(self, world: World, external_id: str) -> None:
        preview = world.preview(f'one("m", external_id="{external_id}")', fails=True)
        _assert_input_error(preview.output, 'AutoMonitorSetup "m", external_id: must not be')
        preview = world.preview(f'group("g", {{"{external_id}": setup()}})', fails=True)
        problem = f'setups["{external_id}"]: the external_id must not be'.replace("  ", " ")
        _assert_input_error(preview.output, f'AutoMonitorSetupGroup "g", {problem}')
        late = f'pulumi.Output.from_input("{external_id}").apply(lambda it: it)'
        preview = world.preview(f'one("m", external_id={late})', fails=True)
        _assert_check_failure(preview.output, "external_id", "must not be")

    @pytest.mark.parametrize(
        "program",
        [
            'one("m", external_id="x")\none("n", external_id="x")',
            'one("m", external_id="x")\ngroup("n", {"x": setup()})',
            'group("m", {"x": setup()})\ngroup("n", {"x": setup()})',
        ],
    )
    def test_one_external_id_declared_twice(self, world: World, program: str) -> None:
        preview = world.preview(program, fails=True)
        assert 'the external_id "x" is declared twice' in preview.output
        assert '"m"' in preview.output
        assert '"n"' in preview.output
        world.up(fails=True)
        assert len(world.monitors) <= 1

    @pytest.mark.not_sampled
    def test_external_ids_that_need_encoding(self, world: World) -> None:
        ids = ["a/b", "a?b", "a#b", "100%", "%2F", "a:b", "a b", "größe-日本", "bulk"]
        one = "\n".join(f'one("r{n}", external_id={i!r})' for n, i in enumerate(ids))
        world.up(one)
        assert set(world.monitors) == set(ids)
        assert world.refresh(expect_no_changes=True).exit_code == 0
        world.up(f'group("g", {{i: setup("azure") for i in {ids!r}}})')
        assert world.monitors == dict.fromkeys(ids, "azure")
        world.destroy()
        assert world.monitors == {}


def _assert_input_error(output: str, message: str) -> None:
    """Assert that the program ended with this message and nothing more."""
    assert message in " ".join(output.split())
    assert "Traceback" not in output
    assert "has a problem" not in output


def _assert_check_failure(output: str, path: str, reason: str) -> None:
    assert path in output
    assert reason in " ".join(output.split())
    assert "providers.py" not in output
