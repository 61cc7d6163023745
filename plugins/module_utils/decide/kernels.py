# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where an engine gets the GPU kernels that are not in vLLM's own wheel, and what its instances need for that. Pure.

FlashInfer and DeepGEMM compile kernels when an engine starts, unless FlashInfer's were installed with it. vLLM 0.33.0
takes FlashInfer's sampler without asking for a compiler (v1/sample/ops/topk_topp_sampler.py:102), and DeepGEMM where it
can be imported (utils/deep_gemm.py); without nvcc both end the engine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.releases import numbers

PREBUILT = "prebuilt"
TOOLKIT = "toolkit"
WHEELS = "wheels"
NONE = "none"
# All that `environment` may set.
VARIABLES = frozenset(("CUDA_HOME", "VLLM_USE_DEEP_GEMM", "VLLM_USE_FLASHINFER_SAMPLER"))
# Of FlashInfer's sampling module for one GPU, with nvcc 13 on two cores, 2026-12-01.
COMPILE_SECONDS = 100
# CUDA versions that FlashInfer publishes kernels for, and their names in its index (flashinfer/__main__.py:56, 0.7.2).
_PUBLISHED = ((12, 9), (13, 0), (13, 4))
_ARCHITECTURE = re.compile(r"sm(\d{1,2})(\d)([af]?)")
# Since 0.7 flashinfer-jit-cache is a list of packages, one for each kind of GPU; before, it held the kernels itself.
_SPLIT_SINCE = (0, 7)


def label(cuda: str) -> str | None:
    """How FlashInfer calls the kernels for a version of CUDA, such as ``cu130``; None where it publishes none."""
    wanted = numbers(cuda)[:2]
    fitting = [one for one in _PUBLISHED if wanted and one[0] == wanted[0] and one <= wanted]
    return f"cu{max(fitting)[0]}{max(fitting)[1]}" if fitting else None


def requirements(flashinfer: str, cuda: str) -> list[str]:
    """The packages of a FlashInfer's kernels; none where none are published."""
    name = label(cuda)
    return [f"flashinfer-jit-cache=={flashinfer}+{name}", f"flashinfer-cubin=={flashinfer}"] if name else []


def providers(capabilities: Iterable[str], available: Sequence[str]) -> list[str]:
    """Of the kinds of GPUs that packages are ``available`` for (``sm90a``), those that ``capabilities`` (``9.0``) need.

    All where no GPU is known. The rules are those of flashinfer/jit/_cuda_architecture.py (0.7.2): ``a`` is for just
    one capability, others are for all from theirs on in the same generation. A GPU that none fits gets none.
    """
    wanted = list(capabilities)
    scores = [[score for name in available if (score := _fits(name, one))] for one in wanted]
    return sorted({max(fitting)[1] for fitting in scores if fitting}) if wanted else sorted(available)


def _fits(name: str, capability: str) -> tuple[tuple[int, int], str] | None:
    architecture, device = _ARCHITECTURE.fullmatch(name), numbers(capability)[:2]
    if architecture is None or len(device) < 2:
        return None
    major, minor, suffix = int(architecture[1]), int(architecture[2]), architecture[3]
    if suffix == "a":
        return ((3, minor), name) if (major, minor) == device else None
    if major != device[0] or minor > device[1]:
        return None
    exact = not suffix and minor == device[1]
    return ((4 if exact else 2 if suffix == "f" else 1, minor), name)


def packages_of(kinds: Iterable[str], flashinfer: str, cuda: str) -> list[str]:
    """The packages with the kernels of these kinds of GPUs."""
    return [f"flashinfer-jit-cache-{kind}=={flashinfer}+{label(cuda)}" for kind in kinds]


