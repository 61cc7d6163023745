# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where the Hugging Face token lies on a host, and how a unit is given it. Pure."""

from __future__ import annotations

from collections.abc import Collection

# The name under which a unit finds it: $CREDENTIALS_DIRECTORY/hf_token.
NAME = "hf_token"
# systemd's own folders for credentials (systemd.exec(5), LoadCredential=), both closed to all but root.
ENCRYPTED = "/etc/credstore.encrypted/vllm.hf_token"
PLAIN = "/etc/credstore/vllm.hf_token"


def unit_properties(present: Collection[str], transient: str | None = None) -> list[str]:
    """Return the settings of a unit that hand it the token, none where there is no token.

    ``present`` are those of :data:`ENCRYPTED` and :data:`PLAIN` that exist. huggingface_hub reads the token from the
    file that ``HF_TOKEN_PATH`` names (huggingface_hub/constants.py); ``%d`` is the unit's own folder of credentials.
    Of a ``transient`` unit, whose name that is, systemd expands no ``%d`` (252, tried 2026-11-29), and the folder is
    the one of systemd.exec(5), "Credentials".
    """
    folder = f"/run/credentials/{transient}" if transient else "%d"
    for path, setting in ((ENCRYPTED, "LoadCredentialEncrypted"), (PLAIN, "LoadCredential")):
        if path in present:
            return [f"{setting}={NAME}:{path}", f"Environment=HF_TOKEN_PATH={folder}/{NAME}"]
    return []
