#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module instance_state."""

from __future__ import annotations

DOCUMENTATION = r"""
module: instance_state
short_description: Keeps what a vLLM instance was started from when it served, and puts it back
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Keeps, of each instance, the state that was last seen to serve (C(good)) and the one before it (C(previous)), in
    C(/etc/vllm/good/<name>/), for root alone. A state is the text of the files that the instance is started from
    (settings, environment, unit, what this collection added to the unit), the name of its release, its model, and its
    receipt. A token is in none of them; a unit only names its credential.
  - Puts a state back and starts the instance from it. Whether it then serves, M(gpufleet.vllm.warmup) finds out.
  - While an instance is being changed, there is a mark of it on the host, so that a run after one that was interrupted
    knows.
options:
  names:
    description: Names of the instances. By default all that have settings on the host.
    type: list
    elements: str
    default: []
  state:
    description:
      - V(described) reads.
      - V(kept) keeps what runs as the good state, where it is started from what is in its files and has a receipt (or
        O(proven)); an instance of which that is not so is left as it is.
      - V(begun) marks the instances as being changed, and binds the other instances of the host, that follow the link
        C(current), to the release that it leads to now. V(finished) removes the mark.
      - V(restored) puts the state O(which) back.
    type: str
    choices: [described, kept, begun, finished, restored]
    default: described
  which:
    description: >-
      State to put back. Once it was seen to serve and is V(kept), it is the good one, and what was good is the one
      before it.
    type: str
    choices: [good, previous]
    default: good
  digests:
    description:
      - By name, digests of states in the order in which they are wanted. The first of them that is kept is put back, in
        place of O(which), whichever of the two it has become.
    type: dict
    default: {}
  proven:
    description: Whether the instances have just answered, so that no receipt is needed.
    type: bool
    default: false
  layouts:
    description: Layouts of the instances, of P(gpufleet.vllm.parallel_layout#filter), kept with a good state.
    type: list
    elements: dict
    default: []
  baselines:
    description: By name, what M(gpufleet.vllm.instance_measure) measured before the change; kept with the mark.
    type: dict
    default: {}
  root:
    description: Folder of the engine.
    type: path
    default: /opt/vllm
attributes:
  check_mode:
    description: Says what it would write, of what is there now.
    support: full
  diff_mode:
    description: Shows the files that are put back.
    support: full
  idempotent:
    description: A state is kept once, and an instance that runs from a state is not started again.
    support: full
seealso:
  - ref: gpufleet.vllm.rollout
    description: The playbook that changes a fleet while it serves.
"""

EXAMPLES = r"""
- name: Keep what was seen to serve
  gpufleet.vllm.instance_state:
    names: [llama-70b]
    state: kept

- name: Put it back
  gpufleet.vllm.instance_state:
    names: [llama-70b]
    state: restored
"""

RETURN = r"""
instances:
  description: >-
    By name. C(process) that runs or null, C(written_digest) of what the files say, C(earlier_digest), that of a process
    that an earlier version of this collection started, or null, C(proven), whether its receipt is of
    that process, C(release), C(settings) and C(environment) as text, C(good) and C(previous) with C(digest),
    C(release), C(model), C(revision), C(time), C(problem) (why it cannot be put back, or empty) and what was
    C(measured), C(change), the mark or null, and C(restart_failed), the reason why systemd could not start it.
  returned: always
  type: dict
layouts:
  description: Layouts of the instances that were put back.
  returned: when O(state=restored)
  type: list
  elements: dict
"""

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import claim, earlier, instance_files
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.files import text_of
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import good_states, instance_fields
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import systemd
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import receipt, receipt_files


