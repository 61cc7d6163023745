"""Which files of a model are there already."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.action.model_copy import below

TREES = {"/var/lib/vllm/models": {"a/config.json": [1, 2], "a/deep/x": [3, 4], "ab/config.json": [5, 6]}}


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("/var/lib/vllm/models/a", {"config.json": [1, 2], "deep/x": [3, 4]}),
        ("/var/lib/vllm/models/a/", {"config.json": [1, 2], "deep/x": [3, 4]}),
        ("/var/lib/vllm/models/none", {}),
        ("/srv/models/a", None),
        ("/var/lib/vllm/modelsx", None),
    ],
)
def test_below(folder: str, found: Any) -> None:
    assert below(TREES, folder) == found
