"""Secrets are masked in messages, and the rest stays readable."""

from __future__ import annotations

import json

import pytest

from pulumi_traceloop._masking import masked

HIDDEN = "[secret]"


@pytest.mark.parametrize(
    ("text", "secrets", "seen"),
    [
        ("key hunter2 is wrong", ["hunter2"], f"key {HIDDEN} is wrong"),
        ("hunter2hunter2", ["hunter2"], HIDDEN * 2),
        # A secret that is a part of another, or of the placeholder.
        ("hunter2 and hunter22", ["hunter2", "hunter22"], f"{HIDDEN} and {HIDDEN}"),
        ("hunter2 secret", ["hunter2", "secret", "[secret]"], f"{HIDDEN} {HIDDEN}"),
        ("a hunter2", ["hunter2", "ecre"], f"a {HIDDEN}"),
        # Escaped as in JSON and in a one-line message.
        (r'"tab\there"', ["tab\there"], f'"{HIDDEN}"'),
        (json.dumps("Ünïque"), ["Ünïque"], f'"{HIDDEN}"'),
        (r'"Ün\"ïq\\ue"', ['Ün"ïq\\ue'], f'"{HIDDEN}"'),
        ("two lines", ["two\nlines"], HIDDEN),
        # Short secrets are masked as whole words.
        ('must be one of "equals", not "e"', ["e"], f'must be one of "equals", not "{HIDDEN}"'),
        ("4711 is not 7", ["7"], f"4711 is not {HIDDEN}"),
        ("values[7]: abc", ["7", "abc"], f"values[{HIDDEN}]: {HIDDEN}"),
        ("abcd", ["abc"], "abcd"),
        ("xabcdx", ["abcd"], f"x{HIDDEN}x"),
        ("a.b", ["."], "a.b"),
        # Nothing to hide.
        ("a  b", [" ", "", "\n"], "a  b"),
        ("text", [], "text"),
    ],
)
def test_masks_secrets(text: str, secrets: list[str], seen: str) -> None:
    assert masked(text, secrets) == seen
    assert masked(text, reversed(secrets)) == seen
