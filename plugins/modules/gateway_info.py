#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module gateway_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_info
short_description: Reads how a gateway is doing
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Reads from HAProxy which servers its backends have and how they are, and who wrote its configuration. Changes
    nothing, and does not fail where there is no HAProxy.
options:
  socket:
    description: Socket of HAProxy's master process.
    type: path
    default: /run/haproxy-master.sock
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode.
    support: full
  diff_mode:
    description: Changes nothing, so there is no difference to show.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Look at the gateway
  gpufleet.vllm.gateway_info:
  register: gateway
"""

RETURN = r"""
config:
  description: >-
    Who wrote C(/etc/haproxy/haproxy.cfg): V(none) where it is not there, V(package), V(ours), or V(other).
  returned: always
  type: str
running:
  description: Whether HAProxy answers.
  returned: always
  type: bool
digest:
  description: Digest of what the running process was started from; null where the role did not start it.
  returned: always
  type: str
servers:
  description: The servers.
  returned: always
  type: list
  elements: dict
  contains:
    backend:
      description: Name of the backend, which is the name of the model.
      type: str
    name:
      description: Name of the server, which is the inventory name of its host.
      type: str
    draining:
      description: Whether it gets no new requests because somebody said so.
      type: bool
    healthy:
      description: Whether its check succeeds.
      type: bool
    up:
      description: Whether it gets requests.
      type: bool
down:
  description: Backends of which no server is healthy.
  returned: always
  type: list
  elements: str
"""

import hashlib
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.files import text_of
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.haproxy import Master
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import haproxy

CONFIG = Path("/etc/haproxy/haproxy.cfg")
OURS = "# Written by Ansible (gpufleet.vllm.gateway)"
DIGEST = "GPUFLEET_DIGEST"


def owner(module: AnsibleModule) -> str:
    """Say who wrote the configuration."""
    text = text_of(CONFIG)
    if text is None:
        return "none"
    if text.startswith(OURS):
        return "ours"
    query = ["dpkg-query", "--show", "--showformat=${Conffiles}", "haproxy"]
    code, out, _err = (
        module.run_command(query, handle_exceptions=False) if module.get_bin_path(query[0]) else (1, "", "")
    )
    # dpkg keeps MD5 sums of the files that it has delivered
    delivered = f"{CONFIG} {hashlib.md5(text.encode()).hexdigest()}"  # noqa: S324
    return "package" if code == 0 and delivered in out else "other"


def look(master: Master) -> dict[str, Any]:
    """Ask the running HAProxy."""
    try:
        servers, digest = master.servers(), master.variable(DIGEST)
    except GpufleetError:
        return {"running": False, "digest": None, "servers": [], "down": []}
    healthy = {one.backend for one in servers if one.operation == haproxy.RUNNING}
    return {
        "running": True,
        "digest": digest,
        "servers": [
            {
                "backend": one.backend,
                "name": one.name,
                "draining": one.draining,
                "healthy": one.operation == haproxy.RUNNING,
                "up": one.up,
            }
            for one in servers
        ],
        "down": sorted({one.backend for one in servers} - healthy),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"socket": {"type": "path", "default": "/run/haproxy-master.sock"}}, supports_check_mode=True
    )
    module.exit_json(changed=False, config=owner(module), **look(Master(module.params["socket"])))


if __name__ == "__main__":
    main()
