"""A small Ansible and a small fleet, for thousands of roll-outs with failures.

The tasks of the role rollout are read from its files and run as Ansible does, all hosts of a batch side by side; what
they decide by is the collection's own. Only what touches a host or a gateway is a stand-in. After every operation the
fleet is looked at: is there still a replica in service, and is the record true?
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import jinja2.meta
import yaml
from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.action import rollout_record as action
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import draining, good_states, rollout, rollout_record
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.haproxy import FORCED_DRAIN, RUNNING, Server
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import rollout_file, terminal
from jinja2.nativetypes import NativeEnvironment

from tests.unit.samples import CHECKOUT

ROLE = CHECKOUT / "roles" / "rollout"
NAME = "chat"
OLD, NEW, OLDER = "old", "new", "older"
RECORD = "/record.json"
BOUNDS = {"max_ttft_ratio": 1.5, "min_tokens_ratio": 0.8, "ttft_slack": 0.1}
MEASURED = {"errors": [], "first_token_seconds": 0.1, "tokens_per_second": 100.0}
# How an operation goes wrong: before it did anything, after it did all, the host is lost, and the play is killed.
FAULTS = BEFORE, AFTER, LOST, KILLED = "before", "after", "lost", "killed"


class Failed(Exception):
    """A task failed; the value is its result."""


class Gone(Exception):
    """The host cannot be reached any more."""


class Killed(Exception):
    """The controller is dead."""


ENVIRONMENT = NativeEnvironment(undefined=jinja2.StrictUndefined)
ENVIRONMENT.filters.update(
    difference=lambda one, other: [item for item in one if item not in list(other)],
    combine=lambda one, other: {**one, **other},
    zip=zip,
    bool=bool,
)


@cache
def tasks_of(name: str) -> list[dict[str, Any]]:
    """Tasks of a file of the role."""
    return list(yaml.safe_load((ROLE / "tasks" / name).read_text()))


@cache
def compiled(text: str) -> tuple[Any, frozenset[str]]:
    """Return a template, and the variables that it needs."""
    return ENVIRONMENT.from_string(text), frozenset(jinja2.meta.find_undeclared_variables(ENVIRONMENT.parse(text)))


VARIABLES: dict[str, Any] = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())


class Host:
    """What is on a host. A version is what its instance is started from; digests differ from host to host."""

    def __init__(self, name: str, nodes: Sequence[str]) -> None:
        self.name, self.nodes, self.rank = name, list(nodes), list(nodes).index(name) if nodes else 0
        self.files: str = OLD
        self.process: str | None = OLD
        self.proven: str | None = OLD
        self.good: str | None = OLD
        self.previous: str | None = OLDER
        self.mark: dict[str, Any] | None = None
        self.lost = self.off = False
        self.facts: dict[str, Any] = {}

    def digest(self, version: str | None) -> str | None:
        """The digest of a version on this host."""
        return f"{version}-{self.name}" if version else None

    def state(self, version: str | None) -> dict[str, Any] | None:
        """A kept state."""
        return {"digest": self.digest(version), "measured": {}, "receipt": None} if version else None


class Fleet:
    """Hosts, gateways and the controller's disk; ``fault`` says of an operation how it goes wrong."""

    def __init__(
        self,
        hosts: Sequence[Host],
        gateways: int = 1,
        broken: Iterable[str] = (),
        slow: Iterable[str] = (),
        seed: int = 0,
        **settings: Any,
    ) -> None:
        self.hosts = {host.name: host for host in hosts}
        self.ready = {(gateway, host.name): True for gateway in range(gateways) for host in hosts if not host.rank}
        self.gateways, self.broken, self.slow = gateways, set(broken), set(slow)
        self.random = random.Random(seed)
        self.settings = {"canary": 1, "batch": "25%", "back_out": "failed", **settings}
        self.fault: Callable[[str, str], str | None] = lambda _host, _what: None
        self.record: dict[str, Any] | None = None
        self.disk_full = 0
        self.removed = False
        self.said: list[str] = []
        self.violations: list[str] = []
        self.claimed: dict[str, Any] | None = None
        self.had = self.in_service()
        self.plan: dict[str, Any] = {}

    # what clients see

    def answers(self, name: str) -> bool:
        """Whether the engine that a host takes part in answers."""
        host = self.hosts[name]
        members = [self.hosts[node] for node in host.nodes or [name]]
        return (
            host.process is not None
            and host.process not in self.broken
            and all(member.process == host.process and not member.off for member in members)
        )

    def head(self, name: str) -> str:
        """Host of the engine's server."""
        return (self.hosts[name].nodes or [name])[0]

    def serves(self, name: str, gateway: int | None = None) -> bool:
        """Whether an engine is in service at a gateway, or at any."""
        head = self.head(name)
        if not self.gateways:
            return self.answers(head)
        places = range(self.gateways) if gateway is None else [gateway]
        return self.answers(head) and any(self.ready[place, head] for place in places)

    def in_service(self) -> list[int]:
        """Count the replicas in service, gateway by gateway."""
        heads = [host for host in self.hosts.values() if not host.rank]
        return [sum(self.serves(host.name, gateway) for host in heads) for gateway in range(self.gateways)]

    def look(self, what: str) -> None:
        """Compare the fleet with what must always be so."""
        now = self.in_service()
        if any(was and not is_now for was, is_now in zip(self.had, now, strict=True)) and len(self.replicas()) > 1:
            self.violations.append(f"no replica in service any more: {what}")
        self.had = now
        if self.record:
            self.violations += [f"{sentence}: {what}" for sentence in untrue(self, self.record)]

    def replicas(self) -> set[str]:
        """Heads of all engines."""
        return {self.head(name) for name in self.hosts}

    def operate(self, name: str, what: str, do: Callable[[], Any], on_host: bool = True) -> Any:
        """Do something that may go wrong."""
        host = self.hosts[name]
        if on_host and host.lost:
            raise Gone(name)
        kind = self.fault(name, what)
        self.said.append(f"{name} {what}" + (f" {kind}" if kind else ""))
        if kind == BEFORE:
            raise Failed({"msg": f"{what} fails before"})
        if kind == KILLED:
            raise Killed
        if kind == LOST:
            host.lost = True
            host.off = self.random.random() < 0.5
            # Who lost a host did not do so by the roll-out.
            self.had = self.in_service()
            raise Gone(name)
        found = do()
        self.look(self.said[-1])
        if kind == AFTER:
            raise Failed({"msg": f"{what} fails after"})
        return found

    # the controller's disk

    def read(self, _path: Path) -> dict[str, Any]:
        """Read the record."""
        if self.record is None:
            raise InputError("the record is gone.")
        return self.record

    def changed(self, path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        """Change the record, where there is room."""
        found = change(self.read(path))
        if self.disk_full:
            self.disk_full -= 1
            raise InputError("the record cannot be written: No space left on device.")
        self.record = found
        self.look("record")
        return found

    # a run of the playbook

    def comparison(self, host: Host) -> dict[str, Any]:
        """Compare a host with what is wanted, as the roll-out does."""
        wanted = {
            "name": NAME,
            "digest": host.digest(NEW),
            "settings": {"version": NEW},
            "environment": {},
            "release": "r",
            "nodes": host.nodes,
            "node_rank": host.rank,
        }
        found = {
            "process": {"digest": host.digest(host.process)} if host.process and not host.off else None,
            "written_digest": host.digest(host.files),
            "proven": host.proven is not None and host.proven == host.process,
            "release": "r",
            "settings": {"version": host.files},
            "environment": {},
            "change": host.mark,
            "good": host.state(host.good),
            "previous": host.state(host.previous),
        }
        return rollout.compare(wanted, found)

    def run(self) -> str:
        """Run the playbook; returns how it ended."""
        self.said.append("-- run")
        if any(host.lost for host in self.hosts.values()):
            return "unreachable"
        comparisons = {host.name: [self.comparison(host)] for host in self.hosts.values()}
        self.before = {name: (host.process, self.serves(name)) for name, host in self.hosts.items()}
        try:
            self.plan = rollout.plan(comparisons, self.settings["canary"], self.settings["batch"], {})
        except InputError as error:
            self.said.append(str(error))
            return "refused"
        for host in self.hosts.values():
            host.facts = {"serve_compared": {"results": [{"comparison": comparisons[host.name][0]}]}}
        if not (self.plan["batches"] or self.plan["drained"]):
            return "nothing"
        settings = {**BOUNDS, "back_out": self.settings["back_out"]}
        self.record = rollout_record.begin(
            "rollout", self.plan["batches"], self.plan["hosts"], settings, {}, "t", self.plan["together"]
        )
        self.look("begin")
        try:
            left = Play(self).run(tasks_of("main.yml"), list(self.hosts), {})
            self.claimed = self.record
            told = act(self, next(iter(left), next(iter(self.hosts))), {"step": "concluded"})
        except Killed:
            return "killed"
        self.said.append(told["msg"])
        return str((self.record or {}).get("state"))

    def came_back(self) -> None:
        """A person brings the lost hosts back; what ran on one that was off is started by systemd."""
        for host in self.hosts.values():
            if host.off:
                host.process = host.files
            host.lost = host.off = False
        self.disk_full = 0
        self.had = self.in_service()


def untrue(fleet: Fleet, record: Mapping[str, Any]) -> Iterator[str]:
    """What a record says that is not so. What became of hosts that were switched off it cannot know."""
    for name, entry in record["hosts"].items():
        host = fleet.hosts[name]
        members = [fleet.hosts[node] for node in host.nodes or [name]]
        if any(member.off for member in members):
            continue
        runs = {member.process for member in members}
        serves = fleet.serves(name)
        process, served = fleet.before[name]
        state = entry["state"]
        if state == "done" and not (runs == {NEW} and serves):
            yield f"{name} is said to be changed and serving"
        if state == "restored" and not (NEW not in runs and serves):
            yield f"{name} is said to be back and serving"
        if state == "not_restored" and fleet.gateways and serves:
            yield f"{name} is said to be out of service"
        if state in ("waiting", "left") and (host.process != process or (served and not serves)):
            yield f"{name} is said to be as it was"
        out = state == "lost" and rollout_record.service(record, name) == "out"
        if out and fleet.gateways and serves:
            yield f"{name} is said to be lost and out of service"


def act(fleet: Fleet, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Run the action plugin rollout_record for a host."""
    given = {key: spec.get("default") for key, spec in action.ARGUMENT_SPEC.items()} | dict(arguments)
    given["record"] = RECORD
    made = action.ActionModule.__new__(action.ActionModule)
    made.validate_argument_spec = lambda **_: (None, given)
    made._task = SimpleNamespace(args=given, check_mode=False)
    everybody = {host.name: {"ansible_facts": host.facts.get("ansible_facts", {})} for host in fleet.hosts.values()}
    result: dict[str, Any] = made.run(None, {"inventory_hostname": name, "hostvars": everybody, **everybody[name]})
    return result


class Play:
    """Runs tasks on hosts side by side, as the strategy linear does."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def run(self, tasks: Sequence[Mapping[str, Any]], hosts: list[str], given: Mapping[str, Any]) -> list[str]:
        """Run tasks; returns the hosts that came through."""
        for task in tasks:
            hosts = self.task(task, hosts, given)
        return hosts

    def task(self, task: Mapping[str, Any], hosts: list[str], given: Mapping[str, Any]) -> list[str]:
        """Run one task on all hosts; returns those that came through it."""
        variables = {**given, **task.get("vars", {})}
        if "block" in task:
            chosen = [name for name in hosts if self.when(task, name, variables)]
            left = self.run(task["block"], chosen, variables)
            failed = [name for name in chosen if name not in left and not self.fleet.hosts[name].lost]
            rescued = self.run(task["rescue"], failed, variables) if "rescue" in task else []
            return [name for name in hosts if name not in chosen or name in left or name in rescued]
        if "ansible.builtin.include_tasks" in task:
            return self.include(task, hosts, variables)
        order = self.fleet.random.sample(hosts, len(hosts))
        left = []
        for name in order:
            try:
                if "loop" in task or self.when(task, name, variables):
                    self.one(task, name, variables)
                left.append(name)
            except Failed as failure:
                self.fleet.hosts[name].facts["ansible_failed_result"] = failure.args[0]
            except Gone:
                pass
        return [name for name in hosts if name in left]

    def include(self, task: Mapping[str, Any], hosts: list[str], variables: Mapping[str, Any]) -> list[str]:
        """Run the tasks of a file, for each item of a loop."""
        variable = task.get("loop_control", {}).get("loop_var", "item")
        items = self.render(task["loop"], hosts[0], variables) if "loop" in task and hosts else [None]
        for item in items:
            here = {**variables, variable: item} if "loop" in task else variables
            chosen = [name for name in hosts if self.when(task, name, here)]
            if not chosen:
                continue
            file = self.render(task["ansible.builtin.include_tasks"], chosen[0], here)
            left = self.run(tasks_of(file), chosen, here)
            hosts = [name for name in hosts if name not in chosen or name in left]
        return hosts

    def when(self, task: Mapping[str, Any], name: str, variables: Mapping[str, Any]) -> bool:
        """Tell whether a task is for a host."""
        return "when" not in task or bool(self.render(f"{{{{ {task['when']} }}}}", name, variables))

    def value(self, key: str, name: str, variables: Mapping[str, Any]) -> Any:
        """Look a variable up."""
        fleet, host = self.fleet, self.fleet.hosts[name]
        known: dict[str, Any] = {
            "inventory_hostname": name,
            "omit": None,
            "__rollout_plan": fleet.plan,
            "__rollout_record": RECORD,
            "__rollout_settings": BOUNDS,
            "__rollout_guarded": bool(fleet.gateways),
            "rollout_instances": [{"name": NAME, "host": "h", "port": 1}],
            "rollout_only": [],
            "rollout_back_out": fleet.settings["back_out"],
            "layout_host": {},
        }
        if key in host.facts:
            return host.facts[key]
        if key in variables:
            return self.render(variables[key], name, variables)
        if key in known:
            return known[key]
        if key in VARIABLES:
            return self.render(VARIABLES[key], name, variables)
        return 1 if key.startswith("rollout_") and key != "rollout_back" else jinja2.StrictUndefined(name=key)

    def render(self, value: Any, name: str, variables: Mapping[str, Any]) -> Any:
        """Template a value, all the way down."""
        if isinstance(value, Mapping):
            return {key: self.render(one, name, variables) for key, one in value.items()}
        if isinstance(value, list):
            return [self.render(one, name, variables) for one in value]
        if not isinstance(value, str) or "{{" not in value:
            return value
        template, needed = compiled(value)
        return template.render({key: self.value(key, name, variables) for key in needed})

    def one(self, task: Mapping[str, Any], name: str, variables: Mapping[str, Any]) -> None:
        """Run a task that is no include, for one host."""
        module = next(key for key in task if "." in key)
        control = task.get("loop_control", {})
        items = self.render(task["loop"], name, variables) if "loop" in task else [None]
        results = []
        for item in items:
            here = {**variables, control.get("loop_var", "item"): item} if "loop" in task else variables
            if "loop" in task and not self.when(task, name, here):
                continue
            arguments = self.render(task[module] or {}, name, here)
            results.append({"item": item, **self.module(module, name, arguments)})
        if "register" in task:
            found = {"results": results} if "loop" in task else results[0]
            self.fleet.hosts[name].facts[task["register"]] = found

    def module(self, module: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Do what a module or another role does."""
        fleet = self.fleet
        if module == "gpufleet.vllm.rollout_record":
            return self.tell(name, arguments)
        if module == "ansible.builtin.fail":
            raise Failed({"msg": arguments["msg"]})
        if module == "ansible.builtin.include_role":
            what = f"{arguments['name'].split('.')[-1]}_{arguments.get('tasks_from', 'main')}"
            result: dict[str, Any] = getattr(self, what)(name) or {}
            return result
        if module == "gpufleet.vllm.instance_measure":
            return {"measured": fleet.operate(name, "measure", lambda: self.measured(name))}
        assert module == "gpufleet.vllm.instance_state", module
        state = arguments["state"]
        done: dict[str, Any] = (
            fleet.operate(name, state, lambda: getattr(self, state)(fleet.hosts[name], arguments)) or {}
        )
        return done

    def tell(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Write or ask the record. A full disk and a dead controller are its faults."""
        fleet = self.fleet
        kind = fleet.fault(name, f"record {arguments['step']}")
        if kind == KILLED:
            raise Killed
        if kind == BEFORE:
            fleet.disk_full = fleet.random.choice((1, 3, 50))
        if kind == AFTER:
            fleet.record, fleet.removed = None, True
        fleet.said.append(f"{name} record {arguments['step']}" + (f" {kind}" if kind else ""))
        result = act(fleet, name, arguments)
        if facts := result.get("ansible_facts"):
            fleet.hosts[name].facts["ansible_facts"] = {
                **fleet.hosts[name].facts.get("ansible_facts", {}),
                **facts,
            }
        if result.get("failed"):
            raise Failed(result)
        return result

    # stand-ins

    def measured(self, name: str) -> dict[str, Any]:
        """Measure with real requests."""
        host = self.fleet.hosts[name]
        if not self.fleet.answers(name):
            return {**MEASURED, "errors": ["refused"]}
        return {**MEASURED, "tokens_per_second": 1.0 if host.process in self.fleet.slow else 100.0}

    def begun(self, host: Host, arguments: Mapping[str, Any]) -> None:
        """Mark it."""
        baseline = (arguments.get("baselines") or {}).get(NAME) or (host.mark or {}).get("baseline")
        host.mark = {"since": "t", "baseline": baseline}

    def finished(self, host: Host, _arguments: Mapping[str, Any]) -> None:
        """Remove the mark."""
        host.mark = None

    def kept(self, host: Host, arguments: Mapping[str, Any]) -> None:
        """Keep what runs."""
        if host.process is None or host.process != host.files:
            return
        if host.proven == host.process or arguments.get("proven"):
            new = host.state(host.process)
            assert new
            good, previous = good_states.rotated(host.state(host.good), host.state(host.previous), new)
            host.good = good["digest"].split("-")[0]
            host.previous = previous["digest"].split("-")[0] if previous else None

    def restored(self, host: Host, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Put a state back."""
        digests = (arguments.get("digests") or {}).get(NAME)
        kept = [host.state(host.good), host.state(host.previous)]
        chosen = good_states.chosen(kept, digests) if digests else host.state(getattr(host, arguments["which"]))
        if chosen is None:
            raise Failed({"msg": "there is none"})
        host.files = chosen["digest"].split("-")[0]
        self.start(host, host.files)
        return {"layouts": [{"name": NAME}]}

    def start(self, host: Host, version: str) -> None:
        """Start what differs."""
        if host.process != version:
            host.process, host.proven = version, None

    def engine_current(self, name: str) -> None:
        """Switch the link."""
        self.fleet.operate(name, "current", lambda: None)

    def serve_apply(self, name: str) -> None:
        """Write the files, then start what they say."""
        host = self.fleet.hosts[name]

        def write() -> None:
            host.files = NEW

        self.fleet.operate(name, "write", write)
        self.fleet.operate(name, "start", lambda: self.start(host, NEW))

    def warmup_main(self, name: str) -> None:
        """Ask the engine, where its server is."""
        host = self.fleet.hosts[name]

        def ask() -> None:
            if not (self.fleet.answers(name) if host.rank == 0 else host.process):
                raise Failed({"msg": "does not answer"})
            host.proven = host.process

        self.fleet.operate(name, "warm up", ask)

    def gateway_drain(self, name: str) -> None:
        """Drain at all gateways or at none, by the collection's own refusal."""
        fleet, taken = self.fleet, []
        try:
            for gateway in range(fleet.gateways):

                def drain(gateway: int = gateway) -> None:
                    heads = [host for host in fleet.hosts.values() if not host.rank]
                    servers = [
                        Server(
                            NAME,
                            head.name,
                            0 if fleet.ready[gateway, head.name] else FORCED_DRAIN,
                            RUNNING if fleet.answers(head.name) else 0,
                        )
                        for head in heads
                    ]
                    why = draining.refusal(servers, name, NAME in fleet.plan["alone"])
                    if why and fleet.ready[gateway, name]:
                        raise Failed({"msg": why})
                    if fleet.ready[gateway, name]:
                        taken.append(gateway)
                    fleet.ready[gateway, name] = False

                fleet.operate(name, f"drain {gateway}", drain, on_host=False)
        except Failed:
            for gateway in taken:
                fleet.ready[gateway, name] = True
            raise
        fleet.operate(name, "wait until idle", lambda: None, on_host=False)

    def gateway_undrain(self, name: str) -> None:
        """Give it requests, and wait until it is up."""
        fleet = self.fleet
        for gateway in range(fleet.gateways):

            def ready(gateway: int = gateway) -> None:
                fleet.ready[gateway, name] = True

            fleet.operate(name, f"ready {gateway}", ready, on_host=False)

        def up() -> None:
            if not fleet.answers(name):
                raise Failed({"msg": "not up"})

        fleet.operate(name, "up", up, on_host=False)


def installed(patch: Callable[..., None]) -> Callable[[Fleet], Fleet]:
    """Let the action plugin read and write the record of a fleet; ``patch`` is that of pytest's monkeypatch."""
    patch(ActionBase, "run", lambda *_: {})
    patch(terminal, "show", lambda *_: None)
    patch(rollout_file, "now", lambda: "t")

    def use(fleet: Fleet) -> Fleet:
        patch(rollout_file, "read", fleet.read)
        patch(rollout_file, "changed", fleet.changed)
        return fleet

    return use
