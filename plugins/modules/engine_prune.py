#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module engine_prune."""

from __future__ import annotations

DOCUMENTATION = r"""
module: engine_prune
short_description: Removes engine releases that nobody uses
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Removes the oldest releases in C(<root>/releases) beyond a number. A release stays that the link C(<root>/current),
    a link in C(<root>/instances), a running process, or a state that an instance can be put back to
    (M(gpufleet.vllm.instance_state)) uses.
options:
  root:
    description: Folder of the engine.
    type: path
    required: true
  keep:
    description: How many releases stay, those in use counted. V(0) keeps all.
    type: int
    required: true
attributes:
  check_mode:
    description: Says what it would remove.
    support: full
  diff_mode:
    description: Shows the releases before and after.
    support: full
  idempotent:
    description: A second run removes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Keep three releases
  gpufleet.vllm.engine_prune:
    root: /opt/vllm
    keep: 3
"""

RETURN = r"""
removed:
  description: Names of the releases that were removed, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: [0.30.0-cuda]
used:
  description: Names of the releases in use.
  returned: always
  type: list
  elements: str
  sample: [0.33.0-cuda]
"""

import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import instance_files, releases
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import good_states


def linked(root: Path) -> set[str]:
    """Names of the releases that links lead to."""
    links = [root / "current", *(root / "instances").glob("*")]
    return {link.resolve().name for link in links if link.is_symlink()}


def mapped(folder: Path) -> set[str]:
    """Names of the releases that running processes have loaded libraries of."""
    prefix = f"{folder}/"
    found = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            text = maps.read_text(encoding="utf-8", errors="replace")
        except OSError:
            # it ended, or is a thread of the kernel
            continue
        for line in text.splitlines() if prefix in text else ():
            _before, _prefix, rest = line.partition(prefix)
            if rest:
                found.add(rest.split("/", 1)[0])
    return found


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"root": {"type": "path", "required": True}, "keep": {"type": "int", "required": True}},
        supports_check_mode=True,
    )
    root = Path(module.params["root"])
    folder = root / "releases"
    ages = {
        entry.name: entry.stat().st_mtime for entry in folder.glob("*") if entry.is_dir() and not entry.is_symlink()
    }
    used = linked(root) | mapped(folder.resolve()) | good_states.releases(instance_files.all_states())
    removed = releases.superfluous(ages, used, module.params["keep"])
    if not module.check_mode:
        for name in removed:
            shutil.rmtree(folder / name)
    before = "".join(f"{name}\n" for name in sorted(ages))
    after = "".join(f"{name}\n" for name in sorted(set(ages) - set(removed)))
    header = str(folder)
    module.exit_json(
        changed=bool(removed),
        removed=removed,
        used=sorted(used & set(ages)),
        diff={"before": before, "after": after, "before_header": header, "after_header": header} if removed else {},
    )


if __name__ == "__main__":
    main()
