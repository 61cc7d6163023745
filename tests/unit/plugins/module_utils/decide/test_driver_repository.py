"""Which source of NVIDIA's packages a host has, of those that hosts have."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import driver_repository
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.driver_repository import OWN
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import package_sources
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.driver_samples import ROCKY, UBUNTU, gpus, host, plan

NVIDIA = "EB693B3035CD5710E231E123A4B469963BF863CC"
OFFICIAL = "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64"
KEYRING = "/usr/share/keyrings/cuda-archive-keyring.gpg"
LIST, SOURCES = "/etc/apt/sources.list.d/cuda-debian12-x86_64.list", "/etc/apt/sources.list.d/nvidia.sources"


def entry(text: str, path: str = LIST, keys: Any = (NVIDIA,), missing: bool = False, **more: Any) -> dict[str, Any]:
    """The first entry of a file, with what was observed of its key."""
    parse: Any = package_sources.parse_deb822 if path.endswith(".sources") else package_sources.parse_list
    if path.endswith(".repo"):
        (found,) = package_sources.parse_repo(path, text, "x86_64")
    else:
        (found,) = parse(path, text)
    del found["embedded_key"]
    return {**found, "keys": list(keys) if keys else None, "missing": missing, "drivers": None, **more}


def one_line(url: str = OFFICIAL, options: str = f"[signed-by={KEYRING}] ", **more: Any) -> dict[str, Any]:
    return entry(f"deb {options}{url}/ /\n", **more)


def deb822(url: str = OFFICIAL, path: str = SOURCES, more: str = "", **facts: Any) -> dict[str, Any]:
    return entry(f"Types: deb\nURIs: {url}/\nSuites: /\nSigned-By: {KEYRING}\n{more}", path, **facts)


OURS = deb822(path=OWN["apt"])
LOCAL = one_line("file:///var/cuda-repo-debian12-13-0-local", path="/etc/apt/sources.list.d/cuda-local.list")
DEBIAN = entry("deb http://deb.debian.org/debian bookworm main\n", "/etc/apt/sources.list", keys=None)


def decided(*sources: dict[str, Any], keys: tuple[str, ...] = (), **wishes: Any) -> tuple[str, list[str], list[str]]:
    """Which file is used (``ours``: the role writes its own), which are taken out of use, which removed."""
    found = plan(host(sources=[DEBIAN, *sources], trusted_keys=list(keys)), gpus(), **wishes)
    assert found["problems"] == []
    used = found["sources"]["file"] or "ours"
    assert (found["repository"] is None) == (used != "ours")
    return used, [one["path"] for one in found["sources"]["disable"]], found["sources"]["remove"]


@pytest.mark.parametrize(
    ("sources", "wishes", "used", "disabled", "removed"),
    [
        ([], {}, "ours", [], []),
        ([OURS], {}, "ours", [], []),
        ([one_line()], {}, LIST, [], []),
        ([one_line(OFFICIAL.replace("https", "http"))], {}, LIST, [], []),
        ([deb822()], {}, SOURCES, [], []),
        # an earlier run of ours doubled it
        ([one_line(), OURS], {}, LIST, [], [OWN["apt"]]),
        # somebody else did
        ([one_line(), deb822(OFFICIAL.replace("https:", "http:") + "/")], {}, LIST, [SOURCES], []),
        ([one_line("http://mirror/cuda/repos/debian12/x86_64")], {}, LIST, [], []),
        # a person switched it off
        ([deb822(more="Enabled: no\n")], {}, "ours", [], []),
        # a mirror that is named
        ([one_line()], {"repository_url": "http://mirror/nvidia"}, "ours", [LIST], []),
        ([one_line("http://mirror/nvidia/"), OURS], {"repository_url": "http://mirror/nvidia"}, LIST, [], [OWN["apt"]]),
        # a repository on a disk, with the driver, without it, and gone
        ([{**LOCAL, "drivers": ["580.95.05"]}], {}, LOCAL["path"], [], []),
        ([{**LOCAL, "drivers": ["560.35.05"]}], {}, "ours", [LOCAL["path"]], []),
        ([{**LOCAL, "drivers": [], "missing": True}], {}, "ours", [LOCAL["path"]], []),
        ([{**LOCAL, "drivers": ["580.95.05"]}, deb822()], {}, SOURCES, [], []),
        # the key of before 2022, a key that is not there, another machine
        ([one_line(keys=["AE09FE4BBD223A84B2CCFCE3F60F4B3D7FA2AF80"])], {}, "ours", [LIST], []),
        ([one_line(keys=None, missing=True)], {}, "ours", [LIST], []),
        ([one_line(options="[arch=arm64] ")], {}, "ours", [LIST], []),
        ([one_line(options="", keys=None)], {}, "ours", [LIST], []),
        ([one_line(options="[trusted=yes] ", keys=None)], {}, LIST, [], []),
        # of another distribution, of something else
        ([one_line(OFFICIAL.replace("debian12", "debian11"))], {}, "ours", [], []),
        ([one_line("https://nvidia.github.io/libnvidia-container/stable/deb/amd64")], {}, "ours", [], []),
    ],
)
def test_what_hosts_have(
    sources: list[dict[str, Any]], wishes: dict[str, Any], used: str, disabled: list[str], removed: list[str]
) -> None:
    assert decided(*sources, **wishes) == (used, disabled, removed)


def test_a_key_that_apt_trusts_for_all_is_enough() -> None:
    assert decided(one_line(options="", keys=None), keys=(NVIDIA,))[0] == LIST


def test_it_says_what_it_does() -> None:
    found = plan(host(sources=[one_line(), OURS]), gpus())
    assert f"NVIDIA's packages come from {OFFICIAL}/, which {LIST} has already." in found["notices"]
    named = plan(host(sources=[one_line()]), gpus(), repository_url="http://mirror/x")
    assert "is taken out of use, since cuda_repository_url is http://mirror/x" in " ".join(named["notices"])
    both = plan(host(sources=[one_line(), one_line("http://m/repos/debian12/x86_64", path="/b.list")]), gpus())
    assert "it is left as it is" in " ".join(both["notices"])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (entry("deb http://x\n", "/etc/apt/sources.list.d/broken.list"), "broken.list, line 1, cannot be read by apt"),
        (
            {**deb822("http://mirror/debian12/x86_64", keys=None), "missing": True, "shared": True},
            "Give it an entry of its own",
        ),
    ],
)
def test_what_a_person_has_to_mend(source: dict[str, Any], words: str) -> None:
    found = plan(host(sources=[source]), gpus())
    assert words in found["problems"][0]
    assert found["repository"] is None


def test_a_kept_driver_leaves_the_sources_alone_but_for_a_double_of_ours() -> None:
    alone = plan(host(sources=[one_line(keys=None, missing=True)]), gpus(loaded="580.1"), driver="keep")
    assert not alone["sources"]["settle"]
    double = plan(host(sources=[one_line(), OURS]), gpus(loaded="580.1"), driver="keep")
    assert (double["sources"]["remove"], double["repository"], double["preferences"]) == ([OWN["apt"]], None, [])


def test_ubuntu_and_red_hat_have_other_places() -> None:
    ubuntu = one_line(OFFICIAL.replace("debian12", "ubuntu2404"))
    assert plan(host(distribution=UBUNTU, sources=[ubuntu]), gpus())["sources"]["file"] == LIST
    text = f"[cuda-rhel9]\nbaseurl={OFFICIAL.replace('debian12', 'rhel9')}\nenabled=1\n"
    repo = entry(text, "/etc/yum.repos.d/cuda-rhel9.repo", keys=None)
    found = plan(host(distribution=ROCKY, sources=[repo]), gpus())
    assert (found["sources"]["repo"], found["sources"]["excludes"]["place"]) == ("cuda-rhel9", "cuda-rhel9")
    own = {**repo, "path": OWN["dnf"], "place": "gpufleet-nvidia"}
    both = plan(host(distribution=ROCKY, sources=[repo, own]), gpus())
    assert both["sources"]["remove"] == [OWN["dnf"]]
    none = plan(host(distribution=ROCKY), gpus())
    assert (none["sources"]["repo"], none["sources"]["excludes"]) == ("gpufleet-nvidia", None)


SAMPLES = [OURS, one_line(), deb822(), LOCAL, one_line("http://m/cuda/repos/debian12/x86_64", path="/m.list"), DEBIAN]
SAMPLES += [deb822(more="Enabled: no\n"), one_line(keys=None, missing=True, path="/gone.list")]


@given(st.lists(st.sampled_from(SAMPLES), unique_by=lambda one: one["path"]), st.booleans())
def test_one_place_is_never_named_twice_afterwards(sources: list[dict[str, Any]], named: bool) -> None:
    wishes = {"repository_url": "http://m/cuda/repos/debian12/x86_64"} if named else {}
    found = plan(host(sources=sources), gpus(), **wishes)
    gone = {one["path"] for one in found["sources"]["disable"]} | set(found["sources"]["remove"]) | {OWN["apt"]}
    left = [driver_repository.place(one["uri"]) for one in sources if one["enabled"] and one["path"] not in gone]
    if found["repository"]:
        left.append(driver_repository.place(found["repository"]["url"]))
    assert len(left) == len(set(left))
    assert found["sources"]["uri"] or found["repository"]
