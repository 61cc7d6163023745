# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Says in which state a host's GPUs are, in words that a person can act on. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import sources
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.nvidia_xml import outside_document
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.pci import AMD, NVIDIA, PciDevice
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.sources import Outputs

READY = "ready"
NO_DRIVER = "no_driver"
NO_TOOL = "no_tool"
DRIVER_FAILED = "driver_failed"
DRIVER_MISMATCH = "driver_mismatch"
NO_DEVICES = "no_devices"
NO_PERMISSION = "no_permission"
GPU_LOST = "gpu_lost"
TOOL_TIMEOUT = "tool_timeout"
TOOL_FAILED = "tool_failed"
UNREADABLE = "unreadable"
UNKNOWN = "unknown"

_NVIDIA_TOOLS = (
    sources.NVIDIA_XML,
    sources.NVIDIA_LIST,
    sources.NVIDIA_QUERY,
    sources.NVIDIA_TOPOLOGY,
    sources.NVIDIA_P2P,
    sources.NVIDIA_NVLINK,
    sources.NVIDIA_TEXT,
    sources.NVIDIA_TABLE,
)
_LOST_LINE = re.compile(r"Unable to determine the device handle for\s*(GPU\s*\d*\s*:?\s*[0-9A-Fa-f:.]*)")
_LOST_TEXT = re.compile(r"GPU is lost|GPU requires reset|fallen off the bus", re.IGNORECASE)
_LIBRARY = re.compile(r"NVML library version:\s*([\d.]+)")
_KERNEL_MODULE = re.compile(r"Kernel Module\s+(?:for \S+\s+)?([\d.]+)")


@dataclass(frozen=True)
class Judgement:
    """The accelerator (cuda, rocm, cpu), the state, and a sentence saying what is wrong and what to do."""

    accelerator: str
    state: str
    message: str


def judge_nvidia(
    outputs: Outputs,
    pci: Sequence[PciDevice],
    files: Mapping[str, str],
    devices: Sequence[Mapping[str, object]],
    readable: bool,
) -> Judgement | None:
    """Judge the NVIDIA side; None where nothing says that there is one.

    ``devices`` are the GPUs that could be read, ``readable`` is False where nvidia-smi -q -x answered with
    text that could not be read.
    """
    said = "\n".join(_said(name, outputs[name]) for name in _NVIDIA_TOOLS if name in outputs)
    asked = [outputs[name] for name in _NVIDIA_TOOLS if name in outputs]
    hardware = [device for device in pci if device.vendor == NVIDIA and device.is_gpu]
    if not asked and hardware:
        return Judgement(
            "cuda",
            UNKNOWN,
            f"{_gpus(len(hardware), 'NVIDIA')} on the PCI bus; the recording holds no answer of nvidia-smi.",
        )
    if all(output.status == sources.MISSING for output in asked):
        return _without_tool(hardware, files)
    if _is_stray(said, pci, hardware, files, devices):
        return None
    return (
        _told(said, files, devices)
        or _lost(said, devices)
        or _timed_out(outputs, devices)
        or _empty(said, outputs, devices, readable)
        or Judgement("cuda", READY, _ready_message(devices, "NVIDIA"))
    )


def _without_tool(hardware: Sequence[PciDevice], files: Mapping[str, str]) -> Judgement | None:
    loaded = _KERNEL_MODULE.search(files.get("/proc/driver/nvidia/version", ""))
    if loaded:
        return Judgement(
            "cuda",
            NO_TOOL,
            f"The NVIDIA kernel driver {loaded[1]} is loaded, but there is no nvidia-smi. Install the "
            "driver's user-space tools of exactly that version (Debian: nvidia-smi, Ubuntu: nvidia-utils).",
        )
    if hardware:
        return Judgement(
            "cuda",
            NO_DRIVER,
            f"{_gpus(len(hardware), 'NVIDIA')} on the PCI bus ({hardware[0].address}), but no NVIDIA "
            "driver is installed. Install one, for example with the role gpufleet.vllm.cuda, and reboot.",
        )
    return None


