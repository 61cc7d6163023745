# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The border between Ansible's values and the pure code."""

from __future__ import annotations

import json
from typing import Any


def plain(value: Any) -> Any:
    """Return a value without Ansible's tags and lazy containers, which the pure code need not know."""
    return json.loads(json.dumps(value))
