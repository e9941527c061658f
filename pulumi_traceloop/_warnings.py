"""Warnings about valid setups that may match nothing or whose evaluators may not work.

The configuration ``traceloop:ignoreWarnings`` silences an attribute or evaluator.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import is_dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import pulumi

from . import evaluators
from .spans import attributes

__all__ = ["ignored", "warnings"]

_CONFIG: Final = "traceloop"

#: The operators that compare the whole value.
_EXACT: Final = ("equals", "not_equals", "in", "not_in")

_SILENCE: Final = (
    "to silence one: pulumi config set --path 'traceloop:ignoreWarnings[0]' <attribute or slug>"
)


def warnings(
    setups: Iterable[tuple[str, Any]], *, config_namespace: str | None = None
) -> Iterator[str]:
    """Yield one warning for each kind.

    Args:
        setups: pairs of an external_id and a setup, an args class or a dict; unknown values are
            ignored.
        config_namespace: the configuration namespace of the base URL.

    """
    slugs: list[tuple[str, str]] = []
    rules: list[tuple[str, str, Sequence[str], str]] = []
    for external_id, setup in setups:
        slugs += [(slug, external_id) for slug in evaluators.slugs(setup)]
        rules += [(*rule, external_id) for rule in _rules(setup)]
    silent = ignored()
    hosted = _self_hosted(config_namespace or _CONFIG)
    for text in (
        evaluators.warning(slugs, silent, self_hosted=hosted),
        attributes.warning(rules, silent),
    ):
        if text:
            yield f"{text}\n{_SILENCE}"


def ignored() -> list[str]:
    """Return the attributes and evaluators that the stack's configuration silences.

    The configuration is a list or comma-separated; patterns such as ``llm.*`` work.
    """
    text = pulumi.Config(_CONFIG).get("ignoreWarnings") or ""
    try:
        given = json.loads(text)
    except ValueError:
        given = text.split(",")
    keys = [str(key).strip() for key in (given if isinstance(given, list) else [given])]
    return [key for key in keys if key]


def _rules(setup: Any) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Yield key, source and operands of each known rule."""
    selector = _part(setup, "selector")
    for rule in selector if isinstance(selector, (list, tuple)) else ():
        key, source = _part(rule, "key"), _part(rule, "source")
        if not isinstance(key, str) or not isinstance(source, str):
            continue
        operands: list[Any] = []
        operator = _part(rule, "operator")
        if operator is None or (isinstance(operator, str) and operator in _EXACT):
            values = _part(rule, "values")
            operands = [
                _part(rule, "value"),
                *(values if isinstance(values, (list, tuple)) else ()),
            ]
        yield key, source, [operand for operand in operands if isinstance(operand, str)]


def _part(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return value.get(name)
    return getattr(value, name, None) if is_dataclass(value) else None


def _self_hosted(namespace: str) -> bool:
    """Whether the base URL is a self-hosted service, other than a local emulator."""
    base_url = pulumi.Config(namespace).get("baseUrl")
    if not base_url and namespace == _CONFIG:
        base_url = os.environ.get("TRACELOOP_BASE_URL")
    try:
        host = urlsplit(base_url or "").hostname or ""
    except ValueError:
        return False
    own = host != "traceloop.com" and not host.endswith(".traceloop.com")
    return bool(host) and own and host not in ("localhost", "127.0.0.1", "::1")
