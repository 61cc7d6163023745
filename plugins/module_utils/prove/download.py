# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say why a download from the hub ended, by what the tool wrote, and whether another attempt may help. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """Why a download ended: what is ``said``, the ``remedy``, and whether it may be over ``later``."""

    said: str
    remedy: str
    later: bool = False


UNREACHABLE = Cause(
    "the host does not reach the hub, or the proxy before it",
    "see its route and its proxy (model_https_proxy), or name a mirror in layout_hub_endpoint",
    later=True,
)
# What huggingface_hub 2.4 and its HTTP library print (each one tried against tests/hub_stand_in.py on 2026-12-01), the
# most telling first.
CAUSES: Sequence[tuple[str, Cause]] = (
    (
        r"No space left on device|Not enough free disk space|Disk quota exceeded",
        Cause("the disk is full", "free some, or name a folder on a larger disk in model_hub_cache"),
    ),
    (
        r"GatedRepo|Access to model .* is restricted|awaiting a review|Access denied.*requires approval",
        Cause(
            "the hub does not give this model to the host's token",
            "accept its licence with the account of vllm_hf_token",
        ),
    ),
    (
        r"407 Proxy Authentication|Proxy Authentication Required",
        Cause(
            "the proxy asks for a user and a password, or does not take those that it got",
            "write them into model_https_proxy and model_http_proxy, as http://USER:PASSWORD@HOST:PORT",
        ),
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|unable to get local issuer|UnknownIssuer",
        Cause(
            "the certificate that the host was shown is of an authority that the tool does not know, such as that of a "
            "proxy that inspects",
            "name a file with all authorities in model_ca_bundle, such as /etc/ssl/certs/ca-certificates.crt",
        ),
    ),
    (r"\b401\b|Invalid user token|Invalid credentials", Cause("the hub refuses the token", "renew vllm_hf_token")),
    (r"\b403\b|Forbidden", Cause("the hub, or a proxy before it, refuses the host", "see what the proxy allows")),
    (
        r"\b429\b|Too Many Requests",
        Cause(
            "the hub asks for patience (429)",
            "set vllm_hf_token, since accounts may ask more often than addresses, or name a mirror in "
            "layout_hub_endpoint, and run it again later",
            later=True,
        ),
    ),
    (
        r"larger than|too large to be downloaded using the regular",
        Cause("a file of more than 50 GB can be had by Xet only", "set model_xet: true"),
    ),
    (
        r"\b50[0234]\b (?:Internal|Bad|Service|Gateway|Server)|HTTP Error 50[0234]|Server error '50\d",
        Cause("the hub, or a proxy before it, has a fault of its own (5xx)", "run it again later", later=True),
    ),
    (
        r"Name or service not known|Temporary failure in name resolution|No address associated|nodename nor servname",
        Cause(
            "the name of the hub, or that of the proxy, cannot be resolved on the host",
            "see its /etc/resolv.conf, and the names in layout_hub_endpoint and model_https_proxy",
            later=True,
        ),
    ),
    (
        r"Network is unreachable|No route to host|Connection refused|ConnectError|ProxyError|offline mode",
        UNREACHABLE,
    ),
    (
        r"Read-only file system|Permission denied",
        Cause("the cache cannot be written", "name a folder in model_hub_cache that root may write on the host"),
    ),
    (
        r"Consistency check failed|peer closed connection|Connection reset|RemoteProtocolError|IncompleteRead",
        Cause("the connection broke off", "run it again; what was fetched whole is kept", later=True),
    ),
    (
        r"[Tt]imed? ?out",
        Cause("the hub answers too slowly", "run it again; what was fetched whole is kept", later=True),
    ),
    (
        r"Local entry not found|LocalEntryNotFound",
        UNREACHABLE,
    ),
)
# systemd's word for a unit whose RuntimeMaxSec is over.
TIMEOUT = "timeout"
UNKNOWN = Cause(
    "the tool says no more than the lines above", "run it again; what was fetched whole is kept", later=True
)


def stalled(seconds: int, xet: bool) -> Cause:
    """The cause when no byte arrived for some time; ``xet`` tells whether Xet was used."""
    also = ", or set model_xet: false, which leaves out the transfer by Xet" if xet else ""
    return Cause(
        f"no byte arrived for {seconds} s",
        f"see what holds it up between the host and the hub (a proxy, a firewall){also}, and run it again; what was "
        "fetched whole is kept",
        later=True,
    )


def cause(lines: Sequence[str], result: str) -> Cause:
    """Tell why the tool ended; ``result`` is systemd's word for how its unit ended."""
    if result == TIMEOUT:
        return Cause("it took longer than model_download_timeout", "raise it; what was fetched whole is kept")
    text = "\n".join(lines)
    # what it says last is what it ended with: the lines before are of attempts
    last = next((line for line in reversed(lines) if re.search(r"(?i)error", line)), "")
    found = _first(last, CAUSES[:-1]) or _first(text, CAUSES)
    return found or UNKNOWN


def _first(text: str, causes: Sequence[tuple[str, Cause]]) -> Cause | None:
    return next((found for pattern, found in causes if re.search(pattern, text)), None)
