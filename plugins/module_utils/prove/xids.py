# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""NVIDIA's catalogue of Xids: what each number means and what has to be done at once. Data.

Source: docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html (Ampere to Blackwell, read 2026-12-01), columns
"Description" and "Resolution Bucket (Immediate Action)". Numbers that it calls unused are left out; 61 and 68 to 90 of
older cards are in the archive of the same page.
"""

from __future__ import annotations

# What the catalogue asks for at once.
IGNORE, APP, RESET, REBOOT, SUPPORT = "nothing", "restart the program", "reset the GPU", "reboot the host", "support"
SAID = "what the line says"

_ENGINES = {
    **{39 + number: f"Copy engine {number}" for number in range(3)},
    **{70 + number: f"Copy engine {3 + number}" for number in range(3)},
    **{75 + number: f"Copy engine {6 + number}" for number in range(3)},
    85: "Copy engine 9",
    **{126 + number: f"Copy engine {10 + number}" for number in range(10)},
    60: "Video processor",
    68: "NVDEC 0",
    83: "NVDEC 1",
    84: "NVDEC 2",
    88: "NVDEC 3",
    89: "NVDEC 4",
    96: "NVDEC 5",
    97: "NVDEC 6",
    98: "NVDEC 7",
    82: "NVJPG 0",
    86: "OFA",
    139: "OFA 1",
    **{99 + number: f"NVJPG {1 + number}" for number in range(7)},
}
CATALOGUE: dict[int, tuple[str, str]] = {
    **{number: (f"{name}: exception", APP) for number, name in _ENGINES.items()},
    8: ("GPU stopped processing", APP),
    11: ("Invalid or corrupted push buffer stream", APP),
    13: ("Graphics engine exception", APP),
    14: ("Fake or injected error from user space", IGNORE),
    25: ("Invalid or illegal push buffer stream", APP),
    31: ("GPU memory page fault", APP),
    32: ("Invalid or corrupted push buffer stream", APP),
    37: ("Driver firmware error", IGNORE),
    38: ("Driver firmware error", IGNORE),
    43: ("GPU stopped processing", IGNORE),
    44: ("Graphics engine fault during context switch", IGNORE),
    45: ("Preemptive cleanup, due to previous errors", IGNORE),
    46: ("GPU stopped processing", RESET),
    48: ("Double bit ECC error", RESET),
    54: ("Auxiliary power is not connected to the board", SUPPORT),
    61: ("Internal micro-controller breakpoint", RESET),
    62: ("Internal micro-controller halt", RESET),
    63: ("GPU memory remapping event", IGNORE),
    64: ("GPU memory remapping failure", RESET),
    66: ("Illegal access by driver", IGNORE),
    67: ("Illegal access by driver", IGNORE),
    69: ("Graphics engine class error", APP),
    74: ("NVLink error", RESET),
    78: ("vGPU start error", SUPPORT),
    79: ("GPU has fallen off the bus", REBOOT),
    80: ("Corrupted data sent to GPU", APP),
    92: ("High single-bit ECC error rate", IGNORE),
    93: ("Wear limit of the InfoROM", IGNORE),
    94: ("Contained memory error", APP),
    95: ("Uncontained memory error", RESET),
    106: ("SMBPBI test message", IGNORE),
    107: ("SMBPBI test message", IGNORE),
    108: ("NVLink remote translation error", IGNORE),
    109: ("Context switch timeout", RESET),
    110: ("Security fault", RESET),
    119: ("GSP RPC timeout", RESET),
    120: ("GSP error", RESET),
    121: ("C2C error, corrected", IGNORE),
    136: ("NVLink training failed", RESET),
    137: ("NVLink privilege error", IGNORE),
    140: ("Unrecovered ECC error", RESET),
    141: ("CUDA fast path error", IGNORE),
    142: ("NVENC 3: exception", SUPPORT),
    143: ("GPU initialization error", RESET),
    144: ("NVLink 5: SAW error", RESET),
    145: ("NVLink 5: RLW error", RESET),
    146: ("NVLink 5: TLW error", RESET),
    147: ("NVLink 5: TREX error", RESET),
    148: ("NVLink 5: NVLPW_CTRL error", RESET),
    149: ("NVLink 5: NETIR error", RESET),
    150: ("NVLink 5: MSE error", RESET),
    151: ("Key rotation error", REBOOT),
    152: ("DLA SMMU error", IGNORE),
    153: ("DLA timeout", IGNORE),
    154: ("GPU recovery action changed", SAID),
    155: ("NVLink: software defined error", RESET),
    156: ("Resource retirement event", RESET),
    157: ("Resource retirement failure", IGNORE),
    158: ("GPU fatal timeout", RESET),
    159: ("CHI non-data error", SUPPORT),
    160: ("Channel retirement event", IGNORE),
    161: ("Channel retirement failure", IGNORE),
    162: ("Power smoothing reengaged", IGNORE),
    163: ("Power smoothing disengaged", IGNORE),
    164: ("Power smoothing: low lifetime", IGNORE),
    165: ("Power smoothing: lifetime exhausted", SUPPORT),
    166: ("NVLink traffic before encryption was configured", RESET),
    167: ("PCIe fatal timeout", REBOOT),
    168: ("Reduced memory capacity: errors in a protected region", REBOOT),
    169: ("Internal micro-controller halt (SEC2)", RESET),
    170: ("NVLink interrupt in confidential computing mode", SUPPORT),
    171: ("Uncorrectable DRAM error", RESET),
    172: ("Uncorrectable SRAM error", RESET),
}
# Of one group of remedies each.
FALLEN = (79, 167)
MEMORY = (48, 94, 95, 140, 171, 172)
REMAPPED = (63, 64, 92, 156, 157, 160, 161)
NVLINK = (74, 136, *range(144, 151), 155)
GSP = (119, 120)
HUNG = (46, 61, 62, 109, 110, 143, 158, 168, 169)
RECOVERY = (154,)
PROGRAM = tuple(
    number
    for number, (_meaning, action) in CATALOGUE.items()
    if (action == APP and number not in MEMORY) or number in (37, 43, 44, 45, 137)
)
# Corrected, informational, or of somebody's test: nothing is to be done.
HARMLESS = (14, 106, 107, 121, 141, 152, 153, 162)
_GROUPS = (FALLEN, MEMORY, REMAPPED, NVLINK, GSP, HUNG, RECOVERY, PROGRAM, HARMLESS)
GROUPED = frozenset(number for group in _GROUPS for number in group)


def meaning(number: int) -> str:
    """What a number means."""
    return CATALOGUE[number][0] if number in CATALOGUE else "not in NVIDIA's catalogue for Ampere and newer"


def action(number: int) -> str:
    """What the catalogue asks for at once."""
    return CATALOGUE[number][1] if number in CATALOGUE else SUPPORT
