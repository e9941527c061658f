"""`traceloop:matchSpans`: what a preview says of real spans, end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests

from pulumi_traceloop.emulator import Fault
from tests.conftest import World
from tests.test_emulator_spans import attributes
from tests.test_plan_scenarios import lines

SPANS = "GET /v2/warehouse/spans"
TRAFFIC = {"openai": 6, "anthropic": 2}


def document(traffic: dict[str, int] = TRAFFIC, *, start: int = 1_780_000_000) -> dict[str, Any]:
    """OTLP as JSON: so many spans of each provider, ten minutes apart."""
    providers = [provider for provider, count in traffic.items() for _ in range(count)]
    spans = [
        {
            "traceId": f"{n + 1:032x}",
            "spanId": f"{n + 1:016x}",
            "name": "chat",
            "startTimeUnixNano": str((start + 600 * n) * 10**9),
            "endTimeUnixNano": str((start + 600 * n + 1) * 10**9),
            "attributes": attributes(
                {"gen_ai.provider.name": provider, "gen_ai.prompt.0.content": "planted-4711"}
            ),
        }
        for n, provider in enumerate(providers)
    ]
    resource = {"attributes": attributes({"service.name": "shop"})}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}


def send(world: World, traffic: dict[str, int] = TRAFFIC) -> None:
    """Have the emulated project record the spans, as if they had just come."""
    import time

    start = int(time.time()) - 600 * sum(traffic.values())
    response = requests.post(
        f"{world.traceloop.url}/v1/traces",
        json=document(traffic, start=start),
        headers={"Authorization": f"Bearer {world.traceloop.api_key}"},
        timeout=10,
    )
    response.raise_for_status()


def count(output: str, text: str) -> int:
    """How many lines have it; the CLI shows each as it comes, and again at the end."""
    return output.rpartition("Diagnostics:")[2].count(text)


PROGRAM = """
def by(key, value, *evaluators):
    return {
        "selector": [span(key).equals(value)], "evaluators": list(evaluators or ["faithfulness"]),
    }
AutoMonitorSetup("single", **by("gen_ai.provider.name", "anthropic"))
AutoMonitorSetup("off", **by("gen_ai.system", "openai"))
group("g", {
    "chat": by("gen_ai.provider.name", "openai", "faithfulness", "perplexity"),
    "typo": by("gen_ai.provider.name", "opnai"),
})
"""


class TestPreview:
    def test_each_new_setup_says_what_it_matches(self, world: World) -> None:
        send(world)
        world.stack.set_config("traceloop:matchSpans", "24h")
        preview = world.preview(PROGRAM)
        told = lines(preview.output)
        named = 'gen_ai.provider.name = "{}" {} matches '
        assert (
            "+ single " + named.format("anthropic", "faithfulness") + "2 of 8 spans (24 h)" in told
        )
        assert (
            '+ off gen_ai.system = "openai" faithfulness matches none of 8: no span has'
            " gen_ai.system; 8 have gen_ai.provider.name (openai 6, anthropic 2)" in told
        )
        assert (
            "+ chat " + named.format("openai", "faithfulness, perplexity") + "6 of 8 spans (24 h)"
            in told
        )
        assert any(line.startswith("+ typo") and "none of 8: no span" in line for line in told)
        assert "about 12 evaluations a day: matched spans x evaluators" in told
        assert "planted" not in preview.output
        # One bounded read for all of them.
        assert world.requests[SPANS] == 1

    def test_an_update_reads_no_span(self, world: World) -> None:
        send(world)
        world.stack.set_config("traceloop:matchSpans", "24h")
        up = world.up(PROGRAM)
        assert SPANS not in world.requests
        assert "matches" not in up.output
        assert "matches" not in world.stack.state_text()

    def test_nothing_is_read_where_nothing_changes_or_nobody_asks(self, world: World) -> None:
        send(world)
        assert "matches" not in world.preview(PROGRAM).output
        assert SPANS not in world.requests
        world.up(PROGRAM)
        world.stack.set_config("traceloop:matchSpans", "24h")
        world.preview(PROGRAM)
        assert SPANS not in world.requests
        told = lines(world.preview(PROGRAM.replace("opnai", "openai")).output)
        assert (
            '~ typo gen_ai.provider.name = "opnai" -> "openai" matches 6 of 8 spans (24 h)' in told
        )

    def test_a_file(self, world: World) -> None:
        """A relative path begins at the program's folder."""
        (world.stack.project_dir / "spans.json").write_text(json.dumps(document()))
        world.stack.set_config("traceloop:matchSpans", "spans.json")
        told = lines(world.preview(PROGRAM).output)
        assert any(line.endswith("matches 6 of 8 spans (1.2 h)") for line in told)
        assert SPANS not in world.requests

    def test_secrets_and_what_is_not_known(self, world: World) -> None:
        send(world)
        world.stack.set_config("traceloop:matchSpans", "24h")
        world.stack.set_config("word", "anthropik", secret=True)
        program = """
r = one("single")
group("g", {
    "secret": {"selector": [span("gen_ai.provider.name").equals(config.require_secret("word"))],
        "evaluators": ["faithfulness"]},
    "key": {"selector": [span(config.require_secret("word")).exists()],
        "evaluators": ["faithfulness"]},
    "unknown": {"selector": [span("a").equals(r.setup_id.apply(str))],
        "evaluators": ["faithfulness"]},
})
"""
        preview = world.preview(program)
        told = lines(preview.output)
        assert (
            "+ secret gen_ai.provider.name = [secret] faithfulness matches none of 8: no span has"
            " gen_ai.provider.name with such a value" in told
        )
        assert any("none of 8 spans" in line for line in told if line.startswith("+ key"))
        assert "+ unknown a = <unknown> faithfulness" in told
        assert "anthropik" not in preview.output


