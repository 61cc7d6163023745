"""Releases of the engine, in the order in which an operator meets them: each test begins where the last one ended."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Sequence

from conftest import NEW, OLD, VARIABLES, Deploy, instance
from testinfra.host import Host

from tests.deployments import FLEET, ROOT, ask, unit, user_environment

RELEASES = "/opt/vllm/releases"
# An upgrade that is only a link and a restart, without what the engine itself takes to load.
ROLLBACK_SECONDS = 60


def releases(host: Host) -> list[str]:
    """Names of the releases on the node."""
    found: list[str] = host.check_output("ls %s", RELEASES).split()
    return found


def served_by(host: Host, port: int) -> str:
    """Version that a server says of itself."""
    script = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{port}/version').read().decode())"
    version: str = json.loads(host.check_output("python3 -c %s", script))["version"]
    return version.split("+")[0]


def load_seconds(output: str, name: str) -> float:
    """How long the engine took to load, by what the warm-up waited."""
    found = re.findall(rf"vllm@{name}: .*\((\d+) s\)", output)
    return float(found[-1]) if found else 0.0


def test_converge_installed_the_release_that_was_asked_for(host: Host) -> None:
    assert releases(host) == [f"{OLD}-cpu"]
    assert host.file("/opt/vllm/current").linked_to == f"{RELEASES}/{OLD}-cpu"
    assert served_by(host, 8000) == OLD


def test_an_installation_that_is_killed_half_way(host: Host, deploy: Deploy) -> None:
    """Both the play and the host's installer are in the middle of it; the next run makes it whole."""
    variables = json.dumps({"deploy_model": str(FLEET / "model"), "engine_version": NEW})
    command: Sequence[str] = ["ansible-playbook", "-i", str(FLEET / "hosts.yml"), "playbooks/deploy.yml"]
    before = unit(host, "alpha", "InvocationID")
    with subprocess.Popen(
        [*command, "-e", f"@{VARIABLES}", "-e", variables],
        cwd=ROOT,
        env=user_environment(),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as play:
        deadline = time.monotonic() + 120
        while not host.file(f"{RELEASES}/{NEW}-cpu/lib/python3.11/site-packages/torch").exists:
            assert time.monotonic() < deadline
            assert play.poll() is None
            time.sleep(0.1)
        play.kill()
    assert not host.file(f"{RELEASES}/{NEW}-cpu/release.json").exists
    # What runs goes on running, from the release before.
    assert host.file("/opt/vllm/current").linked_to == f"{RELEASES}/{OLD}-cpu"
    assert unit(host, "alpha", "InvocationID") == before
    assert served_by(host, 8000) == OLD

    predicted = deploy("--check", engine_version=NEW)
    assert predicted.code == 0, predicted.output
    assert predicted.count("changed") > 0
    assert "node1: vllm@alpha.service would be restarted" in predicted.output, predicted.output
    assert unit(host, "alpha", "InvocationID") == before

    good = deploy(engine_version=NEW)
    assert good.code == 0, good.output
    assert f"{NEW}-cpu: " in good.text
    assert '"vllm": "0.32.0+cpu"' in host.file(f"{RELEASES}/{NEW}-cpu/release.json").content_string
    assert served_by(host, 8000) == NEW
    again = deploy(engine_version=NEW)
    assert (again.code, again.count("changed")) == (0, 0), again.output


def test_a_rollback_is_a_link_and_a_restart(host: Host, deploy: Deploy) -> None:
    begin = time.monotonic()
    back = deploy(engine_version=OLD)
    seconds = time.monotonic() - begin
    assert back.code == 0, back.output
    assert "Install the packages" not in back.output
    assert served_by(host, 8000) == OLD
    loading = load_seconds(back.output, "alpha")
    print(f"rollback: {seconds:.0f} s, of which the engine took {loading:.0f} s to load")
    assert seconds - loading < ROLLBACK_SECONDS


def test_two_releases_side_by_side(host: Host, deploy: Deploy) -> None:
    """The second instance has a release of its own, and the first does not notice."""
    before = unit(host, "alpha", "InvocationID")
    both = [instance("alpha", 8000), instance("newer", 8001, engine_version=NEW)]
    run = deploy(vllm_models=both)
    assert run.code == 0, run.output
    assert (served_by(host, 8000), served_by(host, 8001)) == (OLD, NEW)
    assert unit(host, "alpha", "InvocationID") == before
    for name, port in (("alpha", 8000), ("newer", 8001)):
        assert ask(host, name, port)["usage"]["completion_tokens"] >= 1
    again = deploy(vllm_models=both)
    assert (again.code, again.count("changed")) == (0, 0), again.output


def test_releases_that_nobody_uses_go_when_asked(host: Host, deploy: Deploy) -> None:
    """Both real ones are in use; of two folders that stand for older ones the newer may stay."""
    for name, age in (("0.29.0-cpu", "2026-01-01"), ("0.30.0-cpu", "2026-02-01")):
        host.check_output("mkdir %s && touch -d %s %s", f"{RELEASES}/{name}", age, f"{RELEASES}/{name}")
    both = [instance("alpha", 8000), instance("newer", 8001, engine_version=NEW)]
    predicted = deploy("--check", "--diff", vllm_models=both)
    assert (predicted.code, predicted.count("changed")) == (0, 1), predicted.output
    assert "-0.29.0-cpu" in predicted.output
    assert len(releases(host)) == 4
    assert deploy(vllm_models=both, engine_keep=0).count("changed") == 0
    assert deploy(vllm_models=both).count("changed") == 1
    assert releases(host) == ["0.30.0-cpu", f"{OLD}-cpu", f"{NEW}-cpu"]
    assert deploy(vllm_models=both, engine_keep=1).count("changed") == 1
    assert releases(host) == [f"{OLD}-cpu", f"{NEW}-cpu"]


def test_what_is_not_a_version(deploy: Deploy) -> None:
    run = deploy(engine_version="latest")
    assert run.code != 0
    assert "The vLLM version 'latest' cannot be read; write one such as" in run.text, run.output
    assert run.count("changed") == 0
