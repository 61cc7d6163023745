"""What the module model_snapshot sets up on a host for the hub's tool."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.systemd import read_environment
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import places, systemd
from ansible_collections.gpufleet.vllm.plugins.modules import model_snapshot

from tests.unit.plugins.modules.running import run

PASSWORD = 'a"b$c\\d%e'


class Module:
    """What the class takes of AnsibleModule."""

    def __init__(self, **params: Any) -> None:
        defaults = {name: option.get("default") for name, option in model_snapshot.ARGUMENTS.items()}
        self.params = {**defaults, "model": "org/chat", "revision": "abc", "cache": "/var/lib/vllm/hub", **params}
        self.called: list[list[str]] = []

    def run_command(self, command: list[str]) -> tuple[int, str, str]:
        """Note a command."""
        self.called.append(command)
        return 0, "", ""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_snapshot, "RUNNING", tmp_path / "run")
    monkeypatch.setattr(systemd, "show", lambda units: {})
    for name in model_snapshot.PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def started(tmp_path: Path, **params: Any) -> tuple[dict[str, str], list[str], Path]:
    """Start a download: the environment of its unit, its command, and the file of the environment."""
    hf = tmp_path / "hf"
    hf.touch()
    module: Any = Module(hf=str(hf), **{"files": [], "cache": str(tmp_path / "hub"), **params})
    download = model_snapshot.Download(module)
    download.started()
    file = download.folder / "environment"
    return read_environment(file.read_text()), module.called[-1], file


def test_proxies_authorities_and_xet(tmp_path: Path) -> None:
    proxy = f"http://user:{PASSWORD}@proxy:3128"
    found, command, file = started(
        tmp_path,
        https_proxy=proxy,
        no_proxy=".local",
        ca_bundle="/etc/ssl/all.crt",
        xet=False,
        endpoint="https://mirror",
        environment={"HF_HUB_DOWNLOAD_TIMEOUT": 30},
    )
    assert {found["https_proxy"], found["HTTPS_PROXY"]} == {proxy}
    assert found["no_proxy"] == ".local"
    assert {found[name] for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")} == {"/etc/ssl/all.crt"}
    assert (found["HF_HUB_DISABLE_XET"], found["HF_ENDPOINT"]) == ("1", "https://mirror")
    assert found["HF_HUB_DOWNLOAD_TIMEOUT"] == "30"
    assert file.stat().st_mode & 0o777 == 0o600
    assert not [word for word in command if "user" in word or PASSWORD in word]


def test_without_settings_the_tool_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://of-the-task:1")
    found, _command, _file = started(tmp_path)
    assert found["HTTPS_PROXY"] == "http://of-the-task:1"
    assert not {"https_proxy", "HF_HUB_DISABLE_XET", "SSL_CERT_FILE"} & set(found)


def test_the_password_of_a_proxy_goes_with_the_download(tmp_path: Path) -> None:
    _found, _command, file = started(tmp_path, http_proxy=f"http://user:{PASSWORD}@proxy:3128")
    (file.parent / "output").write_text("Error: cannot connect to http://user:word@proxy:3128\n")
    module: Any = Module(cache=str(tmp_path / "hub"))
    read = model_snapshot.Download(module).read()
    assert not file.exists()
    assert read["output"] == ["Error: cannot connect to http://[removed]@proxy:3128"]


@pytest.mark.parametrize(
    ("cache", "home"), [("/home/models/hub", "read-only"), ("/root/hub", "read-only"), ("/srv/hub", "yes")]
)
def test_a_cache_in_a_home_can_be_written(cache: str, home: str) -> None:
    module: Any = Module(cache=cache)
    found = model_snapshot.Download(module).settings()
    assert (found["ProtectHome"], found["ReadWritePaths"]) == (home, cache)


def test_a_link_to_a_home_counts_as_the_home(tmp_path: Path) -> None:
    (tmp_path / "hub").symlink_to("/home/models")
    module: Any = Module(cache=str(tmp_path / "hub"))
    assert model_snapshot.Download(module).settings()["ProtectHome"] == "read-only"


def test_what_stands_against_it_is_said_before(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    module: Any = Module(cache=str(closed / "hub"), user="nobody", ca_bundle="/etc/no.crt")
    authorities, folder = model_snapshot.Download(module).observed()["problems"]
    assert authorities.startswith("model_ca_bundle names /etc/no.crt, which is no file on the host;")
    # pytest's own folders are closed too, further up
    assert "is closed to the user nobody, who reads the models; open it (chmod o+x " in folder


def test_who_may_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    tops = [*tmp_path.parents, tmp_path]
    shut = next((top for top in tops if not top.stat().st_mode & 0o001), None)
    folder.parent.chmod(0o750)
    assert places.closed_to(folder, "no-such-user") in {folder.parent, *tops}
    assert places.closed_to(folder, "root") is None
    if shut is None:
        folder.parent.chmod(0o751)
        assert places.closed_to(folder / "not there yet", "no-such-user") is None
    monkeypatch.setattr(os, "listxattr", lambda path: ["system.posix_acl_access"])
    folder.parent.chmod(0o750)
    assert places.closed_to(folder, "no-such-user") is None


def test_what_the_hub_names_is_no_option(tmp_path: Path) -> None:
    command = started(tmp_path, model="org/chat", files=[{"path": "config.json", "size": 1}])[1]
    assert command[command.index("--", command.index(str(tmp_path / "hf"))) + 1 :] == ["org/chat", "config.json"]


NAMES: dict[str, dict[str, Any]] = {
    "a file": {"files": [{"path": "../../etc/passwd", "size": 1}]},
    "an option": {"files": [{"path": "--local-dir=/etc", "size": 1}]},
    "an absolute path": {"names": ["/etc/passwd"]},
    "a commit": {"revision": "../../x"},
    "a model": {"model": "--help"},
}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("state", ["observed", "started", "verified", "dropped"])
def test_names_that_lead_elsewhere_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, state: str
) -> None:
    given = {"model": "org/chat", "revision": "abc", "files": [], "cache": str(tmp_path / "hub"), **NAMES[kind]}
    answer = run(model_snapshot, capsys, state=state, **given)
    assert "a name that is not taken" in answer["msg"]
    assert not (tmp_path / "hub").exists()
