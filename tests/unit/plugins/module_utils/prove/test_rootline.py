"""The line that an engine died of: by process, level, time and what wraps what; and what is no fault."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import (
    evidence,
    fault,
    journal,
    kernel_log,
    loglines,
    signature,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signatures import BY_ID, TABLE
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.samples import CHECKOUT

HEALTHY = sorted((CHECKOUT / "tests/unit/fixtures/engine/healthy").glob("*.txt"))
CORE = "(EngineCore pid=812) ERROR 11-23 20:31:07 [core.py:1123] "
WORKER0 = "(Worker_TP0 pid=814) ERROR 11-23 20:31:06 [multiproc_executor.py:871] "
WORKER1 = "(Worker_TP1 pid=815) ERROR 11-23 20:31:05 [multiproc_executor.py:871] "
INFO = "(EngineCore pid=812) INFO 11-23 20:31:00 [x.py:1] "
AFTER = [
    f"{CORE}EngineCore failed to start.",
    f"{CORE}Exception: WorkerProc initialization failed due to an exception in a background process.",
    "(APIServer pid=801) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): "
    "{}",
    "vllm@chat.service: Main process exited, code=exited, status=1/FAILURE",
    "vllm@chat.service: Failed with result 'exit-code'.",
]
DURING = "During handling of the above exception, another exception occurred:"
DIRECT = "The above exception was the direct cause of the following exception:"


@pytest.mark.parametrize(
    ("lines", "root"),
    [
        # the worker's exception, not what other processes say of it
        ([f"{WORKER1}quux.BentError: the frob is bent", *AFTER], "quux.BentError: the frob is bent"),
        # the first rank in time; the other only saw it go
        (
            [
                f"{WORKER1}FrobError: bent",
                f"{WORKER0}RuntimeError: [pair.cc:534] Connection closed by peer [10.0.0.12]:1",
                *AFTER,
            ],
            "FrobError: bent",
        ),
        # also where the one that saw it was printed first
        (
            [
                f"{WORKER0}RuntimeError: [pair.cc:534] Connection closed by peer [10.0.0.12]:1",
                f"{WORKER1}FrobError: bent",
                *AFTER,
            ],
            "FrobError: bent",
        ),
        # a warning was survived
        (
            [
                "(EngineCore pid=812) WARNING 11-23 20:30:01 [import_utils.py:408] ImportError: no lib",
                f"{WORKER1}FrobError: bent",
            ],
            "FrobError: bent",
        ),
        # so was an exception after which the core got further
        (
            [
                "(APIServer pid=801) ModuleNotFoundError: No module named 'plugin'",
                f"{INFO}Starting to load model /srv/m...",
                f"{INFO}GPU KV cache size: 10 tokens",
                f"{CORE}FrobError: bent",
                *AFTER,
            ],
            "FrobError: bent",
        ),
        # the compiler's line below the exception that wraps it
        (
            [
                f"{CORE}RuntimeError: Ninja build failed. Ninja output:",
                "ninja: Entering directory `/var/cache'",
                "FAILED: [code=1] sampling.cuda.o",
                '/x/sampling.cuh(88): error: identifier "frob_t" is undefined',
                "ninja: build stopped: subcommand failed.",
                *AFTER,
            ],
            '/x/sampling.cuh(88): error: identifier "frob_t" is undefined',
        ),
        # NCCL's line before the exception that wraps it, and none where NCCL only warned
        (
            [
                "gpu01:1:2 [1] x.cc:3 NCCL WARN the frob is bent",
                f"{WORKER1}RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)",
            ],
            "gpu01:1:2 [1] x.cc:3 NCCL WARN the frob is bent",
        ),
        (["gpu01:1:2 [1] x.cc:3 NCCL WARN no frob here", f"{CORE}FrobError: bent"], "FrobError: bent"),
        # the first of a chain, but for a look-up that Python went on from
        ([f"{CORE}FrobError: bent", f"{CORE}{DIRECT}", f"{CORE}RuntimeError: cannot start"], "FrobError: bent"),
        ([f"{CORE}KeyError: 'x'", f"{CORE}{DURING}", f"{CORE}ValueError: no such model"], "ValueError: no such model"),
        ([f"{CORE}KeyError: 'x'", f"{CORE}ValueError: another"], "KeyError: 'x'"),
        # another start of the log's shapes: 0.9 without names of processes, and Ray
        (["ERROR 05-06 01:55:26 [core.py:383] FrobError: bent"], "FrobError: bent"),
        (["(RayWorkerWrapper pid=7, ip=10.0.0.2) FrobError: bent", *AFTER], "FrobError: bent"),
        # a signal from outside is not the fault of a request that failed before
        (
            [
                "(APIServer pid=801) ERROR 11-23 20:31:07 [serving.py:1] ValueError: no such template",
                "vllm@chat.service: Main process exited, code=killed, status=9/KILL",
            ],
            "Main process exited, code=killed, status=9/KILL",
        ),
    ],
)
def test_the_root(lines: list[str], root: str) -> None:
    assert journal.reason(lines) == root


def test_an_unknown_fault_is_shown_with_its_line_and_what_followed() -> None:
    (one,) = fault.verdicts([f"{WORKER1}quux.BentError: bent", f"{CORE}OtherError: later", *AFTER], "chat", {})
    assert one["id"] == "unknown_fault"
    assert one["cause"] == "The first line that matters, of the worker: quux.BentError: bent"
    assert one["evidence"] == ["quux.BentError: bent", "OtherError: later"]


def test_who_is_not_named_is_left_out() -> None:
    (one,) = fault.verdicts(["Fatal Python error: Segmentation fault"], "chat", {})
    assert one["cause"] == "The first line that matters: Fatal Python error: Segmentation fault"


def test_what_a_rank_saw_does_not_hide_an_unknown_fault() -> None:
    lines = [f"{WORKER1}quux.BentError: bent", f"{WORKER0}{BY_ID['nccl_peer_lost'].sample}", *AFTER]
    assert [one["id"] for one in fault.verdicts(lines, "chat", {})] == ["unknown_fault"]


def test_a_later_fault_of_the_table_is_a_consequence() -> None:
    lines = [*BY_ID["imex_missing"].sample.splitlines(), *BY_ID["cuda_fault"].sample.splitlines(), *AFTER]
    assert [one["id"] for one in fault.verdicts(lines, "chat", {})] == ["imex_missing"]
    assert [one["id"] for one in fault.verdicts(lines[1:], "chat", {})] == ["cuda_fault"]


def test_a_port_of_a_rank_is_not_that_of_the_server() -> None:
    told = [fault.verdicts([f"{who}OSError: [Errno 98] Address already in use"], "chat", {}) for who in (WORKER1, "")]
    assert [one["id"] for (one,) in told] == ["rank_port_in_use", "port_in_use"]


class TestHealthy:
    """Starts that went well: nothing may be said of them, whole or cut anywhere, and only the signal when killed."""

    def test_there_are_enough(self) -> None:
        assert len(HEALTHY) >= 10

    @pytest.mark.parametrize("path", HEALTHY, ids=lambda path: path.stem)
    def test_nothing_is_told(self, path: Path) -> None:
        lines = path.read_text(encoding="utf-8").splitlines()
        for end in range(len(lines) + 1):
            told = fault.read(lines[:end]) if end in (0, len(lines)) else None
            if told:
                assert told.failure is None, (path.stem, end)
        notes = {match.signature.severity for match in signature.matches(TABLE, lines)}
        assert notes <= {signature.NOTE}

    @pytest.mark.parametrize("path", HEALTHY, ids=lambda path: path.stem)
    def test_only_the_signal_is_told_when_it_is_killed(self, path: Path) -> None:
        lines = path.read_text(encoding="utf-8").splitlines()
        end = ["vllm@chat.service: Main process exited, code=killed, status=9/KILL"]
        assert [one["id"] for one in fault.verdicts([*lines, *end], "chat", {}) if one["severity"] == "fail"] == [
            "killed"
        ]

    @pytest.mark.parametrize("path", HEALTHY, ids=lambda path: path.stem)
    def test_a_fault_after_it_is_found(self, path: Path) -> None:
        lines = [*path.read_text(encoding="utf-8").splitlines(), *BY_ID["cuda_fault"].sample.splitlines(), *AFTER]
        assert [one["id"] for one in fault.verdicts(lines, "chat", {}) if one["severity"] == "fail"] == ["cuda_fault"]


class TestTable:
    """Signatures against one another."""

    def test_a_sample_beside_that_of_another_keeps_its_meaning(self) -> None:
        """Over all pairs: what was said first wins, where neither explains the other and both say a cause."""
        fails = [one for one in TABLE if one.where == signature.ENGINE and one.severity == signature.FAIL]
        near = {one.id: [other for other in fails if signature.found(other, one.sample.splitlines())] for one in fails}
        wrong = []
        for one in fails:
            for other in fails:
                if (
                    one is other
                    or one.strength
                    or other.strength
                    or one.id in other.explains
                    or other.id in one.explains
                ):
                    continue
                lines = [*one.sample.splitlines(), *other.sample.splitlines()]
                first = signature.matches([*near[one.id], *near[other.id]], lines)[0].signature.id
                if first != one.id:
                    wrong.append((one.id, other.id, first))
        assert not wrong

    def test_a_sample_is_matched_by_its_own_signature_best(self) -> None:
        for where in (signature.ENGINE, signature.KERNEL, signature.FABRIC):
            for one in (entry for entry in TABLE if entry.where == where):
                told = signature.matches(TABLE, one.sample.splitlines(), where)
                assert told[0].signature.id == one.id


STAMPS = (
    "1795999010.5 vllm[812]: {}",
    "1795999010.5 gpu01 vllm[812]: {}",
    "Nov 23 20:31:07 gpu01 vllm[812]: {}",
    "Nov 23 20:31:07.123456 gpu01 vllm[812]: {}",
    "2026-11-23T20:31:07+0000 gpu01 vllm[812]: {}",
    "2026-11-23T20:31:07.123456+01:00 gpu01 vllm[812]: {}",
    "Mon 2026-11-23 20:31:07 UTC gpu01 vllm[812]: {}",
    "[ 4130.290008] gpu01 vllm[812]: {}",
    "{}",
)


@pytest.mark.parametrize("stamp", STAMPS)
def test_every_format_of_journalctl_is_split_into_starts(stamp: str) -> None:
    start = stamp.replace("vllm[812]", "systemd[1]").format("Starting vllm@chat.service - vLLM instance chat...")
    old = [stamp.format(line) for line in BY_ID["cuda_802"].sample.splitlines()]
    new = [stamp.format(line) for line in BY_ID["wrong_option"].sample.splitlines()]
    found = evidence.journal("\n".join([start, *old, start, *new]), 1_796_000_000.0)
    parts = journal.starts(found["lines"], "chat")
    assert [fault.verdicts(part, "chat", {})[0]["id"] for part in parts] == ["cuda_802", "wrong_option"]


def test_a_stamp_without_a_year_is_of_the_past() -> None:
    now = 1_796_000_000.0
    one = loglines.entry("Dec 31 23:59:59 gpu01 kernel: x", now)
    assert one.at is not None
    assert one.at < now
    assert not one.exact


def test_a_journal_of_ten_megabytes_takes_seconds() -> None:
    lines = [
        f"(Worker_TP{number % 8} pid=8{number % 8}) noise of rank {number} " + "x y: " * 30 for number in range(60_000)
    ]
    text = "\n".join([*lines, *BY_ID["cuda_fault"].sample.splitlines(), *AFTER])
    assert len(text) > 10_000_000
    begin = time.process_time()
    told = fault.verdicts(evidence.journal(text)["lines"], "chat", {})
    assert [one["id"] for one in told] == ["cuda_fault"]
    assert time.process_time() - begin < 10


def test_mutated_journals_are_read_in_time() -> None:
    """Cut, doubled and damaged at random; a fixed seed, so that a failure can be looked at."""
    chance = random.Random(17)
    texts = [path.read_text(encoding="utf-8") for path in HEALTHY]
    texts += [one.sample + "\n" + "\n".join(AFTER) for one in TABLE]
    for _ in range(300):
        letters = list(chance.choice(texts) + chance.choice(texts))
        for _ in range(chance.randint(1, 30)):
            place = chance.randrange(len(letters) + 1)
            letters[place : place + chance.randint(0, 40)] = chance.choice(
                ([chr(chance.randrange(1, 0x2FF))], ["\n"], [], letters[:200], list("a(" * 200), list(" " * 500))
            )
        text = "".join(letters)
        begin = time.process_time()
        found = evidence.journal(text, 1_796_000_000.0)
        for part in journal.starts(found["lines"], "chat"):
            assert isinstance(fault.verdicts(part, "chat", {}), list)
        kernel_log.matches(text.splitlines(), 1_796_000_000.0, 1_795_000_000.0, 1_795_999_000.0)
        assert time.process_time() - begin < 2 + len(text) / 1_000_000


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_any_line_can_be_taken_apart(text: str) -> None:
    assert loglines.entry(text, 1_796_000_000.0, 0.0).text is not None
    assert loglines.line(0, text).level in (loglines.LOW, loglines.WARNED, loglines.LOUD, loglines.PLAIN)
