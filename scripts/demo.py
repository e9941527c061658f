"""`make demo`: the example project's life, from the first preview to its end.

It runs on the Pulumi CLI where there is one, else on the test engine, against the emulator, in a
temporary folder with a PULUMI_HOME of its own. It checks what it shows, and any surprise ends it.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from pulumi_traceloop.emulator import Emulator
from scripts.pulumi_cli import provide
from tests.engine import Result, Stack, make_stack

EXAMPLE = Path(__file__).parent.parent / "examples" / "pulumi-app"

#: The evaluator that the project does not have yet when the program first asks for it.
HOUSE_EVALUATOR = "refund-policy"


class SurpriseError(Exception):
    """What the demo shows is not what it says."""


def main() -> int:
    """Run the demo; 0 if all went as told."""
    missing = provide()
    if missing:
        print(f"No Pulumi CLI: {missing}. Running on the test engine instead.")
    with tempfile.TemporaryDirectory() as folder, Emulator() as traceloop:
        stack = make_stack(
            "test-engine" if missing else "cli", Path(folder), stack="demo", source=EXAMPLE
        )
        stack.set_config("traceloop:baseUrl", traceloop.url)
        stack.set_config("traceloop:apiKey", traceloop.api_key, secret=True)
        try:
            _story(stack, traceloop)
        except SurpriseError as surprise:
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
