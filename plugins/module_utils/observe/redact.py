# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take secrets out of text that leaves a host. Pure."""

from __future__ import annotations

import re

REMOVED = "[removed]"
_SECRETS = (
    # tokens of the Hugging Face hub and keys of common makers, wherever they stand
    (re.compile(r"\b(?:hf|api_org)_(?=[A-Za-z0-9]*[A-Z0-9])[A-Za-z0-9]{8,}"), REMOVED),
    (re.compile(r"\bsk-[A-Za-z0-9_-]{8,}"), REMOVED),
    (re.compile(r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?)(?:bearer|basic)?\s*[^\s'\",}]+"), rf"\1{REMOVED}"),
    (re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]{4,}"), rf"\1{REMOVED}"),
    # --api-key X, api_key='X', 'api_key': ['X', 'Y'], VLLM_API_KEY=X, HF_TOKEN=X, password=X
    (
        re.compile(
            r"(?i)((?:--?|\b\w*?)(?:api[_-]?key|hf[_-]?token|auth[_-]?token|access[_-]?token|password|passwd|secret)"
            r"['\"]?\s*[=:]?\s*)(\[[^\]]*\]|'[^']*'|\"[^\"]*\"|(?<=[=:\s])[^\s,'\"})\]]+)"
        ),
        rf"\1{REMOVED}",
    ),
    # https://user:word@host
    (re.compile(r"(\w+://)[^\s/:@]+:[^\s/@]+@"), rf"\1{REMOVED}@"),
)
# Words that follow a key's name in prose and are no secret.
_WORDS = re.compile(r"(?i)^(?:is|was|in|of|no|for|and|or|not|none|null|true|false|the|that|to|with)$")


def redacted(text: str) -> str:
    """Return a text without tokens, keys and passwords."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(_Replacement(replacement), text)
    return text


class _Replacement:
    """Puts a text in place of a match, but for one that is prose."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, match: re.Match[str]) -> str:
        if match.re.groups >= 2 and _WORDS.match(match[2].strip("'\"")):
            return match[0]
        return match.expand(self.text)
