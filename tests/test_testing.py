"""Helpers for users' tests of programs: `testing.py`."""

from __future__ import annotations

import asyncio
import gc
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime.settings import SETTINGS

from pulumi_traceloop import (
    AutoMonitorSetup,
    AutoMonitorSetupArgs,
    AutoMonitorSetupGroup,
    get_auto_monitor_setup,
    span,
)
from pulumi_traceloop.spans.matching import Span
from pulumi_traceloop.spans.sources import SpanFileError
from pulumi_traceloop.testing import (
    assert_matches,
    assert_matches_nothing,
    declared_setups,
    load_spans,
    surveys,
)
from tests.support import CAPTURED
from tests.support.terminal import python

OPENAI: Any = {
    "selector": [span("gen_ai.provider.name").equals("openai")],
    "evaluators": ["faithfulness"],
}
OLD: Any = {"selector": [span("gen_ai.system").equals("openai")], "evaluators": ["faithfulness"]}

MONITORS = """\
setups:
  from-file:
    selector: [{key: gen_ai.provider.name, source: span_attributes, value: anthropic}]
    evaluators: [faithfulness]
"""


@pytest.fixture(scope="module")
def spans() -> Any:
    return load_spans(CAPTURED)


@pytest.fixture
def loop() -> Iterator[None]:
    """The event loop that an Output needs outside of a program."""
    opened = asyncio.new_event_loop()
    asyncio.set_event_loop(opened)
    yield
    opened.run_until_complete(asyncio.gather(*asyncio.all_tasks(opened)))
    asyncio.set_event_loop(None)
    opened.close()


class TestAssertions:
    @pytest.mark.parametrize(
        "setups",
        [
            OPENAI,
            {"openai": OPENAI},
            AutoMonitorSetupArgs(**OPENAI),
            {"openai": AutoMonitorSetupArgs(**OPENAI), "again": OPENAI},
        ],
    )
    def test_matching_setups_pass(self, setups: Any, spans: Any) -> None:
        assert_matches(setups, spans)
        with pytest.raises(AssertionError, match="4 of 12"):
            assert_matches_nothing(setups, spans)

    def test_failure_has_the_near_misses(self, spans: Any) -> None:
        with pytest.raises(AssertionError) as caught:
            assert_matches({"openai": OPENAI, "old": OLD}, spans)
        assert str(caught.value) == (
            "1 of 2 setups match no span:\n"
            "  old: 0 of 12; no span has gen_ai.system; 6 have gen_ai.provider.name (openai 4,"
            " anthropic 2)"
        )

    def test_setups_that_match_nothing(self, spans: Any) -> None:
        assert_matches_nothing(OLD, spans)
        assert_matches({"openai": OPENAI, "old": OLD}, spans, allow_none=["ol*"])

    def test_undecided_setups_fail_both_assertions(self, spans: Any) -> None:
        rule = span("gen_ai.input.messages").contains("refund")
        setups: Any = {"m": {"selector": [rule], "evaluators": ["faithfulness"]}}
        for assertion in (assert_matches, assert_matches_nothing):
            with pytest.raises(AssertionError, match="holds end-user content"):
                assertion(setups, spans)

    def test_file_of_setups(self, spans: Any, tmp_path: Path) -> None:
        (tmp_path / "monitors.yaml").write_text(MONITORS)
        assert_matches(tmp_path / "monitors.yaml", spans)
        assert_matches(str(tmp_path / "monitors.yaml"), str(CAPTURED))

    def test_spans_given_by_the_test(self) -> None:
        assert_matches(OPENAI, [Span({"gen_ai.provider.name": "openai"})])

    def test_surveys(self, spans: Any) -> None:
        assert {i: s.matched for i, s in surveys({"a": OPENAI, "b": OLD}, spans).items()} == {
            "a": 4,
            "b": 0,
        }

    @pytest.mark.parametrize(
        ("setups", "reason"),
        [
            (lambda _: {}, "no setups given"),
            (lambda output: {"m": {"selector": output([])}}, 'setup "m": the selector is unknown'),
            (lambda output: {"m": OPENAI, "n": output(OPENAI)}, 'setup "n": the selector is'),
            (
                lambda output: {"selector": [span("a").equals(output("b"))]},
                "the selector is unknown",
            ),
        ],
    )
    @pytest.mark.usefixtures("loop")
    def test_unusable_arguments(
        self, setups: Callable[[Any], Any], reason: str, spans: Any
    ) -> None:
        with pytest.raises(TypeError, match=reason):
            assert_matches(setups(pulumi.Output.from_input), spans)


class TestSpans:
    def test_malformed_line_is_a_warning(self, tmp_path: Path) -> None:
        path = tmp_path / "spans.jsonl"
        path.write_text(CAPTURED.read_text() + "{\n")
        with pytest.warns(UserWarning, match=r"spans\.jsonl:13: invalid JSON"):
            assert len(load_spans(path)) == 12

    def test_no_spans_are_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()
        with pytest.raises(SpanFileError):
            load_spans(tmp_path / "empty")


