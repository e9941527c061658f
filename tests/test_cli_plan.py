"""`pulumi-traceloop plan`: a preview as a pull-request comment: `cli/document.py`.

The samples in `data/` are shortened output of the real CLI, which test_cli_preview.py verifies.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulumi_traceloop._plan import Change, decoded
from pulumi_traceloop.cli.markdown import MARKER
from pulumi_traceloop.cli.preview import COMMAND, read
from tests.support import API_KEY, DATA
from tests.support.previews import (
    SECRET,
    Tables,
    create,
    diagnostics,
    group,
    plan,
    plan_of,
    preview_of,
    rows,
    sample,
    setup,
    stack_step,
    step,
)


class TestSamples:
    def test_creation(self) -> None:
        found = rows(plan_of(sample("create")))
        assert found["single"] == ["create", "", 'gen_ai.system = "openai"\nruns faithfulness', ""]
        assert found["secret"][2] == "gen_ai.system = [secret]\nruns faithfulness"
        assert found["unknown"][2] == "gen_ai.system = <unknown>\nruns faithfulness"
        assert found["hidden"][2] == "gen_ai.system = [secret]\nruns faithfulness"
        assert len(found) == 12

    def test_change(self) -> None:
        comment = plan_of(sample("change"))
        assert comment.startswith(f"{MARKER}\n### Monitor setups of `dev`\n")
        assert (
            "\n**1 to delete, 4 to change, 2 to send again, 1 to create, 2 to adopt,"
            " 1 to leave in place**, 2 unchanged\n" in comment
        )
        found = rows(comment)
        assert found["leaves"][:3] == ["delete", 'gen_ai.system = "x"\nruns faithfulness', ""]
        assert found["single"][:3] == [
            "change",
            'gen_ai.system = "openai"',
            'gen_ai.system = "azure"\nruns also perplexity',
        ]
        assert found["changed"][:3] == [
            "change",
            'gen_ai.system = "openai"\nruns faithfulness',
            'gen_ai.system in ("openai", "azure")\nenv exists\nruns faithfulness (trace)',
        ]
        assert found["unknown"][2] == 'gen_ai.system = "known now"'
        assert found["kept"][0] == "leave in place"
        assert found["refused"][0] == "send again"
        assert found["refused"][3].startswith("the last update failed:\nunknown evaluator")
        assert "same" not in found

    def test_secret_is_masked_and_is_a_change_only_if_it_changes(self) -> None:
        found = rows(plan_of(sample("change")))
        assert found["hidden"] == ["change", "", "a secret value changes", ""]
        assert "secret" not in found

    def test_moved_setup_has_one_row(self) -> None:
        found = rows(plan_of(sample("change")))
        assert found["moves"][0] == "adopt"
        assert found["moves"][3].endswith('moves here from AutoMonitorSetupGroup "g"')
        assert found["old-name"][0] == "adopt"

    def test_deletion_of_all(self) -> None:
        found = rows(plan_of(sample("delete")))
        # Setups that were never created are not deleted.
        assert {i: cells[0] for i, cells in found.items()} == {
            "single": "delete",
            "old-name": "delete",
            "hidden": "delete",
            "same": "delete",
            "changed": "delete",
            "leaves": "delete",
            "moves": "delete",
            "secret": "delete",
            "unknown": "delete",
            "kept": "leave in place",
        }
        assert found["secret"][1] == "gen_ai.system = [secret]\nruns faithfulness"

    def test_refused_setup_is_compared_with_the_remote_one(self) -> None:
        found = rows(plan_of(sample("again")))
        why = 'the last update failed:\nunknown evaluator slug "no-such-evaluator"'
        assert found["refused"] == [
            "send again",
            "gen_ai.system = ...\nruns faithfulness",
            'gen_ai.system = "b"\nruns no-such-evaluator',
            why,
        ]
        assert found["mended"] == ["send again", "gen_ai.system = ...", 'gen_ai.system = "b"', why]
        assert found["put-back"][0] == "adopt"
        # The remote definition is unknown: the state has the refused one.
        assert found["gone"] == ["delete", "", "", ""]

    def xy_is_checked_again(self) -> None:
        comment = plan_of(sample("again"))
        summary = "1 to delete, 2 to change, 2 to send again, 4 to check again, 1 to adopt"
        assert f"**{summary}**, 1 unchanged" in comment
        found = rows(comment)
        why = "Traceloop could not set it up (failed): perplexity: no model"
        for external_id in ("single", "late"):
            assert found[external_id] == [
                "check again",
                "",
                'gen_ai.system = "x"\nruns perplexity',
                f"written, but was not ready: nothing is sent\n{why}",
            ]

    def test_edited_setup_that_was_not_ready_is_a_plain_change(self) -> None:
        found = rows(plan_of(sample("again")))
        for external_id in ("edited", "late-edited"):
            change = ["change", 'gen_ai.system = "x"', 'gen_ai.system = "y"', ""]
            assert found[external_id] == change

    def test_pending_delete_is_in_the_comment(self) -> None:
        found = rows(plan_of(sample("pending")))
        assert {i: cells[0] for i, cells in found.items()} == {"leaves": "delete", "old": "delete"}
        assert found["old"][3] == "(the last update did not get to delete it)"

    def test_failed_preview_is_reported_and_exits_with_1(self) -> None:
        result = plan(str(DATA / "preview-broken.json"))
        assert result.exit_code == 1
        assert "**The preview failed**" in result.stdout
        assert "`ValueError: this program is broken`" in result.stdout
        assert rows(result.stdout)["single"][0] == "change"

    def test_no_sample_has_the_secret_or_a_path(self) -> None:
        for file in DATA.glob("preview-*.json"):
            text = file.read_text("utf-8")
            plans = filter(None, (decoded(d["message"]) for d in diagnostics(json.loads(text))))
            for found in (text, *map(str, plans)):
                assert SECRET not in found
                assert API_KEY not in found
                assert "File " not in found
                assert "/tmp" not in found

    def test_json(self) -> None:
        (stack,) = json.loads(plan_of(sample("change"), "--json"))["stacks"]
        assert stack["stack"] == "dev"
        assert stack["counts"]["change"] == 4
        assert stack["unchanged"] == 2
        by_id = {change["external_id"]: change for change in stack["changes"]}
        assert by_id["changed"]["before"] == {
            "rules": ['gen_ai.system = "openai"'],
            "evaluators": ["faithfulness"],
        }
        assert by_id["unknown"]["differs"] == ['gen_ai.system = "an id" -> "known now"']
        assert by_id["unknown"]["owner"] == 'AutoMonitorSetupGroup "g"'
        assert by_id["leaves"]["after"] is None


class TestContents:
    """Only the providers' data counts, not output that looks like it."""

    @pytest.mark.parametrize(
        "line",
        ["= a  (from the feature flags)", "g: 1 to delete", "  - a", "traceloop: 1 to create"],
    )
    def test_output_of_the_program_is_ignored(self, line: str) -> None:
        preview = preview_of(group(create("a")))
        before = plan_of(preview)
        preview["diagnostics"].append({"severity": "info", "message": line})
        assert plan_of(preview) == before
        assert rows(before)["a"][0] == "create"

    def test_the_same_external_id_in_two_projects_is_two_setups(self) -> None:
        theirs = Change("replace", "m", setup("..."), setup("x"))
        preview = preview_of(
            group(Change("adopt", "m", after=setup()), project="staging"),
            group(theirs, owner='AutoMonitorSetupGroup "h"', project="production"),
        )
        tables = Tables(plan_of(preview)).rows
        assert [(cells[0], cells[2]) for cells in tables] == [
            ("replace", "h\nin production"),
            ("adopt", "g\nin staging"),
        ]

    def test_delete_of_a_replacement_is_not_left_pending(self) -> None:
        """With ``--show-replacement-steps`` its old state has ``delete`` too."""
        state = {"id": "g", "delete": True, "inputs": {"owned": '["a", "b"]'}}
        steps = [step(op, "Membership") for op in ("replace", "delete-replaced")]
        for each in steps:
            each["oldState"] = {**each.pop("newState", {}), **each.get("oldState", {}), **state}
        left = [Change("delete", "a", note="why"), Change("release", "b")]
        found = rows(plan_of(preview_of(group(*left), steps=steps)))
        assert [(found[i][0], found[i][3]) for i in "ab"] == [
            ("delete", "why"),
            ("leave in place", ""),
        ]
        found = rows(plan_of(preview_of(group(create("c")), steps=steps)))
        assert found["a"][3] == ""
        found = rows(plan_of(preview_of(group(create("c")), steps=steps[1:])))
        assert found["a"][3] == "(the last update did not get to delete it)"

    def test_two_namespaces_of_one_project_are_one_project(self) -> None:
        """A setup that moves between them is not deleted."""
        gone = step("delete", "", inputs={"external_id": "m", "declared_by": "old"})
        gone["oldState"]["outputs"] = {"config_namespace": "other", "env_project_id": "p"}
        gone["oldState"]["id"] = "m"
        preview = preview_of(group(Change("adopt", "m", after=setup()), project="p"), steps=[gone])
        (found,) = read(json.dumps(preview), "x").changes
        assert found.change.action == "adopt"
        assert found.change.note == "moves here from old"

    def test_declared_setup_is_not_deleted(self) -> None:
        """No step has an unchanged resource, but its provider reports what it declares."""
        pending = step("delete-replaced", "Membership", inputs={"owned": '["a", "b"]'})
        pending["oldState"]["delete"] = True
        preview = preview_of(group(declares=["a"]), steps=[pending])
        (found,) = read(json.dumps(preview), "x").changes
        assert (found.change.action, found.change.external_id) == ("delete", "b")

    @pytest.mark.parametrize(
        ("op", "side"),
        [("read", "newState"), ("discard", "oldState"), ("same", "newState")],
    )
    def test_setup_that_is_only_read_is_not_in_the_comment(self, op: str, side: str) -> None:
        """`AutoMonitorSetup.get` calls no provider that prints a plan."""
        found = step(op, "", id="m", external=True, inputs={"declared_by": "m"})
        found[side] = found.pop("newState")
        expected = plan_of(preview_of(group(create("a"))))
        assert plan_of(preview_of(group(create("a")), steps=[found])) == expected

    def test_managed_setup_that_is_only_read_from_now_on_is_deleted(self) -> None:
        """So does the engine: it replaces the resource."""
        found = step("replace", "", id="m", external=True, inputs={"declared_by": "m"})
        found["oldState"] = {**found["newState"], "external": False}
        preview = preview_of(group(create("a")), steps=[found])
        assert rows(plan_of(preview))["m"][0] == "delete"

    def test_setup_that_was_only_read_was_not_the_stacks(self) -> None:
        found = step("replace", "", id="m", inputs={"declared_by": "single"})
        found["oldState"] = {**found["newState"], "external": True}
        theirs = Change("replace", "m", setup(), setup("x"))
        single = group(theirs, owner="single", group=False)
        assert rows(plan_of(preview_of(single, steps=[found])))["m"][0] == "replace"

    def test_plan_without_remote_state_says_so(self) -> None:
        preview = preview_of(group(create("a"), blind="no API key"))
        assert "- warning: `the plan is not compared with what Traceloop has: no API key`" in (
            plan_of(preview)
        )

    def test_errors_are_truncated_and_counted(self) -> None:
        preview = preview_of(group(create("a")))
        preview["diagnostics"] += [
            {"severity": "error", "message": f"error: {n}"} for n in range(9)
        ]
        result = plan(stdin=json.dumps(preview))
        assert result.exit_code == 1
        assert "- `4`\n- and 4 more errors\n" in result.stdout

    def test_only_warnings_of_the_resources_are_reported(self) -> None:
        preview = preview_of(group(create("a")))
        urn = preview["steps"][0]["urn"]
        preview["diagnostics"] += [
            {"message": "warning: did you mean?", "severity": "warning", "urn": urn},
            {"message": "warning: other", "severity": "warning"},
        ]
        comment = plan_of(preview)
        assert "- warning: `did you mean?`" in comment
        assert "other" not in comment


