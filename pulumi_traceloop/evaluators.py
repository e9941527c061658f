"""The evaluators that Traceloop documents, and which of them somebody may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from typing import Any

from ._text import names

__all__ = ["DOCUMENTED", "slugs", "warning"]

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

#: How many slugs one warning tells.
_TOLD = 10


def slugs(setup: Any) -> Iterator[str]:
    """Yield the slugs of a setup, an args class or a dict, that are known by now."""
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


def warning(used: Iterable[tuple[str, str]]) -> str | None:
    """Return a warning about slugs that are not documented; ``None`` if all are.

    They may be right all the same: a project can have evaluators of its own.

    Args:
        used: pairs of a slug and the external_id of a setup that uses it.

    """
    unknown: dict[str, list[str]] = {}
    for slug, external_id in used:
        if slug not in _DOCUMENTED:
            unknown.setdefault(slug, []).append(external_id)
    if not unknown:
        return None
    lines = [_line(slug, unknown[slug]) for slug in sorted(unknown)]
    rest = len(lines) - _TOLD
    cut = [f"and {rest} more"] if rest > 0 else []
    return "\n".join(
        [
            "not an evaluator that Traceloop documents; fine if it is one of your own:",
            *(f"  {line}" for line in [*lines[:_TOLD], *cut]),
        ]
    )


def _line(slug: str, external_ids: list[str]) -> str:
    near = difflib.get_close_matches(slug, DOCUMENTED, n=1, cutoff=0.7)
    hint = f'; did you mean "{near[0]}"?' if near else ""
    return f'"{slug}" (in {names(external_ids)}){hint}'
