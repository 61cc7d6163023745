# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A host drawn: its GPUs by NUMA node, the links between them, the instances on them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.show import geometry, words
from ansible_collections.gpufleet.vllm.plugins.module_utils.show.geometry import GPU_HEIGHT, GPU_WIDTH, LEFT, RAIL
from ansible_collections.gpufleet.vllm.plugins.module_utils.show.markup import Markup, tag
from ansible_collections.gpufleet.vllm.plugins.module_utils.show.ranks import Place

# Longer names are cut; those above the second number are squeezed into the box.
_LONGEST_NAME, _LONGEST_AT_EASE = 14, 10
# With these every GPU reaches every other the same way: a bus says it, lines would hide it.
_BUS: Mapping[Any, str] = {
    "nvswitch": "NVSwitch",
    "nvlink_full": "NVLink, each GPU to each",
    "xgmi": "Infinity Fabric, each GPU to each",
}
# The part of a GPU's box that has its number.
_HEAD = 24
_ONE_SWITCH = frozenset(("PIX", "PXB"))


def drawing(gpu_facts: Mapping[str, Any], places: Mapping[int, Sequence[Place]], title: str) -> Markup:
    """An SVG of one host; an empty text for a host without GPUs.

    ``places`` has the ranks by device index; ``title`` says in words what is drawn, for those who do not see it.
    """
    devices = gpu_facts.get("devices") or []
    if not devices:
        return Markup("")
    matrix, bus = gpu_facts.get("link_matrix"), _BUS.get(gpu_facts.get("interconnect"))
    plan = geometry.plan(devices, matrix, bool(bus))
    spots = plan.spots()
    parts = [_frame(box, plan.right) for box in plan.boxes if box.node is not None]
    parts.extend(_rails(plan, bus, matrix))
    if matrix and not bus:
        parts.extend(_bonds(matrix, spots))
    parts.extend(
        _gpu(devices[member], spot, places.get(devices[member]["index"], ())) for member, spot in sorted(spots.items())
    )
    size = f"0 0 {plan.width} {plan.height}"
    widest = f"max-width:{plan.width}px"
    return tag("svg", tag("title", title), *parts, class_="host", viewBox=size, style=widest, role="img")


