"""Traceloop auto monitor setups as Pulumi resources.

Example:
    ```python
    import pulumi_traceloop as traceloop
    from pulumi_traceloop import span

    traceloop.AutoMonitorSetupGroup(
        "monitors",
        setups={
            "openai": {
                "selector": [span("gen_ai.provider.name").equals("openai")],
                "evaluators": ["faithfulness"],
            },
        },
    )
    ```
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .args import (
        AutoMonitorSetupArgs,
        AutoMonitorSetupArgsDict,
        EvaluatorConfigArgs,
        EvaluatorConfigArgsDict,
        EvaluatorConfigOutput,
        InputError,
        SelectorRuleArgs,
        SelectorRuleArgsDict,
        SelectorRuleOutput,
        SetupOutput,
        resource,
        span,
    )
    from .errors import TraceloopError
    from .files import FileError
    from .functions import (
        AutoMonitorSetupResult,
        EvaluatorResult,
        SelectorRuleResult,
        get_auto_monitor_setup,
        get_auto_monitor_setup_output,
        list_auto_monitor_setups,
        list_auto_monitor_setups_output,
    )
    from .group import AutoMonitorSetupGroup
    from .resources import AutoMonitorSetup

__all__ = [
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

# Loaded on first use: the emulator and the pytest plugin, which pytest loads in every run, need no
# Pulumi SDK.
_MODULES = {
    "AutoMonitorSetup": "resources",
    "AutoMonitorSetupGroup": "group",
    "AutoMonitorSetupResult": "functions",
    "EvaluatorResult": "functions",
    "FileError": "files",
    "SelectorRuleResult": "functions",
    "TraceloopError": "errors",
    "get_auto_monitor_setup": "functions",
    "get_auto_monitor_setup_output": "functions",
    "list_auto_monitor_setups": "functions",
    "list_auto_monitor_setups_output": "functions",
}


if not TYPE_CHECKING:  # or type checkers would take any name for one of this module

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f".{_MODULES.get(name, 'args')}", __name__), name)
