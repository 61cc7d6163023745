"""Where an engine gets its kernels from, by what is on the host."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import kernels

VERSION = "0.7.2.post1"
CACHE = f"flashinfer-jit-cache=={VERSION}+cu130"
CUBIN = f"flashinfer-cubin=={VERSION}"
OFFERED = ["sm80", "sm89", "sm90a", "sm100a", "sm103a", "sm120f"]
TOOLKIT = {"path": "/usr/local/cuda", "version": "13.0.2"}


def wheels(compiler: str = "13.0.88", *, linked: bool = True) -> dict[str, Any]:
    return {"path": "/r/nvidia/cu13", "compiler": compiler, "headers": "13.0.96", "linked": linked}


def found(**more: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = {"cubin": None, "jit_cache": None, "providers": [], "offered": []}
    return {"flashinfer": VERSION, "cuda": "13.0", "toolkit": None, "wheels": None, **nothing, **more}


def prebuilt(**more: Any) -> dict[str, Any]:
    there = {"cubin": VERSION, "jit_cache": f"{VERSION}+cu130", "offered": OFFERED, "providers": ["sm90a"]}
    return found(**{**there, **more})


@pytest.mark.parametrize(
    ("facts", "source", "cuda_home"),
    [
        (prebuilt(), "prebuilt", None),
        (prebuilt(toolkit=TOOLKIT), "prebuilt", "/usr/local/cuda"),
        # of another FlashInfer, for other GPUs, or just one half of them
        (prebuilt(cubin="0.7.1"), "none", None),
        (prebuilt(jit_cache="0.7.1+cu130"), "none", None),
        (prebuilt(providers=["sm80"]), "none", None),
        (prebuilt(providers=[], offered=[]), "none", None),
        (prebuilt(cubin=None, toolkit=TOOLKIT), "toolkit", "/usr/local/cuda"),
        (found(toolkit=TOOLKIT, wheels=wheels()), "toolkit", "/usr/local/cuda"),
        (found(toolkit={**TOOLKIT, "version": "12.8"}, wheels=wheels()), "wheels", "/r/nvidia/cu13"),
        (found(toolkit={**TOOLKIT, "version": None}), "none", None),
        (found(wheels=wheels()), "wheels", "/r/nvidia/cu13"),
        (found(wheels=wheels(linked=False)), "none", None),
        (found(wheels=wheels("13.5.37")), "none", None),
        (found(), "none", None),
    ],
)
def test_the_source(facts: dict[str, Any], source: str, cuda_home: str | None) -> None:
    state = kernels.state(facts, ["9.0"])
    assert state is not None
    assert (state["source"], state["cuda_home"]) == (source, cuda_home)
    wanted = {"CUDA_HOME": cuda_home} if cuda_home else {"VLLM_USE_DEEP_GEMM": "0"}
    if source == "none":
        wanted["VLLM_USE_FLASHINFER_SAMPLER"] = "0"
    assert state["environment"] == wanted
    assert state["sentence"].endswith(".")
    assert ("100 s" in state["sentence"]) is (source in ("toolkit", "wheels"))


def test_a_release_without_flashinfer_has_no_such_kernels() -> None:
    assert kernels.state(found(flashinfer=None), []) is None
    assert kernels.missing(found(flashinfer=None), []) == []


def test_what_is_fetched_in_which_order() -> None:
    """First the list; then the kernels and the cubins together, for one without the other is worse than neither."""
    assert kernels.missing(found(), ["9.0"]) == [CACHE]
    listed = found(jit_cache=f"{VERSION}+cu130", offered=OFFERED)
    assert kernels.missing(listed, ["9.0"]) == [f"flashinfer-jit-cache-sm90a=={VERSION}+cu130", CUBIN]
    assert kernels.missing(prebuilt(), ["9.0"]) == []
    assert kernels.missing(prebuilt(), ["9.0", "8.0"]) == [f"flashinfer-jit-cache-sm80=={VERSION}+cu130"]
    # no GPU in sight: all
    assert len(kernels.missing(listed, [])) == len(OFFERED) + 1
    # before 0.7 the list held the kernels itself
    old = {"flashinfer": "0.6.18", "jit_cache": "0.6.18+cu130"}
    assert kernels.missing(found(**old), ["9.0"]) == ["flashinfer-cubin==0.6.18"]
    state = kernels.state(found(**old, cubin="0.6.18"), ["9.0"])
    assert state is not None
    assert state["source"] == "prebuilt"


@pytest.mark.parametrize(
    ("capability", "kind"),
    [
        ("9.0", "sm90a"),
        ("8.0", "sm80"),
        ("8.6", "sm80"),
        ("8.9", "sm89"),
        ("10.3", "sm103a"),
        ("12.1", "sm120f"),
        ("7.5", None),
        ("10.1", None),
    ],
)
def test_the_kind_of_a_gpu(capability: str, kind: str | None) -> None:
    assert kernels.providers([capability], OFFERED) == ([kind] if kind else [])


@pytest.mark.parametrize(
    ("cuda", "label"), [("13.0", "cu130"), ("13.2", "cu130"), ("13.5", "cu134"), ("12.8", None), ("12.9.1", "cu129")]
)
def test_the_folder_of_a_cuda(cuda: str, label: str | None) -> None:
    assert kernels.label(cuda) == label
    assert bool(kernels.requirements(VERSION, cuda)) is bool(label)
