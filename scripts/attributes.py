"""Make the table of known attributes: ``python -m scripts.attributes``.

It reads the installed packages ``opentelemetry-semantic-conventions`` and
``opentelemetry-semantic-conventions-ai`` (Traceloop's own), without importing them: what replaces a
deprecated attribute stands in docstrings only.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

TABLE = Path(__file__).parent.parent / "pulumi_traceloop" / "spans" / "attributes.json"
PACKAGES = ("opentelemetry-semantic-conventions", "opentelemetry-semantic-conventions-ai")

#: Attributes of these namespaces belong to a resource; the packages do not say it of all.
_RESOURCE = (
    "cloud",
    "container",
    "deployment",
    "device",
    "heroku",
    "host",
    "k8s",
    "os",
    "process",
    "service",
    "telemetry",
    "webengine",
)

#: Not these: spans have them.
_NOT_RESOURCE = (
    "service.peer",
    "deployment.id",
    "deployment.name",
    "deployment.status",
    "process.context_switch",
    "process.paging",
)

#: What the packages call removed without a replacement. Traceloop's SDK 0.62.4 writes these
#: instead (seen in its spans). A key that ends with a dot stands for all that begin with it.
_REPLACED = {
    "gen_ai.prompt": ["gen_ai.input.messages"],
    "gen_ai.prompt.": ["gen_ai.input.messages"],
    "gen_ai.completion": ["gen_ai.output.messages"],
    "gen_ai.completion.": ["gen_ai.output.messages"],
    "llm.chat.stop_sequences": ["gen_ai.request.stop_sequences"],
    "llm.request.functions": ["gen_ai.tool.definitions"],
    "llm.request.type": ["gen_ai.operation.name"],
}

#: Keys that users complete: no table has them.
_OPEN = (
    "db.query.parameter.",
    "gen_ai.prompt.",
    "gen_ai.completion.",
    "http.request.header.",
    "http.response.header.",
    "k8s.",
    "llm.headers.",
    "traceloop.association.properties.",
    "traceloop.prompt.template_variables.",
)

#: What opentelemetry-semantic-conventions-ai wrote up to 0.4.13, by the name of the member of
#: ``GenAISystem``; 0.5 changed the values.
_FORMER_SYSTEMS = {
    "ANTHROPIC": "Anthropic",
    "COHERE": "Cohere",
    "MISTRALAI": "MistralAI",
    "OLLAMA": "Ollama",
    "GROQ": "Groq",
    "ALEPH_ALPHA": "AlephAlpha",
    "REPLICATE": "Replicate",
    "TOGETHER_AI": "TogetherAI",
    "WATSONX": "Watsonx",
    "HUGGINGFACE": "HuggingFace",
    "FIREWORKS": "Fireworks",
    "AZURE": "Azure",
    "AWS": "AWS",
    "GOOGLE": "Google",
    "OPENROUTER": "OpenRouter",
    "LANGCHAIN": "Langchain",
}

#: The enumerations of Traceloop's package, and whose values they list.
_ENUMERATIONS = {
    "GenAISystem": ("gen_ai.provider.name", "gen_ai.system"),
    "LLMRequestTypeValues": ("llm.request.type",),
    "TraceloopSpanKindValues": ("traceloop.span.kind",),
    "GenAICustomOperationName": ("gen_ai.operation.name",),
}


class _Constant(NamedTuple):
    name: str
    value: str
    about: str


def make() -> dict[str, Any]:
    """Return the table."""
    conventions, traceloop = (_folder(name) for name in ("semconv", "semconv_ai"))
    keys: set[str] = set()
    renamed: dict[str, list[str]] = {}
    removed: set[str] = set()
    values: dict[str, set[str]] = {}
    by_name: dict[str, str] = {}
    for path in sorted((conventions / "_incubating" / "attributes").glob("*_attributes.py")):
        module = _parsed(path)
        enumerations = dict(_classes(module))
        for name, key, about in _constants(module.body):
            keys.add(key)
            by_name[name] = key
            if successors := _successors(about):
                renamed[key] = successors
            elif _is_removed(about):
                removed.add(key)
            members = enumerations.get(name.title().replace("_", "") + "Values", [])
            if key.startswith("gen_ai."):
                values.setdefault(key, set()).update(
                    member.value for member in members if not _successors(member.about)
                )
    classes = dict(_classes(_parsed(traceloop / "__init__.py")))
    spans = {constant.name: constant.value for constant in classes["SpanAttributes"]}
    # Traceloop's own LLM_USER = "llm.user" is there for those that have not moved to GEN_AI_USER.
    former_names = {
        name for name in spans if name.startswith("LLM_") or name.endswith("_DEPRECATED")
    }
    current = {spans[name] for name in spans.keys() - former_names}
    keys |= set(spans.values())
    by_name |= {name: key for name, key in spans.items() if name not in by_name}
    for name in former_names:
        rest = name.removeprefix("LLM_").removeprefix("GEN_AI_").removesuffix("_DEPRECATED")
        found = [
            by_name[f"{start}_{rest}"]
            for start in ("GEN_AI", "GEN_AI_REQUEST")
            if f"{start}_{rest}" in by_name
        ]
        if found and found[0] != spans[name]:
            renamed.setdefault(spans[name], found[:1])
    for name, listed_for in _ENUMERATIONS.items():
        for key in listed_for:
            values.setdefault(key, set()).update(member.value for member in classes[name])
    systems = {member.name: member.value for member in classes["GenAISystem"]}
    former = {old: systems[name] for name, old in _FORMER_SYSTEMS.items()}
    # What Traceloop writes today is not deprecated, whatever the conventions say.
    renamed = {
        key: successors for key, successors in renamed.items() if key not in current
    } | _REPLACED
    removed -= renamed.keys() | current
    for key, successors in renamed.items():
        renamed[key] = [
            last for next_one in successors for last in renamed.get(next_one, [next_one])
        ]
    return {
        "versions": {name: version(name) for name in PACKAGES},
        "resource": sorted(filter(_is_on_resources, keys)),
        "span": sorted(key for key in keys if not _is_on_resources(key)),
        "open": sorted(_OPEN),
        "renamed": {key: renamed[key] for key in sorted(renamed)},
        "removed": sorted(removed),
        "values": {key: sorted(values[key]) for key in sorted(values) if values[key]},
        "renamed_values": dict.fromkeys(_ENUMERATIONS["GenAISystem"], former),
    }


def text() -> str:
    """Return the table as it is checked in."""
    return json.dumps(make(), indent=1) + "\n"


def _folder(name: str) -> Path:
    spec = find_spec(f"opentelemetry.{name}")
    assert spec is not None, f"opentelemetry.{name} is not installed"
    assert spec.origin is not None
    return Path(spec.origin).parent


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _classes(module: ast.Module) -> Iterator[tuple[str, list[_Constant]]]:
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            yield node.name, list(_constants(node.body))


def _constants(body: list[ast.stmt]) -> Iterator[_Constant]:
    """Yield the constants that are strings, each with the docstring below it."""
    for node, after in zip(body, [*body[1:], None], strict=True):
        match node:
            case ast.Assign(targets=[ast.Name(name)], value=ast.Constant(str(value))):
                pass
            case ast.AnnAssign(target=ast.Name(name), value=ast.Constant(str(value))):
                pass
            case _:
                continue
        about = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            about = str(after.value.value)
        # Templates, such as HTTP_REQUEST_HEADER_TEMPLATE, are completed by whoever uses them.
        yield _Constant(name.removesuffix("_TEMPLATE"), value, " ".join(about.split()))


def _successors(about: str) -> list[str]:
    found = re.match(
        r"Deprecated: (Replaced by|Use|Split (in)?to) (one of )?(.*?)(,? which |, but | with |\. |\.$|$)",
        about,
    )
    return re.findall(r"`([a-z][\w.-]*\.[\w.-]+)`", found[4]) if found else []


def _is_removed(about: str) -> bool:
    # Those of GenAI have moved to another repository and are as valid as before.
    return about.startswith("Deprecated: ") and not about.startswith("Deprecated: Moved ")


def _is_on_resources(key: str) -> bool:
    return key.partition(".")[0] in _RESOURCE and not key.startswith(_NOT_RESOURCE)


if __name__ == "__main__":
    TABLE.write_text(text(), encoding="utf-8")
