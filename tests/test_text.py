"""What a person reads about failures."""

from __future__ import annotations

import pytest

from pulumi_traceloop._text import CAUSES, NAMES, by_cause, names


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, ""),
        (1, '"m-0"'),
        (2, '"m-0", "m-1"'),
        (5, '"m-0", "m-1", "m-2", "m-3", "m-4"'),
        (6, '"m-0", "m-1", "m-2", "m-3", "m-4" and 1 more'),
        (1000, '"m-0", "m-1", "m-2", "m-3", "m-4" and 995 more'),
    ],
)
def test_names_shows_the_first_five_and_counts_the_rest(count: int, text: str) -> None:
    assert names([f"m-{n}" for n in range(count)]) == text


def test_names_keeps_the_order() -> None:
    assert names(["b", "a"]) == '"b", "a"'


def test_nothing_failed_is_no_line() -> None:
    assert by_cause({}) == ""


def test_one_cause_is_one_line() -> None:
    assert by_cause({"a": "no", "b": "no"}) == '  "a", "b": no'


def test_external_ids_of_a_cause_are_sorted() -> None:
    assert by_cause({"c": "no", "a": "no", "b": "no"}) == '  "a", "b", "c": no'


def test_many_external_ids_of_a_cause_are_cut_off() -> None:
    failed = {f"m-{n:03}": "no" for n in range(100)}
    assert by_cause(failed).endswith(f'"m-004" and {100 - NAMES} more: no')


def test_the_most_frequent_cause_comes_first() -> None:
    failed = {"a": "rare", "b": "frequent", "c": "frequent"}
    assert by_cause(failed) == '  "b", "c": frequent\n  "a": rare'


def test_causes_as_frequent_are_sorted_by_external_id() -> None:
    assert by_cause({"b": "x", "a": "z", "c": "y"}) == '  "a": z\n  "b": x\n  "c": y'


def test_the_text_does_not_depend_on_the_order_of_the_failures() -> None:
    failed = {f"m-{n}": f"cause {n % 3}" for n in range(10)}
    assert by_cause(dict(reversed(failed.items()))) == by_cause(failed)


def test_as_many_causes_as_are_told_leave_no_rest() -> None:
    lines = by_cause({f"m-{n:02}": f"cause {n}" for n in range(CAUSES)}).splitlines()
    assert len(lines) == CAUSES
    assert lines[-1] == '  "m-09": cause 9'


def test_further_causes_are_counted() -> None:
    failed = {f"m-{n:02}": f"cause {n}" for n in range(CAUSES + 2)}
    failed |= {f"n-{n}": "the frequent one" for n in range(7)}
    lines = by_cause(failed).splitlines()
    assert len(lines) == CAUSES + 1
    assert lines[0].endswith("and 2 more: the frequent one")
    assert lines[-1] == "  and 3 more, for 3 other reasons"
