"""Look for secrets in every place of a node, and of the control node, where one could have been left.

The secrets go to the node on standard input, so that looking for them leaves no trace of them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.deployments import FLEET

# Runs on the node. Prints {place: [where, ...]} for what holds one of the secrets.
SEARCH = r"""
import json, os, subprocess, sys
secrets = [line.encode() for line in sys.stdin.read().split()]
allowed = json.loads(sys.argv[1])
found = {}

def note(place, where, content):
    if any(secret in content for secret in secrets):
        found.setdefault(place, []).append(where)

def output(*command):
    return subprocess.run(command, capture_output=True).stdout

note("systemctl show", "-", output("systemctl", "show", "--all", "*"))
note("systemctl cat", "-", output("systemctl", "cat", "*"))
note("journal", "-", output("journalctl", "--no-pager", "--all", "--output", "json"))
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) == os.getpid():
        continue
    for name in ("environ", "cmdline"):
        try:
            note(name, pid, open(f"/proc/{pid}/{name}", "rb").read())
        except OSError:
            pass
# The release and the system's own files are as they were delivered; of run, credentials of units are theirs alone.
without = {"/proc", "/sys", "/dev", "/usr", "/opt/vllm/releases", "/opt/vllm/installer", "/var/cache/uv"}
without.add("/run/credentials")
for folder, folders, names in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(folder, name) not in without]
    for name in names:
        path = os.path.join(folder, name)
        try:
            status = os.lstat(path)
            if not os.path.isfile(path) or os.path.islink(path) or status.st_size > 200_000_000:
                continue
            content = open(path, "rb").read()
        except OSError:
            continue
        if path in allowed and not status.st_mode & 0o077:
            continue
        note("files", path, content)
print(json.dumps(found))
"""


def on_node(name: str, secrets: Sequence[str], allowed: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return by kind of place where a node has one of the secrets; ``allowed`` files may, if only root reads them."""
    program = SEARCH.replace("'", "'\"'\"'")
    command = ["ssh", "-F", str(FLEET / "ssh_config"), name, f"python3 -c '{program}' '{json.dumps(list(allowed))}'"]
    done = subprocess.run(command, input="\n".join(secrets), capture_output=True, text=True, timeout=300, check=True)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def in_folder(folder: Path, secrets: Sequence[str]) -> list[str]:
    """Return the files of a folder of the control node that hold one of the secrets."""
    wanted = [secret.encode() for secret in secrets]
    return [
        str(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and any(secret in path.read_bytes() for secret in wanted)
    ]
