"""What packages say of AMD's driver and ROCm."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import host_software, rocm_software
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("version", "own", "driver", "rocm"),
    [
        ("1:6.16.13.30300300-2325413.24.04", "6.16.13", "30.30.3", None),
        ("1:6.14.14.30100000-2193512.el9", "6.14.14", "30.10.0", None),
        ("7.2.4.70204-93~24.04", "7.2.4", None, "7.2.4"),
        ("26.2.0.70000-17.el9", "26.2.0", None, "7.0.0"),
        ("1.0.0.100001-1", "1.0.0", None, "10.0.1"),
        # of the distribution, or of nobody
        ("5.7.1-3", "5.7.1", None, None),
        ("4.1.6-7ubuntu2", "4.1.6", None, None),
        ("6.1.158-1", "6.1.158", None, None),
        ("1.3.4.20200120-3.1", "1.3.4.20200120", None, None),
        ("20230311+deb12u1", "20230311", None, None),
        ("", "", None, None),
    ],
)
def test_a_version_is_taken_apart(version: str, own: str, driver: str | None, rocm: str | None) -> None:
    assert rocm_software.code_of(version) == rocm_software.Code(own, driver, rocm)


@given(st.text(max_size=30))
def test_any_text_has_a_version(text: str) -> None:
    found = rocm_software.code_of(text)
    assert found.driver is None or found.rocm is None


def test_packages_are_known_by_name_or_by_release() -> None:
    text = "".join(
        f"{name}\t{version}\thold\tinstalled\t7\n"
        for name, version in (
            ("amdgpu-dkms", "1:6.16.13.30300300-1.24.04"),
            ("llvm-amdgpu", "20.0.70203-90~24.04"),
            ("linux-headers-6.8.0-88-generic", "6.8.0-88.89"),
            ("vim", "2:9.1.0016-1"),
            ("rocket", "1.0-1"),
        )
    )
    found = host_software.parse_dpkg(text, rocm_software.is_amd)
    assert set(found) >= {"amdgpu-dkms", "llvm-amdgpu", "linux-headers-6.8.0-88-generic"}
    assert "vim" not in found


@pytest.mark.parametrize(
    ("packages", "info", "version"),
    [
        ({"rocm-core": {"version": "7.2.3.70203-90~24.04"}}, "6.4.1-1", "7.2.3"),
        ({}, "7.2.1-81\n", "7.2.1"),
        ({}, "7.2", "7.2"),
        ({}, "", None),
        ({}, "nonsense", None),
    ],
)
def test_the_version_of_rocm(packages: dict[str, dict[str, str]], info: str, version: str | None) -> None:
    assert rocm_software.installed_rocm(packages, info) == version
