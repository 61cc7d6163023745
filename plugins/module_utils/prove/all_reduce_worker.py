# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The program that runs an all-reduce over the ranks of one instance and writes what happens, event by event.

The module nccl_check runs this file's text with the Python of an engine release, so it needs nothing but that
release's torch. ``job.json`` says what to do (see :func:`decide.collective_check.job`); each event is a line of JSON on
standard output with ``event``, ``rank``, ``host`` and ``at`` (seconds since this program began). A rank that hangs is
the rank whose events stop.
"""

from __future__ import annotations

import contextlib
import datetime
import faulthandler
import hashlib
import importlib.metadata
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FLOAT_BYTES = 4
# The pattern that ranks sum: small enough that float32 holds the sum of 1,000 ranks exactly.
PERIOD = 31
REPEATS = 3
# Seconds that one measurement of a size takes at least, so that a clock's tick does not count.
MEASURED_SECONDS = 0.05
MOST_ITERATIONS = 50
# Seconds for the other ranks to write their last words when one has ended.
SECONDS_TO_END = 5
PAIR_BYTES = 8 * 1024 * 1024
# Above this many pairs only neighbours in the ring are measured.
MOST_PAIRS = 28
NAME_SECONDS = 2
# Of NCCL's own log, what is passed on.
NCCL_WARNING = "NCCL WARN"
MOST_WARNINGS = 100


class Talk:
    """Writes events; one write each, so that the lines of several ranks do not mix."""

    def __init__(self, rank: int, host: str, begin: float) -> None:
        self.rank, self.host, self.begin = rank, host, begin

    def __call__(self, event: str, **more: Any) -> None:
        line = {"event": event, "rank": self.rank, "host": self.host, "at": round(time.time() - self.begin, 3), **more}
        os.write(1, (json.dumps(line) + "\n").encode())


def ranks_of(job: dict[str, Any]) -> list[tuple[int, int]]:
    """Return (place of the node, local rank) by global rank: the ranks of a node follow one another, as vLLM's do."""
    return [(place, local) for place, node in enumerate(job["nodes"]) for local in range(node["ranks"])]


# -- the links between hosts, before anything is waited for -------------------------------------------------------


def _answer(listener: socket.socket) -> None:
    while True:
        try:
            peer, _address = listener.accept()
        except OSError:
            return
        peer.close()


def _reached(source: str, address: str, port: int, deadline: float) -> str | None:
    """Connect from one address to another; returns None, or how it failed in the end."""
    while True:
        left = deadline - time.time()
        try:
            # bound, so that the packets leave by the interface that was named
            socket.create_connection((address, port), max(0.5, min(5, left)), (source, 0)).close()
            return None
        except OSError as error:
            said = error.strerror or str(error)
        if time.time() >= deadline:
            return said
        time.sleep(0.2)


def reach_nodes(job: dict[str, Any], place: int, talk: Talk) -> bool:
    """Let every node connect to every other one, on the port of the meeting and on one more; False when one cannot."""
    own = job["nodes"][place]
    threads, answers = [], {}
    listeners = []
    for port in (job["port"] + 1, *([job["port"]] if place == 0 else [])):
        # the first node's meeting port is free again when the meeting begins
        listener = socket.create_server((own["address"], port), backlog=64)
        listeners.append(listener)
        threading.Thread(target=_answer, args=(listener,), daemon=True).start()
    deadline = time.time() + job["meeting_seconds"]

    def ask(other: int, port: int) -> None:
        address = job["nodes"][other]["address"]
        answers[(other, port)] = _reached(own["address"], address, port, deadline)

    for other in range(len(job["nodes"])):
        if other == place:
            continue
        for port in (job["port"] + 1, *([job["port"]] if other == 0 else [])):
            thread = threading.Thread(target=ask, args=(other, port))
            thread.start()
            threads.append(thread)
    for thread in threads:
        thread.join()
    for (other, port), problem in sorted(answers.items()):
        node = job["nodes"][other]
        talk("reached", to=node["host"], address=node["address"], port=port, problem=problem)
    # The others may still be asking.
    time.sleep(1)
    for listener in listeners:
        # close() alone leaves a thread in accept() and the port taken
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    return not any(answers.values())


