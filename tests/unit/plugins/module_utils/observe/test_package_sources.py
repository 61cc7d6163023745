"""Sources of apt and dnf, in the ways that people and packages write them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import package_sources
from hypothesis import given
from hypothesis import strategies as st

URL = "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/"
KEYRING = f"deb [signed-by=/usr/share/keyrings/cuda-archive-keyring.gpg] {URL} /\n"


def short(entries: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("place", "enabled", "uri", "suite", "signed_by")
    return [tuple(entry[name] for name in names) for entry in entries]


@pytest.mark.parametrize(
    ("line", "uri", "suite", "more"),
    [
        (KEYRING, URL, "/", {"signed_by": "/usr/share/keyrings/cuda-archive-keyring.gpg", "types": ["deb"]}),
        (f"deb\t{URL}\t/", URL, "/", {"signed_by": ""}),
        (f"  deb   [arch=amd64,arm64 trusted=yes]   {URL} / # NVIDIA", URL, "/", {"trusted": True}),
        (f"deb [ arch+=amd64 signed-by=/a.gpg,/b.gpg ] {URL} ./", URL, "./", {"signed_by": "/a.gpg,/b.gpg"}),
        ("deb-src http://deb.debian.org/debian bookworm main", "http://deb.debian.org/debian", "bookworm", {}),
        (
            "deb cdrom:[Debian 12 _Bookworm_ amd64]/ bookworm main",
            "cdrom:[Debian 12 _Bookworm_ amd64]/",
            "bookworm",
            {},
        ),
        ("deb http://me:secret@mirror:81/x /", "http://mirror:81/x", "/", {}),
    ],
)
def test_a_line(line: str, uri: str, suite: str, more: dict[str, Any]) -> None:
    (entry,) = package_sources.parse_list("/etc/apt/sources.list", f"# first\n\n{line}\n")
    assert (entry["place"], entry["uri"], entry["suite"], entry["problem"]) == (3, uri, suite, "")
    assert {name: entry[name] for name in more} == more
    assert "secret" not in str(entry)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"deb [signed-by=/a.gpg {URL} /", "no closing bracket"),
        ("deb", "no URI or no suite"),
        (f"deb {URL}", "no URI or no suite"),
        (f"rpm {URL} /", "'rpm' is no type"),
        ("<!DOCTYPE html>", "is no type"),
    ],
)
def test_a_line_that_apt_refuses(line: str, words: str) -> None:
    (entry,) = package_sources.parse_list("/etc/apt/sources.list", line)
    assert words in entry["problem"]


DEB822 = f"""\
# from the image
Types: deb deb-src
URIs: http://deb.debian.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

types: deb
Enabled: no
uris: {URL}
suites: /
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBGJYmlEBEAC6nJmeqByeReM+MSy4palACCnfOg4pOxffrrkldxz4jrDOZNK4
 -----END PGP PUBLIC KEY BLOCK-----
"""


def test_paragraphs() -> None:
    first, second, third = package_sources.parse_deb822("/x.sources", DEB822)
    assert short([first, second]) == [
        (2, True, "http://deb.debian.org/debian", suite, "/usr/share/keyrings/debian-archive-keyring.gpg")
        for suite in ("bookworm", "bookworm-updates")
    ]
    assert (third["place"], third["enabled"], third["uri"], third["signed_by"]) == (8, False, URL, "embedded")
    assert third["embedded_key"].splitlines()[1] == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Types: deb\nURIs: http://x\n", "no Suites"),
        ("deb http://x /\n", "no Types, URIs, Suites"),
        ("Types: deb\nURIs:\nSuites: /\n", "no URIs"),
    ],
)
def test_a_paragraph_that_apt_refuses(text: str, words: str) -> None:
    (entry,) = package_sources.parse_deb822("/x.sources", text)
    assert words in entry["problem"]


REPO = """\
[cuda-rhel9-x86_64]
name=cuda-rhel9-x86_64
baseurl=https://developer.download.nvidia.com/compute/cuda/repos/rhel9/$basearch
enabled=1
gpgcheck=1
gpgkey=https://developer.download.nvidia.com/compute/cuda/repos/rhel9/x86_64/D42D0685.pub
exclude=dcgm
  nvidia-*

# kept
[other]
enabled = 0
baseurl = http://mirror/a
  http://mirror/b
