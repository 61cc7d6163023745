"""A Chromium for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser import chromium


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    """One Chromium; each test opens its own page."""
    if chromium.program() is None:
        pytest.fail(f"None of {', '.join(chromium.PROGRAMS)} is on PATH: run make browser as root, or install one.")
    with chromium.running(tmp_path_factory.mktemp("chromium")) as found:
        yield found
