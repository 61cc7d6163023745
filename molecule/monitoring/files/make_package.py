"""Make a repository of the stand-in for dcgm-exporter: `make_package.py FILE.tar`. See README.md beside this file."""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

FILES = Path(__file__).resolve().parent
sys.path.insert(0, str(FILES.parents[1] / "shared"))

from debian_repository import Package, build, flat, key  # noqa: E402

RECORDING = FILES.parents[2] / "tests/unit/fixtures/metrics/dcgm-exporter-4.txt"
# As packaging/config-files/systemd/nvidia-dcgm-exporter.service of dcgm-exporter has it.
UNIT = """\
[Unit]
Description=stand-in for dcgm-exporter
Wants=nvidia-dcgm.service
After=nvidia-dcgm.service

[Service]
User=root
PrivateTmp=false
StandardOutput=append:/var/dcgm-exporter.log
StandardError=append:/var/dcgm-exporter.log
ExecStart=/usr/bin/dcgm-exporter -f /etc/dcgm-exporter/default-counters.csv
Restart=on-abort

[Install]
WantedBy=multi-user.target
"""


def main() -> None:
    package = Package(
        "datacenter-gpu-manager-exporter",
        "4.8.2-1",
        depends="python3",
        files={
            "usr/bin/dcgm-exporter": FILES / "dcgm-exporter",
            "usr/share/dcgm-exporter-stand-in/metrics": RECORDING,
            "etc/dcgm-exporter/default-counters.csv": "DCGM_FI_DEV_GPU_UTIL, gauge, GPU utilization (in %).\n",
            "usr/lib/systemd/system/nvidia-dcgm-exporter.service": UNIT,
        },
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        build(package, folder)
        with key() as signing:
            flat(folder, signing)
        folder.chmod(0o755)
        with tarfile.open(sys.argv[1], "w") as tar:
            tar.add(folder, ".")


if __name__ == "__main__":
    main()
