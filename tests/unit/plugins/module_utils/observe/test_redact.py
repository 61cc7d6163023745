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
        f"https://user:with/{KEY}@host/x",
        f"git clone https://{KEY}@host/x",
        f"HTTPS_PROXY=http://user:{KEY}@proxy:3128",
        f"https_proxy=user:{KEY}@proxy:3128",
        f"proxy-authorization: basic {KEY}",
        f"AUTHORIZATION: Token {KEY}",
        f"set-cookie: session={KEY}; path=/",
        f"hf_token={KEY}",
        f"'hf_token': '{KEY}'",
        f'{{\\"api_key\\": \\"{KEY}\\"}}',
        f"aws_secret_access_key={KEY}",
        f"AWS_SESSION_TOKEN={KEY}",
        f"azure_storage_key={KEY}",
        f"GITHUB_TOKEN={KEY}",
        f"token: {KEY}",
        f"x-api-key: {KEY}",
        f"X-Goog-Api-Key: {KEY}",
        f"vllm serve m --api-key other-1 {KEY} --port 8000",
        f"api_key=['x', '{KEY}'",
        f"PGPASSWORD='a b {KEY}'",
        f"passphrase: {KEY}",
        f"the api key {KEY} is wrong",
        f"GET /x?page=1&X-Amz-Signature={KEY}",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\ns3cr3tkey\n-----END RSA PRIVATE KEY-----",
        f"Received request chatcmpl-1: prompt: 'it is {KEY}', params: SamplingParams(n=1)",
    ],
)
def test_secrets_are_removed(text: str) -> None:
    found = redact.redacted(text)
    assert TOKEN not in found
    assert KEY not in found
    assert "s3cr3tkey" not in found
    assert redact.REMOVED in found


@pytest.mark.parametrize(
    "secret",
    [
        "ghp_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789",
        "hf_abcdefghijklmnopqrstuvwxyzabcdefgh",
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    ],
)
def test_keys_of_known_makers_are_removed_without_a_name(secret: str) -> None:
    assert redact.redacted(f"it said {secret} to me") == f"it said {redact.REMOVED} to me"


@given(
    st.sampled_from(["api_key", "hf_token", "password"]),
    st.one_of(
        st.text(max_size=20),
        st.lists(st.text(st.characters(exclude_characters="]"), max_size=10), max_size=4),
        st.integers(),
    ),
)
def test_what_was_json_stays_json(name: str, value: object) -> None:
    text = json.dumps({"x": 1, name: value, "y": [2]}, indent=1)
    found = json.loads(redact.redacted(text))
    assert (found["x"], found["y"]) == (1, [2])


@pytest.mark.parametrize(
    "text",
    [
        "INFO: the api key is not set",
        "api_key=None, model='m'",
        "GPU KV cache size: 338,160 tokens",
        "Total number of attention heads (52) must be divisible by tensor parallel size (3).",
        "https://huggingface.co/docs",
        "hf_transfer is not installed",
        "tokenizer_mode='auto', max_num_batched_tokens=8192, eos_token_id: 128009, hf_overrides={}",
        "wandb_project is not set",
        "Using http://10.0.0.1:8000/v1/models@main",
        "Unknown token: <|im_start|>",
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
