#!/usr/bin/env python3
"""Make, list and remove systemd nodes on this machine: see `tools/node.py --help`."""

from __future__ import annotations

import sys
from pathlib import Path

if sys.version_info < (3, 11):
    sys.exit(f"node.py: needs Python 3.11 or newer; this is {sys.version.split()[0]} ({sys.executable}).")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.nodes.cli import main

if __name__ == "__main__":
    sys.exit(main())
