"""Files, links and folders that a module brings about."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.written import Writer


def wanted(writer: Writer, root: Path) -> None:
    writer.folder(root / "etc")
    writer.text(root / "etc/a.yaml", "size: 2\n")
    writer.link(root / "etc/current", "../releases/2")
    writer.absent(root / "etc/old")


def before(root: Path) -> None:
    (root / "etc").mkdir(mode=0o755)
    (root / "etc/a.yaml").write_text("size: 1\n")
    (root / "etc/a.yaml").chmod(0o644)
    (root / "etc/current").symlink_to("../releases/1")
    (root / "etc/old").write_text("gone\n")


def test_each_change_is_made_once_and_shown(tmp_path: Path) -> None:
    before(tmp_path)
    writer = Writer(check=False)
    wanted(writer, tmp_path)
    assert (tmp_path / "etc/a.yaml").read_text() == "size: 2\n"
    assert (tmp_path / "etc/a.yaml").stat().st_mode & 0o777 == 0o644
    assert str((tmp_path / "etc/current").readlink()) == "../releases/2"
    assert not (tmp_path / "etc/old").exists()
    assert [(one["before"], one["after"]) for one in writer.diffs] == [
        ("size: 1\n", "size: 2\n"),
        ("-> ../releases/1\n", "-> ../releases/2\n"),
        ("gone\n", ""),
    ]
    again = Writer(check=False)
    wanted(again, tmp_path)
    assert (again.changed, again.diffs) == ([], [])


def test_check_mode_says_the_same_and_does_nothing(tmp_path: Path) -> None:
    before(tmp_path)
    predicted = Writer(check=True)
    wanted(predicted, tmp_path)
    assert (tmp_path / "etc/a.yaml").read_text() == "size: 1\n"
    assert (tmp_path / "etc/old").exists()
    writer = Writer(check=False)
    wanted(writer, tmp_path)
    assert (predicted.changed, predicted.diffs) == (writer.changed, writer.diffs)


def test_a_bare_host(tmp_path: Path) -> None:
    predicted, writer = Writer(check=True), Writer(check=False)
    for one in (predicted, writer):
        wanted(one, tmp_path)
    assert predicted.changed == writer.changed == [f"{tmp_path}/etc{part}" for part in ("", "/a.yaml", "/current")]
    assert writer.diffs[0]["before"] == "absent\n"
    assert writer.touched(tmp_path / "etc")
    assert not writer.touched(tmp_path / "usr")


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_a_mode_that_somebody_changed_is_put_right(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a"
    path.write_text("x\n")
    path.chmod(mode)
    writer = Writer(check=False)
    writer.text(path, "x\n")
    assert path.stat().st_mode & 0o777 == 0o644
    (told,) = writer.diffs
    assert (told["before"], told["after"]) == (f"mode {mode:04o}\nx\n", "mode 0644\nx\n")


def test_a_folder_goes_with_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "cache/deep").mkdir(parents=True)
    (tmp_path / "cache/deep/file").write_text("x")
    (tmp_path / "link").symlink_to("cache")
    writer = Writer(check=False)
    writer.absent(tmp_path / "link")
    assert (tmp_path / "cache/deep/file").exists()
    writer.absent(tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []
