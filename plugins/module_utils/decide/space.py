# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which sizes an engine may have on some GPUs: tensor, pipeline, data, expert and decode context parallel. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.sizes import Sizes
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.workload import DEFAULT, Workload


@dataclass(frozen=True)
class Wish:
    """What is asked of an engine. Sizes that are None are open; ``length`` None asks for the longest that fits.

    ``replicated`` says that copies of the engine may be added where data_parallel_size is open, ``assumed`` that nobody
    wrote the lengths of the workload, ``fewest`` that it gets no more GPUs than hold it.
    """

    model: Mapping[str, Any]
    length: int | None
    min_concurrency: float
    objective: str
    tensor_parallel_size: int | None = None
    pipeline_parallel_size: int | None = None
    data_parallel_size: int | None = None
    enable_expert_parallel: bool | None = None
    decode_context_parallel_size: int | None = None
    may_lower_sequences: bool = True
    sizes_written: bool = False
    replicated: bool = True
    fewest: bool = False
    workload: Workload = DEFAULT
    assumed: bool = True
    targets: Mapping[str, Any] | None = None

    @property
    def moe(self) -> bool:
        """Whether data parallel ranks share experts; those of other models are independent replicas."""
        return bool(self.model.get("is_moe"))


def shapes(wish: Wish, most: int) -> Iterator[Sizes]:
    """Give the sizes of one engine on up to ``most`` GPUs, fewest first, without decode context parallelism.

    Data parallel ranks are part of an engine for mixtures of experts alone, and not together with stages. Copies of
    other engines are counted by :func:`replicas`.
    """
    for count in range(1, most + 1):
        for tensor in range(count, 0, -1):
            for stages in range(1, count // tensor + 1):
                ranks, rest = divmod(count, tensor * stages)
                if rest or (ranks > 1 and not _shared(wish, stages)):
                    continue
                for experts in _expert_choices(wish, tensor * ranks, ranks):
                    made = Sizes(tensor, stages, ranks, experts, wish.decode_context_parallel_size or 1)
                    if _as_written(wish, made):
                        yield made


def _shared(wish: Wish, stages: int) -> bool:
    return wish.moe and (bool(wish.data_parallel_size) or (stages == 1 and wish.replicated))


def with_contexts(wish: Wish, sizes: Sizes) -> Iterator[Sizes]:
    """Give the same sizes with the tokens of the KV cache spread over tensor parallel ranks.

    None where the tensor parallel size was written: it is judged as it stands.
    """
    if wish.decode_context_parallel_size is None and wish.tensor_parallel_size is None:
        for spread in range(2, sizes.tensor_parallel_size + 1):
            if sizes.tensor_parallel_size % spread == 0:
                yield Sizes(
                    sizes.tensor_parallel_size,
                    sizes.pipeline_parallel_size,
                    sizes.data_parallel_size,
                    sizes.enable_expert_parallel,
                    spread,
                )


def replicas(wish: Wish, sizes: Sizes, most: int) -> Sequence[int]:
    """Give how many independent copies of an engine may run on ``most`` GPUs."""
    room = most // sizes.gpus
    if wish.moe:
        return (1,) if room else ()
    if wish.data_parallel_size:
        return (wish.data_parallel_size,) if wish.data_parallel_size <= room else ()
    return range(1, (room if wish.replicated else min(1, room)) + 1)


def _expert_choices(wish: Wish, spread: int, ranks: int) -> Sequence[bool]:
    if wish.enable_expert_parallel is not None:
        return (wish.enable_expert_parallel,)
    # a tensor parallel size that was written is judged as it stands, without experts being spread to rescue it
    if not wish.moe or spread == 1 or (ranks == 1 and wish.tensor_parallel_size):
        return (False,)
    return (True,) if ranks > 1 else (False, True)


def _as_written(wish: Wish, sizes: Sizes) -> bool:
    ranks = wish.data_parallel_size if wish.moe else None
    return all(
        written is None or written == size
        for written, size in (
            (wish.tensor_parallel_size, sizes.tensor_parallel_size),
            (wish.pipeline_parallel_size, sizes.pipeline_parallel_size),
            (ranks, sizes.data_parallel_size),
        )
    )
