"""Which snapshots a host needs, and whether they fit."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.snapshots import GIB, disk_problems, snapshots

FILE = {"path": "config.json", "size": 2, "sha256": None, "blob_id": "a"}


def layout(name: str, model: str = "org/name", revision: str = "c0", origin: str = "hub") -> dict[str, Any]:
    return {"name": name, "model": model, "revision": revision, "origin": origin}


def test_each_commit_is_listed_once() -> None:
    wanted = [
        layout("a"),
        layout("b"),
        layout("c", revision="c1"),
        layout("d", model="/srv/x", origin="path"),
        layout("e", model="/var/x", origin="copy"),
    ]
    found = snapshots(wanted, {"b": [FILE], "c": []})
    assert [(one["model"], one["revision"], one["instances"]) for one in found] == [
        ("org/name", "c0", ["a", "b"]),
        ("org/name", "c1", ["c"]),
    ]
    assert [one["files"] for one in found] == [[FILE], None]


@pytest.mark.parametrize(
    ("missing", "free", "fits"),
    [
        ([0], 0, True),
        ([10 * GIB], 11 * GIB, True),
        ([10 * GIB], 11 * GIB - 1, False),
        ([6 * GIB, 6 * GIB], 12 * GIB, False),
        ([6 * GIB, 0], 8 * GIB, True),
        ([], 0, True),
    ],
)
def test_disk(missing: list[int], free: int, fits: bool) -> None:
    wanted = [
        {"model": f"org/m{place}", "missing_bytes": count, "free_bytes": free} for place, count in enumerate(missing)
    ]
    found = disk_problems(wanted, "/var/lib/vllm/hub")
    assert bool(found) is not fits
    if found:
        assert f"org/m0 ({missing[0] / GIB:.1f} GiB)" in found[0]
        assert f"/var/lib/vllm/hub has {free / GIB:.1f} GiB free." in found[0]
