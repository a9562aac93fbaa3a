# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of variables held against how they have to look, also those that an assessment needs."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load
from ansible.parsing.vault import EncryptedString
from ansible_collections.mlops.onprem.plugins.module_utils._assess.bounds import (
    misfit,
    out_of_bounds,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.sentence import brief, listing
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import (
    ShapeError,
    kind_of,
    number,
    shown,
)
from ansible_collections.mlops.onprem.plugins.plugin_utils.inventory_sources import files_that_set
from jinja2.runtime import Undefined

# With a wrong one Ansible does not get as far as to the assessment.
CONNECTION: Mapping[str, Mapping[str, Any]] = {
    "ansible_host": {"type": "str"},
    "ansible_port": {"type": "int"},
    "ansible_user": {"type": "str"},
    "ansible_connection": {"type": "str"},
    "ansible_python_interpreter": {"type": "str"},
}
# As YAML and Python write them; either type takes one, and arithmetic ends at it.
STATE = "mlops_state_dir"
SHORTEST = 4  # letters of a secret
# Variables of Ansible's own that hold all others again, and file systems that are none for files.
ABOUT_ALL = ("hostvars", "vars", "groups")
NOT_WRITTEN = ("/proc", "/sys/")
NUMBERS = ("int", "float")
WRITTEN = {"list": ("list", "[one, other]"), "dict": ("mapping", "{name: value}")}
# Lists that only modules read, and that people give with -e as one name.
ONE_WORD = ("workloads_jobs_again", "workloads_datasets_delete")
CLASS = re.compile(r"<class '[^']*'>")
NO_NUMBERS = ("nan", "inf", "infinity")
ENTRIES = ("gather", "judge")
KEYS = ("type", "choices", "elements", "options")


def wrong(name: str, value: Any, shape: Mapping[str, Any]) -> str:
    """What is wrong with a value; "" if nothing is."""
    kind = shape.get("type", "str")
    said = _other_kind(name, value, kind)
    if said:
        return said
    for key, inner, one in _below(value, shape):
        if one is None:
            return f"{name} has {key}, and takes {listing(sorted(shape['options']))}"
        said = wrong(f"{name}{key}", inner, one)
        if said:
            return said
    secret = shape.get("no_log") or re.search(r"password|secret|key|token", name)
    messages = ArgumentSpecValidator({name: dict(shape)}).validate({name: value}).error_messages
    if not messages:
        return _cannot_be_meant(name, value, kind) or (
            _blotting(name, str(value)) if shape.get("no_log") and kind == "str" else ""
        )
    said = f"{name} is not a valid {kind}"
    return said if secret else f"{said}: {_in_words(value, kind, messages[0])}"


def _cannot_be_meant(name: str, value: Any, kind: str) -> str:
    """What is wrong with a value of the right type."""
    if kind in NUMBERS:
        return out_of_bounds(name, float(value))
    return misfit(name, str(value)) if kind in ("str", "path") else ""


def _other_kind(name: str, value: Any, kind: str) -> str:
    """Values that Ansible would make another of, or take in a way that nobody meant."""
    if kind in ("str", "path") and isinstance(value, (list, dict)):
        return f"{name} is {kind_of(value)}, which is no text"  # Ansible would take its brackets
    if kind in ("str", "path") and isinstance(value, bool):
        return (
            f"{name} is not a valid {kind}: must be a text, but is {str(value).lower()}; quote it"
        )
    if kind in NUMBERS and str(value).lower().lstrip("+-.") in NO_NUMBERS:
        return f"{name} is {value}, which is no number"
    plain = isinstance(value, str) and name not in ONE_WORD and not re.search(r"[.[]", name)
    if kind in WRITTEN and plain:
        # The check of a specification reads it, and what uses it afterwards gets the text.
        what, written = WRITTEN[kind]
        return f"{name} is not a valid {kind}: must be a {what}, but is a text; write {written}"
    return ""


def _in_words(value: Any, kind: str, message: str) -> str:
    """Why a value is none of its kind, in words of our own where Ansible's are of its insides."""
    if "must be one of" in message:
        return brief(message)
    if kind in NUMBERS:
        try:
            number(value)
        except ShapeError as error:
            # How a share or a factor is written is no help with what is counted, or lasts.
            hint = kind == "float" and not str(value).endswith("m")
            return error.problem if hint else error.problem.partition("; write")[0]
        return f"must be a whole number, but is {shown(value)}"
    if kind == "bool":
        return f"must be true or false, but is {shown(value)}"
    if kind in WRITTEN and not isinstance(value, (list, Mapping)[kind == "dict"]):
        return f"must be a {WRITTEN[kind][0]}, but is {kind_of(value)}"
    return brief(CLASS.sub("it", message))


def _blotting(name: str, value: str) -> str:
    """Why a secret cannot be kept out of what is told: Ansible blots out its letters everywhere."""
    if 0 < len(value) < SHORTEST:
        return f"{name} has fewer than {SHORTEST} letters, which Ansible blots out of every word"
    if value and any(value in role for role in _roles()):
        return f"{name} is part of a name of the platform's own, which Ansible blots out with it"
    return ""


@cache
def _roles() -> tuple[str, ...]:
    folder = Path(__file__).resolve().parents[2] / "roles"
    return tuple(path.name for path in folder.iterdir() if path.is_dir())


def _below(
    value: Any, shape: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Mapping[str, Any] | None]]:
    """The parts of a value with their places, and how each has to look; None if nobody reads it."""
    options = shape.get("options") or {}
    if isinstance(value, Mapping):
        for key in sorted(value, key=str) if options else ():
            known = options.get(key)
            yield (f".{key}" if known else str(key)), value[key], known
    elif isinstance(value, (list, tuple)) and shape.get("elements"):
        one = {"type": shape["elements"], **({"options": options} if options else {})}
        for index, inner in enumerate(value):
            yield f"[{index}]", inner, one


