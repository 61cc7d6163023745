# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter compatibility_problems."""

from __future__ import annotations

DOCUMENTATION = r"""
name: compatibility_problems
short_description: Says why a vLLM release cannot run on a host
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Compares what the CUDA or ROCm build of a vLLM release needs with what a host has. For CUDA the driver's branch, the
    GPUs' compute capability (also for quantized checkpoints), and the fabric manager against the driver; for ROCm its
    version and the GPUs' architecture; for both the C library, Python, shared memory, and GPUs of one kind. Every
    sentence names both sides, and how to change either.
options:
  _input:
    description: What M(gpufleet.vllm.gpu_info) returned as C(gpu_facts).
    type: dict
    required: true
  version:
    description: The version of vLLM. Of CUDA builds before 0.19 nothing is said.
    type: str
    required: true
  variant:
    description: The build of vLLM.
    type: str
    choices: [cuda, rocm]
    default: cuda
  host:
    description: >-
      C(glibc), C(machine) and C(fabric_manager), as M(gpufleet.vllm.cuda_info) returned them, or C(rocm) in place of
      the last, as M(gpufleet.vllm.rocm_info) did, and optionally C(python) (a version) and C(python_path). What is
      missing is not judged.
    type: dict
    default: {}
  driver_branch:
    description: The driver's branch that is about to be installed. When left out, the driver that is loaded counts.
    type: int
  rocm:
    description: The version of ROCm that is about to be installed. When left out, the one that is there counts.
    type: str
  instances:
    description: >-
      The layouts of the instances, from P(gpufleet.vllm.parallel_layout#filter), or the list that a person wrote.
      When there are none, every GPU of the host counts.
    type: list
    elements: dict
    default: []
seealso:
  - module: gpufleet.vllm.gpu_info
  - module: gpufleet.vllm.cuda_info
  - module: gpufleet.vllm.rocm_info
"""

EXAMPLES = r"""
- name: Check the host
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join('\n') }}"
  vars:
    problems: >-
      {{ gpu.gpu_facts | gpufleet.vllm.compatibility_problems(version='0.33.0', host=found.cuda_facts,
         instances=layout_instances) }}
"""

RETURN = r"""
_value:
  description: One sentence for each reason; empty when there is none.
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import compatibility, compatibility_rocm
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain


def compatibility_problems(
    gpu_facts: Any,
    version: str,
    host: Any = None,
    driver_branch: int | None = None,
    instances: Any = None,
    variant: str = "cuda",
    rocm: str | None = None,
) -> list[str]:
    """Say why the release cannot run."""
    listed = plain(instances or [])
    usable = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    if variant == "rocm":
        planned = str(rocm) if rocm else None
        return compatibility_rocm.problems(plain(gpu_facts), plain(host or {}), str(version), planned, usable)
    branch = int(driver_branch) if driver_branch else None
    return compatibility.problems(plain(gpu_facts), plain(host or {}), str(version), branch, usable)


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"compatibility_problems": compatibility_problems}
