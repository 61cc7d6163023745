"""Fingerprints of OpenPGP keys. KEY and its fingerprint were made and told by gpg 2.2.40."""

from __future__ import annotations

import base64

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import ParseError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.openpgp import fingerprints
from hypothesis import given
from hypothesis import strategies as st

FINGERPRINT = "E515DA2A803F4ACBD38B3158FBAD39413841B1E2"
KEY = """\
-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawTZ1BYJKwYBBAHaRw8BAQdALpmtwnr1Q0OYK0/0fAe724e2q1x4pKLvCoG6
WFPm+VC0BHRlc3SIkAQTFggAOBYhBOUV2iqAP0rL04sxWPutOUE4QbHiBQJrBNnU
AhsDBQsJCAcCBhUKCQgLAgQWAgMBAh4BAheAAAoJEPutOUE4QbHiHAIBAL5sQoSu
lMeQ7wwNSnGtAbi1HyiplqSsl52Wfg8myeOMAQDOr2ivBalQ9+TUlz7i1HYG01lz
V0A9IN/W5TuI2fmHCrg4BGsE2dQSCisGAQQBl1UBBQEBB0B18l6wN6mtFjRqYBQH
7Oy+O3J8u/mYd7+PxM80jypUewMBCAeIeAQYFggAIBYhBOUV2iqAP0rL04sxWPut
OUE4QbHiBQJrBNnUAhsMAAoJEPutOUE4QbHinwgA/AmsXj2VU7rbD6vVnU0W5hek
6dgMejNJupFAVvIC4kKMAQDvx7lqfx+On+VJ18eVV52QWCh6an8NTa7sowoxSsvF
Cw==
=l80r
-----END PGP PUBLIC KEY BLOCK-----
"""


def armored(data: bytes) -> str:
    return KEY.splitlines()[0] + "\n\n" + base64.b64encode(data).decode() + "\n" + KEY.splitlines()[-1] + "\n"


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        KEY.replace("\n", "\r\n"),
        KEY.replace("-----\n\n", "-----\nVersion: GnuPG v2\nComment: a: b\n\n"),
        "uid: test\n" + KEY,
        # a packet header of the new format before the same body
        armored(b"\xc6\x33" + base64.b64decode("".join(KEY.splitlines()[2:11]))[2:53]),
    ],
)
def test_a_key_is_recognized(text: str) -> None:
    assert fingerprints(text) == [FINGERPRINT]


def test_every_key_of_a_file_counts() -> None:
    assert fingerprints(KEY + KEY) == [FINGERPRINT, FINGERPRINT]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no armored OpenPGP key"),
        ("<html>404</html>", "no armored OpenPGP key"),
        (KEY.replace("mDME", "m?ME"), "damaged"),
        (armored(b"\x98\x33\x04"), "cut off"),
        (armored(b"\x98\x02\x03\x00"), "not of version 4"),
        (armored(b"\x00\x00"), "does not begin as one"),
        (armored(b"\x9b\x04"), "without a plain length"),
        (armored(b"\xc6\xe1\x04"), "without a plain length"),
        (armored(b"\xb4\x01x"), "no armored OpenPGP key"),
    ],
)
def test_what_is_no_key_is_refused_in_a_sentence(text: str, words: str) -> None:
    with pytest.raises(ParseError, match=words):
        fingerprints(text)


@given(st.binary(min_size=1, max_size=64))
def test_nothing_but_a_sentence_comes_of_rubbish(data: bytes) -> None:
    try:
        found = fingerprints(armored(data))
    except ParseError:
        return
    assert all(len(one) == 40 for one in found)


@pytest.mark.parametrize("label", ["X", "PGP SIGNATURE", "PGP PUBLIC KEY BLOCK X"])
def test_a_block_that_apt_would_take_and_nobody_has_seen_is_refused(label: str) -> None:
    """Debian 12's apt-key dearmors every block."""
    body = KEY.partition("\n\n")[2].partition("-----END")[0]
    with pytest.raises(ParseError, match="holds one more"):
        fingerprints(f"{KEY}\n-----BEGIN {label}-----\n\n{body}-----END {label}-----\n")
