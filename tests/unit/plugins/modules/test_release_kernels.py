"""The module release_kernels on folders as an installer leaves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import kernels
from ansible_collections.gpufleet.vllm.plugins.modules import release_kernels

from tests.unit.plugins.modules.running import run

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A release with NVIDIA's wheels, on a host with a driver and without a toolkit."""
    site = tmp_path / "releases/0.33.0-cuda/lib/python3.12/site-packages"
    for name in ("flashinfer_python-0.7.2.post1", "nvidia_cuda_runtime-13.0.96", "nvidia_cuda_nvcc-13.0.88"):
        (site / f"{name}.dist-info").mkdir(parents=True)
    for name in ("bin/nvcc", "lib/libcudart.so.13"):
        path = site / "nvidia/cu13" / name
        path.parent.mkdir(parents=True)
        path.touch()
    driver = tmp_path / "libcuda.so.1"
    driver.touch()
    monkeypatch.setattr(kernels, "DRIVER_LIBRARIES", (tmp_path / "none", driver))
    monkeypatch.setattr(kernels.read, "__defaults__", (tmp_path / "cuda",))
    made = site.parents[2]
    (made / "release.json").write_text('{"vllm": "0.33.0"}\n')
    return made


def call(capsys: Capture, release: Path, **arguments: Any) -> dict[str, Any]:
    return run(release_kernels, capsys, release=str(release), **arguments)


def test_the_wheels_compiler_is_made_usable_and_written_down(release: Path, capsys: Capture) -> None:
    home = release / "lib/python3.12/site-packages/nvidia/cu13"
    predicted = call(capsys, release, _ansible_check_mode=True)
    assert predicted["changed"]
    assert not (home / "lib64").exists()
    first = call(capsys, release, capabilities=["9.0"])
    assert first["changed"]
    assert first["kernels"]["source"] == "wheels"
    assert (home / "lib64/libcudart.so").resolve() == home / "lib/libcudart.so.13"
    assert (home / "lib64/libcuda.so").resolve() == release.parents[1] / "libcuda.so.1"
    assert json.loads((release / "release.json").read_text()) == {"vllm": "0.33.0", "kernels": first["kernels"]}
    assert kernels.written(release.parents[1]) == {"0.33.0-cuda": first["kernels"]}
    assert not call(capsys, release, capabilities=["9.0"])["changed"]


def test_a_host_without_a_driver_cannot_link(release: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule.warn", lambda _module, text: said.append(text))
    (release.parents[1] / "libcuda.so.1").unlink()
    found = call(capsys, release, problem="They could not be fetched.")
    assert found["kernels"]["source"] == "none"
    assert found["missing"] == ["flashinfer-jit-cache==0.7.2.post1+cu130"]
    assert said == [f"They could not be fetched. {found['kernels']['sentence']}"]


def test_a_toolkit_that_comes_later_is_seen(release: Path, capsys: Capture) -> None:
    (release.parents[1] / "libcuda.so.1").unlink()
    assert call(capsys, release)["kernels"]["source"] == "none"
    toolkit = release.parents[1] / "cuda"
    (toolkit / "bin").mkdir(parents=True)
    (toolkit / "bin/nvcc").touch()
    (toolkit / "version.json").write_text('{"cuda": {"version": "13.0.2"}}')
    again = call(capsys, release)
    assert again["changed"]
    assert again["kernels"]["environment"] == {"CUDA_HOME": str(toolkit)}


def test_prebuilt_kernels_are_read_with_the_kinds_they_are_for(release: Path, capsys: Capture) -> None:
    site = release / "lib/python3.12/site-packages"
    names = ("cubin-0.7.2.post1", "jit_cache-0.7.2.post1+cu130", "jit_cache_sm90a-0.7.2.post1+cu130")
    for name in names:
        (site / f"flashinfer_{name}.dist-info").mkdir()
    metadata = "".join(f"Requires-Dist: flashinfer-jit-cache-{kind}==0.7.2.post1+cu130\n" for kind in ("sm80", "sm90a"))
    (site / f"flashinfer_{names[1]}.dist-info/METADATA").write_text(f"Name: flashinfer-jit-cache\n{metadata}")
    assert call(capsys, release, capabilities=["9.0"])["kernels"]["source"] == "prebuilt"
    assert call(capsys, release, capabilities=["8.0"], state="read")["missing"] == [
        "flashinfer-jit-cache-sm80==0.7.2.post1+cu130"
    ]


def test_a_release_that_is_not_whole_gets_no_mark(release: Path, capsys: Capture) -> None:
    (release / "release.json").unlink()
    call(capsys, release)
    assert not (release / "release.json").exists()
