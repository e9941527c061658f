"""The evaluators that Traceloop documents: which somebody may have meant, which cannot work."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import is_dataclass
from typing import Any

from ._naming import is_named
from ._text import names

__all__ = ["DOCUMENTED", "meant", "slugs", "unfitness", "warning"]

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

#: How many slugs one warning tells.
_TOLD = 10

#: So many evaluators may have been meant, and a shorter word says nothing.
_MEANT, _SHORT = 3, 2


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


def warning(
    used: Iterable[tuple[str, str]], ignored: Collection[str] = (), *, self_hosted: bool = False
) -> str | None:
    """Return a warning about evaluators that may not work; ``None`` if all are well.

    They may be right all the same: a project can have evaluators of its own, and spans can carry
    what an evaluator needs.

    Args:
        used: pairs of a slug and the external_id of a setup that uses it.
        ignored: the slugs that are silenced; they may be patterns.
        self_hosted: whether the setups are for a self-hosted service.

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
            near = " or ".join(f'"{other}"' for other in meant(slug))
            unknown.append(f"{line}; did you mean {near}?" if near else line)
        elif why := unfitness(slug, self_hosted=self_hosted):
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
    rest = len(lines) - _TOLD
    return [*lines[:_TOLD], *([f"and {rest} more"] if rest > 0 else [])]


def unfitness(slug: str, *, self_hosted: bool = False) -> str | None:
    """Return why a documented evaluator cannot work as setups declare it; ``None`` if it can."""
    if slug in _NEEDS_CONFIG:
        return f"needs {_NEEDS_CONFIG[slug]}, which a setup has no place for"
    if slug in _NEEDS_REFERENCE:
        return "needs a reference to compare with, which spans hardly ever have"
    if self_hosted and slug in _ONLY_SAAS:
        return "runs on Traceloop's own service only, and traceloop:baseUrl is another one"
    return None


def meant(slug: str) -> list[str]:
    """Return the documented evaluators that somebody may have meant, three at most."""
    spelled = "-".join(re.split(r"[\s_-]+", slug.strip().casefold()))
    if spelled in _DOCUMENTED:
        return [spelled]
    longer = [other for other in DOCUMENTED if other.startswith(f"{spelled}-")]
    if 1 <= len(longer) <= _MEANT:
        return longer
    near = difflib.get_close_matches(spelled, DOCUMENTED, n=1, cutoff=0.7)
    # "pii-detection", "tone-detector": the first word says which.
    same = [other for other in DOCUMENTED if other.partition("-")[0] == spelled.partition("-")[0]]
    return near or (same if len(same) == 1 and len(spelled) > _SHORT else [])
