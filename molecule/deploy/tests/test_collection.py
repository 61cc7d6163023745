"""The collection, built, installed into an empty folder and run from there by its full name."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

from conftest import ROOT, run_playbook


def test_it_deploys_as_an_installed_collection(tmp_path: Path) -> None:
    built = ["ansible-galaxy", "collection", "build", "--output-path", str(tmp_path)]
    subprocess.run(built, cwd=ROOT, check=True, capture_output=True)
    (archive,) = tmp_path.glob("gpufleet-vllm-*.tar.gz")
    with tarfile.open(archive) as content:
        top = {name.split("/")[0] for name in content.getnames()}
    assert {"plugins", "roles", "playbooks", "README.md", "LICENSE", "meta", "MANIFEST.json"} <= top
    assert not top & {"tests", "tools", "molecule", ".nodes", ".venv", ".collections", ".ci"}

    empty = tmp_path / "elsewhere"
    empty.mkdir()
    subprocess.run(
        ["ansible-galaxy", "collection", "install", str(archive), "-p", str(empty)],
        cwd=empty,
        check=True,
        capture_output=True,
    )
    run = run_playbook(
        "gpufleet.vllm.deploy",
        cwd=empty,
        environment={"ANSIBLE_COLLECTIONS_PATH": str(empty), "ANSIBLE_VERBOSITY": "2"},
    )
    assert run.code == 0, run.output
    assert run.count("changed") == 0
    assert str(empty / "ansible_collections/gpufleet/vllm/playbooks/deploy.yml") in run.output
