"""The argument specification of a role is its interface; defaults and README mirror it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
# `common` is a box of named entry points: nothing of it is applied by itself.
BOX = "common"
ENTRY_POINTS = {"main", "preflight", "selfcheck", "remove"}
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
# `assess` and the box do nothing on their own that could be removed.
APPLIED = [role for role in ROLES if role not in {BOX, "assess"}]
SECRET = re.compile(r"(password|secret|access_key|secret_key|ca_key|signing_key|token)$")
ASKED = [role for role in ROLES if role != "assess"]  # which asks the others


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None


@cache
def entry_points(role: str) -> dict[str, dict[str, Any]]:
    specs = load(ROOT / "roles" / role / "meta" / "argument_specs.yml")
    assert specs, f"roles/{role}/meta/argument_specs.yml is missing"
    return dict(specs["argument_specs"])


@cache
def defaults(role: str) -> dict[str, Any]:
    return dict(load(ROOT / "roles" / role / "defaults" / "main.yml") or {})


def options(role: str, entry_point: str = "main") -> dict[str, dict[str, Any]]:
    points = entry_points(role)
    if entry_point == "main" and "main" not in points:  # only entry points by name: common
        return {
            name: option
            for point in points.values()
            for name, option in (point.get("options") or {}).items()
        }
    return dict(points.get(entry_point, {}).get("options") or {})


def flat(text: object) -> object:
    """A template may be folded in one place and not in the other."""
    return " ".join(text.split()) if isinstance(text, str) else text


WIRED = re.compile(r"\{\{ __wired_\w+ \| default\((.*)\) \}\}")


def alone(value: object) -> object:
    """A default as it is without a site, which hands a value over under another name."""
    match = WIRED.fullmatch(str(flat(value)))
    if not match:
        return flat(value)
    try:
        computed = re.search(r"~|==", match[1])
        return f"{{{{ {match[1]} }}}}" if computed else yaml.safe_load(match[1])
    except yaml.YAMLError:
        return value


@pytest.mark.parametrize("role", ROLES)
def test_defaults_are_those_of_the_specification(role: str) -> None:
    promised = {
        name: flat(option["default"])
        for name, option in options(role).items()
        if "default" in option
    }
    kept = {name: alone(value) for name, value in defaults(role).items() if not secret(value)}
    assert kept == promised


def secret(default: object) -> bool:
    """A secret of the site, which is made where it is asked for: no specification tells it."""
    return "mlops.onprem.secret" in str(default)


def every_option(found: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Options with those inside them."""
    for name, option in found.items():
        yield name, option
        yield from every_option(option.get("options") or {})


@pytest.mark.parametrize("role", ROLES)
def test_no_specification_holds_or_asks_for_a_secret(role: str) -> None:
    """Ansible prints the whole specification, templates made out, when one argument is wrong."""
    for point, spec in entry_points(role).items():
        for name, option in every_option(spec.get("options") or {}):
            default = str(option.get("default", ""))
            where = f"{point}: {name}"
            assert not re.search(r"\b(lookup|query|q)\(", default), where
            read = set(re.findall(r"\w+", default)) if "{{" in default else set()
            assert not [word for word in read if SECRET.search(word)], where
            if SECRET.search(name) and option["type"] == "str":
                assert option.get("no_log") is True, where
                assert default == "", where


@pytest.mark.parametrize("role", ROLES)
def test_an_option_is_required_or_has_a_default_or_is_left_open_on_purpose(role: str) -> None:
    for name, option in options(role).items():
        assert not (option.get("required") and "default" in option), name


@pytest.mark.parametrize("role", ROLES)
def test_every_option_bears_the_role_and_says_what_it_does(role: str) -> None:
    for entry_point, spec in entry_points(role).items():
        assert spec.get("short_description"), f"{entry_point} has no short description"
        for name, option in (spec.get("options") or {}).items():
            assert name.startswith((f"{role}_", "mlops_")), f"{entry_point}: {name}"
            assert option.get("description"), f"{entry_point}: {name} has no description"
            assert option.get("type"), f"{entry_point}: {name} has no type"


