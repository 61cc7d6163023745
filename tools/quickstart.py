#!/usr/bin/env python3
"""From a fresh machine to an answered request: make a node, deploy a small model on it, ask it something."""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if sys.version_info < (3, 11):
    sys.exit(f"quickstart.py: ansible-core 2.19 needs Python 3.11 or newer; this is {sys.version.split()[0]}.")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import tiny_model, venv
from tools.nodes import host
from tools.nodes.errors import NodeError
from tools.nodes.fleet import Fleet
from tools.nodes.names import fleet_names
from tools.steps import run_steps, stream

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKOUT = venv.CHECKOUT
OWN_INVENTORY = "inventories/quickstart"
NODE = "node1"
FLEET = fleet_names("quickstart", CHECKOUT)
QUESTION = "What does this machine do?"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_ANSWER_TOKENS = 32
_ANSWER_TIMEOUT_S = 120


@dataclass(frozen=True)
class Server:
    """Where an instance listens, seen from its host."""

    name: str
    address: str
    port: int

    @property
    def url(self) -> str:
        """The address of chat completions."""
        return f"http://{self.address}:{self.port}/v1/chat/completions"


def chosen_model(text: str) -> dict[str, str]:
    """The fields of an instance that stand for MODEL: a folder here, or a hub id.

    Raises NodeError for what is neither.
    """
    folder = Path(os.path.expanduser(text))  # noqa: PTH111 (leaves ~nobody as it is)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise NodeError(f"MODEL={text}: the folder has no config.json, so it is not a model.")
        return {"model_source": str(folder.resolve())}
    if text.startswith(("/", ".", "~")) or not _HUB_ID.fullmatch(text):
        raise NodeError(f"MODEL={text}: there is no such folder, and a hub id looks like Qwen/Qwen3-0.6B.")
    return {"model": text}


def with_model(models: Any, chosen: dict[str, str]) -> list[Any]:
    """`vllm_models` with the first instance serving the chosen model, its other settings kept.

    Anything but a non-empty list of mappings is answered with one instance called quickstart.
    """
    if not isinstance(models, list) or not models or not isinstance(models[0], dict):
        return [{"name": "quickstart", **chosen}]
    kept = {key: value for key, value in models[0].items() if key not in ("model", "model_source", "revision")}
    return [{**kept, **chosen}, *models[1:]]


def first_server(models: Any) -> Server:
    """Where the first instance of `vllm_models` listens. Raises NodeError when the list has none."""
    if not isinstance(models, list) or not models or not isinstance(models[0], dict) or "name" not in models[0]:
        raise NodeError("The inventory's first host has no vllm_models; see inventories/example/group_vars/all.yml.")
    address = str(models[0].get("host", "127.0.0.1"))
    if address in ("0.0.0.0", "::"):  # noqa: S104
        address = "127.0.0.1"
    return Server(str(models[0]["name"]), address, int(models[0].get("port", 8000)))


def request(server: Server) -> dict[str, Any]:
    """The body of the chat completion that proves the server."""
    messages = [{"role": "user", "content": QUESTION}]
    return {"model": server.name, "messages": messages, "max_tokens": _ANSWER_TOKENS, "temperature": 0}


def first_json(text: str) -> Any:
    """The first JSON object in the output of an `ansible` command. Raises NodeError when there is none."""
    try:
        return json.JSONDecoder().raw_decode(text[text.index("{") :])[0]
    except ValueError:
        raise NodeError(f"This answer of ansible cannot be read:\n{text.strip()}") from None


