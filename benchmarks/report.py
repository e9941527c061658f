"""Results as tables and as a plot; `python -m benchmarks.report FILE` prints those of a file."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .measure import load

#: What is measured, in this order, and the engine's operation that it is.
OPERATIONS = {
    "preview": "preview",
    "first up": "up",
    "unchanged up": "up",
    "1% changed": "up",
    "refresh": "refresh",
    "destroy": "destroy",
}


class _Results:
    """The results, by what was measured."""

    def __init__(self, results: Mapping[str, Any]) -> None:
        self.raw = results
        self._cells: dict[tuple[str, int, float, str], list[Mapping[str, Any]]] = {}
        for cell in results["cells"]:
            key = (cell["declared"], cell["count"], cell["latency"], cell["operation"])
            self._cells.setdefault(key, []).append(cell)
        self.latencies = sorted({key[2] for key in self._cells})

    def counts(self, declared: str) -> list[int]:
        return sorted({key[1] for key in self._cells if key[0] == declared})

    def of(
        self, declared: str, count: int, latency: float, operation: str
    ) -> list[Mapping[str, Any]]:
        return self._cells.get((declared, count, latency, operation), [])

    def seconds(self, declared: str, count: int, latency: float, operation: str) -> list[float]:
        return [cell["seconds"] for cell in self.of(declared, count, latency, operation)]

    def median(self, declared: str, count: int, latency: float, operation: str) -> float:
        found = self.seconds(declared, count, latency, operation)
        return statistics.median(found) if found else math.nan

    def above_empty(self, count: int, latency: float, operation: str) -> list[float]:
        """Return the seconds of a group less those of an empty stack, measured together."""
        cells = self.of("group", count, latency, operation)
        return [cell["seconds"] - cell["empty_seconds"] for cell in cells]

    @property
    def repetitions(self) -> str:
        times = {len(cells) for cells in self._cells.values()}
        if not times:
            return "the rows alone"
        if times == {1}:
            return "measured once"
        count = " to ".join(map(str, sorted({min(times), max(times)})))
        return f"median of {count} interleaved repetitions, with the lowest and the highest"


def markdown(results: Mapping[str, Any]) -> str:
    """Return all results as Markdown."""
    found = _Results(results)
    machine = results["machine"]
    about = (
        f"{results['date']}, {results['engine']}, {machine['cores']} cores of"
        f" {machine['processor']}, {machine['system']}, Python {machine['python']}; {found.repetitions}.\n"
    )
    parts = [about, _rows(results)]
    if results["cells"]:
        parts += [_ratios(found)]
        parts += [_times(found, latency) for latency in found.latencies]
        parts += [_costs(found), _paced(results)]
    return "\n".join(filter(None, parts))


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _shapes(found: _Results) -> list[tuple[str, int]]:
    return [(d, n) for d in ("empty", "group", "resources") for n in found.counts(d)]


def _label(declared: str, count: int) -> str:
    return {
        "empty": "empty stack",
        "smallest": "the smallest dynamic provider",
        "group": f"group of {count:,}",
        "resources": f"{count:,} resources",
    }[declared]


def _times(found: _Results, latency: float) -> str:
    shapes = _shapes(found)
    rows = [
        [operation, *(_spread(found.seconds(*shape, latency, operation)) for shape in shapes)]
        for operation in OPERATIONS
    ]
    title = f"### Wall time in seconds, latency of the service {latency * 1000:g} ms\n\n"
    return title + _table(["", *(_label(*shape) for shape in shapes)], rows)


def _spread(seconds: list[float], digits: int = 2) -> str:
    if not seconds:
        return ""
    told = [f"{s:.{digits}f}" for s in (statistics.median(seconds), min(seconds), max(seconds))]
    return f"{told[0]} ({told[1]}-{told[2]})" if len(seconds) > 1 else told[0]


def _costs(found: _Results) -> str:
    latency = found.latencies[0]
    rows = []
    for declared, count in _shapes(found):
        for operation in OPERATIONS:
            cells = found.of(declared, count, latency, operation)
            if not cells:
                continue
            rows.append(
                [
                    _label(declared, count),
                    operation,
                    _asked(cells[0]["requests"]),
                    *(
                        f"{statistics.median(cell[whose] for cell in cells):.1f}"
                        for whose in ("cpu", "service_cpu")
                    ),
                    *(_peak(cells, role) for role in ("program", "provider")),
                    f"{cells[0]['state_bytes'] / 1000:,.0f}",
                ]
            )
    head = ["", "", "requests", "processor, s", "service's, s"]
    head += ["program, MiB", "provider, MiB", "state, kB"]
    title = (
        f"### Requests, processor time, peak memory and state, latency {latency * 1000:g} ms\n\n"
    )
    return title + _table(head, rows)


def _peak(cells: Iterable[Mapping[str, Any]], role: str) -> str:
    found = [cell["peak_mib"][role] for cell in cells if role in cell["peak_mib"]]
    return f"{max(found):.0f}" if found else ""


def _ratios(found: _Results) -> str:
    """Return what can be compared between machines, beside what is aimed at."""
    rows: list[list[str]] = []

    def row(what: str, measured: float | list[float], aim: str) -> None:
        values = measured if isinstance(measured, list) else [measured]
        if values and not any(map(math.isnan, values)):
            rows.append([what, _spread(values, 1), aim])

    slow = found.latencies[-1]
    for count in found.counts("resources"):
        one = found.median("resources", count, slow, "first up")
        row(
            f"first up, {count:,} resources / group of {count:,}, {slow * 1000:g} ms",
            one / found.median("group", count, slow, "first up"),
            "at least 25" if count == 1_000 else "",
        )
    by_one = [x for x in found.raw["deletes_one_by_one"] if x["latency"] == slow]
    if by_one:
        each = statistics.median(x["seconds"] / x["count"] for x in by_one)
        row(
            f"destroy of 1,000, one after another / group, {slow * 1000:g} ms",
            1_000 * each / found.median("group", 1_000, slow, "destroy"),
            "at least 12",
        )
    fast = found.latencies[0]
    for operation, aim in (("preview", 2.5), ("first up", 4.0), ("unchanged up", 2.5)):
        row(
            f"{operation}, group of 10,000 less an empty stack, {fast * 1000:g} ms, seconds",
            found.above_empty(10_000, fast, operation),
            f"at most {aim:g}",
        )
    for latency in found.latencies:
        for operation in OPERATIONS:
            large, small = (found.above_empty(n, latency, operation) for n in (10_000, 1_000))
            if large and small:
                row(
                    f"{operation} less an empty stack, group of 10,000 / 1,000,"
                    f" {latency * 1000:g} ms",
                    statistics.median(large) / statistics.median(small),
                    "at most 11",
                )
    peaks = [
        cell["peak_mib"].get("provider", math.nan)
        for operation in OPERATIONS
        for latency in found.latencies
        for cell in found.of("group", 10_000, latency, operation)
    ]
    row("peak memory of the provider, group of 10,000, MiB", max(peaks, default=math.nan), "250")
    return "### Ratios\n\n" + _table(["", "measured", "aim"], rows)


def _rows(results: Mapping[str, Any]) -> str:
    """Return the cases with a separate aim, and how much longer each takes than its comparison."""
    cases: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for each in results.get("rows", ()):
        label = f"{_label(each['declared'], each['count'])}, {each['latency'] * 1000:g} ms"
        if each["foreign"]:
            label += f", beside {each['foreign']:,} foreign setups"
        cases.setdefault((label, each["operation"], each["beside"]), []).append(each)
    rows = [
        [
            *case,
            _spread([each["seconds"] - each["beside_seconds"] for each in found]),
            "" if found[0]["aim"] is None else f"at most {found[0]['aim']:g}",
            _asked(found[0]["requests"]),
            f"{statistics.median(each['cpu'] for each in found):.1f}",
            *(_peak(found, role) for role in ("program", "provider")),
            f"{found[0]['state_bytes'] / 1000:,.0f}",
        ]
        for case, found in cases.items()
    ]
    if not rows:
        return ""
    head = ["", "", "compared with", "longer by, s", "aim", "requests", "processor, s"]
    head += ["program, MiB", "provider, MiB", "state, kB"]
    count = max(len(found) for found in cases.values())
    return f"### Cases, at most {count} repetitions\n\n" + _table(head, rows)


def _asked(requests: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {route}" for route, n in requests.items()) or "none"


def _paced(results: Mapping[str, Any]) -> str:
    rows = []
    for each in results["paced"]:
        asked = sum(each["requests"].values())
        refused = each.get("refused")
        taken = asked - (refused or 0)
        rows.append(
            [
                _label(each["declared"], each["count"]),
                each["operation"],
                f"{asked:,}",
                "" if refused is None else f"{refused:,}",
                f"{each['seconds']:.1f}",
                "" if refused is None else f"{each['requests_seconds']:.1f}",
                f"{taken / each['limit']:.1f}",
            ]
        )
    if not rows:
        return ""
    head = ["", "", "requests", "of them 429s", "seconds", "first to last request"]
    head += ["seconds that the limit allows"]
    limit = results["paced"][0]["limit"]
    return f"### With a limit of {limit} requests per second\n\n" + _table(head, rows)


def plot(results: Mapping[str, Any], file: Path) -> None:
    """Draw time against number of setups, log-log, a panel for each operation."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "benchmarks"
    from matplotlib import pyplot as plt

    found = _Results(results)
    figure, panels = plt.subplots(2, 3, figsize=(12, 7), sharex=True, sharey=True)
    for panel, operation in zip(panels.flat, OPERATIONS, strict=True):
        for latency, style in zip(found.latencies, ("-", "--", ":"), strict=False):
            for declared, colour in (("group", "tab:blue"), ("resources", "tab:orange")):
                counts = found.counts(declared)
                panel.plot(
                    counts,
                    [found.median(declared, n, latency, operation) for n in counts],
                    style,
                    marker="o",
                    color=colour,
                    label=f"{declared}, {latency * 1000:g} ms",
                )
        panel.axhline(
            found.median("empty", 0, found.latencies[0], operation),
            color="tab:gray",
            label="empty stack",
        )
        panel.set(title=operation, xscale="log", yscale="log")
        panel.grid(visible=True, alpha=0.3)
    figure.supxlabel("setups")
    figure.supylabel("wall time, s")
    panels.flat[0].legend(fontsize="small")
    figure.suptitle(f"{results['engine']}, {results['machine']['cores']} cores")
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


if __name__ == "__main__":
    print(markdown(load(Path(sys.argv[1]))))
