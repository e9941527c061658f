"""`pulumi-traceloop export`: writes a program, or YAML, that adopts existing setups.

The declared setups equal those in Traceloop, so that `pulumi up` adopts them and sends nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len

from .._models import SETUP_SPEC, Setup, SetupRule
from .._naming import external_id_problem
from .._validation import problems
from ..errors import printable

__all__ = ["Exportable", "as_python", "as_yaml", "exportable"]

#: The default line length of Ruff and Black; longer lines are wrapped as they do it.
_WIDTH = 88
_INDENT = "    "

#: The method of a rule builder for each operator, and the rule's field with its arguments.
_BUILDERS: dict[str, tuple[str, str]] = {
    "equals": ("equals", "value"),
    "not_equals": ("not_equals", "value"),
    "contains": ("contains", "value"),
    "not_contains": ("not_contains", "value"),
    "in": ("is_in", "values"),
    "not_in": ("not_in", "values"),
    "exists": ("exists", ""),
    "not_exists": ("not_exists", ""),
}
#: Texts that need no quotes in YAML, except words such as ``yes`` and, for some readers, ``y``.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]+")

_SOURCES = {"span_attributes": "span", "resource_attributes": "resource"}


@dataclass(frozen=True)
class Exportable:
    """Setups as a program declares them."""

    #: The setups by external_id.
    setups: Mapping[str, Mapping[str, Any]]
    #: Why setups cannot be declared, by external_id.
    refused: Mapping[str, str]


def exportable(setups: Iterable[Setup]) -> Exportable:
    """Return the declarations that equal the setups in Traceloop."""
    found: dict[str, Mapping[str, Any]] = {}
    refused: dict[str, str] = {}
    for setup in sorted(setups, key=lambda setup: setup.external_id):
        spec = _spec(setup)
        if wrong := problems(spec):
            refused[setup.external_id] = "; ".join(f"{path} {reason}" for path, reason in wrong)
        elif problem := external_id_problem(setup.external_id):
            refused[setup.external_id] = f"its external_id {problem}"
        elif SETUP_SPEC.validate_python(spec).definition != setup.definition:
            refused[setup.external_id] = "a program cannot express it"
        else:
            found[setup.external_id] = spec
    return Exportable(found, refused)


def _spec(setup: Setup) -> dict[str, Any]:
    spec: dict[str, Any] = {"selector": [_rule(rule) for rule in setup.init_rules]}
    # The service may list an evaluator twice, a program must not.
    evaluators = list(dict.fromkeys((e.evaluator_type, e.scope or None) for e in setup.evaluators))
    if any(scope for _, scope in evaluators):
        spec["evaluator_configs"] = [
            {"slug": slug} | ({"scope": scope} if scope else {}) for slug, scope in evaluators
        ]
    else:
        spec["evaluators"] = [slug for slug, _ in evaluators]
    return spec


def _rule(rule: SetupRule) -> dict[str, Any]:
    operator = rule.operator or "equals"
    found: dict[str, Any] = {"key": rule.key, "source": rule.source, "operator": operator}
    _, field = _BUILDERS.get(operator, ("", ""))
    # Other fields have no effect with this operator.
    operand = getattr(rule, field) if field else None
    return found if operand is None else found | {field: operand}


def as_yaml(setups: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the file that `AutoMonitorSetupGroup.from_file` reads."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        # YAML versions differ in what they read as a number, and PyYAML reads U+0085 back as a
        # space. Double quotes have escapes for all.
        style = None if _PLAIN.fullmatch(text) else '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)

    Dumper.add_representer(str, text_node)
    text: str = yaml.dump(
        {"setups": {external_id: dict(setup) for external_id, setup in setups.items()}},
        Dumper=Dumper,
        allow_unicode=True,
        sort_keys=False,
        width=1_000_000,
    )
    return f"# Written by `pulumi-traceloop export`.\n{text}"


def as_python(setups: Mapping[str, Mapping[str, Any]], group: str) -> str:
    """Return a program with one group of these setups, formatted as Ruff and Black do.

    Args:
        setups: the setups by external_id, as `exportable` returns them.
        group: the group's name in Pulumi.

    """
    builders = sorted(
        {
            _SOURCES[rule["source"]]
            for setup in setups.values()
            for rule in setup["selector"]
            if _builder(rule) is not None
        }
    )
    lines = [
        '"""Monitor setups that Traceloop already had, written by `pulumi-traceloop export`.',
        "",
        "The first `pulumi up` adopts them and sends nothing.",
        '"""',
        "",
        "import pulumi_traceloop as traceloop",
        *([f"from pulumi_traceloop import {', '.join(builders)}"] if builders else []),
        "",
        "traceloop.AutoMonitorSetupGroup(",
        f"{_INDENT}{literal(group)},",
    ]
    if not setups:
        return "\n".join([*lines, f"{_INDENT}setups={{}},", ")", ""])
    lines.append(f"{_INDENT}setups={{")
    for external_id, setup in setups.items():
        lines += [
            f"{_INDENT * 2}{literal(external_id)}: {{",
            *_entry("selector", setup["selector"], _rule_lines),
            *(
                _entry("evaluator_configs", setup["evaluator_configs"], _dict_lines)
                if "evaluator_configs" in setup
                else _entry("evaluators", setup["evaluators"], _literal_lines)
            ),
            f"{_INDENT * 2}}},",
        ]
    return "\n".join([*lines, f"{_INDENT}}},", ")", ""])


