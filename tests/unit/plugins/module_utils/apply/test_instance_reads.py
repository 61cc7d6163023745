"""What an instance reads when it starts, and the mounts that it may lie on."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import instance_reads
from hypothesis import given
from hypothesis import strategies as st

LAYOUT: dict[str, Any] = {"name": "chat", "model": "org/chat", "revision": "abc", "serve_args": {}, "environment": {}}


def files(**fields: Any) -> list[str]:
    return instance_reads.reads({**LAYOUT, **fields}, "/opt/vllm/", "/var/lib/vllm/hub")["files"]


def mounts(**fields: Any) -> list[str]:
    return instance_reads.reads({**LAYOUT, **fields}, "/opt/vllm", "/nfs/hub")["mounts"]


@pytest.mark.parametrize(
    ("fields", "config"),
    [
        ({}, ["/var/lib/vllm/hub/models--org--chat/snapshots/abc/config.json"]),
        ({"model": "/srv/m/"}, ["/srv/m/config.json"]),
        # it fetches by itself what is not there
        ({"environment": {"HF_HUB_OFFLINE": "0"}}, []),
        ({"revision": None}, []),
    ],
)
def test_the_files_that_have_to_be_there(fields: dict[str, Any], config: list[str]) -> None:
    assert files(**fields) == ["/opt/vllm/instances/chat/bin/vllm", *config]


def test_what_options_and_variables_name_may_be_mounted_too() -> None:
    more = {"serve_args": {"tokenizer": "/t", "max-model-len": 7}, "environment": {"A": "/e/f", "B": "x/y"}}
    assert mounts(**more) == [
        *("opt.mount", "opt-vllm.mount", "nfs.mount", "nfs-hub.mount", "t.mount", "e.mount", "e-f.mount")
    ]
    assert mounts(model="/srv/m") == ["opt.mount", "opt-vllm.mount", "srv.mount", "srv-m.mount"]


@pytest.mark.parametrize("path", ["/", "//", "relative", "/a/../b", "/etc", ""])
def test_what_needs_no_mount(path: str) -> None:
    assert [unit for unit in instance_reads.mount_units([path]) if unit != "relative.mount"] == []


@pytest.mark.skipif(not shutil.which("systemd-escape"), reason="this machine has no systemd-escape")
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1).filter(
            lambda part: part not in (".", "..")
        ),
        min_size=1,
        max_size=3,
    )
)
def test_a_path_is_written_as_systemd_writes_it(parts: list[str]) -> None:
    path = "/" + "/".join(parts)
    done = subprocess.run(["systemd-escape", "--path", "--", path], capture_output=True, check=False)
    if done.returncode:
        # longer than the name of a unit may be
        return
    assert instance_reads.escaped(path) == done.stdout.decode().removesuffix("\n")
