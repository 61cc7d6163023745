# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The resolved lists that releases of vLLM are installed from, and what is pinned where there is none. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.releases import numbers, release_of

# FlashInfer asks for cuda-python>=12. cuda-python 12.6.2.post1 holds the folder cuda/bindings itself, and so does the
# package cuda-bindings: beside one another each overwrites the other's files, and `import flashinfer` fails with
# "module 'cuda.bindings.runtime' has no attribute 'cudaLibrary_t'" (installed on Debian 12, 2026-12-01).
#
# torch pins the runtime and its headers to CUDA 13.0, nothing pins the compiler: nvcc 13.5 beside headers 13.0 ends in
# "CUDA compiler and CUDA toolkit headers are incompatible" (cuda_toolkit.h:41; compiled on 2026-12-01).
_CONSTRAINTS = {
    "13.0": (
        "cuda-python>=13",
        "nvidia-cuda-nvcc==13.0.*",
        "nvidia-cuda-crt==13.0.*",
        "nvidia-nvvm==13.0.*",
        "nvidia-cuda-cccl==13.0.*",
    )
}

# Files that two packages of a release hold and nothing imports: what their build ran, shipped by mistake (wheels of
# flashinfer-python 0.7.2.post1 and of every torch-c-dlpack-ext up to 0.1.5, read on 2026-12-01).
HARMLESS = {"build_backend.py": ("flashinfer-python", "torch-c-dlpack-ext")}


def constraints(version: str, variant: str) -> list[str]:
    """Lines of a constraints file without which a release would be resolved to packages that do not work together."""
    release = release_of(version) if variant == "cuda" else None
    return list(_CONSTRAINTS.get(release.cuda, ())) if release else []


def harmful(shared: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Of the files that more than one package holds, those that matter; each with its packages."""
    return {
        file: list(packages) for file, packages in shared.items() if not set(packages) <= set(HARMLESS.get(file, ()))
    }


def lock_name(version: str, variant: str, python: str | None, machine: str | None) -> str:
    """File name of the list for a release; the empty text where the Python or the machine are not known.

    ``python`` is the version of the interpreter (``3.11.2``), ``machine`` what ``uname -m`` says.
    """
    minor = numbers(python or "")[:2]
    if len(minor) < 2 or not machine:
        return ""
    return f"{version}-{variant}-py{minor[0]}.{minor[1]}-{machine}.txt"


def file_problems(release: str, shared: Mapping[str, Sequence[str]], incomplete: Sequence[str]) -> list[str]:
    """Return a sentence for each kind of fault in the files of a release."""
    found = []
    if shared:
        file, packages = next(iter(shared.items()))
        found.append(
            f"{len(shared)} files of {release} are of more than one package, such as {file} "
            f"({' and '.join(packages)}); which one was written last is chance. Pin one of them in "
            f"engine_constraints, remove {release}, and run this again."
        )
    if incomplete:
        shown = ", ".join(incomplete[:5])
        found.append(
            f"{release} was written by half: files of {shown} are missing or were cut off. Run "
            "this again: what is whole is kept."
        )
    return found
