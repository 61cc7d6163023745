"""What a module documents is what it takes."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule

from tests.unit.samples import CHECKOUT

MODULES = sorted(path.stem for path in (CHECKOUT / "plugins/modules").glob("*.py"))
# what is compared, with what it is when it is not written
COMPARED = {"type": "str", "required": False, "default": None, "choices": None, "elements": None}


class Asked(Exception):
    """The module has told its argument_spec."""


def spec_of(module: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the keyword arguments that a module gives to AnsibleModule."""
    told: dict[str, Any] = {}

    def tell(self: AnsibleModule, **arguments: Any) -> None:
        told.update(arguments)
        raise Asked

    monkeypatch.setattr(AnsibleModule, "__init__", tell)
    with pytest.raises(Asked):
        module.main()
    return told


def taken_by(name: str, module: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], bool]:
    """The arguments that a module takes, and whether it runs in check mode; of some an action plugin does all."""
    if hasattr(module, "main"):
        told = spec_of(module, monkeypatch)
        return told["argument_spec"], told["supports_check_mode"]
    action = import_module(f"ansible_collections.gpufleet.vllm.plugins.action.{name}")
    return action.ARGUMENT_SPEC, action.ActionModule._supports_check_mode


def compared(option: dict[str, Any]) -> dict[str, Any]:
    return {key: option.get(key, default) for key, default in COMPARED.items()}


def test_there_are_modules() -> None:
    assert {"cuda_info", "gpu_info", "host_info", "model_info", "plan_report", "warmup"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_arguments(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module(f"ansible_collections.gpufleet.vllm.plugins.modules.{name}")
    spec, in_check_mode = taken_by(name, module, monkeypatch)
    documentation = yaml.safe_load(module.DOCUMENTATION)
    documented = {option: compared(entry) for option, entry in documentation["options"].items()}
    taken = {option: compared(entry) for option, entry in spec.items()}
    assert documented == taken
    assert documentation["module"] == name
    assert in_check_mode == (documentation["attributes"]["check_mode"]["support"] == "full")


@pytest.mark.parametrize("name", MODULES)
def test_examples_and_returns_can_be_read(name: str) -> None:
    module = import_module(f"ansible_collections.gpufleet.vllm.plugins.modules.{name}")
    options = yaml.safe_load(module.DOCUMENTATION)["options"]
    used = [task[key] for task in yaml.safe_load(module.EXAMPLES) for key in task if key == f"gpufleet.vllm.{name}"]
    assert used
    assert all(set(arguments or {}) <= set(options) for arguments in used)
    assert all({"description", "returned", "type"} <= set(entry) for entry in yaml.safe_load(module.RETURN).values())
