# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take secrets out of text that leaves a host. Pure.

Every pattern begins with plain letters, and what it looks at after them has an end: journals hold what clients send.
"""

from __future__ import annotations

import re

REMOVED = "[removed]"
# What parts a name from its value, also in JSON inside of JSON: "api_key": 'X', api_key=X, {\"api_key\": \"X\"}.
_SET = r"[\\'\"\])]{0,4}[ \t]{0,8}(?:=>|[=:])[ \t]{0,8}"
# A list, a text in quotes, or a word; where the list or the text has no end, the rest of the line.
_VALUE = (
    r"(?:\[[^\]\n]*(?:\]|\n[^\]]{0,1500}\]|$)|\\{1,3}\"[^\"\n]*(?:\"|$)|\\{1,3}'[^'\n]*(?:'|$)"
    r"|'(?:[^'\\\n]|\\.?)*(?:'|$)|\"(?:[^\"\\\n]|\\.?)*(?:\"|$)|[^\s,'\"})\]&]+)"
)
_NAME = (
    r"(?:api[_-]?key|apikey|access[_-]?key(?:[_-]id)?|(?:secret|storage|account|signing|encryption|shared|master)[_-]?key"
    r"|private[_-]?key|(?:hf|hub|auth|access|session|security|refresh|github|gitlab|bot|api)[_-]?token"
    r"|password|passwd|passphrase|secret|credentials?|(?-i:[A-Z]_TOKEN))"
)
# Words that follow a key's name in prose and are no secret.
_WORDS = re.compile(r"(?i)^(?:is|was|in|of|no|for|and|or|not|none|null|true|false|the|that|to|with)$")

_QUOTE = re.compile(r"(\\{0,3}['\"])")
_QUOTED_NAME = re.compile(r"(\\{0,3}\"):\s*$")


class _Replacement:
    """Puts a text in place of a match, but for one that is prose."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, match: re.Match[str]) -> str:
        if match.re.groups < 2:
            return match.expand(self.text)
        name, value = match[1], match[2]
        if _WORDS.match(value.strip("'\"")):
            return match[0]
        # what was JSON stays JSON
        if value[0] == "[":
            return f'{name}["{REMOVED}"]'
        quote = _QUOTE.match(value) or _QUOTED_NAME.search(name[-10:])
        return f"{name}{quote[1]}{REMOVED}{quote[1]}" if quote else f"{name}{REMOVED}"


_PRIVATE_KEY = re.compile(
    r"(-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----)(?:[^-]|-(?!----)){0,8000}"
    r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----)?"
)
# A line, or a list over several.
_PARTS = re.compile(r"[^\n]*\[[ \t]*\n[^\]]{0,1500}\]|[^\n]+|\n")
# What a line with a secret holds, in small letters: most lines hold none of it.
_TELLING = (
    *("key", "token", "passw", "passphrase", "secret", "credential", "auth", "bearer", "cookie", "prompt", "://", "@"),
    *("hf_", "api_org_", "sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "akia", "asia"),
    *("aiza", "nvapi-", "wandb_", "eyj", "sig", "code="),
)
_SECRETS = tuple(
    (re.compile(pattern, re.MULTILINE), _Replacement(replacement))
    for pattern, replacement in (
        # tokens of the Hugging Face hub and keys of common makers, wherever they stand
        (r"(?<![A-Za-z0-9])(?:hf|api_org)_(?:(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{8,}|[A-Za-z0-9]{20,})", REMOVED),
        (
            r"(?<![A-Za-z0-9])(?:sk-[A-Za-z0-9_-]{8,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,})",
            REMOVED,
        ),
        (r"(?<![A-Za-z0-9])(?:xox[abprs]-[\w-]{8,}|A[KS]IA[A-Z0-9]{16}|AIza[\w-]{30,}|nvapi-[\w-]{16,})", REMOVED),
        (r"(?<![A-Za-z0-9])wandb_(?=[a-z_]{0,20}[A-Z0-9])\w{6,}", REMOVED),
        (r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]+)?", REMOVED),
        # headers
        (
            r"(?i)(authorization[\\'\"]{0,4}\s{0,8}[:=]\s{0,8}[\\'\"]{0,4})"
            r"(?:(?:bearer|basic|token|digest|negotiate|apikey)\s{1,8})?[^\s'\",}]+",
            rf"\1{REMOVED}",
        ),
        (r"(?i)\b(bearer\s{1,8})[A-Za-z0-9._~+/=-]{4,}", rf"\1{REMOVED}"),
        (r"(?i)(cookie['\"]?: {0,8}['\"]?)[^'\"\n]+", rf"\1{REMOVED}"),
        # what a user asked
        (rf"(Received request [^\s:]{{1,200}}: prompt: )({_VALUE})", rf"\1{REMOVED}"),
        # --api-key X Y: all up to the next option
        (
            r"(?i)(--(?:[a-z]{1,20}-){0,3}(?:api-?key|token|password|passphrase|secret)(?:=|[ \t]{1,8}))"
            r"(" + _VALUE + r"(?:[ \t]{1,8}(?!-)[^\s,'\"})\]&]+)*)",
            rf"\1{REMOVED}",
        ),
        # api_key='X', 'api_key': ['X', 'Y'], VLLM_API_KEY=X, password: X, X-Api-Key: X
        (rf"(?i)({_NAME}{_SET})({_VALUE})", rf"\1{REMOVED}"),
        # in prose: "api key X", "password X"
        (
            rf"(?i)((?:{_NAME}|api key)[ \t]{{1,8}})((?=[^\s\d]{{0,40}}\d)[^\s,'\"}})\]]{{6,}})",
            rf"\1{REMOVED}",
        ),
        (
            r"(?i)((?<![A-Za-z])token[\\'\"]{0,4}[ \t]{0,8}[=:][ \t]{0,8}[\\'\"]{0,4})"
            r"(?=[A-Z._~+/-]{0,40}\d)[\w.~+/=-]{8,}",
            rf"\1{REMOVED}",
        ),
        (
            r"(?i)([?&](?:[a-z]{1,12}-){0,3}(?:sig|signature|token|key|credential|code|password)=)[^&\s'\"]+",
            rf"\1{REMOVED}",
        ),
        # https://user:word@host, https://word@host, and a proxy without a scheme; host:8000/a@b is none
        (r"(://)[^\s/:@'\"]{0,100}:(?!\d{1,5}[/?#])[^\s@'\"]{1,200}@", rf"\1{REMOVED}@"),
        (r"(://)[^\s/:@'\"]{1,400}@", rf"\1{REMOVED}@"),
        (
            r"(?i)(proxy[\\'\"]{0,4}\s{0,8}[=:]\s{0,8}[\\'\"]{0,4})[^\s/:@'\"]{1,100}:[^\s@'\"]{1,200}@",
            rf"\1{REMOVED}@",
        ),
    )
)


def redacted(text: str) -> str:
    """Return a text without tokens, keys and passwords."""
    if "PRIVATE KEY-----" in text:
        text = _PRIVATE_KEY.sub(rf"\1{REMOVED}", text)
    return "".join(map(_of_part, _PARTS.findall(text)))


_SHORTEST = min(map(len, _TELLING))


def _of_part(part: str) -> str:
    if len(part) < _SHORTEST:
        return part
    lowered = part.lower()
    if any(word in lowered for word in _TELLING):
        for pattern, replacement in _SECRETS:
            part = pattern.sub(replacement, part)
    return part
