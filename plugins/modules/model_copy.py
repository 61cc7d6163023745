#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module model_copy; the action plugin of the same name copies."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_copy
short_description: Copies the folder of a model from the control node
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Copies with M(ansible.builtin.copy), and gives each file the time of its source. As rsync does, it takes a file of
    the same size and time for the same one, so that a folder that is there is not read again.
  - Files that only the host has are left alone.
options:
  source:
    description: Absolute path of the folder on the control node.
    type: path
    required: true
  folder:
    description: Folder on the host, made when missing.
    type: path
    required: true
  seen:
    description:
      - RV(gpufleet.vllm.deployment_info#module:trees), with O(folder) or one that it is in. Left out, the host is
        asked.
    type: dict
  times:
    description: By file, its time in nanoseconds since 1970. Given by the action plugin when it has copied.
    type: dict
  claimed:
    description: Whether the folder is made root's before something is copied. Given by the action plugin.
    type: bool
    default: false
attributes:
  check_mode:
    description: Says what would be copied.
    support: full
  diff_mode:
    description: The files of a model are too large for one.
    support: none
  idempotent:
    description: What is there is not copied.
    support: full
  action:
    description: The part on the control node compares, and copies.
    support: full
"""

EXAMPLES = r"""
- name: Copy the model
  gpufleet.vllm.model_copy:
    source: /srv/models/llama-70b
    folder: /var/lib/vllm/models/llama-70b
"""

RETURN = r"""
files:
  description: Files that were copied, or compared because their size or time was another one.
  returned: always
  type: list
  elements: str
  sample: [config.json]
"""

import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import claim
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import places

ARGUMENTS: dict[str, dict[str, Any]] = {
    "source": {"type": "path", "required": True},
    "folder": {"type": "path", "required": True},
    "seen": {"type": "dict"},
    "times": {"type": "dict"},
    "claimed": {"type": "bool", "default": False},
}


def main() -> None:
    """Run the module: take the folder, give files their times, list the files that are there."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    folder = Path(module.params["folder"])
    taken: list[str] = []
    try:
        if module.params["claimed"] and not module.check_mode:
            taken = claim.claim([folder], lambda argv: module.run_command(list(argv)))
        if module.params["times"] is not None and not module.check_mode:
            for name, time in module.params["times"].items():
                os.utime(folder / name, ns=(int(time), int(time)))
    except GpufleetError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or folder} cannot be given its owner or time: {error.strerror}.")
    module.exit_json(changed=bool(taken), tree=places.tree(folder))


if __name__ == "__main__":
    main()
