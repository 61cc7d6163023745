#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module release_kernels."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_kernels
short_description: Says where an engine release gets its GPU kernels from, and writes it down
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Kernels of FlashInfer that were installed with the release, a CUDA toolkit of the host, the compiler that NVIDIA's
    wheels brought, or none. What instances need in their environment for it is written into C(release.json).
options:
  release:
    description: Folder of the release.
    type: path
    required: true
  state:
    description: >-
      V(read) says which packages of kernels are missing. V(present) makes the wheels' compiler usable, by links in the
      release to the libraries that code is linked with, and writes into C(release.json).
    type: str
    choices: [read, present]
    default: present
  capabilities:
    description: Compute capabilities of the host's GPUs, such as V(9.0). None where no GPU is in sight.
    type: list
    elements: str
    default: []
  problem:
    description: Why kernels could not be installed. It is warned of, with what follows.
    type: str
    default: ""
attributes:
  check_mode:
    description: Says what it would change.
    support: full
  diff_mode:
    description: Shows what is written of the kernels.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Write down where kernels come from
  gpufleet.vllm.release_kernels:
    release: /opt/vllm/releases/0.33.0-cuda
    capabilities: ["9.0"]
"""

RETURN = r"""
release:
  description: Name of the release.
  returned: always
  type: str
  sample: 0.33.0-cuda
missing:
  description: Packages that would have to be installed for the kernels to be there, as far as it is known.
  returned: always
  type: list
  elements: str
  sample: [flashinfer-cubin==0.7.2.post1, flashinfer-jit-cache==0.7.2.post1+cu130]
kernels:
  description: >-
    C(source) (V(prebuilt), V(toolkit), V(wheels), V(none)), C(cuda_home), the C(environment) of the instances, and a
    C(sentence). Null for a release that has no such kernels.
  returned: always
  type: dict
"""

import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.files import text_of, write_atomically
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import kernels as decide
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import kernels as observe


def linked(module: AnsibleModule, found: dict[str, Any]) -> bool:
    """Make the links of the wheels' compiler, and say whether there were any to make."""
    wanted = observe.wanted_links(Path(found["wheels"]["path"])) if found["wheels"] else {}
    for path, target in wanted.items() if not module.check_mode else ():
        # one that leads nowhere is in the way
        path.unlink(missing_ok=True)
        path.symlink_to(target)
    return bool(wanted)


def written(module: AnsibleModule, mark: Path, state: dict[str, Any] | None) -> dict[str, str] | None:
    """Write the state into the release's description; return the difference, None where there is none."""
    said = json.loads(text_of(mark) or "{}")
    if not said or said.get("kernels") == state:
        return None
    if not module.check_mode:
        write_atomically(mark, json.dumps({**said, "kernels": state}) + "\n")
    before, after = (json.dumps(one, indent=2, sort_keys=True) + "\n" for one in (said.get("kernels"), state))
    return {"before": before, "after": after, "before_header": str(mark), "after_header": str(mark)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["read", "present"], "default": "present"},
            "capabilities": {"type": "list", "elements": "str", "default": []},
            "problem": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    release, capabilities = Path(module.params["release"]), module.params["capabilities"]
    try:
        found = observe.read(release)
        made = module.params["state"] == "present" and linked(module, found)
        if made and not module.check_mode:
            found = observe.read(release)
        state = decide.state(found, capabilities)
        diff = written(module, release / "release.json", state) if module.params["state"] == "present" else None
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"The kernels of {release} cannot be looked at: {error}")
    if module.params["problem"] and state:
        module.warn(f"{module.params['problem']} {state['sentence']}")
    module.exit_json(
        changed=made or diff is not None,
        release=release.name,
        missing=decide.missing(found, capabilities),
        kernels=state,
        diff=diff or {},
    )


if __name__ == "__main__":
    main()
