# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter driver_plan."""

from __future__ import annotations

DOCUMENTATION = r"""
name: driver_plan
short_description: Decides what is to be done to the NVIDIA software of a host
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Computes packages, repository, services and whether to reboot, from what a person wants and what is on the host.
    Touches nothing. Asked again after each step of the role P(gpufleet.vllm.cuda#role), it says what is left to do.
options:
  _input:
    description: What M(gpufleet.vllm.cuda_info) returned as C(cuda_facts).
    type: dict
    required: true
  gpu_facts:
    description: What M(gpufleet.vllm.gpu_info) returned as C(gpu_facts).
    type: dict
    required: true
  wishes:
    description: The variables of the role P(gpufleet.vllm.cuda#role), without C(cuda_) before their names.
    type: dict
    required: true
seealso:
  - module: gpufleet.vllm.cuda_info
  - module: gpufleet.vllm.gpu_info
"""

EXAMPLES = r"""
- name: Decide
  ansible.builtin.set_fact:
    plan: "{{ found.cuda_facts | gpufleet.vllm.driver_plan(gpu_facts=gpu.gpu_facts, wishes=wishes) }}"
"""

RETURN = r"""
_value:
  description: What is to be done.
  type: dict
  contains:
    applies:
      description: Whether the host has an NVIDIA GPU. Otherwise there is nothing to do.
      type: bool
    managed:
      description: Whether the driver is installed here, and not left alone.
      type: bool
    problems:
      description: A sentence for each thing that stands in the way, to be mended before anything is changed.
      type: list
      elements: str
    notices:
      description: Sentences that a person should read.
      type: list
      elements: str
    manager:
      description: V(apt) or V(dnf). V(null) for a distribution that is not known.
      type: str
    modules:
      description: V(open) or V(proprietary) kernel modules. V(null) where the driver is left alone.
      type: str
    branch:
      description: The driver's branch that the host will have. V(null) where the driver is left alone.
      type: int
    repository:
      description: >-
        C(url), C(key_url) and C(fingerprints) of NVIDIA's repository or its mirror. V(null) where none is needed.
      type: dict
    stream:
      description: The module stream that dnf needs for the packages, or V(null).
      type: str
    preferences:
      description: Records of apt for that repository, each with C(packages), C(pin) and C(priority).
      type: list
      elements: dict
      sample: [{"packages": "nvidia-*", "pin": "version 580.*", "priority": 1001}]
    sources:
      description: >-
        What is done about the sources of packages that the host has. C(uri) and C(file) of the one that is used,
        V(null) where the role writes its own; C(disable), entries that are taken out of use, C(remove), files of the
        role's own that are in the way, C(excludes), what dnf leaves out of the one that is used, C(repo), the name that
        dnf knows it by, C(rpm_excludes), and C(settle), whether a file has to be changed.
      type: dict
    driver_packages:
      description: Packages of the driver to install or to change. Empty where the driver is as it should be.
      type: list
      elements: str
    driver_specs:
      description: The same as the package manager is given them, with the version that is wanted.
      type: list
      elements: str
    matched_packages:
      description: >-
        Packages to install that must be of just the driver's version. They carry it as soon as it is known, which it is
        once the driver is installed.
      type: list
      elements: str
    other_packages:
      description: Further packages to install.
      type: list
      elements: str
    hold:
      description: Installed packages to hold back from upgrades.
      type: list
      elements: str
    release:
      description: Held packages to let go, before the driver is changed or because nothing is to be held.
      type: list
      elements: str
    fabric_manager:
      description: Whether the fabric manager is installed and run.
      type: bool
    imex:
      description: Whether IMEX is installed and run.
      type: bool
    nvlink_modules:
      description: Kernel modules that the subnet manager of the fifth NVLink needs.
      type: list
      elements: str
    load_modules:
      description: Those of them that are not loaded.
      type: list
      elements: str
    resets:
      description: >-
        Whether the fabric manager is started anew, although the GPUs have joined its fabric since the system was
        started, so that they have to be reset.
      type: bool
    changes:
      description: What would be done that an engine on the host does not survive, as parts of a sentence.
      type: list
      elements: str
    disturbed:
      description: A sentence where instances of vLLM run on the host, and there are C(changes).
      type: list
      elements: str
    services:
      description: Services that are to run.
      type: list
      elements: str
    reboot:
      description: C(needed), C(why) (a sentence or null) and C(allowed).
      type: dict
    fault:
      description: What is wrong with the driver or the fabric, in a sentence with the remedy, or V(null).
      type: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import driver
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain


def driver_plan(cuda_facts: Any, gpu_facts: Any, wishes: Any) -> dict[str, Any]:
    """Decide what is to be done."""
    found: dict[str, Any] = plain(driver.plan(plain(wishes), plain(cuda_facts), plain(gpu_facts)))
    return found


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"driver_plan": driver_plan}
