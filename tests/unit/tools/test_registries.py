from __future__ import annotations

import configparser
import textwrap
from pathlib import Path

import pytest
import tomllib
from hypothesis import given
from hypothesis import strategies as st

from tools.nodes.errors import NodeError
from tools.nodes.registries import (
    PipSettings,
    apt_settings,
    apt_sources,
    environment_file,
    local_folder,
    local_folders,
    missing_certificates,
    node_resolv_conf,
    offers_cpu_torch,
    pip_conf,
    pip_files,
    pip_settings,
    uv_toml,
)

FULL = PipSettings(
    index_url="https://mirror.example/simple",
    extra_index_urls=("file:///srv/pypi/simple", "https://more.example/simple"),
    find_links=("/srv/wheels",),
    trusted_hosts=("mirror.example",),
    cert="/etc/ssl/company.pem",
    timeout_s="180",
)


def test_later_files_and_then_variables_win() -> None:
    files = [
        "[global]\nindex-url = https://one.example/simple\ncert = /one.pem\ntimeout = 10\n",
        "[global]\nindex_url = https://two.example/simple\n[install]\nfind-links = /a\n  /b\n",
    ]
    settings = pip_settings(
        files, {"PIP_CERT": "/three.pem", "PIP_EXTRA_INDEX_URL": "https://x.example https://y.example"}
    )
    assert settings == PipSettings(
        index_url="https://two.example/simple",
        extra_index_urls=("https://x.example", "https://y.example"),
        find_links=("/a", "/b"),
        cert="/three.pem",
        timeout_s="10",
    )


def test_install_wins_over_global_whatever_the_file() -> None:
    files = ["[install]\nindex-url = https://install.example\n", "[global]\nindex-url = https://global.example\n"]
    assert pip_settings(files, {}).index_url == "https://install.example"


def test_the_bundle_may_come_from_openssl_s_own_variable() -> None:
    assert pip_settings([], {"SSL_CERT_FILE": "/a.pem"}).cert == "/a.pem"
    assert pip_settings([], {"SSL_CERT_FILE": "/a.pem", "PIP_CERT": "/b.pem"}).cert == "/b.pem"


def test_nothing_said_is_nothing_set() -> None:
    assert pip_settings([], {}) == PipSettings()
    assert pip_settings(["[global]\nindex-url =\n"], {}) == PipSettings()


def test_a_broken_file_is_met_with_a_sentence() -> None:
    with pytest.raises(NodeError, match="pip's configuration on this machine cannot be read"):
        pip_settings(["index-url = https://one.example\n"], {})


def test_a_named_file_comes_last() -> None:
    files = pip_files({"PIP_CONFIG_FILE": "/named.conf", "XDG_CONFIG_HOME": "/xdg"}, Path("/home/a"))
    assert files[-2:] == [Path("/xdg/pip/pip.conf"), Path("/named.conf")]


@pytest.mark.parametrize(
    ("location", "folder"),
    [
        ("/srv/wheels", "/srv/wheels"),
        ("file:///srv/wheels", "/srv/wheels"),
        ("file:///srv/my%20wheels", "/srv/my wheels"),
        ("file:///srv/pypi/simple", "/srv/pypi"),
        ("file:///srv/pypi/simple/", "/srv/pypi"),
        ("file:///simple", "/simple"),
        ("https://mirror.example/simple", None),
        ("wheels", None),
    ],
)
def test_local_folder(location: str, folder: str | None) -> None:
    assert local_folder(location) == (Path(folder) if folder else None)


def test_a_folder_inside_another_is_not_mounted_twice() -> None:
    settings = PipSettings(find_links=("/srv/pypi/files", "/opt/w"), extra_index_urls=("file:///srv/pypi/simple",))
    assert local_folders(settings) == [Path("/opt/w"), Path("/srv/pypi")]


@pytest.mark.parametrize(
    ("names", "offered"),
    [
        (["torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl"], True),
        (["torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl"], False),
        (["torchvision-0.25.0+cpu-cp311-cp311-linux_x86_64.whl"], False),
        ([], False),
    ],
)
def test_offers_cpu_torch(names: list[str], offered: bool) -> None:
    assert offers_cpu_torch(names) is offered


def test_pip_conf_says_the_same_with_the_node_s_own_bundle() -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(pip_conf(FULL))
    assert dict(parser["global"]) == {
        "index-url": "https://mirror.example/simple",
        "extra-index-url": "file:///srv/pypi/simple https://more.example/simple",
        "find-links": "/srv/wheels",
        "trusted-host": "mirror.example",
        "timeout": "180",
        "cert": "/etc/ssl/certs/ca-certificates.crt",
        "disable-pip-version-check": "1",
    }


