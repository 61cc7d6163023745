"""Make the package `tools` importable: it is part of the checkout, not of the collection."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
