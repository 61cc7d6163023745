#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Try the collection on a machine with GPUs, in one call: `make gpu-lab`.

Its facts and a recording, the all-reduce of nccl_check with P2P on and off, and, where there is a vLLM, real engines
with random weights: predicted against actual. Needs a Python with torch, no network and no Ansible. Without a GPU the
same runs over gloo and the CPU build of vLLM. Each part is tried, whatever became of the one before.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if sys.version_info < (3, 11):
    sys.exit(f"gpu_lab.py: needs Python 3.11 or newer; this is {sys.version.split()[0]}.")

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / ".collections")]

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError  # noqa: E402

from tools.lab import engines, links, machine, node_load  # noqa: E402

# Small enough to start in a minute; the second number is how many GPUs.
ENGINES = (
    "meta-llama/Llama-3.1-8B-Instruct:1",
    "Qwen/Qwen3-30B-A3B:1",
    "meta-llama/Llama-3.1-8B-Instruct:2",
    "meta-llama/Llama-3.3-70B-Instruct:2",
)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/gpu-lab"), help="folder for lab.json and the logs")
    parser.add_argument("--parts", default="machine,links,engines", help="which of machine,links,engines")
    parser.add_argument("--python", default=sys.executable, help="Python with torch, and vLLM if there is one")
    parser.add_argument("--wheels", type=Path, help="folder of wheels that are unpacked for this run, without network")
    parser.add_argument("--configs", type=Path, help="folder of OWNER--MODEL_config.json")
    parser.add_argument("--engines", nargs="*", default=list(ENGINES), help="MODEL:GPUS[,field=value], fields as JSON")
    parser.add_argument("--engine-seconds", type=float, default=240, help="limit for one engine")
    parser.add_argument("--seconds", type=float, default=1500, help="limit for all of it")
    parser.add_argument("--check-seconds", type=int, default=90, help="limit for one all-reduce")
    parser.add_argument("--ranks", type=int, default=2, help="ranks of the all-reduce where there is no GPU")
    parser.add_argument("--points", default="1x128x64,32x128x64", help="REQUESTSxPROMPTxANSWER,... in tokens")
    return parser.parse_args()


