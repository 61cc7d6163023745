#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Write docs/troubleshooting.md from the tables of the doctor: `make troubleshooting`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / ".collections"))

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import diagnose, verdict  # noqa: E402
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signature import (  # noqa: E402
    ENGINE,
    FABRIC,
    KERNEL,
    Signature,
    first_said,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signatures import AREAS, TABLE  # noqa: E402

PAGE = CHECKOUT / "docs/troubleshooting.md"
HEAD = """# Troubleshooting

Made by `make troubleshooting` from the tables that the doctor and the warm-up read, and kept true by a test. Search
this page for the line that you see, or let the doctor look.

## Ask the doctor

```console
$ ansible-playbook gpufleet.vllm.doctor -i inventory
[...]
{example}
```

It changes nothing. On each host it looks at the GPUs and their links, the kernel's log, disks and `/dev/shm`, and at
each instance: unit, journal since its last start, settings, model, receipt, what the role `nccl_check` measured,
`/health`, `/v1/models`, and it sends one short request. Each step has a time limit (`-e doctor_timeout=20`), so that
what hangs is a line of the report. Instances of one name on several hosts are compared. It ends with an error when
something is broken or a host gives no answer; warnings alone do not make it fail.

| variable | what |
| --- | --- |
| `doctor_report=doctor.json` | writes the verdicts as JSON (`ansible-doc gpufleet.vllm.doctor_report`) |
| `doctor_request=false` | sends no request to the engines |
| `doctor_timeout=60` | seconds that each step may take |
| `doctor_recorded=./recordings` | reads recordings in place of the hosts |
| `vllm_hosts=GROUP` | only these hosts |

A fault that an engine overcame is history: of a healthy instance only warnings of its present start are told.

## On a recording

`record.yml` writes what the doctor looks at into a folder for each host, so that a fleet can be looked at elsewhere:

```console
$ ansible-playbook gpufleet.vllm.record -i inventory -e record_folder=$PWD/recordings
$ ansible-playbook gpufleet.vllm.doctor -i inventory -e doctor_recorded=$PWD/recordings
```

Tokens of the hub, API keys, Authorization headers and passwords are taken out of it, serial numbers and UUIDs too;
read it before you give it away, since prompts may stand in a journal. `record_instances=false` records the GPUs
alone. A folder with nothing but `journal-<name>.txt` (`journalctl -u vllm@<name>`), or `kernel.txt`, can be read as
well.

## The four troubles that most people have

| trouble | where |
| --- | --- |
| out of memory at the start | [Memory](#memory): {memory} |
| NCCL hangs or times out | [Links between ranks](#links-between-ranks): {nccl} |
| the first request is slow | {slow} |
| GPUs are used unevenly | {uneven} |
"""
EXAMPLE = """gpu01 (qwen3-32b)
  x FAIL qwen3-32b: The KV cache does not hold one request of full length. One request of max_model_len 131072 [...]
      | ValueError: To serve at least one request with the model's max seq len (131072), (16.00 GiB KV cache [...]
      1. Lower max_model_len, to the estimated length that the line names or less (or write max_model_len: auto).
      2. [...]

1 host, 0 without an answer; 1 failures, 0 warnings."""
FOUND_IN = {ENGINE: "journal of the instance", KERNEL: "kernel's log", FABRIC: "journal of nvidia-fabricmanager"}


def link(name: str) -> str:
    """A link to a fault of the page."""
    titles = {**{one.id: one.title for one in TABLE}, **{one.id: one.title for one in verdict.CHECKS}}
    return f"[{titles[name]}]({verdict.anchor(titles[name])})"


def told(text: str) -> str:
    """A cause without the values that a line fills in."""
    parts = _parts(first_said(text))
    return "".join(part if not number % 2 else f"`{part}`" for number, part in enumerate(parts))


def _parts(text: str) -> list[str]:
    return text.replace("{", "\0").replace("}", "\0").split("\0")


def signature(one: Signature) -> Iterator[str]:
    """The section of a signature."""
    yield f"### {one.title}"
    yield ""
    yield f"`{one.id}`, {one.severity}, in the {FOUND_IN[one.where]}."
    if not first_said(one.cause).startswith("{"):
        yield f"{told(one.cause)}"
    yield ""
    yield "```text"
    yield from one.sample.splitlines()
    yield "```"
    yield ""
    yield from (f"{number}. {told(remedy)}" for number, remedy in enumerate(one.remedies, 1))
    yield ""
    yield f"Sources: {'; '.join(one.sources)}."
    yield ""


def check(one: verdict.Check) -> Iterator[str]:
    """The section of a fault that figures tell of."""
    yield f"### {one.title}"
    yield ""
    yield f"`{one.id}`, {one.severity}."
    if not first_said(one.cause).startswith("{"):
        yield told(one.cause)
    yield ""
    yield from (f"{number}. {told(remedy)}" for number, remedy in enumerate(one.remedies, 1))
    yield ""


def page() -> str:
    """Write the whole page."""
    lines = [
        HEAD.format(
            example=EXAMPLE,
            memory=", ".join(map(link, ("kv_cache_too_small", "no_kv_cache", "gpu_memory_taken", "gpu_out_of_memory"))),
            nccl=", ".join(map(link, ("nccl_timeout", "rank_hangs", "engine_stalled", "shm_too_small"))),
            slow=", ".join(map(link, ("compiled_while_serving", "not_warmed_up"))),
            uneven=", ".join(map(link, ("uneven_gpus", "different_gpus", "gpu_memory_taken"))),
        )
    ]
    for area in AREAS:
        lines += [f"## {area}", ""]
        for one in TABLE:
            if one.area == area:
                lines += signature(one)
    lines += [
        "## What no log tells of",
        "",
        "Seen in states and figures of the host and its instances.",
        "",
    ]
    for entry in verdict.CHECKS:
        lines += check(entry)
    lines += [
        "## Checks of the hardware",
        "",
        "The doctor takes these over from `readiness` of `gpu_info` (`ansible all -b -m gpufleet.vllm.gpu_info`);",
        "the message of each names the GPUs and the remedy.",
        "",
        "| check | title |",
        "| --- | --- |",
        *(f"| `{name}` | {title} |" for name, title in diagnose.TITLES.items()),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.relative_to(CHECKOUT)} written.")
