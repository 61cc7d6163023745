#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module model_snapshot; the action plugin of the same name waits and shows how far it is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_snapshot
short_description: Downloads a commit of a hub model into a cache, and checks it
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Downloads with huggingface_hub's own tool, C(hf download), in a transient unit of systemd, so that neither a long
    download nor the end of the connection matters. A run that was cut off is joined or taken up by the next one. Files
    that are whole are kept; huggingface_hub begins anew with those that were not.
  - Compares each file once with the digest that the hub states. One that differs is fetched again, once.
options:
  state:
    description:
      - V(present) brings the snapshot about, V(observed) only looks. The others are what V(present) is made of.
    type: str
    choices: [present, observed, started, read, stopped, verified, dropped]
    default: present
  model:
    description: Id of the model on the hub.
    type: str
    required: true
  revision:
    description: Its commit.
    type: str
    required: true
  files:
    description:
      - The files, as C(files) of M(gpufleet.vllm.model_info) lists them. When left out, the control node asks the hub.
    type: list
    elements: dict
  cache:
    description: Folder of huggingface_hub's cache on the host.
    type: path
    required: true
  endpoint:
    description: Address of the hub.
    type: str
    default: https://huggingface.co
  hf:
    description: The tool C(hf) on the host.
    type: path
    default: /opt/vllm/current/bin/hf
  workers:
    description: Files that are downloaded at once.
    type: int
    default: 8
  timeout:
    description: Seconds that the download may take.
    type: int
    default: 14400
  stall_seconds:
    description:
      - Seconds without a single byte after which the download counts as stalled. It is stopped then, and begun again
        with what is not whole.
    type: int
    default: 60
  retries:
    description:
      - How often a download that stalled, or that ended for a reason that may pass (429, 5xx, a broken connection), is
        begun again without that a further file has become whole in between.
    type: int
    default: 3
  xet:
    description:
      - Whether the hub's Xet storage is used. A download that stalls with it goes on without it, but for files of more
        than 50 GB, which can be had by Xet only.
    type: bool
    default: true
  http_proxy:
    description: Proxy for HTTP. By default C(http_proxy) of the task's environment on the host.
    type: str
  https_proxy:
    description: Proxy for HTTPS. By default C(https_proxy) of the task's environment on the host.
    type: str
  no_proxy:
    description: Names that are reached without a proxy. By default C(no_proxy) of the task's environment on the host.
    type: str
  ca_bundle:
    description: File on the host with the certificates of all authorities that are believed. By default the tool's own.
    type: path
  environment:
    description: Further variables of the tool, such as C(HF_HUB_DOWNLOAD_TIMEOUT). No place for secrets.
    type: dict
    default: {}
  user:
    description: User who reads the cache; only looked at with O(state=observed).
    type: str
  verify:
    description: >-
      V(changed) compares files with their digests that were not compared yet or have changed since, V(always) all,
      V(never) none but for their sizes.
    type: str
    choices: [changed, always, never]
    default: changed
  names:
    description: Files to compare or to take away; only with O(state=verified) and O(state=dropped).
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Says what it would download.
    support: full
  diff_mode:
    description: There is no text to compare.
    support: none
  idempotent:
    description: A snapshot that is whole and was compared is left alone.
    support: full
  action:
    description: The part on the control node waits, shows how far it is, and fetches damaged files again.
    support: full
"""

EXAMPLES = r"""
- name: Download a model
  gpufleet.vllm.model_snapshot:
    model: Qwen/Qwen3-8B
    revision: b968826d9c46dd6066d109eabc6255188de91218
    cache: /var/lib/vllm/hub
"""

RETURN = r"""
missing:
  description: Files that are not there whole.
  returned: with O(state=observed)
  type: list
  elements: str
unverified:
  description: Files that are there and were not compared with their digests.
  returned: with O(state=observed)
  type: list
  elements: str
missing_bytes:
  description: Size of the missing files.
  returned: with O(state=observed)
  type: int
  sample: 16381517208
total_bytes:
  description: Size of all files.
  returned: with O(state=observed) and O(state=present)
  type: int
  sample: 16381517208
free_bytes:
  description: What is free where the cache is.
  returned: with O(state=observed)
  type: int
present_bytes:
  description: What the cache holds of the model.
  returned: with O(state=observed) and O(state=read)
  type: int
problems:
  description: Sentences about what stands against a download, of the cache's folder and of O(ca_bundle).
  returned: with O(state=observed)
  type: list
  elements: str
activity:
  description: A number that changes with every byte that is written.
  returned: with O(state=read)
  type: int
running:
  description: Whether a download is going on.
  returned: with O(state=observed) and O(state=read)
  type: bool
result:
  description: How the download ended, in systemd's word.
  returned: with O(state=read)
  type: str
  sample: success
output:
  description: The last lines that the tool wrote.
  returned: with O(state=read)
  type: list
  elements: str
done:
  description: Files that were compared.
  returned: with O(state=verified)
  type: list
  elements: str
