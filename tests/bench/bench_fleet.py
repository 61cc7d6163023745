"""Prints what an unchanged deploy.yml costs, over real SSH, on nodes that serve with vLLM.

Run: python tests/bench/bench_fleet.py --nodes 1 4 8. As root: nodes are made with tools/node.py (fleet `bench`), and
kept with --keep. Each node takes some 1.5 GiB of memory and 4 GiB of disk. The wall time is given as a multiple of
`ansible -m ping` of the same nodes in the same run, which makes machines comparable; both are medians.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FLEET = ROOT / ".nodes" / "bench"
FORKS = 8
# Engines load side by side while the fleet is deployed.
DEPLOY_FORKS = 2
MIB_PER_NODE = 1536
# What the issue of the fleet asks for.
MOST_PINGS_OF_ONE = 8.0
MOST_TIMES_ONE = {8: 3.0}
SLOWEST_SHOWN = 8
MODELS = [
    {
        "name": "bench",
        "model_source": str(FLEET / "model"),
        "max_model_len": 256,
        "kv_cache_memory_gib": 0.25,
        "enforce_eager": True,
    }
]


def environment(**more: str) -> dict[str, str]:
    """This environment, with the collection of this checkout."""
    return {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"), **more}


def run(command: Sequence[str], **more: str) -> tuple[float, str]:
    """Run a command; returns the seconds it took and its output. Ends the program when it fails."""
    begin = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environment(**more), capture_output=True, text=True, check=False)
    seconds = time.monotonic() - begin
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return seconds, done.stdout


def deploy(names: Sequence[str], forks: int, *more: str, **variables: str) -> tuple[float, str]:
    """Run deploy.yml on some nodes."""
    command = ["ansible-playbook", "playbooks/deploy.yml", f"--inventory={FLEET / 'hosts.yml'}"]
    command += [f"--limit={','.join(names)}", f"--forks={forks}", "--extra-vars", json.dumps({"vllm_models": MODELS})]
    return run([*command, *more], **variables)


def ping(names: Sequence[str]) -> float:
    """Seconds that a ping of some nodes takes."""
    command = ["ansible", ",".join(names), f"--inventory={FLEET / 'hosts.yml'}", f"--forks={FORKS}", "-m", "ping"]
    return run(command)[0]


def unchanged(output: str, names: Sequence[str]) -> int:
    """Check that a deploy has changed nothing; returns the tasks that each host took part in."""
    recaps = re.findall(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+).*failed=(\d+)", output, re.MULTILINE)
    if {name for name, *_ in recaps} != set(names) or any(changed != "0" for _name, _ok, changed, _failed in recaps):
        sys.exit(f"That was no unchanged deploy:\n{output[-3000:]}")
    return max(int(ok) for _name, ok, *_ in recaps)


def measure(names: Sequence[str], rounds: int, one: float | None) -> tuple[float, bool]:
    """Measure some nodes and print it; returns the seconds of a deploy, and whether it costs too much."""
    pings, deploys, tasks = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "times"
        spent: dict[str, list[float]] = collections.defaultdict(list)
        for _round in range(rounds):
            pings.append(ping(names))
            seconds, output = deploy(
                names,
                FORKS,
                ANSIBLE_CALLBACK_PLUGINS=str(ROOT / "tests/bench/callbacks"),
                ANSIBLE_CALLBACKS_ENABLED="task_times",
                TASK_TIMES=str(written),
            )
            tasks = unchanged(output, names)
            deploys.append(seconds)
            for task, took in durations(json.loads(written.read_text(encoding="utf-8")), seconds).items():
                spent[task].append(took)
    remote = deploy(names, FORKS, "-vvv")[1].count("SSH: EXEC") / len(names)
    wall, unit = statistics.median(deploys), statistics.median(pings)
    limit = MOST_PINGS_OF_ONE if len(names) == 1 else None
    times = wall / one if one else 1.0
    print(
        f"{len(names)} node(s): deploy {wall:.1f} s = {wall / unit:.1f} pings of {unit:.2f} s"
        f"{f' (at most {limit:g})' if limit else ''}; {times:.1f} times one node"
        f"{f' (at most {MOST_TIMES_ONE[len(names)]:g})' if len(names) in MOST_TIMES_ONE else ''};"
        f" {tasks} tasks and {remote:.1f} commands over SSH per host"
    )
    shares = sorted(((statistics.median(took), task) for task, took in spent.items()), reverse=True)
    for took, task in shares[:SLOWEST_SHOWN]:
        print(f"  {took:6.2f} s  {task}")
    print(f"  {sum(took for took, _task in shares[SLOWEST_SHOWN:]):6.2f} s  all others")
    too_much = (limit is not None and wall / unit > limit) or times > MOST_TIMES_ONE.get(len(names), times)
    return wall, too_much


def durations(times: dict[str, Any], whole: float) -> dict[str, float]:
    """Seconds of each task, with what Ansible takes before the first and after the last."""
    rows = times["rows"]
    ends = [row["at"] for row in rows[1:]] + [times["end"]]
    found: dict[str, float] = collections.defaultdict(float)
    for row, end in zip(rows, ends, strict=True):
        found[f"{row['task']} ({row['action']})"] += end - row["at"]
    found["start and end of ansible-playbook"] = whole - (times["end"] - rows[0]["at"])
    return dict(found)


def free_mib() -> int:
    """MiB of memory that are free on this machine."""
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("MemAvailable"))) // 1024


def main() -> int:
    """Make the fleet, deploy, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 4, 8], help="how many (default: 1 4 8)")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions, of which the median counts")
    parser.add_argument("--keep", action="store_true", help="keep the nodes")
    options = parser.parse_args()
    names = [f"n{number}" for number in range(1, max(options.nodes) + 1)]
    node = [sys.executable, "tools/node.py"]
    if free_mib() < MIB_PER_NODE * len(names):
        sys.exit(f"{len(names)} nodes take {MIB_PER_NODE * len(names)} MiB of memory, and {free_mib()} are free.")
    run([*node, "up", "--fleet=bench", "--gib-per-node=5", "--install-packages", *names])
    run([sys.executable, "tools/tiny_model.py", str(FLEET / "model")])
    deploy(names, DEPLOY_FORKS)
    print(f"{os.cpu_count()} cores, forks={FORKS}, median of {options.rounds}", flush=True)
    one, bad = None, []
    for count in sorted(options.nodes):
        wall, too_much = measure(names[:count], options.rounds, one)
        one = wall if count == 1 else one
        bad.append(too_much)
    if not options.keep:
        run([*node, "down", "--fleet=bench", "--all"])
    return int(any(bad))


if __name__ == "__main__":
    sys.exit(main())