class States:
    """The instances that were named."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.names: list[str] = module.params["names"] or instance_files.names()
        self.root = Path(module.params["root"])
        self.layouts = {layout["name"]: layout for layout in module.params["layouts"]}
        self.now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.changed: list[str] = []
        self.before: dict[str, str] = {}
        self.after: dict[str, str] = {}

    def units(self) -> dict[str, dict[str, str]]:
        """Ask systemd for all of them at once."""
        return systemd.show([f"vllm@{name}.service" for name in self.names]) if self.names else {}

    def process(self, name: str, units: dict[str, dict[str, str]]) -> dict[str, Any] | None:
        """Return the process that runs, once it has its environment."""
        return systemd.process_of(units.get(f"vllm@{name}.service", {}))

    def release(self, name: str, process: dict[str, Any] | None) -> str | None:
        """Return the release that an instance runs from, or would be started with."""
        folder = receipt.release_of(text_of(Path(f"/proc/{process['pid']}/maps")) or "") if process else None
        return Path(folder).name if folder else instance_files.linked_release(self.root, name)

    def problem(self, state: dict[str, Any] | None) -> str:
        """Say why a state cannot be put back."""
        if state is None:
            return good_states.problem(None, True, True, None)
        mark = self.root / "releases" / str(state["release"]) / "release.json"
        model = Path(str(state["model"]))
        return good_states.problem(
            state,
            mark.exists(),
            model.exists() if model.is_absolute() else True,
            instance_files.folder_digest(model) if model.is_absolute() else None,
        )

    def described(self) -> dict[str, Any]:
        """Read all there is."""
        units = self.units()
        found = {}
        for name in self.names:
            process = self.process(name, units)
            environment = text_of(instance_files.SETTINGS / f"{name}.env")
            states = {
                which: instance_files.read_state(name, which) for which in (good_states.GOOD, good_states.PREVIOUS)
            }
            found[name] = {
                "process": process,
                "written_digest": good_states.digest_of(environment),
                "proven": receipt.is_of(receipt_files.found(name), process),
                "release": self.release(name, process),
                "settings": text_of(instance_files.SETTINGS / f"{name}.yaml") or "",
                "environment": environment or "",
                "earlier_digest": self.earlier_digest(name, process),
                "change": instance_files.read_state(name, instance_files.CHANGE),
                **{which: good_states.summary(state, self.problem(state)) for which, state in states.items()},
            }
        return found

    def earlier_digest(self, name: str, process: dict[str, Any] | None) -> str | None:
        """Return the digest of a process that an earlier version started, while its model and token are the same."""
        if not process or not earlier.is_earlier(process["digest"]):
            return None
        files = instance_files.files_of(name)
        model = good_states.settings_of(files.get(str(instance_files.SETTINGS / f"{name}.yaml"))).get("model")
        token = any("LoadCredential" in text for text in files.values())
        good = instance_files.read_state(name, good_states.GOOD)
        return None if earlier.touched(process, model, good, token) else str(process["digest"])

    def write(self, name: str, which: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        """Keep a state where it differs."""
        if old == new:
            return
        self.changed.append(str(instance_files.state_file(name, which)))
        if not self.module.check_mode:
            instance_files.write_state(name, which, new)

    def kept(self) -> None:
        """Keep what runs and serves."""
        units = self.units()
        for name in self.names:
            new = self.captured(name, self.process(name, units))
            if new is None:
                continue
            old = [instance_files.read_state(name, which) for which in (good_states.GOOD, good_states.PREVIOUS)]
            good, previous = good_states.rotated(old[0], old[1], new)
            # the one before first: an interruption leaves the good one twice, and none lost
            self.write(name, good_states.PREVIOUS, old[1], previous)
            self.write(name, good_states.GOOD, old[0], good)

    def captured(self, name: str, process: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return the state that an instance runs from; None where that is not what its files say, or did not serve."""
        files = instance_files.files_of(name)
        settings = files.get(str(instance_files.SETTINGS / f"{name}.yaml"), "")
        environment = files.get(str(instance_files.SETTINGS / f"{name}.env"), "")
        told = receipt_files.found(name)
        told = told if receipt.is_of(told, process) else None
        release = self.release(name, process)
        digest = good_states.digest_of(environment)
        if not process or not release or process["digest"] != digest:
            return None
        if not told and not self.module.params["proven"]:
            return None
        model = Path(good_states.settings_of(settings).get("model", ""))
        files_of_model = instance_files.folder_digest(model) if model.is_absolute() else None
        good = instance_files.read_state(name, good_states.GOOD) or {}
        layout = self.layouts.get(name) or (good["layout"] if good.get("digest") == digest else None)
        return good_states.capture(name, files, settings, environment, release, files_of_model, layout, told, self.now)

    def begun(self) -> None:
        """Mark the instances as being changed."""
        for name in self.names:
            old = instance_files.read_state(name, instance_files.CHANGE)
            baseline = self.module.params["baselines"].get(name) or (old or {}).get("baseline")
            new = {"schema_version": good_states.SCHEMA_VERSION, "since": self.now, "baseline": baseline}
            if old and old["baseline"] == baseline:
                continue
            self.write(name, instance_files.CHANGE, old, new)
        if not self.module.check_mode:
            self.changed.extend(instance_files.bind_others(self.root, self.names))

    def finished(self) -> None:
        """Remove the mark."""
        for name in self.names:
            self.write(name, instance_files.CHANGE, instance_files.read_state(name, instance_files.CHANGE), None)

    def restored(self) -> list[dict[str, Any]]:
        """Put the states back, and start the instances from them. Raises GpufleetError before the first change."""
        which = self.module.params["which"]
        states = {name: self.chosen(name, which) for name in self.names}
        faults = [
            f"{name} cannot be put back to the {which} state: {self.why_none(name, which) or why}."
            for name, why in ((name, self.problem(state)) for name, state in states.items())
            if why
        ]
        if faults:
            raise GpufleetError("\n".join(faults))
        found = {name: state for name, state in states.items() if state}
        if not self.module.check_mode:
            self.changed += claim.claim(claim.existing(), lambda argv: self.module.run_command(list(argv)))
        for name, state in found.items():
            self.put_back(name, state)
        if self.changed and not self.module.check_mode:
            self.systemctl("daemon-reload")
        units = self.units()
        for name, state in found.items():
            process = self.process(name, units)
            if process and process["digest"] == state["digest"]:
                continue
            self.changed.append(f"vllm@{name}.service")
            if not self.module.check_mode:
                self.systemctl("reset-failed", f"vllm@{name}.service", may_fail=True)
                self.systemctl("restart", f"vllm@{name}.service")
        return [state["layout"] for state in found.values()]

    def why_none(self, name: str, which: str) -> str:
        """Say of a state that is damaged what to do."""
        file = instance_files.state_file(name, which)
        if file not in instance_files.damaged(name):
            return ""
        return f"{file} is damaged; put it back from a backup, or correct the entry and run deploy.yml"

    def chosen(self, name: str, which: str) -> dict[str, Any] | None:
        """Return the state that an instance is put back to."""
        kept = [instance_files.read_state(name, one) for one in (good_states.GOOD, good_states.PREVIOUS)]
        wanted = self.module.params["digests"].get(name)
        return good_states.chosen(kept, wanted) if wanted else instance_files.read_state(name, which)

    def put_back(self, name: str, state: dict[str, Any]) -> None:
        """Put the files and the link of one instance back."""
        old = instance_files.files_of(name)
        gone = [str(file) for file in instance_files.drop_ins(name) if str(file) not in state["files"]]
        differing = [path for path, text in state["files"].items() if old.get(path) != text] + gone
        for path in differing:
            self.before[path], self.after[path] = old.get(path, ""), state["files"].get(path, "")
        self.changed.extend(differing)
        if self.module.check_mode:
            if instance_files.linked_release(self.root, name) != state["release"]:
                self.changed.append(str(instance_files.link(self.root, name)))
            return
        instance_files.put_back(name, state["files"])
        if instance_files.point(self.root, name, state["release"]):
            self.changed.append(str(instance_files.link(self.root, name)))

    def systemctl(self, *arguments: str, may_fail: bool = False) -> None:
        """Call systemctl. Raises GpufleetError."""
        code, _out, err = self.module.run_command(["systemctl", *arguments])
        if code and not may_fail:
            raise GpufleetError(f"systemctl {' '.join(arguments)} failed: {err.strip()}")

    def diff(self) -> list[dict[str, str]]:
        """Show the files that are put back."""
        return [
            {"before": self.before[path], "after": self.after[path], "before_header": path, "after_header": path}
            for path in self.before
        ]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "default": []},
            "state": {
                "type": "str",
                "choices": ["described", "kept", "begun", "finished", "restored"],
                "default": "described",
            },
            "which": {"type": "str", "choices": ["good", "previous"], "default": "good"},
            "digests": {"type": "dict", "default": {}},
            "proven": {"type": "bool", "default": False},
            "layouts": {"type": "list", "elements": "dict", "default": []},
            "baselines": {"type": "dict", "default": {}},
            "root": {"type": "path", "default": "/opt/vllm"},
        },
        supports_check_mode=True,
    )
    bad = [name for name in module.params["names"] if not instance_fields.NAME.fullmatch(name)]
    if bad:
        module.fail_json(msg=f"{bad[0]!r} is no name of an instance; write names of vllm_models.")
    states = States(module)
    more: dict[str, Any] = {}
    try:
        if module.params["state"] == "restored":
            more["layouts"] = states.restored()
        elif module.params["state"] != "described":
            getattr(states, module.params["state"])()
        instances = states.described()
    except GpufleetError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be written: {error.strerror}; make room or correct its folder.")
    for file in [file for name in states.names for file in instance_files.damaged(name)]:
        module.warn(
            f"{file} is damaged and counts as missing. The next state that is kept puts it aside as "
            f"{file.with_suffix('.damaged').name}; remove it, or put it back from a backup."
        )
    module.exit_json(changed=bool(states.changed), instances=instances, diff=states.diff(), **more)


if __name__ == "__main__":
    main()
