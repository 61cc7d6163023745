"""Damaged and hostile inputs: only the documented errors, and a second of CPU per megabyte.

FUZZ=5000 makes as many of journals and of recordings, and twice as many per parser and state file; by default some
tens.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import systemd as written
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import good_states, rollout_record
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import (
    amd,
    cpu,
    facts,
    haproxy,
    instance_sources,
    interfaces,
    listeners,
    model,
    nvidia_human,
    nvidia_text,
    nvidia_xml,
    openpgp,
    p2p,
    package_sources,
    pci,
    recorded,
    redact,
    sources,
    systemd,
    topology,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import (
    answers,
    client,
    collective_events,
    engine_report,
    evidence,
    journal,
    metrics,
    receipt,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signatures import TABLE
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import diagnosis

from tests.unit import mutations

RUNS = int(os.environ.get("FUZZ", "25"))
FIXTURES = Path(__file__).parents[2] / "fixtures"
DOCUMENTED = (GpufleetError, client.WrongAnswer)
# For what every call costs, and for the clock.
ALWAYS_SECONDS = 0.5
HOST = FIXTURES / "hosts/h100-nvswitch"
STATE = {
    "schema_version": 1,
    "time": "2026-11-29T10:00:00+00:00",
    "hosts": {"a": {"instances": {}}},
    "files": {"a": "b"},
}
SHOWN = "Id=vllm@chat.service\nActiveState=active\nMainPID=812\nNRestarts=0\n\nId=vllm@b.service\nActiveState=failed\n"
TCP = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    "   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0\n"
)
EVENTS = '{"event": "began", "rank": -1}\n{"event": "joined", "rank": 0}\n{"event": "finished", "rank": 0}\n'
STREAM = (
    'data: {"choices": [{"delta": {"content": "x"}, "text": "a"}], "usage": {"completion_tokens": 3}}\ndata: [DONE]\n'
)
ADDRESSES = json.dumps([{"ifname": "eth0", "mtu": 1500, "addr_info": [{"family": "inet", "local": "10.0.0.1"}]}])
CONFIG = json.dumps(
    {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "torch_dtype": "bfloat16",
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128], "ignore": ["lm_head"]},
    }
)
DEB822 = (
    "Types: deb\nURIs: https://a.example/x\nSuites: noble\nComponents: main\nSigned-By: /usr/share/keyrings/a.gpg\n"
)
KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\nVersion: 1\n\nmDMEZ\n=abcd\n-----END PGP PUBLIC KEY BLOCK-----\n"


def fixture(path: str) -> str:
    """A recorded output."""
    return (FIXTURES / path).read_text(encoding="utf-8", errors="replace")


def of_lines(read: Callable[[list[str]], Any]) -> Callable[[str], Any]:
    """A reader of lines as one of a text."""
    return lambda text: read(text.split("\n"))


def of_config(text: str) -> Any:
    """Read a model's config.json as a plan does."""
    return json.dumps(model.facts(model.parse_config(text, "config.json"), 10**10, None, {}), allow_nan=False).encode()


def of_metrics(text: str) -> Any:
    """Read metrics, and what is made of them."""
    samples = metrics.parse(text)
    return metrics.load(samples), metrics.cache(samples)


def of_secrets(text: str) -> Any:
    """Record a text as a journal of an instance and as a tool's answer."""
    outputs = {name: sources.ToolOutput(sources.OK, text) for name in ("journal-chat.txt", sources.NVIDIA_XML)}
    return recorded.recording_files(outputs, False)


PARSERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "nvidia_xml": (fixture("hosts/h100-nvswitch/nvidia-smi-q-x.xml")[:20_000], nvidia_xml.parse_nvidia_xml),
    "topology": (fixture("hosts/h100-nvswitch/nvidia-smi-topo-m.txt"), topology.parse_topology),
    "nvlink": (fixture("hosts/h100-nvswitch/nvidia-smi-nvlink-s.txt"), nvidia_text.parse_nvlink),
    "list": (fixture("hosts/h100-nvswitch/nvidia-smi-L.txt"), nvidia_text.parse_list),
    "query": (fixture("hosts/h100-nvswitch/nvidia-smi-query-gpu.csv"), nvidia_text.parse_query),
    "query_text": (
        "Driver Version : 570.1\nGPU 00000000:01:00.0\n    Product Name : X\n",
        nvidia_human.parse_query_text,
    ),
    "version": ("NVIDIA-SMI version  : 570.1\nDRIVER version      : 570.1\n", nvidia_human.parse_version),
    "p2p": (fixture("hosts/h100-nvswitch/nvidia-smi-topo-p2p-r.txt"), p2p.parse_p2p),
    "lspci": (fixture("hosts/h100-nvswitch/lspci.txt"), pci.parse_lspci),
    "lscpu": (fixture("hosts/h100-nvswitch/lscpu.txt"), cpu.parse_lscpu),
    "amd": (fixture("hosts/mi300x/amd-smi-topology.json"), lambda text: amd.parse_amd({"amd-smi-topology.json": text})),
    "amd_text": (
        "GPU[0]\t\t: Unique ID: 0x1\nGPU: 0\n    BDF: 0000:0c:00.0\n",
        lambda text: amd.parse_amd({"a.txt": text}),
    ),
    "config": (CONFIG, of_config),
    "openpgp": (KEY, openpgp.fingerprints),
    "sources_list": (
        "deb [arch=amd64 signed-by=/a.gpg] https://a/x noble main\n",
        lambda t: package_sources.parse_list("a", t),
    ),
    "sources_deb822": (DEB822, lambda text: package_sources.parse_deb822("a.sources", text)),
    "show": (SHOWN, systemd.parse_show),
    "haproxy_servers": (fixture("metrics/haproxy-2.6.txt"), haproxy.servers),
    "haproxy_busy": (fixture("metrics/haproxy-2.6.txt"), lambda text: haproxy.busy(text, "a", "b")),
    "listeners": (TCP, listeners.parse_proc_net_tcp),
    "interfaces": (ADDRESSES, interfaces.interfaces),
    "metrics": (fixture("metrics/vllm-0.32.0.txt")[:20_000], of_metrics),
    "figures": (fixture("engine/h200-0.25.1-graphs.txt"), of_lines(engine_report.figures)),
    "dated": (fixture("engine/h200-0.25.1-graphs.txt"), of_lines(engine_report.dated)),
    "stage": (fixture("engine/h200-0.25.1-graphs.txt"), of_lines(journal.stage)),
    "receipt": (json.dumps(STATE), receipt.read),
    "good_state": (json.dumps(STATE), good_states.read),
    "settings": ("model: a/b\nrevision: 'main'\nport: 8000\n", good_states.settings_of),
    "rollout_record": (json.dumps(STATE), lambda text: rollout_record.read(text, "x")),
    "environment": ('A="x \\" y"\nGPUFLEET_DIGEST=abc\n', written.read_environment),
    "events": (EVENTS, collective_events.parse),
    "answers": (STREAM, lambda text: answers.generated([(0.1, line) for line in text.split("\n")])),
    "redact": (f"Authorization: Bearer {'x' * 20}\napi_key=['a', 'b']\nhttps://u:p@h/\n", redact.redacted),
    "recording": (fixture("engine/cpu-0.32.0-tp2.txt"), of_secrets),
}