def stopping(root: Path, variables: Mapping[str, Any], loader: Any) -> list[str]:
    """Sentences about values at which Ansible would stop before anything is assessed."""
    options = {**_options_of_assess(root), **CONNECTION, STATE: {"type": "path"}}
    found: dict[str, str] = {}
    for name, said, shape in _wrong_values(variables, options):
        files = files_that_set(name, variables, loader)
        choices = f", one of {', '.join(map(str, shape['choices']))}" if "choices" in shape else ""
        place = listing(files) if files else "the inventory"
        wanted = f"wanted a value of type {shape.get('type', 'str')}{choices}"
        # What one variable lacks is told once; a loop is told in other words on each host.
        first = said.partition(":")[0] if name in CONNECTION else ""
        found.setdefault(f"{first} {name}", f"{said}, {wanted}; mend {name} in {place}")
    for name, said in _locked(variables).items():
        place = listing(files_that_set(name, variables, loader)) or "the inventory"
        found[name] = (
            f"{name} in {place} is encrypted by ansible-vault and cannot be read ({said}); give "
            "its password with --ask-vault-pass or --vault-password-file"
        )
    found.update(_no_place(variables))
    return list(found.values())


def _locked(variables: Mapping[str, Any]) -> dict[str, str]:
    """Variables with a single value that is encrypted and that no password at hand opens."""
    hostvars: Any = variables.get("hostvars")
    hosts = (variables.get("groups") or {}).get("all") or ()
    found: dict[str, str] = {}
    for host in hosts if hostvars is not None else ():
        for name, value in (hostvars.raw_get(host) or {}).items():
            said = _closed(value) if name not in found and name not in ABOUT_ALL else ""
            if said:
                found[str(name)] = said
    return found


def _closed(value: Any) -> str:
    """Why an encrypted text in a value cannot be read; "" if there is none, or it can."""
    if isinstance(value, Mapping):
        return next(filter(None, map(_closed, value.values())), "")
    if isinstance(value, (list, tuple)):
        return next(filter(None, map(_closed, value)), "")
    if not isinstance(value, EncryptedString):
        return ""
    try:
        str(value)
    except (AnsibleError, ReferenceError) as error:
        return brief(error)
    return ""


def _no_place(variables: Mapping[str, Any]) -> dict[str, str]:
    """What stands where the report and the memory of the site are to be written."""
    hostvars: Any = variables.get("hostvars")
    hosts = (variables.get("groups") or {}).get("all") or ()
    found: dict[str, str] = {}
    for host in hosts if hostvars is not None else ():
        given = hostvars.raw_get(host) or {}
        beside = given.get("inventory_dir")
        place: Any = f"{beside}/.state" if beside else ""
        if STATE in given:
            # What cannot be made out is told as that.
            with contextlib.suppress(Exception):
                place = hostvars[host][STATE]
        wrong_place = no_directory(str(place)) if isinstance(place, str) and place else ""
        if wrong_place:
            found[STATE] = (
                f"{STATE} is {place}, and {wrong_place}; set {STATE} to a directory that the user "
                "who runs the playbooks can write"
            )
    return found


def no_directory(place: str) -> str:
    """Why a directory cannot be used or made; "" if it can."""
    path = Path(place).expanduser()
    while not os.path.lexists(path):
        if path == path.parent:
            return ""
        path = path.parent
    if not path.exists():
        return f"{path} is a link to nothing"
    if not path.is_dir():
        return f"{path} is no directory"
    if not os.access(path, os.W_OK | os.X_OK) or str(path).startswith(NOT_WRITTEN):
        return f"{path} cannot be written by this user"
    return ""


def _wrong_values(
    variables: Mapping[str, Any], options: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    hostvars: Any = variables.get("hostvars")
    hosts = (variables.get("groups") or {}).get("all") or ()
    for host in hosts if hostvars is not None else ():
        entry, given = hostvars[host], hostvars.raw_get(host)
        for name in sorted(options.keys() & given.keys()):
            try:
                value = entry[name]
                if isinstance(value, Undefined):
                    value = str(value)  # raises what it lacks
                said = wrong(name, value, options[name])
            except Exception as error:  # of a template, in whatever way this Ansible tells it
                said = f"the value of {name} cannot be made out: {brief(error)}"
            if said:
                yield name, f"{host}: {said}" if name in CONNECTION else said, options[name]


def _options_of_assess(root: Path) -> dict[str, dict[str, Any]]:
    page = yaml_load((root / "roles/assess/meta/argument_specs.yml").read_text(encoding="utf-8"))
    return {
        name: {key: option[key] for key in KEYS if key in option}
        for entry in ENTRIES
        for name, option in (page["argument_specs"][entry].get("options") or {}).items()
        if option.get("type") != "raw"
    }
