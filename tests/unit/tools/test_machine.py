from __future__ import annotations

from pathlib import Path

import pytest

from tools.nodes.errors import NodeError
from tools.nodes.machine import Bind, Machine, control_groups, in_control_group, nspawn_argv, parse_bind

MACHINE = Machine("gf0123456789", "n1", Path("/r/n1"), Path("/r/n1.log"), "gf-x", "bookworm", (Bind("/a", "/b", True),))

HYBRID_MOUNTS = """\
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
"""
UNIFIED_MOUNTS = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.mark.parametrize(
    ("own", "mounts", "expected"),
    [
        (
            "9:name=systemd:/\n4:memory:/job\n0::/\n",
            HYBRID_MOUNTS,
            ["/sys/fs/cgroup/systemd/gpufleet/m", "/sys/fs/cgroup/unified/gpufleet/m"],
        ),
        ("0::/docker/abc\n", UNIFIED_MOUNTS, ["/sys/fs/cgroup/docker/abc/gpufleet/m"]),
        ("4:memory:/\n", HYBRID_MOUNTS, []),
        ("", "", []),
    ],
)
def test_control_groups(own: str, mounts: str, expected: list[str]) -> None:
    assert control_groups(own, mounts, "m") == expected


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [
        ("9:name=systemd:/gpufleet/gf1/payload/init.scope\n0::/\n", True),
        ("0::/machine.slice/gf1.scope/payload\n", True),
        ("0::/gpufleet/gf12/payload\n", False),
        ("0::/\n", False),
        ("", False),
    ],
)
def test_in_control_group(cgroup: str, expected: bool) -> None:
    assert in_control_group(cgroup, "gf1") is expected


def test_nspawn_keeps_its_unit_only_without_systemd() -> None:
    assert "--keep-unit" in nspawn_argv(MACHINE, systemd=False)
    assert "--keep-unit" not in nspawn_argv(MACHINE, systemd=True)


def test_nspawn_is_told_the_host_name_and_the_binds() -> None:
    argv = nspawn_argv(MACHINE, systemd=True)
    assert "--hostname=n1" in argv
    assert argv[-1] == "--bind-ro=/a:/b"


def test_a_colon_in_a_path_is_escaped() -> None:
    assert Bind("/a:b\\c", "/d").argument == "--bind=/a\\:b\\\\c:/d"


def test_parse_bind(tmp_path: Path) -> None:
    assert parse_bind(f"{tmp_path}:/srv") == Bind(str(tmp_path), "/srv")
    assert parse_bind(f"{tmp_path}:/srv:ro") == Bind(str(tmp_path), "/srv", True)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("/a", "is not SRC:DST or SRC:DST:ro"),
        ("/a:/b:rw", "is not SRC:DST or SRC:DST:ro"),
        ("/a:/b:ro:x", "is not SRC:DST or SRC:DST:ro"),
        ("a:/b", "write both paths from the root"),
        ("/a:b", "write both paths from the root"),
        ("/does/not/exist:/b", "/does/not/exist does not exist on this machine"),
    ],
)
def test_a_bad_bind_is_met_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(NodeError, match=sentence):
        parse_bind(text)
