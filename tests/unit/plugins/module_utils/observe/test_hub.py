"""What is read of a model on the hub; see tests/hub_stand_in.py for what answers here."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import hub as hub_reader
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model

from tests.hub_stand_in import LARGE_BYTES, Hub, commit_of, git_digest
from tests.unit.conftest import CONFIG, write_model
from tests.unit.plugins.module_utils.observe.checkpoints import LLAMA, llama_headers, write_checkpoint
from tests.unit.samples import CHECKOUT


@pytest.fixture(scope="module")
def sharded(hub: Hub) -> Path:
    """A model on the hub whose weights have headers, in two files."""
    headers = llama_headers()
    names = sorted(headers)
    shards = {
        f"model-0000{number}-of-00002.safetensors": {name: headers[name] for name in names[number - 1 :: 2]}
        for number in (1, 2)
    }
    return write_checkpoint(hub.folder / "org/sharded", LLAMA, shards)


def test_a_good_model(hub: Hub, sharded: Path) -> None:
    commit = commit_of(sharded)
    hub.asked.clear()
    size = sum(file.stat().st_size for file in sharded.glob("*.safetensors"))
    found = hub_reader.read("org/sharded", "main")
    listed = found.pop("files")
    assert found == {**model.facts(LLAMA, size, llama_headers()), "revision": commit}
    assert {one["path"]: (one["size"], one["blob_id"]) for one in listed} == {
        file.name: (file.stat().st_size, git_digest(file)) for file in sharded.iterdir()
    }
    assert hub_reader.read("org/sharded", commit)["revision"] == commit
    fetched = {line.rpartition("/")[2] for line in hub.asked if line.startswith("GET") and "/resolve/" in line}
    shards = {f"model-0000{number}-of-00002.safetensors" for number in (1, 2)}
    assert fetched == {"config.json", "model.safetensors.index.json", *shards}


def test_large_files_are_known_by_sha256(hub: Hub) -> None:
    write_model(hub.folder / "org/large", model__safetensors=bytes(LARGE_BYTES))
    listed = {one["path"]: one for one in hub_reader.read("org/large", "main")["files"]}
    assert listed["model.safetensors"] == {
        "path": "model.safetensors",
        "size": LARGE_BYTES,
        "sha256": hashlib.sha256(bytes(LARGE_BYTES)).hexdigest(),
        "blob_id": None,
    }
    assert listed["config.json"]["sha256"] is None


def test_weights_without_a_header(hub: Hub) -> None:
    found = hub_reader.read("org/good", "main")
    said = found.pop("warnings")
    assert [one["path"] for one in found.pop("files")] == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    expected = {**model.facts(CONFIG, 1000), "revision": commit_of(hub.folder / "org/good")}
    assert said[1:] == expected.pop("warnings")
    assert found == expected
    assert said[0].startswith("The headers of the weights of org/good could not be read (")
    assert said[0].endswith("are computed from config.json and fitted to the size of the files.")


@pytest.mark.parametrize(
    ("name", "files", "said"),
    [
        ("org/pickle", {"pytorch_model__bin": b"345"}, "The weights are pickles (*.bin, *.pt)"),
        ("org/gguf", {"m__gguf": b"1"}, "The weights are GGUF"),
    ],
)
def test_what_stands_against_the_weights_is_said(hub: Hub, name: str, files: dict[str, bytes], said: str) -> None:
    write_model(hub.folder / name, "model.safetensors", **files)
    hub.asked.clear()
    found = hub_reader.read(name, "main")
    assert found["warnings"][0].startswith(said)
    assert found["weight_bytes"] == sum(len(content) for content in files.values())
    assert not [line for line in hub.asked if line.endswith((".bin", ".gguf"))]


def test_files_beside_the_configuration(hub: Hub) -> None:
    content = b'{"quantization": {"quant_algo": "NVFP4"}}'
    modules = b'[{"type": "sentence_transformers.models.Pooling"}]'
    write_model(hub.folder / "org/beside", hf_quant_config__json=content, modules__json=modules)
    found = hub_reader.read("org/beside", "main")
    assert (found["quantization"], found["runner"]) == ("modelopt_fp4", "pooling")


@pytest.mark.parametrize(
    ("name", "token", "sentence"),
    [
        (
            "org/good",
            "hf_wrong",
            "The hub does not accept the token that was used for org/good: it is wrong, expired or revoked, or has no "
            "access to this model. Make a new one at https://huggingface.co/settings/tokens and give it in "
            "vllm_hf_token (by default HF_TOKEN of the environment), or none for a public model.",
        ),
        (
            "org/gated",
            "hf_good",
            "The hub model org/gated is gated, and the account tester has not accepted its licence: do so at "
            "https://huggingface.co/org/gated, logged in with that account.",
        ),
        (
            "org/pending",
            "hf_good",
            "The hub model org/pending is gated, and the request of the account tester for access awaits the review of "
            "its owner: see https://huggingface.co/org/pending, and run this again when it is granted.",
        ),
        (
            "org/fine-grained",
            "hf_good",
            "The hub model org/fine-grained is gated, and the fine-grained token in use does not have the permission "
            "to read gated repositories: add it at https://huggingface.co/settings/tokens.",
        ),
        (
            "org/gated",
            "",
            "The hub model org/gated is gated and no token was given: accept its licence at "
            "https://huggingface.co/org/gated, and give a token of that account in vllm_hf_token (by default HF_TOKEN "
            "of the environment).",
        ),
    ],
)
@pytest.mark.parametrize("given", [True, False])
def test_refused_tokens(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, name: str, token: str, sentence: str, given: bool
) -> None:
    """A token that is given, and one that huggingface_hub finds."""
    for why in ("pending", "fine-grained"):
        if not (hub.folder / "org" / why).exists():
            folder = write_model(hub.folder / "org" / why)
            (folder / ".gated").touch()
            (folder / f".{why}").touch()
    monkeypatch.setenv("HF_TOKEN", "hf_wrong_too" if given else token)
    with pytest.raises(InputError) as raised:
        hub_reader.read(name, "main", token if given else None)
    assert str(raised.value) == sentence
    assert "hf_good" not in str(raised.value)
    assert "hf_wrong" not in str(raised.value)


def test_a_token_that_has_access(hub: Hub) -> None:
    folder = write_model(hub.folder / "org/licensed")
    (folder / ".gated").write_text("hf_good_friend")
    assert hub_reader.read("org/licensed", "main", "hf_good_friend_1")["revision"] == commit_of(folder)
    # What was read is in huggingface_hub's cache now, and still another token has no access.
    for token, words in (("hf_good_other", "has not accepted its licence"), ("", "no token was given")):
        with pytest.raises(InputError, match=words):
            hub_reader.read("org/licensed", "main", token)


def test_a_token_in_a_file(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_wrong\n", encoding="utf-8")
    said = read_elsewhere(tmp_path, hub.url, HF_TOKEN_PATH=str(tmp_path / "token"))
    assert said.startswith("The hub does not accept the token that was used for org/good: it is wrong")


@pytest.mark.parametrize(
    ("name", "revision", "sentence"),
    [
        (
            "org/none",
            "main",
            "The hub has no model org/none, or it is private; correct 'model' (a path begins with /).",
        ),
        (
            "org/gated",
            "main",
            "The hub model org/gated is gated and no token was given: accept its licence at "
            "https://huggingface.co/org/gated, and give a token of that account in vllm_hf_token (by default HF_TOKEN "
            "of the environment).",
        ),
        ("org/good", "v7", "The hub model org/good has no revision 'v7'; correct 'revision'."),
        ("org/no-config", "main", "The hub model org/no-config has no config.json, so vLLM cannot load it."),
        (
            "org/no-weights",
            "main",
            "The hub model org/no-weights has no weights (*.safetensors, *.bin, *.pt, *.gguf); choose another model.",
        ),
        (
            "org/not-json",
            "main",
            "config.json of org/not-json is not JSON (Expecting property name enclosed in double quotes: "
            "line 1 column 2 (char 1)); fetch the model again.",
        ),
        (
            "models/org/good",
            "main",
            "models/org/good is neither an absolute path nor a hub id such as Qwen/Qwen3-8B; correct 'model'.",
        ),
    ],
)
def test_refusals(hub: Hub, name: str, revision: str, sentence: str) -> None:
    with pytest.raises(InputError) as raised:
        hub_reader.read(name, revision)
    assert str(raised.value) == sentence


def test_a_proxy_that_refuses_the_files(hub: Hub) -> None:
    with pytest.raises(InputError) as raised:
        hub_reader.read("org/forbidden", "main")
    said = str(raised.value)
    assert said.startswith("The hub could not be asked about org/forbidden (")
    assert "403" in said
    assert said.endswith("write model_config, the path of a config.json there.")


READ = """
import sys
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import hub
try:
    hub.read("org/good", "main")
