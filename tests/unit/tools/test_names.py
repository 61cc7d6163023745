from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.nodes.errors import NodeError
from tools.nodes.names import checked, fleet_names

LABELS = st.from_regex(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True)


@given(fleet=LABELS, node=LABELS, path=st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1))
def test_names_fit_what_linux_and_nspawn_allow(fleet: str, node: str, path: str) -> None:
    names = fleet_names(fleet, Path("/") / path)
    assert len(names.bridge) <= 15
    assert len(f"vb-{names.machine(node)}") <= 15
    assert "-" not in names.machine(node)
    assert names.table.replace("_", "").isalnum()


def test_two_clones_do_not_share_a_name() -> None:
    one, two = fleet_names("quickstart", Path("/a")), fleet_names("quickstart", Path("/b"))
    assert one.bridge != two.bridge
    assert one.table != two.table
    assert one.machine("n1") != two.machine("n1")


def test_two_fleets_of_one_clone_do_not_share_a_name() -> None:
    one, two = fleet_names("quickstart", Path("/a")), fleet_names("molecule", Path("/a"))
    assert one.bridge != two.bridge
    assert one.machine("n1") != two.machine("n1")


@pytest.mark.parametrize("name", ["", "N1", "1n", "n_1", "n1-", "../n1", "a" * 33, "n1\n", "n 1"])
def test_a_bad_name_is_met_with_a_sentence(name: str) -> None:
    with pytest.raises(NodeError, match="cannot be the name of a node: write 1 to 32 lower-case letters"):
        checked("node", name)
