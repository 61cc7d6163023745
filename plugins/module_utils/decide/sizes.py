# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The parallel sizes of an engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Counts of ranks. GPUs used are tensor x pipeline x data parallel size (config/parallel.py:963-968 of 0.33.0)."""

    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    enable_expert_parallel: bool = False
    decode_context_parallel_size: int = 1

    @property
    def gpus(self) -> int:
        """GPUs that all replicas of the engine take together."""
        return self.tensor_parallel_size * self.pipeline_parallel_size * self.data_parallel_size
