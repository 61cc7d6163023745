"""Roll-outs with a failure at every step: somebody answers, no engine is split, and the record is true.

ROLLOUTS=10000 makes as many random ones, and those with each failure at each step (an hour); by default some hundreds.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.roles.rollout_model import BEFORE, FAULTS, NEW, OLD, OLDER, Fleet, Host, installed

RUNS = int(os.environ.get("ROLLOUTS", "150"))
# Of the failures at each step, the share that is tried.
SHARE = 1.0 if RUNS >= 10_000 else 0.03
Use = Callable[[Fleet], Fleet]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Let the action plugin work on a fleet."""
    return installed(monkeypatch.setattr)


def singles(count: int) -> list[Host]:
    """Hosts with a replica each."""
    return [Host(f"h{number}", []) for number in range(1, count + 1)]


def pairs(count: int) -> list[Host]:
    """Hosts of which two run an engine."""
    engines = [[f"h{number}", f"h{number + 1}"] for number in range(1, 2 * count, 2)]
    return [Host(name, engine) for engine in engines for name in engine]


def at(*faults: tuple[str, str, str]) -> Callable[[str, str], str | None]:
    """Let operations of hosts go wrong, each once."""
    left = list(faults)

    def fault(host: str, what: str) -> str | None:
        kind = next((kind for name, operation, kind in left if (name, operation) == (host, what)), None)
        if kind:
            left.remove((host, what, kind))
        return kind

    return fault


def nth(places: dict[int, str]) -> Callable[[str, str], str | None]:
    """Let operations go wrong, by their place in the run."""
    count = itertools.count()
    return lambda _host, _what: places.get(next(count))


def assert_sound(fleet: Fleet, ended: str) -> None:
    """What must be so after every run, whatever went wrong."""
    history = "\n".join(fleet.said)
    assert not fleet.violations, f"{fleet.violations}\n{history}"
    if ended not in ("done", "stopped") or fleet.record is None:
        return
    for host in fleet.hosts.values():
        members = [fleet.hosts[name] for name in host.nodes or [host.name]]
        states = {fleet.record["hosts"][member.name]["state"] for member in members}
        reasons = [fleet.record["hosts"][member.name]["reason"] for member in members]
        if any(member.lost for member in members):
            continue
        if len({member.process for member in members}) > 1 and states not in ({"waiting"}, {"left"}):
            assert states <= {"not_restored", "unsettled"}, f"{host.name} is split, the record says {states}\n{history}"
        if not any(reasons) and states == {"done"}:
            assert {(member.good, member.mark) for member in members} == {(NEW, None)}, history
    if ended == "done":
        assert {(host.process, fleet.serves(host.name)) for host in fleet.hosts.values()} == {(NEW, True)}, history


def assert_carries_on(fleet: Fleet) -> None:
    """The same command, without a fault, completes what is good and comes back from what is not."""
    fleet.fault = lambda _host, _what: None
    fleet.came_back()
    fleet.record = None
    ended = fleet.run()
    assert_sound(fleet, ended)
    if not fleet.broken and not fleet.slow and ended != "refused":
        history = "\n".join(fleet.said)
        assert ended in ("done", "nothing"), history
        for host in fleet.hosts.values():
            # that what serves was not kept is forgotten with a record that somebody removed
            good = host.good if fleet.removed else NEW
            assert (host.process, host.good, host.mark) == (NEW, good, None), f"{host.name}\n{history}"
            assert fleet.serves(host.name), history


def states(fleet: Fleet) -> dict[str, str]:
    """What the record says of each host."""
    assert fleet.record
    return {name: entry["state"] for name, entry in fleet.record["hosts"].items()}


def processes(fleet: Fleet) -> list[str | None]:
    """What each host runs."""
    return [host.process for host in fleet.hosts.values()]


