"""What the service made of a setup, where it stores another definition than was declared.

A service may trim a value, change its case, or fill in a scope. Its response to the write says so:
that is the baseline for later reads, so that its spelling is no drift and no reason to write again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .._describe import difference, display_form
from .._text import name
from ..args import canonical

if TYPE_CHECKING:
    from .._models import Setup, SetupSpec

__all__ = ["baseline", "differs_from_declaration", "report_normalized"]


def baseline(setup: Setup) -> str:
    """Return a digest of a stored setup's definition: what its spelling does not change."""
    rules, evaluators = setup.meaning
    text = repr((sorted(map(_ordered, rules)), sorted(map(str, evaluators))))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


def _ordered(rule: tuple[object, ...]) -> str:
    return repr([sorted(part) if isinstance(part, frozenset) else part for part in rule])


def differs_from_declaration(setup: Setup, spec: SetupSpec, *, secret: bool) -> str | None:
    """Return the `baseline` of what the service stored, if that is not what was declared.

    A setup with a secret has none: a digest of few possible values would give them away.
    """
    return None if secret or setup.meaning == spec.meaning else baseline(setup)


def report_normalized(stored: Mapping[str, Setup], shown: Mapping[str, str]) -> list[str]:
    """Return a line for each setup that the service spells in its own way.

    Args:
        stored: what the service stored.
        shown: the declared setups, as JSON that people may see.

    """
    lines = []
    for external_id, setup in sorted(stored.items()):
        texts = difference(shown[external_id], display_form(canonical(setup.as_input()))).texts()
        changed = ", ".join(filter(None, texts))
        lines.append(f"  {name(external_id)}: Traceloop stores it as {changed}")
    return lines
