"""The modules gpu_info and gpu_record as Ansible calls them."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpufleet.vllm.plugins.modules import gpu_info, gpu_record

HOSTS = Path(__file__).parents[2] / "fixtures" / "hosts"


def run(module: ModuleType, capsys: pytest.CaptureFixture[str], **options: Any) -> dict[str, Any]:
    with patch_module_args(options), pytest.raises(SystemExit):
        module.main()
    result = json.loads(capsys.readouterr().out)
    assert isinstance(result, dict)
    return result


def test_a_recorded_folder_gives_facts(capsys: pytest.CaptureFixture[str]) -> None:
    result = run(gpu_info, capsys, recorded=str(HOSTS / "h100-nvswitch"), _ansible_check_mode=True)
    assert result["changed"] is False
    assert result["gpu_facts"]["interconnect"] == "nvswitch"
    assert result["gpu_facts"]["source"] == "recorded"


def test_a_broken_host_does_not_fail_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(HOSTS / "version-mismatch")
    assert "failed" not in run(gpu_info, capsys, recorded=folder)
    result = run(gpu_info, capsys, recorded=folder, required=True)
    assert result["failed"] is True
    assert "Reboot" in result["msg"]
    assert result["gpu_facts"]["state"] == "driver_mismatch"


def test_required_means_a_gpu(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "lscpu.txt").write_text("Socket(s): 1\n")
    result = run(gpu_info, capsys, recorded=str(tmp_path), required=True)
    assert result["failed"] is True
    assert "A GPU is required here" in result["msg"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recorded": "/no/such/folder"}, "no folder on this host"),
        ({"gpu_profile": {"name": "Unobtainium"}}, "not in the table"),
        ({"timeout": 0}, "more than 0"),
        ({"recorded": "/a", "gpu_profile": {"name": "L4"}}, "mutually exclusive"),
    ],
)
def test_bad_options_get_a_sentence(capsys: pytest.CaptureFixture[str], options: dict[str, Any], words: str) -> None:
    result = run(gpu_info, capsys, **options)
    assert result["failed"] is True
    assert words in result["msg"]


def test_described_hardware(capsys: pytest.CaptureFixture[str]) -> None:
    facts = run(gpu_info, capsys, gpu_profile={"name": "H200", "count": 8})["gpu_facts"]
    assert (len(facts["devices"]), facts["devices"][0]["memory_total_mib"]) == (8, 143771)


def test_this_host_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    facts = run(gpu_info, capsys, timeout=20)["gpu_facts"]
    assert facts["source"] == "live"
    assert facts["memory_total_mib"] > 0
    assert facts["cpu"]["threads"] > 0


def test_this_host_is_recorded_and_read_back(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name, text in run(gpu_record, capsys)["files"].items():
        (tmp_path / name).write_text(text)
    live, again = run(gpu_info, capsys), run(gpu_info, capsys, recorded=str(tmp_path))
    for key in ("cpu", "memory_total_mib", "devices", "state", "pci_gpus"):
        assert live["gpu_facts"][key] == again["gpu_facts"][key]


@pytest.mark.parametrize("name", ["gpu_info", "gpu_record"])
def test_documentation_and_options_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"ansible_collections.gpufleet.vllm.plugins.modules.{name}")
    seen: dict[str, Any] = {}

    def capture(**arguments: Any) -> None:
        seen.update(arguments)
        raise SystemExit

    monkeypatch.setattr(module, "AnsibleModule", capture)
    with pytest.raises(SystemExit):
        module.main()
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    compare(seen["argument_spec"], documented)


def compare(spec: dict[str, Any], documented: dict[str, Any]) -> None:
    assert set(spec) == set(documented)
    for option, wanted in spec.items():
        for key in ("type", "default", "choices", "required"):
            assert wanted.get(key) == documented[option].get(key), (option, key)
        if "options" in wanted:
            compare(wanted["options"], documented[option]["suboptions"])


def test_every_returned_field_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    contains = yaml.safe_load(gpu_info.RETURN)["gpu_facts"]["contains"]
    facts = run(gpu_info, capsys, recorded=str(HOSTS / "h100-nvswitch"))["gpu_facts"]
    assert set(facts) == set(contains)
    assert set(facts["devices"][0]) == set(contains["devices"]["contains"])
    assert set(facts["nics"][0]) == set(contains["nics"]["contains"])
    assert set(facts["readiness"][0]) == set(contains["readiness"]["contains"])
    for field in contains.values():
        assert field["description"]
        assert field["type"]
        assert "sample" in field or "contains" in field
