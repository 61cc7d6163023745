# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Loads the filters of this collection before Ansible makes the processes that use them.

A task of a host runs in a process of its own. The first filter that it needs makes it load all of this collection's,
with the planner behind them, from source: 0.5 s of a core for each host and task (ansible-core 2.19, 2026-11-29).
What the process that they are made from has loaded, they have. That one loads an action plugin before it runs a task.
"""

from __future__ import annotations

from ansible.plugins.loader import filter_loader

# Any one of them.
NAME = "gpufleet.vllm.instance_problems"


def load() -> None:
    """Load them, once."""
    filter_loader.get(NAME)
