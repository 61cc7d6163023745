"""What of a snapshot is in a cache, and whether it is right."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.hub_cache import Snapshot, matches

from tests.hub_stand_in import git_digest

COMMIT = "c" * 40
CONTENT = {"config.json": b"{}", "model.safetensors": b"weights" * 1000, "sub/extra.json": b"[]"}


def described(name: str) -> dict[str, Any]:
    content = CONTENT[name]
    large = name.endswith(".safetensors")
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return {
        "path": name,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest() if large else None,
        "blob_id": None if large else git,
    }


FILES = [described(name) for name in CONTENT]


def fetch(cache: Path, *names: str) -> None:
    """Put files into the cache as huggingface_hub does."""
    folder = cache / "models--org--name"
    for name in names:
        blob = folder / "blobs" / hashlib.sha256(name.encode()).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(CONTENT[name])
        link = folder / "snapshots" / COMMIT / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    """A snapshot of which nothing is there yet."""
    return Snapshot(str(tmp_path), "org/name", COMMIT, FILES)


def test_nothing_is_there(snapshot: Snapshot) -> None:
    state = snapshot.state()
    assert state.missing == list(CONTENT)
    assert state.missing_bytes == state.total_bytes == sum(map(len, CONTENT.values()))
    assert snapshot.present_bytes() == 0


def test_what_is_there_is_compared_once(tmp_path: Path, snapshot: Snapshot) -> None:
    fetch(tmp_path, *CONTENT)
    state = snapshot.state()
    assert (state.missing, state.unverified) == ([], list(CONTENT))
    assert snapshot.verify(state.unverified, 60) == (list(CONTENT), [])
    assert snapshot.state().unverified == []
    assert snapshot.state(trust=False).unverified == list(CONTENT)


def test_comparing_stops_when_time_is_over_and_goes_on(tmp_path: Path, snapshot: Snapshot) -> None:
    fetch(tmp_path, *CONTENT)
    left = list(CONTENT)
    for count in (2, 1, 0):
        done, wrong = snapshot.verify(left, 0)
        assert (len(done), wrong) == (1, [])
        left = snapshot.state().unverified
        assert len(left) == count


@pytest.mark.parametrize("name", list(CONTENT))
def test_a_changed_file_is_found_and_dropped(tmp_path: Path, snapshot: Snapshot, name: str) -> None:
    fetch(tmp_path, *CONTENT)
    snapshot.verify(list(CONTENT), 60)
    blob = (snapshot.path / name).resolve()
    blob.write_bytes(bytes([CONTENT[name][0] ^ 1]) + CONTENT[name][1:])
    assert snapshot.state().unverified == [name]
    assert snapshot.verify([name], 60) == ([name], [name])
    snapshot.drop([name])
    assert not blob.exists()
    assert snapshot.state().missing == [name]
    assert snapshot.state().missing_bytes == len(CONTENT[name])


def test_a_file_of_another_size_is_missing(tmp_path: Path, snapshot: Snapshot) -> None:
    fetch(tmp_path, *CONTENT)
    (snapshot.path / "config.json").resolve().write_bytes(b"{")
    assert snapshot.state().missing == ["config.json"]


def test_another_digest_of_the_hub_asks_for_a_new_comparison(tmp_path: Path, snapshot: Snapshot) -> None:
    fetch(tmp_path, *CONTENT)
    snapshot.verify(list(CONTENT), 60)
    other = [{**file, "blob_id": "0" * 40} if file["blob_id"] else file for file in FILES]
    again = Snapshot(str(tmp_path), "org/name", COMMIT, other)
    assert again.state().unverified == ["config.json", "sub/extra.json"]


def test_leftovers_are_swept_and_counted(tmp_path: Path, snapshot: Snapshot) -> None:
    fetch(tmp_path, "config.json")
    left = tmp_path / "models--org--name/blobs/abc.1234.incomplete"
    left.write_bytes(b"12345")
    assert snapshot.present_bytes() == 7
    assert snapshot.sweep() == 5
    assert not left.exists()
    assert snapshot.present_bytes() == 2


def test_git_s_digest_is_that_of_git(tmp_path: Path) -> None:
    """The digest of a file with "hello" and a new line, from git hash-object."""
    file = tmp_path / "hello"
    file.write_bytes(b"hello\n")
    known = "ce013625030ba8dba906f756967f9e9ca394464a"
    assert git_digest(file) == known
    assert matches(file, {"size": 6, "sha256": None, "blob_id": known})
    assert not matches(file, {"size": 6, "sha256": None, "blob_id": "0" * 40})
    assert not matches(file, {"size": 7, "sha256": None, "blob_id": known})
    assert matches(file, {"size": 6, "sha256": None, "blob_id": None})


def test_what_a_strange_link_leads_to_stays(tmp_path: Path, snapshot: Snapshot) -> None:
    fetch(tmp_path, *CONTENT)
    victim = tmp_path / "victim"
    victim.write_text("x")
    link = snapshot.path / "config.json"
    link.unlink()
    link.symlink_to(victim)
    snapshot.drop(["config.json"])
    assert victim.exists()
    assert not link.is_symlink()


def test_the_record_follows_no_link(tmp_path: Path, snapshot: Snapshot) -> None:
    fetch(tmp_path, *CONTENT)
    victim = tmp_path / "victim"
    victim.write_text("x")
    for name in (snapshot.record_path.name, snapshot.record_path.with_suffix(".part").name):
        (snapshot.folder / name).symlink_to(victim)
    snapshot.verify(list(CONTENT), 60)
    assert victim.read_text() == "x"
    assert set(snapshot.record()) == set(CONTENT)
