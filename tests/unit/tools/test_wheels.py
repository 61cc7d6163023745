from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path

import pytest

from tools.lab import wheels
from tools.lab.machine import LabError


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """An installed package as uv leaves it: a script, a compiled file and uv's own notes beside its files."""
    folder = tmp_path / "site"
    texts = {
        "my_package/__init__.py": "ONE = 1\n",
        "my_package/data, with comma.txt": "x\n",
        "my_package-1.2.dist-info/METADATA": "Name: my-package\n",
        "my_package-1.2.dist-info/WHEEL": "".join(
            f"Tag: cp312-cp312-{platform}_x86_64\n" for platform in ("manylinux_2_17", "manylinux2014")
        ),
        "my_package-1.2.dist-info/INSTALLER": "uv",
        "my_package/__pycache__/__init__.cpython-312.pyc": "",
    }
    lines = []
    for place, text in texts.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        sha = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        lines.append(f'"{place}",sha256={sha},{len(text)}' if "," in place else f"{place},sha256={sha},{len(text)}")
    lines += ["my_package-1.2.dist-info/RECORD,,", "../../../bin/my,sha256=x,1"]
    (folder / "my_package-1.2.dist-info/RECORD").write_text("\n".join(lines) + "\n")
    return folder


def test_a_package_is_packed_again_without_what_its_installer_added(site: Path, tmp_path: Path) -> None:
    wheel = wheels.repack(site, "My.Package", tmp_path)
    assert wheel.name == "My_Package-1.2-cp312-cp312-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        record = archive.read("my_package-1.2.dist-info/RECORD").decode()
    assert sorted(names) == [
        "my_package-1.2.dist-info/METADATA",
        "my_package-1.2.dist-info/RECORD",
        "my_package-1.2.dist-info/WHEEL",
        "my_package/__init__.py",
        "my_package/data, with comma.txt",
    ]
    assert len(record.splitlines()) == len(names)
    assert "my_package-1.2.dist-info/RECORD,," in record.splitlines()


def test_a_package_that_is_not_there_is_said(site: Path, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="0 installed packages called torch"):
        wheels.repack(site, "torch", tmp_path)


def test_the_list_has_each_package_once_with_its_hash(tmp_path: Path) -> None:
    for release in ("Flash_Infer-0.7.post1", "ansible_core-2.19", "a-1"):
        (tmp_path / f"{release}-py3-none-any.whl").write_bytes(f"{release}-py3-none-any.whl".encode())
    listed = wheels.write_list(tmp_path).read_text().splitlines()
    digest = hashlib.sha256(b"Flash_Infer-0.7.post1-py3-none-any.whl").hexdigest()
    assert [line.split("==")[0] for line in listed] == ["a", "flash-infer"]
    assert listed[1] == f"flash-infer==0.7.post1 --hash=sha256:{digest}"


def test_two_wheels_of_one_package_are_refused() -> None:
    with pytest.raises(LabError, match="two wheels of a-b"):
        wheels.requirements([("a_b-1-py3-none-any.whl", "0"), ("a.b-2-py3-none-any.whl", "0")])


@pytest.mark.parametrize("name", ["requirements.txt", "a-1.whl", "a-1-py3-none-any.whl.part"])
def test_what_is_no_wheel_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="not the name of a wheel"):
        wheels.named(name)


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="has no wheels"):
        wheels.write_list(tmp_path)
    with pytest.raises(LabError, match="no wheel of uv"):
        wheels.installer(tmp_path, tmp_path / "uv")


def test_the_installer_is_taken_out_of_its_wheel(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "uv-0.13.9-py3-none-any.whl", "w") as archive:
        archive.writestr("uv-0.13.9.data/scripts/uv", "#!/bin/sh\n")
    program = wheels.installer(tmp_path, tmp_path / "uv")
    assert program.read_text() == "#!/bin/sh\n"
    assert program.stat().st_mode & 0o111
