# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the inventory says of each host of a plan: checked, and with the facts of hosts that are not asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import calibration, instances
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import facts, hub, recorded
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import names
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain

# The variables of a host that say text, and what to write in them.
_TEXTS = {
    "engine_version": "text in quotes, such as '0.33.0'",
    "vllm_network_interface": "the name of a network interface",
    "layout_model_root": "the path of a folder on the host",
}
VARIABLES = ("vllm_models", "gpu_profile", "gpu_recording", "vllm_calibration", "vllm_hf_token", *_TEXTS)


@dataclass(frozen=True)
class Asked:
    """What a person wrote for one host. ``gpu_facts`` is None for a host that has to be asked over the network."""

    models: list[dict[str, Any]]
    gpu_facts: dict[str, Any] | None
    engine_version: str | None
    network_interface: str | None
    model_root: str | None
    calibration: Any = None
    hf_token: str = field(default="", repr=False)

    @property
    def live(self) -> bool:
        """Whether the host is there: neither described nor recorded."""
        return self.gpu_facts is None


class Once:
    """Remembers the answer, or the InputError, of a function by the text of what it was asked."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function
        self._known: dict[str, Any] = {}

    def __call__(self, value: Any) -> Any:
        """Answer as the function does; raises InputError."""
        key = repr(value)
        if key not in self._known:
            try:
                self._known[key] = self._function(value)
            except InputError as error:
                self._known[key] = error
        answer = self._known[key]
        if isinstance(answer, InputError):
            raise answer
        return answer


def here(path: str) -> Path:
    """A path as a person wrote it: absolute, with ~, or relative to the folder that the command was started in."""
    return Path(path).expanduser().absolute()


def read(hostvars: Mapping[str, Mapping[str, Any]], hosts: Iterable[str]) -> dict[str, Asked]:
    """Read and check the variables of every host.

    Raises InputError with a sentence for each fault, naming the hosts and the variable.
    """
    model_problems = Once(instances.problems)
    profile, recording, corrections = Once(facts.facts_from_profile), Once(_recording), Once(calibration.rows)
    asked: dict[str, Asked] = {}
    faults: dict[str, list[str]] = {}
    for host in hosts:
        try:
            written = _variables(hostvars[host])
            found = model_problems(written.get("vllm_models", []))
            for sentence in found:
                faults.setdefault(sentence, []).append(host)
            corrections(written.get("vllm_calibration"))
            asked[host] = Asked(
                [one for one in written.get("vllm_models", []) if not instances.absent(one)] if not found else [],
                _described(written, profile, recording),
                engine_version=_text(written, "engine_version"),
                network_interface=_text(written, "vllm_network_interface"),
                model_root=_text(written, "layout_model_root"),
                calibration=written.get("vllm_calibration"),
                # as the role layout takes it: never what the control node is logged in with
                hf_token=hub.given(written.get("vllm_hf_token", os.environ.get("HF_TOKEN"))),
            )
        except InputError as error:
            faults.setdefault(str(error), []).append(host)
    if faults:
        raise InputError("\n".join(f"{names.fold(where)}: {sentence}" for sentence, where in faults.items()))
    return asked


def _variables(variables: Mapping[str, Any]) -> dict[str, Any]:
    written = {}
    for name in VARIABLES:
        if name in variables:
            try:
                written[name] = plain(variables[name])
            except AnsibleError as error:
                raise InputError(f"the variable {name} cannot be computed: {error.message}") from error
    return {name: value for name, value in written.items() if value is not None}


def _described(written: Mapping[str, Any], profile: Once, recording: Once) -> dict[str, Any] | None:
    if "gpu_profile" in written and "gpu_recording" in written:
        raise InputError("gpu_profile and gpu_recording are both written; a host is either described or recorded.")
    if "gpu_profile" in written:
        described: dict[str, Any] = profile(written["gpu_profile"])
        return described
    if "gpu_recording" in written:
        read_back: dict[str, Any] = recording(written["gpu_recording"])
        return read_back
    return None


def _recording(folder: Any) -> dict[str, Any]:
    if not isinstance(folder, str) or not folder:
        raise InputError(f"gpu_recording is {folder!r}; write the path of a folder on the control node.")
    path = here(folder)
    if not path.is_dir():
        raise InputError(
            f"gpu_recording is {folder!r}, and there is no folder {path} on the control node; write its full path, "
            "or one relative to the folder that the command is started in."
        )
    return facts.build_facts(recorded.read_recording(str(path)), "recorded")


def _text(written: Mapping[str, Any], name: str) -> str | None:
    value = written.get(name)
    if value is not None and (not isinstance(value, str) or not value):
        raise InputError(f"{name} is {value!r}; write {_TEXTS[name]}.")
    return value
