"""`pulumi-traceloop export`: `cli/export.py`."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pulumi_traceloop import args
from pulumi_traceloop._models import SETUP, SETUP_SPEC, Setup
from pulumi_traceloop._naming import external_id_problem
from pulumi_traceloop.cli.app import cli
from pulumi_traceloop.cli.export import as_python, as_yaml, exportable, literal
from pulumi_traceloop.emulator import Emulator, Fault
from pulumi_traceloop.emulator.routes import LIST_ROUTE
from pulumi_traceloop.files import load_setups
from tests.support import API_KEY
from tests.support.setups import STORED_RULE
from tests.support.terminal import Run
from tests.support.world import World

#: External_ids and values that could break a program or a file.
NASTY = [
    "plain",
    "it's \"quoted\" '''",
    "two\nlines\r\n.",
    "back\\slash \\n",
    "ünïcödé 日本語 😀",
    "{braces} %s ${HOME} {{x}}",
    "null",
    "yes",
    "1.10",
    "<<",
    "# no comment: - x",
    "two  spaces",
    "\x1b[31mred\x07\x7f\x9b",
    "\u202eright to left\u2028\u200b\ufeff",
    "a/../b?c=d&e#f%20",
    "*",
    "[a-z]?",
    "x" * 200,
]


def setup_of(value: str, *evaluators: dict[str, str] | str) -> dict[str, Any]:
    """Return a setup's content with every operator."""
    selector: list[dict[str, Any]] = [
        {"key": f"k {value}", "source": "resource_attributes", "operator": operator}
        | ({"value": value} if operator in ("equals", "not_equals", "contains") else {})
        | ({"values": [value, "c", "b" * 60]} if operator in ("in", "not_in") else {})
        for operator in ("equals", "not_equals", "contains", "in", "not_in", "exists", "not_exists")
    ]
    selector.append(STORED_RULE | {"operator": "not_contains", "value": "x"})
    if evaluators and isinstance(evaluators[0], dict):
        return {"selector": selector, "evaluator_configs": list(evaluators)}
    return {"selector": selector, "evaluators": list(evaluators or ["faithfulness"])}


def fill(emulator: Emulator) -> None:
    for number, text in enumerate(NASTY):
        configs = [{"slug": "faithfulness", "scope": "trace"}, {"slug": "perplexity"}]
        content = setup_of(text, *(configs if number % 2 else []))
        emulator.put(text, **content)


