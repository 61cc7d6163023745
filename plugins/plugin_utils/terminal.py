# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one way to the terminal of who runs a playbook: what hosts say may not control it."""

from __future__ import annotations

from ansible.utils.display import Display
from ansible_collections.gpufleet.vllm.plugins.module_utils.visible import visible

_DISPLAY = Display()


def show(text: str) -> None:
    """Print a text."""
    _DISPLAY.display(visible(text))
