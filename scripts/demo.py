"""`make demo`: the example project's life, from the first preview to its end.

It runs on the Pulumi CLI if available, else on the test engine, against the emulator, in a
temporary folder with a separate PULUMI_HOME. Services that Traceloop's SDK instruments send spans;
without the SDK, captured spans are sent. The demo checks what it displays, and any surprise ends it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from pulumi_traceloop.emulator import Emulator
from scripts.pulumi_cli import provide
from tests.engine import Result, Stack, make_stack
from tests.telemetry.captures import send_captured
from tests.telemetry.instrumented import ProgramError, has_sdk, run_all, service

EXAMPLE = Path(__file__).parent.parent / "examples" / "pulumi-app"

#: The evaluator that the project does not have yet when the program first asks for it.
HOUSE_EVALUATOR = "refund-policy"

#: The services that send spans, and the monitors that watch them.
SERVICES = ("checkout", "shopping-assistant")
WATCHING = ("checkout-agent", "assistant-*")


class SurpriseError(Exception):
    """The demo's output differs from its description."""


def main() -> int:
    """Run the demo; return 0 if all checks passed."""
    missing = provide()
    if missing:
        print(f"No Pulumi CLI: {missing}. Running on the test engine instead.")
    with tempfile.TemporaryDirectory() as folder, Emulator(spans_needed=1) as traceloop:
        stack = make_stack(
            "test-engine" if missing else "cli", Path(folder), stack="demo", source=EXAMPLE
        )
        stack.set_config("traceloop:baseUrl", traceloop.url)
        stack.set_config("traceloop:apiKey", traceloop.api_key, secret=True)
        try:
            _story(stack, traceloop)
        except (SurpriseError, ProgramError) as surprise:
            print(f"\nThe demo failed: {surprise}", file=sys.stderr)
            return 1
    print("\nAll of this was checked while it ran.")
    return 0


def _story(stack: Stack, traceloop: Emulator) -> None:
    preview = _run(
        "The first preview: what would be created; Traceloop is only read.",
        "pulumi preview",
        stack.preview,
    )
    _expect("monitors: 12 to create" in preview.output, "the plan does not say what is created")
    _expect(not traceloop.writes, "a preview wrote something")

    up = _run("The update: one bulk request for the whole group.", "pulumi up", stack.up)
    count = len(traceloop.setups)
    _expect(len(up.outputs["setup_ids"]) == count - 1, "a setup is missing")
    _expect(traceloop.requests["POST /v2/auto-monitor-setups/bulk"] == 1, "more than one request")

    traceloop.reset_counts()
    _run("Again: nothing changed, nothing is sent.", "pulumi up", stack.up)
    _expect(not traceloop.requests, "something was sent though nothing changed")

    _traffic(stack, traceloop)

    traceloop.reset_counts()
    stack.set_config("chatModel", "gpt-5")
    preview = _run(
        "A new model behind the assistant: the preview shows it.",
        "pulumi config set chatModel gpt-5 && pulumi preview",
        stack.preview,
    )
    _expect('"gpt-4o" -> "gpt-5"' in preview.output, "the preview does not show the change")
    _run("The update sends the two setups that name the model.", "pulumi up", stack.up)
    changed = {"assistant-quality", "assistant-canary"}
    _expect(set(traceloop.writes) == changed, f"{set(traceloop.writes)} were written")

    traceloop.reset_counts()
    stack.set_config("houseEvaluator", HOUSE_EVALUATOR)
    stack.set_config("chatModel", "gpt-5-mini")
    up = _run(
        "An evaluator that the project does not have, and another new model: the setup with the"
        " evaluator is refused, the others are in place.",
        f"pulumi config set houseEvaluator {HOUSE_EVALUATOR}\n"
        "$ pulumi config set chatModel gpt-5-mini && pulumi up",
        stack.up,
        fails=True,
    )
    _expect('"refunds": unknown evaluator slug' in up.output, "the error does not name the setup")
    _expect(set(traceloop.writes) == changed, "the refused setup stopped others")

    traceloop.reset_counts()
    traceloop.add_evaluator(HOUSE_EVALUATOR)
    _run(
        "Somebody adds the evaluator in Traceloop: the next update sends only what failed.",
        "pulumi up",
        stack.up,
    )
    _expect(set(traceloop.writes) == {"refunds"}, f"{set(traceloop.writes)} were written")

    traceloop.put(
        "search-answers",
        selector=[{"key": "service.name", "value": "search", "source": "resource_attributes"}],
        evaluators=["faithfulness"],
    )
    traceloop.delete("support-email")
    traceloop.reset_counts()
    refresh = _run(
        "Somebody changed one monitor by hand and deleted another: a refresh finds out.",
        "pulumi refresh",
        stack.refresh,
    )
    _expect("update" in refresh.ops()["monitors"], "the refresh did not see the drift")
    _run("The update puts both back.", "pulumi up", stack.up)
    _expect(set(traceloop.writes) == {"search-answers", "support-email"}, "not both are back")

    _run("The end: every monitor goes.", "pulumi destroy", stack.destroy)
    _expect(not traceloop.setups, f"{sorted(traceloop.setups)} are left")


