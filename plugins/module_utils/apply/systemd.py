# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Write text so that systemd reads back just what was meant."""

from __future__ import annotations

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError

# systemd.exec(5), EnvironmentFile=: inside double quotes a backslash keeps these from their meaning.
ENVIRONMENT_FILE_SPECIAL = '\\"`$'


def quote_environment(value: str) -> str:
    """Quote a value for a line ``NAME=value`` of an ``EnvironmentFile=``.

    Such a file knows no ``%`` specifiers and expands no variables, so those characters stay as they are. A line break
    may stand inside the quotes. Raises :class:`InputError` for the characters that systemd refuses in an environment
    (NUL and other control characters but tab and line break; basic/env-util.c, env_value_is_valid).
    """
    bad = [character for character in value if (ord(character) < 32 and character not in "\t\n") or character == "\x7f"]
    if bad:
        raise InputError(
            f"The value {value!r} holds the control character {bad[0]!r}, which systemd refuses in an environment; "
            "take it out."
        )
    return '"' + "".join(f"\\{c}" if c in ENVIRONMENT_FILE_SPECIAL else c for c in value) + '"'
