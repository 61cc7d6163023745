"""What is found in the journal of an engine."""

from __future__ import annotations

import re

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import journal
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.samples import shared_json

CORE = "(EngineCore pid=812) ERROR 11-23 20:31:07 [core.py:1123] "
WORKER = "(Worker_TP0 pid=815) ERROR 11-23 20:31:06 [multiproc_executor.py:871] "
AFTERMATH = """\
(APIServer pid=801) Traceback (most recent call last):
(APIServer pid=801)   File "/opt/vllm/current/bin/vllm", line 8, in <module>
(APIServer pid=801)     sys.exit(main())
(APIServer pid=801)              ^^^^^^
(APIServer pid=801) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
vllm@chat.service: Main process exited, code=exited, status=1/FAILURE
vllm@chat.service: Failed with result 'exit-code'.
"""
ENGINE_CORE = f"""\
{CORE}EngineCore failed to start.
{CORE}Traceback (most recent call last):
{CORE}  File "/opt/vllm/current/lib/python3.11/site-packages/vllm/v1/engine/core.py", line 1114, in run_engine_core
{CORE}    engine_core = EngineCoreProc(*args, **kwargs)
{CORE}                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
{CORE}%s
{AFTERMATH}"""
LONG = "To serve at least one request with the model's max seq len (131072), (16.00 GiB KV cache is needed, which is"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "(APIServer pid=801) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
            "(APIServer pid=801)   Value error, User-specified max_model_len (99999) is greater than the derived "
            "max_model_len [type=value_error, input_value=ArgsKwargs((), {}), input_type=ArgsKwargs]\n"
            "(APIServer pid=801)     For further information visit https://errors.pydantic.dev/2.12/v/value_error\n",
            "User-specified max_model_len (99999) is greater than the derived max_model_len",
        ),
        (
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ParallelConfig\n"
            "  Assertion failed, something must hold [type=assertion_error]\n",
            "something must hold",
        ),
        (ENGINE_CORE % f"ValueError: {LONG}", f"ValueError: {LONG}"),
        (
            ENGINE_CORE
            % "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity",
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity",
        ),
        (ENGINE_CORE % "AssertionError", "AssertionError"),
        (
            f"{WORKER}OSError: [Errno 98] Address already in use\n"
            f"{CORE}Exception: WorkerProc initialization failed due to an exception in a background process.\n"
            f"{AFTERMATH}",
            "OSError: [Errno 98] Address already in use",
        ),
        (
            "usage: vllm serve [model_tag] [options]\nvllm: error: unrecognized arguments: --x\n"
            "vllm@chat.service: Main process exited, code=exited, status=2/INVALIDARGUMENT\n",
            "vllm: error: unrecognized arguments: --x",
        ),
        (
            "vllm serve: error: argument --port: invalid int value: 'x'\n",
            "vllm serve: error: argument --port: invalid int value: 'x'",
        ),
        (
            "vllm@chat.service: Main process exited, code=killed, status=9/KILL\n",
            "Main process exited, code=killed, status=9/KILL",
        ),
        (
            "vllm@chat.service: A process of this unit has been killed by the OOM killer.\n",
            "killed by the OOM killer.",
        ),
        ("vllm@chat.service: Failed with result 'timeout'.\n", "Failed with result 'timeout'"),
        (AFTERMATH, "Failed with result 'exit-code'"),
        (
            "ranks: gpu2 (10.0.0.2) is gone (silent for 15 s), so the engine is ended here too\n"
            "vllm@chat.service: Main process exited, code=exited, status=1/FAILURE\n",
            "gpu2 (10.0.0.2) is gone (silent for 15 s); see the journal there",
        ),
        ("INFO 11-23 20:31:07 [api_server.py:1] vLLM API server version 0.33.0\n", None),
        ("INFO: no error here: all is well\n", None),
        ("", None),
    ],
)
def test_reason(text: str, found: str | None) -> None:
    assert journal.reason(text.splitlines()) == found


def test_the_first_of_two_faults_counts() -> None:
    assert journal.reason(["ValueError: first", "KeyError: 'second'", "INFO fine"]) == "ValueError: first"


PYTHON_EXCEPTION = re.compile(r"^[\w.]*[A-Z]\w*(Error|Exception): ")


