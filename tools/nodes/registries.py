"""The control machine's way to the package registries, in forms that a node takes over.

Pure functions: texts and settings in, texts out.
"""

from __future__ import annotations

import configparser
import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from tools.nodes.errors import NodeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

NODE_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
UV_CACHE = "/var/cache/uv"

_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
# Settings of apt that say how to reach an archive, or what to accept from one that is a snapshot.
_APT_SETTINGS = re.compile(
    r"Acquire::(https?::(Proxy|Timeout|Verify)|Check-|Retries|ForceIPv|Max-ValidTime)", re.IGNORECASE
)
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\s+(.*?)-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class PipSettings:
    """What pip is told about where packages come from."""

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    cert: str | None = None
    timeout_s: str | None = None


def pip_settings(files: Iterable[str], environment: Mapping[str, str]) -> PipSettings:
    """Merge pip's configuration as pip does: later files win over earlier ones, [install] over [global],
    PIP_* variables over all (pip's documentation, "Configuration": precedence).

    `files` are the contents in pip's order. Raises NodeError for text that is not a configuration file.
    """
    merged: dict[str, str] = {}
    for section in ("global", "install"):
        for text in files:
            parser = configparser.RawConfigParser()
            try:
                parser.read_string(text)
            except configparser.Error as error:
                raise NodeError(f"pip's configuration on this machine cannot be read: {error}") from error
            if parser.has_section(section):
                merged.update({key.replace("_", "-"): value for key, value in parser.items(section)})
    for name, value in environment.items():
        if name.startswith("PIP_"):
            merged[name[4:].lower().replace("_", "-")] = value
    return PipSettings(
        index_url=merged.get("index-url") or None,
        extra_index_urls=tuple(merged.get("extra-index-url", "").split()),
        find_links=tuple(merged.get("find-links", "").split()),
        trusted_hosts=tuple(merged.get("trusted-host", "").split()),
        cert=merged.get("cert") or environment.get("SSL_CERT_FILE") or None,
        timeout_s=merged.get("timeout") or merged.get("default-timeout") or None,
    )


def pip_files(environment: Mapping[str, str], home: Path) -> list[Path]:
    """Files that pip reads on Linux, in its order (pip's documentation, "Configuration": location)."""
    xdg = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    files = [
        Path("/etc/xdg/pip/pip.conf"),
        Path("/etc/pip.conf"),
        home / ".pip/pip.conf",
        xdg / "pip/pip.conf",
    ]
    named = environment.get("PIP_CONFIG_FILE")
    return [*files, Path(named)] if named else files


def local_folder(location: str) -> Path | None:
    """The folder of this machine that a find-links entry or an index URL needs, or None for a remote one.

    A folder called `simple` is a PEP 503 index, whose links may lead to its siblings: its parent is needed.
    """
    url = urlsplit(location)
    if url.scheme not in ("", "file"):
        return None
    path = Path(unquote(url.path) if url.scheme else location)
    if not path.is_absolute():
        return None
    return path.parent if path.name == "simple" and path.parent != Path("/") else path


def local_folders(settings: PipSettings) -> list[Path]:
    """Every local folder that `settings` name, without those that lie inside another, sorted."""
    index = (settings.index_url,) if settings.index_url else ()
    named = (local_folder(location) for location in (*index, *settings.extra_index_urls, *settings.find_links))
    folders = {path for path in named if path is not None}
    return sorted(path for path in folders if not any(other in path.parents for other in folders))


def offers_cpu_torch(file_names: Iterable[str]) -> bool:
    """Whether files of the folders that pip looks into hold a CPU build of torch, which PyPI does not have."""
    return any(re.fullmatch(r"torch-[\d.]+\+cpu-.*\.whl", name) for name in file_names)


def pip_conf(settings: PipSettings) -> str:
    """The node's /etc/pip.conf. Its bundle holds the control machine's certificates at the usual path."""
    values = {
        "index-url": settings.index_url or "",
        "extra-index-url": " ".join(settings.extra_index_urls),
        "find-links": " ".join(settings.find_links),
        "trusted-host": " ".join(settings.trusted_hosts),
        "timeout": settings.timeout_s or "",
        "cert": NODE_BUNDLE if settings.cert else "",
        "disable-pip-version-check": "1",
    }
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in values.items() if value)


