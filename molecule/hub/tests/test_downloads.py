"""What is downloaded, and what becomes of a download that goes wrong."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import time
from pathlib import Path

import pytest
from conftest import CACHE, MODEL, SHARDS, Download, Hub, variables
from testinfra.host import Host

from tests.deployments import FLEET, ROOT, kill_play, user_environment

FOLDER = f"{CACHE}/models--org--chat"


def listed(host: Host) -> dict[str, str]:
    """Files of the newest snapshot on the node, with their sha256."""
    newest = host.check_output(f"ls -td {FOLDER}/snapshots/* | head -1")
    lines = host.check_output("cd %s && find -L . -type f -exec sha256sum {} +", newest)
    return {name[2:]: digest for digest, name in (line.split("  ") for line in lines.splitlines())}


def expected(hub: Hub) -> dict[str, str]:
    """The same of the hub's files."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in hub.model.iterdir()
        if not file.name.startswith(".")
    }


def requests_for(hub: Hub, node: Host) -> int:
    """How many large files the unit of the node has asked for."""
    # journalctl fails where no such unit has run yet
    log: str = node.run("journalctl --no-pager --output cat --unit 'gpufleet-download-*'").stdout
    return log.count("Started")


def test_two_instances_download_once_and_only_what_vllm_loads(host: Host, hub: Hub, download: Download) -> None:
    for name in ("pytorch_model.bin", "original.pth", "picture.png"):
        (hub.model / name).write_bytes(b"not loaded")
    predicted = download("--check")
    assert predicted.code == 0, predicted.output
    assert re.search(rf"node1: {MODEL}: \d\d\.\d MiB would be downloaded", predicted.text), predicted.output
    assert not host.file(FOLDER).exists

    before = requests_for(hub, host)
    first = download()
    assert first.code == 0, first.output
    assert "(one, two)" in first.output
    assert requests_for(hub, host) == before + 1
    again = download()
    assert (again.code, again.count("changed")) == (0, 0), again.output
    assert requests_for(hub, host) == before + 1
    for name in ("pytorch_model.bin", "original.pth", "picture.png"):
        (hub.model / name).unlink()
    assert listed(host) == expected(hub)


def wait_for(host: Host, command: str, seconds: float = 60) -> None:
    """Wait until a command succeeds on the node."""
    deadline = time.monotonic() + seconds
    while host.run(command).rc:
        assert time.monotonic() < deadline, command
        time.sleep(0.2)


@pytest.mark.parametrize("also_the_tool", [False, True])
def test_a_download_that_is_killed_half_way_goes_on(
    host: Host, hub: Hub, download: Download, tmp_path: Path, also_the_tool: bool
) -> None:
    """The play is killed, and with it, or not, the tool on the node; the next run ends with whole, compared files."""
    hub.instruct(slow=600_000)
    extra = json.dumps({**variables(hub), "model_download_workers": 1})
    command = ["ansible-playbook", "molecule/hub/play.yml", "-i", str(FLEET / "hosts.yml"), "-e", extra]
    play = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**user_environment(), "HF_HOME": str(tmp_path / "hf")},
        stdout=subprocess.DEVNULL,
    )
    # One large file is whole, and the next has begun.
    wait_for(
        host, f"find {FOLDER}/blobs -size +1M -not -name '*.incomplete' | grep -q . && ls {FOLDER}/blobs/*.incomplete"
    )
    kill_play(play)
    if also_the_tool:
        host.check_output("systemctl kill --signal SIGKILL 'gpufleet-download-*'")
        wait_for(host, "! systemctl is-active 'gpufleet-download-*'")
        assert host.check_output(f"ls {FOLDER}/blobs/*.incomplete")
    else:
        assert host.run("systemctl is-active 'gpufleet-download-*'").stdout.strip() == "active"
    whole = host.check_output(
        f"stat --format '%n %Y' $(find {FOLDER}/blobs -size +1M -not -name '*.incomplete' | head -1)"
    )

    starts = requests_for(hub, host)
    hub.instruct(slow=0)
    run = download()
    assert run.code == 0, run.output
    assert requests_for(hub, host) == starts + also_the_tool
    assert listed(host) == expected(hub)
    assert host.check_output("stat --format '%%n %%Y' %s", whole.split()[0]) == whole
    assert host.run(f"ls {FOLDER}/blobs/*.incomplete").rc != 0
    record = json.loads(host.file(f"{FOLDER}/gpufleet-{hub.commit}.json").content_string)
    assert set(record) == set(expected(hub))


