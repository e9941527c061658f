"""Texts for users: different values look different; failures are grouped: `_text.py`."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pulumi_traceloop._text import (
    CAUSES,
    NAMES,
    VALUE_WIDTH,
    by_cause,
    columns,
    cut,
    name,
    names,
    pair,
    printable,
    quoted,
    say,
)

#: Pairs of texts that look alike in a terminal or a browser.
ALIKE = [
    ("a", "a\n"),
    ("a b", "a  b"),
    ("a b", "a\u00a0b"),
    ("ab", "a\u200bb"),
    ("ab", "a\u2060b"),
    ("a", "a\ufe0f"),
    ("a", "a\u3164"),
    ("\u00e9", "e\u0301"),
    ("\u2126", "\u03a9"),
    ("a", " a"),
    ("a\\n", "a\n"),
    ('"a"', "a"),
    ("a\u2028b", "a\u2029b"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_similar_texts_are_displayed_differently(one: str, other: str) -> None:
    for spell in (quoted, name):
        assert _drawn(spell(one)) != _drawn(spell(other))
    assert _drawn(pair(one, other)[0]) != _drawn(pair(one, other)[1])


@given(st.text(max_size=200), st.text(max_size=200))
@example("x" * 100 + "a" + "x" * 100, "x" * 100 + "b" + "x" * 100)
@example("x" * 100, "x" * 101)
@example('"', '\\"')
def test_different_texts_are_never_displayed_alike(one: str, other: str) -> None:
    for spell in (quoted, name):
        assert (_drawn(spell(one)) == _drawn(spell(other))) is (one == other)
        assert spell(one).isprintable()
    if one != other:
        first, second = pair(one, other)
        assert _drawn(first) != _drawn(second)
        assert first.isprintable()


def _drawn(text: str) -> str:
    """Return a text as a browser draws it: composed, with single blanks."""
    return " ".join(unicodedata.normalize("NFC", text).split(" "))


def test_change_is_truncated_around_its_first_difference() -> None:
    arn = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/"
    first, second = pair(f"{arn}q1abc", f"{arn}z9abc")
    assert first.endswith('/q1abc"')
    assert second.endswith('/z9abc"')
    assert first.startswith('..."')
    assert len(first) <= VALUE_WIDTH + 8
    first, second = pair("a" + "x" * 100, "b" + "x" * 100)
    assert first.startswith('"a')
    assert second.endswith('"...')


@pytest.mark.parametrize(
    ("old", "new"), [("gpt-4o", "gpt-4\u043e"), ("\uff41b", "ab"), ("\u0410", "A")]
)
def test_letters_of_another_script_are_escaped(old: str, new: str) -> None:
    assert all(side.isascii() for side in pair(old, new))


def test_visibly_different_letters_are_not_escaped() -> None:
    assert pair("größe", "grüße") == ('"größe"', '"grüße"')


@pytest.mark.parametrize("text", ["checkout", "a.b/c:d@e", "größe", "日本語"])
def test_plain_name_has_no_quotes(text: str) -> None:
    assert name(text) == text


@pytest.mark.parametrize("spell", [quoted, name, printable])
def test_markup_of_the_engine_is_escaped(spell: type[str]) -> None:
    """The CLI panics on an unknown colour."""
    assert "<{%" not in spell("a<{%fg 77%}>b")


def test_truncated_texts_are_counted_and_distinct() -> None:
    assert cut(["a", "b", "c"], 2) == ["a", "b", "c"]
    assert cut(["a", "b", "c", "d"], 2) == ["a", "b", "and 2 more"]
    first, second = (cut(list(text), 2, list(text))[-1] for text in ("abcd", "abce"))
    assert first != second


def test_columns_are_aligned_without_trailing_blanks() -> None:
    assert columns([["a", "b"], ["ccc", "d", "e"], ["f"], ["日本", "g", "h"]]) == [
        "a     b",
        "ccc   d  e",
        "f",
        "日本  g  h",
    ]


def test_unprintable_text_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", closed)
    say("日本語")
    closed.close()
    say("nobody listens")
    monkeypatch.setattr(sys, "stdout", None)  # as Python sets it for a closed descriptor
    say("nobody can listen")


def test_broken_pipe_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = os.pipe()
    os.close(theirs)
    pipe = io.TextIOWrapper(os.fdopen(ours, "wb", buffering=0), write_through=True)
    monkeypatch.setattr(sys, "stdout", pipe)
    with pytest.raises(BrokenPipeError):
        print("nobody listens", flush=True)
    say("nobody listens")
    with suppress(BrokenPipeError):
        pipe.close()


def test_two_threads_do_not_share_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: say(f"{n:04}"), range(2000)))
    assert sorted(capsys.readouterr().out.splitlines()) == [f"{n:04}" for n in range(2000)]


def test_process_writes_utf8_into_any_pipe() -> None:
    program = "from pulumi_traceloop._text import *; use_utf8(); say('日本語 \\ud800')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().rstrip() == "日本語 \\ud800"


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


def test_no_failure_is_no_line() -> None:
    assert by_cause({}) == ""


def test_one_cause_is_one_line() -> None:
    assert by_cause({"a": "no", "b": "no"}) == '  "a", "b": no'


def test_external_ids_of_a_cause_are_sorted() -> None:
    assert by_cause({"c": "no", "a": "no", "b": "no"}) == '  "a", "b", "c": no'


def test_many_external_ids_of_a_cause_are_truncated() -> None:
    failed = {f"m-{n:03}": "no" for n in range(100)}
    assert by_cause(failed).endswith(f'"m-004" and {100 - NAMES} more: no')


def test_most_frequent_cause_comes_first() -> None:
    failed = {"a": "rare", "b": "frequent", "c": "frequent"}
    assert by_cause(failed) == '  "b", "c": frequent\n  "a": rare'


def test_equally_frequent_causes_are_sorted_by_external_id() -> None:
    assert by_cause({"b": "x", "a": "z", "c": "y"}) == '  "a": z\n  "b": x\n  "c": y'


def test_text_does_not_depend_on_the_order_of_failures() -> None:
    failed = {f"m-{n}": f"cause {n % 3}" for n in range(10)}
    assert by_cause(dict(reversed(failed.items()))) == by_cause(failed)


def test_causes_up_to_the_limit_leave_no_rest() -> None:
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
