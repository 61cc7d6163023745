#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module bundle_describe."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_describe
short_description: Writes the checksums of a bundle, and what it holds
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - The last step of making a bundle; one without it counts as begun and not whole.
  - What the bundle says already of other releases and models stays.
options:
  folder:
    description: The folder.
    type: path
    required: true
  releases:
    description: By name, what each release is for.
    type: dict
    default: {}
  models:
    description: By id on the hub, C(revision), C(commit) and C(folder) of each model.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Says whether it would write.
    support: full
  diff_mode:
    description: Shows the difference in C(bundle.json).
    support: full
  idempotent:
    description: Nothing is written where nothing was added.
    support: full
"""

EXAMPLES = r"""
- name: Finish a bundle
  gpufleet.vllm.bundle_describe:
    folder: /srv/bundle
    releases: {0.33.0-cuda: {python: "3.11", platform: x86_64-manylinux_2_34}}
"""

RETURN = r"""
files:
  description: Number of files that have a checksum.
  returned: when something was written
  type: int
  sample: 187
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import bundle
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "releases": {"type": "dict", "default": {}},
            "models": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    folder = Path(module.params["folder"])
    try:
        before = bundle.described(folder) or {"releases": {}, "models": {}}
    except InputError as error:
        module.fail_json(msg=str(error))
    after = bundle.description(
        {**before["releases"], **module.params["releases"]}, {**before["models"], **module.params["models"]}
    )
    path = folder / bundle.DESCRIPTION
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    if old == after:
        module.exit_json(changed=False)
    difference = {"before": old, "after": after, "before_header": str(path), "after_header": str(path)}
    if module.check_mode:
        module.exit_json(changed=True, diff=difference)
    path.unlink(missing_ok=True)
    sums = bundle.sums(folder)
    (folder / bundle.SUMS).write_text(sums, encoding="utf-8")
    path.write_text(after, encoding="utf-8")
    module.exit_json(changed=True, diff=difference, files=len(sums.splitlines()))


if __name__ == "__main__":
    main()