def test_a_connection_that_breaks_is_taken_up_by_the_tool(host: Host, hub: Hub, download: Download) -> None:
    hub.instruct(cut=1_000_000)
    run = download()
    assert run.code == 0, run.output
    assert listed(host) == expected(hub)


def test_a_file_that_arrives_damaged_is_fetched_again(host: Host, hub: Hub, download: Download) -> None:
    hub.instruct(damage=1)
    run = download()
    assert run.code == 0, run.output
    assert "did not have the digest that the hub states, and was downloaded again" in run.text
    assert listed(host) == expected(hub)


def test_a_hub_that_always_damages_is_refused(host: Host, hub: Hub, download: Download) -> None:
    hub.instruct(damage=100)
    run = download()
    assert run.code != 0
    assert "does not have the digest that the hub states, twice." in run.text, run.output


def test_a_file_that_the_disk_has_spoilt(host: Host, hub: Hub, download: Download) -> None:
    """Found by its time when something wrote it, and by reading everything when nothing did."""
    assert download().code == 0
    blob = host.check_output(f"readlink -f {FOLDER}/snapshots/*/extra-2.safetensors")
    spoil = f"printf X | dd of={blob} bs=1 seek=4000 conv=notrunc status=none"
    host.check_output(spoil)
    mended = download()
    assert mended.code == 0, mended.output
    assert "extra-2.safetensors did not have the digest" in mended.text
    assert listed(host) == expected(hub)

    blob = host.check_output(f"readlink -f {FOLDER}/snapshots/*/extra-2.safetensors")
    host.check_output(f"touch -r {blob} /tmp/time && {spoil} && touch -r /tmp/time {blob}")
    assert download().count("changed") == 0
    mended = download(model_verify="always")
    assert mended.code == 0, mended.output
    assert listed(host) == expected(hub)


def test_a_full_disk_is_refused_before_the_first_byte(host: Host, hub: Hub, download: Download) -> None:
    host.check_output("mkdir -p /mnt/small && mount -t tmpfs -o size=64m tmpfs /mnt/small")
    try:
        run = download(model_hub_cache="/mnt/small/hub")
        assert run.code != 0
        assert "do not fit: /mnt/small/hub has 0.1 GiB free." in run.text, run.output
        assert run.count("changed") == 0
        assert host.check_output("ls -A /mnt/small") == ""
    finally:
        host.check_output("umount /mnt/small")


def test_a_branch_is_pinned_to_its_commit_and_old_commits_go_when_asked(
    host: Host, hub: Hub, download: Download
) -> None:
    assert download().code == 0
    old = hub.commit
    (hub.model / "config.json").write_text((hub.model / "config.json").read_text() + "\n")
    assert hub.commit != old
    assert download().code == 0
    assert set(host.check_output("ls %s/snapshots", FOLDER).split()) == {old, hub.commit}

    settings = f"model: {MODEL}\nrevision: {hub.commit}\n"
    host.check_output("mkdir -p /etc/vllm && printf %s > /etc/vllm/one.yaml", settings)
    predicted = download("--check", "--diff", model_prune=True)
    assert f"-{MODEL} {old}" in predicted.output, predicted.output
    assert len(host.check_output("ls %s/snapshots", FOLDER).split()) == 2
    pruned = download(model_prune=True)
    assert pruned.count("changed") == 1, pruned.output
    assert host.check_output("ls %s/snapshots", FOLDER) == hub.commit
    assert listed(host) == expected(hub)
    assert download(model_prune=True).count("changed") == 0


