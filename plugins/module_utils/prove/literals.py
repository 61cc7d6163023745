# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a line has to hold, letter by letter, for a pattern to match it. Pure.

A search for a plain text costs a hundredth of one for a pattern, and a log of megabytes meets hundreds of patterns.
"""

from __future__ import annotations

SPECIAL = ".^$[]()|"
QUANTIFIERS = "?*{"


def needed(pattern: str) -> str:
    """The longest text that every match of a pattern holds; empty where none is sure.

    Only what stands outside of groups and classes is looked at, so that the answer may be short, and never wrong.
    """
    if pattern.startswith("(?") and pattern[2:3] not in ("P", ":", "!", "=", "<"):
        return ""
    runs, run, position, depth = [""], "", 0, 0
    while position < len(pattern):
        letter = pattern[position]
        literal, width = _literal(pattern, position)
        if letter == "[":
            width = class_end(pattern, position) - position
            literal = None
        elif letter == "{":
            # a count of what stands before it
            width = max(1, pattern.find("}", position) + 1 - position)
        elif letter == "(":
            depth += 1
        elif letter == ")":
            depth -= 1
        elif letter == "|" and depth == 0:
            return ""
        after = pattern[position + width : position + width + 1]
        if depth or letter == ")" or literal is None or (after in QUANTIFIERS and after):
            runs.append(run)
            run = ""
        else:
            run += literal
            if after == "+":
                runs.append(run)
                run = ""
        position += width
    return max([*runs, run], key=len)


def _literal(pattern: str, position: int) -> tuple[str | None, int]:
    """The letter that stands at a position, None for what is none, and how much of the pattern it takes."""
    letter = pattern[position]
    if letter == "\\":
        escaped = pattern[position + 1 : position + 2]
        return (None if escaped.isalnum() or not escaped else escaped), 2
    return (None if letter in SPECIAL or letter in "+?*{" else letter), 1


def class_end(pattern: str, position: int) -> int:
    """Where a class of letters that begins at a position is over."""
    end = position + 1
    if pattern[end : end + 1] == "^":
        end += 1
    if pattern[end : end + 1] == "]":
        end += 1
    while end < len(pattern) and pattern[end] != "]":
        end += 2 if pattern[end] == "\\" else 1
    return end + 1
