"""The modules gateway_server and gateway_info, with a running HAProxy."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import haproxy
from ansible_collections.gpufleet.vllm.plugins.modules import gateway_info, gateway_server

from tests.unit.gateway_process import KEY, Gateway, gateway, needs_haproxy, wait_until
from tests.unit.plugins.modules.running import run

pytestmark = needs_haproxy
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway with two servers."""
    with gateway(tmp_path, {"alpha": ["alpha", "alpha"]}) as running:
        wait_until(lambda: len(running.up) == 2)
        yield running


def module(one: Gateway, capsys: Capture, state: str, server: str = "gpu0", **more: Any) -> dict[str, Any]:
    places = {"socket": str(one.folder / "master"), "state_file": str(one.folder / "servers")}
    return run(gateway_server, capsys, backend="alpha", server=server, state=state, **places, **more)


def servers_of(one: Gateway, count: int = 6) -> set[str]:
    return {one.ask({"model": "alpha"})[2]["x-served-by"] for _ in range(count)}


class Slow(threading.Thread):
    """A request that its engine answers when it is told to."""

    def __init__(self, one: Gateway) -> None:
        super().__init__(daemon=True)
        self.status = 0
        self._port = one.port
        self.start()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        body = json.dumps({"model": "alpha", "wait": True})
        connection.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {KEY}"})
        try:
            self.status = connection.getresponse().status
        except (OSError, http.client.HTTPException):
            self.status = -1


def test_drain_and_back(one: Gateway, capsys: Capture) -> None:
    first = module(one, capsys, "drain")
    assert (first["changed"], first["known"]) == (True, True)
    assert first["diff"] == {"before": "alpha/gpu0: ready\n", "after": "alpha/gpu0: drain\n"}
    assert not module(one, capsys, "drain")["changed"]
    assert not module(one, capsys, "drained", timeout=5)["changed"]
    assert servers_of(one) == {"gpu1"}
    assert module(one, capsys, "ready")["changed"]
    assert not module(one, capsys, "ready")["changed"]
    assert not module(one, capsys, "up", timeout=10)["changed"]
    assert servers_of(one) == {"gpu0", "gpu1"}


def test_check_mode_says_it_and_does_not(one: Gateway, capsys: Capture) -> None:
    assert module(one, capsys, "drain", _ansible_check_mode=True)["changed"]
    assert not module(one, capsys, "drained", _ansible_check_mode=True)["changed"]
    assert len(one.up) == 2


def test_the_last_one_is_kept(one: Gateway, capsys: Capture) -> None:
    module(one, capsys, "drain")
    refused = module(one, capsys, "drain", server="gpu1")
    assert refused["failed"]
    assert "gpu1 is the last server of alpha that gets requests: none of the others (gpu0) is up." in refused["msg"]
    assert module(one, capsys, "drain", server="gpu1", allow_last=True)["changed"]


def test_a_drained_server_stays_so_over_a_reload(one: Gateway, capsys: Capture) -> None:
    module(one, capsys, "drain")
    for _ in range(2):
        one.reload()
        assert one.up == {("alpha", "gpu1")}
        assert servers_of(one) == {"gpu1"}
    assert not module(one, capsys, "drain")["changed"]


def test_a_client_that_keeps_its_connection_over_a_reload(one: Gateway, capsys: Capture) -> None:
    """It may send one more request to the process from before, which knows of the drain and does not wait."""
    kept = http.client.HTTPConnection("127.0.0.1", one.port, timeout=10)
    header = {"Authorization": f"Bearer {KEY}"}
    for reloaded in (False, True):
        if reloaded:
            one.reload()
            module(one, capsys, "drain")
            assert len(one.master.workers()) == 2
        kept.request("POST", "/v1/chat/completions", json.dumps({"model": "alpha"}), header)
        response = kept.getresponse()
        assert (response.status, response.read() != b"") == (200, True)
    assert response.getheader("x-served-by") == "gpu1"
    assert response.getheader("connection") == "close"
    kept.close()


def test_a_request_from_before_a_reload_is_waited_for(one: Gateway, capsys: Capture) -> None:
    module(one, capsys, "drain", server="gpu1")
    request = Slow(one)
    wait_until(lambda: one.master.busy("alpha", "gpu0") == 1)
    one.reload()
    module(one, capsys, "ready", server="gpu1")
    module(one, capsys, "drain")
    still = module(one, capsys, "drained", timeout=1)
    assert still["failed"]
    assert "gpu0 still has 1 requests of alpha after 1 s. It stays drained." in still["msg"]
    assert request.status == 0
    one.engines[0].go_on.set()
    assert module(one, capsys, "drained", timeout=10)["requests"] == 0
    request.join(10)
    assert request.status == 200


