"""The reader of nvidia-smi topo -m: whole tables, damaged tables, and what it must never do."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import ParseError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.topology import Topology, parse_topology
from hypothesis import given, settings
from hypothesis import strategies as st

LINKS = ("NV1", "NV4", "NV12", "NV18", "PIX", "PXB", "PHB", "NODE", "SYS")


def print_topology(
    matrix: Sequence[Sequence[str]],
    *,
    nics: Sequence[str] = (),
    nic_cells: Sequence[Sequence[str]] = (),
    affinity: Sequence[Sequence[str]] = (),
    columns: Sequence[str] = ("CPU Affinity", "NUMA Affinity", "GPU NUMA ID"),
    underline: bool = True,
    gap: str = "\t",
) -> str:
    """A table with the given links; ``nic_cells`` has one row per GPU, ``affinity`` one per GPU."""
    labels = [f"GPU{number}" for number in range(len(matrix))]
    header = gap.join([*labels, *nics, *columns])
    lines = [gap + (f"\x1b[4m{header}\x1b[0m" if underline else header)]
    for number, row in enumerate(matrix):
        cells = [" X " if cell == "X" else cell for cell in row]
        own = list(nic_cells[number]) if nic_cells else []
        tail = list(affinity[number]) if affinity else []
        if len(tail) == 3 and gap == "\t":
            tail = [tail[0], tail[1], "\t" + tail[2]]
        lines.append(gap.join([labels[number], *cells, *own, *tail]))
    for place, nic in enumerate(nics):
        links = [nic_cells[number][place] for number in range(len(matrix))]
        others = [" X " if other == place else "SYS" for other in range(len(nics))]
        lines.append(gap.join([nic, *links, *others]))
    legend = [
        "",
        "Legend:",
        "",
        "  X    = Self",
        "  NV#  = Connection traversing a bonded set of # NVLinks",
        "",
    ]
    return "\n".join([*lines, *legend])


FOUR = [
    ["X", "NV12", "SYS", "SYS"],
    ["NV12", "X", "SYS", "SYS"],
    ["SYS", "SYS", "X", "NV12"],
    ["SYS", "SYS", "NV12", "X"],
]
AFFINITY = [["0-31,64-95", "0", "N/A"]] * 2 + [["32-63,96-127", "1", "N/A"]] * 2
NIC_CELLS = [["PIX", "SYS"], ["NODE", "SYS"], ["SYS", "PIX"], ["SYS", "NODE"]]
WHOLE = print_topology(FOUR, nics=["NIC0", "NIC1"], nic_cells=NIC_CELLS, affinity=AFFINITY)


@st.composite
def matrices(draw: st.DrawFn) -> list[list[str]]:
    size = draw(st.integers(1, 16))
    matrix = [["X"] * size for _ in range(size)]
    for i in range(size):
        for j in range(i + 1, size):
            matrix[i][j] = matrix[j][i] = draw(st.sampled_from(LINKS))
    return matrix


def check_whole(table: Topology) -> None:
    assert table.gpus == [0, 1, 2, 3]
    assert table.matrix == FOUR
    assert table.cpu_affinity == ["0-31,64-95", "0-31,64-95", "32-63,96-127", "32-63,96-127"]
    assert table.numa_affinity == ["0", "0", "1", "1"]
    assert table.gpu_numa_id == ["N/A"] * 4
    assert [nic.label for nic in table.nics] == ["NIC0", "NIC1"]
    assert table.nics[0].links == {0: "PIX", 1: "NODE", 2: "SYS", 3: "SYS"}


def by_line(text: str, prefix: str) -> str:
    return "\n".join(prefix + line for line in text.split("\n"))


def broken_at(text: str, width: int) -> str:
    """What a terminal of that width shows."""
    lines: list[str] = []
    for line in text.split("\n"):
        shown = re.sub(r"\x1b\[\dm", "", line).expandtabs()
        lines.extend([shown[start : start + width] for start in range(0, len(shown), width)] or [""])
    return "\n".join(lines)


def wrapped_at_blanks(text: str, width: int) -> str:
    """What mail and issue trackers make of it."""
    lines = text.expandtabs().split("\n")
    return "\n".join(part for line in lines for part in textwrap.wrap(line, width) or [""])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(WHOLE, id="as printed"),
        pytest.param(WHOLE.replace("\n", "\r\n"), id="crlf"),
        pytest.param(WHOLE.expandtabs(), id="tabs expanded"),
        pytest.param(re.sub(r"[ \t]+", " ", WHOLE), id="blanks collapsed"),
        pytest.param(WHOLE.replace("\x1b", "\ufffd"), id="escapes replaced"),
        pytest.param(WHOLE.replace("\x1b", ""), id="escapes half lost"),
        pytest.param(WHOLE.replace("\x1b[", ""), id="only the end of escapes left"),
        pytest.param(WHOLE.replace("\x1b", "\\u001b"), id="escapes spelled out"),
        pytest.param(by_line(WHOLE, "2026-01-02 03:04:05 INFO gpu.py:12] "), id="log prefix"),
        pytest.param(by_line(WHOLE, "(EngineCore_0 pid=123) "), id="worker prefix"),
        pytest.param(by_line(WHOLE, "> "), id="quoted"),
        pytest.param("$ nvidia-smi topo -m\n" + WHOLE, id="prompt above"),
        pytest.param("=====MATRIX=====\n\n" + WHOLE, id="banner above"),
        pytest.param(broken_at(WHOLE, 56), id="wrapped between the links and the CPUs"),
        pytest.param(wrapped_at_blanks(WHOLE, 40), id="wrapped at blanks"),
        pytest.param(WHOLE.replace("NV12\tSYS\tSYS\tPIX", "NV12\tSYSSYS\tPIX"), id="glued cells"),
        pytest.param(WHOLE.replace("GPU0\tGPU1\tGPU2", "GPU0GPU1GPU2", 1), id="glued header"),
        pytest.param(WHOLE.replace("CPU Affinity\tNUMA", "CPU AffinityNUMA"), id="glued affinity header"),
        pytest.param(WHOLE.replace("95\t0\t\tN/A", "95    0N/A"), id="glued affinity cells"),
        pytest.param(WHOLE.replace("64-95\t0\t\tN/A", "64-950N/A"), id="three cells glued, ranges tell"),
        pytest.param(re.sub(r"\t", " | ", re.sub(r"\t\t", "\t", WHOLE)), id="markdown table"),
        pytest.param(WHOLE + WHOLE, id="printed twice"),
    ],
)
def test_a_damaged_table_gives_what_the_whole_one_gives(text: str) -> None:
    check_whole(parse_topology(text))


def test_whole_table_needs_no_warning() -> None:
    assert parse_topology(WHOLE).warnings == []


def test_worse_direction_counts_and_is_named() -> None:
    table = parse_topology(WHOLE.replace("GPU1\tNV12", "GPU1\tNODE"))
    assert table.matrix[0][1] == table.matrix[1][0] == "NODE"
    assert any("not symmetric" in warning and "GPU0-GPU1" in warning for warning in table.warnings)


def test_missing_rows_are_taken_from_the_others() -> None:
    text = "\n".join(line for line in WHOLE.split("\n") if not line.startswith(("GPU2", "GPU3")))
    table = parse_topology(text)
    assert table.matrix[0] == ["X", "NV12", "SYS", "SYS"]
    assert table.matrix[2] == ["SYS", "SYS", "X", None]
    assert table.numa_affinity == ["0", "0", None, None]
    assert any("GPU2, GPU3" in warning for warning in table.warnings)


def test_row_whose_diagonal_moved_is_not_believed() -> None:
    table = parse_topology(WHOLE.replace("GPU2\tSYS\tSYS\t X ", "GPU2\tSYS\t X "))
    assert table.matrix == FOUR
    assert any("GPU2" in warning and "lost a cell" in warning for warning in table.warnings)


def test_unknown_link_word_is_unknown_in_that_direction_only() -> None:
    table = parse_topology(WHOLE.replace("GPU0\t X \tNV12", "GPU0\t X \tWARP"))
    assert table.matrix[0][1] == "NV12"


@pytest.mark.parametrize(
    ("row", "cpu", "numa", "gpu"),
    [
        ("0-31,64-95\t0\t\tN/A", "0-31,64-95", "0", "N/A"),
        ("0-7\t0\t\tN/A", "0-7", "0", "N/A"),
        ("\t\t\t\tN/A", None, None, "N/A"),
        ("0-31\t\tN/A\t\tN/A", "0-31", "N/A", "N/A"),
        ("0-7\t\t\tN/A", "0-7", None, "N/A"),
        ("0,64\t0-3\t\tN/A", "0,64", "0-3", "N/A"),
        ("0-71\t0\t\t4", "0-71", "0", "4"),
        ("105\t0-1\t\tN/A", "105", "0-1", "N/A"),
        ("", None, None, None),
        ("0-470N/A", None, None, None),
    ],
)
def test_affinity_cells(row: str, cpu: str | None, numa: str | None, gpu: str | None) -> None:
    text = f"\tGPU0\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\nGPU0\t X \t{row}\n\nLegend:\n"
    table = parse_topology(text)
    assert (table.cpu_affinity, table.numa_affinity, table.gpu_numa_id) == ([cpu], [numa], [gpu])


def test_numa_written_by_hand_behind_the_links() -> None:
    text = "      GPU0  GPU1\nGPU0   X    PIX   NUMA 0\nGPU1  PIX    X    NUMA 1\n"
    assert parse_topology(text).numa_affinity == ["0", "1"]


def test_annotations_behind_the_links_are_no_cells() -> None:
    text = "      GPU0  GPU1\nGPU0   X    NV4   <- bridge 14.062 GB/s\nGPU1  NV4    X\n"
    table = parse_topology(text)
    assert table.matrix == [["X", "NV4"], ["NV4", "X"]]
    assert table.cpu_affinity == [None, None]


def test_legend_names_the_nics() -> None:
    table = parse_topology(WHOLE + "\nNIC Legend:\n\n  NIC0: mlx5_0\n  NIC1: mlx5_bond_1\n")
    assert [nic.name for nic in table.nics] == ["mlx5_0", "mlx5_bond_1"]


def test_nics_by_name_need_no_legend() -> None:
    text = print_topology(FOUR, nics=["mlx5_0", "ibp12s0"], nic_cells=NIC_CELLS, columns=["CPU Affinity"])
    assert [nic.name for nic in parse_topology(text).nics] == ["mlx5_0", "ibp12s0"]


@pytest.mark.parametrize(
    "text",
    [
        "No devices were found\n",
        "",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
    ],
)
def test_a_tool_that_shows_nothing_gives_no_gpus(text: str) -> None:
    table = parse_topology(text)
    assert table.gpus == []
    assert len(table.warnings) == 1


def test_other_text_is_refused_with_its_place() -> None:
    with pytest.raises(ParseError) as caught:
        parse_topology("\n\nhello, world\n")
    assert (caught.value.line, caught.value.column) == (3, 1)
    assert "nvidia-smi topo -m" in str(caught.value)


@given(matrix=matrices(), underline=st.booleans(), gap=st.sampled_from(["\t", "    ", " "]))
@settings(max_examples=60, deadline=None)
def test_what_was_printed_is_read_back(matrix: list[list[str]], underline: bool, gap: str) -> None:
    affinity = [["0-15,32-47", str(number % 4), "N/A"] for number in range(len(matrix))]
    table = parse_topology(print_topology(matrix, affinity=affinity, underline=underline, gap=gap))
    assert table.matrix == matrix
    assert table.numa_affinity == [row[1] for row in affinity]
    assert table.warnings == []


@given(text=st.one_of(st.text(), st.text(alphabet="GPU0123456789NVXSYPIODEB \t\n-,/A[m\x1b:=.")))
@settings(max_examples=150, deadline=None)
def test_no_text_raises_anything_else(text: str) -> None:
    try:
        parse_topology(text)
    except ParseError as error:
        assert error.line is not None
        assert error.column is not None


@given(end=st.integers(0, len(WHOLE)))
@settings(max_examples=100, deadline=None)
def test_a_cut_table_never_lies(end: int) -> None:
    try:
        table = parse_topology(WHOLE[:end])
    except ParseError:
        return
    for i, first in enumerate(table.gpus):
        for j, second in enumerate(table.gpus):
            assert table.matrix[i][j] in (FOUR[first][second], None)
        assert table.cpu_affinity[i] in (AFFINITY[first][0], None)
        assert table.numa_affinity[i] in (AFFINITY[first][1], None)


@given(place=st.integers(0, len(WHOLE.encode()) - 1), byte=st.integers(0, 255))
@settings(max_examples=150, deadline=None)
def test_a_mangled_byte_raises_nothing_else(place: int, byte: int) -> None:
    data = bytearray(WHOLE.encode())
    data[place] = byte
    try:
        parse_topology(data.decode("utf-8", errors="replace"))
    except ParseError as error:
        assert error.line is not None
