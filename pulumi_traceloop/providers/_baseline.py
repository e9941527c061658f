"""Baselines of setups that the service normalizes on write.

The service may trim a value, change its case, or fill in a scope. The response to the write shows
the result. Later reads compare with it, so normalization causes neither drift nor another write.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .._describe import difference
from .._text import name
from ..args import canonical

if TYPE_CHECKING:
    from .._models import Setup, SetupSpec

__all__ = ["baseline", "differs_from_declaration", "report_normalized"]


def baseline(setup: Setup) -> str:
    """Return a digest of a stored setup's definition, independent of order and defaults."""
    rules, evaluators = setup.definition
    text = repr((sorted(map(_ordered, rules)), sorted(map(str, evaluators))))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


def _ordered(rule: tuple[object, ...]) -> str:
    return repr([sorted(part) if isinstance(part, frozenset) else part for part in rule])


def differs_from_declaration(setup: Setup, spec: SetupSpec, *, secret: bool) -> str | None:
    """Return the `baseline` of a stored setup that differs from its declaration, else ``None``.

    A setup with a secret has no baseline: a digest of few possible values would reveal them.
    """
    return None if secret or setup.definition == spec.definition else baseline(setup)


def report_normalized(stored: Mapping[str, Setup], displayed: Mapping[str, str]) -> list[str]:
    """Return a line for each setup that the service normalized.

    Args:
        stored: the setups as the service stored them.
        displayed: the declared setups as display JSON.

    """
    lines = []
    for external_id, setup in sorted(stored.items()):
        texts = difference(displayed[external_id], canonical(setup.as_input())).texts()
        changed = ", ".join(filter(None, texts))
        lines.append(f"  {name(external_id)}: Traceloop stores it as {changed}")
    return lines
