#!/usr/bin/env python3
"""Make sure that there is a Chromium for the tests of the plan's page: as root, install Debian's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.version_info < (3, 11):
    sys.exit(f"browser.py: needs Python 3.11 or newer; this is {sys.version.split()[0]}.")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.browser.chromium import program
from tools.nodes import host
from tools.nodes.errors import NodeError


def main() -> int:
    try:
        host.require_packages([] if program() else ["chromium"], install=os.geteuid() == 0)
    except NodeError as error:
        print(f"browser.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
