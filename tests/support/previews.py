"""Previews, recorded or generated, and the pull-request comments made from them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from markdown_it import MarkdownIt

from pulumi_traceloop._plan import ASKED, Change, ResourcePlan, encoded
from pulumi_traceloop.cli.app import cli
from pulumi_traceloop.emulator import Emulator
from tests.engine import make_stack
from tests.engine.cli import CliStack
from tests.support import DATA
from tests.support.terminal import import_path
from tests.support.world import PREAMBLE

SECRET = "s3cret-value-0815"

NASTY = 'a|b`c\n@octocat <img src=x> **#1** \\| {"é"} \x1b[31m'

#: The programs that the samples are previews of; each after an `up` of what `BEFORE` has.
PROGRAMS = {
    "create": """
r = one("single")
one("kept", opts=pulumi.ResourceOptions(retain_on_delete=True))
one("old-name")
one("hidden", config.require_secret("word"))
group("g", {
    "same": setup(), "changed": setup(), "leaves": setup("x"), "moves": setup("y"),
    "secret": setup(config.require_secret("word")),
    "unknown": setup(r.setup_id.apply(lambda _: "an id")),
    "refused": setup("z", "no-such-evaluator"), NASTY: setup("x", "no-such-evaluator"),
})
""",
    "change": """
one("single", "azure", "faithfulness", "perplexity")
one("moves", "y")
one("new-name", external_id="old-name")
one("hidden", config.require_secret("word").apply(lambda word: word + "!"))
group("g", {
    "same": setup(), "changed": {
        "selector": [span("gen_ai.system").is_in("openai", "azure"), resource("env").exists()],
        "evaluator_configs": [{"slug": "faithfulness", "scope": "trace"}],
    },
    "secret": setup(config.require_secret("word")), "unknown": setup("known now"),
    "refused": setup("z", "faithfulness"), NASTY: setup("x", "perplexity"), "new": setup("n"),
})
""",
    "delete": "",
    "broken": """
one("single", "azure")
raise ValueError("this program is broken")
""",
    "pending": 'group("g", {"stays": setup()})\none("single", external_id="new")',
    "again": """
one("single", "x", "perplexity", wait_for_setup=True)
one("edited", "y", "perplexity", wait_for_setup=True)
one("hidden", config.require_secret("word"), "perplexity", wait_for_setup=True)
group("waits", {
    "late": setup("x", "perplexity"), "late-edited": setup("y", "perplexity"), "well": setup(),
    "late-secret": setup(config.require_secret("word"), "perplexity"),
}, wait_for_setup=True)
group("tried", {"refused": setup("b", "no-such-evaluator"), "mended": setup("b"),
    "put-back": setup("a")})
""",
}

#: How the previews are made.
FLAGS = ["--json", "--show-sames", "--show-replacement-steps"]

#: The programs that were deployed before each preview.
BEFORE = {
    "create": (),
    **dict.fromkeys(["change", "delete", "broken"], (PROGRAMS["create"],)),
    # Deletes that the service refuses.
    "pending": (
        'group("g", {"stays": setup(), "leaves": setup()})\none("single", external_id="old")',
    ),
    # Refused changes of setups that were in place, and setups that failed to provision.
    "again": (
        'group("tried", {i: setup("a") for i in ("refused", "mended", "put-back", "gone")})',
        PROGRAMS["again"].replace('"y"', '"x"').partition('group("tried"')[0]
        + """
