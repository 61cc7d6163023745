"""What hosts say does not control the terminal of who reads it."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import client, fault, signature
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import diagnosis
from ansible_collections.gpufleet.vllm.plugins.module_utils.visible import visible
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import terminal
from hypothesis import given
from hypothesis import strategies as st

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r"
KEPT = "\n\t"


def harmless(text: str) -> bool:
    """Whether a text holds nothing that a terminal obeys."""
    return all(letter.isprintable() or letter in KEPT for letter in text) and "\u202e" not in text


@given(st.text())
def test_nothing_is_left_that_a_terminal_obeys(text: str) -> None:
    found = visible(text)
    assert not any((ord(letter) < 0x20 and letter not in KEPT) or 0x7F <= ord(letter) < 0xA0 for letter in found)
    found.encode()


@given(st.text(st.characters(categories=["L", "N", "P", "S"], include_characters=" \n\t")))
def test_ordinary_text_stays(text: str) -> None:
    assert visible(text) == text


def test_what_is_written_out_can_be_read() -> None:
    assert visible("a\x1b[2J\x9b\u202e\ud800b") == "a\\x1b[2J\\x9b\\u202e\\ud800b"


def test_messages_and_evidence_are_harmless() -> None:
    line = f"ValueError: {HOSTILE}The model is too large"
    assert harmless(str(InputError(f"It says {HOSTILE}")))
    assert harmless(client.said({"error": {"message": HOSTILE}}))
    assert harmless(signature.shortened(line))
    told = fault.message("It failed.", [line], "chat", {})
    assert "too large" in told
    assert harmless(told)


def test_a_report_is_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(terminal._DISPLAY, "display", shown.append)
    found = diagnosis.report({"h1": {"unreachable": True, "msg": f"no route {HOSTILE}"}})
    terminal.show(diagnosis.text(found))
    assert "no route" in shown[0]
    assert harmless(shown[0])
