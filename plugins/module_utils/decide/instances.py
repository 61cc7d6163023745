# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read what a person asked for: the entries of ``vllm_models``."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# A systemd instance name that needs no escaping, a file name and a metric label at once.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
# huggingface_hub/utils/_validators.py, validate_repo_id: letters, digits, '-', '_', '.', no '--' or '..', no '.git' at
# the end, each part beginning and ending with a letter, digit or '_' and 96 characters at most
HUB_ID = re.compile(r"(?!.*(?:--|\.\.|\.git$))\w(?:[\w.-]{0,94}\w)?/\w(?:[\w.-]{0,94}\w)?", re.ASCII)
ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Field:
    """One field of an entry: ``check`` names the rule, ``argument`` the vllm serve option it becomes."""

    check: str
    argument: str | None = None


# vllm serve spells its options with dashes; a false value survives in its
# configuration file only under the dashed name (vllm/utils/argparse_utils.py:653-673).
FIELDS: Mapping[str, Field] = {
    "name": Field("name"),
    "model": Field("model"),
    "model_source": Field("folder"),
    "revision": Field("text"),
    "gpus": Field("gpus"),
    "host": Field("text", "host"),
    "port": Field("port", "port"),
    "tensor_parallel_size": Field("count_or_auto", "tensor-parallel-size"),
    "pipeline_parallel_size": Field("count", "pipeline-parallel-size"),
    "dtype": Field("text", "dtype"),
    "max_model_len": Field("count_or_auto", "max-model-len"),
    "max_num_seqs": Field("count", "max-num-seqs"),
    "max_num_batched_tokens": Field("count", "max-num-batched-tokens"),
    "gpu_memory_utilization": Field("fraction", "gpu-memory-utilization"),
    "kv_cache_memory_gib": Field("amount"),
    "extra_args": Field("arguments"),
    "environment": Field("environment"),
}

# The part of the configuration that this collection decides itself; a second place for it would contradict the first.
RESERVED_ARGUMENTS: Mapping[str, str] = {
    **{field.argument: name for name, field in FIELDS.items() if field.argument},
    "model": "model",
    "served-model-name": "name",
    "kv-cache-memory-bytes": "kv_cache_memory_gib",
    "device-ids": "gpus",
    "shutdown-timeout": "serve_drain_seconds",
    "config": "extra_args",
}
SECRET_ARGUMENTS = frozenset({"api-key", "hf-token"})
# TOKENIZERS_PARALLELISM and ..._TOKENS_PER_... are settings, not secrets.
SECRET_NAME = re.compile(r"TOKEN(?!IZER|S_)|API_KEY|PASSWORD|SECRET")


@dataclass(frozen=True)
class Instance:
    """One checked entry of ``vllm_models``, with the defaults filled in.

    ``kv_cache_memory_gib`` is per rank; ``gpus`` is "auto", a count or a tuple of device indexes.
    """

    name: str
    model: str
    model_source: str | None = None
    revision: str = "main"
    gpus: str | int | tuple[int, ...] = "auto"
    host: str = "127.0.0.1"
    port: int = 8000
    tensor_parallel_size: int | None = None
    pipeline_parallel_size: int = 1
    dtype: str = "auto"
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    gpu_memory_utilization: float | None = None
    kv_cache_memory_gib: float | None = None
    extra_args: Mapping[str, Any] | None = None
    environment: Mapping[str, str] | None = None

    @property
    def origin(self) -> str:
        """Where the weights come from: "copy" (from the controller), "path" (on the host) or "hub"."""
        if self.model_source:
            return "copy"
        return "path" if self.model.startswith("/") else "hub"


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _gpus(value: object) -> bool:
    if value == "auto" or (_whole(value) and int(value) > 0):  # type: ignore[call-overload]
        return True
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(_whole(item) and item >= 0 for item in value)
        and len(set(value)) == len(value)
    )


def _scalar(value: object) -> bool:
    return isinstance(value, (str, int, float, bool))


# check -> (test, what to write)
CHECKS: Mapping[str, tuple[Any, str]] = {
    "name": (
        lambda v: isinstance(v, str) and bool(NAME.fullmatch(v)),
        "lower-case letters, digits, '.', '_' and '-', 63 characters at most, beginning with a letter or digit",
    ),
    "model": (
        lambda v: isinstance(v, str) and (v.startswith("/") or bool(HUB_ID.fullmatch(v))),
        "an absolute path on the host, or a hub id such as Qwen/Qwen3-8B",
    ),
    "folder": (
        lambda v: isinstance(v, str) and v.startswith("/"),
        "the absolute path of a folder on the control node, such as {{ inventory_dir }}/models/x",
    ),
    "text": (lambda v: isinstance(v, str) and bool(v) and "\n" not in v, "a line of text"),
    "gpus": (_gpus, "auto, a count of GPUs, or a list of different GPU indexes such as [0, 1]"),
    "port": (lambda v: _whole(v) and 1 <= v <= 65535, "a port from 1 to 65535"),
    "count": (lambda v: _whole(v) and v > 0, "a whole number above 0"),
    "count_or_auto": (lambda v: v == "auto" or (_whole(v) and v > 0), "auto, or a whole number above 0"),
    "fraction": (lambda v: _number(v) and 0 < v <= 1, "a number above 0 and up to 1"),
    "amount": (lambda v: _number(v) and 0 < v < math.inf, "a number of GiB above 0"),
    "arguments": (
        lambda v: isinstance(v, Mapping),
        "a mapping of vllm serve options, without the leading dashes",
    ),
    "environment": (
        lambda v: (
            isinstance(v, Mapping)
            and all(isinstance(k, str) and ENVIRONMENT_NAME.fullmatch(k) and _scalar(i) for k, i in v.items())
        ),
        "a mapping of environment variable names to text or numbers",
    ),
}


