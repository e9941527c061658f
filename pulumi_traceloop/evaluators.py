"""The evaluators that Traceloop documents: suggestions for typos, and known incompatibilities."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import is_dataclass
from typing import Any

from ._naming import is_named
from ._text import names

__all__ = ["DOCUMENTED", "incompatibility", "slugs", "suggestions", "warning"]

#: Source: the page "Evaluator Slugs" and the evaluators' own pages of traceloop/docs (June 2026).
DOCUMENTED = (
    "action-advancement",
    "agent-efficiency",
    "agent-flow-quality",
    "agent-goal-accuracy",
    "agent-goal-completeness",
    "agent-tool-error-detector",
    "agent-tool-selection-quality",
    "agent-tool-trajectory",
    "answer-completeness",
    "answer-correctness",
    "answer-relevancy",
    "char-count",
    "char-count-ratio",
    "context-relevance",
    "conversation-quality",
    "faithfulness",
    "html-comparison",
    "instruction-adherence",
    "intent-change",
    "json-validator",
    "perplexity",
    "pii-detector",
    "placeholder-regex",
    "profanity-detector",
    "prompt-injection",
    "prompt-perplexity",
    "regex-validator",
    "secrets-detector",
    "semantic-similarity",
    "sexism-detector",
    "sql-validator",
    "tone-detection",
    "topic-adherence",
    "toxicity-detector",
    "uncertainty-detector",
    "word-count",
    "word-count-ratio",
)
_DOCUMENTED = frozenset(DOCUMENTED)

# Sources: the request schemas of the evaluators in traceloop/docs (openapi.json, June 2026), and
# for the last one the page "Evaluator Slugs".
_NEEDS_CONFIG = {
    "agent-flow-quality": "conditions and a threshold",
    "agent-goal-completeness": "a threshold",
    "regex-validator": "a regular expression",
}
_NEEDS_REFERENCE = frozenset(
    {
        "agent-goal-accuracy",
        "agent-tool-trajectory",
        "answer-correctness",
        "char-count-ratio",
        "html-comparison",
        "perplexity",
        "placeholder-regex",
        "semantic-similarity",
        "topic-adherence",
        "word-count-ratio",
    }
)
_ONLY_SAAS = frozenset(
    {"tone-detection", "prompt-injection", "sexism-detector", "toxicity-detector"}
)

#: How many slugs one warning lists.
_LISTED = 10

#: The most suggestions, and the longest word that is too short for one.
_SUGGESTED, _SHORT = 3, 2


def slugs(setup: Any) -> Iterator[str]:
    """Yield the known slugs of a setup, an args class or a dict."""
    for key in ("evaluators", "evaluator_configs"):
        evaluators = _part(setup, key)
        for evaluator in evaluators if isinstance(evaluators, (list, tuple)) else ():
            slug = evaluator if isinstance(evaluator, str) else _part(evaluator, "slug")
            if isinstance(slug, str):
                yield slug


def _part(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else _fields(value).get(name)


def _fields(value: Any) -> dict[str, Any]:
    return vars(value) if is_dataclass(value) else {}


def warning(
    used: Iterable[tuple[str, str]], ignored: Collection[str] = (), *, self_hosted: bool = False
) -> str | None:
    """Return a warning about evaluators that may not work, or ``None``.

    They may be correct: a project can have custom evaluators, and spans may have the data that an
    evaluator needs.

    Args:
        used: pairs of a slug and the external_id of a setup that uses it.
        ignored: the slugs or patterns to ignore.
        self_hosted: whether the service is self-hosted.

    """
    external_ids: dict[str, list[str]] = {}
    for slug, external_id in used:
        external_ids.setdefault(slug, []).append(external_id)
    unknown: list[str] = []
    unfit: list[str] = []
    for slug in sorted(external_ids):
        if is_named(slug, ignored):
            continue
        line = f'"{slug}" (in {names(external_ids[slug])})'
        if slug not in _DOCUMENTED:
            near = " or ".join(f'"{other}"' for other in suggestions(slug))
            unknown.append(f"{line}; did you mean {near}?" if near else line)
        elif why := incompatibility(slug, self_hosted=self_hosted):
            unfit.append(f"{line} {why}")
    parts = [
        "\n".join([head, *(f"  {line}" for line in _cut(lines))])
        for head, lines in (
            ("not an evaluator that Traceloop documents; fine if it is one of your own:", unknown),
            ("evaluators that may have nothing to work with:", unfit),
        )
        if lines
    ]
    return "\n".join(parts) or None


def _cut(lines: list[str]) -> list[str]:
    rest = len(lines) - _LISTED
    return [*lines[:_LISTED], *([f"and {rest} more"] if rest > 0 else [])]


def incompatibility(slug: str, *, self_hosted: bool = False) -> str | None:
    """Return why a documented evaluator cannot work in a setup, or ``None``."""
    if slug in _NEEDS_CONFIG:
        return f"needs {_NEEDS_CONFIG[slug]}, which a setup has no place for"
    if slug in _NEEDS_REFERENCE:
        return "needs a reference to compare with, which spans hardly ever have"
    if self_hosted and slug in _ONLY_SAAS:
        return "runs on Traceloop's own service only, and traceloop:baseUrl is another one"
    return None


def suggestions(slug: str) -> list[str]:
    """Return up to three documented evaluators similar to *slug*."""
    normalized = "-".join(re.split(r"[\s_-]+", slug.strip().casefold()))
    if normalized in _DOCUMENTED:
        return [normalized]
    longer = [other for other in DOCUMENTED if other.startswith(f"{normalized}-")]
    if 1 <= len(longer) <= _SUGGESTED:
        return longer
    near = difflib.get_close_matches(normalized, DOCUMENTED, n=1, cutoff=0.7)
    # "pii-detection", "tone-detector": the first word decides.
    same = [
        other for other in DOCUMENTED if other.partition("-")[0] == normalized.partition("-")[0]
    ]
    return near or (same if len(same) == 1 and len(normalized) > _SHORT else [])
