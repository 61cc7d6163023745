#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module rocm_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rocm_info
short_description: Reads which AMD software is installed on a host
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Reads packages, kernel and boot settings that decide over AMD's driver and ROCm. What the driver's tools say is
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
  - plugin: gpufleet.vllm.rocm_plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Read what is installed
  gpufleet.vllm.rocm_info:
  register: found

- name: Show the version of ROCm
  ansible.builtin.debug:
    var: found.rocm_facts.rocm
"""

RETURN = r"""
rocm_facts:
  description: What is installed.
  returned: always
  type: dict
  contains:
    distribution:
      description: C(id), C(version), C(like) and C(name) of C(/etc/os-release).
      type: dict
      sample: {"id": "ubuntu", "version": "24.04", "like": ["debian"], "name": "Ubuntu 24.04.3 LTS"}
    machine:
      description: Architecture as C(uname -m) says it.
      type: str
      sample: x86_64
    kernel:
      description: Version of the running kernel.
      type: str
      sample: 6.8.0-88-generic
    glibc:
      description: Version of the C library. V(null) where it is not glibc.
      type: str
      sample: "2.39"
    packages:
      description: >-
        Installed packages of AMD's driver, of ROCm and of kernel headers, by name, each with C(version), C(held) and
        C(installed_at) (seconds since 1970).
      type: dict
      sample: {"rocm-core": {"version": "7.2.3.70203-90~24.04", "held": true, "installed_at": 1763942400}}
    installed_driver:
      description: Release of the driver's package amdgpu-dkms. V(null) where it is not installed.
      type: str
      sample: 30.30.3
    installed_module:
      description: Version of the kernel module in that package.
      type: str
      sample: 6.16.13
    driver_installed_at:
      description: When that package was installed or changed last, in seconds since 1970.
      type: int
      sample: 1763942400
    loaded_module:
      description: >-
        Version of the loaded kernel module amdgpu. V(null) where none is loaded, or the kernel's own, which has none.
      type: str
      sample: 6.16.13
    rocm:
      description: Version of ROCm in C(/opt/rocm). V(null) where there is none.
      type: str
      sample: 7.2.3
    kfd:
      description: Whether the device file C(/dev/kfd) is there, by which ROCm reaches the GPUs.
      type: bool
      sample: true
    started_at:
      description: When the system was started, in seconds since 1970.
      type: int
      sample: 1763940000
    secure_boot:
      description: Whether secure boot is on. V(null) on a host without EFI.
      type: bool
      sample: false
    serving:
      description: Names of the instances of vLLM (C(vllm@name.service)) that run, also of those in no inventory.
      type: list
      elements: str
    free_mib:
      description: MiB that are free where packages are unpacked, on the fuller one of C(/usr) and C(/var).
      type: int
      sample: 81920
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import driver_surroundings, installed, rocm_software


def facts(module: AnsibleModule) -> dict[str, Any]:
    """Everything, as the documentation says it."""
    packages = installed.packages(
        module.get_bin_path, lambda argv: str(module.run_command(argv)[1]), rocm_software.is_amd
    )
    driver = packages.get(rocm_software.DRIVER_PACKAGE)
    code = rocm_software.code_of(driver["version"]) if driver else None
    found, files = installed.system()
    return {
        **found,
        "packages": packages,
        "installed_driver": code.driver if code else None,
        "installed_module": code.own if code else None,
        "driver_installed_at": driver["installed_at"] if driver else None,
        "loaded_module": files.get("/sys/module/amdgpu/version", "").strip() or None,
        "rocm": rocm_software.installed_rocm(packages, installed.text_of("/opt/rocm/.info/version")),
        "kfd": Path("/dev/kfd").is_char_device(),
        "serving": driver_surroundings.serving(lambda argv: str(module.run_command(argv)[1]))
        if module.get_bin_path("systemctl")
        else [],
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.exit_json(changed=False, rocm_facts=facts(module))


if __name__ == "__main__":
    main()
