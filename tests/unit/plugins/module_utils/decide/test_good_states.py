"""States that an instance can come back to."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import good_states

from tests.unit.samples import CHECKOUT

SETTINGS = """\
# Written by Ansible (gpufleet.vllm.serve); changes made here are lost.
host: 0.0.0.0
max-model-len: 512
model: /srv/models/first
port: 8001
served-model-name:
- chat
"""


def state(digest: str = "one", receipt: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A state as it is captured."""
    environment = f'# Written\nGPUFLEET_DIGEST={digest}\nA="b"\n'
    files = {"/etc/vllm/chat.yaml": SETTINGS, "/etc/vllm/chat.env": environment}
    return {
        **good_states.capture("chat", files, SETTINGS, environment, "0.33.0-cuda", "files", None, receipt, "now"),
        **more,
    }


def test_what_is_captured() -> None:
    found = state()
    assert (found["digest"], found["release"], found["model"]) == ("one", "0.33.0-cuda", "/srv/models/first")
    assert found["layout"]["port"] == 8001
    assert found["layout"]["serve_args"] == {"max-model-len": 512}
    assert good_states.read(good_states.text(found)) == found


def test_a_state_of_an_unknown_layout_has_what_the_warm_up_asks_for() -> None:
    tasks = (CHECKOUT / "roles/warmup/tasks/main.yml").read_text(encoding="utf-8")
    asked = set(re.findall(r"\{\{[^}]*\b__warmup_layout\.(\w+)", tasks))
    assert "port" in asked
    assert asked <= state()["layout"].keys()


@pytest.mark.parametrize("text", [None, "", "[]", "{", '{"schema_version": 0}'])
def test_what_is_no_state(text: str | None) -> None:
    assert good_states.read(text) is None


def test_a_state_with_the_unit_of_an_earlier_version_does_not_give_the_folder_away() -> None:
    old = "[Service]\n{}=vllm{}\nCacheDirectory=vllm/%i\n{}=%S/vllm{}\nStateDirectory=vllm-x\n"
    texts = {"/unit": old.format("StateDirectory", "", "WorkingDirectory", ""), "/settings": "model: vllm\n"}
    found = good_states.read(good_states.text({**state(), "files": texts}))
    assert found is not None
    now = old.format("StateDirectory", "/work", "WorkingDirectory", "/work")
    assert found["files"] == {"/unit": now, "/settings": "model: vllm\n"}
    assert good_states.read(good_states.text(found)) == found


def test_the_first_state_has_none_before_it() -> None:
    assert good_states.rotated(None, None, state()) == (state(), None)


def test_a_new_state_pushes_the_old_one_back() -> None:
    assert good_states.rotated(state("one"), state("zero"), state("two")) == (state("two"), state("one"))


def test_the_same_state_is_written_once() -> None:
    old = state(time="then", receipt={"warmup": {}})
    assert good_states.rotated(old, state("zero"), state()) == (old, state("zero"))


def test_a_new_receipt_of_the_same_state_takes_its_place() -> None:
    new = state(receipt={"warmup": {"tokens_per_second": 2.0}})
    assert good_states.rotated(state(receipt={"warmup": {}}), None, new) == (new, None)


@pytest.mark.parametrize(
    ("given", "there", "words"),
    [
        (None, (True, True, None), "there is none"),
        (state(), (False, True, "files"), "its release 0.33.0-cuda is not there any more"),
        (state(), (True, False, None), "its model /srv/models/first is not there any more"),
        (state(), (True, True, "others"), "the files in /srv/models/first are not those"),
        (
            state(model_digest=None, model="org/model", revision="abc"),
            (True, False, None),
            "its model org/model at abc",
        ),
    ],
)
def test_why_an_instance_cannot_go_back(given: dict[str, Any] | None, there: tuple[Any, ...], words: str) -> None:
    assert words in good_states.problem(given, *there)


def test_an_instance_that_can_go_back() -> None:
    assert good_states.problem(state(), True, True, "files") == ""
    assert good_states.problem(state(model_digest=None, model="org/model"), True, True, None) == ""


def test_what_states_need_is_in_use() -> None:
    hub = state(model="org/model", revision="abc")
    assert good_states.releases([state(), hub]) == {"0.33.0-cuda"}
    assert good_states.commits([state(), hub]) == {("org/model", "abc")}


def test_the_first_wanted_state_that_is_kept_is_chosen() -> None:
    kept = [{"digest": "new"}, None, {"digest": "old"}]
    assert good_states.chosen(kept, ["gone", "old", "new"]) == {"digest": "old"}
    assert good_states.chosen(kept, ["gone"]) is None


WHOLE = good_states.capture("chat", {"/a": "b"}, "model: m", "GPUFLEET_DIGEST=d", "r", None, None, None, "now")


@pytest.mark.parametrize("key", [key for key in WHOLE if key not in ("name", "schema_version")])
@pytest.mark.parametrize("value", [5, [1], "gone"])
def test_a_state_that_is_damaged_anywhere_counts_as_missing(key: str, value: Any) -> None:
    found = {**WHOLE, key: value}
    if value == "gone":
        del found[key]
    assert good_states.read(json.dumps(WHOLE)) == WHOLE
    assert good_states.read(json.dumps(found)) is None


@pytest.mark.parametrize("nodes", [[1], [{}], 3])
def test_a_state_whose_hosts_are_damaged_counts_as_missing(nodes: Any) -> None:
    assert good_states.read(json.dumps({**WHOLE, "layout": {"nodes": nodes}})) is None


@pytest.mark.parametrize("text", ["80a", "", "-1", None])
def test_a_number_of_damaged_settings_is_as_if_it_were_not_there(text: str | None) -> None:
    assert good_states.number(text, 8000) == 8000
    assert good_states.layout_of("chat", f"port: {text}\n")["port"] == 8000


def test_half_of_a_change_does_not_become_a_good_state() -> None:
    path = "/etc/vllm/chat.yaml"
    good = state(files={path: "a: 1\n", "/units/x.conf": "old"})
    new = {**good, "files": {path: "a: 2\n", "/units/x.conf": "new"}, "time": "later", "model": "other"}
    kept, previous = good_states.rotated(good, None, new)
    assert kept["files"] == {path: "a: 1\n", "/units/x.conf": "new"}
    assert (kept["model"], previous) == (good["model"], None)
