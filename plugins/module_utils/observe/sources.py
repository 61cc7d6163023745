# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is asked of a host, and what came back: the one table that live and recorded facts share.

Every output has a file name. A live host fills the names by running tools and reading files; a
recorded folder holds files of these names. All that follows works on text by name and does not
know which of the two it was.
"""

from __future__ import annotations

from dataclasses import dataclass

NVIDIA_XML = "nvidia-smi-q-x.xml"
NVIDIA_LIST = "nvidia-smi-L.txt"
NVIDIA_QUERY = "nvidia-smi-query-gpu.csv"
NVIDIA_TOPOLOGY = "nvidia-smi-topo-m.txt"
NVIDIA_P2P = "nvidia-smi-topo-p2p-r.txt"
NVIDIA_NVLINK = "nvidia-smi-nvlink-s.txt"
# Not asked of a live host, but read from recordings.
NVIDIA_TEXT = "nvidia-smi-q.txt"
NVIDIA_TABLE = "nvidia-smi.txt"
NVIDIA_VERSION = "nvidia-smi-version.txt"
NVIDIA_APPS = "nvidia-smi-query-compute-apps.csv"
NUMACTL = "numactl-H.txt"
AMD_LIST = "amd-smi-list.json"
AMD_STATIC = "amd-smi-static.json"
AMD_METRIC = "amd-smi-metric.json"
AMD_TOPOLOGY = "amd-smi-topology.json"
ROCM_PRODUCT = "rocm-smi-product.json"
ROCM_TOPOLOGY = "rocm-smi-showtopo.txt"
LSPCI = "lspci.txt"
LSCPU = "lscpu.txt"
MODINFO = "modinfo-nvidia.txt"
SYSTEMCTL = "systemctl-show.txt"
HOST = "host.json"

RECORDED_ONLY = (NVIDIA_TEXT, NVIDIA_TABLE, NVIDIA_VERSION, NVIDIA_APPS, NUMACTL)

OK = "ok"
MISSING = "missing"
FAILED = "failed"
TIMEOUT = "timeout"


@dataclass(frozen=True)
class ToolOutput:
    """What one tool did.

    ``status`` is one of OK, MISSING (no such program), FAILED (exit code not 0) and TIMEOUT (the tool was
    still running when its time was up). ``returncode`` is None unless the tool ended by itself, ``seconds``
    is wall-clock time (None for a recording).
    """

    status: str
    text: str = ""
    error: str = ""
    returncode: int | None = None
    seconds: float | None = None

    @property
    def said(self) -> str:
        """Both streams in one text, for looking up what a tool complained about."""
        return "\n".join(part for part in (self.text, self.error) if part)


Outputs = dict[str, ToolOutput]

COMMANDS: dict[str, tuple[str, ...]] = {
    NVIDIA_XML: ("nvidia-smi", "-q", "-x"),
    NVIDIA_LIST: ("nvidia-smi", "-L"),
    # Drivers since 510 know compute_cap; -q -x never prints it.
    NVIDIA_QUERY: ("nvidia-smi", "--query-gpu=index,pci.bus_id,compute_cap", "--format=csv"),
    NVIDIA_TOPOLOGY: ("nvidia-smi", "topo", "-m"),
    NVIDIA_P2P: ("nvidia-smi", "topo", "-p2p", "r"),
    NVIDIA_NVLINK: ("nvidia-smi", "nvlink", "-s"),
    AMD_LIST: ("amd-smi", "list", "--json"),
    AMD_STATIC: ("amd-smi", "static", "--json"),
    AMD_METRIC: ("amd-smi", "metric", "--mem-usage", "--json"),
    AMD_TOPOLOGY: ("amd-smi", "topology", "--json"),
    ROCM_PRODUCT: (
        "rocm-smi",
        "--showproductname",
        "--showmeminfo",
        "vram",
        "--showuniqueid",
        "--showbus",
        "--showdriverversion",
        "--json",
    ),
    ROCM_TOPOLOGY: ("rocm-smi", "--showtopo"),
    LSPCI: ("lspci", "-D", "-nn", "-vv"),
    LSCPU: ("lscpu",),
    MODINFO: ("modinfo", "nvidia"),
    SYSTEMCTL: (
        "systemctl",
        "show",
        "--property=Id,LoadState,ActiveState,SubState,UnitFileState",
        "nvidia-fabricmanager.service",
        "nvidia-persistenced.service",
    ),
}

Command = tuple[str, ...]
