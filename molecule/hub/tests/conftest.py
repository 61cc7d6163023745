"""What the tests of this scenario share: a hub with a model, and the role that downloads from it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from testinfra.host import Host

from tests.deployments import Run, run_playbook
from tests.hub_process import serving
from tests.hub_stand_in import commit_of
from tools import tiny_model

CACHE = "/var/lib/vllm/hub"
MODEL = "org/chat"
MIB = 1024**2
# Beside the weights of the small model, so that a download takes long enough to be interrupted.
SHARDS = 4
SHARD_BYTES = 3 * MIB


@dataclass
class Hub:
    """The stand-in: its folder, where instructions are written, and its address."""

    folder: Path
    address: str

    @property
    def model(self) -> Path:
        """Folder of the one model."""
        return self.folder / MODEL

    @property
    def commit(self) -> str:
        """The commit of its branch main."""
        return commit_of(self.model)

    def instruct(self, **instructions: object) -> None:
        """Make it slow, let it break off, let it damage files."""
        for name, number in instructions.items():
            (self.model / f".{name}").write_text(str(number))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model whose weights are in several large files, made once."""
    folder = tmp_path_factory.mktemp("made")
    tiny_model.write(folder, tiny_model.Shape())
    for number in range(SHARDS):
        (folder / f"extra-{number}.safetensors").write_bytes(_tensors(number))
    return folder


def _tensors(number: int) -> bytes:
    """A safetensors file with one tensor."""
    header = json.dumps({f"extra.{number}": {"dtype": "U8", "shape": [SHARD_BYTES], "data_offsets": [0, SHARD_BYTES]}})
    return len(header).to_bytes(8, "little") + header.encode() + bytes([number]) * SHARD_BYTES


@pytest.fixture
def hub(host: Host, tmp_path: Path, made: Path) -> Iterator[Hub]:
    """A hub, and a node on which nothing was downloaded yet."""
    shutil.copytree(made, tmp_path / "hub" / MODEL)
    host.check_output("rm -rf %s /etc/vllm", CACHE)
    with serving(tmp_path / "hub", host) as address:
        yield Hub(tmp_path / "hub", address)


Download = Callable[..., Run]


@pytest.fixture
def download(hub: Hub, tmp_path: Path) -> Download:
    """Run the roles layout and model for two instances of the model."""

    def run(*arguments: str, **extra: object) -> Run:
        return run_playbook(
            "molecule/hub/play.yml",
            *arguments,
            extra={**variables(hub), **extra},
            environment={"HF_HOME": str(tmp_path / "hf")},
        )

    return run


def variables(hub: Hub) -> dict[str, object]:
    """The variables of a run."""
    models = [{"name": name, "model": MODEL, "port": port} for name, port in (("one", 8000), ("two", 8001))]
    return {"vllm_models": models, "layout_hub_endpoint": hub.address}
