# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say what is wrong with the entries of ``vllm_models``, a sentence each."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import drafting, engine_versions, lora
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.engine_arguments import REMOVED
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instance_fields import (
    ARGUMENT,
    CHECKS,
    FIELDS,
    RESERVED_ARGUMENTS,
    SHORT_ARGUMENTS,
    VALUE,
    good,
    whole,
)

DEFAULT_PORT = 8000
# config/parallel.py:317-328
DEFAULT_MASTER_PORT = 29501
LAST_PORT = 65535
# master_port, the next where the hosts watch one another, and one for replicas (decide.instances)
MASTER_PORTS = 3
SECRET_ARGUMENTS = frozenset({"api-key", "hf-token"})
# TOKENIZERS_PARALLELISM and ..._TOKENS_PER_... are settings, not secrets.
SECRET_NAME = re.compile(r"TOKEN(?!IZER|S_)|API_KEY|PASSWORD|SECRET")


def argument_name(name: str) -> str:
    """Give an option of vllm serve as its configuration file wants it: ``--max_num_seqs`` is ``max-num-seqs``."""
    return name.lstrip("-").replace("_", "-")


def absent(entry: Mapping[str, Any]) -> bool:
    """Tell whether an entry is of an instance that is to go; of such a one the name alone counts."""
    return entry.get("state") == "absent"


def _place(position: int, entry: Mapping[str, Any]) -> str:
    name = entry.get("name")
    return f"vllm_models[{position}] ({name})" if isinstance(name, str) else f"vllm_models[{position}]"


def _unknown_field(place: str, key: object) -> str:
    argument = argument_name(str(key))
    if argument in REMOVED:
        removed = REMOVED[argument]
        return f"{place}: {key} is no option any more, vLLM {removed.release} removed it; {removed.instead}."
    near = difflib.get_close_matches(str(key), FIELDS, n=1)
    remedy = f"did you mean '{near[0]}'?" if near else f"the fields are {', '.join(sorted(FIELDS))}."
    return f"{place} has the unknown field '{key}': {remedy} Other options of vllm serve go under 'extra_args'."


def _field_problems(place: str, entry: Mapping[str, Any]) -> Iterator[str]:
    for key, value in entry.items():
        if key not in FIELDS:
            yield _unknown_field(place, key)
        elif not good(key, value):
            # what the two hold may be a secret
            fault = "cannot be used" if key in ("environment", "extra_args") else f"is {value!r}"
            yield f"{place}: {key} {fault}; write {CHECKS[FIELDS[key].check][1]}."
    if "name" not in entry:
        yield f"{place} has no 'name'; write {CHECKS['name'][1]}."
    if not absent(entry) and not {"model", "model_source", "model_config"} & set(entry):
        yield f"{place} has no 'model'; write {CHECKS['model'][1]}, or 'model_source', a folder on the control node."


def _contradictions(place: str, entry: Mapping[str, Any]) -> Iterator[str]:
    source, model = entry.get("model_source"), entry.get("model")
    if source and isinstance(model, str) and not model.startswith("/"):
        yield (
            f"{place}: with model_source, model is where the copy goes on the host; "
            f"write an absolute path in place of {model!r}, or leave model out."
        )
    if "kv_cache_memory_gib" in entry and "kv_cache_memory_bytes" in entry:
        yield f"{place} has both kv_cache_memory_gib and kv_cache_memory_bytes, which say the same; write one of them."
    if entry.get("language_model_only") is True and "limit_mm_per_prompt" in entry:
        yield f"{place} has language_model_only, which allows no images at all; leave out limit_mm_per_prompt."
    if entry.get("shared_gpus") is True and "gpu_memory_utilization" not in entry:
        yield (
            f"{place} shares its GPUs and does not say how much of them it takes; "
            "write 'gpu_memory_utilization', such that those on one GPU add up to 0.95 at most."
        )
    if "nodes" in entry and "network_interface" not in entry:
        yield f"{place} runs on several nodes and has no 'network_interface'; write {CHECKS['interface'][1]}."
    for key in ("network_interface", "master_port"):
        if key in entry and "nodes" not in entry:
            yield f"{place} has {key} and runs on one host; leave it out, or write 'nodes'."