def _toml(text: str) -> str:
    """A TOML basic string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def uv_toml(settings: PipSettings) -> str:
    """The node's /etc/uv/uv.toml, equivalent to `pip_conf` but for local extra indexes.

    Those are left out: uv takes a package from the first index that has its name, so a local index that
    holds a few old files would hide PyPI.
    """
    lines = [
        f"cache-dir = {_toml(UV_CACHE)}",
        # The cache is a mount of its own, where hard links cannot reach.
        'link-mode = "copy"',
        "system-certs = true",
    ]
    if settings.find_links:
        lines.append(f"find-links = [{', '.join(map(_toml, settings.find_links))}]")
    if settings.trusted_hosts:
        lines.append(f"allow-insecure-host = [{', '.join(map(_toml, settings.trusted_hosts))}]")
    for url in settings.extra_index_urls:
        if urlsplit(url).scheme not in ("", "file"):
            lines += ["", "[[index]]", f"url = {_toml(url)}"]
    if settings.index_url:
        lines += ["", "[[index]]", f"url = {_toml(settings.index_url)}", "default = true"]
    return "\n".join(lines) + "\n"


def environment_file(settings: PipSettings, environment: Mapping[str, str]) -> str:
    """The node's /etc/environment: proxies in both spellings, and what uv only takes from a variable."""
    values = {}
    for name in _PROXIES:
        value = environment.get(name) or environment.get(name.upper())
        if value:
            values[name] = values[name.upper()] = value
    if settings.timeout_s:
        values["UV_HTTP_TIMEOUT"] = settings.timeout_s
    return "".join(f'{name}="{value}"\n' for name, value in sorted(values.items()))


def apt_settings(dump: str) -> str:
    """Lines of `apt-config dump` that a node needs to reach the same archives."""
    lines = (line for line in dump.splitlines() if _APT_SETTINGS.match(line) and not line.endswith('"";'))
    return "".join(f"{line}\n" for line in lines)


def apt_sources(suite: str, own_suite: str, targets: str) -> list[str]:
    """Source lines of a Debian `suite`, with this machine's mirrors where it is Debian itself.

    `targets` is what `apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)'` says, `own_suite`
    this machine's VERSION_CODENAME ("" where it is not Debian). An archive that the machine does not use is
    taken from Debian's own servers.
    """
    mirrors = {
        "": "http://deb.debian.org/debian",
        "-updates": "http://deb.debian.org/debian",
        "-security": "http://deb.debian.org/debian-security",
    }
    for line in targets.splitlines():
        uri, release, component = [*line.split(), "", "", ""][:3]
        pocket = release[len(own_suite) :]
        ours = bool(own_suite) and release.startswith(own_suite) and pocket in mirrors
        if ours and component == "main" and "debian" in urlsplit(uri).path:
            mirrors[pocket] = uri.rstrip("/")
    return [f"deb {uri} {suite}{pocket} main" for pocket, uri in mirrors.items()]


def name_servers(resolv_conf: str) -> list[str]:
    """Name servers in a resolv.conf that another network namespace could reach."""
    servers = re.findall(r"^nameserver\s+(\S+)", resolv_conf, re.MULTILINE)
    return [server for server in servers if _is_reachable(server.split("%")[0])]


def _is_reachable(server: str) -> bool:
    """Whether the text is an address outside the loopback network."""
    try:
        return not ipaddress.ip_address(server).is_loopback
    except ValueError:
        return False


def node_resolv_conf(texts: Sequence[str]) -> str:
    """The first of `texts` (resolv.conf contents, best first) that a node can use, without loopback servers.

    Raises NodeError when none names a server that a node could reach.
    """
    for text in texts:
        servers = name_servers(text)
        if servers:
            others = [line for line in text.splitlines() if re.match(r"(search|domain|options)\s", line)]
            return "\n".join([*others, *(f"nameserver {server}" for server in servers)]) + "\n"
    raise NodeError(
        "This machine asks only name servers on its own loopback address, which a node cannot reach. "
        "Name one of the network's servers in /etc/resolv.conf."
    )


def certificates(bundle: str) -> list[str]:
    """The certificates of a PEM bundle, each as its bare base64 text."""
    return ["".join(body.split()) for body in _CERTIFICATE.findall(bundle)]


def missing_certificates(control_bundle: str, node_bundle: str) -> list[str]:
    """PEM texts of certificates that the control machine trusts and the node does not, in order."""
    known = set(certificates(node_bundle))
    missing = [body for body in dict.fromkeys(certificates(control_bundle)) if body not in known]
    return [
        "-----BEGIN CERTIFICATE-----\n"
        + "".join(f"{body[at : at + 64]}\n" for at in range(0, len(body), 64))
        + "-----END CERTIFICATE-----\n"
        for body in missing
    ]
