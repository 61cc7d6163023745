# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Patterns whose repeats have an end, so that no line costs more than its length. Pure.

``A.*B`` looks at the whole rest of a line for every A; what an engine prints may be made by whom it serves.
"""

from __future__ import annotations

import re

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import literals

# How often what stands before a star or a plus may repeat: words and paths are short, numbers shorter.
MOST = {".": 160, r"\S": 200, r"\w": 64, r"\d": 20, r"\s": 8}
MOST_OF_CLASS, MOST_OF_OTHERS, MOST_OF_LETTER, MOST_OF_GROUP = 64, 200, 8, 8


def compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern that is searched for in lines of strangers."""
    return re.compile(bounded(pattern))


def bounded(pattern: str) -> str:
    """The pattern with a count in place of each star and plus."""
    found, position, last = [], 0, ""
    while position < len(pattern):
        letter = pattern[position]
        if letter in "*+" and last:
            found.append(f"{{{int(letter == '+')},{_most(last)}}}")
            position += 1
            last = ""
            continue
        width = 1
        if letter == "\\":
            width = 2
        elif letter == "[":
            width = literals.class_end(pattern, position) - position
        last = pattern[position : position + width]
        found.append(last)
        position += width
        if last == "(":
            # the question mark of "(?:" repeats nothing
            last = ""
    return "".join(found)


def _most(what: str) -> int:
    if what in MOST:
        return MOST[what]
    if what[0] == "[":
        return MOST_OF_OTHERS if what[1] == "^" else MOST_OF_CLASS
    return MOST_OF_GROUP if what == ")" else MOST_OF_LETTER
