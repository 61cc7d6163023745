"""A new version of this collection restarts nothing by itself."""

from __future__ import annotations

import copy
from typing import Any

from conftest import Deploy
from testinfra.host import Host

from tests.deployments import unit, wait_for_answer

UNIT = "/etc/systemd/system/vllm@.service"
# As versions wrote it that made it of the text of the unit, too.
OLD_DIGEST = "5" * 64


def test_a_unit_with_an_older_text_is_rewritten_and_what_runs_is_left_alone(host: Host, deploy: Deploy) -> None:
    text = host.file(UNIT).content_string
    host.check_output("sed -i -e '/^PrivateMounts=/d' -e 's/^# Pinned memory.*/# RDMA/' %s", UNIT)
    host.check_output("systemctl daemon-reload")
    before = [unit(host, name, "InvocationID", "MainPID") for name in ("alpha", "beta")]
    checked = deploy("--check", "--diff")
    assert "+PrivateMounts=yes" in checked.output
    changed = deploy()
    assert changed.code == 0, changed.output
    assert changed.count("changed") == 1
    assert host.file(UNIT).content_string == text
    assert [unit(host, name, "InvocationID", "MainPID") for name in ("alpha", "beta")] == before
    assert unit(host, "beta", "NeedDaemonReload") == ["no"]
    assert deploy().count("changed") == 0


def test_an_instance_that_an_earlier_version_started_runs_on(
    host: Host, deploy: Deploy, models: list[dict[str, Any]]
) -> None:
    """Its digest has another form. What it was started from is compared, and a change of that restarts it."""
    written = host.file("/etc/vllm/beta.env").content_string
    host.check_output("sed -i 's/^GPUFLEET_DIGEST=.*/GPUFLEET_DIGEST=%s/' /etc/vllm/beta.env", OLD_DIGEST)
    host.check_output(
        "sed -i '/^Environment=PATH=/d' %s && rm /etc/systemd/system/vllm@beta.service.d/mounts.conf", UNIT
    )
    host.check_output("systemctl daemon-reload && systemctl restart vllm@beta")
    wait_for_answer(host, "beta", 8001)
    before = unit(host, "beta", "InvocationID", "MainPID")
    for expected in (True, False):
        run = deploy()
        assert run.code == 0, run.output
        assert (run.count("changed") > 0) is expected
        assert unit(host, "beta", "InvocationID", "MainPID") == before
    assert OLD_DIGEST in host.file("/etc/vllm/beta.env").content_string

    wanted = copy.deepcopy(models)
    wanted[1]["environment"] = {"ANOTHER": "1"}
    assert deploy(vllm_models=wanted).code == 0
    assert unit(host, "beta", "MainPID") != before[1:]
    assert OLD_DIGEST not in host.file("/etc/vllm/beta.env").content_string
    assert deploy().code == 0
    assert host.file("/etc/vllm/beta.env").content_string == written
