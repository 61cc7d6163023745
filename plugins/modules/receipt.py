#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module receipt."""

from __future__ import annotations

DOCUMENTATION = r"""
module: receipt
short_description: Writes down what was decided of a vLLM instance, and what it then did
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Writes C(/var/lib/vllm/receipts/<name>.json) on the host, readable by everybody and without secrets. The layout and
    its predictions, the engine's own figures from its journal and from C(/metrics), both compared, what the warm-up and
    other checks measured, and the versions.
  - On the other hosts of an engine over several, whose server is on the first, it says which rank runs here and from
    what.
  - What was measured holds for as long as the process runs that it was measured of. A run that finds the same process,
    the same layout and the same checks leaves the file as it is.
  - Warns when the KV cache or the weights are off their prediction by more than O(tolerance).
options:
  layout:
    description: The layout of the instance, an entry of what P(gpufleet.vllm.parallel_layout#filter) gives.
    type: dict
    required: true
  proof:
    description: What M(gpufleet.vllm.warmup) returned as C(proof). Left out where it was skipped, as in check mode.
    type: dict
  tolerance:
    description: Share by which a prediction may be off before it is warned of.
    type: float
    default: 0.1
attributes:
  check_mode:
    description: Says whether the receipt would be written, as far as that is known without a warm-up.
    support: full
  diff_mode:
    description: Shows the receipt before and after.
    support: full
  idempotent:
    description: A process that was warmed up has one receipt.
    support: full
"""

EXAMPLES = r"""
- name: Write the receipt
  gpufleet.vllm.receipt:
    layout: "{{ layout_instances[0] }}"
    proof: "{{ warmed.proof }}"
"""

RETURN = r"""
path:
  description: The file.
  returned: always
  type: str
  sample: /var/lib/vllm/receipts/llama-70b.json
receipt:
  description: Its content. Null where nothing is known yet, as in check mode before the first deployment.
  returned: always
  type: dict
kept:
  description: >-
    Whether the last good state of the instance (P(gpufleet.vllm.instance_state#module)) already has this receipt, so
    that there is nothing to keep.
  returned: always
  type: bool
"""

import json
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import claim
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.files import text_of, write_atomically
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import instance_fields
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import systemd
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import (
    client,
    engine_report,
    metrics,
    receipt,
    receipt_files,
)

# An engine prints some hundred lines until it is ready; its requests may print for months.
MOST_LINES = 20000
METRICS_SECONDS = 30
# Of release.json; where the release lies on the host is not part of what it is.
VERSIONS = ("vllm", "torch", "transformers", "python", "kernels")


def start_lines(invocation: str) -> list[str]:
    """Return what one start of a unit wrote until it was ready, with the seconds of the monotonic clock."""
    command = [
        "journalctl",
        f"_SYSTEMD_INVOCATION_ID={invocation}",
        "--output=short-monotonic",
        "--no-hostname",
        "--no-pager",
        "--all",
        "--quiet",
    ]
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as process:
        for line in process.stdout or ():
            lines.append(line.rstrip("\n"))
            if engine_report.READY in line or len(lines) >= MOST_LINES:
                break
        process.terminate()
    return lines


def engine_facts(pid: int) -> dict[str, Any] | None:
    """Return the release that a process or a child of it runs from, with its versions; None when it cannot be told."""
    folder = receipt.release_of_any(text_of(Path(f"/proc/{one}/maps")) or "" for one in systemd.family(pid))
    if folder is None:
        return None
    try:
        written = json.loads(text_of(Path(folder) / "release.json") or "{}")
    except (ValueError, RecursionError):
        written = {}
    return {"release": Path(folder).name, **{key: written.get(key) for key in VERSIONS}}


def measured(layout: dict[str, Any], process: dict[str, Any], warmup: dict[str, Any] | None) -> dict[str, Any]:
    """Ask the journal and the server what the engine said of itself."""
    lines, ready = engine_report.dated(start_lines(str(process["invocation"])))
    if layout.get("node_rank"):
        # the first host has the server, and its receipt the measurements
        return {
            "engine": engine_facts(int(process["pid"])),
            "process": process,
            "actual": engine_report.actual(lines, [], None),
            "warmup": None,
        }
    server = client.Server(client.probe_address(layout["host"]), int(layout["port"]), METRICS_SECONDS)
    try:
        status, text = server.request("/metrics")
    except client.NoAnswer:
        status, text = 0, ""
    samples = metrics.parse(text) if status == 200 and isinstance(text, str) else []
    load_seconds = round(ready - process["started"], 1) if ready is not None else None
    return {
        "engine": engine_facts(int(process["pid"])),
        "process": process,
        "actual": engine_report.actual(lines, samples, load_seconds),
        "warmup": warmup,
    }


def build(module: AnsibleModule, old: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the receipt as it should be; None when the process was not warmed up yet."""
    layout, proof = module.params["layout"], module.params["proof"]
    unit = layout["unit"]
    process = systemd.process_of(systemd.show([unit]).get(unit, {}))
    if receipt.is_of(old, process):
        assert old is not None
        found = receipt.measured_of(old)
    elif proof:
        if not process or not receipt.is_of(proof, process):
            raise GpufleetError(
                f"{unit} was restarted since it was warmed up, so there is nothing to write down; look into its "
                "journal, and run the play again."
            )
        found = measured(layout, process, proof["warmup"])
    else:
        return None
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return receipt.build(layout, found, receipt_files.checks(layout["name"]), module.params["tolerance"], now)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "layout": {"type": "dict", "required": True},
            "proof": {"type": "dict"},
            "tolerance": {"type": "float", "default": 0.1},
        },
        supports_check_mode=True,
    )
    name = str(module.params["layout"].get("name"))
    if not instance_fields.NAME.fullmatch(name):
        module.fail_json(msg=f"The layout has the name {name!r}; give an entry of the filter parallel_layout.")
    path = receipt_files.path(name)
    taken: list[str] = []
    try:
        if not module.check_mode:
            taken = claim.claim([path], lambda argv: module.run_command(list(argv)))
        before = text_of(path)
        old = receipt.read(before)
        new = build(module, old)
        if new is not None and receipt.same(old, new):
            new = old
        after = receipt.text(new) if new is not None else before
        changed = new is None or after != before
        if changed and not module.check_mode and after is not None:
            write_atomically(path, after)
        kept = new is not None and receipt_files.kept(name, receipt.read(after))
    except GpufleetError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{path} cannot be written: {error.strerror}; make room or correct its folder.")
    for sentence in receipt.warnings(new) if new is not None else ():
        module.warn(sentence)
    diff = {"before": before or "", "after": after or "", "before_header": str(path), "after_header": str(path)}
    told = {} if new else {"msg": f"{path} would be written when the instance was warmed up."}
    module.exit_json(
        changed=changed or bool(taken), path=str(path), receipt=new, kept=kept, diff=diff if changed else {}, **told
    )


if __name__ == "__main__":
    main()
