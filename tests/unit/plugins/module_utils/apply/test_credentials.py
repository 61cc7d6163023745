"""The settings that hand the token to a unit."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.credentials import (
    ENCRYPTED,
    PLAIN,
    unit_properties,
)

PATH = "Environment=HF_TOKEN_PATH=/run/credentials/%n/hf_token"


@pytest.mark.parametrize(
    ("present", "properties"),
    [
        ([], []),
        ([PLAIN], [f"LoadCredential=hf_token:{PLAIN}", PATH]),
        ([ENCRYPTED], [f"LoadCredentialEncrypted=hf_token:{ENCRYPTED}", PATH]),
        ([PLAIN, ENCRYPTED], [f"LoadCredentialEncrypted=hf_token:{ENCRYPTED}", PATH]),
        (["/etc/elsewhere"], []),
    ],
)
def test_unit_properties(present: list[str], properties: list[str]) -> None:
    assert unit_properties(present) == properties


def test_a_transient_unit_is_told_its_folder() -> None:
    assert unit_properties([PLAIN], "fetch.service") == [
        f"LoadCredential=hf_token:{PLAIN}",
        "Environment=HF_TOKEN_PATH=/run/credentials/fetch.service/hf_token",
    ]
