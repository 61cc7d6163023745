"""What is written for systemd is what systemd reads."""

from __future__ import annotations

import unicodedata

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.systemd import quote_environment, read_environment
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import environment_file


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("", '""'),
        ("plain", '"plain"'),
        (" two  words ", '" two  words "'),
        ('say "hi"', r'"say \"hi\""'),
        ("it's", '"it\'s"'),
        ("costs $5 ${HOME}", r'"costs \$5 \${HOME}"'),
        ("100 % %i", '"100 % %i"'),
        ("back\\slash", r'"back\\slash"'),
        ("`id`", r'"\`id\`"'),
        ("# no comment; neither", '"# no comment; neither"'),
        ("a\tb\nc", '"a\tb\nc"'),
        ("größe 大 🙂", '"größe 大 🙂"'),
        ("0,1|2,3", '"0,1|2,3"'),
    ],
)
def test_quoting(value: str, quoted: str) -> None:
    assert quote_environment(value) == quoted
    assert environment_file.read(f"NAME={quoted}\n") == {"NAME": value}


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_every_value_is_read_back_or_refused(values: list[str]) -> None:
    written, refused = {}, []
    for position, value in enumerate(values):
        try:
            written[f"V{position}"] = (value, quote_environment(value))
        except InputError:
            refused.append(value)
    text = "# a comment\n" + "".join(f"{name}={quoted}\n" for name, (_, quoted) in written.items())
    assert environment_file.read(text) == {name: value for name, (value, _) in written.items()}
    assert read_environment(text) == environment_file.read(text)
    for value in refused:
        control = any(unicodedata.category(c) == "Cc" and c not in "\t\n" for c in value)
        assert control or not environment_file.valid_utf8(value)


@pytest.mark.parametrize(
    "character",
    [*map(chr, (0, 1, 7, 8, 11, 12, 13, 27, 31, 127, 0xD800, 0xDFFF, 0xFDD0, 0xFFFE, 0x1FFFF))],
)
def test_what_has_no_place_in_the_file_is_refused(character: str) -> None:
    with pytest.raises(InputError) as raised:
        quote_environment(f"a{character}b")
    assert repr(character) in str(raised.value)
    assert str(raised.value).endswith("which has no place in an environment file; take it out.")


# The reader above is written for these tests, so what systemd.exec(5) says of the format is asked of it too.
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A=1\nB=2", {"A": "1", "B": "2"}),
        ("# A=1\n; B=2\n\n  C = 3  \n", {"C": "3"}),
        ("A=a b", {"A": "a b"}),
        ("A='a\"$b\\c'", {"A": 'a"$b\\c'}),
        (r'A="a\"b\\c\$d\`e\f"', {"A": 'a"b\\c$d`e\\f'}),
        ('A="one\ntwo"', {"A": "one\ntwo"}),
        ('A="one \\\ntwo"', {"A": "one two"}),
        ("A=one\\\ntwo", {"A": "onetwo"}),
        ("A=$HOME%i", {"A": "$HOME%i"}),
        ('A="x"y', {"A": "xy"}),
        ("# a \\\nA=1\nB=2", {"A": "1", "B": "2"}),
        ("no value\nB=2", {"B": "2"}),
        ("A=a \\\n\nB=2", {"A": "a ", "B": "2"}),
        ("A=a\\ \nB=2", {"A": "a ", "B": "2"}),
        ('A="no end\nB=2', {"A": "no end\nB=2"}),
    ],
)
def test_the_reader_follows_the_manual(text: str, found: dict[str, str]) -> None:
    assert environment_file.read(text) == found


@pytest.mark.parametrize("character", ["\ufdd0", "\uffff", "\U0010fffe"])
def test_one_value_that_is_no_text_spoils_the_file(character: str) -> None:
    with pytest.raises(ValueError, match="invalid UTF-8 value for key A"):
        environment_file.read(f"A=a{character}\nB=2\n")
