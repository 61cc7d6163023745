"""Writes how long each task of a run took, as JSON into the file that TASK_TIMES names."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: task_times
type: aggregate
short_description: Writes how long each task of a run took
description: For tests/bench/bench_fleet.py.
"""


class CallbackModule(CallbackBase):
    """Ansible's entry."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_times"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.begin = time.monotonic()
        self.rows: list[dict[str, Any]] = []

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Note a task that begins."""
        self.rows.append({"task": task.get_name(), "action": task.action, "at": time.monotonic() - self.begin})

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Write what was noted."""
        Path(os.environ["TASK_TIMES"]).write_text(
            json.dumps({"rows": self.rows, "end": time.monotonic() - self.begin}), encoding="utf-8"
        )
