"""Prints how long it takes to read all outputs of a 16-GPU host.

Run: python tests/bench/bench_observe.py. The outputs are made here: the XML has the size of a real one
(some 14 kB per GPU, most of it lists of clocks), the topology 16 GPUs and 16 NICs. The time is given in
milliseconds and as a multiple of a plain xml.etree parse of the same XML in the same run, which makes runs on
different machines comparable.
"""

from __future__ import annotations

import statistics
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / ".collections"))

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import facts, sources

GPUS = 16
ROUNDS = 15
LIMIT_MS = 50
HOST = Path(__file__).parents[1] / "unit/fixtures/hosts/h100-nvswitch"


def sixteen_gpus() -> sources.Outputs:
    """The outputs of a host with 16 GPUs, made from those of one with 8."""
    clocks = "".join(
        f"<supported_mem_clock><value>{memory} MHz</value>"
        + "".join(f"<supported_graphics_clock>{1980 - 15 * n} MHz</supported_graphics_clock>" for n in range(110))
        + "</supported_mem_clock>"
        for memory in (2619, 1593)
    )
    one = (HOST / sources.NVIDIA_XML).read_text().split("<gpu ")[1].rsplit("</gpu>")[0]
    gpus = []
    for number in range(GPUS):
        bus = f"00000000:{number + 16:02X}:00.0"
        body = one.replace("00000000:1B:00.0", bus).replace("000000000000<", f"{number:012d}<")
        gpus.append(f"<gpu {body}<supported_clocks>{clocks}</supported_clocks></gpu>")
    labels = [f"GPU{n}" for n in range(GPUS)] + [f"NIC{n}" for n in range(GPUS)]
    rows = ["\t" + "\t".join(labels) + "\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID"]
    for number, label in enumerate(labels):
        cells = [
            " X " if number == other else "NV18" if max(number, other) < GPUS else "NODE"
            for other in range(len(labels))
        ]
        rows.append("\t".join([label, *cells, "0-47,96-143", "0"]) + "\t\tN/A")
    peers = ["\t" + "\t".join(labels[:GPUS])] + [
        "\t".join([labels[row], *("X" if row == column else "OK" for column in range(GPUS))]) for row in range(GPUS)
    ]
    names = [f"GPU {n}: NVIDIA H100 80GB HBM3 (UUID: GPU-0000-{n:04d})" for n in range(GPUS)]
    links = "\n".join(name + "".join(f"\n\t Link {n}: 26.562 GB/s" for n in range(18)) for name in names)
    texts = {
        sources.NVIDIA_XML: f"<nvidia_smi_log>{''.join(gpus)}</nvidia_smi_log>",
        sources.NVIDIA_TOPOLOGY: "\n".join(rows) + "\n",
        sources.NVIDIA_P2P: "\n".join(peers) + "\n",
        sources.NVIDIA_NVLINK: links + "\n",
        sources.NVIDIA_LIST: "\n".join(names) + "\n",
        sources.LSCPU: (HOST / sources.LSCPU).read_text(),
        sources.LSPCI: (HOST / sources.LSPCI).read_text() * 20,
    }
    return {name: sources.ToolOutput(sources.OK, text) for name, text in texts.items()}


def median_ms(work: Callable[[], object]) -> float:
    """Median duration of several rounds, in milliseconds."""
    durations = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        durations.append((time.perf_counter() - start) * 1000)
    return statistics.median(durations)


def main() -> int:
    outputs = sixteen_gpus()
    xml = outputs[sources.NVIDIA_XML].text
    plain = median_ms(lambda: ET.fromstring(xml))
    whole = median_ms(lambda: facts.build_facts(outputs))
    size = sum(len(output.text) for output in outputs.values()) // 1024
    print(f"observe: {GPUS} GPUs, {size} kB of outputs: {whole:.1f} ms, {whole / plain:.1f} x a plain XML parse")
    return 0 if whole < LIMIT_MS else 1


if __name__ == "__main__":
    raise SystemExit(main())
