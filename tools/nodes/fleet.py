"""A fleet: nodes that share a bridge, a key and an inventory, under .nodes/<fleet>/ in the checkout."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from tools.nodes import host, image, inventory, machine, network, registries, root
from tools.nodes.errors import NodeError
from tools.nodes.names import checked
from tools.nodes.shell import locked, run

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tools.nodes.machine import Bind, Machine
    from tools.nodes.names import FleetNames


@dataclass
class Node:
    """What is remembered of a node."""

    address: str
    suite: str
    binds: list[Bind]


@dataclass
class State:
    """What is remembered of a fleet, in state.json."""

    subnet: str | None = None
    nodes: dict[str, Node] = field(default_factory=dict)


@dataclass
class Counts:
    """What `up` did, for its last line."""

    made: int = 0
    booted: int = 0
    reused: int = 0


def load(folder: Path) -> State:
    """Read state.json; an empty state where there is none. Raises NodeError when it is not ours."""
    path = folder / "state.json"
    if not path.exists():
        return State()
    try:
        data = json.loads(path.read_text())
        nodes = {
            name: Node(node["address"], node["suite"], [machine.Bind(**bind) for bind in node["binds"]])
            for name, node in data["nodes"].items()
        }
        return State(data["subnet"], nodes)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NodeError(
            f"{path} cannot be read ({error}). Remove the fleet with `down --all` and make it anew."
        ) from error


def save(folder: Path, state: State) -> None:
    """Write state.json whole or not at all."""
    part = folder / "state.json.part"
    part.write_text(json.dumps(asdict(state), indent=2, sort_keys=True) + "\n")
    part.rename(folder / "state.json")


def free_address(subnet: str, taken: Sequence[str]) -> str:
    """The first address of the subnet after the bridge's own that no node has. Raises NodeError when full."""
    for address in list(ipaddress.IPv4Network(subnet).hosts())[1:]:
        if str(address) not in taken:
            return str(address)
    raise NodeError(f"The fleet's network {subnet} is full: it has room for 253 nodes.")


