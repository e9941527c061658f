"""Prints a summary of the operations and injected faults of all workers."""

from __future__ import annotations

from collections import Counter

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    tally: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "tally" and getattr(report, "when", "") == "teardown":
                    tally.update(value)
    if not tally:
        return
    groups: dict[str, Counter[str]] = {}
    for name, count in tally.items():
        group, _, what = name.partition(": ")
        groups.setdefault(group, Counter())[what] += count
    terminalreporter.section("model-based test")
    for group, counts in sorted(groups.items()):
        listed = ", ".join(f"{what} {count}" for what, count in counts.most_common() if what)
        terminalreporter.write_line(
            f"{group}: {counts.total():,}" + (f" ({listed})" if listed else "")
        )
