#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module host_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: Reads what a deployment needs to know of a host before it changes it
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Answers only what is asked for. Free disk space, the version of a Python, who listens on which port, the network
    interfaces, and how vLLM instances are doing.
options:
  paths:
    description: Paths to look at. They need not exist yet.
    type: list
    elements: path
    default: []
  python:
    description: A Python interpreter to ask for its version.
    type: path
  ports:
    description: TCP ports to look at.
    type: list
    elements: int
    default: []
  interfaces:
    description: Whether to look at the network interfaces.
    type: bool
    default: false
  instances:
    description: Names of vLLM instances to look at.
    type: list
    elements: str
    default: []
  users:
    description: Names of users to look for.
    type: list
    elements: str
    default: []
  engine_root:
    description: Folder of the engine, whose releases are looked at.
    type: path
  packages:
    description: Names of packages of the distribution that should be installed.
    type: list
    elements: str
    default: []
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
- name: Look at the disk and at port 8000
  gpufleet.vllm.host_info:
    paths: [/opt/vllm]
    ports: [8000]
  register: host
"""

RETURN = r"""
paths:
  description: >-
    By path, whether it exists, the MiB that are free there, where a symbolic link leads, and, of a folder, a digest of
    the names, sizes and times of the files right in it, which changes when one of them is replaced; of a file one of
    its size and time.
  returned: always
  type: dict
  sample: {"/opt/vllm": {"exists": false, "free_mib": 81920, "target": null, "digest": null}}
python:
  description: >-
    Version of the interpreter with the kind of processor that it runs on, what it lacks (V(venv), V(headers)), and the
    reason why it cannot be used; that or the version is null. Null when not asked.
  returned: always
  type: dict
  sample: {"version": "3.11.2", "machine": "x86_64", "lacking": [], "problem": null}
listeners:
  description: One entry for each of the ports that somebody listens on.
  returned: always
  type: list
  elements: dict
  sample: [{"port": 8000, "pid": 812, "process": "nginx", "unit": "nginx.service"}]
interfaces:
  description: >-
    By name, the first IPv4 address and the speed in Mbit/s of each network interface, null where there is none. Null
    when not asked.
  returned: always
  type: dict
  sample: {"eth0": {"address": "10.0.0.5", "speed_mbit": 25000}}
instances:
  description: >-
    By name, the state of the unit in systemd's words, the digest of what the running process was started from, and
    what a rank of an engine over several hosts says of itself as C(status).
  returned: always
  type: dict
  sample:
    llama-70b:
      active_state: active
      sub_state: running
      result: success
      main_pid: 4711
      restarts: 0
      digest: 1f0c4ad5
      status: null
users:
  description: By name, home, shell and further groups of the user. Null where there is none.
  returned: always
  type: dict
  sample: {"vllm": {"home": "/var/lib/vllm", "shell": "/usr/sbin/nologin", "groups": []}}
releases:
  description: >-
    By name of each release that is whole, where it has its GPU kernels from, as
    RV(gpufleet.vllm.release_kernels#module:kernels); null where that was not written down.
  returned: always
  type: dict
missing_packages:
  description: >-
    Which of the packages dpkg (or rpm, where there is no dpkg) does not know as installed. Empty where the host has
    neither.
  returned: always
  type: list
  elements: str
  sample: [python3-venv]
unit_installed:
  description: Whether systemd knows the unit template. Null when no instances were asked for.
  returned: always
  type: bool
  sample: true
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import (
    installed,
    interfaces,
    kernels,
    listeners,
    places,
    systemd,
)


def instances_facts(names: list[str]) -> dict[str, Any]:
    """Ask systemd for the instances."""
    if not names:
        return {"instances": {}, "unit_installed": None}
    units = systemd.show([f"vllm@{name}.service" for name in names])
    return {
        "instances": {name: systemd.instance_state(units.get(f"vllm@{name}.service", {})) for name in names},
        "unit_installed": all(unit.get("LoadState") == "loaded" for unit in units.values()),
    }


def missing_packages(module: AnsibleModule, names: list[str]) -> list[str]:
    """Ask the package manager which of these are not installed."""
    if not any(module.get_bin_path(program) for program in ("dpkg-query", "rpm")):
        return []
    there = installed.packages(
        module.get_bin_path,
        lambda argv: str(module.run_command(argv, check_rc=True)[1]),
        lambda name, _version: name in names,
    )
    return [name for name in names if name not in there]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "path", "default": []},
            "python": {"type": "path"},
            "ports": {"type": "list", "elements": "int", "default": []},
            "interfaces": {"type": "bool", "default": False},
            "instances": {"type": "list", "elements": "str", "default": []},
            "users": {"type": "list", "elements": "str", "default": []},
            "engine_root": {"type": "path"},
            "packages": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    try:
        states = instances_facts(wanted["instances"])
    except GpufleetError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=False,
        paths={name: places.path_facts(name) for name in wanted["paths"]},
        python=places.python_facts(wanted["python"]) if wanted["python"] else None,
        listeners=listeners.listeners(set(wanted["ports"])) if wanted["ports"] else [],
        interfaces=interfaces.interfaces(module.run_command(list(interfaces.COMMAND))[1])
        if wanted["interfaces"]
        else None,
        releases=kernels.written(Path(wanted["engine_root"])) if wanted["engine_root"] else {},
        missing_packages=missing_packages(module, wanted["packages"]) if wanted["packages"] else [],
        users={name: places.user_facts(name) for name in wanted["users"]},
        **states,
    )


if __name__ == "__main__":
    main()
