# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is decided for an instance on GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.choice import Option
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.pools import Kind, Pool
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.settings import Settings
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.space import Wish


@dataclass(frozen=True)
class Decision:
    """How an instance runs: the option taken, what was tried beside it, its GPUs by host.

    ``others`` are free GPUs of other kinds.
    """

    option: Option
    options: tuple[Option, ...]
    pool: Pool
    settings: Settings
    devices: Mapping[str, tuple[int, ...]]
    wish: Wish
    warnings: tuple[str, ...] = ()
    others: tuple[Pool, ...] = ()


@dataclass(frozen=True)
class Part:
    """What an instance gets of a host: GPUs of one ``kind``, ``most`` of them at most."""

    kind: Kind
    most: int
