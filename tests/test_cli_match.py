"""`pulumi-traceloop match`: which monitors see traffic, and if not, why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pulumi_traceloop._codec import packed
from pulumi_traceloop.args import canonical
from pulumi_traceloop.cli.app import Runtime, cli
from pulumi_traceloop.cli.selectors import from_file
from tests.support import API_KEY
from tests.support.span_service import PLANTED, SpanService, page

SPANS = str(Path(__file__).parent / "data" / "spans" / "openllmetry-0.62.4.jsonl")

MONITORS = """\
setups:
  old-key:
    selector: [{key: gen_ai.system, source: span_attributes, value: openai}]
    evaluators: [faithfulness]
  openai:
    selector: [{key: gen_ai.provider.name, source: span_attributes, value: openai}]
    evaluators: [faithfulness]
"""

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in an empty folder, without an API key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRACELOOP_API_KEY", raising=False)
    (tmp_path / "monitors.yaml").write_text(MONITORS)

    def invoke(*arguments: str, **env: str) -> Result:
        runtime = Runtime(now=lambda: datetime(2026, 11, 26, 12, tzinfo=timezone.utc))
        result = CliRunner().invoke(cli, ["match", *arguments], env=env, obj=runtime)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return invoke


class TestFiles:
    def test_prints_a_table(self, run: Run) -> None:
        result = run("monitors.yaml", "--spans", SPANS)
        assert result.stdout == (
            "SETUP    MATCHED  SHARE  WHY NOT\n"
            "old-key  0 of 12  0%     no span has gen_ai.system; 6 have gen_ai.provider.name"
            " (openai 4, anthropic 2)\n"
            "openai   4 of 12  33%\n"
        )
        assert result.stderr == (
            "1 of 2 monitors match none of 12 spans (2026-11-26 07:42 to 2026-11-26 07:43 UTC)\n"
        )
        assert result.exit_code == 1

    def test_matching_setups_exit_with_0(self, run: Run) -> None:
        result = run("monitors.yaml", "openai", "--spans", SPANS)
        assert result.stderr.startswith("every one of 1 monitors matches some of 12 spans")
        assert result.exit_code == 0

    def test_text_like_a_placeholder_is_a_value(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "monitors.yaml").write_text(
            MONITORS.replace("value: openai", 'value: "[secret]"')
        )
        result = run("monitors.yaml", "--spans", SPANS, "--json")
        openai = json.loads(result.stdout)["setups"][1]
        assert (openai["matched"], openai["undecided"]) == (0, 0)
        assert openai["rules"][0]["present"] == 6

    @pytest.mark.parametrize("pattern", ["old-key", "old-*"])
    def test_setup_that_is_expected_to_match_nothing(self, run: Run, pattern: str) -> None:
        result = run("monitors.yaml", "--spans", SPANS, "--allow-none", pattern)
        assert "(openai 4, anthropic 2); allowed" in result.stdout
        assert result.stderr.startswith(
            "1 of 2 monitors match some of 12 spans, 1 allowed to match none ("
        )
        assert result.exit_code == 0

    def test_unknown_external_id(self, run: Run) -> None:
        result = run("monitors.yaml", "openai", "other", "--spans", SPANS)
        assert result.stdout.splitlines()[-1] == "other   missing"
        assert result.exit_code == 1

    def test_same_external_id_in_two_files(self, run: Run) -> None:
        """With other rules it is another monitor."""
        Path("b.yaml").write_text(MONITORS.replace("gen_ai.system", "gen_ai.provider.name"))
        result = run("monitors.yaml", "b.yaml", "--spans", SPANS)
        assert [line.split("  ")[0] for line in result.stdout.splitlines()[1:]] == [
            "old-key (monitors.yaml)",
            "old-key (b.yaml)",
            "openai",
        ]
        assert result.exit_code == 1
        allowed = run("monitors.yaml", "b.yaml", "--spans", SPANS, "--allow-none", "old-key")
        assert allowed.exit_code == 0

    def test_json(self, run: Run) -> None:
        result = run("monitors.yaml", "--spans", SPANS, "--json")
        document = json.loads(result.stdout)
        assert document["spans"] == 12
        assert document["period"][0] == "2026-11-26T07:42:56+00:00"
        assert document["silent"] == ["old-key"]
        old, new = document["setups"]
        assert (new["matched"], new["share"], new["reasons"]) == (4, 0.3333, [])
        assert old["rules"] == [
            {
                "key": "gen_ai.system",
                "source": "span_attributes",
                "operator": "equals",
                "present": 0,
                "matched": 0,
                "undecided": 0,
                "excluded_alone": 12,
            }
        ]
        assert old["reasons"][0]["near"][0]["values"] == {"openai": 4, "anthropic": 2}

    def test_markdown(self, run: Run) -> None:
        result = run("monitors.yaml", "--spans", SPANS, "--markdown")
        assert result.stdout.splitlines() == [
            "1 of 2 monitors match none of 12 spans (2026-11-26 07:42 to 2026-11-26 07:43 UTC).",
            "",
            "| | Setup | Matched | Share | Why not |",
            "|---|---|---|---|---|",
            (
                "| **none** | `old-key` | 0 of 12 | 0% | `no span has gen_ai.system; 6 have"
                " gen_ai.provider.name (openai 4, anthropic 2)` |"
            ),
            "|  | `openai` | 4 of 12 | 33% |  |",
        ]

    def test_markdown_stays_below_githubs_limit(self, run: Run) -> None:
        rule = "[{key: k, source: span_attributes, value: x}]"
        setups = [f"  m-{n}: {{selector: {rule}, evaluators: [perplexity]}}" for n in range(2000)]
        Path("many.yaml").write_text("\n".join(["setups:", *setups]))
        text = run("many.yaml", "--spans", SPANS, "--markdown").stdout
        assert len(text) < 61_000
        rows = sum(line.startswith("| **none**") for line in text.splitlines())
        assert text.endswith(f"and {2000 - rows:,} more\n")

    def test_rule_about_content_is_undecided(self, run: Run) -> None:
        rule = "{key: gen_ai.input.messages, source: span_attributes, operator: contains, value: x}"
        Path("m.yaml").write_text(
            f"setups: {{m: {{selector: [{rule}], evaluators: [pii-detector]}}}}"
        )
        result = run("m.yaml", "--spans", SPANS)
        assert "up to 5 of 12" in result.stdout
        assert result.stderr.startswith("0 of 1 monitors match some of 12 spans, 1 may match some")
        assert "gen_ai.input.messages holds end-user content" in result.stdout
        assert result.exit_code == 0

    def test_malformed_line_is_a_warning(self, run: Run) -> None:
        Path("spans.jsonl").write_text(Path(SPANS).read_text() + f'{{"{PLANTED}\n')
        result = run("monitors.yaml", "openai", "--spans", "spans.jsonl")
        assert "warning: spans.jsonl:13: invalid JSON" in result.stderr
        assert PLANTED not in result.output
        assert result.exit_code == 0

    @pytest.mark.parametrize("form", [[], ["--json"], ["--markdown"]])
    def test_no_format_has_the_content_of_end_users(self, run: Run, form: list[str]) -> None:
        keys = [
            "gen_ai.input.messages",
            "gen_ai.prompt.0.content",
            "traceloop.entity.output",
            "traceloop.association.properties.user_id",
            "acme.notes",
        ]
        attributes = [{"key": key, "value": {"stringValue": PLANTED}} for key in keys]
        attributes[-1]["value"] = {"stringValue": PLANTED * 100}
        span = {"name": PLANTED, "attributes": attributes, "events": [{"name": PLANTED}]}
        document = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
        Path("spans.json").write_text(json.dumps(document))
        rules = [
            {"key": key, "source": source, "operator": operator, "value": "no such value"}
            for key in [*keys, "acme.note"]
            for source in ("span_attributes", "resource_attributes")
            for operator in ("equals", "contains", "not_equals")
        ]
        setups = {
            f"m-{n}": {"selector": [rule], "evaluators": ["x"]} for n, rule in enumerate(rules)
        }
        Path("m.json").write_text(json.dumps({"setups": setups}))
        result = run("m.json", "--spans", "spans.json", *form)
        assert "acme.notes" in result.output
        assert PLANTED not in result.output
        assert "no such value" not in result.output

    @pytest.mark.parametrize(
        "arguments",
        [
            ["missing.yaml", "--spans", SPANS],
            ["monitors.yaml", "--spans", "missing.jsonl"],
            ["monitors.yaml", "--spans", "monitors.yaml"],
            ["monitors.yaml"],  # no key
            ["--spans", SPANS],  # no key
            ["monitors.yaml", "--since", "1h", "--spans", SPANS],
            ["monitors.yaml", "--since", "soon"],
            ["monitors.yaml", "--since", "0h"],
            ["monitors.yaml", "--spans", SPANS, "--json", "--markdown"],
            [SPANS, "--spans", SPANS],
        ],
    )
    def test_unusable_arguments(self, run: Run, arguments: list[str]) -> None:
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""


def step(kind: str, op: str = "create", **inputs: Any) -> dict[str, Any]:
    state = {"type": f"pulumi-python:dynamic/traceloop:{kind}", "inputs": inputs}
    return {"op": op, "newState": state}


def selector(key: str, value: object = "openai") -> dict[str, Any]:
    rule = {"key": key, "source": "span_attributes", "value": value}
    return {"selector": [rule], "evaluators": ["faithfulness"]}


class TestPreviews:
    @pytest.mark.parametrize(
        ("name", "count", "hidden"),
        [
            ("preview-create.json", 12, {"hidden", "secret", "unknown"}),
            ("preview-change.json", 11, {"hidden", "secret"}),
            ("preview-again.json", 10, {"hidden", "late-secret"}),
            ("preview-delete.json", 0, set()),
        ],
    )
    def test_recorded_preview(self, name: str, count: int, hidden: set[str]) -> None:
        declared = from_file(Path(__file__).parent / "data" / name)
        found = {each.external_id: each.selector for each in declared}
        assert len(found) == count
        assert {i for i, selector in found.items() if selector.partly_hidden} == hidden
        assert all(selector.rules for i, selector in found.items() if i not in hidden)

    @pytest.fixture
    def preview(self, tmp_path: Path) -> Callable[..., str]:
        def write(*steps: dict[str, Any], before: str = "", **more: Any) -> str:
            text = before + json.dumps({"steps": steps, **more})
            (tmp_path / "preview.json").write_text(text)
            return "preview.json"

        return write

    def test_setups_after_the_update(self, run: Run, preview: Callable[..., str]) -> None:
        name = preview(
            step("AutoMonitorSetup", external_id="one", **selector("gen_ai.provider.name")),
            step("AutoMonitorSetup", "delete", external_id="gone", **selector("x")),
            step("AutoMonitorSetupBatch", "same", setups={"two": canonical(selector("x"))}),
            {"op": "create", "newState": {"type": "pulumi:pulumi:Stack"}},
        )
        result = run(name, "--spans", SPANS)
        assert [line.split()[0] for line in result.stdout.splitlines()] == ["SETUP", "two", "one"]

    def test_failed_preview_is_refused(self, run: Run, preview: Callable[..., str]) -> None:
        """It may have failed before it reached the other setups."""
        name = preview(
            step("AutoMonitorSetup", external_id="one", **selector("gen_ai.provider.name")),
            diagnostics=[{"severity": "error", "message": "no"}],
        )
        result = run(name, "--spans", SPANS)
        assert result.exit_code == 2
        assert result.stderr == "error: preview.json is a preview that failed: it may lack setups\n"

    def test_preview_without_unchanged_setups_is_refused(
        self, run: Run, preview: Callable[..., str]
    ) -> None:
        name = preview(
            {"op": "same", "newState": {"type": "pulumi:pulumi:Stack"}},
            step("AutoMonitorSetup", external_id="one", **selector("gen_ai.provider.name")),
            changeSummary={"create": 1, "same": 2},
        )
        result = run(name, "--spans", SPANS)
        assert result.exit_code == 2
        assert "preview.json lacks the unchanged resources" in result.stderr
        assert "pulumi preview --json --show-sames" in result.stderr

    def test_output_before_the_preview_is_skipped(
        self, run: Run, preview: Callable[..., str]
    ) -> None:
        one = step("AutoMonitorSetup", external_id="one", **selector("gen_ai.provider.name"))
        result = run(preview(one, before="Previewing ...\n"), "--spans", SPANS)
        assert result.stdout.splitlines()[1].startswith("one    4 of 12")
        assert result.exit_code == 0

    @pytest.mark.parametrize("op", ["read", "read-replacement", "discard", "refresh", "same"])
    def test_resources_that_only_read_a_setup_are_left_out(
        self, run: Run, preview: Callable[..., str], op: str
    ) -> None:
        """Then no setup is left, which is no success."""
        got = step("AutoMonitorSetup", op, external_id="one", **selector("x"))
        if op == "same":
            got["newState"]["external"] = True
        result = run(preview(got), "--spans", SPANS)
        assert result.stderr.startswith("there is no monitor")
        assert result.exit_code == 1

    def test_same_external_id_in_two_namespaces(
        self, run: Run, preview: Callable[..., str]
    ) -> None:
        batches = [
            step(
                "AutoMonitorSetupBatch",
                setups={"m": canonical(selector(key)), "equal": canonical(selector("x"))},
                config_namespace=namespace,
            )
            for namespace, key in (("one", "y"), ("two", "gen_ai.provider.name"))
        ]
        result = run(preview(*batches), "--spans", SPANS)
        displayed = [line.partition("  ")[0] for line in result.stdout.splitlines()[1:]]
        assert displayed == ["equal", "m (one)", "m (two)"]

    def test_large_group(self, run: Run, preview: Callable[..., str]) -> None:
        many = packed({f"m-{n}": canonical(selector("gen_ai.provider.name")) for n in range(400)})
        result = run(preview(step("AutoMonitorSetupBatch", packed_setups=many)), "--spans", SPANS)
        assert "every one of 400 monitors matches some of 12 spans" in result.stderr

    def test_secret_values_are_undecided(self, run: Run, preview: Callable[..., str]) -> None:
        known = selector("gen_ai.provider.name")
        shown = {**known, "selector": [*known["selector"], *selector("a", "[secret]")["selector"]]}
        name = preview(
            step(
                "AutoMonitorSetupBatch",
                setups={"partly": "[secret]", "wholly": "[secret]"},
                shown={"partly": canonical(shown)},
            ),
            step("AutoMonitorSetup", external_id="none", **selector("a", "[secret]")),
        )
        result = run(name, "--spans", SPANS)
        assert "partly  up to 4 of 12" in result.stdout
        assert "wholly  up to 12 of 12" in result.stdout
        assert "none    up to 12 of 12" in result.stdout
        assert result.exit_code == 0
        assert {each.external_id for each in from_file(Path(name))} == {"none", "partly", "wholly"}

    def test_json_file_of_setups_is_accepted(self, run: Run) -> None:
        Path("monitors.json").write_text(json.dumps({"setups": {"m": selector("x")}}))
        assert run("monitors.json", "--spans", SPANS).stdout.splitlines()[1].startswith("m ")


class TestTraceloop:
    @pytest.fixture
    def warehouse(self) -> Iterator[SpanService]:
        with SpanService() as served:
            served.pages = {"": page(3, "more"), "more": page(2)}
            rule = {"key": "gen_ai.system", "source": "span_attributes", "value": "openai"}
            served.setups = [
                {
                    "id": external_id,
                    "external_id": external_id,
                    "env_project_id": "ours",
                    "init_rules": [{**rule, "operator": operator}],
                }
                for external_id, operator in (("m", "equals"), ("n", "not_exists"))
            ]
            yield served

    @pytest.fixture
    def online(self, run: Run, warehouse: SpanService) -> Run:
        def invoke(*arguments: str) -> Result:
            result = run(*arguments, TRACELOOP_API_KEY=API_KEY, TRACELOOP_BASE_URL=warehouse.url)
            assert API_KEY not in result.output
            assert PLANTED not in result.output
            return result

        return invoke

    def test_setups_of_the_project(self, online: Run, warehouse: SpanService) -> None:
        result = online("--since", "2h")
        assert result.stdout.splitlines()[1:] == [
            "n      0 of 5   0%     every span has gen_ai.system",
            "m      5 of 5   100%",
        ]
        assert result.exit_code == 1
        noon = int(datetime(2026, 11, 26, 12, tzinfo=timezone.utc).timestamp())
        assert warehouse.queries[0]["from_timestamp_sec"] == str(noon - 7200)

    def test_default_period_is_a_day(self, online: Run, warehouse: SpanService) -> None:
        assert online("m").exit_code == 0
        noon = int(datetime(2026, 11, 26, 12, tzinfo=timezone.utc).timestamp())
        assert warehouse.queries[0]["from_timestamp_sec"] == str(noon - 86_400)

    def test_file_of_setups_against_the_projects_spans(self, online: Run) -> None:
        result = online("monitors.yaml", "--limit", "4")
        assert "old-key  4 of 4" in result.stdout
        assert "openai   0 of 4" in result.stdout

    def test_no_spans_were_recorded(self, online: Run, warehouse: SpanService) -> None:
        warehouse.pages = {"": page(0)}
        result = online("m")
        assert "m      0 of 0" in result.stdout
        assert result.stderr == (
            "warning: Traceloop recorded no span in this time, in the environment of the API key\n"
            "1 of 1 monitors match none of 0 spans\n"
        )
        assert result.exit_code == 1

    @pytest.mark.parametrize("form", ["--json", "--markdown"])
    def test_no_format_has_the_content_of_end_users(self, online: Run, form: str) -> None:
        assert "gen_ai.system" in online(form).stdout  # `online` asserts that it is absent
