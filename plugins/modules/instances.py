#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module instances."""

from __future__ import annotations

DOCUMENTATION = r"""
module: instances
short_description: Writes the files of vLLM instances and runs their units
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Writes the unit template C(vllm@.service) and, for each instance, C(/etc/vllm/<name>.yaml), C(/etc/vllm/<name>.env),
    the link to its release, and drop-ins of its unit. Then enables and starts what does not run, and restarts what was
    started from something else than its digest says, one instance after the other, in the order of the list.
  - An instance that shares GPUs with others (C(start_after) of its layout) is started when those have answered a
    request, because vLLM measures the free memory while it starts.
  - An instance that runs from what it should is not touched. That is so, too, where an earlier version of this
    collection started it, whose digests had another form, from the same settings, environment, user, release, model and
    token; it keeps that digest until it is started again.
  - Instances that are not in the list are left alone.
  - All of a host in one call, since each call counts over many hosts.
  - The files are templates of the calling role, rendered as M(ansible.builtin.template) renders them, those of an
    instance once for each.
options:
  root:
    description: Folder of the engine.
    type: path
    required: true
  instances:
    description: The layouts of the instances that the host runs, from P(gpufleet.vllm.parallel_layout#filter).
    type: list
    elements: dict
    required: true
  loop_var:
    description: Variable by which the templates know the instance that they are rendered for.
    type: str
    required: true
  unit:
    description: Template of the unit template.
    type: str
    required: true
  units:
    description: By name, templates of further units that the instances need.
    type: dict
    default: {}
  settings:
    description: Template of C(/etc/vllm/<name>.yaml).
    type: str
    required: true
  environment:
    description: Template of C(/etc/vllm/<name>.env), with a line C(GPUFLEET_DIGEST).
    type: str
    required: true
  drop_ins:
    description: By the name of a drop-in of the unit, its template. Where it renders to nothing, it is taken away.
    type: dict
    default: {}
  release_var:
    description: Variable that says where the link C(<root>/instances/<name>) leads.
    type: str
    required: true
  start_timeout:
    description: Seconds to wait for an instance that another one is started after.
    type: int
    default: 3600
  unit_texts:
    description: By name, the texts of O(unit) and O(units), from the action plugin.
    type: dict
    default: {}
  files:
    description: What the action plugin has rendered for each instance.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the instance.
        type: str
        required: true
      digest:
        description: Digest of all that its process is started from.
        type: str
        required: true
      release:
        description: Where its link leads.
        type: str
        required: true
      settings:
        description: Text of its settings.
        type: str
        required: true
      environment:
        description: Text of its environment.
        type: str
        required: true
      drop_ins:
        description: Texts of its drop-ins. Null for one that is taken away.
        type: dict
        default: {}
      host:
        description: Address that its server listens on.
        type: str
        default: 127.0.0.1
      port:
        description: Port that its server listens on.
        type: int
        required: true
      start_after:
        description: Instances that have to answer before it is started.
        type: list
        elements: str
        default: []
attributes:
  check_mode:
    description: Says what would be written, started and restarted.
    support: full
  diff_mode:
    description: Shows each file.
    support: full
  idempotent:
    description: What is as it should be is left alone.
    support: full
  action:
    description: The part on the control node renders the templates.
    support: full
"""

EXAMPLES = r"""
- name: Run the instances
  gpufleet.vllm.instances:
    root: /opt/vllm
    instances: "{{ layout_instances }}"
    loop_var: instance
    unit: vllm@.service.j2
    settings: instance.yaml.j2
    environment: instance.env.j2
    release_var: instance_link
"""

