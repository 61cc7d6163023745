"""Files of the control node and of hosts are written whole, and nothing is left beside them when they are not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model_files
from ansible_collections.gpufleet.vllm.plugins.modules import hf_token
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import files

WRITERS: dict[str, Callable[[Path], None]] = {
    "report": lambda path: files.write(path, "new"),
    "facts": lambda path: model_files.write(str(path), "new"),
    "token": lambda path: hf_token.write(str(path), b"new"),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "killed"])
def test_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None], fault: BaseException
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def refuse(*_: Any) -> None:
        raise fault

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", refuse)
        patched.setattr(Path, "replace", refuse)
        with pytest.raises((InputError, OSError, KeyboardInterrupt)):
            write(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write(path)
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_lone_surrogates_end_no_report(tmp_path: Path) -> None:
    path = tmp_path / "plan.html"
    files.write(path, "a\ud800b")
    assert path.read_text() == "a?b"
    assert not files.differs(path, "a\ud800b")