def _is_stray(
    said: str,
    pci: Sequence[PciDevice],
    hardware: Sequence[PciDevice],
    files: Mapping[str, str],
    devices: Sequence[Mapping[str, object]],
) -> bool:
    """Whether nvidia-smi is only left over on a host whose PCI bus shows no NVIDIA GPU."""
    if devices or hardware or not pci or "/proc/driver/nvidia/version" in files:
        return False
    return bool(re.search(r"couldn't communicate with the nvidia driver|no devices were found", said, re.IGNORECASE))


def _said(name: str, output: sources.ToolOutput) -> str:
    """What a tool complains about: everything but the XML document, which is large and judged by itself."""
    return outside_document(output.text) + "\n" + output.error if name == sources.NVIDIA_XML else output.said


def _told(said: str, files: Mapping[str, str], devices: Sequence[Mapping[str, object]]) -> Judgement | None:
    """States that nvidia-smi names in its own words, instead of any device."""
    if any(device.get("name") for device in devices):
        return None
    if re.search(r"driver/library version mismatch", said, re.IGNORECASE):
        library = _LIBRARY.search(said)
        module = _KERNEL_MODULE.search(files.get("/proc/driver/nvidia/version", ""))
        versions = f" (library {library[1] if library else '?'}, module {module[1] if module else '?'})"
        return Judgement(
            "cuda",
            DRIVER_MISMATCH,
            f"The NVIDIA libraries are of another version than the loaded kernel module{versions}: the "
            "driver was updated without a reboot. Reboot, or unload and load the nvidia modules.",
        )
    if re.search(r"couldn't communicate with the NVIDIA driver|gpu access blocked", said, re.IGNORECASE):
        loaded = "/proc/driver/nvidia/version" in files
        why = (
            "although its kernel module is loaded; see the kernel log (dmesg) for NVRM messages"
            if loaded
            else "because its kernel module is not loaded: it was not built for this kernel (dkms status), "
            "or secure boot refused it, or nouveau holds the GPU"
        )
        return Judgement("cuda", DRIVER_FAILED, f"nvidia-smi cannot talk to the NVIDIA driver, {why}.")
    if re.search(r"insufficient permissions", said, re.IGNORECASE):
        return Judgement(
            "cuda",
            NO_PERMISSION,
            "nvidia-smi may not open the GPU's device files. Run as root, or give the user access to /dev/nvidia*.",
        )
    return None


def _lost(said: str, devices: Sequence[Mapping[str, object]]) -> Judgement | None:
    named = sorted({" ".join(match[1].split()).strip(": ") for match in _LOST_LINE.finditer(said)})
    broken = [device for device in devices if device.get("lost")]
    if not named and not broken and not _LOST_TEXT.search(said):
        return None
    which = ", ".join(named) or ", ".join(f"GPU {device['index']}" for device in broken) or "A GPU"
    left = len(devices) - len(broken)
    rest = f"; {left} others still answer" if left else ""
    return Judgement(
        "cuda",
        GPU_LOST,
        f"{which} does not answer the driver any more (lost){rest}. New CUDA programs may fail on all GPUs. "
        "Look for Xid in the kernel log, reset the GPU (nvidia-smi -r) or power-cycle the host, and check "
        "the card's seat and power.",
    )


def _timed_out(outputs: Outputs, devices: Sequence[Mapping[str, object]]) -> Judgement | None:
    """A hang matters where it hid the devices; a hang of a lesser tool is a warning elsewhere."""
    output = outputs.get(sources.NVIDIA_XML)
    if output is None or output.status != sources.TIMEOUT:
        return None
    after = f" after {output.seconds:.0f} s" if output.seconds else ""
    return Judgement(
        "cuda",
        TOOL_TIMEOUT,
        f"nvidia-smi gave no answer{after} and was stopped. A GPU or its driver hangs: look for Xid and "
        "NVRM in the kernel log (dmesg), see whether processes are stuck on a GPU, and reboot the host. "
        "Without persistence mode the first call can be slow; then raise the option timeout.",
    )


