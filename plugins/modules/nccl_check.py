#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module nccl_check; the action plugin of the same name waits and judges."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nccl_check
short_description: Runs an all-reduce over the ranks of an instance and measures its links
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Runs an all-reduce with the torch and NCCL of an engine release (gloo on CPU hosts), over exactly the GPUs and hosts
    of an instance, at several sizes. Checks every number of the sum, and measures latency and bus bandwidth.
  - The ranks run in a transient unit of systemd under a time limit, so that a hang is a finding. With
    O(state=started) each host starts its part, with O(state=finished) each waits for its own; an engine over several
    hosts needs both tasks, in this order, on all of its hosts.
  - When the bandwidth is low, the ranks are measured two by two. When it fails on the GPUs of one host, it is tried
    again with P2P off, then without shared memory, then on neighbours two by two; between hosts, without RDMA. Each of
    these has a time limit of its own, and what they show is in the finding.
  - NCCL's warnings are in the evidence. Hosts of one engine also compare their clocks, the release, and the model.
  - What was measured is kept in C(/var/lib/vllm/checks/<name>.json) on the host.
options:
  state:
    description:
      - V(observed) tells what is known already and changes nothing, V(started) starts the check, V(finished) waits for
        it, judges it and writes it down. V(read) and V(recorded) are what V(finished) is made of.
    type: str
    choices: [observed, started, finished, read, recorded]
    required: true
  keys:
    description: By instance, what its measurement has to hold for; only with O(state=observed).
    type: dict
    default: {}
  check:
    description: An entry of C(jobs) from P(gpufleet.vllm.collective_jobs#filter).
    type: dict
  python:
    description: Python of the engine release.
    type: path
  user:
    description: User that the ranks run as. Where there is none of that name yet, a temporary one.
    type: str
    default: vllm
  warn_below:
    description: Share of the expected bandwidth below which it warns.
    type: float
    default: 0.75
  fail_below:
    description: Share of the expected bandwidth below which it fails.
    type: float
    default: 0.4
  record:
    description: What is written down; only with O(state=recorded).
    type: dict
attributes:
  check_mode:
    description: Looks, and measures nothing.
    support: full
  diff_mode:
    description: Nothing that could be compared is changed.
    support: none
  idempotent:
    description: A check is run as often as it is asked for; the role asks only for what was not measured.
    support: none
  action:
    description: The part on the control node waits for O(state=finished), shows how far it is, and judges.
    support: full
"""

EXAMPLES = r"""
- name: Look what is known
  gpufleet.vllm.nccl_check:
    state: observed
    keys: "{{ layout_instances | gpufleet.vllm.collective_keys(gpu_facts=layout_gpu_facts) }}"
    python: /opt/vllm/current/bin/python
  register: seen

- name: Start the check on each host
  gpufleet.vllm.nccl_check:
    state: started
    check: "{{ check }}"
    python: /opt/vllm/current/bin/python

- name: Wait for it
  gpufleet.vllm.nccl_check:
    state: finished
    check: "{{ check }}"
    python: /opt/vllm/current/bin/python
"""

RETURN = r"""
release:
  description: Name of the release that O(python) belongs to.
  returned: with O(state=observed)
  type: str
  sample: 0.33.0-cuda
interfaces:
  description: By name, the IPv4 address and the speed in Mbit/s of each network interface, null where there is none.
  returned: with O(state=observed)
  type: dict
  sample: {"eth0": {"address": "10.0.0.5", "speed_mbit": 25000}}
due:
  description: By instance, why it has to be measured, or null.
  returned: with O(state=observed)
  type: dict
  sample: {"llama-70b": null}
active:
  description: By instance, whether its unit runs.
  returned: with O(state=observed)
  type: dict
  sample: {"llama-70b": true}
events:
  description: What the ranks of this host wrote, one line of JSON for each event.
  returned: with O(state=read)
  type: str
errors:
  description: The last lines that the ranks wrote to standard error.
  returned: with O(state=read)
  type: list
  elements: str
running:
  description: Whether the unit still runs.
  returned: with O(state=read)
  type: bool
result:
  description: How the unit ended, in systemd's word.
  returned: with O(state=read)
  type: str
  sample: success
measured:
  description:
    - Latency of the smallest size in microseconds, the best bus bandwidth in 10**9 bytes per second, the expected one
      and why, and both for each size. Null on hosts that the first rank is not on.
  returned: with O(state=finished)
  type: dict
  sample:
    {"latency_us": 21.4, "bus_gb_s": 365.2, "expected_gb_s": 360.0,
     "expected_reason": "NVIDIA H100 80GB HBM3 over NV18", "sizes": [], "pairs": [], "torch": "2.13.0",
     "nccl": "2.29.7"}
findings:
  description: What is wrong, with C(id), C(severity) (V(fail) or V(warn)), C(cause), C(evidence) and C(remedies).
  returned: with O(state=finished)
  type: list
  elements: dict
"""

import json
import pwd
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import claim, transient
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.files import write_atomically
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import interfaces, systemd
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import all_reduce_worker

RECORDS = Path("/var/lib/vllm/checks")
RUNNING = Path("/run/gpufleet-nccl")
ERROR_LINES = 400
# Beyond the check's own limit, so that it can say where it hung before systemd ends it.
GRACE_SECONDS = 10


def worker_text() -> str:
    """Return the program of the ranks, from the module's own package: there is no file of it on the host."""
    loader = all_reduce_worker.__loader__
    source = loader.get_source(all_reduce_worker.__name__) if loader else None  # type: ignore[attr-defined]
    if not source:
        raise GpufleetError("The program of the check is not part of the module; install the collection anew.")
    return str(source)


def release_of(python: str) -> str:
    """Name of the release that an interpreter belongs to, through the link that says which one is in use."""
    return Path(python).parent.parent.resolve().name


def unit_of(name: str) -> str:
    """Name of the transient unit."""
    return f"gpufleet-nccl-{name}.service"


def observed(module: AnsibleModule) -> dict[str, Any]:
    """What is known of the host and of earlier checks."""
    keys: dict[str, str] = module.params["keys"]
    release = release_of(module.params["python"])
    if not keys:
        return {"release": release, "interfaces": {}, "due": {}, "active": {}}
    units = systemd.show([f"vllm@{name}.service" for name in keys])
    return {
        "release": release,
        "interfaces": interfaces.interfaces(module.run_command(list(interfaces.COMMAND))[1]),
        "due": {name: _due(name, key, release) for name, key in keys.items()},
        "active": {
            name: units.get(f"vllm@{name}.service", {}).get("ActiveState") in ("active", "activating") for name in keys
        },
    }


def _due(name: str, key: str, release: str) -> str | None:
    try:
        record = json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return "it was not measured yet"
    if not isinstance(record, dict):
        return "its record is damaged"
    if (record.get("key"), record.get("release")) != (key, release):
        return "GPUs, driver, hosts or release have changed since it was measured"
    return "it failed the last time" if record.get("state") == "fail" else None


def started(module: AnsibleModule) -> dict[str, Any]:
    """Start the ranks of this host."""
    check = module.params["check"]
    job, place, name = check["job"], check["place"], check["name"]
    if not Path(module.params["python"]).exists():
        module.fail_json(
            msg=f"{name}: there is no {module.params['python']}; the engine release has to be installed before its "
            "links can be measured (role gpufleet.vllm.engine)."
        )
    folder = RUNNING / name
    module.run_command(["systemctl", "stop", unit_of(name)])
    module.run_command(["systemctl", "reset-failed", unit_of(name)])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    (folder / "worker.py").write_text(worker_text(), encoding="utf-8")
    for path in (RUNNING, folder):
        path.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)
    properties = {
        "Description": f"all-reduce of vLLM instance {name}",
        **_user(module.params["user"]),
        "RuntimeMaxSec": str(job["seconds"] + GRACE_SECONDS),
        "TimeoutStopSec": "5",
        "LimitMEMLOCK": "infinity",
        "PrivateTmp": "yes",
        "WorkingDirectory": "/tmp",  # noqa: S108 - its own, see PrivateTmp
        "Environment": "HOME=/tmp",
        "StandardOutput": f"file:{folder}/events",
        "StandardError": f"file:{folder}/errors",
    }
    command = [module.params["python"], f"{folder}/worker.py", f"{folder}/job.json", str(place)]
    code, _out, err = module.run_command(transient.systemd_run(unit_of(name), properties, command))
    if code:
        module.fail_json(msg=f"{name}: systemd did not start the check: {err.strip()}")
    return {"changed": False}


