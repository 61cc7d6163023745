#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module deployment_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_info
short_description: Reads all that a deployment decides by, in one look at the host
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Answers in one call what M(gpufleet.vllm.gpu_info), M(gpufleet.vllm.cuda_info), M(gpufleet.vllm.model_info) for
    models that are on the host, and M(gpufleet.vllm.host_info) answer one by one. Over many hosts each call counts.
options:
  models:
    description: Folders of models on the host.
    type: list
    elements: path
    default: []
  trees:
    description: Folders whose files are listed.
    type: list
    elements: path
    default: []
  users:
    description: Names of users to look for.
    type: list
    elements: str
    default: []
  engine_root:
    description: Folder of the engine, whose releases are looked for.
    type: path
    required: true
  python:
    description: A Python interpreter to ask for its version.
    type: path
    required: true
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
  - module: gpufleet.vllm.cuda_info
  - module: gpufleet.vllm.model_info
  - module: gpufleet.vllm.host_info
"""

EXAMPLES = r"""
- name: Read the host
  gpufleet.vllm.deployment_info:
    models: [/srv/models/llama-70b]
    engine_root: /opt/vllm
    python: /usr/bin/python3
  register: host
"""

RETURN = r"""
gpu_facts:
  description: As RV(gpufleet.vllm.gpu_info#module:gpu_facts).
  returned: always
  type: dict
cuda_facts:
  description: As RV(gpufleet.vllm.cuda_info#module:cuda_facts).
  returned: always
  type: dict
models:
  description: >-
    By folder, the same as RV(gpufleet.vllm.model_info#module:model_facts); C(problem) alone where a model cannot be
    read.
  returned: always
  type: dict
trees:
  description: >-
    By folder, its files below it at any depth, each with its size in bytes and its time in nanoseconds since 1970.
  returned: always
  type: dict
  sample: {"/var/lib/vllm/models": {"tiny/config.json": [618, 1763942400000000000]}}
paths:
  description: >-
    As RV(gpufleet.vllm.host_info#module:paths), of O(engine_root), of C(current) and C(cache) in it, of the folders of
    releases, of the C(release.json) of those that are whole, of O(models), of the folders right in O(trees), and of
    the places of the hub's token.
  returned: always
  type: dict
releases:
  description: As RV(gpufleet.vllm.host_info#module:releases).
  returned: always
  type: dict
python:
  description: As RV(gpufleet.vllm.host_info#module:python).
  returned: always
  type: dict
users:
  description: As RV(gpufleet.vllm.host_info#module:users).
  returned: always
  type: dict
listeners:
  description: As RV(gpufleet.vllm.host_info#module:listeners), of all ports that somebody listens on.
  returned: always
  type: list
  elements: dict
interfaces:
  description: As RV(gpufleet.vllm.host_info#module:interfaces).
  returned: always
  type: dict
"""

import json
import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import credentials
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import (
    facts,
    hostfiles,
    interfaces,
    kernels,
    listeners,
    model,
    places,
    runner,
    software,
    sources,
)

TOOL_SECONDS = 30


def gpu_facts() -> dict[str, Any]:
    """The accelerators, as gpu_info reads them."""
    outputs = runner.run_all(sources.COMMANDS, TOOL_SECONDS, os.environ)
    outputs[sources.HOST] = sources.ToolOutput(sources.OK, json.dumps(hostfiles.read_host()))
    return facts.build_facts(outputs)


def model_facts(folder: str) -> dict[str, Any]:
    """A model, as model_info reads it."""
    try:
        return model.read_folder(folder)
    except InputError as error:
        return {"problem": str(error)}


def paths(wanted: dict[str, Any]) -> list[str]:
    """The paths that a deployment decides by."""
    root = Path(wanted["engine_root"])
    releases = sorted(map(str, [*root.glob("releases/*"), *root.glob("releases/*/release.json")]))
    folders = sorted(str(folder) for tree in wanted["trees"] for folder in Path(tree).glob("*/"))
    token = [credentials.ENCRYPTED, credentials.PLAIN]
    return [str(root), str(root / "current"), str(root / "cache"), *releases, *wanted["models"], *folders, *token]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "models": {"type": "list", "elements": "path", "default": []},
            "trees": {"type": "list", "elements": "path", "default": []},
            "users": {"type": "list", "elements": "str", "default": []},
            "engine_root": {"type": "path", "required": True},
            "python": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    try:
        found = gpu_facts()
    except InputError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=False,
        gpu_facts=found,
        cuda_facts=software.cuda_facts(module.get_bin_path, lambda argv: str(module.run_command(argv)[1])),
        models={folder: model_facts(folder) for folder in wanted["models"]},
        trees={folder: places.tree(Path(folder)) for folder in wanted["trees"]},
        paths={name: places.path_facts(name) for name in paths(wanted)},
        releases=kernels.written(Path(wanted["engine_root"])),
        python=places.python_facts(wanted["python"]),
        users={name: places.user_facts(name) for name in wanted["users"]},
        listeners=listeners.listeners(),
        interfaces=interfaces.interfaces(module.run_command(list(interfaces.COMMAND))[1]),
    )


if __name__ == "__main__":
    main()
