"""What the tests of this scenario share: its playbook with its variables."""

from __future__ import annotations

from tests.two_instances import MODEL, Deploy, deploy, models, run_here

__all__ = ["MODEL", "Deploy", "deploy", "models", "run_here"]