class Fleet:
    """Makes, boots, lists and removes the nodes of one fleet."""

    def __init__(self, names: FleetNames) -> None:
        """Take the names; nothing is read or made yet."""
        self.names = names
        self.folder = names.folder

    def up(self, wanted: Sequence[str], suite: str, binds: Sequence[Bind], gib_per_node: int) -> Counts:
        """Make the nodes that are missing, boot those that are down, reuse the rest.

        Raises NodeError when one cannot be made, does not come up, or exists with another suite or binds.
        """
        for name in wanted:
            checked("node", name)
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder, f"Waiting for another run on fleet {self.names.fleet}"):
            state = load(self.folder)
            for name in wanted:
                self._check_same(name, state.nodes.get(name), suite, binds)
            missing = [name for name in wanted if not self._root(name).exists()]
            host.require_disk(self.folder, len(missing), gib_per_node)
            self._ensure_network(state)
            self._ensure_key()
            self._add(state, wanted, suite, binds)
            self._make(missing, suite)
            return self._start(state, wanted, missing)

    def down(self, unwanted: Sequence[str]) -> list[str]:
        """Stop and remove nodes, and the whole fleet with the last of them; returns what was removed.

        Raises NodeError for a name that the fleet does not have.
        """
        if not self.folder.exists():
            return self._remove_fleet([])
        with locked(self.folder, f"Waiting for another run on fleet {self.names.fleet}"):
            present = self._present()
            for name in unwanted:
                if name not in present:
                    print(f"{name}: not there", flush=True)
            leaving = [name for name in present if not unwanted or name in unwanted]
            if len(leaving) == len(present):
                return self._remove_fleet(present)
            state = load(self.folder)
            for name in leaving:
                self._remove_node(name)
                state.nodes.pop(name, None)
            self._write(state)
            return leaving

    def status(self) -> Iterator[str]:
        """Lines that say what there is."""
        state = load(self.folder)
        if not state.nodes:
            yield f"Fleet {self.names.fleet} has no nodes."
            return
        where = f"bridge {self.names.bridge}, network {state.subnet}, files {self.folder}"
        yield f"Fleet {self.names.fleet}: {where}"
        for name, node in sorted(state.nodes.items()):
            running = "running" if machine.nspawn_pids(self.names.machine(name)) else "stopped"
            yield f"  {name}  {node.address}  {node.suite}  {running}"

    def _root(self, name: str) -> Path:
        return self.folder / "roots" / name

    def _machine(self, name: str, suite: str, binds: Sequence[Bind]) -> Machine:
        return machine.Machine(
            machine=self.names.machine(name),
            hostname=name,
            root=self._root(name),
            log=self.folder / f"{name}.console.log",
            bridge=self.names.bridge,
            suite=suite,
            binds=tuple(binds),
        )

    def _check_same(self, name: str, node: Node | None, suite: str, binds: Sequence[Bind]) -> None:
        """Raise NodeError when a node exists that was made otherwise than now asked for."""
        if node is None:
            return
        remedy = f"Remove it first: tools/node.py down --fleet {self.names.fleet} {name}"
        if node.suite != suite:
            raise NodeError(f"Node {name} was made as {node.suite}, not {suite}. {remedy}")
        if not set(binds) <= set(node.binds):
            raise NodeError(f"Node {name} was made with other --bind options. {remedy}")

    def _ensure_network(self, state: State) -> None:
        """Make the bridge; on another subnet than before, give every node a new address."""
        subnet = network.ensure(self.names, state.subnet)
        if subnet != state.subnet:
            state.subnet = subnet
            taken: list[str] = []
            for node in state.nodes.values():
                node.address = free_address(subnet, taken)
                taken.append(node.address)
            save(self.folder, state)

    def _ensure_key(self) -> None:
        """Make the key that logs in to the nodes."""
        if not (self.folder / "key.pub").exists():
            (self.folder / "key").unlink(missing_ok=True)
            comment = f"gpufleet {self.names.fleet}"
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(self.folder / "key")])

    def _add(self, state: State, wanted: Sequence[str], suite: str, binds: Sequence[Bind]) -> None:
        """Enter new nodes into the state, before anything of them exists."""
        assert state.subnet is not None
        for name in wanted:
            if name not in state.nodes:
                address = free_address(state.subnet, [node.address for node in state.nodes.values()])
                state.nodes[name] = Node(address, suite, [*binds, *self._registry_binds()])
        save(self.folder, state)

    def _registry_binds(self) -> list[Bind]:
        """The shared uv cache, and folders that this machine's pip configuration names."""
        cache = image.cache_folder() / "uv"
        cache.mkdir(parents=True, exist_ok=True)
        folders = [path for path in registries.local_folders(root.read_pip_settings()) if path.is_dir()]
        return [
            machine.Bind(str(cache), registries.UV_CACHE),
            *(machine.Bind(str(path), str(path), True) for path in folders),
        ]

    def _make(self, missing: Sequence[str], suite: str) -> None:
        """Make root file systems from the image."""
        if not missing:
            return
        base = image.ensure(suite)
        (self.folder / "roots").mkdir(mode=0o700, exist_ok=True)
        public_key = (self.folder / "key.pub").read_text()
        for name in missing:
            root.make(base, self._root(name), root.Identity(name, public_key))
            print(f"{name}: made ({suite})", flush=True)

    def _start(self, state: State, wanted: Sequence[str], made: Sequence[str]) -> Counts:
        """Boot what is down, all at once, and wait for each."""
        counts = Counts(made=len(made))
        booting: dict[str, subprocess.Popen[bytes]] = {}
        for name in wanted:
            if machine.nspawn_pids(self.names.machine(name)):
                print(f"{name}: running already at {state.nodes[name].address}, reused", flush=True)
                counts.reused += 1
            else:
                booting[name] = self._boot(state, name)
        self._write(state)
        for name, process in booting.items():
            node = state.nodes[name]
            machine.wait_for_ssh(self._machine(name, node.suite, node.binds), node.address, process)
            self._check_running(name, must_run=name in made)
            counts.booted += 1
        return counts

    def _boot(self, state: State, name: str) -> subprocess.Popen[bytes]:
        node = state.nodes[name]
        assert state.subnet is not None
        gateway = str(ipaddress.IPv4Network(state.subnet)[1])
        root.configure_network(self._root(name), node.address, gateway, network.outer_mtu())
        this = self._machine(name, node.suite, node.binds)
        # Where nspawn was killed, the node's processes live on and keep its root and its network.
        machine.stop(this)
        return machine.boot(this)

    def _check_running(self, name: str, must_run: bool) -> None:
        """Ask the booted node how it is. A new one must say `running`; an old one may carry failed units."""
        ssh = ["ssh", "-F", str(self.folder / "ssh_config"), name]
        said = run([*ssh, "timeout 60 systemctl is-system-running --wait"], check=False).strip()
        print(f"{name}: booted, {said or 'no answer over ssh'}", flush=True)
        if said == "running" or (said and not must_run):
            return
        failed = run([*ssh, "systemctl --failed --plain --no-legend"], check=False)
        node = load(self.folder).nodes[name]
        console = machine.last_words(self._machine(name, node.suite, node.binds))
        raise NodeError(f"Node {name} came up as {said or 'unreachable over ssh'!r}:\n{failed}{console}")

    def _write(self, state: State) -> None:
        """Write the files that say how to reach the nodes, here and on each node, for those whose root is there."""
        save(self.folder, state)
        addresses = {name: node.address for name, node in state.nodes.items()}
        keys = {
            name: inventory.Access(node.address, root.host_key(self._root(name)))
            for name, node in sorted(state.nodes.items())
            if self._root(name).exists()
        }
        for name in keys:
            root.configure_hosts(self._root(name), name, addresses)
        inventory.write(self.folder, keys, root.deployment_variables())

    def _present(self) -> list[str]:
        """Names of nodes of which anything exists: an entry in the state, a root, a part of one."""
        try:
            names = set(load(self.folder).nodes)
        except NodeError:
            names = set()
        roots = self.folder / "roots"
        if roots.is_dir():
            names |= {path.name.removesuffix(".part") for path in roots.iterdir() if not path.name.startswith(".")}
        return sorted(names)

    def _remove_node(self, name: str) -> None:
        """Stop a node and remove its files, however much of it there is."""
        node = self._machine(name, "", ())
        machine.stop(node)
        image.remove_tree(self._root(name))
        image.remove_tree(self._root(f"{name}.part"))
        (self.folder / "roots" / f".#{name}.lck").unlink(missing_ok=True)
        node.log.unlink(missing_ok=True)
        print(f"{name}: removed", flush=True)

    def _remove_fleet(self, present: Sequence[str]) -> list[str]:
        """Remove every node, the network and the folder."""
        for name in present:
            self._remove_node(name)
        network.remove(self.names)
        if self.folder.exists():
            image.remove_tree(self.folder)
            print(f"Fleet {self.names.fleet}: removed, with its network", flush=True)
        return list(present)
