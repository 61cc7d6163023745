"""What a host answers as its recording becomes paths on the control node."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import instance_sources, recorded, sources

KEPT = (sources.NVIDIA_XML, sources.LSPCI, sources.HOST, instance_sources.journal_name("llama-3.1_70b"))


@pytest.mark.parametrize(
    "files",
    [
        None,
        ["nvidia-smi.xml"],
        {"../../.bashrc": "x"},
        {"/etc/cron.d/x": "x"},
        {"..": "x"},
        {".bashrc": "x"},
        {f"../{sources.NVIDIA_XML}": "x"},
        {f"{sources.NVIDIA_XML}\n": "x"},
        {"amd-smi-list.json\n": "x"},
        {"amd-smi-" + "a" * 300 + ".json": "x"},
        {"journal-/../../x.txt": "x"},
        {"journal-a/b.txt": "x"},
        {"journal-...txt": "x"},
        {"journal-chat.txt\n": "x"},
        {sources.NVIDIA_XML: {"deep": 1}},
        {sources.NVIDIA_XML: 3},
    ],
)
def test_what_is_no_recording_is_refused(files: Any) -> None:
    with pytest.raises(InputError, match="Nothing was written"):
        recorded.checked(files)


def test_what_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "FILE_LIMIT_BYTES", 10)
    with pytest.raises(InputError, match="no text of at most"):
        recorded.checked({sources.NVIDIA_XML: "x" * 11})


@pytest.mark.parametrize(("limit", "most"), [("RECORDING_LIMIT_FILES", 2), ("RECORDING_LIMIT_BYTES", 5)])
def test_too_much_is_refused(monkeypatch: pytest.MonkeyPatch, limit: str, most: int) -> None:
    files = {f"journal-m{number}.txt": "xx" for number in range(3)}
    assert recorded.checked(files) == files
    monkeypatch.setattr(recorded, limit, most)
    with pytest.raises(InputError, match=r"a recording has .* at most"):
        recorded.checked(files)


def test_a_recording_is_let_through() -> None:
    outputs = {name: sources.ToolOutput(sources.OK, "x") for name in KEPT}
    files = recorded.recording_files(outputs, keep_identity=False)
    assert recorded.checked(files) == files
