from __future__ import annotations

import fcntl
import os
import shlex
import threading
from pathlib import Path

import pytest
import yaml

from tools.nodes import host, inventory
from tools.nodes.cli import main
from tools.nodes.errors import NodeError
from tools.nodes.fleet import Fleet, Node, State, free_address, load, save
from tools.nodes.image import Recipe, remove_tree
from tools.nodes.machine import Bind
from tools.nodes.names import fleet_names
from tools.nodes.root import write
from tools.nodes.shell import locked

NODES = {"n1": inventory.Access("10.208.1.2", "ssh-ed25519 AAAA")}


def test_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    state = State("10.208.1.0/24", {"n1": Node("10.208.1.2", "bookworm", [Bind("/a", "/b", True)])})
    save(tmp_path, state)
    assert load(tmp_path) == state


def test_no_state_is_an_empty_state(tmp_path: Path) -> None:
    assert load(tmp_path) == State()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"subnet": null, "nodes": {"n1": {}}}', '{"subnet": 1, "nodes": 2}'])
def test_a_broken_state_is_met_with_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(NodeError, match=r"state\.json cannot be read"):
        load(tmp_path)


def test_addresses_are_given_out_in_order_and_reused() -> None:
    assert free_address("10.208.1.0/24", []) == "10.208.1.2"
    assert free_address("10.208.1.0/24", ["10.208.1.2", "10.208.1.4"]) == "10.208.1.3"


def test_a_full_network_is_met_with_a_sentence() -> None:
    taken = [f"10.208.1.{last}" for last in range(2, 255)]
    with pytest.raises(NodeError, match="is full: it has room for 253 nodes"):
        free_address("10.208.1.0/24", taken)


def test_the_inventory_reaches_nodes_whatever_the_path() -> None:
    folder = Path('/a "b"\\c: #d')
    document = yaml.safe_load(inventory.hosts_yml(folder, NODES, {"engine_extra_index_urls": []}))
    assert document["all"]["hosts"] == {"n1": {"ansible_host": "10.208.1.2"}}
    assert document["all"]["vars"]["ansible_ssh_private_key_file"] == f"{folder}/key"
    assert document["all"]["vars"]["engine_extra_index_urls"] == []


def test_a_space_in_the_path_survives_ansible_and_ssh() -> None:
    document = yaml.safe_load(inventory.hosts_yml(Path("/a b"), NODES, {}))
    arguments = shlex.split(document["all"]["vars"]["ansible_ssh_common_args"])
    assert 'UserKnownHostsFile="/a b/known_hosts"' in arguments
    assert "StrictHostKeyChecking=yes" in arguments


def test_an_empty_fleet_is_a_valid_inventory() -> None:
    assert yaml.safe_load(inventory.hosts_yml(Path("/a"), {}, {}))["all"]["hosts"] == {}


def test_known_hosts_names_the_node_and_its_address() -> None:
    assert inventory.known_hosts(NODES) == "n1,10.208.1.2 ssh-ed25519 AAAA\n"


def test_every_part_of_a_recipe_makes_another_image() -> None:
    recipe = Recipe("bookworm", ("deb a",), "", "mmdebstrap 1")
    others = [
        Recipe("trixie", ("deb a",), "", "mmdebstrap 1"),
        Recipe("bookworm", ("deb b",), "", "mmdebstrap 1"),
        Recipe("bookworm", ("deb a",), "x", "mmdebstrap 1"),
        Recipe("bookworm", ("deb a",), "", "mmdebstrap 2"),
        Recipe("bookworm", ("deb a",), "", "mmdebstrap 1", ("python3",)),
    ]
    assert len({recipe.key, *(other.key for other in others)}) == 6


def test_a_link_in_the_root_is_replaced_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "resolv.conf"
    outside.write_text("mine")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/resolv.conf").symlink_to(outside)
    write(root, "/etc/resolv.conf", "node's", 0o600)
    assert outside.read_text() == "mine"
    assert (root / "etc/resolv.conf").read_text() == "node's"
    assert (root / "etc/resolv.conf").stat().st_mode & 0o777 == 0o600


def test_a_mount_inside_stops_a_removal() -> None:
    with pytest.raises(NodeError, match=r"/proc.* is mounted inside /proc; unmount it first"):
        remove_tree(Path("/proc"))


def test_too_little_disk_is_met_with_a_sentence(tmp_path: Path) -> None:
    host.require_disk(tmp_path, 1, 0)
    with pytest.raises(NodeError, match=r"GiB free; 2 new node\(s\) with an engine need 2000000 GiB, 1000000 each"):
        host.require_disk(tmp_path, 2, 1000000)


def test_missing_tools_are_named_by_their_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(host, "KEYRING", tmp_path)
    assert host.missing_packages({"systemd-nspawn": "systemd-container", "nft": "nftables", "ip": "iproute2"}) == [
        "iproute2",
        "nftables",
        "systemd-container",
    ]
    monkeypatch.setattr(host, "KEYRING", tmp_path / "none")
    assert host.missing_packages({}) == ["debian-archive-keyring"]
    with pytest.raises(NodeError, match=r"lacks nftables \(Debian's names\): install with your package manager"):
        host.require_packages(["nftables"], install=True)


def test_the_command_that_would_install_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "apt-get").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NodeError, match=r"lacks mmdebstrap\. Install with: apt-get install --yes .* mmdebstrap"):
        host.require_packages(["mmdebstrap"], install=False)


@pytest.mark.parametrize(
    ("platform", "user", "sentence"),
    [("darwin", 0, "which only Linux has; this is darwin"), ("linux", 1000, "which needs root: run it with sudo")],
)
def test_who_and_where_is_met_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], platform: str, user: int, sentence: str
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr("os.geteuid", lambda: user)
    assert main(["up", "--fleet", "unit", "n1"]) == 1
    assert sentence in capsys.readouterr().err


def test_another_suite_or_bind_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    fleet = Fleet(fleet_names("unit", tmp_path))
    fleet.folder.mkdir(parents=True)
    save(fleet.folder, State("10.208.1.0/24", {"n1": Node("10.208.1.2", "bookworm", [])}))
    with pytest.raises(NodeError, match=r"n1 was made as bookworm, not trixie\. Remove it first: .* --fleet unit n1"):
        fleet.up(["n1"], "trixie", [], 0)
    with pytest.raises(NodeError, match="n1 was made with other --bind options"):
        fleet.up(["n1"], "bookworm", [Bind("/a", "/b")], 0)


def test_down_wants_names_or_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["down", "--fleet", "unit"]) == 1
    assert "Say either which nodes to remove or --all" in capsys.readouterr().err


def test_status_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--fleet", "no-such-fleet"]) == 0
    assert capsys.readouterr().out == "Fleet no-such-fleet has no nodes.\n"


def test_a_folder_removed_while_waiting_is_met_with_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "fleet"
    folder.mkdir()
    other = os.open(folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)

    def release() -> None:
        folder.rmdir()
        os.close(other)

    timer = threading.Timer(0.2, release)
    timer.start()
    with pytest.raises(NodeError, match="was removed by the run that was waited for"), locked(folder, "waiting"):
        pass
    timer.join()