def test_texts_that_real_vllm_printed_are_found() -> None:
    texts = [entry["error_text"] for entry in shared_json("truth/tp_errors.json")]
    exceptions = [text for text in texts if PYTHON_EXCEPTION.match(text)]
    for text in exceptions:
        found = journal.reason((ENGINE_CORE % text).splitlines())
        assert found is not None
        assert text in found
    # the others are the text of an exception whose type the record leaves out
    for text in set(texts) - set(exceptions):
        found = journal.reason((ENGINE_CORE % f"ValueError: {text}").splitlines())
        assert found == f"ValueError: {text}"
    print(f"{len(exceptions)} of {len(texts)} texts name their exception; all were found")


@given(st.lists(st.text()))
def test_any_journal_can_be_read(lines: list[str]) -> None:
    found = journal.reason(lines)
    assert found is None or any(part in line for line in lines for part in (found, found.split(": ")[0]))
    assert journal.stage(lines)
    assert len(journal.telling(lines, 3)) <= 3


def test_telling_lines_come_without_the_noise() -> None:
    lines = [
        "ValueError: the fault  ",
        "             ^^^^^^^",
        "nanobind: leaked 2 instances!",
        ' - leaked instance 0x7f of type "x"',
        "resource_tracker: There appear to be 1 leaked shared_memory objects",
        "vllm@chat.service: Killing process 812 (vllm) with signal SIGKILL.",
        "",
        "vllm@chat.service: Failed with result 'exit-code'.",
    ]
    wanted = ["ValueError: the fault", "vllm@chat.service: Failed with result 'exit-code'."]
    assert journal.telling(lines, 15) == wanted
    assert journal.telling(lines, 1) == wanted[1:]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "starting"),
        ("Loading JIT ops: sampling", "compiling kernels"),
        ("INFO [weight_utils.py:1] Downloading weights", "downloading"),
        ("Fetching 4 files:  25%|##5       | 1/4", "downloading"),
        (
            "Loading safetensors checkpoint shards:  40% Completed | 2/5 [00:01<00:01,  1.9it/s]",
            "loading weights, 40 %",
        ),
        ("INFO [gpu_model_runner.py:1] Starting to load model /srv/m...", "loading weights"),
        ("INFO [default_loader.py:1] Loading weights took 3.10 seconds", "weights loaded"),
        ("INFO [gpu_model_runner.py:1] Model loading took 14.98 GiB and 4.1 seconds", "weights loaded"),
        ("INFO [backends.py:1] Compiling a graph for dynamic shape takes 8.20 s", "compiling"),
        (
            "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  67%|######7   | 45/67",
            "capturing CUDA graphs, 67 %",
        ),
        ("INFO [kv_cache_utils.py:1] GPU KV cache size: 338,160 tokens", "KV cache allocated"),
        (
            "INFO [gpu_model_runner.py:6534] Profiling CUDA graph memory: PIECEWISE=51 (largest=512), FULL=51",
            "profiling memory",
        ),
        (
            "INFO [gpu_worker.py:553] CUDA graph memory profiling is enabled. To maintain the same effective KV cache "
            "size as before, increase --gpu-memory-utilization to 0.9246.",
            "starting",
        ),
        ("INFO [core.py:1] Initializing a V1 LLM engine (v0.33.0) with config: model='/m'", "initializing the engine"),
        (
            "(APIServer pid=1) INFO [api_server.py:1] Starting vLLM API server 0 on http://127.0.0.1:8000",
            "starting the API",
        ),
        ("INFO:     Application startup complete.", "starting the API server"),
    ],
)
def test_stage(line: str, words: str) -> None:
    assert journal.stage(["INFO something else", line, "INFO and something more"]).startswith(words)


def test_the_last_stage_counts() -> None:
    lines = ["Starting to load model", "Loading safetensors checkpoint shards:  10%", "GPU KV cache size: 1 tokens"]
    assert journal.stage(lines) == "KV cache allocated"
    assert journal.stage(lines[:2]) == "loading weights, 10 %"


@pytest.mark.parametrize(
    ("starts", "first"),
    [(1, "Starting vllm@a.service - vLLM instance a..."), (2, "Starting vLLM instance a..."), (3, "ValueError: old")],
)
def test_lines_of_the_last_starts(starts: int, first: str) -> None:
    lines = [
        "ValueError: old",
        "Starting vLLM instance a...",
        "Started vLLM instance a.",
        "KeyError: new",
        "Starting vllm@a.service - vLLM instance a...",
        "Starting vLLM API server",
    ]
    assert journal.starts(lines, "a")[-starts][0] == first