def _reserved(argument: str) -> str | None:
    """Name the field that an option belongs to, also when it is negated, cut short, or one key of a mapping.

    vLLM's parser takes an option by its beginning, as argparse does, and ``name.key`` for a key of a mapping
    (utils/argparse_utils.py, FlexibleArgumentParser). No option of vLLM 0.32.0, of
    430, is the beginning of one of these names.
    """
    whole = argument.partition(".")[0]
    for name in filter(None, (whole, whole[3:] if whole.startswith("no-") else "")):
        if name in RESERVED_ARGUMENTS or name in SHORT_ARGUMENTS:
            return RESERVED_ARGUMENTS.get(name) or SHORT_ARGUMENTS[name]
        found = next((field for option, field in RESERVED_ARGUMENTS.items() if option.startswith(name)), None)
        if found:
            return found
    return None


def _is_secret(argument: str) -> bool:
    """Tell whether an option holds a secret, also when it is cut short within its last word."""
    return any(
        name.startswith(argument) and not name[len(argument) :].startswith("-") and "-" in argument
        for name in SECRET_ARGUMENTS
    )


def _argument_problems(place: str, entry: Mapping[str, Any]) -> Iterator[str]:
    arguments = entry.get("extra_args")
    for key, value in (arguments if isinstance(arguments, Mapping) else {}).items():
        argument = argument_name(str(key))
        field = _reserved(argument)
        if not isinstance(key, str) or not ARGUMENT.fullmatch(key):
            yield f"{place}: extra_args.{key!r} is no option of vllm serve; write letters, digits, '-' and '_'."
        elif _is_secret(argument):
            yield (
                f"{place}: extra_args.{key} would put a secret into a file that every user of the host can read; "
                "take it out."
            )
        elif field:
            yield f"{place}: extra_args.{key} has a place of its own; write '{field}'."
        elif value is None:
            yield f"{place}: extra_args.{key} has no value; vLLM would read it as the text 'None'."
    environment = entry.get("environment")
    if "nodes" in entry and isinstance(environment, Mapping) and "VLLM_HOST_IP" in environment:
        yield f"{place}: environment.VLLM_HOST_IP differs from node to node; leave it out, it is set on each."
    for key in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        if isinstance(environment, Mapping) and key in environment:
            yield f"{place}: environment.{key} has a place of its own; write 'gpus', which GPUs the instance gets."
    for key, value in environment.items() if isinstance(environment, Mapping) else ():
        if str(key).startswith("GPUFLEET_"):
            yield f"{place}: environment.{key} is a name that this collection writes itself; leave it out."
        if isinstance(value, str) and not VALUE.fullmatch(value):
            yield f"{place}: environment.{key} holds a control character, or what is no character; take it out."
        if SECRET_NAME.search(str(key).upper()) and not str(key).upper().endswith("_PATH"):
            yield (
                f"{place}: environment.{key} looks like a secret; an environment can be read from outside the process, "
                "so it is not accepted."
            )


def _adapter_problems(place: str, entry: Mapping[str, Any]) -> Iterator[str]:
    """Numbers of LoRA that no release takes (config/lora.py)."""
    arguments = entry.get("extra_args")
    if not isinstance(arguments, Mapping):
        return
    written = {argument_name(str(key)): value for key, value in arguments.items()}
    rank = written.get("max-lora-rank")
    if rank is not None and rank not in lora.RANKS:
        ranks = ", ".join(map(str, lora.RANKS))
        yield f"{place}: extra_args.max-lora-rank is {rank!r}; write the next larger of {ranks}."
    loras, kept = written.get("max-loras", 1), written.get("max-cpu-loras")
    if whole(loras) and whole(kept) and kept < loras:
        yield f"{place}: extra_args.max-cpu-loras {kept} is less than the {loras} of max-loras; write {loras} or more."


