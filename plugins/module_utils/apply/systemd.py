# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Write text so that systemd reads back just what was meant."""

from __future__ import annotations

import re

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError

# systemd.exec(5), EnvironmentFile=: inside double quotes a backslash keeps these from their meaning.
ENVIRONMENT_FILE_SPECIAL = '\\"`$'
# A line of such a file as it is written here: in double quotes, over several lines perhaps, or one plain word.
_LINE = re.compile(r'^(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^\s"]*))$', re.MULTILINE | re.DOTALL)
_ESCAPED = re.compile(r'\\([\\"`$])')


def _refused(character: str) -> bool:
    """Tell whether a value with it is not written.

    What is no character (surrogates, U+FDD0 to U+FDEF, the last two of each plane; src/basic/utf8.c,
    unichar_is_valid): systemd then rejects the whole file (src/basic/env-file.c, check_utf8ness_and_warn). And control
    characters but tab and line break: older systemd drops a value with one, and in a setting it is a mistake.
    """
    code = ord(character)
    return (
        (code < 0x20 and character not in "\t\n")
        or code == 0x7F
        or 0xD800 <= code <= 0xDFFF
        or 0xFDD0 <= code <= 0xFDEF
        or code & 0xFFFE == 0xFFFE
    )


def quote_environment(value: str) -> str:
    """Quote a value for a line ``NAME=value`` of an ``EnvironmentFile=``.

    Such a file knows no ``%`` specifiers and expands no variables, so those characters stay as they are. A line break
    may stand inside the quotes. Raises :class:`InputError` for characters that have no place there.
    """
    bad = [character for character in value if _refused(character)]
    if bad:
        raise InputError(
            f"The value {value!r} holds {bad[0]!r}, which has no place in an environment file; take it out."
        )
    return '"' + "".join(f"\\{c}" if c in ENVIRONMENT_FILE_SPECIAL else c for c in value) + '"'


def quote_argument(value: str) -> str:
    """Quote an argument of a command in a unit (systemd.service(5), "Command lines").

    There ``%`` begins a specifier and ``$`` a variable, also in quotes, and each written twice is itself. Raises
    :class:`InputError` for characters that have no place there.
    """
    bad = [character for character in value if _refused(character)]
    if bad:
        raise InputError(f"The argument {value!r} holds {bad[0]!r}, which has no place in a unit; take it out.")
    special = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "%": "%%", "$": "$$"}
    return '"' + "".join(special.get(character, character) for character in value) + '"'


def read_environment(text: str) -> dict[str, str]:
    """Read back the lines that :func:`quote_environment` wrote, and those of one plain word."""
    found = {}
    for name, quoted, plain in _LINE.findall(text):
        found[name] = _ESCAPED.sub(r"\1", quoted) if quoted else plain
    return found
