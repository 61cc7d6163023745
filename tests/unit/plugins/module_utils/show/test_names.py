"""Many names in few words."""

from __future__ import annotations

import itertools
import re

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import names
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ([], ""),
        (["gpu01"], "gpu01"),
        (["b", "a", "b"], "a, b"),
        ([f"gpu{number:03d}" for number in range(1, 501)], "gpu[001-500]"),
        (["gpu1", "gpu2", "gpu4"], "gpu[1-2,4]"),
        (["n8", "n9", "n10"], "n[8-10]"),
        (["n08", "n09", "n10"], "n[08-10]"),
        (["n9", "n010"], "n[9,010]"),
        (["r1-n1", "r1-n2", "r2-n1", "r2-n2"], "r1-n[1-2], r2-n[1-2]"),
        (["gpu01.dc1.net", "gpu02.dc1.net", "gpu03.dc2.net"], "gpu[01-02].dc1.net, gpu03.dc2.net"),
        (["10.0.0.1", "10.0.0.2"], "10.0.0.[1-2]"),
    ],
)
def test_hosts_are_folded(hosts: list[str], said: str) -> None:
    assert names.fold(hosts) == said


def unfolded(text: str) -> list[str]:
    """What a person reads in a folded text."""
    found = []
    for piece in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        parts = re.split(r"\[([^\]]*)\]", piece.strip())
        if len(parts) == 1:
            found.append(parts[0])
            continue
        for run in parts[1].split(","):
            first, _, last = run.partition("-")
            for number in range(int(first), int(last or first) + 1):
                found.append(f"{parts[0]}{number:0{len(first)}d}{parts[2]}")
    return found


PARTS = st.tuples(st.sampled_from(["gpu", "rack1-n", ""]), st.integers(0, 30), st.integers(1, 3))


@given(st.sets(PARTS, min_size=1, max_size=25), st.randoms())
def test_folding_loses_no_name_and_knows_no_order(parts: set[tuple[str, int, int]], random: object) -> None:
    hosts = sorted({f"{word}{number:0{width}d}.net" for word, number, width in parts})
    said = names.fold(hosts)
    assert sorted(unfolded(said)) == hosts
    assert said == names.fold(reversed(hosts))


@pytest.mark.parametrize(
    ("values", "said"), [([], ""), ([3], "3"), ([2, 0, 1], "0-2"), ([0, 2, 3, 7], "0,2-3,7"), ([9, 10, 11], "9-11")]
)
def test_numbers(values: list[int], said: str) -> None:
    assert names.numbers(values) == said
    for order in itertools.islice(itertools.permutations(values), 6):
        assert names.numbers(order) == said
