# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Fingerprints of the keys in an armored OpenPGP file, so that a downloaded key can be compared with a pinned one.

Pure, and without gpg, which hosts need not have. RFC 4880: 4.2 packet headers, 5.5.2 public keys, 6.2 armor,
12.2 fingerprints of version 4 keys. A subkey counts as a part of its key and is not listed.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import ParseError

_ARMOR = re.compile(
    r"-----BEGIN PGP PUBLIC KEY BLOCK-----[ \t]*\r?\n(?:[^\r\n:]+:[^\r\n]*\r?\n)*[ \t]*\r?\n((?:[^-]|-(?!----))*)"
    r"-----END PGP PUBLIC KEY BLOCK-----"
)
_PUBLIC_KEY = 6


def fingerprints(text: str) -> list[str]:
    """The fingerprints of all keys in the text, in upper-case hexadecimal digits, in order.

    Raises ParseError where there is no key, one that cannot be read (also for keys of other versions than 4), or a
    block of another kind.
    """
    if "-----BEGIN" in _ARMOR.sub("", text):
        # apt takes such a block too, whatever stands behind BEGIN
        raise ParseError(
            "Besides blocks of '-----BEGIN PGP PUBLIC KEY BLOCK-----' the file holds one more, which apt would trust."
        )
    found = [
        _fingerprint(body) for block in _ARMOR.findall(text) for tag, body in _packets(block) if tag == _PUBLIC_KEY
    ]
    if not found:
        raise ParseError("This is no armored OpenPGP key: there is no '-----BEGIN PGP PUBLIC KEY BLOCK-----' in it.")
    return found


def fingerprints_of(data: bytes) -> list[str]:
    """The same of a key file as apt reads one, armored or binary. Raises ParseError."""
    if b"-----BEGIN PGP" in data:
        return fingerprints(data.decode(errors="replace"))
    found = [_fingerprint(body) for tag, body in _binary(data) if tag == _PUBLIC_KEY]
    if not found:
        raise ParseError("There is no OpenPGP key in the file.")
    return found


def _packets(block: str) -> Iterator[tuple[int, bytes]]:
    lines = [line.strip() for line in block.splitlines()]
    try:
        # The line that begins with = is a checksum of what is before it.
        data = base64.b64decode("".join(line for line in lines if line and not line.startswith("=")), validate=True)
    except ValueError as error:
        raise ParseError(f"The OpenPGP key is damaged: {error}.") from error
    yield from _binary(data)


def _binary(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place < len(data):
        tag, start, length = _header(data, place)
        place = start + length
        if place > len(data):
            raise ParseError("The OpenPGP key is cut off.")
        yield tag, data[start:place]


def _header(data: bytes, place: int) -> tuple[int, int, int]:
    """Tag, where the body begins, and its length in bytes."""
    first = data[place]
    try:
        if first & 0xC0 == 0x80:
            size = (1, 2, 4)[first & 3]
            return (first >> 2) & 15, place + 1 + size, int.from_bytes(data[place + 1 : place + 1 + size], "big")
        if first & 0xC0 == 0xC0:
            return (first & 63, *_new_length(data, place + 1))
    except IndexError as error:
        raise ParseError("The OpenPGP key has a packet without a plain length.") from error
    raise ParseError("The OpenPGP key is damaged: a packet does not begin as one.")


def _new_length(data: bytes, place: int) -> tuple[int, int]:
    first = data[place]
    if first < 192:
        return place + 1, first
    if first < 224:
        return place + 2, ((first - 192) << 8) + data[place + 1] + 192
    if first == 255:
        return place + 5, int.from_bytes(data[place + 1 : place + 5], "big")
    raise IndexError


def _fingerprint(body: bytes) -> str:
    if body[:1] != b"\x04":
        raise ParseError("The OpenPGP key is not of version 4; only those can be compared.")
    return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body, usedforsecurity=False).hexdigest().upper()
