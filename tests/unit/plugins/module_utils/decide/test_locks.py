"""What is pinned, which list a host gets, and what is said of a release whose files are not as they should be."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import locks


@pytest.mark.parametrize(
    ("version", "variant", "pinned"),
    [
        ("0.33.0", "cuda", True),
        ("0.20.1", "cuda", True),
        ("0.19.0", "cuda", False),
        ("0.33.0", "cpu", False),
        ("0.31.0", "rocm", False),
        ("latest", "cuda", False),
    ],
)
def test_the_packages_of_cuda_13_are_kept_together(version: str, variant: str, pinned: bool) -> None:
    found = locks.constraints(version, variant)
    assert ("cuda-python>=13" in found) is pinned
    assert ("nvidia-cuda-nvcc==13.0.*" in found) is pinned
    assert bool(found) is pinned


@pytest.mark.parametrize(
    ("python", "machine", "name"),
    [
        ("3.11.2", "x86_64", "0.33.0-cuda-py3.11-x86_64.txt"),
        ("3.13.0rc1", "aarch64", "0.33.0-cuda-py3.13-aarch64.txt"),
        (None, "x86_64", ""),
        ("3.12.1", None, ""),
        ("3", "x86_64", ""),
    ],
)
def test_the_list_of_a_host(python: str | None, machine: str | None, name: str) -> None:
    assert locks.lock_name("0.33.0", "cuda", python, machine) == name


def test_a_file_of_two_packages_matters_unless_nothing_imports_it() -> None:
    harmless = {"build_backend.py": ["flashinfer-python", "torch-c-dlpack-ext"]}
    broken = {"cuda/bindings/runtime.pyx": ["cuda-bindings", "cuda-python"]}
    assert locks.harmful({**harmless, **broken}) == broken
    assert locks.harmful({"build_backend.py": ["flashinfer-python", "other"]})


def test_the_sentences() -> None:
    assert locks.file_problems("/r", {}, []) == []
    shared, half = locks.file_problems("/r", {"a.py": ["one", "two"], "b.py": ["one", "two"]}, ["torch"])
    assert shared.startswith("2 files of /r are of more than one package, such as a.py (one and two);")
    assert "remove /r" in shared
    assert half.startswith("/r was written by half: files of torch are missing or were cut off.")
