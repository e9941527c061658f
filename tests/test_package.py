"""The names that the package exports, and what importing them imports."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

import pulumi_traceloop
from pulumi_traceloop.emulator import Emulator
from tests.support import API_KEY
from tests.support.terminal import python


def _imported(program: str) -> set[str]:
    """Return the modules that a new interpreter has imported after *program*."""
    code = f"import json, sys\n{program}\nprint(json.dumps(sorted(sys.modules)))"
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


class TestPackage:
    @pytest.mark.parametrize("name", pulumi_traceloop.__all__)
    def test_exported_names_resolve(self, name: str) -> None:
        exported = getattr(pulumi_traceloop, name)
        assert getattr(exported, "__name__", name) == name  # a union has no name

    def test_all_is_sorted_and_complete(self) -> None:
        assert pulumi_traceloop.__all__ == [
            "AutoMonitorSetup",
            "AutoMonitorSetupArgs",
            "AutoMonitorSetupArgsDict",
            "AutoMonitorSetupGroup",
            "AutoMonitorSetupResult",
            "EvaluatorConfigArgs",
            "EvaluatorConfigArgsDict",
            "EvaluatorConfigOutput",
            "EvaluatorResult",
            "FileError",
            "InputError",
            "SelectorRuleArgs",
            "SelectorRuleArgsDict",
            "SelectorRuleOutput",
            "SelectorRuleResult",
            "SetupOutput",
            "TraceloopError",
            "get_auto_monitor_setup",
            "get_auto_monitor_setup_output",
            "list_auto_monitor_setups",
            "list_auto_monitor_setups_output",
            "resource",
            "span",
        ]

    def test_other_names_are_attribute_errors(self) -> None:
        with pytest.raises(AttributeError, match="no attribute 'AutoMonitorSetups'"):
            pulumi_traceloop.AutoMonitorSetups  # type: ignore[attr-defined]  # noqa: B018

    def test_importing_the_package_imports_no_dependency(self) -> None:
        """pytest loads the plugin in every run of any project."""
        heavy = {"pulumi", "requests", "urllib3", "pydantic", "aiohttp"}
        assert heavy & _imported("import pulumi_traceloop") == set()

    def test_program_imports_neither_client_nor_emulator(self) -> None:
        heavy = {"requests", "pydantic", "aiohttp", "pulumi_traceloop.spans.matching"}
        code = "from pulumi_traceloop import AutoMonitorSetup, AutoMonitorSetupGroup, files, span"
        assert heavy & _imported(code) == set()

    def test_provider_imports_dependencies_on_demand(self) -> None:
        """A provider process pays for each import at every start; here nothing has changed."""
        heavy = {"requests", "urllib3", "pydantic", "aiohttp", "pulumi_traceloop.spans"}
        group = {"setups": {"a": "{}"}, "packed_setups": {"00": '{"b":{}}'}, "declared_by": "g"}
        code = f"""
from pulumi.dynamic import ConfigureRequest
from pulumi_traceloop.providers import AutoMonitorSetupBatchProvider
provider = AutoMonitorSetupBatchProvider()
provider.configure(ConfigureRequest(type("Config", (), {{"get": lambda *_: None}})()))
assert provider.check({group}, {group}).failures == []
assert provider.diff("g", {group}, {group}).changes is False
"""
        assert heavy & _imported(code) == set()

    def test_preview_of_new_setups_imports_no_models(self, traceloop: Emulator) -> None:
        config = {"traceloop:baseUrl": traceloop.url, "traceloop:apiKey": API_KEY}
        setup = (
            '{"evaluators":["e"],"selector":[{"key":"k","source":"span_attributes","value":"x"}]}'
        )
        group = {"setups": {"a": setup, "b": setup}, "declared_by": "g", "preview": True}
        code = f"""
import contextlib, io
from pulumi.dynamic import ConfigureRequest
from pulumi.dynamic.config import Config
from pulumi_traceloop.providers import AutoMonitorSetupBatchProvider
provider = AutoMonitorSetupBatchProvider()
provider.configure(ConfigureRequest(Config({config}, "project")))
with contextlib.redirect_stdout(io.StringIO()):
    assert provider.check({{}}, {group}).failures == []
"""
        imported = _imported(code)
        assert "requests" in imported
        assert "pydantic" not in imported
        assert traceloop.requests == {"GET /v2/auto-monitor-setups/{external_id}": 2}

    @pytest.mark.parametrize("asked", [True, False])
    def test_spans_are_imported_on_demand(self, asked: bool) -> None:
        setup = (
            '{"evaluators":["e"],"selector":[{"key":"k","source":"span_attributes","value":"x"}]}'
        )
        group = {"setups": {"a": setup}, "declared_by": "g", "preview": True}
        config = {"traceloop:matchSpans": "no-such-file"} if asked else {}
        code = f"""
from pulumi.dynamic import ConfigureRequest
from pulumi_traceloop.providers import AutoMonitorSetupBatchProvider
provider = AutoMonitorSetupBatchProvider()
provider.configure(
    ConfigureRequest(type("Config", (), {{"get": lambda self, key: {config}.get(key)}})())
)
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()):
    assert provider.check({{}}, {group}).failures == []
"""
        found = {name for name in _imported(code) if name.startswith("pulumi_traceloop.spans")}
        assert bool(found) is asked, found

    def test_is_not_a_plugin_to_download(self) -> None:
        """The engine assumes that any distribution named pulumi-* needs a binary."""
        plugin = (files("pulumi_traceloop") / "pulumi-plugin.json").read_text()
        assert json.loads(plugin)["resource"] is False

    def test_is_typed(self) -> None:
        assert (files("pulumi_traceloop") / "py.typed").is_file()
