"""The record of a roll-out."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import rollout_record
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError

CHANGE = {"name": "chat", "state": "change", "changes": [], "wanted": {}, "old": {}}


def record(kind: str = "rollout", **settings: Any) -> dict[str, Any]:
    """A record of four hosts, of which three change in two batches."""
    hosts = {host: [CHANGE] for host in "abc"} | {"d": [{**CHANGE, "state": "same"}]}
    return rollout_record.begin(kind, [["a"], ["b", "c"]], hosts, settings, {"user": "me"}, "t0")


def after(told: dict[str, Any], *steps: tuple[str, ...]) -> dict[str, Any]:
    """The record after steps: host, step, reason."""
    for host, name, *reason in steps:
        told = rollout_record.step(told, host, name, "t", reason[0] if reason else None)
    return told


GOOD = tuple(("a", name) for name in ("begun", "drained", "measured", "switched", "warmed", "verified", "done"))


def test_how_it_begins() -> None:
    told = record()
    assert {host: entry["state"] for host, entry in told["hosts"].items()} == {
        "a": "waiting",
        "b": "waiting",
        "c": "waiting",
        "d": "unchanged",
    }
    assert rollout_record.read(rollout_record.text(told), "x") == told


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema_version": 1}'])
def test_what_is_no_record(text: str) -> None:
    with pytest.raises(InputError, match=r"x.json is no record of a roll-out"):
        rollout_record.read(text, "x.json")


def test_a_step_leaves_the_record_before_as_it_was() -> None:
    told = record()
    assert after(told, ("a", "begun"))["hosts"]["a"]["state"] == "changing"
    assert told == record()


def test_the_next_batch_waits_for_all_of_the_one_before() -> None:
    told = record()
    assert rollout_record.goes_on(told, "a")
    assert not rollout_record.goes_on(told, "b")
    assert not rollout_record.goes_on(told, "d")
    for last in ("begun", "failed", "restored", "not_restored"):
        assert not rollout_record.goes_on(after(told, ("a", last)), "b")
    assert rollout_record.goes_on(after(told, *GOOD), "b")


@pytest.mark.parametrize(("back_out", "expected"), [("all", True), ("failed", False)])
def test_what_was_changed_is_backed_out_when_asked(back_out: str, expected: bool) -> None:
    told = after(record(back_out=back_out), *GOOD)
    assert not rollout_record.to_back_out(told, "a")
    told = after(told, ("b", "begun"), ("b", "failed", "no"), ("b", "restored"))
    assert rollout_record.to_back_out(told, "a") is expected
    assert not rollout_record.to_back_out(told, "b")
    assert not rollout_record.to_back_out(told, "c")


def test_a_lost_host_lets_the_changed_ones_be_backed_out() -> None:
    assert rollout_record.to_back_out(after(record(back_out="all"), *GOOD, ("b", "begun")), "a")


ENDS = [
    ((*GOOD, ("b", "done"), ("c", "done")), "done", ["The roll-out is done: 3 hosts changed."]),
    (
        (("a", "begun"), ("a", "failed", "It died."), ("a", "restored")),
        "stopped",
        ["a: It died.", "Back at the last good state, which serves: a.", "Not begun, and serving as before: b, c."],
    ),
    (
        (
            *(("a", name) for name in ("begun", "drained", "switching")),
            ("a", "failed", "It died."),
            ("a", "not_restored", "So did the old one."),
        ),
        "stopped",
        ["a: It died. Then: So did the old one.", "Not back, out of service, and to be looked at: a."],
    ),
    (
        (*GOOD, ("b", "begun"), ("b", "drained"), ("c", "done")),
        "stopped",
        ["b: It could not be reached any more after the step drained.", "Lost while being changed", "serving: a, c."],
    ),
    (
        (("a", "begun"), ("a", "failed", "It died.")),
        "stopped",
        ["a: It died.", "Lost while being changed"],
    ),
]


@pytest.mark.parametrize(("steps", "state", "sentences"), ENDS)
def test_how_it_ends(steps: Any, state: str, sentences: list[str]) -> None:
    told = rollout_record.conclude(after(record(), *steps), "t9")
    assert (told["state"], told["finished"]) == (state, "t9")
    for sentence in sentences:
        assert sentence in rollout_record.sentence(told)


def test_a_roll_back_is_called_one() -> None:
    told = after(record("rollback"), *GOOD, ("b", "done"), ("c", "done"))
    assert rollout_record.sentence(rollout_record.conclude(told, "t")) == "The roll-back is done: 3 hosts changed."


def test_what_was_learnt_of_an_instance() -> None:
    told = rollout_record.step(record(), "a", "verified", "t", None, {"chat": {"after": {"errors": []}, "worse": []}})
    assert told["hosts"]["a"]["instances"]["chat"]["after"] == {"errors": []}
    assert told["hosts"]["a"]["instances"]["chat"]["before"] is None


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ({"msg": "It died.\nLast lines of the journal:\nx"}, "It died."),
        (
            {"msg": "One or more items failed", "results": [{"msg": "well"}, {"failed": True, "msg": "It died.\nx"}]},
            "It died.",
        ),
        ({"msg": "no list", "results": []}, "no list"),
        ({}, "A task failed without a message; see the output of the play."),
    ],
)
def test_why_a_task_failed(failure: dict[str, Any], reason: str) -> None:
    assert rollout_record.reason_of(failure) == reason
