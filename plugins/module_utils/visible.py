# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Makes text of strangers harmless for a terminal: what controls one is written out. Pure."""

from __future__ import annotations

import re

# Control characters but tab and line feed, what turns the direction of writing, what breaks lines, what is no text.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """A text as it may be printed: ESC becomes the four letters \\x1b."""
    return _CONTROLS.sub(_written, text)


def _written(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