def _drafting_problems(place: str, entry: Mapping[str, Any]) -> Iterator[str]:
    """Keys of speculative_config that no release takes (config/speculative.py)."""
    config = entry.get("speculative_config")
    if not isinstance(config, Mapping):
        return
    count, method = config.get("num_speculative_tokens"), config.get("method")
    if count is not None and not (whole(count) and count > 0):
        yield (
            f"{place}: speculative_config.num_speculative_tokens is {count!r}; write how many tokens are drafted for "
            "each step, a whole number above 0."
        )
    meant = drafting.misspelt(method) if isinstance(method, str) else None
    if meant:
        yield f"{place}: speculative_config.method is {method!r}; did you mean {meant!r}?"


def _version_problems(place: str, entry: Mapping[str, Any]) -> Iterator[str]:
    """Options that the release does not take."""
    version = entry.get("engine_version")
    if version is not None and not good("engine_version", version):
        return
    engine = engine_versions.of(version)
    for key, field in FIELDS.items():
        problem = engine.argument_problem(field.argument) if key in entry and field.argument else None
        if problem:
            yield f"{place}: {key} cannot be used, {problem}."
    arguments = entry.get("extra_args")
    for key in arguments if isinstance(arguments, Mapping) else {}:
        argument = argument_name(str(key))
        problem = None if _reserved(argument) else engine.argument_problem(argument)
        if problem:
            yield f"{place}: extra_args.{key} cannot be used, {problem}."


def _clashes(entries: Sequence[tuple[int, Mapping[str, Any]]], key: str, default: object) -> Iterator[str]:
    seen: dict[object, str] = {}
    for position, entry in entries:
        value = entry.get(key, default)
        place = _place(position, entry)
        if value is not None and isinstance(value, (str, int)) and value in seen:
            yield f"{place} has the {key} {value} of {seen[value]}; give each instance of a host its own."
        elif isinstance(value, (str, int)):
            seen[value] = place


def _master_port_clashes(entries: Sequence[tuple[int, Mapping[str, Any]]]) -> Iterator[str]:
    """The ports between nodes, which nobody else may have; without nodes there are none."""
    taken = {
        entry.get("port", DEFAULT_PORT): _place(position, entry)
        for position, entry in entries
        if good("port", entry.get("port", DEFAULT_PORT))
    }
    for position, entry in entries:
        value = entry.get("master_port", DEFAULT_MASTER_PORT)
        if "nodes" not in entry or not good("master_port", value):
            continue
        place = _place(position, entry)
        ports = range(value, value + MASTER_PORTS)
        if ports[-1] > LAST_PORT:
            most = LAST_PORT + 1 - MASTER_PORTS
            yield f"{place} takes the ports from master_port to {ports[-1]}; write {most} at most."
        clash = next((port for port in ports if port in taken), None)
        if clash is not None:
            yield (
                f"{place} takes the ports {value} (master_port) to {ports[-1]}, and {taken[clash]} has {clash} too; "
                "give each port one use."
            )
        taken.update(dict.fromkeys(ports, place))


def problems(models: object) -> list[str]:
    """Say everything that is wrong with a ``vllm_models`` list, a sentence each; none means that it can be used."""
    if not isinstance(models, (list, tuple)) or not models:
        return [
            "There are no models to serve: 'vllm_models' is empty or not a list. "
            "Write a list of entries with at least 'name' and 'model' in the inventory."
        ]
    found = []
    entries = []
    for position, entry in enumerate(models):
        if not isinstance(entry, Mapping):
            found.append(f"vllm_models[{position}] is {entry!r}; write a mapping with at least 'name' and 'model'.")
            continue
        entries.append((position, entry))
        place = _place(position, entry)
        for judge in (_field_problems,) if absent(entry) else JUDGES:
            found.extend(judge(place, entry))
    stay = [(position, entry) for position, entry in entries if not absent(entry)]
    return [
        *found,
        *_clashes(entries, "name", None),
        *_clashes(stay, "port", DEFAULT_PORT),
        *_master_port_clashes(stay),
    ]


JUDGES = (
    _field_problems,
    _contradictions,
    _argument_problems,
    _adapter_problems,
    _drafting_problems,
    _version_problems,
)