def _answer(outputs: Outputs) -> str:
    """The fullest answer there is, for quoting its beginning."""
    names = (sources.NVIDIA_XML, sources.NVIDIA_TEXT, sources.NVIDIA_TABLE)
    return next((outputs[name].text for name in names if name in outputs), "")


def _empty(said: str, outputs: Outputs, devices: Sequence[Mapping[str, object]], readable: bool) -> Judgement | None:
    if devices and readable:
        return None
    if not said.strip() and sources.NVIDIA_XML not in outputs:
        return Judgement("cuda", UNKNOWN, "The recording holds no answer of nvidia-smi that names a GPU.")
    if re.search(r"no devices were found", said, re.IGNORECASE):
        return Judgement(
            "cuda",
            NO_DEVICES,
            "The NVIDIA driver is loaded and finds no GPU. See dmesg for NVRM: the GPU may need the open "
            "kernel module (Blackwell) or a newer driver, be given to a virtual machine (vfio-pci), or be "
            "hidden from this container.",
        )
    if not readable:
        first = next((line for line in _answer(outputs).split("\n") if line.strip()), "")
        return Judgement(
            "cuda",
            UNREADABLE,
            f"The answer of nvidia-smi is cut or damaged and cannot be read; it begins: {first[:100]!r}. "
            "Record it again.",
        )
    if devices:
        return None
    first = next((line.strip() for line in said.splitlines() if line.strip()), "nothing")
    return Judgement("cuda", TOOL_FAILED, f"nvidia-smi fails and names no GPU. It says: {first[:200]}")


def judge_amd(
    outputs: Outputs,
    names: Sequence[str],
    pci: Sequence[PciDevice],
    files: Mapping[str, str],
    devices: Sequence[object],
) -> Judgement | None:
    """Judge the AMD side; None where nothing says that there is one. ``names`` are the AMD outputs."""
    if devices:
        return Judgement("rocm", READY, _ready_message(devices, "AMD"))
    hanging = [name for name in names if outputs[name].status == sources.TIMEOUT]
    if hanging:
        return Judgement(
            "rocm",
            TOOL_TIMEOUT,
            "amd-smi and rocm-smi gave no answer in time and were stopped. See dmesg for amdgpu messages.",
        )
    hardware = [device for device in pci if device.vendor == AMD and device.kind in ("1200", "0302", "0380")]
    if not pci and any(outputs[name].text.strip() for name in names):
        return Judgement("rocm", UNREADABLE, "The answers of amd-smi and rocm-smi name no GPU or cannot be read.")
    if not hardware:
        return None
    asked = [outputs[name] for name in names if outputs[name].status != sources.MISSING]
    driver = "/sys/module/amdgpu/version" in files or "/sys/module/amdgpu/initstate" in files
    if not driver and not any(device.driver == "amdgpu" for device in hardware):
        return Judgement(
            "rocm",
            NO_DRIVER,
            f"{_gpus(len(hardware), 'AMD')} on the PCI bus, but amdgpu is not loaded. Load or install it.",
        )
    if not asked:
        return Judgement(
            "rocm",
            NO_TOOL,
            "amdgpu is loaded, but there is neither amd-smi nor rocm-smi. Install ROCm.",
        )
    return Judgement("rocm", TOOL_FAILED, "amd-smi and rocm-smi name no GPU although there is one on the PCI bus.")


def no_gpu() -> Judgement:
    """A host without any GPU: nothing is broken, the CPU does the work."""
    return Judgement("cpu", READY, "No GPU was found on this host: the CPU is the accelerator.")


def _ready_message(devices: Sequence[object], vendor: str) -> str:
    return f"{_gpus(len(devices), vendor)} ready."


def _gpus(count: int, vendor: str) -> str:
    return f"{count} {vendor} GPU{'' if count == 1 else 's'}"
