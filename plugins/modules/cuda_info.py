#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module cuda_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cuda_info
short_description: Reads which NVIDIA software is installed on a host
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Reads packages, kernel and boot settings that decide over an NVIDIA driver. What the driver itself says is
    M(gpufleet.vllm.gpu_info)'s.
options: {}
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
seealso:
  - module: gpufleet.vllm.gpu_info
  - plugin: gpufleet.vllm.driver_plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Read what is installed
  gpufleet.vllm.cuda_info:
  register: found

- name: Show the version of the driver's packages
  ansible.builtin.debug:
    var: found.cuda_facts.installed_driver
"""

RETURN = r"""
cuda_facts:
  description: What is installed.
  returned: always
  type: dict
  contains:
    distribution:
      description: C(id), C(version), C(like) and C(name) of C(/etc/os-release).
      type: dict
      sample: {"id": "debian", "version": "12", "like": [], "name": "Debian GNU/Linux 12 (bookworm)"}
    machine:
      description: Architecture as C(uname -m) says it.
      type: str
      sample: x86_64
    kernel:
      description: Version of the running kernel.
      type: str
      sample: 6.1.0-40-amd64
    glibc:
      description: Version of the C library. V(null) where it is not glibc.
      type: str
      sample: "2.36"
    packages:
      description: >-
        Installed packages of the driver, of what goes with it, of CUDA and of kernel headers, by name, each with
        C(version), C(held) and C(installed_at) (seconds since 1970).
      type: dict
      sample: {"nvidia-driver-cuda": {"version": "580.105.08-1", "held": true, "installed_at": 1763942400}}
    installed_driver:
      description: Version of the driver's packages. V(null) where the driver did not come as packages.
      type: str
      sample: 580.105.08
    driver_installed_at:
      description: When these packages were installed or changed last, in seconds since 1970.
      type: int
      sample: 1763942400
    fabric_manager:
      description: Version of the installed fabric manager.
      type: str
      sample: 580.105.08
    started_at:
      description: When the system was started, in seconds since 1970.
      type: int
      sample: 1763940000
    secure_boot:
      description: Whether secure boot is on. V(null) on a host without EFI.
      type: bool
      sample: false
    nouveau:
      description: Whether the kernel module nouveau is loaded.
      type: bool
      sample: false
    free_mib:
      description: MiB that are free where packages are unpacked, on the fuller one of C(/usr) and C(/var).
      type: int
      sample: 81920
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import software


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.exit_json(
        changed=False,
        cuda_facts=software.cuda_facts(module.get_bin_path, lambda argv: str(module.run_command(argv)[1])),
    )


if __name__ == "__main__":
    main()
