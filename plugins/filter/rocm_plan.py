# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter rocm_plan."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rocm_plan
short_description: Decides what is to be done to the AMD software of a host
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Computes packages, repositories, groups and whether to reboot, from what a person wants and what is on the host.
    Touches nothing. Asked again after each step of the role P(gpufleet.vllm.rocm#role), it says what is left to do.
options:
  _input:
    description: What M(gpufleet.vllm.rocm_info) returned as C(rocm_facts).
    type: dict
    required: true
  gpu_facts:
    description: What M(gpufleet.vllm.gpu_info) returned as C(gpu_facts).
    type: dict
    required: true
  wishes:
    description: The variables of the role P(gpufleet.vllm.rocm#role), without C(rocm_) before their names.
    type: dict
    required: true
seealso:
  - module: gpufleet.vllm.rocm_info
  - module: gpufleet.vllm.gpu_info
"""

EXAMPLES = r"""
- name: Decide
  ansible.builtin.set_fact:
    plan: "{{ found.rocm_facts | gpufleet.vllm.rocm_plan(gpu_facts=gpu.gpu_facts, wishes=wishes) }}"
"""

RETURN = r"""
_value:
  description: What is to be done.
  type: dict
  contains:
    applies:
      description: Whether the host has an AMD GPU. Otherwise there is nothing to do.
      type: bool
    managed:
      description: Whether driver and ROCm are installed here, and not left alone.
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
    version:
      description: The version of ROCm that the host will have. V(null) where it is left alone.
      type: str
    repositories:
      description: >-
        AMD's repositories or their mirrors, each with C(name), C(description), C(url) and C(suite) (of apt, or null).
      type: list
      elements: dict
    key:
      description: C(url) and C(fingerprints) of the key that signs them. V(null) where none is needed.
      type: dict
    preferences:
      description: Records of apt for these repositories, each with C(packages), C(pin) and C(priority).
      type: list
      elements: dict
    packages:
      description: Packages to install or to change. Empty where driver and ROCm are as they should be.
      type: list
      elements: str
    hold:
      description: Installed packages to hold back from upgrades.
      type: list
      elements: str
    release:
      description: Held packages to let go, before they are changed or because nothing is to be held.
      type: list
      elements: str
    groups:
      description: Groups that the device files of the GPUs belong to.
      type: list
      elements: str
    reboot:
      description: C(needed), C(why) (a sentence or null) and C(allowed).
      type: dict
    disturbed:
      description: >-
        A sentence where instances of vLLM run on the host, and something would be done that they do not survive.
      type: list
      elements: str
    fault:
      description: What is wrong with the driver, in a sentence with the remedy, or V(null).
      type: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import rocm
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain


def rocm_plan(rocm_facts: Any, gpu_facts: Any, wishes: Any) -> dict[str, Any]:
    """Decide what is to be done."""
    found: dict[str, Any] = plain(rocm.plan(plain(wishes), plain(rocm_facts), plain(gpu_facts)))
    return found


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"rocm_plan": rocm_plan}
