#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Deploy to a systemd node of this machine's own root with the real playbooks: `make gpu-node-lab`.

Plan, check, deploy, unchanged, load, a killed engine core, another setting and back, two instances on one GPU, the
doctor, teardown. Wheels come from a folder, the model has random weights of Llama-3.1-8B's shape; no network is needed.
Each step has a limit of its own, and what goes wrong in one does not end the others. Results: lab.json, lab.md, the
outputs and receipts, in the folder of --out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if sys.version_info < (3, 11):
    sys.exit(f"gpu_node_lab.py: needs Python 3.11 or newer; this is {sys.version.split()[0]}.")

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / ".collections")]

from tools.lab import node_load, node_steps, wheels  # noqa: E402
from tools.lab.machine import LabError  # noqa: E402
from tools.nodes import host  # noqa: E402
from tools.nodes.errors import NodeError  # noqa: E402
from tools.nodes.machine import Bind  # noqa: E402
from tools.nodes.own_root import OwnRoot  # noqa: E402

# In the node: the folder shared with this machine, and what lies in it.
SHARED = "/srv/gpu-lab"
WHEELS = "/srv/gpu-lab-wheels"
ALL = (
    *("wheels", "node", "ansible", "model", "plan", "check", "deploy", "unchanged", "status", "doctor", "load", "kill"),
    *("setting", "back", "two", "doctor-two", "compiler", "without", "teardown", "down"),
)
LEFT_OUT = shutil.ignore_patterns(".git", ".nodes", ".venv", ".lab", "build", "*_cache", ".hypothesis", "__pycache__")
_KILL_S = 300
_TAIL = 4000


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/gpu-node-lab"), help="folder of the results")
    parser.add_argument("--folder", type=Path, default=CHECKOUT / ".nodes", help="where the node and its files are")
    parser.add_argument("--wheels", type=Path, required=True, help="folder of wheels: the engine's, uv, ansible-core")
    parser.add_argument("--own", default="", help="packages of --python that are packed into it again, by comma")
    parser.add_argument("--python", default=sys.executable, help="Python with torch, which makes the model")
    parser.add_argument("--engine-python", default="/usr/bin/python3", help="the node's Python that the wheels are for")
    parser.add_argument("--packages", type=Path, help="Debian's packages, where this machine has no systemd")
    parser.add_argument("--steps", default=",".join(ALL), help="which of the steps (default: all)")
    parser.add_argument("--layers", type=int, default=32, help="of the model (default: %(default)s)")
    parser.add_argument("--step-seconds", type=float, default=400, help="limit for one step")
    parser.add_argument("--points", default="1x128x256,32x1024x256,256x1024x256", help="REQUESTSxPROMPTxANSWER,...")
    parser.add_argument("--variables", type=json.loads, default={}, help="more variables of the inventory, as JSON")
    parser.add_argument("--without-gpu", action="store_true", help="for trying it where there is no GPU")
    return parser.parse_args()


