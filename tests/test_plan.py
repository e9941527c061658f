"""The plan as lines and as data: `_plan.py`."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulumi_traceloop._plan import (
    ACTIONS,
    ASKED,
    LINES,
    SECRET,
    Change,
    Matches,
    ResourcePlan,
    announce,
    decoded,
    deleted,
    encoded,
    lines,
    summary,
    with_renames,
)

OWNER = 'AutoMonitorSetupGroup "monitors"'


def setup(value: str = "openai", *evaluators: str) -> str:
    rule = {"key": "k", "source": "span_attributes", "value": value}
    return json.dumps({"selector": [rule], "evaluators": [*(evaluators or ["faithfulness"])]})


def group(*changes: Change, **more: Any) -> ResourcePlan:
    return ResourcePlan(OWNER, list(changes), **more)


def rendered(plan: ResourcePlan, **options: Any) -> list[str]:
    """Return the lines as the engine prints them without colours."""
    return [re.sub(r"<\{%.*?%\}>", "", line) for line in lines(plan, **options)]


def test_plan_of_a_group() -> None:
    plan = group(
        Change("create", "anthropic", after=setup("anthropic")),
        Change("change", "gpt", setup("gpt-4o"), setup("gpt-5", "faithfulness", "toxicity")),
        Change("change", "more", setup(), setup("openai", "faithfulness", "toxicity")),
        Change("delete", "old", setup("azure")),
        Change("adopt", "same", after=setup()),
        Change("replace", "theirs", setup("..."), setup("azure")),
        declares=["anthropic", "gpt", "more", "same", "theirs", "other"],
    )
    assert rendered(plan) == [
        "monitors: 1 to create, 1 to replace, 2 to change, 1 to delete, 1 to adopt, 1 unchanged",
        '  + anthropic  k = "anthropic"          faithfulness',
        '  ~ gpt        k = "gpt-4o" -> "gpt-5"  + toxicity',
        "  ~ more       + toxicity",
        '  - old        k = "azure"              faithfulness',
        "  = same       in Traceloop already and equal: nothing is sent",
        '  ! theirs     replaces what Traceloop has: k = ... -> "azure"',
    ]


def test_single_setup_has_one_line_with_its_resource_if_named_differently() -> None:
    change = Change("create", "x", after=setup())
    plan = ResourcePlan('AutoMonitorSetup "x"', [change], group=False)
    assert rendered(plan) == ['+ x  k = "openai"  faithfulness']
    (line,) = rendered(plan._replace(owner='AutoMonitorSetup "r"'))
    assert line == '+ x  k = "openai"  faithfulness   (AutoMonitorSetup "r")'


def test_common_cause_of_failures_is_reported_once() -> None:
    plan = group(
        *(Change("retry", i, setup("a"), setup("b"), note="no such slug") for i in "ab"),
        Change("recheck", "c", after=setup(), note="perplexity: no model"),
    )
    assert rendered(plan)[1:] == [
        '  * a  k = "a" -> "b"',
        '  * b  k = "a" -> "b"',
        "  ? c  written, but was not ready: nothing is sent",
        "  the last update failed:",
        '    "a", "b": no such slug',
        "  not ready:",
        '    "c": perplexity: no model',
    ]


def test_line_ends_with_the_matches() -> None:
    some = Matches(1240, 2000, hours=24, evaluations=2480)
    none = Matches(0, 2000, hours=24, why="no span has k; 3 have\n<{%fg 1%}> k2")
    plan = group(
        Change("create", "a", after=setup(), matches=some),
        Change("change", "b", setup("x"), setup("y"), matches=none),
        Change("adopt", "c", after=setup(), matches=Matches(0, 8, 3, evaluations=20)),
        Change("delete", "d", setup("gone")),
    )
    printed = [" ".join(line.split()) for line in rendered(plan)[1:]]
    assert printed == [
        '+ a k = "openai" faithfulness matches 1,240 of 2,000 spans (24 h)',
        '~ b k = "x" -> "y" matches none of 2,000: no span has k; 3 have <\\u007b%fg 1%}> k2',
        "= c in Traceloop already and equal: nothing is sent matches up to 3 of 8 spans",
        '- d k = "gone" faithfulness',
        "about 2,500 evaluations a day: matched spans x evaluators",
    ]
    assert not any("a day" in line for line in rendered(plan, tense="done"))


@pytest.mark.parametrize(
    ("hours", "period"),
    [
        (None, ""),
        (24, " (24 h)"),
        (0.5, " (0.5 h)"),
        (1.2, " (1.2 h)"),
        (0.01, " (<0.1 h)"),
        (8760.0, " (8,760 h)"),
    ],
)
def test_period_of_the_spans(hours: float | None, period: str) -> None:
    assert Matches(1, 2, hours=hours).period == period


def test_setups_that_match_nothing_are_truncated_last() -> None:
    changes = [Change("create", f"m-{n:03}", after=setup()) for n in range(LINES + 1)]
    changes[-1] = changes[-1]._replace(matches=Matches(0, 1))
    printed = rendered(group(*changes))
    assert any(f"m-{LINES:03}" in line for line in printed)
    assert not any(f"m-{LINES - 1:03}" in line for line in printed)


def test_update_is_reported_in_the_past_tense() -> None:
    changes = [Change("create", "a", after=setup()), Change("change", "b", setup("1"), setup("2"))]
    assert rendered(group(*changes, declares="abc"), tense="done")[0] == (
        "monitors: 1 created, 1 changed"
    )
    assert summary([Change("change", "b"), Change("delete", "a")], tense="drift") == (
        "1 changed outside of this stack, 1 gone"
    )
    assert deleted(OWNER, ["b", "a"]) == 'monitors: deleted 2 monitor setups: "a", "b"'


def test_invisibly_different_names_are_displayed_differently() -> None:
    ids = ["a b", "a  b", "a\u00a0b", "a\u200bb", "ab"]
    printed = rendered(group(*(Change("create", i, after=setup()) for i in ids)))[1:]
    assert len({" ".join(line.split()) for line in printed}) == len(ids)


def test_plan_without_changes_is_empty() -> None:
    assert lines(group(declares=["a"])) == []


def test_destructive_changes_are_truncated_last() -> None:
    changes = [Change("create", f"{n:03}", after=setup()) for n in range(LINES)]
    printed = rendered(group(*changes, Change("delete", "zzz"), Change("replace", "yyy")))
    assert printed[-1] == "  ... and 2 more"
    assert any(line.startswith("  - zzz") for line in printed)
    assert any(line.startswith("  ! yyy") for line in printed)


def test_values_are_not_colour_markup() -> None:
    plan = group(Change("create", "<{%fg 77%}>", after=setup("<{%fg 77%}>")), Change("move", "m"))
    colours = re.findall(r"<\{%(.*?)%\}>", "".join(lines(plan)))
    assert colours == ["fg 2", "reset", "fg 6", "reset"]


def test_likely_rename_has_a_hint() -> None:
    old, new = Change("delete", "old", setup("x")), Change("create", "new", after=setup("x"))
    gone, come = with_renames([old, new])
    assert (gone.note, come.note) == (
        "(renamed to new? It is equal)",
        "(renamed from old? It is equal)",
    )
    # No hint if several match, or if a part is masked.
    twins = [old, new, new._replace(external_id="other")]
    assert with_renames(twins) == twins
    hidden = [old._replace(before=setup("[secret]")), new._replace(after=setup("[secret]"))]
    assert with_renames(hidden) == hidden


_SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=9)
_TEXTS = st.text(max_size=70) | st.sampled_from(["[secret]", "<unknown>", "...", "k"])
_RULES = st.lists(
    _TEXTS
    | st.fixed_dictionaries(
        {"key": _TEXTS},
        optional={
            "source": _TEXTS,
            "operator": _TEXTS,
            "value": _SCALARS | _TEXTS,
            "values": st.lists(_SCALARS | _TEXTS) | _TEXTS,
        },
    ),
    max_size=9,
)
_EVALUATORS = st.lists(
    _TEXTS | st.fixed_dictionaries({"slug": _TEXTS}, optional={"scope": _TEXTS}), max_size=9
)
_SETUPS = st.sampled_from(["[secret]", "<unknown>", "...", '"[secret]"']) | st.fixed_dictionaries(
    {"selector": _RULES | st.just("[secret]")},
    optional={
        "evaluators": _EVALUATORS,
        "evaluator_configs": _EVALUATORS | st.just("<unknown>"),
        "triggers": st.lists(_SCALARS),
    },
).map(json.dumps)


@given(
    st.lists(
        st.builds(
            Change,
            st.sampled_from(ACTIONS),
            st.text(max_size=9),
            st.none() | _SETUPS,
            st.none() | _SETUPS,
            st.text(max_size=9),
            st.booleans(),
        ),
        max_size=3,
    ),
    st.booleans(),
)
@settings(deadline=None)
def test_every_setup_can_be_printed(changes: list[Change], group: bool) -> None:
    """An update prints what it wrote before that is in the state: an error would lose it."""
    plan = ResourcePlan(OWNER, changes, group=group)
    for tense in ("plan", "done", "drift"):
        assert all(line.isprintable() for line in rendered(plan, tense=tense))


class TestData:
    @given(
        st.lists(
            st.builds(
                Change,
                st.sampled_from(ACTIONS),
                st.text(max_size=5),
                st.none() | st.text(max_size=5),
                st.none() | st.text(max_size=5),
                st.text(max_size=5),
                st.booleans(),
                st.none()
                | st.builds(
                    Matches,
                    st.integers(),
                    st.integers(),
                    st.integers(),
                    st.none() | st.floats(allow_nan=False),
                    st.text(max_size=5),
                    st.none() | st.integers(),
                ),
            )
        ),
        st.text(max_size=5),
    )
    def test_encoded_plan_survives_decoding(self, changes: list[Change], text: str) -> None:
        plan = ResourcePlan(text, changes, [text], text, text, False, text, text)
        line = encoded(plan)
        assert line.isascii()
        assert line.isprintable()
        assert decoded(f"  {line}\n") == plan

    def test_encoded_plan_has_no_secret_of_the_configuration(self) -> None:
        """The engine masks every text that equals a secret of three characters or more."""
        line = encoded(group(Change("create", "a", after=setup("abc"))))
        assert all(len(word) == 2 for word in line.split(" "))
        with pytest.raises(ValueError, match="value of a secret of the configuration occurs in"):
            decoded(line.replace(line[40:48], SECRET))

    @pytest.mark.parametrize(
        "line",
        ["", "monitors: 1 to create", "= checkout  (from the flags)", "traceloop", SECRET],
    )
    def test_foreign_line_is_not_a_plan(self, line: str) -> None:
        assert decoded(line) is None

    @pytest.mark.parametrize("damage", ["cut", "cut to nothing", "changed", "version"])
    def test_damaged_line_is_not_a_plan(self, damage: str) -> None:
        line = encoded(group(Change("create", "a", after=setup())))
        line = {
            "cut": line[:-3],
            "cut to nothing": b"traceloop".hex(" "),
            "changed": line[:-2] + ("00" if line[-2:] != "00" else "11"),
            "version": line.replace(" 01 ", " 02 ", 1),
        }[damage]
        with pytest.raises(ValueError, match="version" if damage == "version" else "damaged"):
            decoded(line)

    def test_is_printed_on_request(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.delenv(ASKED[0], raising=False)
        announce(group(declares=["a"]))
        assert capsys.readouterr().out == ""
        monkeypatch.setenv(*ASKED)
        announce(group(declares=["a"]))
        assert decoded(capsys.readouterr().out) == group(declares=["a"])
