"""`traceloop:matchSpans`: matches in a preview, end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests

from pulumi_traceloop.emulator import Fault
from tests.support.otlp import attributes
from tests.support.world import World, lines

SPANS = "GET /v2/warehouse/spans"
TRAFFIC = {"openai": 6, "anthropic": 2}


def document(traffic: dict[str, int] = TRAFFIC, *, start: int = 1_780_000_000) -> dict[str, Any]:
    """Return OTLP as JSON: so many spans of each provider, within ten minutes."""
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
    """Send the spans to the emulated project, as if they were new."""
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
    """Return how many lines have the text; the CLI prints each at once and again at the end."""
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
    def test_each_new_setup_has_its_matches(self, world: World) -> None:
        send(world)
        world.stack.set_config("traceloop:matchSpans", "24h")
        preview = world.preview(PROGRAM)
        printed = lines(preview.output)
        named = 'gen_ai.provider.name = "{}" {} matches '
        assert (
            "+ single " + named.format("anthropic", "faithfulness") + "2 of 8 spans (24 h)"
            in printed
        )
        assert (
            '+ off gen_ai.system = "openai" faithfulness matches none of 8: no span has'
            " gen_ai.system; 8 have gen_ai.provider.name (openai 6, anthropic 2)" in printed
        )
        assert (
            "+ chat " + named.format("openai", "faithfulness, perplexity") + "6 of 8 spans (24 h)"
            in printed
        )
        assert any(line.startswith("+ typo") and "none of 8: no span" in line for line in printed)
        assert "about 12 evaluations a day: matched spans x evaluators" in printed
        assert "planted" not in preview.output
        # One bounded read for all of them.
        assert world.requests[SPANS] == 1

    def test_update_reads_no_spans(self, world: World) -> None:
        send(world)
        world.stack.set_config("traceloop:matchSpans", "24h")
        up = world.up(PROGRAM)
        assert SPANS not in world.requests
        assert "matches" not in up.output
        assert "matches" not in world.stack.state_text()

    def test_no_spans_are_read_without_changes_or_the_setting(self, world: World) -> None:
        send(world)
        assert "matches" not in world.preview(PROGRAM).output
        assert SPANS not in world.requests
        world.up(PROGRAM)
        world.stack.set_config("traceloop:matchSpans", "24h")
        world.preview(PROGRAM)
        assert SPANS not in world.requests
        printed = lines(world.preview(PROGRAM.replace("opnai", "openai")).output)
        assert (
            '~ typo gen_ai.provider.name = "opnai" -> "openai" matches 6 of 8 spans (24 h)'
            in printed
        )

    def test_spans_from_a_file(self, world: World) -> None:
        """A relative path begins at the program's folder."""
        (world.stack.project_dir / "spans.json").write_text(json.dumps(document()))
        world.stack.set_config("traceloop:matchSpans", "spans.json")
        printed = lines(world.preview(PROGRAM).output)
        assert any(line.endswith("matches 6 of 8 spans (1.2 h)") for line in printed)
        assert SPANS not in world.requests

    def test_secrets_and_unknowns(self, world: World) -> None:
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
        printed = lines(preview.output)
        assert (
            "+ secret gen_ai.provider.name = [secret] faithfulness matches none of 8: no span has"
            " gen_ai.provider.name with such a value" in printed
        )
        assert any("none of 8 spans" in line for line in printed if line.startswith("+ key"))
        assert "+ unknown a = <unknown> faithfulness" in printed
        assert "anthropik" not in preview.output


@pytest.mark.not_sampled
class TestUnreadableSpans:
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
    def test_outage_is_one_line(self, world: World, fault: Fault) -> None:
        world.stack.set_config("traceloop:matchSpans", "24h")
        world.stack.set_config("traceloop:deadline", "2")
        world.traceloop.inject(fault)
        preview = world.preview(PROGRAM)
        assert count(preview.output, "spans were not read") == 1
        assert "+ off gen_ai.system" in " ".join(lines(preview.output))

    def test_no_spans_are_one_line(self, world: World) -> None:
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
    def test_unusable_file(self, world: World, tmp_path: Path, text: str | None, why: str) -> None:
        file = tmp_path / "spans.json"
        if text is not None:
            file.write_text(text)
        world.stack.set_config("traceloop:matchSpans", str(file))
        output = world.preview(PROGRAM).output
        assert count(output, "spans were not read: ") == 1
        assert why in output


@pytest.mark.not_sampled
class TestMaxEvaluations:
    PROGRAM = PROGRAM.replace('"opnai"),\n}', '"opnai"),\n}, max_evaluations=LIMIT')

    def test_preview_over_the_limit_fails(self, world: World) -> None:
        send(world)
        world.stack.set_config("traceloop:matchSpans", "24h")
        output = world.preview(self.PROGRAM.replace("LIMIT", "11"), fails=True).output
        assert "about 12 evaluations a day" in output
        assert "max_evaluations allows 11: chat 12." in output
        assert world.requests[SPANS] == 1
        world.preview(self.PROGRAM.replace("LIMIT", "12"))

    def test_limit_of_a_single_setup(self, world: World) -> None:
        send(world)
        world.stack.set_config("traceloop:matchSpans", "24h")
        program = """AutoMonitorSetup("m", selector=[span("gen_ai.provider.name").exists()],
            evaluators=["faithfulness"], max_evaluations=7)"""
        assert "allows 7: m 8." in world.preview(program, fails=True).output

    def test_without_spans_nothing_is_checked(self, world: World, tmp_path: Path) -> None:
        program = self.PROGRAM.replace("LIMIT", "0")
        assert count(world.preview(program).output, "max_evaluations is not checked") == 1
        file = tmp_path / "spans.json"
        # They cover ten minutes, which gives no daily figure.
        file.write_text(json.dumps(document({"openai": 2})))
        world.stack.set_config("traceloop:matchSpans", str(file))
        assert count(world.preview(program).output, "max_evaluations is not checked") == 1

    @pytest.mark.parametrize("limit", ["-1", "'many'", "True"])
    def test_invalid_limit(self, world: World, limit: str) -> None:
        output = world.preview(self.PROGRAM.replace("LIMIT", limit), fails=True).output
        assert "must be a number of evaluations a day" in output