def _user(name: str) -> dict[str, str]:
    try:
        pwd.getpwnam(name)
    except KeyError:
        # before the role serve has made it
        return {"DynamicUser": "yes"}
    return {"User": name}


def read(module: AnsibleModule) -> dict[str, Any]:
    """What the ranks wrote so far, and whether they still run."""
    name = module.params["check"]["name"]
    folder = RUNNING / name
    properties = systemd.show([unit_of(name)]).get(unit_of(name), {})
    running = properties.get("ActiveState") in ("active", "activating", "deactivating")
    if not running and properties.get("ActiveState") == "failed":
        module.run_command(["systemctl", "reset-failed", unit_of(name)])
    # after the state, so that nothing is missing of what an ended unit wrote
    return {
        "events": _text(folder / "events"),
        "errors": _text(folder / "errors").splitlines()[-ERROR_LINES:],
        "running": running,
        "result": properties.get("Result") or "success",
    }


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def recorded(module: AnsibleModule) -> dict[str, Any]:
    """Write down what was measured."""
    name = module.params["check"]["name"]
    shutil.rmtree(RUNNING / name, ignore_errors=True)
    claim.claim([RECORDS], lambda argv: module.run_command(list(argv)))
    write_atomically(RECORDS / f"{name}.json", json.dumps(module.params["record"], indent=2, sort_keys=True) + "\n")
    return {"changed": True}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "required": True,
                "choices": ["observed", "started", "finished", "read", "recorded"],
            },
            "keys": {"type": "dict", "default": {}, "no_log": False},
            "check": {"type": "dict"},
            "python": {"type": "path"},
            "user": {"type": "str", "default": "vllm"},
            "warn_below": {"type": "float", "default": 0.75},
            "fail_below": {"type": "float", "default": 0.4},
            "record": {"type": "dict"},
        },
        required_if=[
            ("state", "observed", ("python",)),
            ("state", "started", ("check", "python")),
            ("state", "finished", ("check", "python")),
            ("state", "read", ("check",)),
            ("state", "recorded", ("check", "record")),
        ],
        supports_check_mode=True,
    )
    state = module.params["state"]
    if module.check_mode and state != "observed":
        module.exit_json(changed=False, skipped=True)
    try:
        steps = {"observed": observed, "started": started, "read": read, "recorded": recorded}
        module.exit_json(**{"changed": False, **steps[state](module)})
    except (GpufleetError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
