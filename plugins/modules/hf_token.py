#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module hf_token."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hf_token
short_description: Keeps the Hugging Face token on a host as a credential of systemd
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Encrypts the token with C(systemd-creds), where the host can, so that what lies on its disk opens on this host only;
    elsewhere writes it into a file that only root reads. Units get it through C(LoadCredentialEncrypted=) or
    C(LoadCredential=), never through their environment or arguments.
  - Says no more of the token than whether it was there.
options:
  token:
    description: The token. Needed with O(state=present).
    type: str
  state:
    description: Whether the host has the token.
    type: str
    choices: [present, absent]
    default: present
  encrypted:
    description:
      - V(auto) encrypts where C(systemd-creds) works (systemd 250 and later). V(always) fails elsewhere, V(never) does
        not try.
    type: str
    choices: [auto, always, never]
    default: auto
attributes:
  check_mode:
    description: Says what it would do; that the host can encrypt is assumed where it has the tool.
    support: full
  diff_mode:
    description: Shows whether there is a token and how it is kept, never the token.
    support: full
  idempotent:
    description: The same token is written once.
    support: full
"""

EXAMPLES = r"""
- name: Keep the token
  gpufleet.vllm.hf_token:
    token: "{{ vllm_hf_token }}"

- name: Remove it
  gpufleet.vllm.hf_token:
    state: absent
"""

RETURN = r"""
path:
  description: File that holds it, null where there is none.
  returned: always
  type: str
  sample: /etc/credstore.encrypted/vllm.hf_token
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import credentials

WORDS = {credentials.ENCRYPTED: "encrypted by systemd-creds", credentials.PLAIN: "in a file that only root reads"}


def encrypt(module: AnsibleModule, token: str) -> tuple[bytes | None, str]:
    """Encrypt the token; returns what to write, or None and why it does not work."""
    command = ["systemd-creds", "encrypt", f"--name={credentials.NAME}", "-", "-"]
    # on standard input: arguments can be read by everybody
    code, out, err = module.run_command(command, data=token, binary_data=True, encoding=None, handle_exceptions=False)
    return (out, "") if code == 0 and out else (None, err.decode(errors="replace").strip())


def stored(module: AnsibleModule, path: str) -> str | None:
    """The token that a file holds; None where there is none or it cannot be opened."""
    if not Path(path).exists():
        return None
    if path == credentials.PLAIN:
        return Path(path).read_text(encoding="utf-8")
    command = ["systemd-creds", "decrypt", f"--name={credentials.NAME}", path, "-"]
    code, out, _err = module.run_command(command)
    return out if code == 0 else None


def write(path: str, content: bytes) -> None:
    """Write a file that only root reads, whole or not at all."""
    folder = Path(path).parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=folder, prefix=".vllm.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        Path(part).replace(path)
    except BaseException:
        # it holds the token
        Path(part).unlink(missing_ok=True)
        raise


def described(paths: list[str]) -> str:
    """Where the token is, for the diff."""
    return "".join(f"token: {WORDS[path]}\n" for path in paths) or "token: none\n"


def keep(module: AnsibleModule) -> dict[str, Any]:
    """Bring the token about; returns what to tell Ansible."""
    token: str = module.params["token"].strip()
    content, problem = None, ""
    if module.check_mode:
        # encrypting would make the host's key
        content = b"" if shutil.which("systemd-creds") and module.params["encrypted"] != "never" else None
    elif module.params["encrypted"] != "never":
        try:
            content, problem = encrypt(module, token)
        except OSError as error:
            problem = str(error)
    if content is None and module.params["encrypted"] == "always":
        module.fail_json(
            msg=f"The token cannot be encrypted on this host ({problem}). It needs systemd-creds of systemd 250 or "
            "later; or let 'encrypted' be auto, which then keeps it in a file that only root reads."
        )
    path, other = credentials.ENCRYPTED, credentials.PLAIN
    if content is None:
        content, path, other = token.encode(), other, path
        if module.params["encrypted"] == "auto":
            module.warn(f"systemd-creds does not work on this host, so the token is kept in {path}, readable by root.")
    before = [one for one in WORDS if Path(one).exists()]
    changed = stored(module, path) != token or other in before
    if changed and not module.check_mode:
        write(path, content)
        Path(other).unlink(missing_ok=True)
    return {"changed": changed, "path": path, "diff": difference(before, [path], changed)}


def remove(module: AnsibleModule) -> dict[str, Any]:
    """Take the token away; returns what to tell Ansible."""
    before = [one for one in WORDS if Path(one).exists()]
    if not module.check_mode:
        for path in before:
            Path(path).unlink()
    return {"changed": bool(before), "path": None, "diff": difference(before, [], bool(before))}


def difference(before: list[str], after: list[str], changed: bool) -> dict[str, str]:
    """The diff; a token that was replaced by another one is said to be."""
    replaced = " (replaced)" if changed and before == after else ""
    return {"before": described(before), "after": described(after).rstrip("\n") + f"{replaced}\n"} if changed else {}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "token": {"type": "str", "no_log": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "encrypted": {"type": "str", "choices": ["auto", "always", "never"], "default": "auto"},
        },
        required_if=[("state", "present", ("token",))],
        supports_check_mode=True,
    )
    try:
        module.exit_json(**(keep(module) if module.params["state"] == "present" else remove(module)))
    except OSError as error:
        module.fail_json(msg=f"The token cannot be kept: {error}")


if __name__ == "__main__":
    main()
