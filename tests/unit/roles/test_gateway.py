"""The role gateway: what it writes, read by HAProxy itself, and what that does with requests."""

from __future__ import annotations

import http.client
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.gateway_process import (
    KEY,
    Gateway,
    entry,
    gateway,
    needs_haproxy,
    objections,
    variables,
    wait_until,
    write,
)
from tests.unit.templating import render

ALPHA, BETA = entry("alpha", 8000), entry("beta.v1-x", 8001, max_num_seqs=16, data_parallel_size=2)
FLEETS: dict[str, tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]] = {
    "one model": ({"gpu1": [ALPHA], "gpu2": [ALPHA]}, {}),
    "several models": ({"gpu1": [ALPHA, BETA], "gpu2": [ALPHA]}, {"gateway_aliases": {"org/lora": "alpha"}}),
    "limits": ({"gpu1": [ALPHA, BETA]}, {"gateway_server_requests": "auto", "gateway_wait_seconds": 0}),
    "open": ({"gpu1": [ALPHA]}, {"gateway_api_keys": {}, "gateway_anonymous": True, "gateway_show_server": True}),
    "IPv6": ({"gpu1": [entry("alpha", 8000, host="fd00::5")]}, {"gateway_routes": ["/v1/"]}),
}


@needs_haproxy
@pytest.mark.parametrize(("hosts", "more"), FLEETS.values(), ids=FLEETS)
def test_haproxy_takes_the_configuration(tmp_path: Path, hosts: Any, more: dict[str, Any]) -> None:
    config = write(tmp_path, variables(tmp_path, hosts, **more))
    assert "{{" not in config
    assert "None" not in config
    assert objections(tmp_path) == ""


@needs_haproxy
def test_a_name_that_is_not_known_leaves_the_others_alone(tmp_path: Path) -> None:
    name = "gpu1.not-there.invalid"
    write(tmp_path, variables(tmp_path, {name: [ALPHA]}, hostvars={name: {"vllm_models": [ALPHA]}}))
    assert f"could not resolve address '{name}', disabling server" in objections(tmp_path)


@needs_haproxy
def test_a_certificate_makes_it_tls(tmp_path: Path) -> None:
    pem = tmp_path / "tls.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=edge", "-days", "2"]
    subprocess.run([*command, "-keyout", tmp_path / "key", "-out", tmp_path / "crt"], check=True, capture_output=True)
    pem.write_text((tmp_path / "crt").read_text() + (tmp_path / "key").read_text())
    config = write(tmp_path, variables(tmp_path, {"gpu1": [ALPHA]}, gateway_tls_pem=pem.read_text()))
    assert f"bind 0.0.0.0:8080 ssl crt {pem} alpn h2,http/1.1\n" in config
    assert objections(tmp_path) == ""


def test_no_key_is_in_what_is_written(tmp_path: Path) -> None:
    values = variables(tmp_path, {"gpu1": [ALPHA]})
    assert KEY not in write(tmp_path, values)
    assert not any(KEY in path.read_text() for path in tmp_path.iterdir())
    (line,) = (tmp_path / "keys.map").read_text().splitlines()
    assert line.split()[1] == "team-a"


def test_limits_are_those_of_the_engines(tmp_path: Path) -> None:
    hosts, more = FLEETS["limits"]
    lines = [line.strip() for line in write(tmp_path, variables(tmp_path, hosts, **more)).splitlines()]
    assert "server gpu1 127.0.0.1:8000" in lines
    assert "server gpu1 127.0.0.1:8001 maxconn 32" in lines


