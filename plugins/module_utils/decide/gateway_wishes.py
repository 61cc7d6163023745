# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say what is wrong with what a person asked of a gateway, before the first change. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

UNIT = "haproxy.service"
KEY_NAME = re.compile(r"[A-Za-z0-9_.-]+")
# A digest of a short key can be found by trying.
KEY_LENGTH = 24
# HAProxy's req.hdr ends a value at a comma.
KEY = re.compile(r"[\x21-\x2b\x2d-\x7e]+")
ALIAS = re.compile(r"[A-Za-z0-9._:/@-]+")
ROUTE = re.compile(r"/[A-Za-z0-9._/-]*")
# Who wrote the configuration that is on the host.
FOREIGN = "other"


def problems(
    wishes: Mapping[str, Any],
    backends: Sequence[Mapping[str, Any]],
    listeners: Sequence[Mapping[str, Any]],
    config: str,
) -> list[str]:
    """Return a sentence for each fault; none of them shows a key.

    ``wishes`` are the role's variables without their prefix, ``listeners`` is what host_info returned for the ports,
    ``config`` what gateway_info says of HAProxy's configuration.
    """
    return [
        *_keys(wishes["api_keys"], wishes["anonymous"]),
        *_aliases(wishes["aliases"], [backend["name"] for backend in backends]),
        *_routes(wishes["routes"]),
        *_certificate(wishes),
        *_ports(wishes["ports"], listeners),
        *_owner(config, wishes["take_over"]),
    ]


def _keys(keys: Any, anonymous: bool) -> Iterator[str]:
    if not isinstance(keys, Mapping):
        yield "gateway_api_keys is not a mapping; write a name for each key, such as 'team-a: the key'."
        return
    if not keys and not anonymous:
        yield (
            "gateway_api_keys is empty, so everybody who reaches the gateway could use the models. Write a key for "
            "each client, or set gateway_anonymous to true where something else keeps others away."
        )
    if keys and anonymous:
        yield "gateway_anonymous is true and there are gateway_api_keys; write one of them."
    seen: dict[str, str] = {}
    for position, (name, key) in enumerate(keys.items(), 1):
        # neither is shown: they may have been exchanged
        place = f"gateway_api_keys, entry {position} of {len(keys)}"
        if not KEY_NAME.fullmatch(str(name)):
            yield f"{place}: its name is none for a key; use letters, digits, '.', '-' and '_'."
        if not isinstance(key, str) or not KEY.fullmatch(key) or len(key) < KEY_LENGTH:
            yield (
                f"{place}: write a name, and then a key of at least {KEY_LENGTH} characters without spaces and commas, "
                "such as 'openssl rand -hex 24' prints."
            )
        elif key in seen:
            yield f"gateway_api_keys: {seen[key]} and {name} have the same key, so the log could not tell them apart."
        else:
            seen[key] = str(name)


def _aliases(aliases: Mapping[str, str], names: Sequence[str]) -> Iterator[str]:
    for alias, name in aliases.items():
        if name not in names:
            yield f"gateway_aliases.{alias} is {name!r}, which no host serves; the models are {', '.join(names)}."
        if alias in names:
            yield f"gateway_aliases.{alias} is the name of a model already; take it out."
        if not ALIAS.fullmatch(str(alias)):
            yield f"gateway_aliases: {alias!r} is no name of a model; use letters, digits and . _ : / @ - only."


def _routes(routes: Sequence[str]) -> Iterator[str]:
    for route in routes:
        if not ROUTE.fullmatch(str(route)):
            yield f"gateway_routes: {route!r} is no path; write one such as /v1/completions, or /v1/ for all below it."


def _certificate(wishes: Mapping[str, Any]) -> Iterator[str]:
    path, content = wishes["tls_certificate"], wishes["tls_pem"]
    if path and content:
        yield "gateway_tls_certificate and gateway_tls_pem are both set; write one of them."
    if path and not wishes["tls_certificate_exists"]:
        yield (
            f"gateway_tls_certificate is {path}, which is not on the gateway. Put certificate, chain and key into this "
            "one file there, or give them to gateway_tls_pem."
        )
    if content and ("-----BEGIN CERTIFICATE-----" not in content or "PRIVATE KEY-----" not in content):
        yield "gateway_tls_pem has to hold a certificate, its chain and its private key, in PEM, one after the other."


def _ports(ports: Mapping[str, int], listeners: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for variable, port in ports.items():
        for listener in listeners:
            if listener["port"] != port or listener["unit"] == UNIT:
                continue
            holder = listener["process"] or "a process that cannot be seen"
            unit = f" ({listener['unit']})" if listener["unit"] else ""
            yield f"Port {port} is already in use by {holder}{unit}. Write another one in {variable}, or stop that."


def _owner(config: str, take_over: bool) -> Iterator[str]:
    if config == FOREIGN and not take_over:
        yield (
            "/etc/haproxy/haproxy.cfg was written by somebody else, and this role would replace it. Give the gateway a "
            "host of its own, or set gateway_take_over to true."
        )