ids = ("refused", "mended", "put-back", "gone")
group("tried", {i: setup("b", "no-such-evaluator") for i in ids})
""",
    ),
}


def sample(name: str) -> dict[str, Any]:
    """Return the recorded preview of a program in `PROGRAMS`."""
    found: dict[str, Any] = json.loads((DATA / f"preview-{name}.json").read_text("utf-8"))
    return found


def plan(*arguments: str, stdin: str | bytes | None = None) -> Result:
    """Run `pulumi-traceloop plan` in this process."""
    return CliRunner().invoke(cli, ["plan", *arguments], input=stdin)


def plan_of(preview: object, *arguments: str) -> str:
    """Return the comment made from a preview."""
    result = plan(*arguments, stdin=json.dumps(preview))
    assert result.exit_code == 0, result.output
    return result.stdout


def rows(comment: str) -> dict[str, list[str]]:
    """Return the cells of each setup's row, as GitHub's readers see them."""
    found = {}
    for cells in Tables(comment).rows:
        assert len(cells) in (4, 5), cells
        setup = cells[1].split("\n")
        # Only some comments have a column for the group.
        found[setup[0]] = [cells[0], *cells[-2:], "\n".join(setup[1:])]
    return found


class Tables(HTMLParser):
    """The text of the cells of all tables in a piece of Markdown."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self._cell: list[str] | None = None
        self.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self._cell = []
        elif tag == "br" and self._cell is not None:
            self._cell.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == "td" and self._cell is not None:
            self.rows[-1].append("".join(self._cell))
            self._cell = None
        elif tag == "thead":
            del self.rows[-1]

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)


def diagnostics(preview: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = preview.get("diagnostics", [])
    return found


RULE = {"key": "k", "source": "span_attributes", "operator": "exists"}


def setup(value: str = "openai") -> str:
    rule = {"key": "k", "source": "span_attributes", "value": value}
    return json.dumps({"selector": [rule], "evaluators": ["e"]})


def create(external_id: str, after: str | None = None) -> Change:
    return Change("create", external_id, after=after or setup())


def group(*changes: Change, owner: str = 'AutoMonitorSetupGroup "g"', **more: Any) -> ResourcePlan:
    return ResourcePlan(owner, list(changes), **{"namespace": "traceloop", **more})


def step(op: str, kind: str, **state: Any) -> dict[str, Any]:
    """Return a step about a resource, whose state is *state*."""
    side = "oldState" if op.startswith("delete") else "newState"
    types = f"pulumi-python:dynamic/traceloop:AutoMonitorSetup{kind}"
    return {"op": op, "urn": f"urn:pulumi:dev::p::{types}::g", side: {"type": types, **state}}


def stack_step(op: str) -> dict[str, Any]:
    types = "pulumi:pulumi:Stack"
    return {"op": op, "urn": f"urn:pulumi:dev::p::{types}::p-dev", "newState": {"type": types}}


def preview_of(*plans: ResourcePlan, steps: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """Return the preview of groups with these plans."""
    updates = [step("update", "Batch", inputs={"declared_by": found.owner}) for found in plans]
    return {
        "steps": [*updates, *steps],
        "diagnostics": [{"severity": "info", "message": f"{encoded(p)}\n\n"} for p in plans],
        "changeSummary": {"update": len(plans)},
    }


def open_stack(directory: Path, traceloop: Emulator) -> CliStack:
    """Return a stack on the CLI, configured for the emulator and with a secret."""
    stack = make_stack("cli", directory, env={"PYTHONPATH": import_path()})
    assert isinstance(stack, CliStack)
    stack.set_config("traceloop:baseUrl", traceloop.url)
    stack.set_config("traceloop:apiKey", traceloop.api_key, secret=True)
    stack.set_config("test-project:word", SECRET, secret=True)
    return stack


def write(stack: CliStack, program: str) -> None:
    """Write a program that has the names of all scenarios, and `NASTY`."""
    stack.write_program(f"{PREAMBLE}\nNASTY = {NASTY!r}\n{program}")


def run_preview(stack: CliStack, *flags: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the CLI's preview with the provider's plans; the caller checks the exit code."""
    return run_pulumi(stack, "preview", *flags, **env)


def run_pulumi(stack: CliStack, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run an operation of the CLI with the provider's plans; the caller checks the exit code."""
    return subprocess.run(
        [stack._cli, *arguments, "-s", "dev", "--non-interactive"],
        cwd=stack.project_dir,
        env=stack._env | dict([ASKED]) | env,
        capture_output=True,
        text=True,
        check=False,
    )
