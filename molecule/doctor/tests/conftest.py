"""What the tests of this scenario share: the doctor's report, and how engines are broken."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testinfra.host import Host

from tests.deployments import FLEET, Run, run_playbook

MODEL = "/var/lib/vllm/models/chat"
# What every broken engine begins with: as the role serve writes it, small.
SETTINGS: dict[str, Any] = {
    "model": MODEL,
    "host": "127.0.0.1",
    "port": 8100,
    "max-model-len": 256,
    "max-num-seqs": 4,
    "enforce-eager": True,
    "kv-cache-memory-bytes": 64 * 1024 * 1024,
}


def doctor(*arguments: str, **extra: Any) -> tuple[Run, dict[str, Any]]:
    """Run the doctor; returns the run and its report."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "doctor.json"
        run = run_playbook("playbooks/doctor.yml", *arguments, extra={"doctor_report": str(path), **extra})
        assert path.exists(), run.output
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return run, found


def verdicts(found: Mapping[str, Any], instance: str | None, host: str = "node1") -> list[dict[str, Any]]:
    """The verdicts of an instance, or those of the host."""
    return [one for one in found["hosts"][host]["verdicts"] if one["instance"] == instance]


def write(host: Host, path: str, text: str) -> None:
    """Write a file of the node."""
    host.check_output("mkdir -p %s", str(Path(path).parent))
    host.check_output("printf %%s %s > %s", text, path)


def make_instance(
    host: Host, name: str, settings: Mapping[str, Any], environment: Mapping[str, str], drop_in: str
) -> None:
    """Write an instance by hand, as quickly as that goes; nothing is started."""
    merged = {**SETTINGS, "served-model-name": name, **settings}
    text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in merged.items() if value is not None)
    env = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "GPUFLEET_DIGEST": "by-hand", **environment}
    write(host, f"/etc/vllm/{name}.yaml", text)
    write(host, f"/etc/vllm/{name}.env", "".join(f'{key}="{value}"\n' for key, value in env.items()))
    # one death is enough to look at
    write(host, f"/etc/systemd/system/vllm@{name}.service.d/fault.conf", f"[Service]\nRestart=no\n{drop_in}")
    host.check_output("ln -sfn ../current /opt/vllm/instances/%s", name)


__all__ = ["FLEET", "MODEL", "doctor", "make_instance", "verdicts", "write"]
