"""An instance that an earlier version started runs on, and only as long as it was started from the same."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import earlier, instance_files

OLD = "a" * 64
UNIT = """# Written by Ansible (gpufleet.vllm.serve); changes made here are lost.
[Service]
User=vllm
Group=vllm
Environment=HF_HUB_CACHE=/hub HF_HUB_OFFLINE=1
ExecStart=/opt/vllm/instances/%i/bin/vllm serve --config /etc/vllm/%i.yaml
"""
RANKS = """[Service]
ExecStart=
ExecStart=/opt/vllm/instances/%i/bin/python -I /opt/vllm/ranks.py \\
  --node a=1 \\
  -- /opt/vllm/instances/%i/bin/vllm serve
"""


def texts(digest: str = OLD, **more: str) -> dict[str, str]:
    return {
        "settings": "# Written\nmodel: org/chat\nport: 8000\n",
        "environment": f'# Written\nGPUFLEET_DIGEST={digest}\nA="b"\n',
        "units": UNIT,
        **more,
    }


NEW = texts(
    "2." + "b" * 64,
    units=UNIT.replace("User", "PrivateMounts=yes\nUser").replace(
        "[Service]", "[Service]\n# why\nEnvironment=PATH=/x:/y"
    ),
)


@pytest.fixture
def process() -> dict[str, Any]:
    return {"pid": os.getpid(), "digest": OLD, "started": time.monotonic()}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_files, "STATES", tmp_path / "good")
    monkeypatch.setattr(earlier, "TOKEN_FILES", (str(tmp_path / "token"),))


def test_what_a_release_needs_for_its_kernels_restarts_nothing(process: dict[str, Any]) -> None:
    new = texts(environment='GPUFLEET_DIGEST=2.b\nA="b"\nCUDA_HOME="/usr/local/cuda"\nVLLM_USE_DEEP_GEMM="0"\n')
    assert earlier.kept(process, texts(), new, "chat", same_release=True) == OLD


def test_a_variable_that_a_user_had_written_and_changes_is_a_change(process: dict[str, Any]) -> None:
    old = texts(environment=f'GPUFLEET_DIGEST={OLD}\nA="b"\nCUDA_HOME="/opt/cuda"\n')
    new = texts(environment='GPUFLEET_DIGEST=2.b\nA="b"\nCUDA_HOME="/usr/local/cuda"\n')
    assert earlier.kept(process, old, new, "chat", same_release=True) is None


def test_another_text_of_the_unit_restarts_nothing(process: dict[str, Any]) -> None:
    assert earlier.kept(process, texts(), NEW, "chat", same_release=True) == OLD


@pytest.mark.parametrize(
    "new",
    [
        {"settings": NEW["settings"].replace("8000", "8001")},
        {"environment": NEW["environment"] + 'C="d"\n'},
        {"environment": NEW["environment"].replace('"b"', '"c"')},
        {"units": NEW["units"].replace("User=vllm", "User=other")},
        {"units": NEW["units"].replace("=/hub", "=/elsewhere")},
        {"units": NEW["units"].replace("/opt/vllm", "/srv/vllm")},
        {"units": NEW["units"] + RANKS},
    ],
)
def test_what_changes_the_process_does(process: dict[str, Any], new: dict[str, str]) -> None:
    assert earlier.kept(process, texts(), {**NEW, **new}, "chat", same_release=True) is None


def test_another_release_does(process: dict[str, Any]) -> None:
    assert earlier.kept(process, texts(), NEW, "chat", same_release=False) is None


def test_a_digest_of_the_form_of_today_says_it_by_itself(process: dict[str, Any]) -> None:
    process["digest"] = "2." + "c" * 64
    assert earlier.kept(process, texts(process["digest"]), NEW, "chat", same_release=True) is None
    assert not earlier.is_earlier("other")
    assert not earlier.is_earlier(None)


def test_files_that_the_process_was_not_started_from_prove_nothing(process: dict[str, Any]) -> None:
    assert earlier.kept(process, texts("d" * 64), NEW, "chat", same_release=True) is None
    assert earlier.kept(None, texts(), NEW, "chat", same_release=True) is None


def test_the_engine_over_several_hosts_is_one_of_its_ranks(process: dict[str, Any]) -> None:
    old = texts(units=UNIT + RANKS)
    same = {**NEW, "units": NEW["units"] + RANKS}
    assert earlier.kept(process, old, same, "chat", same_release=True) == OLD
    other = {**same, "units": same["units"].replace("a=1", "a=2")}
    assert earlier.kept(process, old, other, "chat", same_release=True) is None


@pytest.mark.parametrize("known", [True, False])
def test_a_model_that_was_replaced_at_its_path_does(process: dict[str, Any], tmp_path: Path, known: bool) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    settings = f"model: {model}\n"
    if known:
        good = {"schema_version": 1, "digest": OLD, "model_digest": instance_files.folder_digest(model)}
        instance_files.write_state("chat", "good", good)
    process["started"] = time.monotonic() + 0.05
    old, new = texts(settings=settings), {**NEW, "settings": settings}
    assert earlier.kept(process, old, new, "chat", same_release=True) == OLD
    time.sleep(0.1)
    (model / "config.json").write_text("{} ")
    assert earlier.kept(process, old, new, "chat", same_release=True) is None


def test_a_token_that_was_replaced_does_where_the_engine_has_it(process: dict[str, Any], tmp_path: Path) -> None:
    with_token = {**NEW, "units": NEW["units"] + "LoadCredential=hf_token:/x\n"}
    process["started"] = time.monotonic() - 5
    assert earlier.kept(process, texts(), with_token, "chat", same_release=True) == OLD
    (tmp_path / "token").touch()
    assert earlier.kept(process, texts(), with_token, "chat", same_release=True) is None
    assert earlier.kept(process, texts(), NEW, "chat", same_release=True) == OLD