class TestWhatCannotBeRead:
    @pytest.mark.parametrize(
        "fault",
        [
            Fault(route=SPANS, status=403, times=None),
            Fault(route=SPANS, status=503, times=None),
            Fault(drop="before", times=None),
            Fault(route=SPANS, body="{}", times=None),
        ],
        ids=["refused", "busy", "down", "broken"],
    )
    def test_an_outage_is_one_line(self, world: World, fault: Fault) -> None:
        world.stack.set_config("traceloop:matchSpans", "24h")
        world.stack.set_config("traceloop:deadline", "2")
        world.traceloop.inject(fault)
        preview = world.preview(PROGRAM)
        assert count(preview.output, "spans were not read") == 1
        assert "+ off gen_ai.system" in " ".join(lines(preview.output))

    def test_no_span_is_one_line(self, world: World) -> None:
        world.stack.set_config("traceloop:matchSpans", "24h")
        preview = world.preview(PROGRAM)
        assert count(preview.output, "Traceloop recorded no span in this time") == 1
        assert "matches" not in preview.output

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            (None, "neither a duration such as 24h nor a file"),
            ("no spans", "invalid JSON"),
            ("", "no span"),
        ],
    )
    def test_an_unusable_file(
        self, world: World, tmp_path: Path, text: str | None, why: str
    ) -> None:
        file = tmp_path / "spans.json"
        if text is not None:
            file.write_text(text)
        world.stack.set_config("traceloop:matchSpans", str(file))
        output = world.preview(PROGRAM).output
        assert count(output, "spans were not read: ") == 1
        assert why in output


class TestMaxEvaluations:
    PROGRAM = PROGRAM.replace('"opnai"),\n}', '"opnai"),\n}, max_evaluations=LIMIT')

    def test_over_the_limit_the_preview_fails(self, world: World) -> None:
        send(world)
        world.stack.set_config("traceloop:matchSpans", "24h")
        output = world.preview(self.PROGRAM.replace("LIMIT", "11"), fails=True).output
        assert "about 12 evaluations a day" in output
        assert "max_evaluations allows 11: chat 12." in output
        assert world.requests[SPANS] == 1
        world.preview(self.PROGRAM.replace("LIMIT", "12"))

    def test_of_a_single_setup(self, world: World) -> None:
        send(world)
        world.stack.set_config("traceloop:matchSpans", "24h")
        program = """AutoMonitorSetup("m", selector=[span("gen_ai.provider.name").exists()],
            evaluators=["faithfulness"], max_evaluations=7)"""
        assert "allows 7: m 8." in world.preview(program, fails=True).output

    def test_without_spans_it_says_that_nothing_is_checked(
        self, world: World, tmp_path: Path
    ) -> None:
        program = self.PROGRAM.replace("LIMIT", "0")
        assert count(world.preview(program).output, "max_evaluations is not checked") == 1
        file = tmp_path / "spans.json"
        # They cover ten minutes: that says nothing about a day.
        file.write_text(json.dumps(document({"openai": 2})))
        world.stack.set_config("traceloop:matchSpans", str(file))
        assert count(world.preview(program).output, "max_evaluations is not checked") == 1

    @pytest.mark.parametrize("limit", ["-1", "'many'", "True"])
    def test_a_limit_that_is_none(self, world: World, limit: str) -> None:
        output = world.preview(self.PROGRAM.replace("LIMIT", limit), fails=True).output
        assert "must be a number of evaluations a day" in output
