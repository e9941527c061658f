"""Files of setups: read, refused and drawn at random."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from pulumi_traceloop import _validation
from pulumi_traceloop.files import FileError, FileProblem, load_setups
from tests.support import REPOSITORY

TEXTS = st.sampled_from(["", " ", "\t\u2003", "a", "b", "faithfulness", "é", "1"])
JUNK = st.sampled_from([None, True, 0, 1.5, "", "x", [], ["x"], [1], [None], {}, {"a": "b"}])
OPERATORS = st.sampled_from(typing.get_args(_validation.Operator))
RULES = st.fixed_dictionaries(
    {"key": st.just("a"), "source": st.sampled_from(typing.get_args(_validation.Source))},
    optional={
        "operator": OPERATORS,
        "value": TEXTS | st.none(),
        "values": st.lists(TEXTS, max_size=2) | st.none(),
    },
)
ANY_RULES = RULES | st.fixed_dictionaries(
    {},
    optional={
        "key": TEXTS | JUNK,
        "source": st.just("span_attributes") | JUNK,
        "operator": OPERATORS | JUNK,
        "value": TEXTS | JUNK,
        "values": st.lists(TEXTS | JUNK, max_size=2) | JUNK,
        "valeu": JUNK,
    },
)
SCOPES = st.sampled_from([None, *typing.get_args(_validation.Scope)])
CONFIGS = st.fixed_dictionaries({"slug": TEXTS}, optional={"scope": SCOPES})
ANY_CONFIGS = CONFIGS | st.fixed_dictionaries(
    {}, optional={"slug": TEXTS | JUNK, "scope": SCOPES | JUNK, "scop": JUNK}
)
GOOD_RULES = st.just({"key": "a", "source": "span_attributes", "operator": "exists"})
SETUPS = st.fixed_dictionaries(
    {},
    optional={
        "selector": st.lists(GOOD_RULES | RULES | ANY_RULES, max_size=2) | JUNK,
        "evaluators": st.lists(TEXTS | JUNK, max_size=3) | JUNK,
        "evaluator_configs": st.lists(ANY_CONFIGS | JUNK, max_size=3) | JUNK,
        "triggers": JUNK,
        "evaluatrs": JUNK,
    },
)
PLAUSIBLE = st.one_of(
    st.fixed_dictionaries(
        {"selector": st.lists(RULES, min_size=1, max_size=1), "evaluators": st.just(["a"])}
    ),
    st.fixed_dictionaries(
        {"selector": st.just([]) | st.lists(GOOD_RULES, min_size=1, max_size=1)},
        optional={
            "evaluators": st.none() | st.lists(TEXTS, max_size=2),
            "evaluator_configs": st.none() | st.lists(CONFIGS, max_size=2),
            "triggers": st.none() | st.lists(JUNK, max_size=2),
        },
    ),
)


def accepted(setup: object) -> bool:
    return not _validation.problems(setup)


EXAMPLE = REPOSITORY / "examples" / "monitors.yaml"


def load(text: str | bytes, name: str = "m.yaml") -> dict[str, dict[str, Any]]:
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_setups(name)


def wrong(text: str | bytes, name: str = "m.yaml") -> list[FileProblem]:
    with pytest.raises(FileError) as caught:
        load(text, name)
    return caught.value.problems
