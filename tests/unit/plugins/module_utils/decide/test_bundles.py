"""What a bundle serves, and the sentences where it does not."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import bundles
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError

WHOLE: dict[str, Any] = {
    "whole": True,
    "damaged": [],
    "releases": {"0.33.0-cuda": {"python": "3.11", "platform": "x86_64-manylinux_2_34"}},
    "models": {"org/chat": {"commit": "abc", "revision": "main", "folder": "models/org--chat/abc"}},
}
EMPTY: dict[str, Any] = {"whole": False, "damaged": [], "releases": {}, "models": {}}
DAMAGED: dict[str, Any] = {**WHOLE, "damaged": ["wheels/a.whl"]}


@pytest.mark.parametrize(
    ("found", "releases", "python", "sentences"),
    [
        (WHOLE, ["0.33.0-cuda"], "3.11.2", []),
        (WHOLE, ["0.33.0-cuda"], None, []),
        (EMPTY, ["0.33.0-cuda"], "3.11.2", ["/b holds no whole bundle."]),
        (DAMAGED, ["0.33.0-cuda"], "3.11.2", ["wheels/a.whl is missing or differs from its checksum."]),
        (WHOLE, ["0.32.0-cuda"], "3.11.2", ["has no release 0.32.0-cuda (it has: 0.33.0-cuda)."]),
        (WHOLE, ["0.33.0-cuda"], "3.12.1", ["for Python 3.11, and the host's is 3.12.1."]),
    ],
)
def test_releases(found: dict[str, Any], releases: list[str], python: str | None, sentences: list[str]) -> None:
    said = bundles.bundle_problems(found, "/b", releases, python)
    assert len(said) == len(sentences)
    for text, sentence in zip(said, sentences, strict=True):
        assert sentence in text


@pytest.mark.parametrize(
    ("entry", "found", "sentences"),
    [
        ({"name": "one", "model": "org/chat"}, WHOLE, []),
        ({"name": "one", "model": "/srv/model"}, WHOLE, []),
        ({"name": "one", "model_source": "/here/model"}, WHOLE, []),
        ({"name": "one", "model": "org/other"}, WHOLE, ["one: the model org/other is not in the bundle /b"]),
        # Not the models: the folder is what is wrong.
        ({"name": "one", "model": "org/chat"}, EMPTY, ["/b holds no whole bundle."]),
        ({"name": "one", "model": "org/chat"}, DAMAGED, ["The bundle /b is damaged"]),
    ],
)
def test_models(entry: dict[str, Any], found: dict[str, Any], sentences: list[str]) -> None:
    said = bundles.model_problems([entry], found, "/b")
    assert len(said) == len(sentences)
    for text, sentence in zip(said, sentences, strict=True):
        assert sentence in text


def test_models_come_from_the_bundle() -> None:
    entries: list[dict[str, Any]] = [
        {"name": "one", "model": "org/chat", "revision": "main", "port": 8000},
        {"name": "two", "model": "/srv/model"},
    ]
    assert bundles.bundled_models(entries, WHOLE["models"], "/b", "/var/lib/vllm/models") == [
        {
            "name": "one",
            "port": 8000,
            "model": "/var/lib/vllm/models/org--chat/abc",
            "model_source": "/b/models/org--chat/abc",
        },
        {"name": "two", "model": "/srv/model"},
    ]


def test_platforms_are_tags_of_wheels() -> None:
    tags = bundles.wheel_platforms("aarch64-manylinux_2_18")
    assert tags == ["manylinux_2_18_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64", "linux_aarch64"]
    assert bundles.wheel_platforms("x86_64-manylinux_2_34")[-2:] == ["manylinux1_x86_64", "linux_x86_64"]


@pytest.mark.parametrize("platform", ["", "x86_64", "x86_64-musllinux_1_2", "manylinux_2_34"])
def test_a_platform_that_is_none(platform: str) -> None:
    with pytest.raises(InputError, match="engine_bundle_platform"):
        bundles.wheel_platforms(platform)
