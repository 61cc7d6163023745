# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What vLLM refuses, and what it does slowly, as one table of rules; each says where vLLM enforces it.

There is no rule about powers of two: 3, 5, 6 or 12 ranks are legal where everything divides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import (
    engine_versions,
    rules_heads,
    rules_limits,
    rules_parallel,
    rules_precision,
    rules_releases,
    rules_shards,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rules import (
    REFUSE,
    WARN,
    Broken,
    Case,
    Rule,
    Sizes,
    listed,
)

__all__ = ("REFUSE", "RULES", "WARN", "Broken", "Sizes", "broken", "check", "legal_sizes", "refusals", "say")

RULES: Sequence[Rule] = (
    *rules_heads.RULES,
    *rules_parallel.RULES,
    *rules_shards.RULES,
    *rules_precision.RULES,
    *rules_limits.RULES,
    *rules_releases.RULES,
)
# How many of the sizes that would do a remedy names
SIZES_NAMED = 3


@lru_cache(maxsize=64)
def _of_release(engine: engine_versions.EngineVersion, divide: bool) -> tuple[Rule, ...]:
    """Pick the rules of a release, all or those that another tensor parallel size may satisfy."""
    return tuple(rule for rule in RULES if rule.applies(engine) and (rule.divides or not divide))


def _find(case: Case, divide: bool = False) -> list[Broken]:
    found = []
    for rule in _of_release(case.engine, divide):
        finding = rule.find(case)
        if finding:
            found.append(
                Broken(rule.rule_id, finding.reason, finding.remedies, rule.severity, rule.source, finding.what)
            )
    return found


def _sizes_that_divide(case: Case, most: int) -> list[int]:
    return [
        size
        for size in range(1, most + 1)
        if not _find(replace(case, sizes=replace(case.sizes, tensor_parallel_size=size)), divide=True)
    ]


def _with_sizes(case: Case, broken_rules: list[Broken]) -> list[Broken]:
    """Add to what a smaller tensor parallel size would mend the sizes that would."""
    dividing = {rule.rule_id for rule in RULES if rule.divides}
    if not any(one.rule_id in dividing for one in broken_rules):
        return broken_rules
    legal = [str(size) for size in _sizes_that_divide(case, case.tp - 1)][::-1][:SIZES_NAMED]
    remedy = (f"write tensor_parallel_size: {listed(legal)}",) if legal else ()
    return [replace(one, remedies=(*one.remedies, *remedy)) if one.rule_id in dividing else one for one in broken_rules]


def check(
    model_facts: Mapping[str, Any], sizes: Sizes, gpu: Mapping[str, Any], engine_version: str | None = None
) -> list[Broken]:
    """List every rule that a model breaks at these sizes, refusals and warnings, in the order of the table.

    ``model_facts`` is what model_info says; numbers that it does not say are not judged. ``gpu`` has
    ``compute_capability`` ("9.0"), ``name``, ``accelerator`` ("cuda", "rocm", "cpu") and, for links,
    ``fully_connected`` (bool or None). ``engine_version`` None is the default release.
    Raises :class:`InputError` for what is no version.
    """
    case = Case(model_facts, sizes, gpu, engine_versions.of(engine_version))
    return _with_sizes(case, _find(case))


def refusals(found: Sequence[Broken]) -> list[Broken]:
    """Pick what vLLM refuses."""
    return [one for one in found if one.severity == REFUSE]


def broken(
    model: Mapping[str, Any], tensor_parallel_size: int, sizes: Sizes | None = None, engine_version: str | None = None
) -> list[Broken]:
    """List what a tensor parallel size does not divide; ``sizes`` gives the other sizes."""
    wanted = replace(sizes or Sizes(), tensor_parallel_size=tensor_parallel_size)
    case = Case(model, wanted, {}, engine_versions.of(engine_version))
    return _find(case, divide=True)


def legal_sizes(
    model: Mapping[str, Any], most: int, sizes: Sizes | None = None, engine_version: str | None = None
) -> list[int]:
    """List the tensor parallel sizes from 1 to ``most`` that divide everything; ``sizes`` gives the other sizes."""
    return _sizes_that_divide(Case(model, sizes or Sizes(), {}, engine_versions.of(engine_version)), most)


def say(_model: Mapping[str, Any], found: Sequence[Broken]) -> str:
    """Name what cannot be divided: "52 attention heads and a vocabulary of 32000 (padded to ...)"."""
    return " and ".join(dict.fromkeys(one.what for one in found if one.what))
