"""What the scenarios that deploy share: a playbook, run as a user runs it, and questions to a node."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[1]
FLEET = ROOT / ".nodes" / "molecule"
SECONDS_TO_LOAD = 180


@dataclass(frozen=True)
class Run:
    """One run of a playbook; ``text`` is its output with the white space folded."""

    code: int
    output: str

    @property
    def text(self) -> str:
        return " ".join(self.output.split())

    def count(self, what: str) -> int:
        """Return a number of the recap, such as changed or failed."""
        found = re.search(rf"\b{what}=(\d+)", self.output)
        assert found, f"no recap in:\n{self.output}"
        return int(found[1])


def user_environment() -> dict[str, str]:
    """Return an environment as a user has it: without the settings that Molecule leaves in this one."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "MOLECULE_"))}


def run_playbook(
    *arguments: str,
    extra: Mapping[str, Any] | None = None,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    seconds: float = 900,
) -> Run:
    """Run a playbook against the nodes of the scenario; later variables win: ``arguments``, then ``extra``."""
    inventory = str(FLEET / "hosts.yml")
    command = ["ansible-playbook", "-i", inventory, *arguments, "-e", json.dumps(extra or {})]
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**user_environment(), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return Run(done.returncode, done.stdout + done.stderr)


def kill_play(play: subprocess.Popen[Any]) -> None:
    """Kill a running playbook and its workers.

    Ansible's workers are sessions of their own: one that is left goes on, and starts again what ends.
    """
    workers = Path(f"/proc/{play.pid}/task/{play.pid}/children").read_text().split()
    for pid in (play.pid, *map(int, workers)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    play.wait(30)


def unit(host: Host, name: str, *properties: str) -> list[str]:
    """Return properties of an instance's unit, in the order asked."""
    answer: str = host.check_output("systemctl show vllm@%s --property %s", name, ",".join(properties))
    found = dict(line.split("=", 1) for line in answer.splitlines())
    return [found[key] for key in properties]


def processes(host: Host, name: str) -> dict[int, str]:
    """Return the processes of an instance by pid, with their titles."""
    pids = host.check_output("systemd-cgls --no-pager --full --unit vllm@%s.service", name)
    found = re.findall(r"[├└]─\s*(\d+) (.+)", pids)
    return {int(pid): title for pid, title in found}


def ask(host: Host, name: str, port: int) -> dict[str, Any]:
    """Send a chat request from the node itself, where the server listens on loopback."""
    script = (
        "import json,urllib.request as u;"
        "m=[{'role':'user','content':'Hello'}];"
        f"b=json.dumps({{'model':'{name}','max_tokens':4,'temperature':0,'messages':m}}).encode();"
        f"r=u.Request('http://127.0.0.1:{port}/v1/chat/completions',b,{{'Content-Type':'application/json'}});"
        "print(u.urlopen(r,timeout=60).read().decode())"
    )
    answer: dict[str, Any] = json.loads(host.check_output("python3 -c %s", script))
    return answer


def wait_for_answer(host: Host, name: str, port: int) -> dict[str, Any]:
    """Ask until the instance answers."""
    deadline = time.monotonic() + SECONDS_TO_LOAD
    while True:
        try:
            return ask(host, name, port)
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def remove_instances(host: Host, names: Sequence[str]) -> None:
    """Take away what a test deployed beside the instances of the scenario."""
    for name in names:
        host.run("systemctl disable --now vllm@%s.service", name)
        host.run("systemctl reset-failed vllm@%s.service", name)
        host.run("rm -rf /etc/vllm/%s.yaml /etc/vllm/%s.env /var/cache/vllm/%s", name, name, name)
        host.run("rm -rf /etc/systemd/system/vllm@%s.service.d", name)
        host.run("rm -f /var/lib/vllm/receipts/%s.json", name)


def remove_drop_in(host: Host, name: str) -> None:
    """Take away what an administrator added to the unit of an instance, and restart it without."""
    folder = f"/etc/systemd/system/vllm@{name}.service.d"
    host.check_output(f"grep -L '^# Written by Ansible (gpufleet.vllm.' {folder}/*.conf | xargs rm")
    host.check_output("systemctl daemon-reload && systemctl restart vllm@%s", name)