def test_force_cuts(one: Gateway, capsys: Capture) -> None:
    module(one, capsys, "drain", server="gpu1")
    request = Slow(one)
    wait_until(lambda: one.master.busy("alpha", "gpu0") == 1)
    module(one, capsys, "drain", allow_last=True)
    cut = module(one, capsys, "drained", timeout=0, force=True)
    assert (cut["changed"], cut["cut"]) == (True, 1)
    request.join(10)
    assert request.status != 200
    one.engines[0].go_on.set()


def test_a_server_that_does_not_come_up(one: Gateway, capsys: Capture) -> None:
    module(one, capsys, "drain")
    one.engines[0].end()
    wait_until(lambda: "gpu0" in gateway_info_of(one, capsys)["sick"])
    module(one, capsys, "ready")
    failed = module(one, capsys, "up", timeout=1)
    assert failed["failed"]
    assert "gpu0 is not up in alpha after 1 s. HAProxy says: DOWN, Layer4 connection problem" in failed["msg"]


def gateway_info_of(one: Gateway, capsys: Capture) -> dict[str, Any]:
    found = run(gateway_info, capsys, socket=str(one.folder / "master"))
    return {**found, "sick": [server["name"] for server in found["servers"] if not server["healthy"]]}


def test_info(one: Gateway, capsys: Capture) -> None:
    module(one, capsys, "drain")
    found = gateway_info_of(one, capsys)
    assert (found["running"], found["changed"], found["down"]) == (True, False, [])
    assert f"setenv GPUFLEET_DIGEST {found['digest']}\n" in (one.folder / "haproxy.cfg").read_text()
    drained, other = found["servers"]
    assert drained == {"backend": "alpha", "name": "gpu0", "draining": True, "healthy": True, "up": False}
    assert (other["name"], other["up"]) == ("gpu1", True)


def test_a_server_that_is_not_there(one: Gateway, capsys: Capture) -> None:
    for state in ("drain", "drained"):
        found = module(one, capsys, state, server="gpu7")
        assert (found["changed"], found["known"]) == (False, False)
    for state in ("ready", "up"):
        assert "HAProxy has no server gpu7 in the backend alpha" in module(one, capsys, state, server="gpu7")["msg"]


def test_no_haproxy(tmp_path: Path, capsys: Capture) -> None:
    failed = run(gateway_server, capsys, backend="a", server="b", state="drain", socket=str(tmp_path / "none"))
    assert "HAProxy does not answer at" in failed["msg"]
    found = run(gateway_info, capsys, socket=str(tmp_path / "none"))
    assert (found["running"], found["servers"], found["digest"]) == (False, [], None)


def test_it_does_not_wait_longer_than_asked(one: Gateway, capsys: Capture) -> None:
    begin = time.monotonic()
    module(one, capsys, "drained", timeout=60)
    assert time.monotonic() - begin < 5


class Watched:
    """A gateway that is slow to say how its servers are."""

    def __init__(self) -> None:
        self.admin = {"gpu0": 0, "gpu1": 0}

    def servers(self) -> list[haproxy.Server]:
        found = [haproxy.Server("alpha", name, admin, haproxy.RUNNING) for name, admin in self.admin.items()]
        time.sleep(0.2)
        return found

    def set(self, command: str) -> None:
        self.admin[command.split("/")[1].split()[0]] = haproxy.FORCED_DRAIN

    def save(self, path: Path) -> None:
        pass


def test_two_that_drain_at_once_leave_one_server(tmp_path: Path) -> None:
    master, refused = Watched(), []

    def drain(name: str) -> None:
        params = {"backend": "alpha", "server": name, "allow_last": False, "state_file": str(tmp_path / "servers")}
        task = gateway_server.Task.__new__(gateway_server.Task)
        task.module, task.master = SimpleNamespace(params=params, check_mode=False), cast("Any", master)
        task.backend, task.name = "alpha", name
        try:
            task.drain()
        except GpufleetError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=drain, args=(name,)) for name in master.admin]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(master.admin.values()) == [0, haproxy.FORCED_DRAIN]
    assert len(refused) == 1
    assert "is the last server of alpha" in refused[0]
