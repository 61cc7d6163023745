# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where the Hugging Face token lies on a host, and how a unit is given it. Pure."""

from __future__ import annotations

from collections.abc import Collection

# The name under which a unit finds it: $CREDENTIALS_DIRECTORY/hf_token.
NAME = "hf_token"
# systemd's own folders for credentials (systemd.exec(5), LoadCredential=), both closed to all but root.
ENCRYPTED = "/etc/credstore.encrypted/vllm.hf_token"
PLAIN = "/etc/credstore/vllm.hf_token"


def unit_properties(present: Collection[str], unit: str = "%n") -> list[str]:
    """Return the settings of a unit that hand it the token, none where there is no token.

    ``present`` are those of :data:`ENCRYPTED` and :data:`PLAIN` that exist. huggingface_hub reads the token from the
    file that ``HF_TOKEN_PATH`` names (huggingface_hub/constants.py). It lies in the folder of systemd.exec(5),
    "Credentials". ``%d``, which stands for that, came with systemd 250, and of a transient unit no specifier is
    expanded (252, tried 2026-11-29), so that of such a one the name is given as ``unit``.
    """
    for path, setting in ((ENCRYPTED, "LoadCredentialEncrypted"), (PLAIN, "LoadCredential")):
        if path in present:
            return [f"{setting}={NAME}:{path}", f"Environment=HF_TOKEN_PATH=/run/credentials/{unit}/{NAME}"]
    return []