def judged(outputs: sources.Outputs) -> None:
    """Everything that the doctor does with a host, up to the text that is printed."""
    told = diagnosis.report({"h": {"evidence": evidence.build(outputs, "recorded")}})
    diagnosis.text(told)
    assert "could not be judged" not in str(told)


def assert_in_time(what: Callable[[], Any], size: int) -> None:
    """Only the documented errors, in a second of CPU per megabyte."""
    begin = time.process_time()
    with contextlib.suppress(*DOCUMENTED):
        what()
    assert time.process_time() - begin < ALWAYS_SECONDS + size / 1_000_000


@lru_cache(maxsize=1)
def recordings() -> list[dict[str, sources.ToolOutput]]:
    """The recorded hosts."""
    folders = sorted(path for path in (FIXTURES / "hosts").iterdir() if path.name != "hanging" and any(path.iterdir()))
    return [dict(recorded.read_recording(str(folder))) for folder in folders]


@lru_cache(maxsize=1)
def journals() -> list[str]:
    """Journals of engines that are well, and of all that the table knows."""
    files = [*(FIXTURES / "engine").rglob("*.txt"), *(FIXTURES / "journals").glob("*.txt")]
    healthy = [path.read_text(encoding="utf-8", errors="replace")[:40_000] for path in sorted(files)]
    return healthy + [f"{healthy[0][:2000]}\n{one.sample}\n" for one in TABLE]


def test_damaged_journals_are_judged_in_time() -> None:
    rnd = random.Random(17)
    described = json.dumps({"now": 1732874005, "instances": {"chat": {"settings": {"model": "m"}}}})
    for _ in range(RUNS):
        texts = {
            "journal-chat.txt": mutations.of(rnd.choice(journals()), rnd),
            instance_sources.KERNEL: mutations.of(rnd.choice(TABLE).sample, rnd),
            instance_sources.INSTANCES: described if rnd.random() < 0.7 else mutations.of(described, rnd),
        }
        outputs = {name: sources.ToolOutput(sources.OK, text) for name, text in texts.items()}
        assert_in_time(partial(judged, outputs), sum(map(len, texts.values())))


def test_damaged_recordings_are_read_in_time() -> None:
    rnd = random.Random(18)
    for _ in range(RUNS):
        outputs = dict(rnd.choice(recordings()))
        name = rnd.choice(sorted(outputs))
        before = outputs[name]
        status = rnd.choice([before.status, before.status, sources.FAILED])
        outputs[name] = sources.ToolOutput(status, mutations.of(before.text, rnd), before.error, before.returncode)
        size = sum(len(output.text) for output in outputs.values())

        def read(outputs: sources.Outputs = outputs) -> None:
            json.dumps(facts.build_facts(outputs, "recorded"), allow_nan=False)

        assert_in_time(read, size)


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_raises_only_what_is_documented(name: str) -> None:
    text, read = PARSERS[name]
    rnd = random.Random(name)
    for _ in range(2 * RUNS):
        changed = mutations.of(text, rnd)
        assert_in_time(partial(read, changed), len(changed))


@pytest.mark.parametrize(
    "unit", ["a", " ", "\n", "[", "{", '"', "'", "0", ",", "=", "/", "\\", "<", "GPU0 X\n", "a.", ": "]
)
@pytest.mark.parametrize("name", PARSERS)
def test_one_thing_again_and_again_takes_time_in_proportion(name: str, unit: str) -> None:
    text = unit * (100_000 // len(unit))
    assert_in_time(lambda: PARSERS[name][1](text), len(text))
