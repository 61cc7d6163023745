"""The variables of the roles, and what is documented of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import instances
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.driver_wishes import Wishes
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rocm_wishes import RocmWishes

from tests.unit.samples import CHECKOUT
from tests.unit.templating import load_trusted, render

ROLES = sorted(CHECKOUT.glob("roles/*"), key=lambda path: path.name)
# Options that a role has no default for: these are a person's to write.
WITHOUT_DEFAULT = {
    "layout": {"vllm_calibration", "vllm_models"},
    "repository_key": {"repository_key_url", "repository_key_path", "repository_key_fingerprints"},
}


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {} if path.exists() else {}


def specs(role: Path) -> dict[str, Any]:
    found: dict[str, Any] = load(role / "meta/argument_specs.yml")["argument_specs"]
    return found


def computed(value: object) -> bool:
    return "{{" in str(value)


def test_there_are_roles() -> None:
    assert {"cuda", "engine", "layout", "model", "serve", "warmup"} <= {role.name for role in ROLES}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
class TestRole:
    def test_every_default_is_documented_and_every_option_has_one(self, role: Path) -> None:
        defaults, options = load(role / "defaults/main.yml"), specs(role)["main"]["options"]
        assert set(options) - WITHOUT_DEFAULT.get(role.name, set()) == set(defaults)
        documented = {name: option["default"] for name, option in options.items() if "default" in option}
        assert documented == {name: value for name, value in defaults.items() if not computed(value)}

    def test_names_begin_with_the_role(self, role: Path) -> None:
        assert all(name.startswith(f"{role.name}_") for name in load(role / "defaults/main.yml"))
        assert all(name.startswith(f"__{role.name}_") for name in load(role / "vars/main.yml"))

    def test_every_entry_point_is_a_file_of_tasks(self, role: Path) -> None:
        for name, entry in specs(role).items():
            assert (role / "tasks" / f"{name}.yml").exists()
            assert entry["description"]

    def test_every_private_name_is_set_somewhere(self, role: Path) -> None:
        texts = [path.read_text(encoding="utf-8") for path in role.rglob("*") if path.is_file()]
        used = {name for text in texts for name in re.findall(rf"\b__{role.name}_\w+", text)}
        pattern = rf"^ *(?:register: |loop_var: )?(__{role.name}_\w+)(?::|$)"
        made = {name for text in texts for name in re.findall(pattern, text, re.MULTILINE)}
        assert used == made


def described_models() -> list[str]:
    option = specs(CHECKOUT / "roles/layout")["main"]["options"]["vllm_models"]
    return [text for text in option["description"] if text.startswith("C(")]


def test_vllm_models_is_documented_field_by_field() -> None:
    names = [match[1] for text in described_models() if (match := re.match(r"C\((\w+)\) \(", text))]
    assert len(names) == len(described_models())
    assert names == list(instances.FIELDS)


def test_the_documented_defaults_of_vllm_models_are_the_real_ones() -> None:
    made = instances.Instance(name="a", model="/m")
    for text in described_models():
        match = re.match(r"C\((\w+)\) \(.*?default V\(([^)]*)\)", text)
        if match:
            real = getattr(made, match[1])
            assert match[2] == ("auto" if real is None else str(real)), match[1]


@pytest.mark.parametrize(
    ("role", "variable", "follows"),
    [
        ("serve", "serve_engine_root", "engine_root"),
        ("serve", "serve_hub_cache", "model_hub_cache"),
        ("nccl_check", "nccl_check_user", "serve_user"),
        ("model", "model_engine_root", "engine_root"),
        ("model", "model_hub_endpoint", "layout_hub_endpoint"),
    ],
)
def test_what_roles_share_is_written_once(role: str, variable: str, follows: str) -> None:
    """An inventory that moves the engine, the cache or the hub says so in one place."""
    defaults = load_trusted(CHECKOUT / "roles" / role / "defaults" / "main.yml")
    owner = load_trusted(CHECKOUT / "roles" / follows.split("_")[0] / "defaults" / "main.yml")
    text = f"{{{{ {variable} }}}}"
    assert render(text, {**defaults, follows: "elsewhere"}) == "elsewhere"
    assert render(text, defaults) == owner[follows]


def test_hosts_are_checked_for_the_release_that_is_installed() -> None:
    variants = load_trusted(CHECKOUT / "roles/engine/vars/main.yml")["__engine_variants"]
    for role in ("cuda", "rocm"):
        defaults = load_trusted(CHECKOUT / f"roles/{role}/defaults/main.yml")
        assert render(f"{{{{ {role}_engine_version }}}}", defaults) == variants[role]["version"]
        assert render(f"{{{{ {role}_engine_version }}}}", {**defaults, "engine_version": "0.32.0"}) == "0.32.0"


@pytest.mark.parametrize(("role", "read"), [("cuda", Wishes.read), ("rocm", RocmWishes.read)])
def test_the_filter_of_a_drivers_role_gets_every_wish(role: str, read: Callable[[Any], object]) -> None:
    """Each name is the variable's without its prefix, and a wish that is not passed on would not be noticed."""
    wishes = load_trusted(CHECKOUT / f"roles/{role}/vars/main.yml")[f"__{role}_wishes"]
    defaults = load_trusted(CHECKOUT / f"roles/{role}/defaults/main.yml")
    for name, value in wishes.items():
        assert f"{role}_{name}" in defaults
        assert str(value) == f"{{{{ {role}_{name} }}}}"
    read(render("{{ wishes }}", {**defaults, "wishes": wishes}))
