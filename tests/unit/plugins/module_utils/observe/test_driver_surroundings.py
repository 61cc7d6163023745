"""What a change of a driver touches, on a tree of files and with what systemd says."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import ParseError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import driver_surroundings, openpgp

from tests.unit.plugins.module_utils.observe.test_openpgp import FINGERPRINT
from tests.unit.plugins.module_utils.observe.test_openpgp import KEY as ARMORED


def binary(armored: str) -> bytes:
    body = armored.split("\n\n", 1)[1].split("-----END", 1)[0]
    return base64.b64decode("".join(line for line in body.splitlines() if not line.startswith("=")))


def test_a_key_is_read_in_both_forms() -> None:
    assert openpgp.fingerprints_of(ARMORED.encode()) == openpgp.fingerprints_of(binary(ARMORED)) == [FINGERPRINT]
    with pytest.raises(ParseError, match="no OpenPGP key"):
        openpgp.fingerprints_of(b"")


def test_sources_with_their_keys_and_folders(tmp_path: Path) -> None:
    apt = tmp_path / "etc/apt/sources.list.d"
    apt.mkdir(parents=True)
    (tmp_path / "etc/apt/trusted.gpg.d").mkdir()
    (tmp_path / "etc/apt/trusted.gpg.d/a.asc").write_text(ARMORED)
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr/k.gpg").write_bytes(binary(ARMORED))
    disk = tmp_path / "var/cuda-repo-debian12-13-0-local"
    disk.mkdir(parents=True)
    (disk / "Packages").write_text("Package: nvidia-open\nArchitecture: all\nVersion: 580.95.05-1\n\nPackage: x\n")
    (apt.parent / "sources.list").write_text("deb [signed-by=/usr/k.gpg] http://a /\n")
    (apt / "b.list").write_text("deb [signed-by=/usr/gone.gpg] http://b /\n")
    (apt / "b.list.save").write_text("deb http://saved /\n")
    (apt / "c.list").write_text("deb file:///var/cuda-repo-debian12-13-0-local /\ndeb file:/var/gone /\n")
    embedded = "\n".join(f" {line}" if line else " ." for line in ARMORED.strip().splitlines())
    (apt / "d.sources").write_text(f"Types: deb\nURIs: http://d\nSuites: /\nSigned-By:\n{embedded}\n")
    found = driver_surroundings.sources("x86_64", tmp_path)
    assert [(one["path"].rsplit("/", 1)[1], one["keys"], one["missing"], one["drivers"]) for one in found] == [
        ("sources.list", [FINGERPRINT], False, None),
        ("b.list", None, True, None),
        ("c.list", None, False, ["580.95.05"]),
        ("c.list", None, True, []),
        ("d.sources", [FINGERPRINT], False, None),
    ]
    assert driver_surroundings.trusted_keys(tmp_path) == [FINGERPRINT]


def test_instances_that_run() -> None:
    text = "vllm@a.service loaded active running vLLM\nvllm@b-2.service loaded activating auto-restart vLLM\n"
    asked: list[list[str]] = []

    def said(argv: list[str]) -> str:
        asked.append(argv)
        return text

    assert driver_surroundings.serving(said) == ["a", "b-2"]
    assert asked[0][-1] == "vllm@*.service"
    assert driver_surroundings.serving(lambda _argv: "") == []


@pytest.mark.parametrize(
    ("text", "runs", "ran"),
    [
        ("Id=nvidia-fabricmanager.service\nActiveState=active\nActiveEnterTimestampMonotonic=5\n", True, True),
        ("Id=nvidia-fabricmanager.service\nActiveState=inactive\nActiveEnterTimestampMonotonic=5\n", False, True),
        ("Id=nvidia-fabricmanager.service\nActiveState=failed\nActiveEnterTimestampMonotonic=0\n", False, False),
        ("", False, False),
    ],
)
def test_the_fabric_manager(text: str, runs: bool, ran: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(driver_surroundings, "RESET_DUE", str(tmp_path / "due"))
    expected = {"runs": runs, "ran": ran, "reset_due": False}
    assert driver_surroundings.fabric(lambda _argv: text) == expected
    (tmp_path / "due").touch()
    assert driver_surroundings.fabric(lambda _argv: text) == {**expected, "reset_due": True}


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"instances": null}'])
def test_a_note_that_says_nothing(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(driver_surroundings, "WORK", str(tmp_path / "drivers.json"))
    (tmp_path / "drivers.json").write_text(text)
    assert driver_surroundings.work() == []
