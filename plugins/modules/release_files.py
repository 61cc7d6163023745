#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module release_files."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_files
short_description: Checks that every file of an engine release is there and of one package only
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Compares what the packages of a virtual environment have recorded with the files that are there, by name
    and least size.
  - An installation that was cut off leaves packages that are written by half and look installed. V(mended) makes an
    installer install these again, and keeps all others.
options:
  release:
    description: Folder of the virtual environment.
    type: path
    required: true
  state:
    description: >-
      V(read) says what is there. V(mended) also forgets packages that were written by half, so that an installer takes
      them for missing.
    type: str
    choices: [read, mended]
    default: read
attributes:
  check_mode:
    description: Says what it would forget.
    support: full
  diff_mode:
    description: Nothing of what it forgets is worth showing.
    support: none
  idempotent:
    description: Forgets once.
    support: full
"""

EXAMPLES = r"""
- name: Look at a release
  gpufleet.vllm.release_files:
    release: /opt/vllm/releases/0.33.0-cuda
"""

RETURN = r"""
packages:
  description: Number of packages.
  returned: always
  type: int
  sample: 198
files:
  description: Number of files that they have recorded.
  returned: always
  type: int
  sample: 59641
shared:
  description: >-
    Files that more than one package has written, each with its packages; the one that was written last has won. Those
    that nothing imports are left out.
  returned: always
  type: dict
  sample: {"cuda/bindings/runtime.pyx": ["cuda-bindings", "cuda-python"]}
incomplete:
  description: Packages of which a file is missing or was cut off.
  returned: always
  type: list
  elements: str
problems:
  description: One sentence for each kind of fault.
  returned: always
  type: list
  elements: str
"""

import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import locks
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import wheel_records


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["read", "mended"], "default": "read"},
        },
        supports_check_mode=True,
    )
    release = Path(module.params["release"])
    folder = wheel_records.site_packages(release)
    try:
        found = wheel_records.packages(folder) if folder else wheel_records.Packages()
        mended = bool(found.incomplete) and module.params["state"] == "mended"
        if mended and not module.check_mode:
            for place in found.incomplete.values():
                shutil.rmtree(place)
    except OSError as error:
        module.fail_json(msg=f"The packages of {release} cannot be read: {error}")
    shared = locks.harmful(found.shared)
    module.exit_json(
        changed=mended,
        packages=len(found.names),
        files=found.files,
        shared=shared,
        incomplete=sorted(found.incomplete),
        problems=locks.file_problems(str(release), shared, sorted(found.incomplete)),
    )


if __name__ == "__main__":
    main()
