# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads the cells behind the links of a topology row: CPU affinity, NUMA affinity, GPU NUMA ID.

The driver prints ``<cpus>\\t<nodes>\\t\\t<gpu node>``, leaves cells blank that it does not know (containers,
WSL) and always prints the last one, mostly N/A. So blank cells can be told only by tab stops; where these are
lost too, and more than one reading is possible, the cells are None and a warning says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.text import is_whole

# "0-31,64-95", "105", "0,2,4,6"
_RANGES = re.compile(r"^\d{1,5}(?:-\d{1,5})?(?:,\d{1,5}(?:-\d{1,5})?)*$")
_NUMA_TEXT = re.compile(r"\bNUMA(?:\s{1,8}node)?\s{0,8}[:#]?\s{0,8}(\d{1,3})\b", re.IGNORECASE)
NOT_AVAILABLE = "N/A"
TAB = 8
# Stands where a wrapped row was joined and it cannot be known whether a blank belongs there.
UNREADABLE = "\ufffd"
# Linux allows 1024 nodes, real hosts stop far below; a larger number is two cells glued together.
HIGHEST_NODE = 255


@dataclass(frozen=True)
class Tail:
    """The rest of a row, tabs expanded; the column where it begins; whether the text ends in mid-row."""

    text: str
    column: int
    at_end: bool


@dataclass(frozen=True)
class Cells:
    """The three cells of one GPU as printed; None for blank, missing or not certain."""

    cpu: str | None = None
    numa: str | None = None
    gpu_numa: str | None = None


@dataclass(frozen=True)
class _Word:
    text: str
    start: int
    glued: bool


def is_cell(word: str) -> bool:
    """Whether a word can be an affinity cell, or several glued together."""
    return bool(re.match(r"^(?:[\d,\-]|N/A|/A|A|N/|N)+$", word))


def read(tails: Sequence[Tail | None], columns: Sequence[str] | None, warnings: list[str]) -> list[Cells]:
    """Read the cells of all rows. ``columns`` names those that the header has, in order; None: no header."""
    unsure: list[int] = []
    found: list[Cells] = []
    whole = {
        (place, word.text) for tail in tails if tail and not tail.at_end for place, word in enumerate(_words(tail))
    }
    for tail in tails:
        if tail and tail.at_end:
            tail = _without_cut_word(tail, whole)
        cells = _read_one(tail, columns) if tail else Cells()
        if cells is None:
            unsure.append(len(found))
            cells = Cells()
        found.append(cells)
    if unsure:
        warnings.append(f"The affinity cells of {len(unsure)} GPUs can be read in more than one way: they are unknown.")
    return found


def _without_cut_word(tail: Tail, whole: set[tuple[int, str]]) -> Tail:
    """Drop the last word of a text that ends in mid-line, unless another row shows the same word there."""
    words = _words(tail)
    if not words or words[-1].text == NOT_AVAILABLE or (len(words) - 1, words[-1].text) in whole:
        return tail
    return Tail(tail.text[: words[-1].start], tail.column, True)


def _read_one(tail: Tail, columns: Sequence[str] | None) -> Cells | None:
    """The cells of one row; None where they cannot be told with certainty."""
    if UNREADABLE in tail.text:
        return None
    words = _words(tail)
    if not columns:
        return _without_header(tail, words, columns is not None)
    words = [word for word in words if _RANGES.match(word.text) or word.text == NOT_AVAILABLE]
    if not words:
        return Cells()
    words = _unglue(words, len(columns)) if len(words) < len(columns) else words
    if len(words) >= len(columns):
        return _in_order(words[: len(columns)], columns)
    return _with_blanks(tail, words, columns)


def _words(tail: Tail) -> list[_Word]:
    """Words of the tail up to the first that is no cell; ``0N/A`` gives two, marked as glued."""
    words: list[_Word] = []
    for match in re.finditer(r"\S+", tail.text):
        if not is_cell(match[0]):
            break
        parts = list(re.finditer(r"N/A|[\d,\-]+", match[0]))
        for part in parts:
            words.append(_Word(part[0], match.start() + part.start(), len(parts) > 1))
    return words


