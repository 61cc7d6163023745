"""The module instances, against a systemctl that is a script."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import files, written
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import systemd
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import client, receipt
from ansible_collections.gpufleet.vllm.plugins.modules import instances

from tests.unit.plugins.modules.running import run

Capture = pytest.CaptureFixture[str]
UNIT = "Id=vllm@{name}.service\nLoadState=loaded\nActiveState={state}\nMainPID={pid}\nUnitFileState={file}\n"


class Host:
    """A host that is a folder, whose systemd is a script that notes what it is told."""

    def __init__(self, folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.capsys = folder, capsys
        (folder / "bin").mkdir()
        program = folder / "bin/systemctl"
        program.write_text(
            f'#!/bin/sh\nif [ "$1" = show ]; then cat {folder}/units; else echo "$@" >> {folder}/told; fi\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}/bin:/usr/bin:/bin")
        monkeypatch.setattr(instances, "SETTINGS", folder / "etc/vllm")
        monkeypatch.setattr(instances, "UNITS", folder / "etc/systemd/system")
        (folder / "etc/systemd/system").mkdir(parents=True)
        monkeypatch.setattr(systemd, "environment_of", lambda pid: {"GPUFLEET_DIGEST": {7: "d1", 8: "d2"}.get(pid, "")})

    def units(self, **states: tuple[str, int, str]) -> None:
        (self.folder / "units").write_text(
            "\n".join(
                UNIT.format(name=name, state=state, pid=pid, file=file) for name, (state, pid, file) in states.items()
            )
        )

    def told(self) -> list[str]:
        path = self.folder / "told"
        text = path.read_text() if path.exists() else ""
        path.write_text("")
        return text.splitlines()

    def run(self, *names: str, **more: Any) -> dict[str, Any]:
        after = more.pop("after", {})
        files = [
            {
                "name": name,
                "digest": "d1",
                "release": "../current",
                "settings": "a: 1\n",
                "environment": "GPUFLEET_DIGEST=d1\n",
                "port": 1,
                "start_after": after.get(name, []),
                "drop_ins": {"hf_token.conf": more.pop("drop_in", None)},
            }
            for name in names
        ]
        given = {"instances": [], "loop_var": "one", "unit": "u", "settings": "s", "environment": "e"}
        return run(
            instances,
            self.capsys,
            root=str(self.folder / "opt"),
            release_var="r",
            unit_texts={"vllm@.service": "[Service]\n", "vllm-nvidia.service": "[Unit]\n"},
            files=files,
            **given,
            **more,
        )


@pytest.fixture
def host(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, capsys, monkeypatch)


def test_what_runs_is_left_alone_and_the_rest_is_started_in_order(host: Host) -> None:
    host.units(
        a=("inactive", 0, "disabled"), b=("active", 7, "enabled"), c=("failed", 0, "enabled"), d=("active", 8, "")
    )
    found = host.run("a", "b", "c", "d")
    assert (found["started"], found["restarted"]) == (["a", "c"], ["d"])
    assert host.told() == [
        "daemon-reload",
        "enable vllm@a.service",
        "restart vllm@a.service",
        "reset-failed vllm@c.service",
        "restart vllm@c.service",
        "enable vllm@d.service",
        "reset-failed vllm@d.service",
        "restart vllm@d.service",
    ]
    host.units(a=("active", 7, "enabled"), b=("active", 7, "enabled"))
    again = host.run("a", "b")
    assert (again["changed"], again["written"], again["diff"]) == (False, [], [])
    assert host.told() == []


def test_check_mode_predicts_and_does_nothing(host: Host) -> None:
    host.units(a=("active", 8, "enabled"))
    found = host.run("a", _ansible_check_mode=True)
    assert (found["changed"], found["restarted"]) == (True, ["a"])
    assert found["msg"] == "vllm@a.service would be restarted"
    assert host.told() == []
    assert not (host.folder / "etc/vllm").exists()


def test_a_drop_in_comes_and_goes(host: Host) -> None:
    path = host.folder / "etc/systemd/system/vllm@a.service.d/hf_token.conf"
    host.units(a=("active", 7, "enabled"))
    host.run("a", drop_in="[Service]\n")
    assert path.read_text() == "[Service]\n"
    host.told()
    assert host.run("a")["written"] == [str(path)]
    assert not path.exists()
    assert host.told() == ["daemon-reload"]


def test_cut_off_anywhere_the_files_are_no_state_that_was_started_from(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.units(chat=("active", 7, "enabled"))
    host.run("chat")
    environment = host.folder / "etc/vllm/chat.env"
    write = files.write_atomically
    for cut in range(4):
        environment.write_text("GPUFLEET_DIGEST=old\n")
        (host.folder / "etc/vllm/chat.yaml").write_text("a: 0\n")
        left = [cut]

        def cut_off(path: Path, text: str, mode: int = 0o644, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            write(path, text, mode)

        monkeypatch.setattr(written, "write_atomically", cut_off)
        with contextlib.suppress(KeyboardInterrupt):
            host.run("chat", drop_in="[Service]\n")
        monkeypatch.setattr(written, "write_atomically", write)
        settled = (host.folder / "etc/vllm/chat.yaml").read_text() == "a: 1\n"
        digest = environment.read_text().strip().partition("=")[2]
        assert digest in ("", "d1")
        assert settled or digest == ""
        host.run("chat")
        assert environment.read_text() == "GPUFLEET_DIGEST=d1\n"


def test_a_unit_that_does_not_start_is_said(host: Host) -> None:
    host.units(a=("inactive", 0, "enabled"))
    (host.folder / "bin/systemctl").write_text(
        f'#!/bin/sh\ncase "$1" in show) cat {host.folder}/units;; restart) echo no >&2; exit 1;; esac\n'
    )
    found = host.run("a")
    assert found["failed"] is True
    assert found["msg"] == (
        "systemctl restart vllm@a.service failed: no. Look into its journal: journalctl -u vllm@a.service."
    )


def test_instances_on_one_gpu_are_started_when_the_other_answers(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    answering: set[int] = set()
    monkeypatch.setattr(client, "healthy", lambda server: server.port in answering)
    after = {"b": ["a"], "c": ["b"]}
    host.units(a=("inactive", 0, "enabled"), b=("inactive", 0, "enabled"), c=("inactive", 0, "enabled"))
    found = host.run("a", "b", "c", after=after)
    assert (found["started"], found["waiting"]) == (["a"], {"b": "a", "c": "b"})
    # it runs, and loads
    host.units(a=("active", 7, "enabled"), b=("inactive", 0, "enabled"), c=("inactive", 0, "enabled"))
    found = host.run("a", "b", "c", after=after)
    assert (found["started"], found["waiting"]) == ([], {"b": "a", "c": "b"})
    answering.add(1)
    found = host.run("a", "b", "c", after=after)
    assert (found["started"], found["waiting"]) == (["b"], {"c": "b"})
    # what runs as it should waits for nobody
    answering.clear()
    host.units(a=("activating", 0, "enabled"), b=("active", 7, "enabled"))
    found = host.run("a", "b", after=after)
    assert (found["restarted"], found["waiting"]) == (["a"], {})


def test_check_mode_does_not_wait(host: Host) -> None:
    host.units(a=("inactive", 0, "enabled"), b=("inactive", 0, "enabled"))
    found = host.run("a", "b", after={"b": ["a"]}, _ansible_check_mode=True)
    assert (found["started"], found["waiting"]) == (["a", "b"], {})


@pytest.mark.parametrize(("release", "restarted"), [("0.33.0-cuda", []), ("0.32.0-cuda", ["a"])])
def test_an_instance_of_an_earlier_version_runs_on(
    host: Host, monkeypatch: pytest.MonkeyPatch, release: str, restarted: list[str]
) -> None:
    """The files are rewritten, systemd reads them again, and the process is left alone while all of it is the same."""
    old = "a" * 64
    settings, units = host.folder / "etc/vllm", host.folder / "etc/systemd/system"
    settings.mkdir(parents=True)
    (settings / "a.yaml").write_text("# Written by Ansible, once\na: 1\n")
    (settings / "a.env").write_text(f"GPUFLEET_DIGEST={old}\n")
    (units / "vllm@.service").write_text("[Service]\n# an older text\nLimitNOFILE=1\n")
    (host.folder / "opt/releases/0.33.0-cuda").mkdir(parents=True)
    (host.folder / "opt/current").symlink_to("releases/0.33.0-cuda")
    monkeypatch.setattr(systemd, "environment_of", lambda pid: {"GPUFLEET_DIGEST": old})
    monkeypatch.setattr(
        receipt,
        "release_of_any",
        lambda maps: f"{host.folder}/opt/releases/{release}" if list(maps) else None,
    )
    host.units(a=("active", 7, "enabled"))
    checked = host.run("a", _ansible_check_mode=True)
    found = host.run("a")
    assert checked["restarted"] == found["restarted"] == restarted
    assert checked["written"] == found["written"]
    assert "daemon-reload" in host.told()
    assert (units / "vllm@.service").read_text() == "[Service]\n"
    assert ((settings / "a.env").read_text() == f"GPUFLEET_DIGEST={old}\n") is (restarted == [])
    again = host.run("a")
    assert (again["written"], again["restarted"]) == ([], restarted)
