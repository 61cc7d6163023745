"""The one exception whose text is meant for the person at the terminal."""

from __future__ import annotations


class NodeError(Exception):
    """Something is wrong that a person can act on; its text is one or two plain sentences."""
