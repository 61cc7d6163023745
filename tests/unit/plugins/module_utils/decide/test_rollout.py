"""What a roll-out changes, in which order, and what it thinks of the changed instance."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import rollout
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from hypothesis import given
from hypothesis import strategies as st

WANTED: dict[str, Any] = {
    "name": "chat",
    "digest": "new",
    "settings": {"model": "/m", "max-model-len": 1024},
    "environment": {"A": "1"},
    "release": "0.33.0-cuda",
}


def found(running: str | None = "new", written: str = "new", good: str | None = None, **more: Any) -> dict[str, Any]:
    """What a host says of an instance that is as it should be, but for what is given."""
    told = {
        "process": {"digest": running} if running else None,
        "written_digest": written,
        "proven": False,
        "release": WANTED["release"],
        "settings": WANTED["settings"],
        "environment": WANTED["environment"],
        "good": {"digest": good} if good else None,
        "previous": None,
        "change": None,
    }
    return {**told, **more}


MARK = {"baseline": {"tokens_per_second": 7.0}}


@pytest.mark.parametrize(
    ("told", "state"),
    [
        (found(good="new"), "same"),
        # deployed before states were kept, and warmed up
        (found(proven=True), "same"),
        (found(), "unproven"),
        # changed and kept, and the run ended before it was taken back into service
        (found(good="new", change=MARK), "drained"),
        # changed and warmed up, and the run ended before it was compared
        (found(proven=True, good="old", change=MARK), "unproven"),
        (found("old", "old", good="old"), "change"),
        # out of service and not changed yet
        (found("old", "old", good="old", change=MARK), "change"),
        # files written, not started from them
        (found("old", "new", good="old", change=MARK), "change"),
        (found(None, "new", good="old", change=MARK), "change"),
        (found("new", "other", good="new"), "change"),
    ],
)
def test_what_becomes_of_an_instance(told: dict[str, Any], state: str) -> None:
    assert rollout.compare(WANTED, told)["state"] == state


@pytest.mark.parametrize(
    ("told", "state"),
    [
        (found("old", "old", good="old", earlier_digest="old"), "same"),
        (found("old", "old", earlier_digest="old"), "unproven"),
        (found("old", "new", good="old", earlier_digest="old"), "change"),
        (found("old", "old", good="old", earlier_digest="old", release="0.32.0-cuda"), "change"),
        # its model or token was replaced
        (found("old", "old", good="old", earlier_digest=None), "change"),
    ],
)
def test_an_instance_of_an_earlier_version_of_the_collection(told: dict[str, Any], state: str) -> None:
    assert rollout.compare(WANTED, told)["state"] == state


def test_what_differs_is_told() -> None:
    old = found("old", "old", release="0.32.0-cuda", settings={"model": "/m", "enforce-eager": True}, environment={})
    assert rollout.compare(WANTED, old)["changes"] == [
        {"what": "release", "from": "0.32.0-cuda", "to": "0.33.0-cuda"},
        {"what": "setting enforce-eager", "from": True, "to": None},
        {"what": "setting max-model-len", "from": None, "to": 1024},
        {"what": "environment A", "from": None, "to": "1"},
    ]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (found(None), "it does not run"),
        (found("old"), "it runs from other settings than those in its files"),
        (found("old", "old"), "the user or the folders of the service, the files of the model or the token"),
    ],
)
def test_what_no_setting_says(told: dict[str, Any], words: str) -> None:
    assert [change["what"] for change in rollout.compare(WANTED, told)["changes"]] == [words]


def test_what_was_measured_before_an_interruption_is_not_forgotten() -> None:
    assert rollout.compare(WANTED, found(change=MARK))["baseline"] == MARK["baseline"]
    good: dict[str, Any] = {"digest": "old", "measured": {"first_token_seconds": 0.1, "tokens_per_second": None}}
    assert rollout.compare(WANTED, found("old", "old"))["baseline"] is None
    baseline = rollout.compare(WANTED, {**found("old", "old"), "good": good})["baseline"]
    assert baseline == {"source": "receipt", "errors": [], **good["measured"]}


HOSTS = [f"gpu{number:02}" for number in range(9)]


@pytest.mark.parametrize(
    ("canary", "batch", "sizes"),
    [
        (1, "25%", [1, 2, 2, 2, 2]),
        (0, "50%", [4, 4, 1]),
        ("2", 3, [2, 3, 3, 1]),
        (1, "1%", [1] * 9),
        (1, "100%", [1, 8]),
        (["gpu03", "gpu01"], "4", [2, 4, 3]),
        (20, 1, [9]),
    ],
)
def test_batches(canary: Any, batch: Any, sizes: list[int]) -> None:
    groups = rollout.batches(HOSTS, [], canary, batch)
    assert [len(group) for group in groups] == sizes
    assert sorted(host for group in groups for host in group) == HOSTS


@given(st.integers(0, 60), st.integers(0, 5), st.one_of(st.integers(1, 60), st.integers(1, 100).map("{}%".format)))
def test_every_host_is_in_one_batch(count: int, canary: int, batch: Any) -> None:
    hosts = [f"gpu{number}" for number in range(count)]
    groups = rollout.batches(hosts, hosts[::3], canary, batch)
    assert sorted(host for group in groups for host in group) == sorted(hosts)
    assert all(groups)


def test_hosts_that_are_out_of_service_already_come_first() -> None:
    assert rollout.batches(HOSTS, ["gpu05"], 1, 4)[0] == ["gpu05"]
    assert rollout.batches(HOSTS, ["gpu05"], ["gpu02"], 4)[:2] == [["gpu02"], ["gpu05", "gpu00", "gpu01", "gpu03"]]


@pytest.mark.parametrize(
    ("canary", "batch", "words"),
    [
        (1, "0%", "rollout_batch is '0%'"),
        (1, "101%", "rollout_batch is '101%'"),
        (1, 0, "rollout_batch is 0"),
        (1, "many", "rollout_batch is 'many'"),
        ("some", 1, "rollout_canary is 'some'"),
        (-1, 1, "rollout_canary is -1"),
        (["nobody"], 1, "rollout_canary names nobody"),
    ],
)
def test_what_is_no_batch(canary: Any, batch: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        rollout.batches(HOSTS, [], canary, batch)


PAIRS = {host: pair for pair in (["gpu00", "gpu05"], ["gpu02", "gpu03"]) for host in pair}


@pytest.mark.parametrize(
    ("canary", "batch", "groups"),
    [
        (1, 1, [[0, 5], [1], [2, 3], [4], [6], [7], [8]]),
        (0, 3, [[0, 5, 1], [2, 3, 4], [6, 7, 8]]),
        (0, 2, [[0, 5], [1, 2, 3], [4, 6], [7, 8]]),
        (["gpu03"], 4, [[2, 3], [0, 5, 1, 4], [6, 7, 8]]),
    ],
)
def test_hosts_of_one_engine_are_in_one_batch(canary: Any, batch: Any, groups: list[list[int]]) -> None:
    found = rollout.batches(HOSTS, [], canary, batch, PAIRS)
    assert found == [[HOSTS[place] for place in group] for group in groups]


def comparison(name: str = "chat", state: str = "change", **more: Any) -> dict[str, Any]:
    """A comparison, as far as a plan reads it."""
    return {"name": name, "state": state, "begun": False, "nodes": [], "changes": [], **more}


def test_who_changes_together() -> None:
    hosts = {host: [comparison(nodes=[*nodes])] for nodes in ("ab", "ef") for host in nodes}
    hosts["b"].append(comparison("embed", nodes=["b", "c"]))
    hosts["c"] = [comparison("embed", nodes=["b", "c"])]
    hosts["d"] = [comparison("alone")]
    hosts["f"] = [comparison(state="same", nodes=["e", "f"])]
    # The second engine brings the hosts of the first along; of the third one host is as it should be, and comes along.
    assert rollout.partners(hosts) == {
        **{host: ["a", "b", "c"] for host in "abc"},
        "d": ["d"],
        "e": ["e"],
    }
    plan = rollout.plan(hosts, 1, 1, {})
    assert plan["batches"] == [["a", "b", "c"], ["e", "f"], ["d"]]
    assert plan["together"]["c"] == ["a", "b", "c"]
    assert plan["alone"] == ["alone", "embed"]
    assert plan["warnings"] == [
        "alone runs on d alone, so nobody answers for it while it is changed.",
        "embed runs on b, c alone, so nobody answers for it while it is changed.",
    ]


def test_a_plan_names_hosts_where_something_changes() -> None:
    plan = rollout.plan(
        {
            "a": [comparison(), comparison("embed", "same")],
            "b": [comparison(state="same")],
            "c": [comparison(state="drained")],
            "d": [comparison(state="unproven", begun=True)],
        },
        1,
        1,
        {},
    )
    assert plan["batches"] == [["d"], ["a"]]
    assert plan["drained"] == ["c"]
    assert plan["alone"] == ["embed"]
    assert plan["warnings"] == []


def test_a_model_that_one_host_alone_has_is_warned_of() -> None:
    plan = rollout.plan({"a": [comparison()]}, 1, 1, {})
    assert plan["warnings"] == ["chat runs on a alone, so nobody answers for it while it is changed."]


def test_what_hosts_outside_of_the_play_serve_is_known() -> None:
    plan = rollout.plan({"a": [comparison()], "b": [comparison()]}, 0, "100%", {"chat": 1})
    assert (plan["batches"], plan["alone"], plan["warnings"]) == ([["a", "b"]], [], [])


@pytest.mark.parametrize(
    ("hosts", "batch", "words"),
    [
        ({"a": [comparison()], "b": [comparison()]}, "100%", "A batch takes all 2 replicas of chat out"),
        (
            {host: [comparison(nodes=[*pair])] for pair in ("ab", "cd") for host in pair},
            "100%",
            r"A batch takes all 2 replicas of chat out of service at once \(a, b, c, d\)",
        ),
    ],
)
def test_what_cannot_be_rolled_out(hosts: dict[str, Any], batch: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        rollout.plan(hosts, 0, batch, {})


def test_an_engine_of_which_a_host_is_not_in_the_play() -> None:
    with pytest.raises(InputError, match="chat runs on a, b as one engine, and b is not in this play"):
        rollout.plan({"a": [comparison(nodes=["a", "b"])]}, 1, "25%", {})


def test_a_host_that_is_as_it_should_be_comes_along_with_its_engine() -> None:
    hosts = {"a": [comparison(nodes=["a", "b"])], "b": [comparison(state="drained", nodes=["a", "b"])]}
    plan = rollout.plan(hosts, 1, "25%", {})
    assert (plan["batches"], plan["drained"]) == ([["a", "b"]], [])
    assert plan["hosts"]["b"][0]["state"] == "unproven"
    assert "runs an engine with a" in plan["hosts"]["b"][0]["changes"][0]["what"]


def states(runs: str | None, good: str, previous: str = "older") -> dict[str, Any]:
    """What an instance runs, and what is kept of it."""
    kept: dict[str, Any] = {"good": {"digest": good}, "previous": {"digest": previous}, "wanted": {"digest": "new"}}
    return comparison(nodes=["a", "b"], runs=runs, **kept)


def test_what_an_engine_comes_back_to_is_the_same_on_all_of_its_hosts() -> None:
    # one of them kept the new already
    hosts = {"a": [states("new", "new", "old")], "b": [states("new", "old")]}
    assert rollout.ways_back(hosts) == {"a": {"chat": ["old"]}, "b": {"chat": ["old"]}}
    # it only does not run
    hosts = {"a": [states(None, "new", "old")], "b": [states(None, "new", "old")]}
    assert rollout.ways_back(hosts) == {"a": {"chat": ["new"]}, "b": {"chat": ["new"]}}
    hosts = {"a": [states("old", "older")], "b": [states("old", "old")]}
    assert rollout.ways_back(hosts) == {"a": {"chat": ["old", "older"]}, "b": {"chat": ["old", "old"]}}


def test_nothing_changes() -> None:
    plan = rollout.plan({host: [comparison(state="same", nodes=["a", "b"])] for host in "ab"}, 1, "25%", {})
    assert (plan["batches"], plan["drained"], plan["warnings"]) == ([], [], [])


BOUNDS = {"max_ttft_ratio": 1.5, "min_tokens_ratio": 0.8, "ttft_slack": 0.1}


def measured(first: float | None = 0.2, rate: float | None = 50.0, errors: tuple[str, ...] = ()) -> dict[str, Any]:
    """What was measured."""
    return {"first_token_seconds": first, "tokens_per_second": rate, "errors": list(errors)}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (measured(), measured(), []),
        (measured(), measured(0.29, 41), []),
        (measured(), measured(0.31), ["1.55 times as long"]),
        (measured(), measured(rate=39), ["0.78 of that"]),
        (measured(), measured(2, 5), ["10.00 times as long", "0.10 of that"]),
        # much longer, and nobody would notice
        (measured(0.004), measured(0.02), []),
        (None, measured(9, 1), []),
        (measured(None, None), measured(9, 1), []),
        (
            measured(),
            measured(errors=("status 500: no",)),
            ["1 of its requests failed, the first with: status 500: no"],
        ),
        (None, {"errors": ["refused"]}, ["1 of its requests failed"]),
    ],
)
def test_verdict(old: dict[str, Any] | None, new: dict[str, Any], words: list[str]) -> None:
    told = rollout.verdict(old, new, BOUNDS)
    assert len(told) == len(words)
    assert all(word in sentence for word, sentence in zip(words, told, strict=True))


def back(problem: str = "", **more: Any) -> dict[str, Any]:
    """A host's answer for a roll-back."""
    previous = {"digest": "old", "release": "0.32.0", "model": "/m", "revision": None, "time": "t", "problem": problem}
    return found(good="new", previous=previous, **more)