def own_name(talk: Talk) -> None:
    """Say whether this host knows its own name, which torch and vLLM ask it for.

    Not for longer than a moment: a server of names that is away must not keep the other hosts waiting.
    """
    name = socket.gethostname()
    found: dict[str, Any] = {"address": None, "problem": f"no answer within {NAME_SECONDS} s"}

    def ask() -> None:
        try:
            found.update(address=socket.gethostbyname(name), problem=None)
        except OSError as error:
            found["problem"] = error.strerror or str(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(NAME_SECONDS)
    talk("named", hostname=name, **found)


def model_of(job: dict[str, Any]) -> str | None:
    """The model that this host would serve: its name, and of a folder also what is in it."""
    name = job.get("model")
    if not name or not Path(name).is_dir():
        return f"{name} at {job['revision']}" if name and job.get("revision") else name
    digest = hashlib.sha256()
    for file in sorted(Path(name).rglob("*")):
        if file.is_file():
            digest.update(f"{file.relative_to(name)} {file.stat().st_size}\n".encode())
    with contextlib.suppress(OSError):
        digest.update(Path(name, "config.json").read_bytes())
    return f"{name} ({digest.hexdigest()[:12]})"


# -- one rank -----------------------------------------------------------------------------------------------------


class Ring:
    """The ranks together: what is sent, timed and compared."""

    def __init__(self, job: dict[str, Any], rank: int, local: int, talk: Talk) -> None:
        import torch
        import torch.distributed as dist

        self.torch, self.dist, self.job, self.rank, self.talk = torch, dist, job, rank, talk
        self.size = len(ranks_of(job))
        self.on_gpu = job["backend"] == "nccl"
        self.device = torch.device("cuda", local) if self.on_gpu else torch.device("cpu")
        if self.on_gpu:
            torch.cuda.set_device(self.device)
        else:
            torch.set_num_threads(1)
        dist.init_process_group(
            job["backend"],
            init_method=f"tcp://{job['nodes'][0]['address']}:{job['port']}",
            rank=rank,
            world_size=self.size,
            timeout=datetime.timedelta(seconds=job["step_seconds"]),
        )
        talk("joined")

    def finish(self) -> None:
        """Wait until the GPU did what it was told."""
        if self.on_gpu:
            self.torch.cuda.synchronize()

    def most_of(self, value: float) -> float:
        """Return the largest value of all ranks."""
        found = self.torch.tensor([value], dtype=self.torch.float64, device=self.device)
        self.dist.all_reduce(found, op=self.dist.ReduceOp.MAX)
        return float(found.item())

    def members(self) -> None:
        """Compare what every rank runs; the clocks are read right after a barrier."""
        self.dist.barrier()
        own = {
            "rank": self.rank,
            "host": self.talk.host,
            "clock": time.time(),
            "torch": self.torch.__version__,
            "nccl": ".".join(map(str, self.torch.cuda.nccl.version())) if self.on_gpu else None,
            "gpu": self.torch.cuda.get_device_name(self.device) if self.on_gpu else None,
            "release": self.job["release"],
            "model": model_of(self.job),
        }
        everybody: list[Any] = [None] * self.size
        self.dist.all_gather_object(everybody, own)
        if self.rank == 0:
            self.talk("members", members=everybody)

    def right(self, count: int, group: Any = None, members: int | None = None) -> bool:
        """Sum a pattern that differs by rank and place, and compare every number."""
        torch = self.torch
        pattern = torch.arange(count, device=self.device, dtype=torch.float32).remainder_(PERIOD).add_(1)
        ranks = range(self.size) if group is None else self.dist.get_process_group_ranks(group)
        data = pattern * (self.rank + 1)
        self.dist.all_reduce(data, group=group)
        return bool(torch.equal(data, pattern.mul_(sum(rank + 1 for rank in ranks))))

    def seconds(self, data: Any, group: Any = None) -> list[float]:
        """Time an all-reduce; the mean of each of some repeats, which every rank measures alike."""
        self.dist.all_reduce(data, group=group)
        self.finish()
        begin = time.perf_counter()
        self.dist.all_reduce(data, group=group)
        self.finish()
        once = time.perf_counter() - begin
        if group is None:
            once = self.most_of(once)
        iterations = int(min(MOST_ITERATIONS, max(1, MEASURED_SECONDS / max(once, 1e-6)))) if group is None else 5
        found = []
        for _repeat in range(REPEATS):
            self.dist.barrier(group=group)
            self.finish()
            begin = time.perf_counter()
            for _iteration in range(iterations):
                self.dist.all_reduce(data, group=group)
            self.finish()
            found.append((time.perf_counter() - begin) / iterations)
        return found

    def sizes(self) -> Iterator[int]:
        """The asked sizes in bytes that fit a quarter of what the fullest GPU has free."""
        free = float(self.torch.cuda.mem_get_info()[0]) if self.on_gpu else float("inf")
        least = -self.most_of(-free)
        return (size for size in self.job["sizes"] if size <= least / 4)

    def measure(self, size: int) -> float:
        """One size; returns the bus bandwidth in 10**9 bytes a second, as NCCL's own tests define it."""
        count = max(1, size // FLOAT_BYTES)
        self.talk("size_begin", bytes=size)
        right = self.right(count)
        if not right:
            self.talk("wrong", bytes=size)
        data = self.torch.zeros(count, dtype=self.torch.float32, device=self.device)
        times = self.seconds(data)
        bus = 2 * (self.size - 1) / self.size * count * FLOAT_BYTES / min(times) / 1e9
        if self.rank == 0:
            self.talk("size", bytes=count * FLOAT_BYTES, seconds=times, bus_gb_s=bus)
        return bus

    def pairs(self) -> None:
        """Measure the ranks two by two, to see which link is the slow one."""
        found = list(itertools.combinations(range(self.size), 2))
        if len(found) > MOST_PAIRS:
            found = [(rank, (rank + 1) % self.size) for rank in range(self.size)]
        for pair in found:
            group = self.dist.new_group(list(pair))
            if self.rank in pair:
                self.talk("pair_begin", pair=pair)
                data = self.torch.zeros(PAIR_BYTES // FLOAT_BYTES, dtype=self.torch.float32, device=self.device)
                times = self.seconds(data, group)
                if self.rank == pair[0]:
                    # of two ranks each sends as much as the buffer holds
                    self.talk(
                        "pair", pair=pair, bytes=PAIR_BYTES, seconds=times, bus_gb_s=PAIR_BYTES / min(times) / 1e9
                    )
            self.dist.barrier()

    def run(self) -> None:
        """All of it."""
        self.members()
        best = 0.0
        for size in self.sizes():
            best = max(best, self.measure(size))
        slow = self.job["narrow_below_gb_s"]
        if slow and self.most_of(best) < slow and self.size > 2:
            self.pairs()
        self.dist.barrier()
        self.dist.destroy_process_group()


def rank_main(job: dict[str, Any], place: int, local: int, begin: float) -> None:
    """Be one rank."""
    rank = ranks_of(job).index((place, local))
    talk = Talk(rank, job["nodes"][place]["host"], begin)
    # A rank that hangs says where, before it is stopped.
    faulthandler.dump_traceback_later(max(1, job["seconds"] - 3), exit=False)
    talk("started", pid=os.getpid())
    try:
        Ring(job, rank, local, talk).run()
    except Exception as error:
        talk("failed", kind=type(error).__name__, said=" ".join(str(error).split())[:2000])
        sys.stdout.flush()
        # torch's own threads may keep a failed process
        os._exit(1)
    talk("finished")


# -- the ranks of this host ---------------------------------------------------------------------------------------


def environment(job: dict[str, Any], place: int, logs: str) -> dict[str, str]:
    """The environment of the ranks. NCCL writes its log into the folder ``logs``.

    Left alone it takes standard output, which is the events', and what it holds back is lost with a rank that hangs.
    """
    own = job["nodes"][place]
    added = dict(job["environment"])
    if own["devices"]:
        added["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        added["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, own["devices"]))
    if own["interface"]:
        added["NCCL_SOCKET_IFNAME"] = added["GLOO_SOCKET_IFNAME"] = own["interface"]
    added.setdefault("NCCL_DEBUG", "WARN")
    added.setdefault("NCCL_DEBUG_FILE", f"{logs}/nccl.%p")
    added.setdefault("OMP_NUM_THREADS", "1")
    return {**os.environ, **added}


def pass_on(logs: str) -> None:
    """Write NCCL's warnings to standard error."""
    found: dict[str, None] = {}
    for file in sorted(Path(logs).glob("nccl.*")):
        with contextlib.suppress(OSError), file.open(encoding="utf-8", errors="replace") as stream:
            found.update((line.rstrip(), None) for line in stream if NCCL_WARNING in line)
    for line in list(found)[:MOST_WARNINGS]:
        print(line, file=sys.stderr, flush=True)


def supervise(job_file: str, place: int) -> int:
    """Run the ranks of this host, and end them all when one has ended badly or time is over."""
    with tempfile.TemporaryDirectory(prefix="nccl-log-") as logs:
        try:
            return _supervise(job_file, place, logs)
        finally:
            pass_on(logs)


def _supervise(job_file: str, place: int, logs: str) -> int:
    begin = time.time()
    with open(job_file, encoding="utf-8") as stream:
        job = json.load(stream)
    talk = Talk(-1, job["nodes"][place]["host"], begin)
    talk("began", vllm=_version("vllm"), torch=_version("torch"))
    if len(job["nodes"]) > 1:
        own_name(talk)
        if not reach_nodes(job, place, talk):
            talk("ended", code=1)
            return 1
    command = [sys.executable, __file__, job_file, str(place)]
    ranks = [
        subprocess.Popen([*command, str(local), str(begin)], env=environment(job, place, logs))
        for local in range(job["nodes"][place]["ranks"])
    ]
    deadline = begin + job["seconds"]
    while time.time() < deadline and all(rank.poll() in (None, 0) for rank in ranks):
        if all(rank.poll() == 0 for rank in ranks):
            break
        time.sleep(0.05)
    late = any(rank.poll() is None for rank in ranks) and time.time() >= deadline
    grace = time.time() + (0 if late else SECONDS_TO_END)
    while any(rank.poll() is None for rank in ranks) and time.time() < grace:
        time.sleep(0.05)
    for rank in ranks:
        if rank.poll() is None:
            rank.send_signal(signal.SIGKILL)
            rank.wait()
    codes = [rank.returncode for rank in ranks]
    talk("ended", code=0 if not any(codes) else 1, codes=codes, late=late)
    return 0 if not any(codes) else 1


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    if len(sys.argv) == 3:
        sys.exit(supervise(sys.argv[1], int(sys.argv[2])))
    with open(sys.argv[1], encoding="utf-8") as job_stream:
        rank_main(json.load(job_stream), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