def _in_order(words: Sequence[_Word], columns: Sequence[str]) -> Cells | None:
    cells = {name: word.text for name, word in zip(columns, words)}
    if not _node(cells.get("numa")) or not _node(cells.get("gpu_numa")):
        return None
    return Cells(cells.get("cpu"), cells.get("numa"), cells.get("gpu_numa"))


def _node(text: str | None) -> bool:
    """Whether a text can be a cell of NUMA nodes."""
    if text is None or text == NOT_AVAILABLE:
        return True
    return all(int(number) <= HIGHEST_NODE for number in re.findall(r"\d+", text))


def _with_blanks(tail: Tail, words: list[_Word], columns: Sequence[str]) -> Cells | None:
    """Fewer words than columns: some cell is blank."""
    last: str | None = None
    left = list(columns)
    if "gpu_numa" in left and words[-1].text == NOT_AVAILABLE:
        last = words.pop().text
        left.remove("gpu_numa")
    if not words:
        return Cells(gpu_numa=last)
    if len(words) == len(left):
        found = _in_order(words, left)
        return found and Cells(found.cpu, found.numa, last or found.gpu_numa)
    if any(word.glued for word in words):
        return None
    places = _places(tail, words, left)
    if places is None or not _node(places.get("numa")) or not _node(places.get("gpu_numa")):
        return None
    return Cells(places.get("cpu"), places.get("numa"), last or places.get("gpu_numa"))


def _places(tail: Tail, words: Sequence[_Word], columns: Sequence[str]) -> dict[str, str] | None:
    """Give each word the column that its tab stop means; None where a word stands at no such stop."""
    # The last link cell begins at a multiple of 8 behind the row's own start and is at most 4 wide.
    first = next((offset for offset in range(1, TAB + 1) if (tail.column + offset) % TAB == 0), TAB)
    result: dict[str, str] = {}
    stop = first
    for word in words:
        distance = word.start - stop
        if distance % TAB:
            return None
        blanks = distance // TAB
        free = [name for name in columns if name not in result]
        if not result and blanks == 0:
            name = free[0]
        elif blanks <= 1 and "numa" in free:
            name = "numa"
        elif blanks >= 2 and "gpu_numa" in free:
            name = "gpu_numa"
        else:
            return None
        result[name] = word.text
        stop = word.start + (len(word.text) // TAB + 1) * TAB
    return result


def _unglue(words: list[_Word], wanted: int) -> list[_Word]:
    """Part a CPU list from the NUMA node glued to it, where only one parting gives ranges of one length.

    ``0-47,96-1430`` before a glued N/A: hyper-thread siblings make ranges equally long, so 0-47,96-143 and 0.
    """
    first = words[0]
    if not first.glued or len(words) != wanted - 1 or not _RANGES.match(first.text):
        return words
    options: list[tuple[str, str]] = []
    for digits in (1, 2, 3):
        cpus, node = first.text[:-digits], first.text[-digits:]
        if is_whole(node) and str(int(node)) == node and _RANGES.match(cpus) and _equal_ranges(cpus):
            options.append((cpus, node))
    if len(options) != 1 or _equal_ranges(first.text):
        return words
    cpus, node = options[0]
    return [_Word(cpus, first.start, False), _Word(node, first.start + len(cpus), False), *words[1:]]


def _equal_ranges(cpus: str) -> bool:
    """Whether a list has at least two ranges, ascending and all of one length."""
    bounds = [[int(number) for number in part.split("-")] for part in cpus.split(",")]
    flat = [number for pair in bounds for number in pair]
    lengths = {pair[-1] - pair[0] for pair in bounds}
    return len(bounds) > 1 and len(lengths) == 1 and flat == sorted(flat)


def _without_header(tail: Tail, words: list[_Word], header_read: bool) -> Cells | None:
    """No affinity column is named. Believe only what can be nothing else."""
    named = _NUMA_TEXT.search(tail.text)
    if named:
        return Cells(numa=named[1])
    if header_read or not words:
        return Cells()
    if len(words) == 3:
        return _in_order(words, ("cpu", "numa", "gpu_numa"))
    if len(words) == 1 and re.search(r"[,-]", words[0].text):
        return Cells(cpu=words[0].text)
    if len(words) == 2 and re.search(r"[,-]", words[0].text):
        return _in_order(words, ("cpu", "numa"))
    return None
