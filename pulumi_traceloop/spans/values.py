"""Converts attribute values to text, and recognizes end-user content.

Selectors compare text, and the page "Get Spans" shows every value as text, without documenting the
format of other types. This follows OpenTelemetry's "AnyValue representation for non-OTLP protocols"
(specification/common/README.md), and where that leaves a choice, Go's ``encoding/json``, as the
OpenTelemetry Collector does: no spaces in arrays and maps, sorted keys, and integral floats written
as integers.

=====================  ==================
attribute              text
=====================  ==================
``"chat"``             ``chat``
``True``               ``true``
``1`` and ``1.0``      ``1``
``0.2``                ``0.2``
``1e21``               ``1e+21``
``["stop", "length"]`` ``["stop","length"]``
``{"b": 1, "a": 2}``   ``{"a":2,"b":1}``
``b"hello"``           ``aGVsbG8=``
``None``               (empty)
=====================  ==================
"""

from __future__ import annotations

import json
import math
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

__all__ = ["as_text", "is_content"]


def as_text(value: Any) -> str:
    """Return an attribute's value as text.

    Args:
        value: a string, boolean, number, bytes, ``None``, or a list or mapping of these.

    Raises:
        TypeError: the value has another type.

    """
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if value is None:
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        return _not_finite(value)
    return _json(value)


def _json(value: Any) -> str:
    if isinstance(value, str) or value is None:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _number(value) if math.isfinite(value) else f'"{_not_finite(value)}"'
    if isinstance(value, bytes):
        return f'"{b64encode(value).decode()}"'
    if isinstance(value, Mapping):
        pairs = (f"{_json(str(key))}:{_json(value[key])}" for key in sorted(value, key=str))
        return f"{{{','.join(pairs)}}}"
    if isinstance(value, Sequence):
        return f"[{','.join(map(_json, value))}]"
    raise TypeError(f"an attribute value cannot be a {type(value).__name__}")


def _not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _number(value: float) -> str:
    """Return the shortest text that parses as *value*, in ECMAScript's format."""
    if value == 0:
        return "0"
    if 1e-6 <= abs(value) < 1e21:
        text = f"{Decimal(repr(value)):f}"
        return text.removesuffix(".0")
    digits, _, exponent = repr(value).partition("e")
    return f"{digits.removesuffix('.0')}e{int(exponent):+d}"


#: Keys of end-user content. Sources: OpenTelemetry's GenAI conventions (all attributes "likely to
#: contain sensitive information"), Traceloop's OpenLLMetry (``traceloop.entity.*``,
#: ``traceloop.prompt.*``, ``gen_ai.prompt.N``), and other instrumentations whose spans reach
#: Traceloop (OpenInference, MCP, databases, HTTP).
_CONTENT = re.compile(
    r"""
      gen_ai\.(prompt|completion)(\.\d.*)?            # of older SDKs
    | gen_ai\..*(messages|system_instructions)(\..*)?
    | gen_ai\.tool\.(call\.(arguments|result)|definitions|description)(\..*)?
    | gen_ai\.(retrieval|content|user|assistant|choice)\..*
    | gen_ai\.evaluation\.explanation
    | gen_ai\.request\.structured_output_schema
    | traceloop\.prompt\.template(_variables)?(\..*)?
    | ai\.(prompt|response|toolCall|values?)(\..*)?
    | (.*\.)?headers?(\..*)?
    | (.*\.)?(input|output)(\.(value|messages?|text|data))?(\.\d.*)?
    | (.*\.)?(\w*_)?(prompts?|completions?|messages?|functions|text|texts)(\.\d.*)?
    | (.*\.)?(query|queries|documents?|content|arguments?|body|stacktrace|statement)(\.\d.*)?
    | mcp\.response\.value
    | db\.query\.(text|summary|parameter.*|result\..*|embeddings\..*)
    | db\..*\.(where|where_document|filter|metadata|vectors?|embeddings?|entity)
    | db\.(operation|query)\.parameter\..*
    | pinecone\.query\.(filter|queries)
    | (http|url)\.(url|target|full|query)
    """,
    re.VERBOSE | re.IGNORECASE,
)

#: A longer value, in characters, counts as content, whatever its key.
_LONGEST = 1024


def is_content(key: str, text: str = "") -> bool:
    """Whether the attribute holds end-user content, whose value is dropped when read."""
    return len(text) > _LONGEST or _is_content_key(key)


@lru_cache(maxsize=4096)
def _is_content_key(key: str) -> bool:
    return _CONTENT.fullmatch(key) is not None
