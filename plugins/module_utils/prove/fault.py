# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a start of an engine died of, as its journal tells it: evidence first, then what the table knows of it. Pure.

The doctor and a failing warm-up read this one judgement.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import journal, loglines, rootline, signature
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.rootline import Root
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signature import FAIL, Match
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signatures import BY_ID, TABLE
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.verdict import Verdict, of_check, of_match
from ansible_collections.gpufleet.vllm.plugins.module_utils.visible import visible

# Ends without a cause of their own: an exception before them is what matters.
ENDS = frozenset(one.id for one in TABLE if one.generic) - {
    "setting_refused",
    "nccl_failed",
    "ninja_failed",
    "compile_failed",
    "engine_died_serving",
}
UNKNOWN = "unknown_fault"
RANK_PORT = BY_ID["rank_port_in_use"]
# Ansible shows it indented by four, with lines of its own around it.
WIDTH, MOST_LINES, LINES_SHOWN, LINES_OF_ONE = 112, 20, 3, 3


@dataclass(frozen=True)
class Told:
    """What a journal tells: the failure of the table, the line that matters, and what is only worth a warning."""

    failure: Match | None
    root: Root | None
    others: tuple[Match, ...]

    @property
    def known(self) -> bool:
        """Whether the table has the cause."""
        return self.failure is not None

    @property
    def died(self) -> bool:
        """Whether a process of the engine ended by itself; what a loading engine only complains of is not that."""
        return self.root is not None


def of_ranks(match: Match, root: Root | None) -> Match:
    """A port that a worker or the engine core found taken is one at which ranks meet: the API server has its own."""
    if match.signature.id == "port_in_use" and root and root.process in (loglines.CORE, loglines.WORKER):
        return replace(match, signature=RANK_PORT)
    return match


def read(lines: Sequence[str]) -> Told:
    """Read the journal of a start."""
    taken = loglines.lines(lines)
    root = rootline.first(taken)
    told = signature.of_engine(TABLE, taken)
    failure = next((match for match in told if match.signature.severity == FAIL), None)
    others = tuple(match for match in told if match.signature.severity != FAIL)
    if failure and root and not root.from_outside and _only_follows(failure, root):
        failure = None
    return Told(of_ranks(failure, root) if failure else None, root, others)


def _only_follows(failure: Match, root: Root) -> bool:
    """Whether a failure says less than the line that came before it."""
    weak = failure.signature.seen or failure.signature.id in ENDS
    return weak and root.number < failure.number and not failure.signature.search(root.said)


def verdicts(lines: Sequence[str], name: str, known: Mapping[str, str]) -> list[Verdict]:
    """Judge the journal of a start: the failure first; the line that matters is the first of its evidence."""
    told = read(lines)
    found = []
    if told.failure:
        found.append(_failure(told.failure, told.root, name, known))
    elif told.root and not told.root.from_outside:
        found.append(unknown(told.root, name))
    return [*found, *(of_match(match, name, (), known) for match in told.others)]


def _failure(match: Match, root: Root | None, name: str, known: Mapping[str, str]) -> Verdict:
    if match.signature.id == "dns_failed":
        host = known.get("host") or ""
        known = {**known, "name": host if re.search(r"[A-Za-z]", host) and ":" not in host else "a name"}
    also = [] if root is None or root.from_outside else [root.said, *root.context]
    late = match.number > root.number if root else False
    verdict = of_match(match, name, also if match.signature.generic or late else (), known)
    if also and match.signature.generic and root and not match.signature.search(root.said):
        verdict["cause"] += f" The line that matters{_by(root)}: {signature.shortened(root.said)}"
    return verdict


def _by(root: Root) -> str:
    return f", of the {root.process}" if root.process else ""


def unknown(root: Root, name: str) -> Verdict:
    """A fault that the table does not know: its line, and the lines that follow from it."""
    return of_check(UNKNOWN, name, [root.said, *root.context], by=_by(root), line=signature.shortened(root.said))


def of_last_death(starts: Sequence[Sequence[str]]) -> list[str]:
    """Of several starts, the oldest first, the last that died: what killed those before it is history."""
    for start in reversed(starts):
        if read(start).died:
            return list(start)
    return list(starts[-1]) if starts else []


def message(headline: str, lines: Sequence[str], name: str, known: Mapping[str, str]) -> str:
    """What a failing play says of an instance: what the doctor says, in at most MOST_LINES lines."""
    found = [one for one in verdicts(lines, name, known) if one["severity"] == FAIL][:1]
    text = _wrapped(headline, "", "  ")
    for one in found:
        text += _wrapped(f"{one['title']}. {one['cause']}", "", "  ")
        for line in one["evidence"][:LINES_SHOWN]:
            text += _wrapped(line, "  | ", "  |   ")[:LINES_OF_ONE]
        for number, remedy in enumerate(one["remedies"], 1):
            text += _wrapped(remedy, f"  {number}. ", "     ")
    if not found:
        text += [f"  | {signature.shortened(line)}"[:WIDTH] for line in journal.telling(lines, LINES_SHOWN)]
    help_ = f" - more: {found[0]['help']}" if found else ""
    end = f"The whole log: journalctl -b -u vllm@{name}.service{help_}"
    return visible("\n".join([*text[: MOST_LINES - 1], end]))


def _wrapped(words: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        words, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    ) or [first]
