"""Which external_ids can be."""

from __future__ import annotations

import pytest

from pulumi_traceloop._naming import external_id_problem, is_named


class TestExternalIds:
    @pytest.mark.parametrize(
        "external_id", ["m", "a/b", "...", ".a", "é 漢 🙂", "%2e", "bulk", "a\n"]
    )
    def test_almost_anything_will_do(self, external_id: str) -> None:
        assert external_id_problem(external_id) is None

    @pytest.mark.parametrize(
        ("external_id", "reason"),
        [
            (None, "must be a string"),
            (7, "must be a string"),
            ("", "must not be empty"),
            (" \t", "must not be empty"),
            (".", 'must not be "."'),
            ("..", 'must not be ".."'),
            ("a\ud800", "must be valid Unicode text"),
        ],
    )
    def test_is_refused(self, external_id: object, reason: str) -> None:
        assert (external_id_problem(external_id) or "").startswith(reason)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [(["a-*"], True), (["b", "a-[1]"], True), (["a-?"], False), ([], False), (["A-*"], False)],
)
def test_a_name_is_named_by_itself_and_by_patterns(patterns: list[str], expected: bool) -> None:
    assert is_named("a-[1]", patterns) is expected
