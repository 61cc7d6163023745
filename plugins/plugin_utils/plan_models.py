# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads the models of a plan on the control node, each once for the whole fleet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import drafting
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model, model_files
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plan_input import here

# (hub id, revision, token) -> model_facts
AskHub = Callable[[str, str, str], Mapping[str, Any]]


class Models:
    """Facts of models by where they are read. What cannot be read is ``{"problem": sentence}``."""

    def __init__(self, ask_hub: AskHub) -> None:
        self._ask_hub = ask_hub
        self._known: dict[tuple[Any, ...], Mapping[str, Any]] = {}

    def facts(
        self, entry: Mapping[str, Any], on_host: Mapping[str, Mapping[str, Any]] | None, hf_token: str = ""
    ) -> Mapping[str, Any]:
        """Facts of the model of one entry of vllm_models.

        ``on_host`` has the facts that a live host gave, by path; None for a host that is not asked, whose paths are
        looked for on the control node. ``hf_token`` is shown to the hub, empty is none. What a draft
        model of its own is goes under ``draft_model``.
        """
        found = self._model(entry, on_host, hf_token)
        named = drafting.needs_model(entry.get("speculative_config"))
        if named is None or found.get("problem"):
            return found
        return {**found, "draft_model": self._draft(named, entry, on_host, hf_token)}

    def _draft(
        self, named: str, entry: Mapping[str, Any], on_host: Mapping[str, Mapping[str, Any]] | None, hf_token: str
    ) -> Mapping[str, Any]:
        if "speculative_model_config" in entry:
            return self._once("config", entry["speculative_model_config"], None, None)
        if not named.startswith("/"):
            return self._once("hub", named, "main", hf_token)
        return self._once("folder", named) if on_host is None else {}

    def _model(
        self, entry: Mapping[str, Any], on_host: Mapping[str, Mapping[str, Any]] | None, hf_token: str
    ) -> Mapping[str, Any]:
        if "model_config" in entry:
            return self._once("config", entry["model_config"], entry.get("weights_bytes"), entry.get("weights_index"))
        if "model_source" in entry:
            return self._once("folder", entry["model_source"])
        name = entry["model"]
        if not name.startswith("/"):
            return self._once("hub", name, entry.get("revision") or "main", hf_token)
        if on_host is None:
            return self._once("described", name)
        return on_host.get(name) or {"problem": f"The model {name} was not read on the host."}

    def _once(self, kind: str, *place: Any) -> Mapping[str, Any]:
        key = (kind, *place)
        if key not in self._known:
            try:
                self._known[key] = getattr(self, f"_{kind}")(*place)
            except InputError as error:
                self._known[key] = {"problem": str(error)}
        return self._known[key]

    def _hub(self, name: str, revision: str, hf_token: str) -> Mapping[str, Any]:
        return self._ask_hub(name, revision, hf_token)

    def _folder(self, folder: str) -> Mapping[str, Any]:
        return model.read_folder(folder)

    def _described(self, folder: str) -> Mapping[str, Any]:
        try:
            return model.read_folder(folder)
        except InputError as error:
            raise InputError(
                f"{error} The host is described or recorded, so its model was looked for on the control node; "
                "write model_config, the path of a config.json there."
            ) from error

    def _config(self, config: str, weights_bytes: int | None, weights_index: str | None) -> Mapping[str, Any]:
        if weights_bytes is not None and weights_index is not None:
            raise InputError("weights_bytes and weights_index are both written; leave one of them out.")
        index = None if weights_index is None else _readable(weights_index, "weights_index")
        return model_files.read_config(_readable(config, "model_config"), weights_bytes, index)


def _readable(written: str, field: str) -> str:
    """The path of a file that a person wrote in a field, once it can be opened."""
    path = here(written)
    try:
        with path.open("rb"):
            return str(path)
    except OSError as error:
        raise InputError(
            f"{field} {path} cannot be read on the control node ({error.strerror}); write its full path, or one "
            "relative to the folder that the command is started in."
        ) from error
