"""The record of a roll-out on the control node."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import rollout_record
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import files, rollout_file

HOSTS = [f"gpu{number}" for number in range(4)]
STEPS = 25


def begin(path: Path) -> None:
    """Begin a record of some hosts."""
    hosts = {host: [{"name": "chat", "state": "change", "changes": []}] for host in HOSTS}
    record = rollout_record.begin("rollout", [HOSTS], hosts, {}, rollout_file.by(), rollout_file.now())
    files.write(path, rollout_record.text(record))


def write_steps(path: Path, host: str) -> None:
    """Write steps as a process of a play does."""
    for number in range(STEPS):
        rollout_file.changed(path, partial(rollout_record.step, host=host, name="measured", time=str(number)))


def test_no_step_is_lost_of_processes_that_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    begin(path)
    with ProcessPoolExecutor(len(HOSTS)) as pool:
        list(pool.map(write_steps, [path] * len(HOSTS), HOSTS))
    record = rollout_file.read(path)
    for host in HOSTS:
        assert [step["time"] for step in record["hosts"][host]["steps"]] == [str(number) for number in range(STEPS)]


def test_by_default_it_has_the_time_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert rollout_file.target("", "rollback").name.startswith("rollback-2")
    assert rollout_file.target(None, "rollout").parent == tmp_path


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is written when a roll-out begins"):
        rollout_file.read(tmp_path / "none.json")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InputError, match="is no record of a roll-out"):
        rollout_file.changed(tmp_path / "other.json", lambda record: record)
    with pytest.raises(InputError, match="rollout_record is"):
        rollout_file.target(str(tmp_path), "rollout")