except InputError as error:
    print(error)
"""


def read_elsewhere(tmp_path: Path, endpoint: str, *options: str, **more: str) -> str:
    """Read a model in a Python of its own, since huggingface_hub reads HF_ENDPOINT once; ``more`` is environment."""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), **more}
    environment["PYTHONPATH"] = str(CHECKOUT / ".collections")
    done = subprocess.run(
        [sys.executable, *options, "-c", READ], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_hub_that_cannot_be_reached(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        said = read_elsewhere(tmp_path, f"http://127.0.0.1:{held.getsockname()[1]}")
    assert said == (
        "The hub could not be asked about org/good ([Errno 111] Connection refused); check the network between the "
        "control node and the hub, name a folder in 'model' or 'model_source', or, for a plan, write model_config, the "
        "path of a config.json there."
    )


def test_without_huggingface_hub(tmp_path: Path) -> None:
    said = read_elsewhere(tmp_path, "http://127.0.0.1:9", "-S")
    assert said == (
        "Reading org/good from the hub needs huggingface_hub where model_info runs "
        "(No module named 'huggingface_hub'); install this collection's requirements.txt on the control node."
    )


@pytest.mark.parametrize("token", ["hf_canary42\n", "  hf_canary42", "hf_canary42\r\n"])
def test_white_space_around_a_token_is_not_a_part_of_it(token: str) -> None:
    assert hub_reader.given(token) == "hf_canary42"


@pytest.mark.parametrize("token", ["hf_can\nary42", "hf_can ary42", "hf_canäry42", "hf_can\x00ary42"])
def test_what_no_header_can_hold_is_refused_and_not_shown(hub: Hub, token: str) -> None:
    with pytest.raises(InputError) as raised:
        hub_reader.read("org/good", "main", token)
    assert "hf_can" not in str(raised.value)
    assert "cannot be a token of the hub" in str(raised.value)


def test_the_password_of_a_mirror_is_not_shown() -> None:
    fault = OSError("Client error '404' for url 'http://user:s3cret@mirror/api/models/org/good'")
    with pytest.raises(InputError, match="could not be asked") as raised, hub_reader._sentences("org/good", "main", ""):
        raise fault
    assert "s3cret" not in str(raised.value)
    assert "mirror/api" in str(raised.value)
