"""What a virtual environment says of itself, read from folders as uv leaves them."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import wheel_records


def package(folder: Path, name: str, files: dict[str, str], *, installer: bool = True, record: bool = True) -> Path:
    """Install a package as uv does."""
    info = folder / f"{name}.dist-info"
    info.mkdir(parents=True)
    (info / "WHEEL").write_text("Wheel-Version: 1.0\n")
    rows = []
    for file, text in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
        rows.append(f'"{file}",sha256=x,{len(text)}\n')
    rows.append(f"{name}.dist-info/RECORD,,\n")
    if record:
        (info / "RECORD").write_text("".join(rows))
    if installer:
        (info / "INSTALLER").write_text("uv")
    return info


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "lib/python3.11/site-packages"
    package(found, "one-1.0", {"one/a.py": "text", "../../../bin/one": "#!"})
    package(found, "Two_Parts-2.0.post1", {"two/b, c.py": "text"})
    return found


def test_a_whole_environment(tmp_path: Path, folder: Path) -> None:
    assert wheel_records.site_packages(tmp_path) == folder
    found = wheel_records.packages(folder)
    assert (sorted(found.names), found.files) == (["one", "two-parts"], 5)
    assert (found.shared, found.incomplete) == ({}, {})


def test_the_second_owner_of_a_file_is_found(folder: Path) -> None:
    """By their shapes: the last writer decides the size, and neither package counts as written by half."""
    package(folder, "other-1", {"one/a.py": "a longer text"})
    (folder / "one/a.py").write_text("s")
    found = wheel_records.packages(folder)
    assert found.shared == {"one/a.py": ["one", "other"]}
    assert found.incomplete == {}


@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_a_package_whose_file_is_not_there(folder: Path, damage: str) -> None:
    file = folder / "one/a.py"
    file.unlink() if damage == "missing" else file.write_text("te")
    assert list(wheel_records.packages(folder).incomplete) == ["one"]


def test_a_file_may_be_longer_than_its_wheel_says(folder: Path) -> None:
    (folder / "one/a.py").write_text("repaired by a tool")
    assert wheel_records.packages(folder).incomplete == {}


@pytest.mark.parametrize(("installer", "record"), [(False, True), (True, False), (False, False)])
def test_a_package_that_the_installer_had_not_finished(folder: Path, installer: bool, record: bool) -> None:
    info = package(folder, "half-3", {"half.py": "text"}, installer=installer, record=record)
    assert wheel_records.packages(folder).incomplete == {"half": info}


def test_a_name_alone_is_no_package(folder: Path) -> None:
    (folder / "vllm-0.32.0+cpu.dist-info").mkdir()
    (folder / "vllm-0.32.0+cpu.dist-info/METADATA").write_text("Name: vllm\n")
    found = wheel_records.packages(folder)
    assert "vllm" not in found.names
    assert found.incomplete == {}


def test_no_environment(tmp_path: Path) -> None:
    assert wheel_records.site_packages(tmp_path) is None