def _traffic(stack: Stack, traceloop: Emulator) -> None:
    program = stack.project_dir / "__main__.py"
    right = program.read_text(encoding="utf-8")
    program.write_text(
        right.replace('span("gen_ai.provider.name")', 'span("gen_ai.system")'), encoding="utf-8"
    )
    preview = _run(
        "Somebody copies a selector that was right for older SDKs. It is valid, but there is a"
        " warning.",
        """sed -i 's/"gen_ai.provider.name"/"gen_ai.system"/' __main__.py && pulumi preview""",
        stack.preview,
    )
    _expect('"gen_ai.system" (in "checkout-agent") is deprecated' in preview.output, "no warning")
    _run("It is merged all the same.", "pulumi up", stack.up)
    _services(traceloop, SERVICES)
    status = _command("Its monitor sees none of it.", 0, traceloop, "status", *WATCHING)
    _expect("waiting_for_spans" in status, "no monitor waits")
    _expect(traceloop.setups["checkout-agent"]["status"] == "waiting_for_spans", "it sees spans")
    match = _command(
        "Why? The selectors are tried on the spans that were recorded.",
        1,
        traceloop,
        *("match", "--since", "1h", *WATCHING),
    )
    _expect("no span has gen_ai.system" in match, "it does not say why")
    _expect("have gen_ai.provider.name (" in match, "it does not say what to name instead")

    program.write_text(right, encoding="utf-8")
    preview = _run("The repair, in the preview ...", "pulumi preview", stack.preview)
    _expect("gen_ai.provider.name" in preview.output, "the preview does not show the repair")
    _run("... and in place.", "pulumi up", stack.up)
    _services(traceloop, SERVICES[:1])
    _command(
        "The monitors exist now: enough spans have matched.",
        0,
        traceloop,
        *("status", "--wait", "--timeout", "60", *WATCHING),
    )


def _services(traceloop: Emulator, services: Sequence[str]) -> None:
    """Let the services call a model, and send their spans."""
    before = len(traceloop.spans)
    names = " and ".join(services)
    if has_sdk():
        print(f"\n# Traffic of {names}, instrumented with Traceloop's SDK.", flush=True)
        run_all(map(service, services), base_url=traceloop.url, api_key=traceloop.api_key)
    else:
        print(f"\n# Captured traffic of {names}, since the SDK is not installed.")
        send_captured(services, base_url=traceloop.url, api_key=traceloop.api_key)
    print(f"{len(traceloop.spans) - before} spans received.", flush=True)


def _command(title: str, exit_code: int, traceloop: Emulator, *arguments: str) -> str:
    """Run the command `pulumi-traceloop`."""
    shown = " ".join(f"'{word}'" if "*" in word else word for word in arguments)
    print(f"\n# {title}\n$ pulumi-traceloop {shown}\n", flush=True)
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "pulumi_traceloop.cli", *arguments],
        env={
            **os.environ,
            "TRACELOOP_BASE_URL": traceloop.url,
            "TRACELOOP_API_KEY": traceloop.api_key,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout.rstrip(), flush=True)
    _expect(done.returncode == exit_code, f"exit code {done.returncode}")
    return done.stdout


def _run(
    title: str, command: str, operation: Callable[[], Result], *, fails: bool = False
) -> Result:
    print(f"\n# {title}\n$ {command}\n", flush=True)
    result = operation()
    print(result.output.rstrip(), flush=True)
    _expect((result.exit_code != 0) is fails, f"exit code {result.exit_code}")
    return result


def _expect(truth: bool, otherwise: str) -> None:
    if not truth:
        raise SurpriseError(otherwise)


if __name__ == "__main__":
    sys.exit(main())
