"""What is read of a model on the hub; see tests/hub_stand_in.py for what answers here."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import hub as hub_reader
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model

from tests.hub_stand_in import Hub, commit_of
from tests.unit.conftest import CONFIG
from tests.unit.samples import CHECKOUT


def test_a_good_model(hub: Hub) -> None:
    commit = commit_of(hub.folder / "org/good")
    hub.asked.clear()
    assert hub_reader.read("org/good", "main") == {**model.facts(CONFIG, 1000), "revision": commit}
    assert hub_reader.read("org/good", commit)["revision"] == commit
    fetched = [line for line in hub.asked if line.startswith("GET") and "/resolve/" in line]
    assert fetched == [f"GET /org/good/resolve/{commit}/config.json"]


@pytest.mark.parametrize(
    ("name", "revision", "sentence"),
    [
        (
            "org/none",
            "main",
            "The hub has no model org/none, or it is private; correct 'model' (a path begins with /).",
        ),
        ("org/gated", "main", "The hub model org/gated is gated: accept its licence on the hub, and log in."),
        ("org/good", "v7", "The hub model org/good has no revision 'v7'; correct 'revision'."),
        ("org/no-config", "main", "The hub model org/no-config has no config.json, so vLLM cannot load it."),
        (
            "org/no-weights",
            "main",
            "The hub model org/no-weights has no weights (*.safetensors, *.bin, *.pt, *.gguf); choose another model.",
        ),
        (
            "org/not-json",
            "main",
            "config.json of org/not-json is not JSON (Expecting property name enclosed in double quotes: "
            "line 1 column 2 (char 1)); fetch the model again.",
        ),
        (
            "models/org/good",
            "main",
            "models/org/good is neither an absolute path nor a hub id such as Qwen/Qwen3-8B; correct 'model'.",
        ),
    ],
)
def test_refusals(hub: Hub, name: str, revision: str, sentence: str) -> None:
    with pytest.raises(InputError) as raised:
        hub_reader.read(name, revision)
    assert str(raised.value) == sentence


def test_a_proxy_that_refuses_the_files(hub: Hub) -> None:
    with pytest.raises(InputError) as raised:
        hub_reader.read("org/forbidden", "main")
    said = str(raised.value)
    assert said.startswith("The hub could not be asked about org/forbidden (")
    assert "403" in said
    assert said.endswith("or name a folder in 'model' or 'model_source'.")


READ = """
import sys
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import hub
try:
    hub.read("org/good", "main")
except InputError as error:
    print(error)
"""


def read_elsewhere(tmp_path: Path, endpoint: str, *options: str) -> str:
    """Read a model in a Python of its own, since huggingface_hub reads HF_ENDPOINT once."""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path)}
    environment["PYTHONPATH"] = str(CHECKOUT / ".collections")
    done = subprocess.run(
        [sys.executable, *options, "-c", READ], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_hub_that_cannot_be_reached(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        said = read_elsewhere(tmp_path, f"http://127.0.0.1:{held.getsockname()[1]}")
    assert said == (
        "The hub could not be asked about org/good ([Errno 111] Connection refused); check the way from the control "
        "node to the hub, or name a folder in 'model' or 'model_source'."
    )


def test_without_huggingface_hub(tmp_path: Path) -> None:
    said = read_elsewhere(tmp_path, "http://127.0.0.1:9", "-S")
    assert said == (
        "Reading org/good from the hub needs huggingface_hub where model_info runs "
        "(No module named 'huggingface_hub'); install this collection's requirements.txt on the control node."
    )