@pytest.mark.parametrize("role", APPLIED)
def test_the_entry_points_of_every_role_exist(role: str) -> None:
    assert set(entry_points(role)) >= ENTRY_POINTS


def test_the_box_is_asked_like_a_role_and_has_an_end_for_what_it_begins() -> None:
    assert set(entry_points(BOX)) == {"preflight", "nginx", "nginx_remove"}


@pytest.mark.parametrize("role", ROLES)
def test_every_entry_point_is_a_file_of_tasks(role: str) -> None:
    for entry_point in entry_points(role):
        tasks = ROOT / "roles" / role / "tasks" / f"{entry_point}.yml"
        assert tasks.exists(), f"{entry_point} has no {tasks.relative_to(ROOT)}"


@pytest.mark.parametrize("role", ROLES)
def test_entry_points_repeat_options_without_changing_them(role: str) -> None:
    whole = options(role)
    for entry_point in entry_points(role):
        for name, option in options(role, entry_point).items():
            assert name in whole, f"{entry_point}: {name} is not an option of main"
            for key in ("type", "default", "elements", "choices"):
                assert option.get(key) == whole[name].get(key), f"{entry_point}: {name}: {key}"


@pytest.mark.parametrize("role", ROLES)
def test_the_readme_of_a_role_names_every_option(role: str) -> None:
    text = (ROOT / "roles" / role / "README.md").read_text(encoding="utf-8")
    missing = [name for name in options(role) if f"`{name}`" not in text]
    assert not missing, f"roles/{role}/README.md does not name them"


@pytest.mark.parametrize("role", ASKED)
def test_a_role_says_what_it_provides(role: str) -> None:
    provides = load(ROOT / "roles" / role / "vars" / "provides.yml")
    assert provides is not None, f"roles/{role}/vars/provides.yml is missing"
    assert list(provides) == [f"{role}_provides"]


@pytest.mark.parametrize("role", ASKED)
def test_a_role_declares_what_it_needs(role: str) -> None:
    needs = load(ROOT / "roles" / role / "vars" / "capacity.yml")
    assert needs, f"roles/{role}/vars/capacity.yml is missing"
    assert f"{role}_demand" in needs


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_no_handlers_and_no_tags_but_its_own(role: str) -> None:
    directory = ROOT / "roles" / role
    assert not (directory / "handlers").exists(), "services restart by state, not by handler"
    for path in directory.glob("tasks/*.yml"):
        for tags in re.findall(r"^\s+tags: \[(.*)\]$", path.read_text(encoding="utf-8"), re.M):
            assert tags == role, f"{path.relative_to(ROOT)}: tags {tags}"


@pytest.mark.parametrize("role", ASKED)
def test_every_port_in_the_tasks_of_a_role_is_declared(role: str) -> None:
    """A port that nobody asks for is one that a stranger may hold, unseen until it is too late."""
    folder = ROOT / "roles" / role
    declared = (folder / "vars" / "capacity.yml").read_text(encoding="utf-8")
    tasks = "\n".join(path.read_text(encoding="utf-8") for path in folder.glob("tasks/*.yml"))
    listening = re.findall(r"listen(?:-address)?[=\s]+[\d.]*:?(\d{2,5})\b", tasks)
    page = folder / "vars" / "main.yml"  # a small role has none
    own = page.read_text(encoding="utf-8") if page.exists() else ""
    listening += re.findall(r"^__\w+_port: (\d+)$", own, re.M)
    for port in set(listening):
        names = re.findall(rf"^(__\w+_port): {port}$", own, re.M)
        assert port in declared or any(name in declared for name in names), port


def test_the_readme_of_the_collection_lists_every_role_and_module() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    modules = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py"))
    missing = [
        name for name in [*ROLES, *modules] if f"`{name}`" not in text and f"[{name}]" not in text
    ]
    assert not missing
