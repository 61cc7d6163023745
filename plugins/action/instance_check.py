# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Refuses a list of instances that has faults, before a host is asked anything."""

from __future__ import annotations

import re
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import instances
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import filters
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "models": {"type": "raw", "required": True},
    "token": {"type": "str", "default": "", "no_log": True},
}
TOKEN = re.compile(r"hf_\w{8,}")
NOT_OF_THE_HUB = (
    "vllm_hf_token (by default HF_TOKEN of the environment) does not look like a token of the hub, which begins with "
    "hf_. Correct it, or leave it empty."
)

# The roles use this plugin first.
filters.load()


class ActionModule(ActionBase):
    """Ansible's entry."""

    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Say all that is wrong, or nothing."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = plain(self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)[1])
        problems = instances.problems(given["models"])
        # Ansible hides a token's text wherever it appears, which a word of a language must not be.
        if given["token"].strip() and not TOKEN.fullmatch(given["token"].strip()):
            problems = [*problems, NOT_OF_THE_HUB]
        return {**result, "failed": True, "msg": "\n".join(problems)} if problems else result
