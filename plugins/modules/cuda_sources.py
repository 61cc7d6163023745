#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module cuda_sources."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cuda_sources
short_description: Takes entries of apt and dnf out of use
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Does to the files of a host's package sources what M(gpufleet.vllm.cuda_info) and
    P(gpufleet.vllm.driver_plan#filter) found to be needed, so that one source of NVIDIA's packages is left.
  - An entry stays in its file, commented out (C(.list)), with C(Enabled; no) (C(.sources)) or with C(enabled=0)
    (C(.repo)). Owner and mode of the file stay. Users and passwords in URIs are not shown.
options:
  disable:
    description: Entries to take out of use. One that is not there any more is left out.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The file.
        type: path
        required: true
      place:
        description: The line that the entry begins at, or the name of its section.
        type: str
        required: true
  remove:
    description: Files to remove, of those that the role P(gpufleet.vllm.cuda#role) has written.
    type: list
    elements: path
    default: []
  excludes:
    description: Packages that dnf leaves out of one repository, so that automatic updates do not change them.
    type: dict
    suboptions:
      path:
        description: The file.
        type: path
        required: true
      place:
        description: The name of the section.
        type: str
        required: true
      packages:
        description: Patterns of packages.
        type: list
        elements: str
        required: true
      state:
        description: Whether they are left out.
        type: str
        choices: [present, absent]
        default: present
attributes:
  check_mode:
    description: Says what it would write.
    support: full
  diff_mode:
    description: Shows the files, without users and passwords in URIs.
    support: full
  idempotent:
    description: An entry that is out of use is left as it is.
    support: full
seealso:
  - module: gpufleet.vllm.cuda_info
  - plugin: gpufleet.vllm.driver_plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Take a second source of the same packages out of use
  gpufleet.vllm.cuda_sources:
    disable:
      - {path: /etc/apt/sources.list.d/cuda-debian12-x86_64.list, place: 1}
"""

RETURN = r"""
files:
  description: Files that were changed or removed.
  returned: always
  type: list
  elements: str
"""

import os
import stat
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import package_sources

OWN = "gpufleet-nvidia."


def read(path: Path) -> str | None:
    """The text of a file, byte for byte."""
    return path.read_text(encoding="utf-8", errors="surrogateescape") if path.is_file() else None


def write(path: Path, text: str) -> None:
    """Write in place of what is there, in one step, with its owner and mode."""
    status = path.stat()
    new = path.with_name(f".{path.name}.new")
    with new.open("w", encoding="utf-8", errors="surrogateescape") as file:
        os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode))
        os.fchown(file.fileno(), status.st_uid, status.st_gid)
        file.write(text)
    new.replace(path)


def wanted_text(path: Path, text: str, parameters: dict[str, Any]) -> str:
    """What a file should be like."""
    places = [str(one["place"]) for one in parameters["disable"] if one["path"] == str(path)]
    parse = package_sources.parse_deb822 if path.name.endswith(".sources") else package_sources.parse_list
    entries = package_sources.parse_repo("", text, "") if path.name.endswith(".repo") else parse("", text)
    present = {str(entry["place"]) for entry in entries if entry["enabled"]}
    text = package_sources.disabled(str(path), text, [place for place in places if place in present])
    excludes = parameters["excludes"]
    if excludes and excludes["path"] == str(path):
        leave_out = (
            package_sources.with_excludes if excludes["state"] == "present" else package_sources.without_excludes
        )
        text = leave_out(text, excludes["place"], excludes["packages"])
    return text


def main() -> None:
    """Run the module."""
    place = {"path": {"type": "path", "required": True}, "place": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "disable": {"type": "list", "elements": "dict", "default": [], "options": place},
            "remove": {"type": "list", "elements": "path", "default": []},
            "excludes": {
                "type": "dict",
                "options": {
                    **place,
                    "packages": {"type": "list", "elements": "str", "required": True},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                },
            },
        },
        supports_check_mode=True,
    )
    parameters = module.params
    foreign = [name for name in parameters["remove"] if not Path(name).name.startswith(OWN)]
    if foreign:
        module.fail_json(msg=f"{foreign[0]} is not a file of the role cuda; take its entries out of use instead.")
    excludes = [parameters["excludes"]] if parameters["excludes"] else []
    paths = sorted({one["path"] for one in [*parameters["disable"], *excludes]} - set(parameters["remove"]))
    diff, files = [], []
    try:
        for path in [*map(Path, parameters["remove"]), *map(Path, paths)]:
            before = read(path)
            after = None if str(path) in parameters["remove"] else wanted_text(path, before or "", parameters)
            if before is None or before == after:
                continue
            files.append(str(path))
            texts = [package_sources.redacted(text or "") for text in (before, after)]
            diff.append({"before": texts[0], "after": texts[1], "before_header": str(path), "after_header": str(path)})
            if module.check_mode:
                continue
            if after is None:
                path.unlink()
            else:
                write(path, after)
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be changed: {error.strerror}. Correct that, and run this again.")
    module.exit_json(changed=bool(files), files=files, diff=diff)


if __name__ == "__main__":
    main()