def test_what_a_roll_back_does() -> None:
    one = rollout.compare_back("chat", back())
    assert (one["state"], one["problem"]) == ("change", "")
    assert one["changes"][0] == {"what": "release", "from": None, "to": "0.32.0"}


@pytest.mark.parametrize(
    ("hosts", "asked", "words"),
    [
        (
            {"a": [rollout.compare_back("chat", found(good="new"))]},
            (),
            "a: chat cannot be rolled back: no state before",
        ),
        ({"a": [rollout.compare_back("chat", back("its model is gone"))]}, (), "its model is gone"),
        ({"a": [rollout.compare_back("chat", back())]}, ("chet",), "chet runs on none of these hosts"),
        ({"a": []}, (), "There is no instance"),
    ],
)
def test_why_there_is_no_roll_back(hosts: dict[str, Any], asked: tuple[str, ...], words: str) -> None:
    assert words in rollout.back_problems(hosts, asked)[0]


def test_an_engine_goes_back_on_all_of_its_hosts_or_on_none() -> None:
    nodes = {"nodes": ["a", "b"], "node_rank": 1}
    there = {**back()["previous"], **nodes}
    hosts = {
        "a": [rollout.compare_back("chat", found(good="new", previous=there))],
        "b": [rollout.compare_back("chat", {**found(), "good": {"digest": "new", **nodes}})],
    }
    assert (hosts["b"][0]["nodes"], hosts["b"][0]["node_rank"]) == (["a", "b"], 1)
    assert rollout.back_problems(hosts, []) == ["b: chat cannot be rolled back: no state before this one is kept."]
    hosts["b"] = hosts["a"]
    assert rollout.back_problems(hosts, []) == []


def test_of_all_instances_those_go_back_that_can() -> None:
    hosts = {"a": [rollout.compare_back("chat", back())], "b": [rollout.compare_back("chat", found(good="new"))]}
    assert rollout.back_problems(hosts, ()) == []
    assert len(rollout.back_problems(hosts, ("chat",))) == 1