class Quickstart:
    """The steps, in order, and what they tell each other."""

    def __init__(self, inventory: str, model: str) -> None:
        """Check what was asked for before anything is done. Raises NodeError for what cannot be."""
        self.own = Path(CHECKOUT / inventory).resolve() == (CHECKOUT / OWN_INVENTORY).resolve()
        self.inventory = inventory
        if not (CHECKOUT / inventory).exists() and not inventory.endswith(","):
            raise NodeError(f"INVENTORY={inventory}: there is no such file or folder.")
        self.chosen = chosen_model(model) if model else {}
        self.extra: list[str] = []
        self.what_now: list[str] = []
        if self.own:
            host.require_root("make quickstart")

    def run(self) -> None:
        """Run every step, then say what one can do now. Raises NodeError when a step fails."""
        steps: list[tuple[str, Callable[[], None]]] = [
            ("Tools of this machine", self.prepare),
            ("Ansible, in .venv", functools.partial(venv.ensure, venv.RUNTIME)),
        ]
        if self.own:
            steps.append(("A node: Debian with systemd and SSH", self.make_node))
            if not self.chosen:
                steps.append(("A small model with random weights", self.make_model))
        steps.append((f"Deploy: ansible-playbook playbooks/deploy.yml -i {self.inventory}", self.deploy))
        steps.append(("Ask the server", self.ask))
        run_steps(steps)
        print("\n".join(self.what_now), flush=True)

    def prepare(self) -> None:
        """Install what is missing, with apt-get where this is root."""
        without_node = [] if shutil.which("ssh") else ["openssh-client"]
        missing = host.missing_packages(host.TOOLS) if self.own else without_node
        host.require_packages(missing, install=os.geteuid() == 0)
        print("all there" if not missing else f"installed: {', '.join(missing)}", flush=True)

    def make_node(self) -> None:
        """Make or reuse the node."""
        Fleet(FLEET).up([NODE], "bookworm", [], host.GIB_PER_NODE)

    def make_model(self) -> None:
        """Make or reuse the small model, in the fleet's folder."""
        folder = FLEET.folder / "model"
        written = tiny_model.write(folder, tiny_model.Shape())
        print(f"{folder}: {'written' if written else 'there already, reused'}", flush=True)

    def deploy(self) -> None:
        """Run the playbook."""
        if self.chosen:
            models = with_model(self._variable(self._host(), "vllm_models"), self.chosen)
            self.extra = ["-e", json.dumps({"vllm_models": models})]
        argv = [self._tool("ansible-playbook"), "playbooks/deploy.yml", "-i", self.inventory, *self.extra]
        colour = {"ANSIBLE_FORCE_COLOR": "1"} if sys.stdout.isatty() else {}
        stream(argv, environment={**self._environment(), **colour})

    def ask(self) -> None:
        """Send a chat completion to the server from its own host, and print the answer and what to do next."""
        name = self._host()
        server = first_server(self._variable(name, "vllm_models"))
        arguments = {
            "url": server.url,
            "method": "POST",
            "body_format": "json",
            "body": request(server),
            "return_content": True,
            "timeout": _ANSWER_TIMEOUT_S,
        }
        reply = first_json(self._ansible(name, "ansible.builtin.uri", json.dumps(arguments))).get("json")
        if not isinstance(reply, dict) or not reply.get("choices"):
            raise NodeError(f"{server.url} on {name} sent no completion.")
        usage = reply.get("usage", {})
        print(f"asked:    {QUESTION}")
        print(f"answered: {reply['choices'][0]['message']['content']!r}")
        if self.own and not self.chosen:
            print("          (noise: the weights are random)")
        print(
            f"usage:    {usage.get('prompt_tokens')} prompt tokens, {usage.get('completion_tokens')} completion tokens"
        )
        print(f"server:   {reply.get('model')} on {name}, {server.url} there, {reply.get('system_fingerprint')}")
        self.what_now = self._next(name, server)

    def _next(self, name: str, server: Server) -> list[str]:
        """What one can do now, as commands to copy."""
        body = json.dumps(request(server))
        again = f"{self._tool('ansible-playbook')} playbooks/deploy.yml -i {self.inventory}"
        if not self.own:
            ansible = f"{self._tool('ansible')} {name} -i {self.inventory} --become"
            return [
                "",
                f"See its log:       {ansible} -a 'journalctl -u vllm@{server.name} -n 50'",
                f"Deploy a change:   {again}",
            ]
        config = FLEET.folder.relative_to(CHECKOUT) / "ssh_config"
        return [
            "",
            "Ask it yourself:",
            f"  ssh -F {config} -N -L 8000:{server.address}:{server.port} {name} &",
            "  curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \\",
            f"    -d '{body}'",
            "See its log:",
            f"  ssh -F {config} {name} journalctl -u vllm@{server.name} -n 50",
            f"Change a setting in {OWN_INVENTORY}/group_vars/all/models.yml, then deploy again:",
            f"  make quickstart     (or {again})",
            "Remove the node and its network:",
            "  make quickstart-clean",
        ]

    def _host(self) -> str:
        """The first host of the inventory. Raises NodeError when there is none."""
        argv = [self._tool("ansible"), "all", "-i", self.inventory, "--list-hosts"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=self._environment())
        names = [line.strip() for line in done.stdout.splitlines() if line.startswith("    ")]
        if not names:
            said = done.stderr.strip()
            raise NodeError(f"INVENTORY={self.inventory} has no hosts.{' Ansible said: ' + said if said else ''}")
        return names[0]

    def _variable(self, name: str, variable: str) -> Any:
        """The value a host's variable has for the playbook, templates filled in; None when it has none."""
        done = self._ansible(name, "ansible.builtin.debug", f"var={variable}")
        value = first_json(done).get(variable)
        return None if isinstance(value, str) else value

    def _ansible(self, name: str, module: str, arguments: str) -> str:
        """Run one module on one host. Raises NodeError with what was said when it fails."""
        argv = [self._tool("ansible"), name, "-i", self.inventory, *self.extra, "-m", module, "-a", arguments]
        environment = {**self._environment(), "ANSIBLE_CALLBACK_RESULT_FORMAT": "json", "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
        if done.returncode != 0:
            raise NodeError(f"{module} failed on {name}:\n{(done.stdout + done.stderr).strip()[-2000:]}")
        return done.stdout

    @staticmethod
    def _tool(name: str) -> str:
        return str((venv.VENV / "bin" / name).relative_to(CHECKOUT))

    @staticmethod
    def _environment() -> dict[str, str]:
        """What ansible needs whatever this machine's locale and settings are."""
        return {
            **os.environ,
            "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
            "LC_ALL": "C.UTF-8",
        }


def main() -> int:
    """Parse the command line; the exit status is 1 for a fault told in a sentence, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inventory", default=OWN_INVENTORY, help="hosts of your own (default: a node made here)")
    parser.add_argument("--model", default="", help="a folder here, or a hub id (default: a small one made here)")
    options = parser.parse_args()
    host.extend_path()
    os.chdir(CHECKOUT)
    try:
        Quickstart(options.inventory or OWN_INVENTORY, options.model).run()
    except (NodeError, OSError) as error:
        print(f"quickstart: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\nquickstart: interrupted. Run it again to go on, or remove all with: make quickstart-clean",
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