def test_the_digest_is_that_of_all_that_haproxy_reads(tmp_path: Path) -> None:
    def digest(**more: Any) -> str:
        hosts = more.pop("hosts", {"gpu1": [ALPHA], "gpu2": [ALPHA]})
        found: str = render("{{ __gateway_digest }}", variables(tmp_path, hosts, **more))
        return found

    others = [
        digest(hosts={"gpu1": [ALPHA]}),
        digest(gateway_api_keys={"team-a": KEY + "x"}),
        digest(gateway_api_keys={"team-b": KEY}),
        digest(gateway_port=8081),
        digest(gateway_aliases={"lora": "alpha"}),
        digest(gateway_tls_pem="x"),
        digest(
            gateway_tls_certificate="/c", __gateway_host_info={"paths": {"/c": {"exists": True, "digest": "renewed"}}}
        ),
    ]
    assert len({digest(), *others}) == len(others) + 1
    assert digest() == digest(hosts={"gpu2": [ALPHA], "gpu1": [ALPHA]})


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Two models, one of them on two hosts, and a host that serves something else than it should."""
    models = {"alpha": ["alpha", "alpha", "impostor"], "beta": ["beta"]}
    with gateway(tmp_path_factory.mktemp("several"), models, gateway_aliases={"org/lora": "alpha"}) as one:
        wait_until(lambda: len(one.up) == 3)
        yield one


CHAT = [{"role": "user", "content": "Hello"}]


@needs_haproxy
class TestRequests:
    def test_a_server_of_another_model_gets_nothing(self, several: Gateway) -> None:
        time.sleep(1)
        assert several.up == {("alpha", "gpu0"), ("alpha", "gpu1"), ("beta", "gpu0")}
        found = [several.ask({"messages": CHAT, "model": "alpha"}) for _ in range(8)]
        assert {answer["model"] for _status, answer, _header in found} == {"alpha"}
        assert {header["x-served-by"] for _status, _answer, header in found} == {"gpu0", "gpu1"}

    @pytest.mark.parametrize(("asked", "served"), [("alpha", "alpha"), ("beta", "beta"), ("org/lora", "alpha")])
    def test_the_model_of_the_body_leads_to_its_backend(self, several: Gateway, asked: str, served: str) -> None:
        status, answer, _header = several.ask({"messages": CHAT, "model": asked})
        assert (status, answer["model"], answer["path"]) == (200, served, "/v1/chat/completions")

    def test_a_model_has_a_base_url_without_a_limit(self, several: Gateway) -> None:
        large = {"messages": [{"role": "user", "content": "x" * 3_000_000}], "model": "beta"}
        status, answer, _header = several.ask(large, "/beta/v1/chat/completions")
        assert (status, answer["model"], answer["path"]) == (200, "beta", "/v1/chat/completions")
        assert answer["size"] > 3_000_000

    def test_a_prompt_of_a_hundred_thousand_tokens_fits(self, several: Gateway) -> None:
        # the model comes last, as in the bodies of OpenAI's own library; six bytes for each of 170,000 characters
        body = json.dumps({"messages": [{"role": "user", "content": "字" * 170_000}], "model": "beta"}).encode()
        assert len(body) > 1_000_000
        assert several.ask(body)[:2][0] == 200

    def test_a_larger_one_is_told_where_to_go(self, several: Gateway) -> None:
        large = {"messages": [{"role": "user", "content": "x" * 3_000_000}], "model": "beta"}
        status, answer, _header = several.ask(large)
        assert (status, answer["error"]["code"]) == (413, "request_too_large")
        assert "/<model>/v1" in answer["error"]["message"]

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            ({"model": "gamma"}, 404, "model_not_found"),
            ({"model": "alpha\nx"}, 404, "model_not_found"),
            ({"messages": CHAT}, 400, "missing_model"),
            (b"not JSON", 400, "missing_model"),
            ({"messages": [{"model": "alpha"}]}, 400, "missing_model"),
        ],
    )
    def test_other_bodies_are_refused_as_openai_does(self, several: Gateway, body: Any, status: int, code: str) -> None:
        found, answer, _header = several.ask(body)
        assert (found, answer["error"]["code"], answer["error"]["type"]) == (status, code, "invalid_request_error")

    @pytest.mark.parametrize("key", [None, "", "sk-wrong", KEY[:-1], KEY + "x", KEY.upper(), f"{KEY} {KEY}"])
    def test_a_key_is_needed(self, several: Gateway, key: str | None) -> None:
        for path in ("/v1/chat/completions", "/alpha/v1/chat/completions", "/tokenize", "/nonsense"):
            status, answer, header = several.ask({"model": "alpha"}, path, key=key)
            assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
            assert header["www-authenticate"] == "Bearer"

    def test_the_engine_does_not_see_the_key(self, several: Gateway) -> None:
        _status, answer, header = several.ask({"model": "beta"})
        assert "authorization" not in answer["headers"]
        assert answer["headers"]["x-request-id"] == header["x-request-id"]

    @pytest.mark.parametrize(
        "path",
        [
            "/tokenize",
            "/detokenize",
            "/invocations",
            "/score",
            "/rerank",
            "/pooling",
            "/classify",
            "/metrics",
            "/version",
            "/load",
            "/ping",
            "/sleep",
            "/pause",
            "/abort_requests",
            "/docs",
            "/openapi.json",
            "/v1/load_lora_adapter",
            "/v1/chat/completions/render",
            "//v1/models",
            "/v1/../tokenize",
            "/V1/models",
            "/inference/v1/generate",
            "/collective_rpc",
            "/start_profile",
        ],
    )
    def test_other_paths_are_closed(self, several: Gateway, path: str) -> None:
        before = sum(engine.posts for engine in several.engines)
        for one in (path, f"/alpha{path}"):
            status, answer, _header = several.ask({"model": "alpha"}, one)
            assert (status, answer["error"]["code"]) == (404, "unknown_url"), one
        assert sum(engine.posts for engine in several.engines) == before

    def test_the_models_are_listed(self, several: Gateway) -> None:
        status, answer, _header = several.ask(path="/v1/models")
        assert (status, [one["id"] for one in answer["data"]]) == (200, ["alpha", "beta", "org/lora"])
        assert several.ask(path="/beta/v1/models")[1] == {"data": [{"id": "beta"}]}

    def test_probes_need_no_key(self, several: Gateway) -> None:
        assert several.ask(path="/health", key=None)[:2] == (200, "up")
        assert several.ask(path="/beta/health", key=None)[:2] == (200, "up")

    def test_its_metrics(self, several: Gateway) -> None:
        status, text, _header = several.ask(path="/metrics", port=several.metrics)
        assert status == 200
        assert 'haproxy_server_status{proxy="alpha",server="gpu0",state="UP"} 1' in text
        assert several.ask(path="/", port=several.metrics)[0] == 404

    def test_the_log_has_no_key_and_no_body(self, several: Gateway) -> None:
        several.ask({"messages": [{"content": "very private"}], "model": "beta"}, "/v1/chat/completions?secret=1")
        wait_until(lambda: "server=beta/gpu0" in several.log.read_text())
        text = several.log.read_text()
        assert "key=team-a server=beta/gpu0 status=200" in text
        assert not [word for word in (KEY, "very private", "secret=1", "Bearer") if word in text]

    def test_a_stream_comes_as_it_is_sent(self, several: Gateway) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", several.port, timeout=10)
        header = {"Authorization": f"Bearer {KEY}"}
        connection.request("POST", "/v1/chat/completions", json.dumps({"model": "beta", "stream": True}), header)
        response = connection.getresponse()
        assert response.readline() == b"data: 1\n"
        several.engines[3].go_on.set()
        assert response.read() == b"\ndata: 2\n\n"
        connection.close()

    def test_a_request_that_was_begun_is_not_sent_again(self, several: Gateway) -> None:
        alphas = several.engines[:2]
        before = sum(engine.posts for engine in alphas)
        for engine in alphas:
            engine.broken = True
        status, answer, _header = several.ask({"model": "alpha"})
        for engine in alphas:
            engine.broken = False
        assert (status, answer["error"]["type"]) == (502, "server_error")
        assert sum(engine.posts for engine in alphas) == before + 1


@needs_haproxy
def test_a_dead_server_costs_nobody_a_request(tmp_path: Path) -> None:
    with gateway(tmp_path, {"alpha": ["alpha", "alpha"]}) as one:
        wait_until(lambda: len(one.up) == 2)
        one.engines[0].end()
        found = [one.ask({"model": "alpha"}) for _ in range(20)]
        assert {(status, header["x-served-by"]) for status, _answer, header in found} == {(200, "gpu1")}
        wait_until(lambda: len(one.up) == 1)


@needs_haproxy
def test_requests_wait_while_the_only_server_is_drained(tmp_path: Path) -> None:
    with gateway(tmp_path, {"alpha": ["alpha"]}, gateway_wait_seconds=20) as one:
        wait_until(lambda: len(one.up) == 1)
        one.master.set("set server alpha/gpu0 state drain")
        waiting = threading.Thread(target=lambda: one.answers.append(one.ask({"model": "alpha"})[0]))
        waiting.start()
        time.sleep(1.5)
        assert one.answers == []
        one.master.set("set server alpha/gpu0 state ready")
        waiting.join(10)
        assert one.answers == [200]
        assert "waited_ms=-" not in one.log.read_text().splitlines()[-1]


@needs_haproxy
def test_the_wait_has_an_end(tmp_path: Path) -> None:
    with gateway(tmp_path, {"alpha": ["impostor"]}, gateway_wait_seconds=1) as one:
        status, answer, header = one.ask({"model": "alpha"})
        assert (status, answer["error"]["type"], header["retry-after"]) == (503, "server_error", "5")
        assert one.ask(path="/health", key=None)[0] == 503