def _entry(name: str, items: list[Any], lines_of: Any) -> list[str]:
    """Return a list of the setup: on one line if it fits, else one line for each item."""
    prefix = f'{_INDENT * 3}"{name}": ['
    single = [lines_of(item, "") for item in items]
    if all(len(lines) == 1 for lines in single):
        line = f"{prefix}{', '.join(lines[0] for lines in single)}],"
        if cell_len(line) <= _WIDTH:
            return [line]
    inner = [line for item in items for line in _with_comma(lines_of(item, _INDENT * 4))]
    return [prefix, *inner, f"{_INDENT * 3}],"]


def _with_comma(lines: list[str]) -> list[str]:
    return [*lines[:-1], f"{lines[-1]},"]


def _literal_lines(text: str, indent: str) -> list[str]:
    return [f"{indent}{literal(text)}"]


def _rule_lines(rule: Mapping[str, Any], indent: str) -> list[str]:
    """Return a rule as a call of its builder, or as a dict if the call would not fit."""
    built = _builder(rule)
    if built is None:
        return _dict_lines(rule, indent)
    head, arguments = built
    line = f"{indent}{head}({', '.join(map(literal, arguments))})"
    if _fits(line):
        return [line]
    if not arguments or not _fits(f"{indent}{head}("):
        return _dict_lines(rule, indent)
    return [
        f"{indent}{head}(",
        *(f"{indent}{_INDENT}{literal(argument)}," for argument in arguments),
        f"{indent})",
    ]


def _builder(rule: Mapping[str, Any]) -> tuple[str, list[str]] | None:
    """Return a call of the rule's builder: the part before the parenthesis, and the arguments."""
    source, (method, field) = _SOURCES[rule["source"]], _BUILDERS[rule["operator"]]
    head = f"{source}({literal(rule['key'])}).{method}"
    if cell_len(head) > _WIDTH - len(_INDENT * 4) - len("(),"):
        return None
    value = rule.get(field)
    return head, [] if value is None else [value] if isinstance(value, str) else list(value)


def _dict_lines(entries: Mapping[str, Any], indent: str) -> list[str]:
    parts = [
        (key, literal(value) if isinstance(value, str) else _list(value))
        for key, value in entries.items()
    ]
    line = f"{indent}{{{', '.join(f'{literal(key)}: {value}' for key, value in parts)}}}"
    if _fits(line):
        return [line]
    lines = [f"{indent}{{"]
    for key, value in parts:
        line = f"{indent}{_INDENT}{literal(key)}: {value},"
        given = entries[key]
        if isinstance(given, str) or cell_len(line) <= _WIDTH:
            lines.append(line)
        else:
            lines += [
                f"{indent}{_INDENT}{literal(key)}: [",
                *(f"{indent}{_INDENT * 2}{literal(item)}," for item in given),
                f"{indent}{_INDENT}],",
            ]
    return [*lines, f"{indent}}}"]


def _list(values: Iterable[str]) -> str:
    return f"[{', '.join(map(literal, values))}]"


def _fits(line: str) -> bool:
    return cell_len(line) < _WIDTH  # a comma follows


def literal(text: str) -> str:
    """Return *text* as a Python string literal, quoted as Ruff and Black quote it."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    escaped = "".join(
        f"\\{char}" if char in ("\\", quote) else char if char.isprintable() else _escape(char)
        for char in text
    )
    return f"{quote}{escaped}{quote}"


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def refusals(refused: Mapping[str, str]) -> list[str]:
    """Return one line for each setup that is left out."""
    return [f'left out "{printable(i)}": {printable(why)}' for i, why in refused.items()]