def argument_name(name: str) -> str:
    """Give an option of vllm serve as its configuration file wants it: ``--max_num_seqs`` is ``max-num-seqs``."""
    return name.lstrip("-").replace("_", "-")


def _place(position: int, entry: Mapping[str, Any]) -> str:
    name = entry.get("name")
    return f"vllm_models[{position}] ({name})" if isinstance(name, str) else f"vllm_models[{position}]"


def _field_problems(place: str, entry: Mapping[str, Any]) -> list[str]:
    problems = []
    for key, value in entry.items():
        if key not in FIELDS:
            near = difflib.get_close_matches(str(key), FIELDS, n=1)
            remedy = f"did you mean '{near[0]}'?" if near else f"the fields are {', '.join(sorted(FIELDS))}."
            problems.append(
                f"{place} has the unknown field '{key}': {remedy} Other options of vllm serve go under 'extra_args'."
            )
            continue
        test, wanted = CHECKS[FIELDS[key].check]
        if not test(value):
            problems.append(f"{place}: {key} is {value!r}; write {wanted}.")
    if "name" not in entry:
        problems.append(f"{place} has no 'name'; write {CHECKS['name'][1]}.")
    if "model" not in entry and "model_source" not in entry:
        problems.append(
            f"{place} has no 'model'; write {CHECKS['model'][1]}, or 'model_source', a folder on the control node."
        )
    source, model = entry.get("model_source"), entry.get("model")
    if source and isinstance(model, str) and not model.startswith("/"):
        problems.append(
            f"{place}: with model_source, model is where the copy goes on the host; "
            f"write an absolute path in place of {model!r}, or leave model out."
        )
    return problems


def _argument_problems(place: str, entry: Mapping[str, Any]) -> list[str]:
    problems = []
    arguments = entry.get("extra_args")
    for key, value in (arguments if isinstance(arguments, Mapping) else {}).items():
        argument = argument_name(str(key))
        if argument in SECRET_ARGUMENTS:
            problems.append(
                f"{place}: extra_args.{key} would put a secret into a file that every user of the host can read; "
                "take it out."
            )
        elif argument in RESERVED_ARGUMENTS:
            problems.append(
                f"{place}: extra_args.{key} has a place of its own; write '{RESERVED_ARGUMENTS[argument]}'."
            )
        elif value is None:
            problems.append(f"{place}: extra_args.{key} has no value; vLLM would read it as the text 'None'.")
    environment = entry.get("environment")
    problems.extend(
        f"{place}: environment.{key} looks like a secret; an environment can be read from outside the process, "
        "so it is not accepted."
        for key in (environment if isinstance(environment, Mapping) else {})
        if SECRET_NAME.search(str(key)) and not str(key).endswith("_PATH")
    )
    return problems


def _clashes(entries: Sequence[Mapping[str, Any]], key: str, default: object) -> list[str]:
    seen: dict[object, str] = {}
    problems = []
    for position, entry in enumerate(entries):
        value = entry.get(key, default)
        place = _place(position, entry)
        if value is not None and isinstance(value, (str, int)) and value in seen:
            problems.append(f"{place} has the {key} {value} of {seen[value]}; give each instance of a host its own.")
        elif isinstance(value, (str, int)):
            seen[value] = place
    return problems


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
        entries.append(entry)
        place = _place(position, entry)
        found.extend(_field_problems(place, entry))
        found.extend(_argument_problems(place, entry))
    return found + _clashes(entries, "name", None) + _clashes(entries, "port", Instance.port)


def instances(models: Sequence[Mapping[str, Any]], model_root: str) -> list[Instance]:
    """Turn a checked ``vllm_models`` list into instances.

    ``model_root`` is the folder on the host below which a copied model goes when the entry names no path.
    Call :func:`problems` first; an entry that it objects to gives an undefined result here.
    """
    result = []
    for entry in models:
        # "auto" is the absence of a number; for gpus and dtype it is a value of its own
        values: dict[str, Any] = {
            key: None if value == "auto" and key not in ("gpus", "dtype") else value for key, value in entry.items()
        }
        if isinstance(values.get("gpus"), list):
            values["gpus"] = tuple(values["gpus"])
        values.setdefault("model", f"{model_root}/{entry['name']}")
        result.append(Instance(**values))
    return result