def test_an_engine_whose_server_does_not_come_up_goes_back_on_all_of_its_hosts(use: Use) -> None:
    fleet = use(Fleet(pairs(2)))
    fleet.fault = at(("h3", "up", BEFORE))
    assert_sound(fleet, fleet.run())
    assert states(fleet) == {"h1": "done", "h2": "done", "h3": "restored", "h4": "restored"}
    assert processes(fleet) == [NEW, NEW, OLD, OLD]
    assert (fleet.hosts["h4"].good, fleet.hosts["h4"].previous) == (OLD, OLDER)


@pytest.mark.parametrize("operation", ["kept", "finished", "record done"])
def test_an_engine_that_serves_on_all_of_its_hosts_is_not_put_back_on_one(use: Use, operation: str) -> None:
    fleet = use(Fleet(pairs(2)))
    # the engine is kept before the change, too
    count = itertools.count()
    first = 1 if operation == "kept" else 0
    fleet.fault = lambda host, what: BEFORE if (host, what) == ("h4", operation) and next(count) == first else None
    fleet.run()
    assert_sound(fleet, "stopped")
    assert processes(fleet) == [NEW] * 4
    assert states(fleet) == dict.fromkeys(("h1", "h2", "h3", "h4"), "done")
    assert fleet.record
    assert (fleet.record["state"], bool(fleet.record["hosts"]["h4"]["reason"])) == ("stopped", True)
    assert_carries_on(fleet)


def test_what_cannot_be_taken_out_for_going_back_serves_the_new(use: Use) -> None:
    fleet = use(Fleet(singles(2), back_out="all"))
    fleet.fault = at(("h2", "warm up", BEFORE), ("h2", "restored", BEFORE))
    assert_sound(fleet, fleet.run())
    assert states(fleet) == {"h1": "done", "h2": "not_restored"}
    assert fleet.serves("h1")
    assert fleet.record
    assert "h1 is the last server" in fleet.record["hosts"]["h1"]["reason"]
    assert "Changed, and serving: h1." in fleet.record["reason"]


def test_an_engine_that_cannot_be_taken_out_goes_back_on_none_of_its_hosts(use: Use) -> None:
    fleet = use(Fleet(pairs(2), back_out="all"))
    # it is refused since the other engine is out of service
    fleet.fault = at(("h3", "warm up", BEFORE), ("h3", "restored", BEFORE))
    assert_sound(fleet, fleet.run())
    assert processes(fleet)[:2] == [NEW, NEW]
    assert states(fleet) == {"h1": "done", "h2": "done", "h3": "not_restored", "h4": "not_restored"}
    assert fleet.serves("h1")


def test_the_last_engine_is_left_on_all_of_its_hosts(use: Use) -> None:
    """The other one is down, and nobody knew when the plan was made."""
    fleet = use(Fleet(pairs(2), canary=["h1"]))
    fleet.ready[0, "h3"] = False
    fleet.had = fleet.in_service()
    assert_sound(fleet, fleet.run())
    assert states(fleet) == {"h1": "left", "h2": "left", "h3": "waiting", "h4": "waiting"}
    assert processes(fleet) == [OLD] * 4
    assert fleet.serves("h1")


def test_a_replica_that_is_down_is_repaired_first(use: Use) -> None:
    fleet = use(Fleet(singles(2)))
    fleet.hosts["h2"].process = None
    fleet.had = fleet.in_service()
    assert fleet.run() == "done"
    assert_sound(fleet, "done")
    assert fleet.plan["batches"] == [["h2"], ["h1"]]


@pytest.mark.parametrize("canary", [["h1"], 2])
def test_the_last_that_serves_is_not_taken_before_those_that_are_down(use: Use, canary: Any) -> None:
    fleet = use(Fleet(singles(3), canary=canary))
    fleet.hosts["h2"].process = fleet.hosts["h3"].process = None
    if canary == 2:
        assert fleet.run() == "done"
        return
    assert fleet.run() == "refused"
    assert "takes the last replicas of chat that serve out of service (h1), while h2, h3 is down" in fleet.said[-1]