class TestRejectedInput:
    """Missing plans do not mean "no changes"."""

    def refused(self, text: str | bytes, why: str) -> None:
        result = plan(stdin=text)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert why in result.stderr
        assert COMMAND in result.stderr
        assert result.stderr.count("\n") == 1

    def test_preview_without_plans(self) -> None:
        preview = preview_of(group(create("a")))
        self.refused(json.dumps({**preview, "diagnostics": []}), "does not have the plan")
        hidden = {"steps": [stack_step("same")], "changeSummary": {"same": 5}, "diagnostics": []}
        self.refused(json.dumps(hidden), "has no plan")

    def test_missing_plan_of_one_resource(self) -> None:
        preview = preview_of(group(create("a")), group(create("b"), owner="other"))
        del preview["diagnostics"][1]
        self.refused(json.dumps(preview), "does not have the plan")

    @pytest.mark.parametrize("inputs", [{"declared_by": 'AutoMonitorSetup "left-out"'}, {}])
    def test_missing_plan_of_an_unchanged_resource(self, inputs: dict[str, str]) -> None:
        """Where a resource has a plan, ``--target`` or ``--exclude`` leaves out the others."""
        same = step("same", "", inputs=inputs)
        same["urn"] = same["urn"].removesuffix("g") + "left-out"
        result = plan_of(preview_of(group(declares=["a"]), steps=[same]))
        why = 'not checked, because --target or --exclude leaves them out: "left-out"'
        assert f"No monitor setup changes, 1 unchanged\n\n- warning: `{why}`\n" in result
        self.refused(json.dumps(preview_of(steps=[same])), "does not have the plan")

    def test_damaged_plan(self) -> None:
        preview = preview_of(group(create("a")))
        preview["diagnostics"][0]["message"] = preview["diagnostics"][0]["message"][:-9]
        self.refused(json.dumps(preview), "damaged")

    def test_refresh_output(self) -> None:
        steps = [stack_step("refresh"), step("update", "Batch", inputs={"declared_by": "g"})]
        self.refused(json.dumps({"steps": steps, "changeSummary": {}}), "is a refresh")

    def test_preview_with_a_refresh(self) -> None:
        """Only the steps after the refresh belong to the update."""
        preview = preview_of(group(create("a")))
        gone = step("delete", "", inputs={"external_id": "z"})
        preview["steps"] = [stack_step("refresh"), gone, stack_step("same"), *preview["steps"]]
        assert set(rows(plan_of(preview))) == {"a"}

    def test_stream_of_events(self) -> None:
        events = [{"sequence": n, "timestamp": 1, "diagnosticEvent": {}} for n in range(3)]
        self.refused("\n".join(map(json.dumps, events)), "stream of events")

    def test_summary_only(self) -> None:
        found = {"result": "succeeded", "duration": 1, "summary": {"same": 5}, "resources": []}
        self.refused(json.dumps(found), "--output json")

    @pytest.mark.parametrize(
        "text", ["", "no json", "[]", '{"a": 1}', '{"duration": 1}', '{"steps": [', "{" * 10_000]
    )
    def test_unrelated_json(self, text: str) -> None:
        self.refused(text, "standard input is ")

    def test_undecodable_bytes(self) -> None:
        self.refused(b'{"steps": [\xff\xff', "is not text")

    def test_text_around_the_preview(self) -> None:
        preview = json.dumps(preview_of(group(create("a"))), indent=4)
        expected = plan(stdin=preview).stdout
        around = f"Installing {{things}}\n{{ not json\n{preview}\nUpdate plan written\n"
        assert plan(stdin=around).stdout == expected


