"""Which releases go."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.releases import superfluous

AGES = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}


@pytest.mark.parametrize(
    ("used", "keep", "gone"),
    [
        ([], 0, []),
        ([], 4, []),
        ([], 1, ["a", "b", "c"]),
        (["a"], 2, ["b", "c"]),
        (["a", "b"], 2, ["c", "d"]),
        (["a", "b"], 1, ["c", "d"]),
        (["a"], 3, ["b"]),
        (["elsewhere"], 3, ["a"]),
    ],
)
def test_superfluous(used: list[str], keep: int, gone: list[str]) -> None:
    assert superfluous(AGES, used, keep) == gone
