"""What a person reads: which setups failed and why, grouped and cut to a fair length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["by_cause", "names", "printable"]

#: How many causes are told, and how many external_ids of each.
CAUSES = 10
NAMES = 5


#: What is quoted of a server's message at most, in characters.
QUOTE_LIMIT = 500


def printable(text: str, limit: int = QUOTE_LIMIT) -> str:
    """Return *text* on one line, cut after *limit* characters, without control characters.

    A server's words end up in a terminal; an escape sequence in them must not.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 3].rstrip() + "..."


def by_cause(failed: Mapping[str, str]) -> str:
    """Return one line for each cause in *failed* (``{external_id: why}``), with whom it hit.

    The most frequent cause comes first; what is cut off is counted.
    """
    hit: dict[str, list[str]] = {}
    for external_id, why in sorted(failed.items()):
        hit.setdefault(why, []).append(external_id)
    causes = sorted(hit.items(), key=lambda cause: (-len(cause[1]), cause[1]))
    lines = [f"  {names(external_ids)}: {why}" for why, external_ids in causes[:CAUSES]]
    rest = sum(len(external_ids) for _, external_ids in causes[CAUSES:])
    if rest:
        lines.append(f"  and {rest} more, for {len(causes) - CAUSES} other reasons")
    return "\n".join(lines)


def names(external_ids: Sequence[str]) -> str:
    """Return the first few of *external_ids*, quoted, and how many more there are."""
    shown = ", ".join(f'"{printable(external_id)}"' for external_id in external_ids[:NAMES])
    rest = len(external_ids) - NAMES
    return f"{shown} and {rest} more" if rest > 0 else shown
