#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module bundle_model."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_model
short_description: Downloads a model of the hub into a bundle
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Downloads the files that vLLM loads into C(<folder>/models/<org>--<name>/<commit>) with huggingface_hub, and
    compares each with the digest that the hub states. Runs on the control node.
options:
  folder:
    description: Folder of the bundle.
    type: path
    required: true
  model:
    description: Id of the model on the hub.
    type: str
    required: true
  revision:
    description: Branch, tag or commit.
    type: str
    default: main
  token:
    description: Token to show to the hub; empty for none.
    type: str
attributes:
  check_mode:
    description: Says whether it would download.
    support: full
  diff_mode:
    description: There is no text to compare.
    support: none
  idempotent:
    description: A commit that is there is left alone.
    support: full
"""

EXAMPLES = r"""
- name: Put a model into a bundle
  gpufleet.vllm.bundle_model:
    folder: /srv/bundle
    model: Qwen/Qwen3-8B
  delegate_to: localhost
"""

RETURN = r"""
described:
  description: Revision, commit and folder of the model, for M(gpufleet.vllm.bundle_describe).
  returned: always
  type: dict
  sample: {"revision": "main", "commit": "b968826d", "folder": "models/Qwen--Qwen3-8B/b968826d"}
"""

import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.hub_cache import matches
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import hub


def download(module: AnsibleModule, target: Path, commit: str, files: list[dict[str, object]]) -> None:
    """Download beside the target, compare, and move it there. Raises InputError for files that differ."""
    from huggingface_hub import snapshot_download

    part = target.with_name(f"{target.name}.part")
    names = [str(file["path"]) for file in files]
    token = module.params["token"]
    token = token if token is None else hub.given(token) or False
    snapshot_download(
        module.params["model"],
        revision=commit,
        local_dir=part,
        allow_patterns=names,
        token=token,
    )
    wrong = [str(file["path"]) for file in files if not matches(part / str(file["path"]), file)]
    if wrong:
        for name in wrong:
            (part / name).unlink()
        raise InputError(
            f"{', '.join(wrong)} of {module.params['model']} does not have the digest that the hub states; run it "
            "again."
        )
    shutil.rmtree(part / ".cache", ignore_errors=True)
    part.rename(target)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "model": {"type": "str", "required": True},
            "revision": {"type": "str", "default": "main"},
            "token": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    # Ansible hides the text as it was written; what is shown to the hub may be shorter
    module.no_log_values.update(filter(None, [(module.params["token"] or "").strip()]))
    name, revision = module.params["model"], module.params["revision"]
    try:
        found = hub.read(name, revision, module.params["token"])
        inner = f"models/{name.replace('/', '--')}/{found['revision']}"
        target = Path(module.params["folder"]) / inner
        there = target.is_dir()
        if not there and not module.check_mode:
            target.parent.mkdir(parents=True, exist_ok=True)
            download(module, target, found["revision"], found["files"])
    except (InputError, OSError) as error:
        module.fail_json(msg=str(error))
    described = {"revision": revision, "commit": found["revision"], "folder": inner}
    module.exit_json(changed=not there, described=described)


if __name__ == "__main__":
    main()