"""


def test_sections_of_dnf() -> None:
    cuda, first, second = package_sources.parse_repo("/x.repo", REPO, "x86_64")
    assert cuda["uri"].endswith("/rhel9/x86_64")
    assert (cuda["place"], cuda["enabled"], cuda["excludes"]) == ("cuda-rhel9-x86_64", True, ["dcgm", "nvidia-*"])
    assert [one["uri"] for one in (first, second)] == ["http://mirror/a", "http://mirror/b"]
    assert not first["enabled"]
    assert first["shared"]
    text = "[a]\nbaseurl=http://m/rhel$releasever/${basearch}/$other\n"
    assert package_sources.parse_repo("", text, "x86_64", "9")[0]["uri"] == "http://m/rhel9/x86_64/$other"
    (broken,) = package_sources.parse_repo("/x.repo", "enabled=1\n", "x86_64")
    assert "no section headers" in broken["problem"]


def test_packages_that_dnf_leaves_out() -> None:
    patterns = ["nvidia-*", "kmod-nvidia-*"]
    after = package_sources.with_excludes(REPO, "cuda-rhel9-x86_64", patterns)
    assert package_sources.parse_repo("", after, "")[0]["excludes"] == ["dcgm", "nvidia-*", "kmod-nvidia-*"]
    assert "# kept\n[other]\n" in after
    assert package_sources.with_excludes(after, "cuda-rhel9-x86_64", patterns) == after
    without = package_sources.without_excludes(after, "cuda-rhel9-x86_64", patterns)
    assert package_sources.parse_repo("", without, "")[0]["excludes"] == ["dcgm"]
    assert package_sources.without_excludes(without, "cuda-rhel9-x86_64", patterns) == without


PARSERS: dict[str, Any] = {
    "/x.list": package_sources.parse_list,
    "/x.sources": package_sources.parse_deb822,
    "/x.repo": lambda path, text: package_sources.parse_repo(path, text, "x86_64"),
}
ENTRIES = {
    "/x.list": [KEYRING, "deb http://mirror/x bookworm main\n", "# deb http://old /\n", "\n"],
    "/x.sources": [
        f"Types: deb\nURIs: {URL}\nSuites: /\n\n",
        "# note\nEnabled: yes\nTypes: deb\nURIs: http://m\nSuites: a b\nComponents: main\n\n\n",
        "Types: deb\nURIs: http://m http://n\nSuites: /\nEnabled: no\n\n",
    ],
    "/x.repo": [
        "[one]\nbaseurl=http://m\n",
        "[two]\nenabled=1\nbaseurl=http://n\n",
        "[three]\nbaseurl=http://o\nenabled=0\n",
    ],
}


@pytest.mark.parametrize("path", list(PARSERS))
@given(data=st.data())
def test_what_is_taken_out_of_use_is_out_and_all_else_stays(path: str, data: st.DataObject) -> None:
    pieces = ENTRIES[path]
    chosen = (
        data.draw(st.permutations(pieces))
        if path == "/x.repo"
        else data.draw(st.lists(st.sampled_from(pieces), max_size=6))
    )
    text = "".join(chosen)
    before = PARSERS[path](path, text)
    live = sorted({entry["place"] for entry in before if entry["enabled"]}, key=str)
    places = data.draw(st.lists(st.sampled_from(live), unique=True)) if live else []
    after = PARSERS[path](path, package_sources.disabled(path, text, places))
    left = [(e["uri"], e["suite"]) for e in after if e["enabled"]]
    assert left == [(e["uri"], e["suite"]) for e in before if e["enabled"] and e["place"] not in places]
    assert not [e for e in after if e["problem"]]


@pytest.mark.parametrize("path", list(PARSERS))
@given(text=st.text(alphabet=st.sampled_from('deb [signed-by=/a] http://u:p@x/ \n\t#:.=TypesURISu\x0c\u2028[]"')))
def test_any_text_is_read_and_no_password_is_told(path: str, text: str) -> None:
    for entry in PARSERS[path](path, text):
        assert entry["enabled"] in (True, False)
        assert "u:p@" not in entry["uri"]
    assert "//u:p@" not in package_sources.redacted(text)
    assert package_sources.disabled(path, text, []) == text or path == "/x.repo"
