from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tools.nodes.errors import NodeError
from tools.quickstart import Quickstart, Server, chosen_model, first_json, first_server, main, with_model
from tools.steps import elapsed, stream
from tools.venv import decide


def test_a_folder_with_a_configuration_is_copied(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    assert chosen_model(str(tmp_path)) == {"model_source": str(tmp_path)}


def test_a_hub_id_is_passed_on() -> None:
    assert chosen_model("Qwen/Qwen3-0.6B") == {"model": "Qwen/Qwen3-0.6B"}


@pytest.mark.parametrize("text", ["/no/such/model", "./models/none", "~none/x", "qwen", "a/b/c", "a b/c"])
def test_neither_folder_nor_hub_id_is_met_with_a_sentence(text: str) -> None:
    with pytest.raises(NodeError, match="there is no such folder, and a hub id looks like"):
        chosen_model(text)


def test_a_folder_without_a_model_is_met_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match=r"the folder has no config\.json, so it is not a model"):
        chosen_model(str(tmp_path))


def test_an_inventory_that_is_not_there_is_met_with_a_sentence() -> None:
    with pytest.raises(NodeError, match=r"INVENTORY=nowhere/hosts\.yml: there is no such file or folder"):
        Quickstart("nowhere/hosts.yml", "")


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        (
            [{"name": "a", "model": "x/y", "revision": "r", "port": 1}, {"name": "b"}],
            [{"name": "a", "port": 1, "model": "n/m"}, {"name": "b"}],
        ),
        (None, [{"name": "quickstart", "model": "n/m"}]),
        ([], [{"name": "quickstart", "model": "n/m"}]),
        (["text"], [{"name": "quickstart", "model": "n/m"}]),
    ],
)
def test_with_model(models: Any, expected: list[Any]) -> None:
    assert with_model(models, {"model": "n/m"}) == expected


@pytest.mark.parametrize(
    ("instance", "server"),
    [
        ({"name": "a"}, Server("a", "127.0.0.1", 8000)),
        ({"name": "a", "host": "0.0.0.0", "port": 8001}, Server("a", "127.0.0.1", 8001)),
        ({"name": "a", "host": "10.0.0.1"}, Server("a", "10.0.0.1", 8000)),
    ],
)
def test_first_server(instance: dict[str, Any], server: Server) -> None:
    assert first_server([instance]) == server


@pytest.mark.parametrize("models", [None, [], [{}], "text"])
def test_an_inventory_without_models_is_met_with_a_sentence(models: Any) -> None:
    with pytest.raises(NodeError, match="has no vllm_models"):
        first_server(models)


def test_first_json_is_found_behind_ansible_s_words() -> None:
    assert first_json('node1 | SUCCESS => {\n  "json": {"a": 1}\n}\nmore') == {"json": {"a": 1}}


@pytest.mark.parametrize("text", ["", "node1 | FAILED", "node1 | SUCCESS => {"])
def test_an_answer_without_json_is_met_with_a_sentence(text: str) -> None:
    with pytest.raises(NodeError, match="This answer of ansible cannot be read"):
        first_json(text)


@pytest.mark.parametrize(
    ("wanted", "installed", "expected"),
    [
        ("requirements.txt", {}, "add"),
        ("requirements.txt", {"requirements.txt": "1"}, "keep"),
        ("requirements.txt", {"requirements-dev.txt": "2"}, "keep"),
        ("requirements-dev.txt", {"requirements.txt": "1"}, "add"),
        ("requirements-dev.txt", {"requirements.txt": "1", "requirements-dev.txt": "2"}, "keep"),
        ("requirements.txt", {"requirements.txt": "old"}, "remake"),
        ("requirements.txt", {"requirements.txt": "1", "requirements-dev.txt": "old"}, "remake"),
    ],
)
def test_what_is_done_with_the_virtual_environment(wanted: str, installed: dict[str, str], expected: str) -> None:
    assert decide(wanted, installed, {"requirements.txt": "1", "requirements-dev.txt": "2"}) == expected


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.9, "0:59"), (125, "2:05"), (3600, "60:00")])
def test_elapsed(seconds: float, text: str) -> None:
    assert elapsed(seconds) == text


def test_a_silent_command_is_seen_to_move(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("tools.steps._SILENCE_S", 0.05)
    stream([sys.executable, "-c", "import time; time.sleep(0.3); print('done')"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "... at work for 0:00"
    assert lines[-1].strip() == "done"


def test_a_failing_command_that_was_not_shown_says_why() -> None:
    with pytest.raises(NodeError, match=r"failed with exit status 3\.\n    because"):
        stream([sys.executable, "-c", "print('because'); raise SystemExit(3)"], show=False)


@pytest.mark.parametrize(
    ("user", "sentence"),
    [
        (1000, "make quickstart makes nodes with systemd-nspawn, which needs root: run it with sudo"),
        (0, r"lacks .*systemd-container.* \(Debian's names\): install with your package manager\."),
    ],
)
def test_no_root_or_no_nspawn_is_met_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, user: int, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    # Neither systemd-nspawn nor apt-get is found there.
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: user)
    monkeypatch.setattr("sys.argv", ["quickstart.py"])
    assert main() == 1
    assert re.search(sentence, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())