def test_uv_toml_leaves_out_a_local_extra_index() -> None:
    assert tomllib.loads(uv_toml(FULL)) == {
        "cache-dir": "/var/cache/uv",
        "link-mode": "copy",
        "system-certs": True,
        "find-links": ["/srv/wheels"],
        "allow-insecure-host": ["mirror.example"],
        "index": [{"url": "https://more.example/simple"}, {"url": "https://mirror.example/simple", "default": True}],
    }


@given(st.lists(st.text(st.characters(min_codepoint=0x20, blacklist_characters="\x7f", codec="utf-8"))))
def test_uv_toml_is_toml_whatever_the_path(paths: list[str]) -> None:
    settings = PipSettings(find_links=tuple(paths))
    assert tomllib.loads(uv_toml(settings)).get("find-links", []) == paths


def test_proxies_are_written_in_both_spellings() -> None:
    text = environment_file(
        PipSettings(timeout_s="60"), {"HTTPS_PROXY": "http://p:3128", "no_proxy": "localhost", "A": "b"}
    )
    assert text.splitlines() == [
        'HTTPS_PROXY="http://p:3128"',
        'NO_PROXY="localhost"',
        'UV_HTTP_TIMEOUT="60"',
        'https_proxy="http://p:3128"',
        'no_proxy="localhost"',
    ]


def test_apt_settings_keep_what_reaches_an_archive() -> None:
    dump = textwrap.dedent("""\
        APT::Architecture "amd64";
        Acquire "";
        Acquire::http::Proxy "http://p:3128";
        Acquire::http::Proxy::deb.example "DIRECT";
        Acquire::https::Proxy "";
        Acquire::Check-Valid-Until "false";
        Acquire::IndexTargets::deb::Packages::Optional "0";
        DPkg::Post-Invoke:: "something";
        """)
    assert apt_settings(dump).splitlines() == [
        'Acquire::http::Proxy "http://p:3128";',
        'Acquire::http::Proxy::deb.example "DIRECT";',
        'Acquire::Check-Valid-Until "false";',
    ]


def test_a_debian_machine_lends_its_mirrors() -> None:
    targets = textwrap.dedent("""\
        http://mirror.example/debian/ bookworm main
        http://mirror.example/debian/ bookworm contrib
        http://mirror.example/debian-security/ bookworm-security main
        https://docker.example/linux/debian bookworm stable
        https://node.example/node_20.x nodistro main
        """)
    assert apt_sources("trixie", "bookworm", targets) == [
        "deb http://mirror.example/debian trixie main",
        "deb http://deb.debian.org/debian trixie-updates main",
        "deb http://mirror.example/debian-security trixie-security main",
    ]


@pytest.mark.parametrize("targets", ["", "http://archive.ubuntu.example/ubuntu noble main\n", "one-word\n"])
def test_another_distribution_uses_debian_s_servers(targets: str) -> None:
    assert apt_sources("bookworm", "", targets)[0] == "deb http://deb.debian.org/debian bookworm main"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["nameserver 192.0.2.53\n"], "nameserver 192.0.2.53\n"),
        (["nameserver 127.0.0.53\n", "nameserver 192.0.2.1\n"], "nameserver 192.0.2.1\n"),
        (
            ["search a.example\nnameserver ::1\nnameserver fe80::1%eth0\n"],
            "search a.example\nnameserver fe80::1%eth0\n",
        ),
        (["# nameserver 192.0.2.9\n", "options edns0\nnameserver 192.0.2.1"], "options edns0\nnameserver 192.0.2.1\n"),
    ],
)
def test_node_resolv_conf(texts: list[str], expected: str) -> None:
    assert node_resolv_conf(texts) == expected


@pytest.mark.parametrize("texts", [[], [""], ["nameserver 127.0.0.1\n", "nameserver ::1\n"], ["nameserver nonsense\n"]])
def test_no_usable_name_server_is_met_with_a_sentence(texts: list[str]) -> None:
    with pytest.raises(NodeError, match="asks only name servers on its own loopback address"):
        node_resolv_conf(texts)


def _pem(body: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"


def test_only_unknown_certificates_are_added_once() -> None:
    control = "# comment\n" + _pem("QUFB") + _pem("QkJC\nQkJC") + _pem("QkJCQkJC")
    assert missing_certificates(control, _pem("QUFB")) == [_pem("QkJCQkJC")]


def test_long_certificates_are_folded_as_pem_wants() -> None:
    (text,) = missing_certificates(_pem("A" * 130), "")
    assert [len(line) for line in text.splitlines()[1:-1]] == [64, 64, 2]