class NodeLab:
    """The steps, and what they found."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.shared = options.folder.resolve() / "gpu-lab"
        self.shared.mkdir(parents=True, exist_ok=True)
        self.out = options.out.resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        binds = [Bind(str(self.shared), SHARED), Bind(str(options.wheels.resolve()), WHEELS, True)]
        self.node = OwnRoot(
            name=node_steps.HOST,
            folder=options.folder.resolve() / "gpu",
            packages=options.packages.resolve() if options.packages else None,
            binds=tuple(binds),
            without_gpu=options.without_gpu,
        )
        self.model = f"{SHARED}/models/{node_steps.NAME}"
        self.playbooks = node_steps.steps(self.model)
        self.url = f"http://127.0.0.1:{node_steps.PORT}"
        state = self.shared / "lab.json"
        self.found: dict[str, Any] = json.loads(state.read_text()) if state.exists() else {"steps": [], "receipts": {}}

    def run(self) -> int:
        """Do the steps that are asked for; returns how many went wrong."""
        wanted = self.options.steps.split(",")
        unknown = [name for name in wanted if name not in ALL]
        if unknown:
            raise LabError(f"--steps: there is no {', '.join(unknown)}; write some of {', '.join(ALL)}.")
        wrong = 0
        for name in wanted:
            print(f"== {name}", flush=True)
            begin = time.monotonic()
            try:
                result = self._playbook(self.playbooks[name]) if name in self.playbooks else self._own(name)()
            except (NodeError, LabError, OSError, ValueError) as error:
                result = {"result": f"{type(error).__name__}: {error}"}
            self._keep({"step": name, "seconds": round(time.monotonic() - begin, 1), **result})
            wrong += result["result"] != "ok"
        return wrong

    def _own(self, name: str) -> Callable[[], dict[str, Any]]:
        own = {
            "wheels": self.wheels,
            "node": self.boot,
            "ansible": self.ansible,
            "model": self.make_model,
            "load": self.load,
            "kill": self.kill,
            "down": self.down,
        }
        return own[name]

    def wheels(self) -> dict[str, Any]:
        """Pack what only this machine has, and write the list."""
        folder, own = self.options.wheels, self.options.own.split(",") if self.options.own else []
        site = wheels.site_packages(self.options.python) if own else Path()
        for name in own:
            wheels.repack(site, name, folder)
        listed = wheels.write_list(folder)
        return {"result": "ok", "remark": f"{len(listed.read_text().splitlines())} packages"}

    def boot(self) -> dict[str, Any]:
        """Boot the node, with a copy of this checkout in it."""
        target = self.shared / "project"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(CHECKOUT, target, symlinks=True, ignore=LEFT_OUT)
        self.node.up()
        return {"result": "ok"}

    def ansible(self) -> dict[str, Any]:
        """Make the Python environment of the playbooks in the node, of the same wheels."""
        wheels.installer(self.options.wheels, self.shared / "uv")
        words = [
            [self.options.engine_python, "-m", "venv", "--without-pip", f"{SHARED}/ansible"],
            [
                *(f"{SHARED}/uv", "pip", "install", "--quiet", "--offline", "--no-index", f"--find-links={WHEELS}"),
                *("--python", f"{SHARED}/ansible/bin/python", "ansible-core", "huggingface_hub", "httpx2"),
            ],
        ]
        for command in words:
            status, output = self._inside("ansible", command)
            if status:
                return {"result": f"exit status {status}", "remark": output[-200:]}
        return {"result": "ok"}

    def make_model(self) -> dict[str, Any]:
        """Write the model, with the Python that has torch, outside of the node."""
        folder = self.shared / "models" / node_steps.NAME
        program = str(CHECKOUT / "tools/lab/big_model.py")
        words = [self.options.python, program, str(folder), "--layers", str(self.options.layers)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=self.options.step_seconds, check=False)
        said = (done.stdout + done.stderr).strip()
        return {"result": "ok" if done.returncode == 0 else f"exit status {done.returncode}", "remark": said[-300:]}

    def load(self) -> dict[str, Any]:
        """Tokens per second at the points."""
        measured = []
        for number, point in enumerate(node_load.points(self.options.points)):
            measured.append(node_load.measure(self.url, node_steps.NAME, point, number))
            print(f"  {measured[-1]}", flush=True)
        failed = sum(one["failed"] for one in measured)
        return {"result": "ok" if not failed else f"{failed} requests failed", "loads": measured}

    def kill(self) -> dict[str, Any]:
        """Kill the engine core, and wait until the unit serves again."""
        before = self._restarts()
        status, output = self._inside("kill", ["sh", "-c", "pgrep -f '^VLLM::EngineCore' | head -n 1"])
        if status or not output.strip():
            return {"result": "no process VLLM::EngineCore was found"}
        begin = time.monotonic()
        self._inside("kill", ["kill", "-KILL", output.split()[0]])
        while time.monotonic() - begin < _KILL_S:
            if self._restarts() > before and node_load.healthy(self.url):
                seconds = time.monotonic() - begin
                node_load.complete(self.url, node_steps.NAME, [300, 301, 302], 8)
                restarts = self._restarts() - before
                remark = f"serving after {seconds:.0f} s, {restarts} restart(s)"
                return {"result": "ok", "serving_seconds": round(seconds, 1), "restarts": restarts, "remark": remark}
            time.sleep(0.5)
        return {"result": f"not serving after {_KILL_S} s"}

    def down(self) -> dict[str, Any]:
        """Remove the node; wheels and model stay."""
        self.node.down()
        return {"result": "ok"}

    def _restarts(self) -> int:
        _status, output = self._inside(
            "", ["systemctl", "show", f"vllm@{node_steps.NAME}", "-p", "NRestarts", "--value"]
        )
        return int(output.strip() or 0)

    def _inside(self, log: str, words: Sequence[str]) -> tuple[int, str]:
        """Run a command in the node; its output is kept in a file named like the step."""
        environment = {
            "PATH": f"{SHARED}/ansible/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "ANSIBLE_FORCE_COLOR": "0",
            "ANSIBLE_CONFIG": f"{SHARED}/project/ansible.cfg",
        }
        folder = f"{SHARED}/project" if (self.shared / "project").is_dir() else "/"
        command = self.node.command(words, environment, folder, self.options.step_seconds)
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        status, output = done.returncode, done.stdout.decode(errors="replace")
        if log:
            with (self.out / f"{log}.txt").open("a", encoding="utf-8") as file:
                file.write(output)
        return status, output

    def _playbook(self, step: node_steps.Step) -> dict[str, Any]:
        variables = {
            "engine_variant": "cuda",
            "engine_offline": True,
            "engine_find_links": [WHEELS],
            "engine_requirements": f"{WHEELS}/{wheels.LIST}",
            "engine_python": self.options.engine_python,
            **self.options.variables,
            **step.variables,
        }
        folder = self.shared / "inventories"
        folder.mkdir(exist_ok=True)
        path = folder / f"{step.name}.json"
        path.write_text(node_steps.dumped(node_steps.inventory(step.models, variables)))
        words = ["ansible-playbook", f"playbooks/{step.playbook}.yml", "-i", f"{SHARED}/inventories/{path.name}"]
        hidden = self._hide(step.hidden)
        try:
            status, output = self._inside(step.name, [*words, *step.options])
        finally:
            for folder in hidden:
                self._inside("", ["umount", folder])
        recapped = node_steps.recap(output)
        result = node_steps.judged(step, status, recapped)
        if status:
            print(output[-_TAIL:], flush=True)
        if step.receipts:
            self._receipts(step)
        return {"result": result, "recap": recapped, "remark": node_steps.message(output)}

    def _hide(self, patterns: Sequence[str]) -> list[str]:
        """Mount an empty folder over those of the node that fit; returns them."""
        if not patterns:
            return []
        _status, output = self._inside("", ["sh", "-c", f"mkdir -p /run/empty; realpath -e {' '.join(patterns)}"])
        folders = sorted({line for line in output.splitlines() if line.startswith("/")})
        for folder in folders:
            status, said = self._inside("", ["mount", "--bind", "/run/empty", folder])
            if status:
                raise LabError(f"{folder} could not be hidden: {said.strip()}")
        return folders

    def _receipts(self, step: node_steps.Step) -> None:
        for one in step.models:
            status, output = self._inside("", ["cat", f"/var/lib/vllm/receipts/{one['name']}.json"])
            label = f"{step.name}/{one['name']}"
            self.found["receipts"].pop(label, None)
            if status == 0:
                self.found["receipts"][label] = json.loads(output)
            _status, journal = self._inside(
                "", ["journalctl", "-u", f"vllm@{one['name']}", "--no-pager", "-o", "short-iso"]
            )
            (self.out / f"journal-{one['name']}.txt").write_text(journal, encoding="utf-8")

    def _keep(self, result: dict[str, Any]) -> None:
        """Write down a step's result at once."""
        print(f"   {result['result']} in {result['seconds']} s {result.get('remark') or ''}", flush=True)
        self.found["steps"].append(result)
        text = node_steps.dumped(self.found)
        (self.shared / "lab.json").write_text(text)
        (self.out / "lab.json").write_text(text)
        (self.out / "lab.md").write_text(node_steps.page(self.found["steps"], self.found["receipts"]))


def main() -> int:
    """Do it; 0 when every step was right."""
    options = arguments()
    host.extend_path()
    # Ended early, a step still gives the node back what it hid.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    try:
        host.require_root("tools/gpu_node_lab.py")
        wrong = NodeLab(options).run()
    except (NodeError, LabError, OSError) as error:
        print(f"gpu_node_lab.py: {error}", file=sys.stderr)
        return 1
    print((options.out / "lab.md").read_text())
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
