"""Secrets are taken out of what leaves a host."""

from __future__ import annotations

import json

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import instance_sources, recorded, redact, sources
from hypothesis import given
from hypothesis import strategies as st

TOKEN = "hf_" + "AbCdEfGhIjKlMnOpQr"
KEY = "s3cr3t-key-0815"


@pytest.mark.parametrize(
    "text",
    [
        f"token {TOKEN} was refused",
        f"HF_TOKEN={TOKEN}",
        f"Authorization: Bearer {KEY}",
        f"'authorization': 'Bearer {KEY}'",
        f'"Authorization": "Basic {KEY}"',
        f"curl -H 'Authorization: Bearer {KEY}' http://localhost",
        f"vllm serve m --api-key {KEY} --port 8000",
        f"vllm serve m --api-key={KEY}",
        f"non-default args: {{'api_key': ['{KEY}', 'x'], 'port': 8000}}",
        f"api_key='{KEY}', model='m'",
        f"VLLM_API_KEY={KEY}",
        f"password: {KEY}",
        f"https://user:{KEY}@proxy.example.com:3128",
    ],
)
def test_secrets_are_removed(text: str) -> None:
    found = redact.redacted(text)
    assert TOKEN not in found
    assert KEY not in found
    assert redact.REMOVED in found


@pytest.mark.parametrize(
    "text",
    [
        "INFO: the api key is not set",
        "api_key=None, model='m'",
        "GPU KV cache size: 338,160 tokens",
        "Total number of attention heads (52) must be divisible by tensor parallel size (3).",
        "https://huggingface.co/docs",
        "hf_transfer is not installed",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert redact.redacted(text) == text


@given(st.text())
def test_any_text(text: str) -> None:
    assert isinstance(redact.redacted(text), str)


def test_a_recording_holds_none_even_with_identity_kept() -> None:
    outputs = {
        instance_sources.journal_name("chat"): sources.ToolOutput(sources.OK, f"x --api-key {KEY}\n"),
        instance_sources.INSTANCES: sources.ToolOutput(sources.OK, json.dumps({"instances": {"chat": {"x": TOKEN}}})),
    }
    for keep in (True, False):
        files = recorded.recording_files(outputs, keep)
        assert set(files) == {"journal-chat.txt", "instances.json", "record.json"}
        assert not any(KEY in text or TOKEN in text for text in files.values())
        json.loads(files["instances.json"])


def test_requests_that_went_well_are_no_lines_of_a_journal() -> None:
    text = (
        '1.1 vllm[1]: INFO:     127.0.0.1:1 - "GET /health HTTP/1.1" 200 OK\n'
        '1.2 vllm[1]: INFO:     127.0.0.1:1 - "POST /v1/completions HTTP/1.1" 500 Internal Server Error\n'
        "1.3 vllm[1]: INFO 11-29 [loggers.py:1] Engine 000: Avg prompt throughput: 0.0 tokens/s\n"
    )
    assert instance_sources.quiet(text).count("\n") == 1
    assert "500 Internal" in instance_sources.quiet(text)