def unpack(wheels: Path, python: str) -> str:
    """Install wheels into a folder of their own, and return it."""
    target = tempfile.mkdtemp(prefix="gpu-lab-")
    command = [python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--upgrade"]
    subprocess.run([*command, "--target", target, *map(str, sorted(wheels.glob("*.whl")))], check=True)
    return target


def show(lines: Sequence[str]) -> None:
    """Print, at once."""
    if lines:
        print("\n".join(lines), flush=True)


class Run:
    """The parts, and what they found."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.begin = time.monotonic()
        self.work = Path(tempfile.mkdtemp(prefix="gpu-lab-engines-"))
        self.found: dict[str, Any] = {"problems": [], "links": [], "engines": [], "records": []}

    def part(self, name: str, action: Callable[[], None]) -> None:
        """Do a part; what goes wrong in it is kept and told."""
        if name not in self.options.parts.split(","):
            return
        show([f"== {name} ({time.monotonic() - self.begin:.0f} s)"])
        try:
            action()
        except Exception as error:
            self.found["problems"].append(f"{name}: {type(error).__name__}: {error}")
            show([traceback.format_exc()])
        self.write()

    def machine(self) -> None:
        """Facts and recording."""
        seen = machine.observe()
        (self.options.out / "recording.json").write_text(json.dumps(seen.pop("recording"), indent=1, sort_keys=True))
        self.found["machine"] = seen
        facts = seen["gpu_facts"]
        show([f"{facts['message']} (through {seen['through']}; {seen['problem'] or 'no problem'})"])
        show([f"  driver {facts['driver_version']}, CUDA {facts['cuda_version']}, links {facts['interconnect']}"])
        show([f"  link matrix {facts['link_matrix']}, P2P {facts['p2p']}, NVSwitch {facts['nvswitch']}"])
        show([f"  {one['check']}: {one['state']}: {one['message']}" for one in facts["readiness"]])
        show([f"  warning: {one}" for one in facts["warnings"]])
        show([f"  the recording differs: {one}" for one in seen["differences"]])

    @property
    def facts(self) -> dict[str, Any]:
        """The facts, which every part needs."""
        if "machine" not in self.found:
            self.found["machine"] = {key: value for key, value in machine.observe().items() if key != "recording"}
        found: dict[str, Any] = self.found["machine"]["gpu_facts"]
        return found

    @property
    def devices(self) -> list[int]:
        """The GPUs."""
        return [device["index"] for device in self.facts["devices"]]

    def links(self) -> None:
        """The all-reduce."""
        if len(self.devices) == 1:
            show(["one GPU has no links"])
            return
        self.found["without_p2p_gb_s"] = links.without_p2p(self.facts)
        cases = links.CASES if self.devices else links.CASES[:1]
        options = self.options
        for case in cases:
            (result,) = links.check(
                self.facts,
                self.devices,
                ranks=options.ranks,
                python=options.python,
                seconds=options.check_seconds,
                cases=(case,),
            )
            self.found["links"].append(result)
            show(links.table(result))
        show([f"without P2P the tables say {self.found['without_p2p_gb_s']} GB/s"])

    def engines(self) -> None:
        """Predicted against actual."""
        options = self.options
        if options.configs is None:
            show(["no --configs: no engines"])
            return
        lab = engines.Lab(
            gpu_facts=self.facts,
            devices=self.devices,
            python=options.python,
            version=engines.version_of(options.python),
            work=self.work,
            seconds=options.engine_seconds,
            deadline=self.begin + options.seconds,
            points=node_load.points(options.points),
            show=show,
        )
        self.found["vllm"] = lab.version
        for result in lab.all(engines.wanted(options.configs, options.engines)):
            self.found["engines"].append(result)
            record = engines.record(result, self.facts) if "reported" in result else None
            self.found["records"] += [record] if record else []
            self.write()

    def write(self) -> None:
        """Write what there is, and the engines' logs."""
        self.found["seconds"] = round(time.monotonic() - self.begin, 1)
        (self.options.out / "lab.json").write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")
        with tarfile.open(self.options.out / "logs.tar.gz", "w:gz") as archive:
            for log in sorted(self.work.glob("*/log")):
                archive.add(log, f"{log.parent.name}.log")

    def summary(self) -> list[str]:
        """The end of the output: a line for each result."""
        lines = [f"== {self.found['seconds']:.0f} s"]
        for one in self.found["links"]:
            measured = one["measured"] or {}
            named = ", ".join(found["id"] for found in one["findings"]) or "no finding"
            lines.append(f"links, {one['case']}: {one['state']}: {measured.get('bus_gb_s')} GB/s: {named}")
        for one in self.found["engines"]:
            ratios = ", ".join(f"{row['quantity']} {row['ratio'] - 1:+.2%}" for row in one.get("comparison") or ())
            lines.append(f"{one['name']}: {one['outcome']}: {ratios or one.get('reason', 'nothing to compare')}")
        return lines + self.found["problems"]


def main() -> int:
    """Do all of it; 0 when every part came to its end and every engine started."""
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.wheels:
        try:
            folder = unpack(options.wheels, options.python)
        except subprocess.CalledProcessError as error:
            print(f"gpu_lab.py: the wheels could not be installed (exit status {error.returncode})", file=sys.stderr)
            return 1
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))
    run = Run(options)
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))
    try:
        run.part("machine", run.machine)
        run.part("links", run.links)
        run.part("engines", run.engines)
    finally:
        engines.stop()
    show(run.summary())
    bad = [one["name"] for one in run.found["engines"] if one["outcome"] not in ("ok", "refused", "not run")]
    return 1 if run.found["problems"] or bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(f"gpu_lab.py: {error}")
