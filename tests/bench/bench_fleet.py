"""Prints what an unchanged deploy.yml costs, over real SSH, on nodes that serve with vLLM.

Run: python tests/bench/bench_fleet.py --nodes 1 4 8. As root: nodes are made with tools/node.py (fleet `bench`), and
kept with --keep. Each node takes some 1.5 GiB of memory and 4 GiB of disk. The wall time is given as a multiple of
`ansible -m ping` of the same nodes in the same run, which makes machines comparable, and beside a play that has as many
pings as a deploy has commands: what Ansible itself takes for them. All are medians.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FLEET = ROOT / ".nodes" / "bench"
FORKS = 8
# Engines load side by side while the fleet is deployed.
DEPLOY_FORKS = 2
MIB_PER_NODE = 1536
# What an unchanged deploy may cost, in pings of the same nodes. The nodes and their engines share the cores of this
# machine with Ansible, which more nodes feel more.
MOST_PINGS = {1: 8.0, 8: 10.0}
# And as a multiple of one node, what the issue of the fleet asks for: missed on 2 cores, see docs/operations.md.
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


def play_of_pings(names: Sequence[str], count: int) -> float:
    """Seconds that a play takes which does nothing but ping some nodes, a number of times."""
    with tempfile.TemporaryDirectory() as folder:
        play = {"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.ping": {}}] * count}
        path = Path(folder) / "pings.yml"
        path.write_text(json.dumps([play]), encoding="utf-8")
        command = ["ansible-playbook", str(path), f"--inventory={FLEET / 'hosts.yml'}"]
        return run([*command, f"--limit={','.join(names)}", f"--forks={FORKS}"])[0]


@dataclass(frozen=True)
class Cost:
    """What some nodes cost: medians, in seconds."""

    deploy: float
    ping: float
    play: float


def measure(names: Sequence[str], rounds: int, one: Cost | None) -> Cost:
    """Measure some nodes and print it; ``one`` is what one node cost."""
    pings, plays, deploys, tasks = [], [], [], 0
    commands = round(deploy(names, FORKS, "-vvv")[1].count("SSH: EXEC") / len(names))
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "times"
        spent: dict[str, list[float]] = collections.defaultdict(list)
        for _round in range(rounds):
            pings.append(ping(names))
            plays.append(play_of_pings(names, commands))
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
    found = Cost(*map(statistics.median, (deploys, pings, plays)))
    one = one or found
    times = MOST_TIMES_ONE.get(len(names))
    print(
        f"{len(names)} node(s): deploy {found.deploy:.1f} s = {found.deploy / found.ping:.1f} pings of "
        f"{found.ping:.2f} s{limit_of(names)}, {found.deploy / one.deploy:.1f} times one node"
        f"{f' (at most {times:g})' if times else ''}; {tasks} tasks and {commands} commands over SSH per host. "
        f"A play of {commands} pings: {found.play:.1f} s, {found.play / one.play:.1f} times one node."
    )
    shares = sorted(((statistics.median(took), task) for task, took in spent.items()), reverse=True)
    for took, task in shares[:SLOWEST_SHOWN]:
        print(f"  {took:6.2f} s  {task}")
    print(f"  {sum(took for took, _task in shares[SLOWEST_SHOWN:]):6.2f} s  all others", flush=True)
    return found


def limit_of(names: Sequence[str]) -> str:
    """Say what some nodes may cost, where there is a limit."""
    limit = MOST_PINGS.get(len(names))
    return f" (at most {limit:g})" if limit else ""


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
    # Nodes of a run before have what they need.
    new = [name for name in names if not (FLEET / "roots" / name).exists()]
    if free_mib() < MIB_PER_NODE * len(new):
        sys.exit(f"{len(new)} nodes take {MIB_PER_NODE * len(new)} MiB of memory, and {free_mib()} are free.")
    run([*node, "up", "--fleet=bench", "--gib-per-node=5", "--install-packages", *names])
    run([sys.executable, "tools/tiny_model.py", str(FLEET / "model")])
    deploy(names, DEPLOY_FORKS)
    print(f"{os.cpu_count()} cores, forks={FORKS}, median of {options.rounds}", flush=True)
    costs: dict[int, Cost] = {}
    for count in sorted(options.nodes):
        costs[count] = measure(names[:count], options.rounds, costs.get(1))
    if not options.keep:
        run([*node, "down", "--fleet=bench", "--all"])
    too_many_pings = any(cost.deploy / cost.ping > MOST_PINGS.get(count, math.inf) for count, cost in costs.items())
    too_many_times = 1 in costs and any(
        cost.deploy / costs[1].deploy > MOST_TIMES_ONE.get(count, math.inf) for count, cost in costs.items()
    )
    return int(too_many_pings or too_many_times)


if __name__ == "__main__":
    sys.exit(main())
