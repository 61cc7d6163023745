"""What several test files share."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.hub_stand_in import Hub, running

# A busy machine is slow, which is no fault of what is tested.
settings.register_profile("unit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")

CONFIG = {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 260}


def write_model(folder: Path, *without: str, **files: bytes) -> Path:
    """Make a model's folder; ``files`` replaces or adds files (``__`` is a dot in the name), ``without`` leaves out."""
    content = {
        "config.json": json.dumps(CONFIG).encode(),
        "model.safetensors": b"w" * 1000,
        "tokenizer.json": b"{}",
        **{name.replace("__", "."): data for name, data in files.items()},
    }
    folder.mkdir(parents=True)
    for name, data in content.items():
        if name not in without:
            (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with a model for each thing that can go wrong, and ``HF_ENDPOINT`` set to it.

    huggingface_hub reads its settings once, when it is imported; so nothing may have imported it before.
    """
    assert "huggingface_hub" not in sys.modules
    folder = tmp_path_factory.mktemp("hub")
    write_model(folder / "org/good", README__md=b"# Good")
    write_model(folder / "org/gated", __gated=b"")
    write_model(folder / "org/forbidden", __forbidden=b"")
    write_model(folder / "org/no-config", "config.json")
    write_model(folder / "org/no-weights", "model.safetensors")
    write_model(folder / "org/not-json", config__json=b"{")
    settings = {
        "HF_HOME": str(tmp_path_factory.mktemp("hf")),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1",
    }
    unset = ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH")
    with running(folder) as server, pytest.MonkeyPatch.context() as patch:
        for name in unset:
            patch.delenv(name, raising=False)
        for name, value in {**settings, "HF_ENDPOINT": server.url}.items():
            patch.setitem(os.environ, name, value)
        yield server
