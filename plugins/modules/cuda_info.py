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
    sources:
      description: >-
        Entries of apt and dnf in the order in which they are read, each with C(path), C(place) (a line, or the name of
        a section), C(enabled), C(types), C(uri) (without user and password), C(suite), C(signed_by), C(keys)
        (fingerprints, V(null) where they are not known), C(missing) (whether a file or folder that it names is not
        there), C(drivers) (versions that a repository on a disk has), C(excludes) and C(problem).
      type: list
      elements: dict
    trusted_keys:
      description: Fingerprints of the keys that apt takes for every source that names none.
      type: list
      elements: str
    serving:
      description: Names of the instances of vLLM (C(vllm@name.service)) that run, also of those in no inventory.
      type: list
      elements: str
      sample: [llama-70b]
    out_of_service:
      description: What M(gpufleet.vllm.instance_work) has written down and not forgotten.
      type: list
      elements: dict
    fabric:
      description: >-
        Of the fabric manager, whether it C(runs), whether it C(ran) since the system was started, and whether the GPUs
        wait for a reset since it was started anew (C(reset_due)).
      type: dict
    nvlink_modules:
      description: >-
        Of the kernel modules C(ib_umad) and C(mlx5_ib), whether each is C(loaded), C(available) or C(missing).
      type: dict
    imex_nodes:
      description: Addresses that IMEX is told.
      type: list
      elements: str
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