def test_the_hub_cannot_be_reached_from_the_node(host: Host, hub: Hub, download: Download) -> None:
    run = download(model_hub_endpoint="http://127.0.0.1:9", model_download_retries=1)
    assert run.code != 0
    assert f"{MODEL} could not be downloaded: the host does not reach the hub, or the proxy before it." in run.text, (
        run.output
    )


def test_a_stall_is_seen_and_gone_on_from_without_xet(host: Host, hub: Hub, download: Download) -> None:
    """The hub is open and its Xet storage is not: the tool by itself waits there for minutes."""
    hub.instruct(xet="http://127.0.0.1:9")
    begin = time.monotonic()
    run = download(model_download_stall_seconds=15)
    assert run.code == 0, run.output
    assert "no byte arrived for 15 s; going on in 5 s with what is not whole" in run.text
    assert "did not get on with Xet and goes on without it" in run.text
    assert time.monotonic() - begin < 90
    assert listed(host) == expected(hub)
    assert host.run("ls /run/gpufleet-download/*/environment").rc != 0


def test_a_hub_that_has_a_fault_of_its_own(host: Host, hub: Hub, download: Download) -> None:
    """The control node asks first. What a host that meets it alone says is in the unit tests of downloads."""
    hub.instruct(status=503)
    run = download(model_download_retries=0)
    assert run.code != 0
    assert f"The hub could not be asked about {MODEL} (" in run.text
    assert run.count("changed") == 0


def test_a_proxy_that_is_not_there_and_its_password(host: Host, hub: Hub, download: Download) -> None:
    run = download("-vvv", model_http_proxy="http://user:Secret7Word@127.0.0.1:9", model_download_retries=0)
    assert run.code != 0
    assert "the host does not reach the hub, or the proxy before it" in run.text, run.output
    assert "Secret7Word" not in run.output
    assert host.run("grep -r Secret7Word /run/gpufleet-download /run/systemd/transient /var/log").rc != 0
    assert "Secret7Word" not in host.check_output("journalctl --no-pager --boot")


def test_a_cache_in_a_home(host: Host, hub: Hub, download: Download) -> None:
    """A home that the service's user may enter is as good as another folder; one that is closed is refused before."""
    host.check_output("useradd --system vllm 2>/dev/null; mkdir -p /home/models && chmod 700 /home/models")
    closed = download(model_hub_cache="/home/models/hub")
    assert closed.code != 0
    assert "/home/models on the way to /home/models/hub (model_hub_cache) is closed to the user vllm" in closed.text
    assert closed.count("changed") == 0
    host.check_output("chmod 711 /home/models")
    opened = download(model_hub_cache="/home/models/hub")
    assert opened.code == 0, opened.output
    assert host.file(f"/home/models/hub/models--org--chat/snapshots/{hub.commit}/config.json").exists
    host.check_output("rm -rf /home/models")


def test_a_file_of_authorities_that_is_not_there(hub: Hub, download: Download) -> None:
    run = download(model_ca_bundle="/etc/ssl/none.crt")
    assert run.code != 0
    assert "model_ca_bundle names /etc/ssl/none.crt, which is no file on the host" in run.text, run.output
    assert run.count("changed") == 0


def test_a_model_that_is_not_on_the_hub(hub: Hub, download: Download) -> None:
    run = download(vllm_models=[{"name": "one", "model": "org/other"}])
    assert run.code != 0
    assert "The hub has no model org/other, or it is private" in run.text, run.output
    assert run.count("changed") == 0


def test_there_are_as_many_large_files_as_the_tests_think(made: Path) -> None:
    assert len(list(made.glob("extra-*.safetensors"))) == SHARDS
