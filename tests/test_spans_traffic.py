"""How much of the traffic setups match: `spans/traffic.py`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pulumi_traceloop._client import TraceloopClient
from pulumi_traceloop._settings import Connection
from pulumi_traceloop.spans.matching import Rule, Span, SpanIndex
from pulumi_traceloop.spans.traffic import Traffic, of_files, of_service, seconds_in
from tests.support.span_service import SERVICE_SPAN, SpanService

MODEL = "gen_ai.request.model"
SPANS = [Span({MODEL: model}) for model in ("gpt-4o", "gpt-4o", "gpt-5", "o3")]


def traffic(hours: float | None = 24, *, daily: bool = True) -> Traffic:
    return Traffic(SpanIndex(SPANS), hours, daily)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("24h", 86_400), ("7d", 604_800), ("1w", 604_800)]
    + [(text, None) for text in ("0h", "24", "h", "1.5h", "spans.jsonl", "24h ", "-1h")],
)
def test_time_span(text: str, seconds: int | None) -> None:
    assert seconds_in(text) == seconds


@pytest.mark.parametrize(
    ("hours", "daily", "evaluations"),
    [(24, True, 4), (12, True, 8), (48, True, 2), (None, True, None), (24, False, None)],
)
def test_evaluations_a_day(hours: float | None, daily: bool, evaluations: int | None) -> None:
    found = traffic(hours, daily=daily).matches([Rule(MODEL, value="gpt-4o")], 2)
    assert found is not None
    assert (found.matched, found.sampled, found.evaluations) == (2, 4, evaluations)


def test_undecided_matches_count_as_evaluations() -> None:
    found = traffic().matches([Rule(MODEL, value="gpt-4o")], 1, partly_hidden=True)
    assert found is not None
    assert (found.matched, found.undecided, found.evaluations) == (0, 2, 2)


def test_no_figure_without_spans() -> None:
    assert Traffic(SpanIndex([]), 24, daily=True).matches([Rule(MODEL)], 1) is None


def test_reason_of_a_secret_rule_has_no_values() -> None:
    """The first displayed value would be the nearest to the secret."""
    open_ = traffic().matches([Rule(MODEL, value="gpt-4")], 1)
    assert open_ is not None
    assert "gpt-4o 2" in open_.why
    hidden = traffic().matches([Rule(MODEL, value="gpt-4")], 1, secrets={"gpt-4"})
    assert hidden is not None
    assert hidden.why == f"no span has {MODEL} with such a value"
    key = traffic().matches([Rule("partner-4711", operator="exists")], 1, secrets={"partner-4711"})
    assert key is not None
    assert key.none
    assert key.why == ""


def client(service: SpanService) -> TraceloopClient:
    return TraceloopClient.connect(Connection("", "k", service.url, 10))


class TestService:
    NOW = 1_700_000_000 + 7200

    def test_all_spans_of_a_period(self) -> None:
        with SpanService() as service:
            service.pages[""] = {"spans": {"data": [SERVICE_SPAN] * 3}}
            found = of_service(client(service), 86_400, now=lambda: self.NOW)
        assert (found.hours, found.daily, found.problems) == (24, True, [])
        assert service.queries[0]["from_timestamp_sec"] == str(self.NOW - 86_400)

    def test_truncated_sample_covers_less(self) -> None:
        """The newest spans are from the last two hours only."""
        with SpanService() as service:
            service.pages[""] = {"spans": {"data": [SERVICE_SPAN] * 3, "next_cursor": "2"}}
            found = of_service(client(service), 86_400, limit=3, now=lambda: self.NOW)
        assert found.hours == pytest.approx(2, abs=0.01)

    def test_no_span(self) -> None:
        with SpanService() as service:
            service.pages[""] = {"spans": {"data": []}}
            found = of_service(client(service), 86_400, now=lambda: self.NOW)
        assert [*found.problems] == [
            "Traceloop recorded no span in this time, in the environment of the API key"
        ]


@pytest.mark.parametrize(("apart", "daily"), [(3600, True), (3599, False), (0, False)])
def test_short_capture_has_no_daily_figure(tmp_path: Path, apart: int, daily: bool) -> None:
    start = int(SERVICE_SPAN["timestamp"])  # type: ignore[call-overload]
    spans = [{**SERVICE_SPAN, "timestamp": start + 1000 * n} for n in (0, apart)]
    file = tmp_path / "spans.json"
    file.write_text(json.dumps(spans))
    found = of_files([file])
    assert found.daily is daily
    assert found.hours == (pytest.approx(apart / 3600) if apart else None)


@pytest.mark.parametrize("others", [[86_400], [4e9], [1_700_000_000 - 5 * 86_400 + 60]])
def test_gaps_and_wrong_clocks_do_not_dilute_the_daily_figure(
    tmp_path: Path, others: list[float]
) -> None:
    times = [1_700_000_000 + 3600 * n / 100 for n in range(201)] + others
    file = tmp_path / "spans.json"
    file.write_text(json.dumps([{**SERVICE_SPAN, "timestamp": time * 1000} for time in times]))
    found = of_files([file])
    assert found.daily
    assert found.hours is not None
    assert 2 <= found.hours <= 4


def test_files_of_distant_days_cover_only_their_hours(tmp_path: Path) -> None:
    files = []
    for day in (0, 5):
        start = 1_700_000_000 + day * 86_400
        spans = [{**SERVICE_SPAN, "timestamp": (start + n) * 1000} for n in (0, 1800, 3600)]
        files.append(tmp_path / f"{day}.json")
        files[-1].write_text(json.dumps(spans))
    assert of_files(files).hours == 4
