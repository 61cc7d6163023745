#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module teardown."""

from __future__ import annotations

DOCUMENTATION = r"""
module: teardown
short_description: Takes all that this collection has put there from a host
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Removes every instance as M(gpufleet.vllm.instances_absent) does, then downloads and installations that still run,
    the unit template, the token of the hub, the releases with their installer, the state of the service and its user.
  - Of a gateway, stops HAProxy, and removes its configuration and what it keeps; of an exporter of the GPUs the same. A
    configuration that somebody else has written stays, with the service that runs from it.
  - Leaves the driver, packages of the distribution, and, unless O(models) says otherwise, the weights.
options:
  root:
    description: Folder of the engine. Only what the roles have put there is removed, and the folder when it is empty.
    type: path
    required: true
  model_folders:
    description: Folders that hold weights.
    type: list
    elements: path
    required: true
  models:
    description: Whether the weights go, too.
    type: bool
    default: false
  user:
    description: User of the service. One with another home or a shell is somebody else's, and stays.
    type: str
    required: true
attributes:
  check_mode:
    description: Says what would be stopped and removed.
    support: full
  diff_mode:
    description: Shows each file and folder, the token without its text.
    support: full
  idempotent:
    description: What is not there is not removed.
    support: full
"""

EXAMPLES = r"""
- name: Remove everything but the weights
  gpufleet.vllm.teardown:
    root: /opt/vllm
    model_folders: [/var/lib/vllm/hub, /var/lib/vllm/models]
    user: vllm
"""

RETURN = r"""
stopped:
  description: Units that were stopped.
  returned: always
  type: list
  elements: str
  sample: [vllm@llama-70b.service]
removed:
  description: What was removed.
  returned: always
  type: list
  elements: str
  sample: [/etc/vllm, /opt/vllm/releases]
user:
  description: The user that was removed, null when none was.
  returned: always
  type: str
  sample: vllm
"""

from collections.abc import Sequence
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import removal
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.written import Writer
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "model_folders": {"type": "list", "elements": "path", "required": True},
            "models": {"type": "bool", "default": False},
            "user": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    root = Path(module.params["root"])
    writer = Writer(module.check_mode)

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        code, out, err = module.run_command(list(argv))
        return code, out, err

    going = removal.Removal(writer, run)
    try:
        going.instances(removal.instances_of(run, root), root)
        going.host(root, [Path(folder) for folder in module.params["model_folders"]], not module.params["models"])
        going.packaged()
        user = module.params["user"] if going.user(module.params["user"]) else None
    except (GpufleetError, OSError) as error:
        module.fail_json(msg=f"The host cannot be cleaned: {error}", removed=writer.changed)
    module.exit_json(
        changed=bool(going.stopped or writer.changed or user),
        stopped=going.stopped,
        removed=writer.changed,
        user=user,
        diff=writer.diffs,
    )


if __name__ == "__main__":
    main()
