#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module model_prune."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_prune
short_description: Removes commits of hub models that no instance of the host uses
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Looks at the settings of all instances of the host, C(/etc/vllm/*.yaml), and at the states that they can be put
    back to (M(gpufleet.vllm.instance_state)), and lets huggingface_hub's own tool, C(hf cache rm), remove every other
    commit of a model in a cache. Removes nothing when there are no instances at all.
options:
  cache:
    description: Folder of huggingface_hub's cache on the host.
    type: path
    required: true
  hf:
    description: The tool C(hf) on the host.
    type: path
    default: /opt/vllm/current/bin/hf
attributes:
  check_mode:
    description: Says what it would remove.
    support: full
  diff_mode:
    description: Shows the commits before and after.
    support: full
  idempotent:
    description: A second run removes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Remove what nobody uses
  gpufleet.vllm.model_prune:
    cache: /var/lib/vllm/hub
"""

RETURN = r"""
removed:
  description: Models with their commits that were removed, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: [Qwen/Qwen3-8B b968826d9c46dd6066d109eabc6255188de91218]
freed_bytes:
  description: Size of the files that no other commit shares.
  returned: always
  type: int
  sample: 16381517208
"""

import os
import re
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import claim, instance_files
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.files import text_of
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import good_states
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError

SETTINGS = Path("/etc/vllm")
# The role serve writes the settings as plain YAML, a key on a line of its own.
SETTING = re.compile(r"^(model|revision): *['\"]?([^'\"\n ](?:[^'\"\n]*[^'\"\n ])?)['\"]? *$", re.MULTILINE)

# Of huggingface_hub's cache, a model and a commit: they become arguments, and lines for people.
MODEL_FOLDER = re.compile(r"models--\w[\w.-]*", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")


def used() -> set[tuple[str, str]]:
    """Model and commit of each instance that has one, and of the states it can be put back to."""
    found = good_states.commits(instance_files.all_states())
    for file in SETTINGS.glob("*.yaml"):
        settings = dict(SETTING.findall(text_of(file) or ""))
        if {"model", "revision"} <= settings.keys():
            found.add((settings["model"], settings["revision"]))
    return found


def cached(cache: Path) -> dict[tuple[str, str], Path]:
    """Folder of each commit in the cache, by model and commit."""
    return {
        (snapshot.parents[1].name[len("models--") :].replace("--", "/", 1), snapshot.name): snapshot
        for snapshot in cache.glob("models--*/snapshots/*")
        if MODEL_FOLDER.fullmatch(snapshot.parents[1].name) and COMMIT.fullmatch(snapshot.name)
    }


def blobs(snapshot: Path) -> set[Path]:
    """Files that the links of a commit lead to."""
    # not followed: a folder that is a link is none of huggingface_hub's
    found = (Path(folder, name) for folder, _folders, names in os.walk(snapshot) for name in names)
    return {path.resolve() for path in found if path.is_symlink() and path.exists()}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "cache": {"type": "path", "required": True},
            "hf": {"type": "path", "default": "/opt/vllm/current/bin/hf"},
        },
        supports_check_mode=True,
    )
    cache = Path(module.params["cache"])
    taken: list[str] = []
    if not module.check_mode:
        try:
            taken = claim.claim([cache], lambda argv: module.run_command(list(argv)))
        except (GpufleetError, OSError) as error:
            module.fail_json(msg=str(error))
    there, wanted = cached(cache), used()
    gone = sorted(key for key in there if key not in wanted) if any(SETTINGS.glob("*.yaml")) else []
    kept = {blob for key, snapshot in there.items() if key not in gone for blob in blobs(snapshot)}
    freed = {blob for key in gone for blob in blobs(there[key])} - kept
    freed_bytes = sum(blob.stat().st_size for blob in freed)
    if gone and not module.check_mode:
        commits = sorted({commit for _model, commit in gone})
        command = [module.params["hf"], "cache", "rm", "--yes", f"--cache-dir={cache}", "--", *commits]
        code, out, err = module.run_command(command)
        if code:
            module.fail_json(msg=f"hf cache rm failed: {(err or out).strip()}")
        for name, commit in gone:
            (there[name, commit].parents[1] / f"gpufleet-{commit}.json").unlink(missing_ok=True)
    words = {key: f"{key[0]} {key[1]}" for key in there}
    module.exit_json(
        changed=bool(gone or taken),
        removed=[words[key] for key in gone],
        freed_bytes=freed_bytes,
        diff={
            "before": "".join(f"{words[key]}\n" for key in sorted(there)),
            "after": "".join(f"{words[key]}\n" for key in sorted(there) if key not in gone),
            "before_header": str(cache),
            "after_header": str(cache),
        }
        if gone
        else {},
    )


if __name__ == "__main__":
    main()