@pytest.mark.parametrize("hosts", [singles, pairs])
@pytest.mark.parametrize("room", [1, 50])
def test_a_record_that_cannot_be_written_lets_a_host_be_put_back(
    use: Use, hosts: Callable[[int], list[Host]], room: int
) -> None:
    fleet = use(Fleet(hosts(2)))

    def full(host: str, what: str) -> str | None:
        if (host, what) == ("h1", "warm up") and "h1 warm up before" not in fleet.said:
            fleet.disk_full = room
            return BEFORE
        return None

    fleet.fault = full
    assert_sound(fleet, fleet.run())
    assert fleet.serves("h1")
    assert fleet.hosts["h1"].process == OLD
    if room == 1:
        assert states(fleet)["h1"] == "restored"
    else:
        assert "The record could not be ended: " in fleet.said[-1]
        assert "Back at the last good state, which serves: h1" in fleet.said[-1]


def test_a_record_that_is_gone_lets_a_host_be_put_back(use: Use) -> None:
    fleet = use(Fleet(singles(2)))

    def gone(host: str, what: str) -> str | None:
        if (host, what) == ("h1", "warm up") and "h1 warm up before" not in fleet.said:
            fleet.record = None
            return BEFORE
        return None

    fleet.fault = gone
    fleet.run()
    assert not fleet.violations
    assert fleet.serves("h1")
    assert processes(fleet) == [OLD, OLD]
    assert "h1: failed: warm up fails before" in fleet.said[-1]
    assert "h1: restored" in fleet.said[-1]


FLEETS: dict[str, Callable[[], list[Host]]] = {
    "one": lambda: singles(1),
    "two": lambda: singles(2),
    "pairs": lambda: pairs(2),
}


@pytest.mark.parametrize("back_out", ["failed", "all"])
@pytest.mark.parametrize("bad", ["good", "broken", "slow"])
@pytest.mark.parametrize("name", FLEETS)
def test_a_failure_at_every_step(use: Use, name: str, bad: str, back_out: str) -> None:
    def fleet() -> Fleet:
        more: dict[str, Any] = {bad: [NEW]} if bad != "good" else {}
        return use(Fleet(FLEETS[name](), gateways=2, seed=1, back_out=back_out, **more))

    whole = fleet()
    whole.run()
    steps = len(whole.said)
    assert steps > 20
    rnd = random.Random(f"{name} {bad} {back_out}")
    for place, kind in itertools.product(range(steps), FAULTS):
        if rnd.random() < SHARE:
            one = fleet()
            one.fault = nth({place: kind})
            assert_sound(one, one.run())
            assert_carries_on(one)


def random_fleet(rnd: random.Random) -> Fleet:
    """A fleet, and what goes wrong with it."""
    hosts = pairs(rnd.choice([1, 2, 2, 3])) if rnd.random() < 0.5 else singles(rnd.choice([1, 2, 3, 4]))
    bad: dict[str, Any] = rnd.choice([{}, {}, {"broken": [NEW]}, {"slow": [NEW]}])
    fleet = Fleet(
        hosts,
        gateways=rnd.choice([0, 1, 1, 2]),
        seed=rnd.randrange(10**9),
        back_out=rnd.choice(["failed", "all"]),
        canary=rnd.choice([0, 1]),
        batch=rnd.choice(["25%", "50%", 1, 2]),
        **bad,
    )
    for host in hosts:
        if rnd.random() < 0.05:
            host.process = None
        if rnd.random() < 0.05:
            host.previous = None
    fleet.had = fleet.in_service()
    chance = rnd.choice([0.01, 0.02, 0.05])
    fleet.fault = lambda _host, _what: rnd.choice(FAULTS) if rnd.random() < chance else None
    return fleet


def test_random_failures_over_several_runs(use: Use) -> None:
    ends: dict[str, int] = {}
    for seed in range(RUNS):
        rnd = random.Random(seed)
        fleet = use(random_fleet(rnd))
        for _again in range(rnd.choice([1, 2])):
            ended = fleet.run()
            ends[ended] = ends.get(ended, 0) + 1
            assert_sound(fleet, ended)
            fleet.came_back()
            fleet.record = None
        assert_carries_on(fleet)
    assert min(ends.get(kind, 0) for kind in ("done", "stopped", "killed")) > RUNS / 50, ends
