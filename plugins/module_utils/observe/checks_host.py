# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checks of the host around the GPUs: IOMMU, ACS, nouveau, secure boot, /dev/shm, limits. Pure."""

from __future__ import annotations

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.findings import (
    FAIL,
    OK,
    UNKNOWN,
    WARN,
    Finding,
    Host,
    finding,
    gpus_named,
)

# NCCL and vLLM's workers share buffers through /dev/shm. Docker's default is 64 MiB and too small; NVIDIA's
# containers ask for 1 GiB (NCCL user guide, "Docker containers").
SHM_MIB = 1024
SHM = "/dev/shm"  # noqa: S108 - the mount itself, nothing is written there
# vLLM opens a socket per connection and file; below this, servers run into "Too many open files" under load.
NOFILE = 65536


def iommu_translates(host: Host) -> bool | None:
    """Whether an IOMMU translates the GPUs' addresses; None where /sys was not read."""
    kinds = [device.iommu_type for device in host.pci if device.is_gpu and device.iommu_type]
    if kinds:
        return any(kind.startswith("DMA") for kind in kinds)
    if "/proc/cmdline" not in host.files:
        return None
    return False if not any(path.startswith("/sys/class/iommu/") for path in host.files) else None


def iommu(host: Host) -> Finding | None:
    """An IOMMU in translating mode slows peer-to-peer traffic or makes it hang (vllm#51513, NCCL guide)."""
    if len(host.devices) < 2 or "/proc/cmdline" not in host.files:
        return None
    translates = iommu_translates(host)
    if translates is None:
        return finding("iommu", UNKNOWN, "An IOMMU is on; nothing says how it treats the GPUs.")
    if translates:
        return finding(
            "iommu",
            WARN,
            "The IOMMU translates the GPUs' addresses: peer-to-peer traffic may be slow or hang.",
            "On bare metal add iommu=pt to the kernel's command line (or switch the IOMMU off) and reboot.",
        )
    return finding("iommu", OK, "No IOMMU stands between the GPUs, or it passes their addresses through.")


def acs_redirects(host: Host) -> bool | None:
    """Whether any PCI bridge redirects peer-to-peer traffic; None where lspci did not say."""
    known = [device.acs_redirect for device in host.pci if device.acs_redirect is not None]
    return any(known) if known else None


def acs(host: Host) -> Finding | None:
    """ACS redirection on bridges sends peer-to-peer traffic through the CPU (NCCL guide, NCCL#2079)."""
    if len(host.devices) < 2:
        return None
    known = [device for device in host.pci if device.acs_redirect is not None]
    redirecting = [device.address for device in known if device.acs_redirect]
    if redirecting:
        shown = ", ".join(redirecting[:4]) + (" ..." if len(redirecting) > 4 else "")
        return finding(
            "acs",
            WARN,
            f"{len(redirecting)} PCI bridges redirect peer-to-peer traffic to the CPU (ACS: {shown}).",
            "On bare metal switch ACS off in the BIOS, or with setpci at every boot (NCCL user guide, "
            "'PCI Access Control Services').",
        )
    if known:
        return finding("acs", OK, "No PCI bridge redirects peer-to-peer traffic (ACS).")
    return finding("acs", UNKNOWN, "The ACS state was not read.", "Install lspci (pciutils) and run as root.")


def numa(host: Host) -> Finding | None:
    """On a machine of several NUMA nodes each GPU should say which of them it is near to."""
    if host.numa_nodes < 2 or not host.devices:
        return None
    lost = [device["index"] for device in host.devices if device.get("numa_node") is None]
    if not lost or not host.pci:
        return None
    return finding(
        "numa",
        WARN,
        f"This machine has {host.numa_nodes} NUMA nodes, and {gpus_named(lost)} of none of them: ranks cannot be bound "
        "near to their GPUs.",
        "Turn NUMA on in the BIOS (one node per socket); in a virtual machine let the hypervisor pass the topology on.",
    )


def nouveau(host: Host) -> Finding | None:
    """The open driver nouveau keeps the NVIDIA driver off the GPU."""
    modules = host.files.get("/proc/modules", "")
    loaded = any(line.startswith("nouveau ") for line in modules.splitlines())
    if not loaded and "/sys/module/nouveau/initstate" not in host.files:
        return None
    return finding(
        "nouveau",
        FAIL if not host.tool_ready else WARN,
        "The kernel module nouveau is loaded and can hold the GPU.",
        "Put 'blacklist nouveau' and 'options nouveau modeset=0' into /etc/modprobe.d, rebuild the initramfs, reboot.",
    )


def secure_boot(host: Host) -> Finding | None:
    """With secure boot the kernel loads signed modules only."""
    variable = next((text for path, text in host.files.items() if "/efivars/SecureBoot-" in path), None)
    if host.accelerator != "cuda" or not variable:
        return None
    if not variable.endswith("\x01"):
        return finding("secure_boot", OK, "Secure boot is off.")
    if "/proc/driver/nvidia/version" in host.files:
        return finding("secure_boot", OK, "Secure boot is on and the NVIDIA module was accepted.")
    signed = any(line.startswith("signer:") and line[7:].strip() for line in host.modinfo.splitlines())
    if host.modinfo and not signed:
        return finding(
            "secure_boot",
            FAIL,
            "Secure boot is on and the NVIDIA module is not signed: the kernel refuses it.",
            "Sign the module with a machine owner key (mokutil --import), use the distribution's signed "
            "driver, or switch secure boot off.",
        )
    return finding(
        "secure_boot",
        WARN,
        "Secure boot is on and the NVIDIA module is not loaded: its key may not be enrolled.",
        "See dmesg for 'Key was rejected', and enrol the key with mokutil.",
    )


def shared_memory(host: Host) -> Finding | None:
    """Room in /dev/shm for the buffers that workers share."""
    if host.shm_mib is None:
        return None
    if len(host.devices) > 1 and host.shm_mib < SHM_MIB:
        return finding(
            "dev_shm",
            WARN,
            f"{SHM} has {host.shm_mib} MiB; several GPUs need {SHM_MIB} MiB or more.",
            "mount -o remount,size=8G /dev/shm, or --shm-size for a container.",
        )
    return finding("dev_shm", OK, f"{SHM} has {host.shm_mib} MiB.")


def memlock(host: Host) -> Finding | None:
    """RDMA registers memory, which the limit on locked memory forbids."""
    limit = host.limits.get("memlock")
    if not limit or not host.rdma:
        return None
    if limit[0] != -1:
        return finding(
            "memlock",
            WARN,
            f"This login may lock {limit[0] // (1024 * 1024)} MiB of memory; RDMA needs it unlimited.",
            "LimitMEMLOCK=infinity in the service's unit (the role gpufleet.vllm.serve sets it).",
        )
    return finding("memlock", OK, "Locked memory is not limited.")


def open_files(host: Host) -> Finding | None:
    """The limit on open files that a service could be given."""
    limit = host.limits.get("nofile")
    if not limit:
        return None
    if limit[1] != -1 and limit[1] < NOFILE:
        return finding(
            "open_files",
            WARN,
            f"A process may open at most {limit[1]} files.",
            f"LimitNOFILE={NOFILE} in the service's unit, or a higher limit in /etc/security/limits.d.",
        )
    return finding("open_files", OK, "The limit on open files is high enough.")