def missing(found: Mapping[str, Any], capabilities: Sequence[str]) -> list[str]:
    """Packages to install next so that the kernels of a release are prebuilt.

    flashinfer-jit-cache comes first, for it names the others. With flashinfer-cubin and without these, vLLM takes
    FlashInfer for usable and compiles at each place where it uses it, so both come in one installation.
    """
    flashinfer, cuda = found["flashinfer"], found["cuda"]
    wanted = requirements(flashinfer, cuda) if flashinfer and cuda else []
    if not wanted:
        return []
    cache, cubin = wanted
    if cache != f"flashinfer-jit-cache=={found['jit_cache']}":
        return [cache]
    kinds = set(providers(capabilities, found["offered"])) - set(found["providers"])
    there = cubin == f"flashinfer-cubin=={found['cubin']}"
    return [*packages_of(sorted(kinds), flashinfer, cuda), *([] if there else [cubin])]


def state(found: Mapping[str, Any], capabilities: Sequence[str]) -> dict[str, Any] | None:
    """Return ``source`` (prebuilt, toolkit, wheels, none), ``cuda_home``, ``environment`` and a ``sentence``.

    ``found`` is what observe/kernels.py read. None for a release without FlashInfer, which has no such kernels.
    """
    if not found["flashinfer"]:
        return None
    homes = {TOOLKIT: _toolkit(found), WHEELS: _wheels(found)}
    compiler = next((source for source in (TOOLKIT, WHEELS) if homes[source]), None)
    prebuilt = bool(found["cubin"] and found["jit_cache"]) and not missing(found, capabilities)
    if numbers(found["flashinfer"])[:2] >= _SPLIT_SINCE and not found["providers"]:
        prebuilt = False
    source = PREBUILT if prebuilt else compiler or NONE
    cuda_home = homes[compiler] if compiler else None
    return {
        "source": source,
        "cuda_home": cuda_home,
        "environment": environment(source, cuda_home),
        "sentence": sentence(source, cuda_home),
    }


def _toolkit(found: Mapping[str, Any]) -> str | None:
    toolkit = found["toolkit"]
    # Another generation's compiler makes code that the release's CUDA runtime does not load.
    fits = toolkit and numbers(toolkit["version"] or "")[:1] == numbers(found["cuda"] or "")[:1]
    return toolkit["path"] if fits else None


def _wheels(found: Mapping[str, Any]) -> str | None:
    wheels = found["wheels"]
    # cuda_toolkit.h:41 of the headers refuses a compiler of another minor version.
    fits = wheels and wheels["linked"] and numbers(wheels["compiler"])[:2] == numbers(wheels["headers"])[:2]
    return wheels["path"] if fits else None


def environment(source: str, cuda_home: str | None) -> dict[str, str]:
    """What an instance needs in its environment."""
    found = {"CUDA_HOME": cuda_home} if cuda_home else {"VLLM_USE_DEEP_GEMM": "0"}
    return {**found, "VLLM_USE_FLASHINFER_SAMPLER": "0"} if source == NONE else found


def sentence(source: str, cuda_home: str | None) -> str:
    """What it means for the instances."""
    if source == PREBUILT:
        deep = (
            f"DeepGEMM compiles its own with {cuda_home}." if cuda_home else "DeepGEMM, which needs a compiler, is off."
        )
        return f"FlashInfer's kernels were installed with the release; {deep}"
    if source == NONE:
        return (
            "There are neither FlashInfer's prebuilt kernels nor a CUDA compiler, so FlashInfer's sampler and DeepGEMM "
            "are off (VLLM_USE_FLASHINFER_SAMPLER, VLLM_USE_DEEP_GEMM): sampling takes vLLM's own kernels, and models "
            "in block-wise FP8 other ones. Set engine_kernels_index_url to an index that has flashinfer-cubin and "
            "flashinfer-jit-cache, or install a CUDA toolkit."
        )
    what = "the CUDA toolkit" if source == TOOLKIT else "the compiler in the release"
    return (
        f"FlashInfer's kernels are compiled by {what} ({cuda_home}) when an instance starts first, which takes about "
        f"{COMPILE_SECONDS} s more; later starts find them in the instance's cache."
    )