RETURN = r"""
written:
  description: Files, links and folders that were changed.
  returned: always
  type: list
  elements: str
  sample: [/etc/vllm/llama-70b.yaml]
started:
  description: Instances that were started, in that order.
  returned: always
  type: list
  elements: str
  sample: []
restarted:
  description: Instances that were restarted, in that order.
  returned: always
  type: list
  elements: str
  sample: [llama-70b]
waiting:
  description: Instances that are not started yet, with the one that has to answer first. The action plugin waits.
  returned: always
  type: dict
  sample: {}
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import claim, earlier, instance_files
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.files import text_of
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.written import Writer
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import good_states
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import systemd
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import client, receipt

SETTINGS = Path("/etc/vllm")
UNITS = Path("/etc/systemd/system")
TEMPLATE = "vllm@.service"
RUNNING = ("active", "activating", "reloading")
HEALTH_SECONDS = 5
WAITS = "waits for "

ARGUMENTS: dict[str, dict[str, Any]] = {
    "root": {"type": "path", "required": True},
    "instances": {"type": "list", "elements": "dict", "required": True},
    "loop_var": {"type": "str", "required": True},
    "unit": {"type": "str", "required": True},
    "units": {"type": "dict", "default": {}},
    "settings": {"type": "str", "required": True},
    "environment": {"type": "str", "required": True},
    "drop_ins": {"type": "dict", "default": {}},
    "release_var": {"type": "str", "required": True},
    "start_timeout": {"type": "int", "default": 3600},
    "unit_texts": {"type": "dict", "default": {}},
    "files": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "digest": {"type": "str", "required": True},
            "release": {"type": "str", "required": True},
            "settings": {"type": "str", "required": True},
            "environment": {"type": "str", "required": True},
            "drop_ins": {"type": "dict", "default": {}},
            "host": {"type": "str", "default": "127.0.0.1"},
            "port": {"type": "int", "required": True},
            "start_after": {"type": "list", "elements": "str", "default": []},
        },
    },
}


def unit_of(name: str) -> str:
    """Name of the unit of an instance."""
    return f"vllm@{name}.service"


def write(writer: Writer, params: dict[str, Any]) -> None:
    """Write what systemd and vLLM read."""
    links = Path(params["root"]) / "instances"
    writer.folder(SETTINGS)
    writer.folder(links)
    for name, text in params["unit_texts"].items():
        writer.text(UNITS / name, text)
    for one in params["files"]:
        environment = SETTINGS / f"{one['name']}.env"
        if not writer.check:
            instance_files.open_up(environment, one["digest"])
        writer.link(links / one["name"], one["release"])
        writer.text(SETTINGS / f"{one['name']}.yaml", one["settings"])
        drop_ins = UNITS / f"{unit_of(one['name'])}.d"
        for name, text in one["drop_ins"].items():
            if text is None:
                writer.absent(drop_ins / name)
            else:
                writer.folder(drop_ins)
                writer.text(drop_ins / name, text)
        # last, with the digest that says that the others are there
        writer.text(environment, one["environment"])


def keep_earlier(params: dict[str, Any], found: dict[str, dict[str, str]]) -> None:
    """Let the instances that an earlier version started from the same keep the digest that they run with."""
    for one in params["files"]:
        process = systemd.process_of(found.get(unit_of(one["name"]), {}))
        if not process or process["digest"] == one["digest"]:
            continue
        written = map(text_of, sorted((UNITS / f"{unit_of(one['name'])}.d").glob("*.conf")))
        ours = [text for text in written if text and text.startswith(good_states.OURS)]
        old = {
            "settings": text_of(SETTINGS / f"{one['name']}.yaml") or "",
            "environment": text_of(SETTINGS / f"{one['name']}.env") or "",
            "units": "\n".join([text_of(UNITS / TEMPLATE) or "", *ours]),
        }
        texts = [text for _name, text in sorted(one["drop_ins"].items()) if text]
        new = {**one, "units": "\n".join([params["unit_texts"].get(TEMPLATE, ""), *texts])}
        digest = earlier.kept(process, old, new, one["name"], same_release(params["root"], one, process))
        if digest:
            one["environment"] = one["environment"].replace(one["digest"], digest)
            one["digest"] = digest


def same_release(root: str, one: dict[str, Any], process: dict[str, Any]) -> bool:
    """Tell whether a process runs from the release that the link of its instance is to lead to."""
    link = instance_files.link(Path(root), one["name"])
    maps = (text_of(Path(f"/proc/{pid}/maps")) or "" for pid in systemd.family(process["pid"]))
    running = receipt.release_of_any(maps)
    return running is not None and Path(running).name == (link.parent / one["release"]).resolve().name


class Units:
    """The units of the instances."""

    def __init__(self, module: AnsibleModule, instances: list[dict[str, Any]]) -> None:
        self.module = module
        self.instances = {one["name"]: one for one in instances}
        self.touched: set[str] = set()
        self.found = systemd.show([unit_of(one["name"]) for one in instances]) if instances else {}

    def properties(self, name: str) -> dict[str, str]:
        """What systemd says of an instance's unit."""
        return self.found.get(unit_of(name), {})

    def systemctl(self, *arguments: str) -> None:
        """Run systemctl, but in check mode. Raises GpufleetError."""
        if self.module.check_mode:
            return
        code, out, err = self.module.run_command(["systemctl", *arguments])
        if code:
            unit = arguments[-1]
            remedy = f" Look into its journal: journalctl -u {unit}." if unit.endswith(".service") else ""
            raise GpufleetError(f"systemctl {' '.join(arguments)} failed: {(err or out).strip()}.{remedy}")

    def reload(self, wanted: bool) -> None:
        """Let systemd read its units again where they have changed, also in a run that was interrupted."""
        if wanted or any(one.get("NeedDaemonReload") == "yes" for one in self.found.values()):
            self.systemctl("daemon-reload")

    def first(self, one: dict[str, Any]) -> str | None:
        """Name of an instance that has to answer before this one is started; None when it need not wait."""
        for name in one["start_after"]:
            other = self.instances.get(name)
            if other is None or self.module.check_mode:
                continue
            runs = systemd.instance_state(self.properties(name))["active_state"] in RUNNING
            server = client.Server(client.probe_address(other["host"]), other["port"], HEALTH_SECONDS)
            if name in self.touched or (runs and not client.healthy(server)):
                return str(name)
        return None

    def run(self, one: dict[str, Any]) -> tuple[str, bool]:
        """Enable and start or restart one instance; returns what was done, and whether it was enabled.

        What was done is the name of another one, after :data:`WAITS`, where that has to answer first.
        """
        unit, properties = unit_of(one["name"]), self.properties(one["name"])
        enabled = properties.get("UnitFileState") != "enabled"
        if enabled:
            self.systemctl("enable", unit)
        state = systemd.instance_state(properties)
        runs = state["active_state"] in RUNNING
        if runs and state["digest"] == one["digest"]:
            return "", enabled
        self.touched.add(one["name"])
        first = self.first(one)
        if first is not None:
            return WAITS + first, enabled
        if runs or state["active_state"] == "failed":
            # The limit of starts is for those that systemd makes by itself.
            self.systemctl("reset-failed", unit)
        self.systemctl("restart", unit)
        return "restarted" if runs else "started", enabled


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
    )
    instances = module.params["files"]
    writer = Writer(module.check_mode)
    done: dict[str, list[str]] = {"": [], "started": [], "restarted": []}
    waiting: dict[str, str] = {}
    changed = False
    try:
        units = Units(module, instances)
        # before the owners of models change, by whose times it goes
        keep_earlier(module.params, units.found)
        if not module.check_mode:
            writer.changed += claim.claim(claim.existing(), lambda argv: module.run_command(list(argv)))
        write(writer, module.params)
        units.reload(writer.touched(UNITS))
        for one in instances:
            what, enabled = units.run(one)
            changed = changed or bool(what) or enabled
            if what.startswith(WAITS):
                waiting[one["name"]] = what[len(WAITS) :]
            else:
                done[what].append(one["name"])
    except GpufleetError as error:
        module.fail_json(msg=str(error), written=writer.changed)
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be written: {error.strerror}.", written=writer.changed)
    would = "would be " if module.check_mode else ""
    said = [f"{', '.join(map(unit_of, done[what]))} {would}{what}" for what in ("started", "restarted") if done[what]]
    module.exit_json(
        changed=changed or bool(writer.changed),
        msg="; ".join(said) or "nothing to start",
        written=writer.changed,
        started=done["started"],
        restarted=done["restarted"],
        waiting=waiting,
        diff=writer.diffs,
    )


if __name__ == "__main__":
    main()
