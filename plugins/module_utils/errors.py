# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one family of errors that the pure code raises."""

from __future__ import annotations

from ansible_collections.gpufleet.vllm.plugins.module_utils.visible import visible


class GpufleetError(Exception):
    """A fault that a person can mend: the message is a full sentence for them.

    It says what is wrong, where it was written or seen, and what to write or do instead. It may quote strangers.
    """

    def __str__(self) -> str:
        return visible(super().__str__())


class InputError(GpufleetError):
    """Something that a person wrote (inventory, extra variable, option) cannot be used."""


class ParseError(GpufleetError):
    """A tool's output could not be read.

    ``line`` and ``column`` count from 1; either is None where the place is not known.
    """

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.line = line
        self.column = column
