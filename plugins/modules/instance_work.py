#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module instance_work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: instance_work
short_description: Remembers which instances ran on a host before it was worked on
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - While a host is taken out of service for a change of its driver, C(/etc/vllm/drivers.json) says which instances of
    vLLM ran before, whoever set them up, so that they run again afterwards, also when the work was interrupted or the
    host rebooted in between.
options:
  state:
    description:
      - V(begun) writes down what runs now, besides what an interrupted run has written down. V(finished) forgets it.
    type: str
    choices: [begun, finished]
    required: true
attributes:
  check_mode:
    description: Says what it would write.
    support: full
  diff_mode:
    description: Shows the names of the instances.
    support: full
  idempotent:
    description: An instance is written down once.
    support: full
seealso:
  - module: gpufleet.vllm.instance_state
"""

EXAMPLES = r"""
- name: Write down what runs
  gpufleet.vllm.instance_work:
    state: begun
  register: work
"""

RETURN = r"""
instances:
  description: >-
    The instances of the host, each with C(name), C(enabled) (whether the unit begins at the start of the system),
    C(runs), and C(layout), with which it was last seen to serve (V(null) where it runs from something else, or where
    this collection knows nothing of it).
  returned: always
  type: list
  elements: dict
"""

import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import instance_files
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.files import text_of, write_atomically
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import good_states
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import driver_surroundings, systemd

MARK = Path(driver_surroundings.WORK)


def layout_of(name: str) -> dict[str, Any] | None:
    """The layout that an instance was last seen to serve with, where its files are still those of then."""
    state = instance_files.read_state(name, good_states.GOOD)
    written = good_states.digest_of(text_of(instance_files.SETTINGS / f"{name}.env"))
    return state["layout"] if state and state.get("layout") and state["digest"] == written else None


def begun(running: list[str]) -> list[dict[str, Any]]:
    """The instances that an interrupted run has written down, and those that run."""
    found = {one["name"]: one for one in driver_surroundings.work()}
    units = systemd.show([f"vllm@{name}.service" for name in running]) if running else {}
    for name in running:
        # One that was written down is switched off meanwhile.
        enabled = units.get(f"vllm@{name}.service", {}).get("UnitFileState") in ("enabled", "enabled-runtime")
        found.setdefault(name, {"name": name, "enabled": enabled})
    return sorted(found.values(), key=lambda one: str(one["name"]))


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"state": {"type": "str", "choices": ["begun", "finished"], "required": True}},
        supports_check_mode=True,
    )
    try:
        running = driver_surroundings.serving(lambda argv: str(module.run_command(argv, check_rc=True)[1]))
        instances = begun(running)
        before, after = text_of(MARK) or "", ""
        if module.params["state"] == "begun":
            after = json.dumps({"schema_version": 1, "instances": instances}, indent=2) + "\n"
        if before != after and not module.check_mode:
            if after:
                write_atomically(MARK, after, 0o600)
            else:
                MARK.unlink()
    except GpufleetError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be written: {error.strerror}; make room or correct its folder.")
    module.exit_json(
        changed=before != after,
        instances=[{**one, "runs": one["name"] in running, "layout": layout_of(one["name"])} for one in instances],
        diff={"before": before, "after": after, "before_header": str(MARK), "after_header": str(MARK)},
    )


if __name__ == "__main__":
    main()
