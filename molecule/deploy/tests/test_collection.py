"""The collection, built, installed into an empty folder and run from there by its full name."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

from conftest import run_here

from tests.deployments import ROOT, user_environment


def galaxy(cwd: Path, *arguments: str) -> None:
    """Run ansible-galaxy collection."""
    command = ["ansible-galaxy", "collection", *arguments]
    subprocess.run(command, cwd=cwd, env=user_environment(), check=True, capture_output=True)


def test_it_deploys_as_an_installed_collection(tmp_path: Path) -> None:
    galaxy(ROOT, "build", "--output-path", str(tmp_path))
    (archive,) = tmp_path.glob("gpufleet-vllm-*.tar.gz")
    with tarfile.open(archive) as content:
        top = {name.split("/")[0] for name in content.getnames()}
    assert {"plugins", "roles", "playbooks", "README.md", "LICENSE", "meta", "MANIFEST.json"} <= top
    assert not top & {"tests", "tools", "molecule", ".nodes", ".venv", ".collections", ".ci"}

    empty = tmp_path / "elsewhere"
    empty.mkdir()
    galaxy(empty, "install", str(archive), "-p", str(empty))
    run = run_here(
        "gpufleet.vllm.deploy",
        cwd=empty,
        environment={"ANSIBLE_COLLECTIONS_PATH": str(empty), "ANSIBLE_VERBOSITY": "2"},
    )
    assert run.code == 0, run.output
    assert run.count("changed") == 0
    assert str(empty / "ansible_collections/gpufleet/vllm/playbooks/deploy.yml") in run.output
