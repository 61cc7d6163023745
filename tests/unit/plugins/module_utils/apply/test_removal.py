"""Taking instances, or everything, from a host that is a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import removal
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.written import Writer
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import good_states
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import systemd

FILES = """
etc/vllm/{name}.yaml etc/vllm/{name}.env etc/systemd/system/vllm@{name}.service.d/hf_token.conf
etc/systemd/system/multi-user.target.wants/vllm@{name}.service
opt/instances/{name}/bin var/cache/{name}/torch/kernel var/lib/receipts/{name}.json var/lib/checks/{name}.json
"""
SHARED = (
    "opt/releases/1/bin opt/current/bin opt/others var/lib/hub/model var/lib/models/m etc/systemd/system/vllm@.service"
)
OTHERS = "etc/systemd/system/ssh.service etc/systemd/system/multi-user.target.wants/ssh.service"


class Host:
    """A host with two instances, and what systemd is told there."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.told = root, list[str]()
        self.active = "active"
        for name in ("one", "two"):
            self.make(FILES.format(name=name))
        self.make(f"{SHARED} {OTHERS}")
        for key, place in {
            "SETTINGS": "etc/vllm",
            "UNITS": "etc/systemd/system",
            "CACHES": "var/cache",
            "STATE": "var/lib",
        }.items():
            monkeypatch.setattr(removal, key, root / place)
        monkeypatch.setattr(removal, "ENCRYPTED", str(root / "etc/token"))
        monkeypatch.setattr(removal, "PLAIN", str(root / "etc/plain"))
        monkeypatch.setattr(removal, "RUNTIME", (str(root / "run/nccl"),))
        monkeypatch.setattr(systemd, "show", lambda units: {unit: {"ActiveState": self.active} for unit in units})
        packaged = {
            unit: (name, tuple(str(root / place.lstrip("/")) for place in places))
            for unit, (name, places) in removal.PACKAGED.items()
        }
        monkeypatch.setattr(removal, "PACKAGED", packaged)
        self.make("etc/token run/nccl/x")

    def make(self, names: str) -> None:
        for name in names.split():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("secret" if name == "etc/token" else "x")

    def run(self, argv: Sequence[str]) -> tuple[int, str, str]:
        self.told.append(" ".join(argv[1:]))
        return 0, "vllm@three.service loaded active\n" if "vllm@*.service" in argv else "", ""

    def files(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_an_instance_goes_with_all_it_has_and_nothing_else(host: Host) -> None:
    before = host.files()
    removal.Removal(Writer(check=False), host.run).instances(["one"], host.root / "opt")
    assert before - host.files() == set(FILES.format(name="one").split())
    assert host.told == ["stop vllm@one.service", "reset-failed vllm@one.service", "daemon-reload"]
    host.told.clear()
    host.active = "inactive"
    writer = Writer(check=False)
    removal.Removal(writer, host.run).instances(["one", "never"], host.root / "opt")
    assert (writer.changed, host.told) == ([], [])


def test_check_mode_says_the_same_and_does_nothing(host: Host) -> None:
    before = host.files()
    predicted, writer = Writer(check=True), Writer(check=False)
    going = removal.Removal(predicted, host.run)
    going.instances(["one"], host.root / "opt")
    assert going.stopped == ["vllm@one.service"]
    assert (host.files(), host.told) == (before, [])
    removal.Removal(writer, host.run).instances(["one"], host.root / "opt")
    assert predicted.changed == writer.changed


@pytest.mark.parametrize("keep", [True, False])
def test_everything(host: Host, keep: bool) -> None:
    root, models = host.root / "opt", [host.root / "var/lib/hub", host.root / "var/lib/models"]
    names = removal.instances_of(host.run, root)
    assert names == ["one", "three", "two"]
    writer = Writer(check=False)
    going = removal.Removal(writer, host.run)
    going.instances(names, root)
    going.host(root, models, keep)
    weights = {"var/lib/hub/model", "var/lib/models/m"} if keep else set()
    assert host.files() == {*OTHERS.split(), "opt/others", *weights}
    assert "secret" not in str(writer.diffs)
    again = Writer(check=False)
    host.active = "inactive"
    removal.Removal(again, host.run).host(root, models, keep)
    assert again.changed == []


def test_a_user_of_somebody_else_stays(host: Host) -> None:
    going = removal.Removal(Writer(check=False), host.run)
    assert going.user("root") is False
    assert going.user("nobody-of-this-name") is False
    assert host.told == []


UNITS = "etc/systemd/system"
GATEWAY = (
    f"{UNITS}/haproxy.service.d/vllm.conf etc/haproxy/haproxy.cfg etc/haproxy/vllm/keys.map "
    "usr/local/lib/vllm-gateway/server_state.py var/lib/haproxy/vllm-servers var/lib/haproxy/vllm-servers.lock"
)
EXPORTER = f"{UNITS}/nvidia-dcgm-exporter.service.d/gpufleet.conf etc/dcgm-exporter/gpufleet.csv"


def packaged(host: Host, check: bool = False) -> tuple[Writer, list[str]]:
    """Take what is of gateways and exporters."""
    host.told.clear()
    going = removal.Removal(Writer(check), host.run)
    going.packaged()
    return going.writer, going.stopped


def make_ours(host: Host) -> None:
    host.make(f"{GATEWAY} {EXPORTER} etc/haproxy/errors/503.http etc/dcgm-exporter/default-counters.csv")
    for name in f"{GATEWAY} {EXPORTER}".split():
        if name.endswith((".cfg", ".conf")):
            (host.root / name).write_text(f"{good_states.OURS}gateway); changes made here are lost.\n")


def test_a_gateway_and_an_exporter(host: Host) -> None:
    make_ours(host)
    before = host.files()
    predicted, stopping = packaged(host, check=True)
    assert (host.files(), host.told) == (before, [])
    writer, stopped = packaged(host)
    assert (predicted.changed, stopping) == (writer.changed, stopped)
    assert stopped == ["haproxy.service", "nvidia-dcgm-exporter.service"]
    assert before - host.files() == set(f"{GATEWAY} {EXPORTER}".split())
    assert not (host.root / UNITS / "haproxy.service.d").exists()
    assert host.told[-1] == "daemon-reload"
    assert packaged(host)[0].changed == []
    assert host.told == []


def test_a_configuration_of_somebody_else_stays_and_is_run(host: Host) -> None:
    make_ours(host)
    host.make("etc/haproxy/haproxy.cfg")
    _writer, stopped = packaged(host)
    assert stopped == ["nvidia-dcgm-exporter.service"]
    assert (host.root / "etc/haproxy/haproxy.cfg").read_text() == "x"
    assert not (host.root / "etc/haproxy/vllm").exists()


def test_a_host_that_is_no_gateway(host: Host) -> None:
    host.make("etc/haproxy/haproxy.cfg")
    before = host.files()
    writer, stopped = packaged(host)
    assert (writer.changed, stopped, host.told, host.files()) == ([], [], [], before)


@pytest.mark.parametrize("name", ["..", ".", ".hidden", "UPPER", "a b", "a\nb"])
def test_a_file_that_anybody_made_is_no_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    host = Host(tmp_path, monkeypatch)
    for place in ("var/lib/receipts", "var/lib/checks", "etc/vllm"):
        (tmp_path / place / f"{name}{'.yaml' if place == 'etc/vllm' else '.json'}").write_text("x")
    assert removal.instances_of(host.run, tmp_path / "opt") == ["one", "three", "two"]
