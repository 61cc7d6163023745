"""What the hub's real tool says of each fault, and what is told of it: the table of docs/operations.md, Downloads."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.redact import redacted
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.download import cause

from tests import hub_stand_in
from tools import tiny_model

HF = Path(sys.executable).with_name("hf")
MODEL = "org/chat"
SECRET = "Secret7Word"
CERTIFICATE = (
    "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=127.0.0.1 "
    "-addext subjectAltName=IP:127.0.0.1"
)


class Proxy(BaseHTTPRequestHandler):
    """A proxy that asks for a password, and takes none."""

    def do_CONNECT(self) -> None:
        """Refuse."""
        self.send_response(407)
        self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        """Refuse."""
        self.do_CONNECT()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing."""


class Secure(hub_stand_in.Hub):
    """The stand-in behind a certificate of its own authority."""

    def __init__(self, folder: Path, certificate: Path) -> None:
        super().__init__(folder, "127.0.0.1", 0)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_name("key.pem"))
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.storage = hub_stand_in.Storage(folder, "127.0.0.1")

    @property
    def url(self) -> str:
        return super().url.replace("http:", "https:")


@dataclass
class Fault:
    """How the tool is run, and what is told of how it ended; ``said`` is empty where it ends well."""

    instructions: dict[str, str]
    environment: dict[str, str]
    said: str = ""
    later: bool = False


def faults(hub: hub_stand_in.Hub, secure: Secure, proxy: str, certificate: Path) -> dict[str, Fault]:
    """The faults by name. Each has a model of its own, as instructions are a model's."""
    return {
        "stall": Fault({".stall": "1500000"}, {}),
        "cut half-way": Fault({".cut": "1500000"}, {}),
        "proxy unreachable": Fault(
            {}, {"http_proxy": "http://127.0.0.1:9"}, "does not reach the hub, or the proxy", True
        ),
        "proxy asks": Fault(
            {}, {"https_proxy": proxy, "HF_ENDPOINT": "https://hub.invalid"}, "asks for a user and a password"
        ),
        "CA unknown": Fault({}, {"HF_ENDPOINT": secure.url}, "an authority that the tool does not know"),
        "CA named": Fault({}, {"HF_ENDPOINT": secure.url, "SSL_CERT_FILE": str(certificate)}),
        "429": Fault({".status": "429"}, {}, "asks for patience", True),
        "5xx": Fault({".status": "503"}, {}, "a fault of its own (5xx)", True),
        "DNS": Fault({}, {"HF_ENDPOINT": "http://hub.invalid"}, "cannot be resolved", True),
        "gated": Fault({".gated": "hf_good_special"}, {}, "does not give this model"),
        "token": Fault({}, {"HF_TOKEN": "hf_bad"}, "refuses the token"),
        "Xet closed, left out": Fault({".xet": "http://127.0.0.1:9"}, {"HF_HUB_DISABLE_XET": "1"}),
    }


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Fault, int, list[str]]]]:
    """Run the tool for all faults at once: it mostly waits."""
    folder = tmp_path_factory.mktemp("faults")
    subprocess.run(CERTIFICATE.split(), cwd=folder, capture_output=True, check=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    proxy = f"http://user:{SECRET}@127.0.0.1:{server.server_address[1]}"
    (folder / "hub").mkdir()
    secure = Secure(folder / "hub", folder / "cert.pem")
    for one in (server, secure):
        Thread(target=one.serve_forever, daemon=True).start()
    with hub_stand_in.running(folder / "hub") as hub:
        table = faults(hub, secure, proxy, folder / "cert.pem")
        started = {}
        for number, (name, fault) in enumerate(table.items()):
            model = folder / "hub/org" / f"m{number}"
            tiny_model.write(model, tiny_model.Shape())
            for instruction, text in fault.instructions.items():
                (model / instruction).write_text(text)
            environment = {
                "HF_ENDPOINT": hub.url,
                "HF_HUB_CACHE": str(folder / f"cache{number}"),
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                "HOME": str(folder),
                **fault.environment,
            }
            command = [str(HF), "download", f"org/m{number}", "config.json", "model.safetensors"]
            started[name] = subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        yield {
            name: (table[name], run.wait(), out.splitlines())
            for name, run in started.items()
            for out in [run.communicate(timeout=120)[0]]
        }
    for one in (server, secure):
        one.shutdown()


NAMES = (
    *("stall", "cut half-way", "proxy unreachable", "proxy asks", "CA unknown", "CA named", "429", "5xx", "DNS"),
    *("gated", "token", "Xet closed, left out"),
)


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_ends_well_or_with_a_sentence(ended: dict[str, tuple[Fault, int, list[str]]], name: str) -> None:
    fault, code, lines = ended[name]
    if not fault.said:
        assert code == 0, lines
        return
    assert code != 0
    found = cause(lines, "exit-code")
    assert fault.said in found.said, lines
    assert found.later is fault.later
    assert SECRET not in redacted("\n".join(lines))


def test_every_fault_is_looked_at(ended: dict[str, tuple[Fault, int, list[str]]]) -> None:
    assert set(ended) == set(NAMES)