wrong:
  description: Those of them that differ from what the hub states.
  returned: with O(state=verified) and O(state=present)
  type: list
  elements: str
downloaded_bytes:
  description: What was downloaded, or would be in check mode.
  returned: with O(state=present)
  type: int
  sample: 16381517208
"""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import claim, credentials, transient
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.hub_cache import Snapshot
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.systemd import quote_environment
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import hub_files, places, redact, systemd

RUNNING = Path("/run/gpufleet-download")
# States in which root writes into the cache.
WRITES = ("started", "verified", "dropped")
OUTPUT_LINES = 60
# Time of one call that compares files, so that the play shows progress.
VERIFY_SECONDS = 10
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
# The names under which HTTP libraries look for the authorities: httpx and OpenSSL, requests, curl.
AUTHORITIES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# What ProtectHome=yes closes (systemd.exec(5)).
HOMES = tuple(map(Path, ("/home", "/root", "/run/user")))

ARGUMENTS: dict[str, Any] = {
    "state": {
        "type": "str",
        "choices": ["present", "observed", "started", "read", "stopped", "verified", "dropped"],
        "default": "present",
    },
    "model": {"type": "str", "required": True},
    "revision": {"type": "str", "required": True},
    "files": {"type": "list", "elements": "dict"},
    "cache": {"type": "path", "required": True},
    "endpoint": {"type": "str", "default": "https://huggingface.co"},
    "hf": {"type": "path", "default": "/opt/vllm/current/bin/hf"},
    "workers": {"type": "int", "default": 8},
    "timeout": {"type": "int", "default": 14400},
    "stall_seconds": {"type": "int", "default": 60},
    "retries": {"type": "int", "default": 3},
    "xet": {"type": "bool", "default": True},
    # an address of a proxy may hold a password
    "http_proxy": {"type": "str", "no_log": True},
    "https_proxy": {"type": "str", "no_log": True},
    "no_proxy": {"type": "str"},
    "ca_bundle": {"type": "path"},
    "environment": {"type": "dict", "default": {}},
    "user": {"type": "str"},
    "verify": {"type": "str", "choices": ["changed", "always", "never"], "default": "changed"},
    "names": {"type": "list", "elements": "str", "default": []},
}


class Download:
    """One snapshot on this host."""

    def __init__(self, module: AnsibleModule) -> None:
        """Take the module's arguments."""
        self.module = module
        self.wanted: dict[str, Any] = module.params
        self.snapshot = Snapshot(
            self.wanted["cache"], self.wanted["model"], self.wanted["revision"], self.wanted["files"] or []
        )
        # systemd allows few characters in the name of a unit
        text = f"{self.wanted['cache']} {self.wanted['model']} {self.wanted['revision']}"
        self.unit = f"gpufleet-download-{hashlib.sha256(text.encode()).hexdigest()[:12]}.service"
        self.folder = RUNNING / self.unit

    def properties(self) -> dict[str, str]:
        """What systemd says of the unit."""
        return systemd.show([self.unit]).get(self.unit, {})

    def running(self) -> bool:
        """Whether the unit runs."""
        return self.properties().get("ActiveState") in ("active", "activating", "deactivating")

    def observed(self) -> dict[str, Any]:
        """What is there and what is not."""
        state = self.snapshot.state(trust=self.wanted["verify"] != "always")
        cache = Path(self.wanted["cache"])
        existing = next(place for place in (cache, *cache.parents) if place.exists())
        return {
            "missing": state.missing,
            "unverified": [] if self.wanted["verify"] == "never" else state.unverified,
            "missing_bytes": state.missing_bytes,
            "total_bytes": state.total_bytes,
            "free_bytes": shutil.disk_usage(existing).free,
            "present_bytes": self.snapshot.present_bytes(),
            "running": self.running(),
            "problems": self.problems(cache),
        }

    def problems(self, cache: Path) -> list[str]:
        """Say what stands against a download, or against reading it afterwards."""
        found = []
        bundle, user = self.wanted["ca_bundle"], self.wanted["user"]
        if bundle and not Path(bundle).is_file():
            found.append(
                f"model_ca_bundle names {bundle}, which is no file on the host; correct it, or install what it names."
            )
        closed = places.closed_to(cache, user) if user else None
        if closed:
            found.append(
                f"{closed} on the way to {cache} (model_hub_cache) is closed to the user {user}, who reads the models; "
                f"open it (chmod o+x {closed}), or name another folder in model_hub_cache."
            )
        return found

    def started(self) -> dict[str, Any]:
        """Start the download, unless one is going on."""
        if self.running():
            return {}
        hf = self.wanted["hf"]
        if not Path(hf).exists():
            raise GpufleetError(
                f"{hf} does not exist, which downloads models; the engine release comes first "
                "(role gpufleet.vllm.engine)."
            )
        self.module.run_command(["systemctl", "reset-failed", self.unit])
        self.snapshot.sweep()
        Path(self.wanted["cache"]).mkdir(parents=True, exist_ok=True, mode=0o755)
        self.folder.mkdir(parents=True, exist_ok=True)
        RUNNING.chmod(0o700)
        self.environment_file()
        command = [
            hf,
            "download",
            f"--revision={self.wanted['revision']}",
            f"--max-workers={self.wanted['workers']}",
            "--",
            self.wanted["model"],
            *self.snapshot.files,
        ]
        arguments = transient.systemd_run(self.unit, self.settings(), command)
        code, _out, err = self.module.run_command([*arguments[:1], *self.token(), *arguments[1:]])
        if code:
            raise GpufleetError(f"systemd did not start the download of {self.wanted['model']}: {err.strip()}")
        return {}

    def token(self) -> list[str]:
        """Options of systemd-run that hand over the token, where the host has one."""
        present = [path for path in (credentials.ENCRYPTED, credentials.PLAIN) if Path(path).exists()]
        return [f"--property={line}" for line in credentials.unit_properties(present, self.unit)]

    def stopped(self) -> dict[str, Any]:
        """End a download that goes on."""
        self.module.run_command(["systemctl", "stop", self.unit])
        return {}

    def settings(self) -> dict[str, str]:
        """Settings of the unit. It writes nowhere but into the cache."""
        cache = Path(self.wanted["cache"]).resolve()
        at_home = any(cache.is_relative_to(home) for home in HOMES)
        return {
            "Description": f"download of {self.wanted['model']}",
            "EnvironmentFile": str(self.folder / "environment"),
            "RuntimeMaxSec": str(self.wanted["timeout"]),
            "StandardOutput": f"file:{self.folder}/output",
            "StandardError": f"file:{self.folder}/output",
            "UMask": "0022",
            "NoNewPrivileges": "yes",
            "PrivateTmp": "yes",
            "ProtectHome": "read-only" if at_home else "yes",
            "ProtectSystem": "strict",
            "ReadWritePaths": str(cache),
        }

    def environment_file(self) -> None:
        """Write the environment of the unit; only root reads it, since the address of a proxy may hold a password."""
        values = {
            "HF_HUB_CACHE": self.wanted["cache"],
            "HF_ENDPOINT": self.wanted["endpoint"],
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HOME": "/tmp",  # noqa: S108 - its own, see PrivateTmp
        }
        if not self.wanted["xet"]:
            values["HF_HUB_DISABLE_XET"] = "1"
        if self.wanted["ca_bundle"]:
            values.update(dict.fromkeys(AUTHORITIES, self.wanted["ca_bundle"]))
        for name in PROXIES:
            for variant in (name, name.upper()):
                value = self.wanted.get(name) or os.environ.get(variant)
                if value:
                    values[variant] = value
        values.update({name: str(value) for name, value in self.wanted["environment"].items()})
        path = self.folder / "environment"
        path.touch(mode=0o600)
        lines = [f"{name}={quote_environment(value)}\n" for name, value in values.items()]
        path.write_text("".join(lines), encoding="utf-8")

    def read(self) -> dict[str, Any]:
        """How far it is, and how it ended."""
        properties = self.properties()
        running = properties.get("ActiveState") in ("active", "activating", "deactivating")
        if properties.get("ActiveState") == "failed":
            self.module.run_command(["systemctl", "reset-failed", self.unit])
        try:
            output = (self.folder / "output").read_text(encoding="utf-8", errors="replace")
        except OSError:
            output = ""
        if not running:
            # it may hold the password of a proxy, and nobody reads it any more
            (self.folder / "environment").unlink(missing_ok=True)
        return {
            "running": running,
            "activity": self.snapshot.activity(),
            "result": properties.get("Result") or "success",
            "present_bytes": self.snapshot.present_bytes(),
            "output": [redact.redacted(line) for line in output.splitlines()[-OUTPUT_LINES:]],
        }

    def verified(self) -> dict[str, Any]:
        """Compare some files."""
        done, wrong = self.snapshot.verify(self.wanted["names"], VERIFY_SECONDS)
        return {"done": done, "wrong": wrong}

    def dropped(self) -> dict[str, Any]:
        """Take damaged files away."""
        self.snapshot.drop(self.wanted["names"])
        return {"changed": True}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    state = module.params["state"]
    if state == "present":
        module.fail_json(msg="state=present is done by the action plugin; call it as gpufleet.vllm.model_snapshot.")
    if module.check_mode and state != "observed":
        module.exit_json(changed=False, skipped=True)
    try:
        wanted = module.params
        paths = [str(file["path"]) for file in wanted["files"] or ()]
        hub_files.check_names([wanted["model"], wanted["revision"], *paths, *wanted["names"]])
        download = Download(module)
        if state in WRITES:
            claim.claim([Path(module.params["cache"])], lambda argv: module.run_command(list(argv)))
        module.exit_json(**{"changed": False, **getattr(download, state)()})
    except (GpufleetError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
