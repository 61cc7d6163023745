from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import instance_fields

from tools import gpu_node_lab
from tools.lab import node_load, node_steps
from tools.lab.node_load import Point

OUTPUT = """\
TASK [Apply] ****
fatal: [gpu1]: FAILED! =>
    changed: false
    msg: |-
        llama-8b did not come up within 600 s.
        Its journal says why.

PLAY RECAP ****
gpu1                       : ok=41   changed=3    unreachable=0    failed=1    skipped=9    rescued=0    ignored=0
"""


def test_the_recap_is_read() -> None:
    assert node_steps.recap(OUTPUT)["changed"] == 3
    assert node_steps.recap("ERROR! the playbook could not be found") == {}


def test_what_the_failed_task_said_fits_a_line() -> None:
    assert node_steps.message(OUTPUT) == "llama-8b did not come up within 600 s. Its journal says why."
    assert node_steps.message("ok: [gpu1]\n    msg: fine\n") == ""


def test_a_step_that_should_change_nothing_is_wrong_when_it_does() -> None:
    steps = node_steps.steps("/m")
    assert node_steps.judged(steps["unchanged"], 0, {"changed": 0}) == "ok"
    assert "changed=2" in node_steps.judged(steps["unchanged"], 0, {"changed": 2})
    assert node_steps.judged(steps["deploy"], 0, {"changed": 12}) == "ok"
    assert node_steps.judged(steps["deploy"], 2, {"changed": 0}) == "exit status 2"


def test_every_step_is_asked_for_by_default_and_is_there() -> None:
    assert set(node_steps.steps("/m")) <= set(gpu_node_lab.ALL)


def test_models_have_only_fields_that_an_instance_has() -> None:
    written = {field for step in node_steps.steps("/m").values() for model in step.models for field in model}
    assert written <= {"name", "model", "port", *instance_fields.FIELDS}


def test_two_instances_have_names_and_ports_of_their_own() -> None:
    two = node_steps.steps("/m")["two"].models
    assert len({model["name"] for model in two}) == len({model["port"] for model in two}) == 2
    assert sum(model["gpu_memory_utilization"] for model in two) < 0.92


def test_the_first_deploy_writes_nothing_but_name_model_and_port() -> None:
    (model,) = node_steps.steps("/m")["deploy"].models
    assert set(model) == {"name", "model", "port"}


def test_the_inventory_runs_ansible_on_the_node_itself() -> None:
    made = node_steps.inventory([{"name": "a"}], {"engine_offline": True})
    assert made["all"]["hosts"][node_steps.HOST]["ansible_connection"] == "local"
    assert made["all"]["vars"] == {"engine_offline": True, "vllm_models": [{"name": "a"}]}


def test_the_page_has_steps_predictions_and_loads() -> None:
    load = {"at_once": 32, "prompt": 1024, "answer": 256, "tokens_per_second": 900.5, "failed": 0}
    results = [
        {"step": "deploy", "result": "ok", "seconds": 168.2, "recap": {"changed": 30}},
        {"step": "load", "result": "ok", "seconds": 20.0, "loads": [load], "remark": "a|b"},
    ]
    compared = [{"quantity": "kv_cache_tokens", "predicted": 906208, "actual": 909104, "ratio": 906208 / 909104}]
    page = node_steps.page(results, {"deploy/llama-8b": {"comparison": compared}})
    assert "| deploy | ok | 168 | 30 |  |" in page
    assert "| deploy/llama-8b | kv_cache_tokens | 906,208 | 909,104 | -0.32% |" in page
    assert "| load | 32 | 1024 | 256 | 900.5 | 0 |" in page
    assert "a/b" in page


def test_points_are_read() -> None:
    assert node_load.points("1x128x256,32x1024x64") == [Point(1, 128, 256), Point(32, 1024, 64)]
    for wrong in ("1x2", "0x1x1", "1x2x3x4", "axbxc"):
        with pytest.raises(ValueError):
            node_load.points(wrong)


class Server(http.server.BaseHTTPRequestHandler):
    """Answers a third of the prompts with an error; remembers the prompts."""

    prompts: list[tuple[int, ...]]

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.prompts.append(tuple(body["prompt"]))
        answer = json.dumps({"usage": {"completion_tokens": body["max_tokens"]}}).encode()
        self.send_response(500 if len(self.prompts) % 3 == 0 else 200)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_words: Any) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    Server.prompts = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_load_counts_tokens_and_failures(url: str) -> None:
    assert node_load.healthy(url)
    found = node_load.measure(url, "m", Point(6, 16, 10))
    assert found["tokens"] == 40 and found["failed"] == 2
    assert "500" in found["problem"]
    assert len(set(Server.prompts)) == 6 and {len(prompt) for prompt in Server.prompts} == {16}
    assert found["tokens_per_second"] == pytest.approx(40 / found["seconds"], rel=0.5)


def test_a_server_that_is_not_there_is_not_healthy() -> None:
    assert not node_load.healthy("http://127.0.0.1:9", timeout=0.5)