def _frame(box: geometry.Box, right: int) -> Markup:
    # the label stands between the first two GPUs, clear of the lines that leave their middles
    label = tag("text", f"NUMA node {box.node}", x=geometry.right(0) + geometry.GAP // 2, y=box.top + 17)
    frame = tag("rect", x=1, y=box.top, width=right + LEFT - 2, height=box.bottom - box.top, rx=8)
    return tag("g", frame, label, class_="numa")


def _rails(plan: geometry.Plan, bus: str | None, matrix: Any) -> Iterable[Markup]:
    tops = sorted({row.rail for row in plan.rows if row.rail is not None})
    kind = "rail bus" if bus else "rail"
    if len(tops) > 1:
        yield tag("path", d=f"M{LEFT - 8} {tops[0] + RAIL // 2}V{tops[-1] + RAIL // 2}", class_="spine")
        for top in tops:
            yield tag("path", d=f"M{LEFT - 8} {top + RAIL // 2}H{LEFT}", class_="spine")
    for row in plan.rows:
        if row.rail is not None:
            yield from _stems(row, row.rail, kind)
    if bus:
        for top in tops:
            yield _rail(LEFT, plan.right, top, bus, kind)
        return
    for row in plan.rows:
        if row.rail is not None:
            yield from _pcie(row, row.rail, matrix)


def _stems(row: geometry.Row, rail: int, kind: str) -> Iterable[Markup]:
    begin, end = (row.top + GPU_HEIGHT, rail) if rail > row.top else (rail + RAIL, row.top)
    for place in range(len(row.members)):
        middle = geometry.left(place) + GPU_WIDTH // 2
        yield tag("path", d=f"M{middle} {begin}V{end}", class_=f"stem {kind}")


def _pcie(row: geometry.Row, rail: int, matrix: Any) -> Iterable[Markup]:
    """The PCIe below a row: a piece for each switch, or one for all that meet at the host's bridges."""
    if matrix is None:
        yield _rail(LEFT, geometry.right(len(row.members) - 1), rail, "links unknown", "rail unknown")
        return
    pieces: list[list[int]] = []
    for place, member in enumerate(row.members):
        together = pieces and all(matrix[member][row.members[other]] in _ONE_SWITCH for other in pieces[-1])
        if together:
            pieces[-1].append(place)
        else:
            pieces.append([place])
    if all(len(piece) == 1 for piece in pieces):
        yield _rail(LEFT, geometry.right(len(row.members) - 1), rail, "PCIe", "rail")
        return
    yield tag("path", d=f"M{LEFT} {rail + RAIL // 2}H{geometry.right(len(row.members) - 1)}", class_="spine")
    for piece in pieces:
        yield _rail(
            geometry.left(piece[0]),
            geometry.right(piece[-1]),
            rail,
            "PCIe switch" if len(piece) > 1 else "PCIe",
            "rail",
        )


def _rail(left: int, right: int, top: int, label: str, kind: str) -> Markup:
    return tag(
        "g",
        tag("rect", x=left, y=top, width=right - left, height=RAIL, rx=4),
        tag("text", label, x=(left + right) // 2, y=top + RAIL // 2 + 4),
        class_=kind,
    )


def _bonds(matrix: Any, spots: Mapping[int, tuple[int, int]]) -> Iterable[Markup]:
    for one, (left, top) in sorted(spots.items()):
        for other, (other_left, other_top) in sorted(spots.items()):
            if other > one and geometry.nvlink(matrix[one][other]):
                yield _bond(str(matrix[one][other]), min(left, other_left), top, max(left, other_left), other_top)


def _bond(label: str, left: int, top: int, right: int, other_top: int) -> Markup:
    middle, half = GPU_HEIGHT // 2, GPU_WIDTH // 2
    if top == other_top and right - left == GPU_WIDTH + geometry.GAP:
        line = tag("path", d=f"M{left + GPU_WIDTH} {top + middle}H{right}")
        text = tag("text", label, x=left + GPU_WIDTH + geometry.GAP // 2, y=top + middle - 7)
        return tag("g", tag("title", f"NVLink {label}"), line, text, class_="bond")
    if top == other_top:
        path = f"M{left + half} {top}Q{(left + right) // 2 + half} {top - 26} {right + half} {top}"
    else:
        path = f"M{left + half} {top + middle}L{right + half} {other_top + middle}"
    return tag("g", tag("title", f"NVLink {label}"), tag("path", d=path), class_="bond")


def _gpu(device: Mapping[str, Any], spot: tuple[int, int], places: Sequence[Place]) -> Markup:
    left, top = spot
    parts: list[Markup] = []
    if not places:
        parts.append(tag("rect", x=left, y=top, width=GPU_WIDTH, height=GPU_HEIGHT, rx=6, class_="empty"))
        parts.append(tag("text", _why_empty(device), x=left + 10, y=top + 44, class_="quiet"))
    if len(places) == 1:
        parts.append(_whole(places[0], left, top))
    for number, place in enumerate(places if len(places) > 1 else ()):
        height = (GPU_HEIGHT - _HEAD) // len(places)
        parts.append(_share(place, left, top + _HEAD + number * height, height))
    parts.append(tag("rect", x=left, y=top, width=GPU_WIDTH, height=GPU_HEIGHT, rx=6, class_="edge"))
    index = str(device["index"])
    parts.append(tag("text", f"GPU {index}", x=left + 10, y=top + 18, class_="index"))
    names = ", ".join(f"{place.name} {place.rank}".strip() for place in places) or _why_empty(device)
    memory = f", {words.gib(device['memory_total_mib'] / 1024)} GiB" if device.get("memory_total_mib") else ""
    title = tag("title", f"GPU {index}: {device.get('name') or 'GPU'}{memory}; {names}")
    return tag("g", title, *parts, class_="gpu", data_gpu=index)


def _whole(place: Place, left: int, top: int) -> Markup:
    """A GPU that one instance has to itself."""
    name = _short(place.name)
    squeezed = GPU_WIDTH - 18 if len(name) > _LONGEST_AT_EASE else None
    adjusted = "spacingAndGlyphs" if squeezed else None
    return _colored(
        place,
        tag("rect", x=left, y=top, width=GPU_WIDTH, height=GPU_HEIGHT, rx=6, class_="fill"),
        tag("rect", x=left, y=top, width=5, height=GPU_HEIGHT, rx=2, class_="stripe"),
        tag("text", words.letter(place.number), x=left + GPU_WIDTH - 10, y=top + 18, class_="letter"),
        tag("text", name, x=left + 10, y=top + 42, class_="name", textLength=squeezed, lengthAdjust=adjusted),
        tag("text", place.rank, x=left + 10, y=top + 60, class_="quiet"),
    )


def _share(place: Place, left: int, top: int, height: int) -> Markup:
    """The part of a shared GPU that one instance has."""
    line = top + height // 2 + 4
    return _colored(
        place,
        tag("rect", x=left, y=top, width=GPU_WIDTH, height=height, class_="fill"),
        tag("rect", x=left, y=top, width=5, height=height, class_="stripe"),
        tag("text", words.letter(place.number), x=left + GPU_WIDTH - 10, y=line, class_="letter"),
        tag("text", _short(place.name), x=left + 10, y=line, class_="quiet"),
    )


def _colored(place: Place, *parts: Markup) -> Markup:
    return tag("g", *parts, class_=f"on {words.hue(place.number)}", data_instance=place.name)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _why_empty(device: Mapping[str, Any]) -> str:
    if device.get("mig_devices"):
        return "cut by MIG"
    return "lost" if device.get("lost") else "free"
