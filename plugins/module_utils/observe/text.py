# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Cleans text that passed through terminals, logs and issue trackers, without moving its columns or lines."""

from __future__ import annotations

import re

# A whole escape (ESC or its visible stand-ins, then the code) or one that lost its first byte: "[4m".
_ESCAPE = re.compile(
    r"(?:\x1b|\x9b|\ufffd|\u241b|\u2190|\^\[|<?ESC>?|\\(?:033|e|x1b|u001b|u001B))\[(?:\d{1,3}(?:;\d{1,3})*)?[mK]"
    r"|\[\d{1,3}(?:;\d{1,3})*[mK]"
    r"|[\x1b\x9b\u241b]\(B|\x9b\d{1,3}m"
)
# "4mGPU0" and "GPU NUMA ID0m": only the letters of an escape are left, next to a word of the table.
_ESCAPE_REST = re.compile(r"(?<![0-9A-Za-z])[04]m(?=GPU\s?\d)|(?<=ID)\s?0?m(?![A-Za-z])")
_STRAY = re.compile("[\x00-\x08\x0b-\x1f\x7f\x9b\ufffd\u200b\u200e\u200f\ufeff]")
_BLANKS = str.maketrans({"\u00a0": " ", "\u2007": " ", "\u202f": " ", "\u3000": " ", "|": " "})


def clean_line(line: str) -> str:
    """Remove escapes and control characters; table bars and odd blanks become spaces; tabs stay."""
    line = _ESCAPE.sub("", line)
    line = _ESCAPE_REST.sub("", line)
    return _STRAY.sub("", line).translate(_BLANKS).rstrip()


def clean_lines(text: str) -> list[str]:
    """The lines of a text, cleaned. Line numbers stay what they were."""
    return [clean_line(line) for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]


def is_whole(text: str) -> bool:
    """Whether a text is a number as int() takes it, and no longer than one can be."""
    return text.isascii() and text.isdigit() and len(text) < 19
