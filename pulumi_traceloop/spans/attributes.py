"""What is known about attributes without any span."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["renames"]


def renames(key: str) -> Sequence[str]:
    """Return what the attribute is called in other versions of the conventions."""
    return {
        "gen_ai.system": ("gen_ai.provider.name",),
        "gen_ai.provider.name": ("gen_ai.system",),
        "deployment.environment": ("deployment.environment.name",),
        "deployment.environment.name": ("deployment.environment",),
    }.get(key, ())
