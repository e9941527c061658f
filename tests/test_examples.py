"""Every monitor in the README, the docs, the examples and the docstrings matches traffic.

Readers copy them, so they are tried on spans of Traceloop's current SDKs.
"""

from __future__ import annotations

import ast
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from pulumi_traceloop import FileError, resource, span
from pulumi_traceloop.emulator import Emulator
from pulumi_traceloop.files import SCHEMA, load_setups
from pulumi_traceloop.spans.matching import Rule, SpanIndex
from tests.engine import make_stack
from tests.support import API_KEY, PACKAGE, REPOSITORY
from tests.telemetry import captures

#: spans.md has monitors that match nothing; test_docs_spans.py runs it.
PAGES = [
    REPOSITORY / "README.md",
    *(path for path in sorted((REPOSITORY / "docs").glob("*.md")) if path.name != "spans.md"),
]
MODULES = sorted(PACKAGE.rglob("*.py"))

#: A fenced block of code in a docstring.
_FENCE = re.compile(r"^( *)```\w+\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)

#: A rule as plans write it.
_SHOWN = re.compile(r"([a-z_]+(?:\.[a-z_0-9]+)+) (?:!?=|in \(|contains|exists)")


@pytest.fixture(scope="module")
def index() -> SpanIndex:
    return captures.index(*captures.CURRENT)


def blocks(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the code in a page, or in a module's docstrings: its place and its text."""
    if path.suffix == ".md":
        for token in MarkdownIt("commonmark").parse(path.read_text(encoding="utf-8")):
            if token.type == "fence" and token.map:
                yield f"{path.name}:{token.map[0] + 1}", token.content
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            for _, text in _FENCE.findall(ast.get_docstring(node) or ""):
                yield f"{path.name}:{getattr(node, 'name', '')}", textwrap.dedent(text)


def selectors_in_python(text: str) -> Iterator[list[Any]]:
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        values = [node.value] if isinstance(node, ast.keyword) and node.arg == "selector" else []
        if isinstance(node, ast.Dict):
            values += [
                value
                for key, value in zip(node.keys, node.values, strict=True)
                if isinstance(key, ast.Constant) and key.value == "selector"
            ]
        yield from (evaluated(value) for value in values if isinstance(value, ast.List))


def evaluated(node: ast.List) -> list[Any]:
    code = compile(ast.Expression(node), "example", "eval")
    rules = eval(code, {"span": span, "resource": resource})
    assert isinstance(rules, list)
    return rules


def selectors_in_yaml(text: str, folder: Path) -> Iterator[list[Any]]:
    if not re.search("^setups:", text, re.MULTILINE):
        return
    file = folder / "example.yaml"
    file.write_text(text, encoding="utf-8")
    try:
        setups = load_setups(file)
    except FileError:
        return  # the example of an invalid file
    yield from (setup["selector"] for setup in setups.values())


def as_rule(rule: Any) -> Rule:
    given = rule if isinstance(rule, dict) else vars(rule)
    return Rule(**{name: given[name] for name in Rule._fields if given.get(name) is not None})


def silent(selectors: dict[str, list[Any]], index: SpanIndex) -> dict[str, str]:
    """Return the selectors that match nothing, and why."""
    surveys = {name: index.survey(map(as_rule, rules)) for name, rules in selectors.items()}
    return {name: str(survey) for name, survey in surveys.items() if not survey.matched}


def test_pages_and_docstrings_match_traffic(index: SpanIndex, tmp_path: Path) -> None:
    selectors = {
        f"{where} ({number})": rules
        for path in [*PAGES, *MODULES]
        for where, text in blocks(path)
        for number, rules in enumerate(
            [*selectors_in_python(text), *selectors_in_yaml(text, tmp_path)]
        )
    }
    assert {where.partition(":")[0] for where in selectors} >= {
        "README.md",
        "cli.md",
        "yaml.md",
        "__init__.py",
        "resources.py",
        "group.py",
        "files.py",
    }
    assert silent(selectors, index) == {}


def test_file_of_monitors_matches_traffic(index: SpanIndex) -> None:
    setups = load_setups(REPOSITORY / "examples" / "monitors.yaml")
    assert silent({i: setup["selector"] for i, setup in setups.items()}, index) == {}


def test_example_program_matches_traffic(index: SpanIndex, tmp_path: Path) -> None:
    with Emulator(api_key=API_KEY) as traceloop:
        source = REPOSITORY / "examples" / "pulumi-app"
        stack = make_stack("test-engine", tmp_path, source=source)
        stack.set_config("traceloop:baseUrl", traceloop.url)
        stack.set_config("traceloop:apiKey", traceloop.api_key, secret=True)
        assert stack.up().exit_code == 0
        selectors = {i: setup["init_rules"] for i, setup in traceloop.setups.items()}
    assert len(selectors) == 13
    assert silent(selectors, index) == {}


def test_attributes_in_sample_plans_are_emitted() -> None:
    displayed = {
        key
        for path in [*PAGES, *MODULES]
        for key in _SHOWN.findall(path.read_text(encoding="utf-8"))
        if key.startswith(("gen_ai.", "traceloop.", "llm.", "service.", "deployment."))
    }
    assert "gen_ai.request.model" in displayed
    assert displayed - emitted(*captures.CURRENT) == set()


def test_schema_suggests_emitted_attributes_and_warns_of_old_ones() -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    choices = [
        choice
        for definition in schema["$defs"].values()
        for choice in definition.get("properties", {}).get("key", {}).get("anyOf", [])
    ]
    suggested = {key for choice in choices for key in choice.get("enum", [])}
    deprecated = {choice["const"] for choice in choices if choice.get("deprecated")}
    current, old = emitted("shop-python-0.62.4", "shop-node-0.27.0"), emitted(*captures.OLD)
    assert {"gen_ai.provider.name", "gen_ai.request.model", "service.name"} <= suggested & current
    assert deprecated & current == set()
    assert "gen_ai.system" in deprecated & old


def emitted(*names: str) -> set[str]:
    return {
        key
        for each in captures.spans(*names)
        for key in (*each.span_attributes, *each.resource_attributes)
    }


def test_monitor_for_an_older_sdk_would_be_found(index: SpanIndex) -> None:
    old = [span("gen_ai.system").equals("openai"), resource("service.name").equals("checkout")]
    assert list(silent({"old": old}, index)) == ["old"]
    assert silent({"old": old}, captures.index(*captures.OLD)) == {}
