# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Write text so that systemd reads back just what was meant."""

from __future__ import annotations

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError

# systemd.exec(5), EnvironmentFile=: inside double quotes a backslash keeps these from their meaning.
ENVIRONMENT_FILE_SPECIAL = '\\"`$'


def _refused(character: str) -> bool:
    """Tell whether systemd takes no environment value with it.

    Control characters but tab and line break (basic/env-util.c, env_value_is_valid), and what is no character:
    surrogates, U+FDD0 to U+FDEF and the last two of each plane (basic/utf8.c, unichar_is_valid).
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
    may stand inside the quotes. Raises :class:`InputError` for the characters that systemd refuses in an environment.
    """
    bad = [character for character in value if _refused(character)]
    if bad:
        raise InputError(f"The value {value!r} holds {bad[0]!r}, which systemd refuses in an environment; take it out.")
    return '"' + "".join(f"\\{c}" if c in ENVIRONMENT_FILE_SPECIAL else c for c in value) + '"'
