# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The value of an option of vllm serve, wherever a person wrote it. Pure."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instances import Instance, argument_name


def option(instance: Instance, name: str, default: Any = None) -> Any:
    """Return a vllm serve option of an entry, written as a field or under ``extra_args``."""
    value = getattr(instance, name, None)
    if value is not None:
        return value
    for key, found in (instance.extra_args or {}).items():
        if argument_name(key) == argument_name(name):
            return _read(found)
    return default


def _read(value: Any) -> Any:
    """Read an object that is written as JSON, as on the command line; anything else stays as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith("{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def environment_flag(instance: Instance, name: str) -> bool:
    """Tell whether a variable of an entry's environment is set to true, as vLLM reads it (envs.py)."""
    return str((instance.environment or {}).get(name, "0")).strip().lower() in ("1", "true")
