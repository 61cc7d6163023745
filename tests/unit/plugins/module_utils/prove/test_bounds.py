"""Patterns that are searched for in lines of strangers end in time."""

from __future__ import annotations

import re
import time

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import bounds, loglines
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signatures import TABLE
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.*b", "a.{0,160}b"),
        (r"\w+ x", r"\w{1,64} x"),
        (r"(?P<path>/\S+?\.so)", r"(?P<path>/\S{1,200}?\.so)"),
        (r"[^)*+]*\*\+", r"[^)*+]{0,200}\*\+"),
        (r"[\]+]+(?:ab)*", r"[\]+]{1,64}(?:ab){0,8}"),
        (r"x{1,3}y?", r"x{1,3}y?"),
    ],
)
def test_a_count_takes_the_place_of_stars(pattern: str, expected: str) -> None:
    assert bounds.bounded(pattern) == expected


@given(st.text("ab *+.c", max_size=40))
def test_a_bounded_pattern_finds_what_the_other_finds(text: str) -> None:
    for pattern in (r"a.*b", r"\w+ c", r"[^a]+c", r"a *b\+"):
        one, other = re.search(pattern, text), bounds.compiled(pattern).search(text)
        assert (one and one.span()) == (other and other.span())


HOSTILE = ("{0}", "{0} ", "/{0}", "{0}:", "x {0}='")


@pytest.mark.parametrize("one", TABLE, ids=lambda one: one.id)
def test_no_signature_is_slow(one: object) -> None:
    """The begin of each pattern, again and again, in lines as long as they are searched."""
    signature = next(entry for entry in TABLE if entry is one)
    texts = {"a", " ", "/", "0", "."}
    for literal, _pattern in signature.compiled:
        texts |= {literal, literal[: len(literal) // 2], f"{literal}a", f"{literal}0/"} - {""}
    lines = [form.format(text) * (loglines.LONGEST // len(form.format(text))) for text in texts for form in HOSTILE]
    begin = time.process_time()
    for line in lines:
        for literal, _pattern in signature.compiled:
            signature.search(f"{line}{literal}")
            signature.search(f"{literal}{line}")
    size = sum(map(len, lines)) * 2 * len(signature.compiled)
    # a second per megabyte, and as much again for a busy machine and its clock
    assert time.process_time() - begin < 0.2 + 2.0 * size / 1e6
