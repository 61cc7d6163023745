"""Ansible's own templating, as the template action and a task's arguments use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template


def render(text: str, variables: dict[str, Any]) -> Any:
    """Template a text that a role or a playbook could hold; raises what Ansible raises."""
    return Templar(loader=DataLoader(), variables=variables).template(trust_as_template(text))


def load_trusted(path: Path) -> dict[str, Any]:
    """Read a YAML file as Ansible reads a file of variables: every text tagged with its place, templates trusted."""
    found: dict[str, Any] = DataLoader().load_from_file(str(path), trusted_as_template=True)
    return found
