"""The module cuda_sources on files of a test."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.modules import cuda_sources

from tests.unit.plugins.modules.running import run

Capture = pytest.CaptureFixture[str]
LINE = "deb http://me:secret@mirror/debian12/x86_64 /\n"


def test_an_entry_is_commented_out_once(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "a.list"
    path.write_bytes(b"deb http://x bookworm main # \xe4\n" + LINE.encode())
    path.chmod(0o640)
    wanted = {"disable": [{"path": str(path), "place": "2"}]}
    predicted = run(cuda_sources, capsys, _ansible_check_mode=True, **wanted)
    assert (predicted["changed"], path.read_bytes().endswith(LINE.encode())) == (True, True)
    done = run(cuda_sources, capsys, **wanted)
    assert done["files"] == [str(path)]
    assert done["diff"][0]["after"] == predicted["diff"][0]["after"]
    assert "secret" not in str(done)
    text = path.read_bytes()
    assert (
        text
        == b"deb http://x bookworm main # \xe4\n# Taken out of use by Ansible (gpufleet.vllm.cuda): " + LINE.encode()
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert run(cuda_sources, capsys, **wanted)["changed"] is False
    assert [one.name for one in tmp_path.iterdir()] == ["a.list"]


def test_our_own_source_goes_and_no_other(tmp_path: Path, capsys: Capture) -> None:
    ours, other = tmp_path / "gpufleet-nvidia.sources", tmp_path / "other.sources"
    for path in (ours, other):
        path.write_text("Types: deb\nURIs: http://m\nSuites: /\n")
    refused = run(cuda_sources, capsys, remove=[str(ours), str(other)])
    assert refused["failed"]
    assert ours.exists()
    wanted = {"remove": [str(ours)], "disable": [{"path": str(other), "place": "1"}]}
    assert run(cuda_sources, capsys, **wanted)["changed"]
    assert not ours.exists()
    assert other.read_text().startswith("Enabled: no\nTypes: deb\n")
    assert run(cuda_sources, capsys, **wanted)["changed"] is False


def test_dnf_leaves_packages_out_and_takes_them_again(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "cuda.repo"
    path.write_text("[cuda]\nbaseurl=http://m\n")
    wanted = {"path": str(path), "place": "cuda", "packages": ["nvidia-*"]}
    assert run(cuda_sources, capsys, excludes=wanted)["changed"]
    assert path.read_text() == "[cuda]\nexcludepkgs=nvidia-*\nbaseurl=http://m\n"
    assert run(cuda_sources, capsys, excludes=wanted)["changed"] is False
    run(cuda_sources, capsys, excludes={**wanted, "state": "absent"})
    assert path.read_text() == "[cuda]\nbaseurl=http://m\n"