class TestPrograms:
    def test_singles_groups_and_files(self, tmp_path: Path, spans: Any) -> None:
        (tmp_path / "monitors.yaml").write_text(MONITORS)

        def program() -> None:
            provider = pulumi.Output.secret("openai")
            secret: Any = {**OPENAI, "selector": [span("gen_ai.provider.name").equals(provider)]}
            AutoMonitorSetup("single", **OPENAI)
            AutoMonitorSetup("named", external_id="other-name", **secret)
            AutoMonitorSetupGroup("group", {"member": OPENAI, "secret": secret})
            AutoMonitorSetupGroup("many", {f"m-{n}": OLD for n in range(300)})
            AutoMonitorSetupGroup.from_file(tmp_path / "monitors.yaml")
            AutoMonitorSetup.get("read", "unmanaged")

        setups = declared_setups(program)
        many = {f"m-{n}" for n in range(300)}
        assert setups.keys() == many | {"single", "other-name", "member", "secret", "from-file"}
        assert_matches(setups, spans, allow_none=["m-*"])
        assert_matches_nothing({i: setups[i] for i in many}, spans)

    def test_file_of_a_program(self, tmp_path: Path) -> None:
        (tmp_path / "monitors.py").write_text("NAME = 'of-the-module'\n")
        (tmp_path / "__main__.py").write_text(
            "import pulumi\nfrom monitors import NAME\n"
            "from pulumi_traceloop import AutoMonitorSetup, span\n"
            "model = pulumi.Config().require('model')\n"
            "AutoMonitorSetup(NAME, selector=[span('m').equals(model)], evaluators=['x'])\n"
            "AutoMonitorSetup(pulumi.get_stack(), selector=[span('m').exists()],"
            " evaluators=['x'])\n"
        )
        setups = declared_setups(
            tmp_path / "__main__.py", config={"shop:model": "gpt"}, project="shop", stack="dev"
        )
        assert setups["of-the-module"]["selector"][0]["value"] == "gpt"
        assert "dev" in setups

    def test_modules_of_a_program_do_not_stay(self, tmp_path: Path) -> None:
        """Each program, and each run, imports its own ones."""
        for name in ("shop", "search"):
            folder = tmp_path / name
            folder.mkdir()
            (folder / "monitors.py").write_text(
                "import pulumi\nfrom pulumi_traceloop import AutoMonitorSetup, span\n"
                "model = pulumi.Config().require('model')\n"
                f"AutoMonitorSetup({name!r}, selector=[span('m').equals(model)],"
                " evaluators=['x'])\n"
            )
            (folder / "parts").mkdir()
            (folder / "parts" / "rest.py").write_text("import monitors\n")
            (folder / "__main__.py").write_text("from parts import rest\n")
        for name, model in (("shop", "a"), ("shop", "b"), ("search", "b")):
            program = tmp_path / name / "__main__.py"
            setups = declared_setups(program, config={"project:model": model})
            assert [(i, s["selector"][0]["value"]) for i, s in setups.items()] == [(name, model)]
        assert not {"monitors", "parts", "parts.rest"} & sys.modules.keys()

    def test_libraries_below_the_program_stay(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Some cannot be imported twice."""
        libraries = tmp_path / ".venv" / "site-packages"
        libraries.mkdir(parents=True)
        (libraries / "library_below.py").touch()
        (tmp_path / "__main__.py").write_text("import library_below\n")
        monkeypatch.syspath_prepend(libraries)
        assert declared_setups(tmp_path / "__main__.py") == {}
        assert sys.modules.pop("library_below", None) is not None

    def test_exception_of_the_program_is_raised(self) -> None:
        def program() -> None:
            raise LookupError("no such thing")

        with pytest.raises(LookupError, match="no such thing"):
            declared_setups(program)

    def test_engine_of_the_test_is_restored(self) -> None:
        before = SETTINGS.monitor, pulumi.get_project(), pulumi.Config("a").get("b")
        declared_setups(lambda: None, config={"a:b": "c"}, project="another")
        assert (SETTINGS.monitor, pulumi.get_project(), pulumi.Config("a").get("b")) == before

    def test_no_event_loop_stays_open(self) -> None:
        gc.collect()  # leftovers of other tests
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            declared_setups(lambda: AutoMonitorSetup("m", **OPENAI))
            gc.collect()
        assert [str(each.message) for each in found if each.category is ResourceWarning] == []


class Own(pulumi.runtime.Mocks):
    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        return "id-of-ours", {**args.inputs, "setup_id": "s-1"}

    def call(self, args: pulumi.runtime.MockCallArgs) -> Any:
        return {"selector": [{"key": "theirs", "source": "span_attributes", "value": "x"}]}


class TestMocks:
    def test_under_set_mocks(self) -> None:
        """In a separate process: the SDK leaves event loops open in its worker threads."""
        code = f"""
import pulumi
from pulumi_traceloop import AutoMonitorSetup, AutoMonitorSetupGroup, span
from pulumi_traceloop.testing import SetupMocks, assert_matches, load_spans

mocks = SetupMocks()
pulumi.runtime.set_mocks(mocks)
OPENAI = {{"selector": [span("gen_ai.provider.name").equals("openai")], "evaluators": ["x"]}}

@pulumi.runtime.test
def program():
    AutoMonitorSetup("single", **OPENAI)
    AutoMonitorSetupGroup("group", {{"member": OPENAI}})

program()
assert_matches(mocks.setups, load_spans({str(CAPTURED)!r}))
print(sorted(mocks.setups))
"""
        done = python("-c", code)
        assert done.stdout == "['member', 'single']\n", done.stderr

    def test_with_custom_mocks(self) -> None:
        seen: list[str] = []

        def program() -> None:
            theirs = get_auto_monitor_setup("other")
            one = AutoMonitorSetup("m", selector=theirs.selector, evaluators=["x"])
            one.setup_id.apply(seen.append)

        setups = declared_setups(program, mocks=Own())
        assert setups["m"]["selector"][0]["key"] == "theirs"
        assert seen == ["s-1"]