class TestRemovedGroup:
    @pytest.mark.parametrize("kinds", [["Batch", "Membership"], ["Batch"]])
    def test_removed_group_deletes_its_setups(self, kinds: list[str]) -> None:
        """A destroy that ended half-way may have deleted its membership."""
        inputs = {"setups": {"a": setup()}, "owned": '["a"]', "declared_by": "g"}
        steps = [step("delete", kind, inputs=inputs) for kind in kinds]
        (found,) = read(json.dumps(preview_of(steps=steps)), "x").changes
        assert (found.change.action, found.change.external_id) == ("delete", "a")
        assert found.change.before == setup()

    def test_text_like_the_mask_looks_different(self) -> None:
        inputs = {
            "setups": {"literal": setup("[secret]"), "masked": "[secret]"},
            "shown": {"masked": setup("[secret]")},
            "owned": '["literal", "masked"]',
        }
        steps = [step("delete", "Batch", inputs=inputs)]
        found = rows(plan_of(preview_of(steps=steps)))
        assert found["literal"][1].startswith('k = "[secret]"\n')
        assert found["masked"][1].startswith("k = [secret]\n")


class TestInput:
    def test_files_make_sections(self) -> None:
        files = [str(DATA / "preview-create.json"), str(DATA / "preview-delete.json")]
        result = plan(*files, "--stack", "one", "--stack", "two")
        assert result.exit_code == 0
        headings = [line for line in result.stdout.splitlines() if line.startswith("### ")]
        assert headings == ["### Monitor setups of `one`", "### Monitor setups of `two`"]

    def test_utf16_as_powershell_writes_it(self) -> None:
        text = (DATA / "preview-create.json").read_text("utf-8")
        assert plan(stdin=text.encode("utf-16")).exit_code == 0

    @pytest.mark.parametrize(
        "arguments", [["nowhere.json"], ["--stack", "a", "--stack", "b"], ["--api-key", "k"]]
    )
    def test_wrong_usage(self, arguments: list[str]) -> None:
        assert plan(*arguments, stdin="{}").exit_code == 2

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("[secret]"),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "setups",
                            "selector",
                            "external_id",
                            "owned",
                            "inputs",
                            "key",
                            "packed_setups",
                            "zlib",
                        ]
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=12,
        )
    )
    @settings(max_examples=150, deadline=None)
    def test_odd_states_raise_no_traceback(self, state: Any) -> None:
        types = "pulumi-python:dynamic/traceloop:AutoMonitorSetup"
        steps = [
            {
                "op": op,
                "urn": "u",
                "oldState": {"type": types + kind, "inputs": state, "outputs": state},
                "newState": {"type": types + kind, "inputs": state},
            }
            for op in ("create", "update", "replace", "same", "delete")
            for kind in ("", "Batch", "Membership")
        ]
        result = plan(stdin=json.dumps({"steps": steps}))
        assert result.exception is None or isinstance(result.exception, SystemExit)
