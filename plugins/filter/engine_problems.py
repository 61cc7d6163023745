# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter engine_problems."""

from __future__ import annotations

DOCUMENTATION = r"""
name: engine_problems
short_description: Says why a vLLM release cannot be installed on a host
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Checks the version, that of a Python interpreter, and the free disk space. A release that is there has no faults.
options:
  _input:
    description: What M(gpufleet.vllm.host_info) returned for O(root), O(releases) and O(python).
    type: dict
    required: true
  root:
    description: Folder that the releases go into.
    type: path
    required: true
  releases:
    description: By version of vLLM, the file that marks the release as whole.
    type: dict
    required: true
  python:
    description: The interpreter that the release is made with.
    type: path
    required: true
  disk_mib:
    description: Space in MiB that one release takes.
    type: int
    required: true
  missing_packages:
    description: Packages of the distribution that are needed, are not there, and cannot be installed.
    type: list
    elements: str
    default: []
  variant:
    description: The build of vLLM.
    type: str
    choices: [cuda, rocm, cpu]
    default: cuda
  left_mib:
    description: MiB of it that are there from an installation that was cut off.
    type: int
    default: 0
seealso:
  - module: gpufleet.vllm.host_info
"""

EXAMPLES = r"""
- name: Check the host
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join('\n') }}"
  vars:
    problems: >-
      {{ host | gpufleet.vllm.engine_problems(
           root='/opt/vllm', releases={'0.33.0': '/opt/vllm/releases/0.33.0-cuda/release.json'},
           python='/usr/bin/python3', disk_mib=24576) }}
"""

RETURN = r"""
_value:
  description: One sentence for each fault; empty when there is none.
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import preflight
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain


def engine_problems(
    host: Any,
    root: str,
    releases: Any,
    python: str,
    disk_mib: int,
    missing_packages: Any = (),
    variant: str = "cuda",
    left_mib: Any = 0,
) -> list[str]:
    """Say why a release cannot be installed."""
    return preflight.engine_problems(
        plain(host),
        str(root),
        plain(releases),
        str(python),
        int(disk_mib),
        plain(list(missing_packages)),
        str(variant),
        int(left_mib),
    )


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"engine_problems": engine_problems}