class TestExport:
    @pytest.mark.not_sampled
    @pytest.mark.parametrize("form", ["python", "yaml"])
    def test_exported_setups_are_adopted_without_a_write(
        self, world: World, form: str, tmp_path: Path
    ) -> None:
        fill(world.traceloop)
        file = tmp_path / f"exported.{form}"
        done = CliRunner().invoke(
            cli,
            ["export", "--format", form, "--output", str(file)],
            env={"TRACELOOP_API_KEY": API_KEY, "TRACELOOP_BASE_URL": world.traceloop.url},
        )
        assert done.exit_code == 0, done.output
        assert done.stderr == f"{len(NASTY)} setups written to {file}\n"
        if form == "python":
            program = file.read_text("utf-8")
        else:
            program = (
                "from pulumi_traceloop import AutoMonitorSetupGroup\n"
                "from pulumi_traceloop.files import load_setups\n"
                f"AutoMonitorSetupGroup('monitors', load_setups({str(file)!r}))\n"
            )
        world.stack.write_program(program)
        before = world.traceloop.setups
        up = world.up()
        assert up.ops()["monitors"] == ("create", "create", "create")[: len(up.ops()["monitors"])]
        assert world.requests.keys() <= {"list", "get"}
        assert world.traceloop.writes == {}
        assert world.traceloop.setups == before
        assert world.up().changes.keys() == {"same"}
        world.refresh(expect_no_changes=True)
        assert world.traceloop.writes == {}

    def test_program_reads_as_if_written_by_hand(self, run: Run, emulator: Emulator) -> None:
        emulator.put("openai", selector=[STORED_RULE], evaluators=["faithfulness", "pii-detector"])
        rules: list[dict[str, Any]] = [
            {"key": "service.name", "source": "resource_attributes", "operator": "in"}
            | {"values": ["checkout", "cart"]},
            {"key": "gen_ai.request.model", "source": "span_attributes", "operator": "exists"},
        ]
        configs = [{"slug": "faithfulness", "scope": "trace"}, {"slug": "perplexity"}]
        emulator.put("cart-agent", selector=rules, evaluator_configs=configs)
        result = run("export")
        assert result.exit_code == 0
        assert (
            result.stdout
            == '''\
"""Monitor setups that Traceloop already had, written by `pulumi-traceloop export`.

The first `pulumi up` adopts them and sends nothing.
"""

import pulumi_traceloop as traceloop
from pulumi_traceloop import resource, span

traceloop.AutoMonitorSetupGroup(
    "monitors",
    setups={
        "cart-agent": {
            "selector": [
                resource("service.name").is_in("checkout", "cart"),
                span("gen_ai.request.model").exists(),
            ],
            "evaluator_configs": [
                {"slug": "faithfulness", "scope": "trace"},
                {"slug": "perplexity"},
            ],
        },
        "openai": {
            "selector": [span("gen_ai.system").equals("openai")],
            "evaluators": ["faithfulness", "pii-detector"],
        },
    },
)
'''
        )

    def test_program_is_formatted_as_ruff_does(self, run: Run, emulator: Emulator) -> None:
        fill(emulator)
        _assert_ruff(run("export").stdout_bytes)

    def test_long_lines_are_broken(self) -> None:
        frame = len('            "selector": [span("").exists()],')
        for length, lines in ((88 - frame, 1), (89 - frame, 3)):
            rules = [{"key": "k" * length, "source": "span_attributes", "operator": "exists"}]
            program = as_python(exportable([stored("a", rules)]).setups, "g")
            _assert_ruff(program.encode())
            assert (
                len(program.split('"evaluators"')[0].split('"a": {')[1].splitlines()) == lines + 2
            )

    def test_empty_project(self, run: Run) -> None:
        result = run("export", "--name", "it's")
        assert result.exit_code == 0
        assert "    setups={},\n" in result.stdout
        _assert_ruff(result.stdout_bytes)

    def test_selected_setups_only(self, run: Run, emulator: Emulator) -> None:
        for external_id in ("shop-a", "shop-b", "cart"):
            emulator.put(external_id, selector=[STORED_RULE], evaluators=["faithfulness"])
        assert run("export", "shop-*", "--format", "yaml").stdout.count("selector:") == 2
        result = run("export", "cart", "nowhere")
        assert result.exit_code == 1
        assert result.stderr == 'no setup "nowhere"\n'
        assert '"cart": {' in result.stdout
        nothing = run("export", "nowhere")
        assert (nothing.exit_code, nothing.stdout) == (1, "")

    def test_existing_file_is_overwritten_only_with_force(self, run: Run, tmp_path: Path) -> None:
        file = tmp_path / "monitors.py"
        file.write_text("mine")
        result = run("export", "--output", str(file))
        assert result.exit_code == 2
        assert result.stderr == f"error: {file} exists: --force overwrites it\n"
        assert file.read_text() == "mine"
        assert run("export", "--output", str(file), "--force").exit_code == 0
        assert file.read_text().startswith('"""Monitor setups')

    def test_unwritable_file(self, run: Run, tmp_path: Path) -> None:
        result = run("export", "--output", str(tmp_path / "no" / "folder.py"))
        assert result.exit_code == 2
        assert result.stderr.endswith("No such file or directory\n")

    def test_setups_that_no_program_can_declare_are_left_out_and_reported(self) -> None:
        setups = [
            stored("fine", [STORED_RULE]),
            stored("empty", []),
            stored("new-operator", [STORED_RULE | {"operator": "sounds_like"}]),
            stored("no-source", [{"key": "k", "operator": "exists"}]),
            stored("no-evaluator", [STORED_RULE], evaluators=()),
            stored("..", [STORED_RULE]),
        ]
        found = exportable(setups)
        assert found.setups.keys() == {"fine"}
        assert found.refused.keys() == {s.external_id for s in setups[1:]}
        assert "needs at least one rule" in found.refused["empty"]

    def test_left_out_setup_exits_with_1(self, run: Run, emulator: Emulator) -> None:
        emulator.put("a", selector=[STORED_RULE], evaluators=["faithfulness"])
        own = emulator.setups["a"]
        odd = own | {"id": "1", "external_id": "odd\x1b", "init_rules": []}
        emulator.inject(Fault(route=LIST_ROUTE, body=json.dumps([own, odd])))
        result = run("export")
        assert result.exit_code == 1
        assert result.stderr.startswith('left out "odd": selector needs at least one rule')

    def test_duplicates_and_additions_of_the_service_are_dropped(self) -> None:
        rule: dict[str, Any] = {**STORED_RULE, "values": []}
        setup = stored("a", [rule, rule], evaluators=("faithfulness", "faithfulness"))
        assert exportable([setup]).setups["a"]["evaluators"] == ["faithfulness"]

    _text = st.text(min_size=1, max_size=90).filter(
        lambda text: text.strip() and not any("\ud800" <= c <= "\udfff" for c in text)
    )

    @given(st.dictionaries(_text.filter(lambda i: not external_id_problem(i)), _text, max_size=6))
    @settings(max_examples=40, deadline=None)
    def test_any_text_survives_python(self, texts: dict[str, str]) -> None:
        setups = {
            i: SETUP.validate_python(
                {"id": "1", "external_id": i, "evaluators": [{"evaluator_type": value}]}
                | {"init_rules": setup_of(value)["selector"]}
            )
            for i, value in texts.items()
        }
        found = exportable(setups.values())
        assert found.refused == {}
        program = as_python(found.setups, "monitors")
        declared = declared_by(program)
        assert declared.keys() == texts.keys()
        for external_id, setup in setups.items():
            spec = SETUP_SPEC.validate_python(args.plain(declared[external_id]))
            assert spec.definition == setup.definition
        _assert_ruff(program.encode())

    @given(st.dictionaries(_text.filter(lambda i: not external_id_problem(i)), _text, max_size=6))
    @settings(max_examples=40, deadline=None)
    @example({"0": "0E0", "0\x85\u20280": "~", "null": "on", "a: b": "1e3", "=": "0o7", "y": "N"})
    def test_any_text_survives_yaml(
        self, tmp_path_factory: pytest.TempPathFactory, texts: dict[str, str]
    ) -> None:
        setups = {i: setup_of(value, value) for i, value in texts.items()}
        file = tmp_path_factory.mktemp("yaml") / "monitors.yaml"
        file.write_bytes(as_yaml(setups).encode())
        assert load_setups(file) == setups

    @given(st.text(max_size=40))
    def test_literals_evaluate_to_their_text(self, text: str) -> None:
        assert ast.literal_eval(literal(text)) == text
        assert literal(text).isprintable()


def stored(
    external_id: str, rules: list[dict[str, Any]], evaluators: tuple[str, ...] = ("faithfulness",)
) -> Setup:
    return SETUP.validate_python(
        {"id": "1", "external_id": external_id, "init_rules": rules}
        | {"evaluators": [{"evaluator_type": slug} for slug in evaluators]}
    )


def declared_by(program: str) -> dict[str, Any]:
    """Run an exported program and return the setups that it declares."""
    found: dict[str, Any] = {}

    class Package:
        span = staticmethod(args.span)
        resource = staticmethod(args.resource)

        @staticmethod
        def AutoMonitorSetupGroup(name: str, setups: dict[str, Any]) -> None:  # noqa: N802
            found.update(setups)

    builtins = {"__import__": lambda *_: Package}
    exec(compile(program, "exported", "exec"), {"__builtins__": builtins})
    return found


def _assert_ruff(program: bytes) -> None:
    for command in (["format", "--check", "--diff"], ["check", "--select", "E4,E7,E9,F,I"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", "--no-cache", "-"],
            input=program,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
