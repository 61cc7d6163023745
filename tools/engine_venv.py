#!/usr/bin/env python3
"""Make a virtual environment with the CPU build of vLLM that the role engine installs, or reuse it.

It lies in the cache folder, beside the wheels that it is linked to, and serves every checkout.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.nodes.errors import NodeError
from tools.nodes.image import cache_folder
from tools.nodes.registries import PipSettings
from tools.nodes.root import deployment_variables, read_pip_settings
from tools.steps import stream

CHECKOUT = Path(__file__).resolve().parent.parent
VARIANT = "cpu"


def engine_variables() -> dict[str, Any]:
    """What the role engine knows of the builds of vLLM."""
    text = (CHECKOUT / "roles/engine/vars/main.yml").read_text(encoding="utf-8")
    variables: dict[str, Any] = yaml.safe_load(text)
    return variables


def install_arguments(variant: dict[str, Any], settings: PipSettings, has_cpu_torch: bool) -> list[str]:
    """Options of ``uv pip install`` that say what to take and from where.

    Local extra indexes are left out, as on the nodes: uv takes a package from the first index that has its name.
    """
    arguments = [f"{name}=={variant['version']}" for name in variant["requirements"]]
    if settings.index_url:
        arguments.append(f"--default-index={settings.index_url}")
    if not has_cpu_torch:
        arguments.append(f"--index={variant['index']}")
    return [*arguments, *(f"--find-links={location}" for location in settings.find_links)]


def write_alias(site_packages: Path, variant: dict[str, Any]) -> None:
    """Let vLLM find its own version, as the role engine does."""
    version = f"{variant['version']}+{VARIANT}"
    folder = site_packages / f"{variant['alias']}-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    folder.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {variant['alias']}\nVersion: {version}\n")


def ensure() -> Path:
    """Bring the environment about, and return its interpreter. Raises NodeError when that fails."""
    variables = engine_variables()
    variant = variables["__engine_variants"][VARIANT]
    venv = cache_folder() / "engines" / f"{variant['version']}-{VARIANT}-py{sys.version_info[0]}.{sys.version_info[1]}"
    python = venv / "bin/python"
    whole = venv / "whole"
    if whole.exists():
        return python
    shutil.rmtree(venv, ignore_errors=True)
    stream([sys.executable, "-m", "venv", str(venv)], show=False)
    stream([str(python), "-m", "pip", "install", "--quiet", f"uv=={variables['__engine_uv_version']}"], show=False)
    settings = read_pip_settings()
    overrides = venv / "overrides.txt"
    # A condition that never holds is how uv leaves a dependency out.
    overrides.write_text("".join(f'{name}; python_version < "3"\n' for name in variant["excluded"]))
    stream(
        [
            str(venv / "bin/uv"),
            "pip",
            "install",
            "--no-progress",
            f"--python={python}",
            f"--cache-dir={cache_folder() / 'uv'}",
            "--system-certs",
            f"--override={overrides}",
            *install_arguments(variant, settings, "engine_extra_index_urls" in deployment_variables()),
        ],
        environment={"UV_HTTP_TIMEOUT": settings.timeout_s} if settings.timeout_s else None,
    )
    write_alias(venv / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages", variant)
    whole.touch()
    return python


def main() -> int:
    """Print the interpreter of the release; the exit status is 1 for a fault told in a sentence."""
    try:
        print(ensure())
    except NodeError as error:
        print(f"engine_venv.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
