#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module bundle_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_info
short_description: Reads what a bundle holds, and compares it with its checksums
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - A bundle is a folder from which hosts are deployed that reach neither a package index nor the hub; the playbook
    C(bundle) makes it.
options:
  folder:
    description: The folder.
    type: path
    required: true
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode.
    support: full
  diff_mode:
    description: Changes nothing, so there is no difference to show.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Look at a bundle
  gpufleet.vllm.bundle_info:
    folder: /srv/bundle
  delegate_to: localhost
"""

RETURN = r"""
whole:
  description: Whether the bundle was made to its end.
  returned: always
  type: bool
releases:
  description: By name, the Python and the platform that each release is for.
  returned: always
  type: dict
  sample: {"0.33.0-cuda": {"python": "3.11", "platform": "x86_64-manylinux_2_34"}}
models:
  description: By id on the hub, the commit of each model and its folder in the bundle.
  returned: always
  type: dict
  sample: {"Qwen/Qwen3-8B": {"revision": "main", "commit": "b968826d", "folder": "models/Qwen--Qwen3-8B/b968826d"}}
damaged:
  description: Files that are missing or differ from their checksum.
  returned: always
  type: list
  elements: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import bundle
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={"folder": {"type": "path", "required": True}}, supports_check_mode=True)
    folder = Path(module.params["folder"])
    try:
        found = bundle.described(folder)
        damaged = bundle.damaged(folder) if found else []
    except InputError as error:
        module.fail_json(msg=str(error))
    found = found or {"releases": {}, "models": {}}
    module.exit_json(
        changed=False,
        whole=bool(found.get("schema_version")),
        releases=found["releases"],
        models=found["models"],
        damaged=damaged,
    )


if __name__ == "__main__":
    main()
