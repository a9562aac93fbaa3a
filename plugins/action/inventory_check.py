# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of inventory_check: reads the inventory as Ansible sees it, and our own specs."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.yaml import yaml_load
from ansible.plugins.action import ActionBase
from ansible_collections.mlops.onprem.plugins.lookup.secret import hold
from ansible_collections.mlops.onprem.plugins.module_utils._assess.inventory_checks import (
    SECRET_NAME,
    HostEntry,
    Interface,
    Inventory,
    check_inventory,
    hints_of,
    option_names,
    owner_of,
    words_with_prefix,
)
from ansible_collections.mlops.onprem.plugins.module_utils._assess.inventory_files import (
    UNREAD,
    VarsFolder,
    owner_names,
)
from ansible_collections.mlops.onprem.plugins.module_utils._demand.models import (
    PLACE as MODELS,
)
from ansible_collections.mlops.onprem.plugins.module_utils._demand.models import parse_models
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import (
    ERROR,
    FAIL,
    SITE,
    WARN,
    Finding,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.sentence import (
    listing,
)
from ansible_collections.mlops.onprem.plugins.module_utils._site.description import (
    Description,
    describe,
)
from ansible_collections.mlops.onprem.plugins.module_utils._site.handed import INPUTS
from ansible_collections.mlops.onprem.plugins.module_utils._site.people import PLACE as PEOPLE
from ansible_collections.mlops.onprem.plugins.module_utils._site.people import (
    parse_people,
    strangers,
)
from ansible_collections.mlops.onprem.plugins.module_utils._site.teams import PLACE as TEAMS
from ansible_collections.mlops.onprem.plugins.module_utils._site.teams import parse_teams
from ansible_collections.mlops.onprem.plugins.plugin_utils.controller import connecting
from ansible_collections.mlops.onprem.plugins.plugin_utils.inventory_sources import (
    files_that_set,
    unread,
    unread_variables,
    vars_folders,
)
from ansible_collections.mlops.onprem.plugins.plugin_utils.named_files import CHECK as FILES
from ansible_collections.mlops.onprem.plugins.plugin_utils.named_files import check_files
from ansible_collections.mlops.onprem.plugins.plugin_utils.values import wrong as wrong_value

COLLECTION = Path(__file__).resolve().parents[2]
# The values that decide something here; of all other variables only the names are looked at.
VALUES = (
    "mlops_extra_groups",
    MODELS,
    PEOPLE,
    TEAMS,
    "mlops_networks",
    "mlops_profile",
    "metadata_db_mode",
    "metadata_db_host",
    "object_store_mode",
    "object_store_endpoint",
)
# What of an option says how its value has to look.
SHAPE = ("type", "elements", "choices", "options", "no_log")
# How a finding about the inventory speaks of a variable.
NAMED = re.compile(r"(sets the variable|mend|set) (?P<name>[a-z]+(_[a-z0-9]+)+)")
# The roles that would tell the same of a list in their own words, or end at it.
READERS = {"inventory.models": "model_serving", "inventory.teams": "job_scheduler"}
LOCAL_CONNECTIONS = ("local", "ansible.builtin.local")


class ActionModule(ActionBase):  # type: ignore[misc]
    """Ansible's entry point."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _VALID_ARGS = frozenset(("ignore_groups",))

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _checked, args = self.validate_argument_spec(
            argument_spec={"ignore_groups": {"type": "list", "elements": "str", "default": []}}
        )
        variables = task_vars or {}
        hold()  # an assessment creates no secret
        site = read_site(COLLECTION)
        interface, hints = read_interface(COLLECTION, site)
        findings = find(variables, set(args["ignore_groups"]), site, interface, self._loader)
        result.update(
            changed=False,
            findings=[finding.as_dict() for finding in findings],
            hints=hints,
            whole=is_whole(findings),
            unasked=roles_not_to_ask(findings, interface.roles),
        )
        return result


def find(
    variables: Mapping[str, Any],
    ignored: set[str],
    site: Description,
    interface: Interface,
    loader: Any,
) -> list[Finding]:
    """All that is found about an inventory: whether it was read whole, and what is in it."""
    half_read = unread(variables, loader)

    def setting(name: str) -> Sequence[str]:
        return files_that_set(name, variables, loader)

    inventory, problems = read_inventory(
        variables, ignored, site.groups, vars_folders(variables, loader)
    )
    problems += connecting(variables) + half_read + unread_variables(variables, loader)
    problems += check_values(
        variables["hostvars"],
        inventory,
        read_options(COLLECTION),
        setting,
    )
    problems += check_files(
        variables["hostvars"],
        {host.name: host.variables for host in inventory.hosts},
        [str(loader.get_basedir()), "."],
        setting,
    )
    problems += check_lists(inventory, setting)
    for key, check in ((MODELS, "models"), (PEOPLE, "people")):
        problems += differing(variables["hostvars"], inventory, key, check)
    wrong = {row.found.split(" ", 1)[0] for row in problems if row.id == "inventory.value"}
    known = check_inventory(inventory, interface, whole=not half_read)
    found = [
        *dict.fromkeys(problems),
        *(
            _with_file(row, variables, loader)
            for row in known
            if row.found.split(" ", 1)[0] not in wrong
        ),
    ]
    skipped = () if is_whole(found) else ("every role",)
    return [*found, *not_asked(skipped or roles_not_to_ask(found, interface.roles))]


def _with_file(finding: Finding, variables: Mapping[str, Any], loader: Any) -> Finding:
    """The finding, with the files that set the variable that it speaks of."""
    named = NAMED.search(f"{finding.found} {finding.remedy}")
    files = files_that_set(named["name"], variables, loader) if named else []
    if not files:
        return finding
    return replace(finding, remedy=f"{finding.remedy} (set in {listing(files)})")


def roles_not_to_ask(findings: Sequence[Finding], roles: Sequence[str]) -> list[str]:
    """The roles with a variable whose value they would not take, or that cannot be made out."""
    wrong = [
        row.found.removeprefix("the value of ").split(" ", 1)[0]
        for row in findings
        if row.id in ("inventory.value", "inventory.template", FILES)
    ]
    owners = {owner for name in wrong if (owner := owner_of(name, roles))}
    owners |= {READERS[row.id] for row in findings if row.id in READERS}
    return sorted(owners)


def not_asked(roles: Sequence[str]) -> list[Finding]:
    """That roles are not asked, as their answers would only repeat a mistake in the inventory."""
    if not roles:
        return []
    return [
        Finding(
            "assess.roles",
            SITE,
            ERROR,
            f"what {listing(roles)} would need and find was not asked",
            "an inventory that was read whole, with values that the roles take",
            "mend the mistakes in the inventory, then assess again",
        )
    ]


def is_whole(findings: Sequence[Finding]) -> bool:
    """Whether the roles can be asked: what they say of half a site only hides what is wrong."""
    return not any(
        finding.severity == FAIL
        and (
            finding.id in (UNREAD, "inventory.no_hosts")
            or (finding.id == "inventory.required_group" and "control" in finding.found)
        )
        for finding in findings
    )


def read_site(root: Path) -> Description:
    """The table of roles, and what they provide."""
    return describe(root, _load)


def read_interface(
    root: Path, site: Description
) -> tuple[Interface, dict[str, dict[str, list[str]]]]:
    """Every variable that the collection reads, from the roles' specs and the wiring."""
    roles = sorted(path.name for path in (root / "roles").iterdir() if path.is_dir())
    known: set[str] = {*site.secrets, *INPUTS}
    hints = {}
    for role in roles:
        spec = root / "roles" / role / "meta" / "argument_specs.yml"
        names = option_names(_load(spec)) if spec.exists() else set()
        hints[role] = hints_of(name for name in names if name.startswith(role))
        known |= {*names, f"{role}_demand"}
    for folder in (
        "roles/*/defaults",
        "roles/*/vars",
        "roles/*/tasks",
        "playbooks",
        "playbooks/vars",
    ):
        for page in root.glob(f"{folder}/*.yml"):
            known.update(SECRET_NAME.findall(page.read_text()))
    for page in root.glob("playbooks/vars/*.yml"):
        known |= words_with_prefix(page.read_text(), roles)
    return Interface(tuple(roles), frozenset(known)), hints


def read_options(root: Path) -> dict[str, dict[str, Any]]:
    """How every variable has to look: the options of all roles."""
    found: dict[str, dict[str, Any]] = {}
    for spec in sorted(root.glob("roles/*/meta/argument_specs.yml")):
        for entry in ((_load(spec) or {}).get("argument_specs") or {}).values():
            for name, option in (entry.get("options") or {}).items():
                found.setdefault(name, {key: option[key] for key in SHAPE if key in option})
    return found


def check_values(
    hostvars: Any,
    inventory: Inventory,
    options: Mapping[str, dict[str, Any]],
    files_of: Callable[[str], Sequence[str]] = lambda _name: (),
) -> list[Finding]:
    """Values that the roles would refuse later, each named once, with the files that set them."""
    findings: list[Finding] = []
    wrong: dict[tuple[str, str], list[str]] = {}
    checked: dict[tuple[str, str], str] = {}
    for host in inventory.hosts:
        raw = hostvars.raw_get(host.name)
        for name in sorted(host.variables & options.keys()):
            written = str(raw.get(name))
            if (name, written) not in checked or "{{" in written:
                value = _value(hostvars, host.name, name, findings)
                checked[name, written] = (
                    "" if value is None else wrong_value(name, value, options[name])
                )
            if checked[name, written]:
                wrong.setdefault((name, checked[name, written]), []).append(host.name)
    for (name, said), hosts in wrong.items():
        findings.append(_value_finding(name, said, hosts, inventory, options[name], files_of(name)))
    return findings


def check_lists(
    inventory: Inventory, files_of: Callable[[str], Sequence[str]] = lambda _name: ()
) -> list[Finding]:
    """Each model, person and team that cannot be read, with the field that is wrong.

    They are those of the whole site, so that no host has to be looked at for it.
    """
    _models, models = parse_models(inventory.values.get(MODELS), inventory.groups)
    people, wrong_people = parse_people(inventory.values.get(PEOPLE))
    teams, wrong_teams = parse_teams(inventory.values.get(TEAMS))
    findings = [
        Finding(
            f"inventory.{what}",
            SITE,
            FAIL,
            said,
            f"{what} as {page} describes {key}",
            f"mend {key} in {listing(files_of(key)) or 'the inventory'}",
        )
        for what, key, page, problems in (
            ("models", MODELS, "docs/own_model.md", models),
            ("people", PEOPLE, "docs/people.md", wrong_people),
            ("teams", TEAMS, "docs/compute.md", wrong_teams),
        )
        for said in problems
    ]
    if wrong_people:
        return findings
    return findings + [
        Finding(
            "inventory.people_teams",
            SITE,
            WARN,
            f"{name} is a member of {listing(own)} in {TEAMS}, but none of {PEOPLE}",
            "members that the site knows as people",
            f"add {name} to {PEOPLE}, or take the account out of {TEAMS}",
        )
        for name, own in strangers(people, teams).items()
    ]


# Where a list that is one for the whole site is to stand instead.
INSTEAD = {
    MODELS: "targets of a model say on which devices it is",
    PEOPLE: "people are those of the whole site",
}


def differing(hostvars: Any, inventory: Inventory, key: str, check: str) -> list[Finding]:
    """Hosts whose list is not that of the site; it is one for all."""
    first = inventory.values.get(key)
    problems: list[Finding] = []
    others = [
        host.name
        for host in inventory.hosts
        if first is not None and _value(hostvars, host.name, key, problems) != first
    ]
    return [
        Finding(
            f"inventory.{check}",
            host,
            FAIL,
            f"sets {key} to something else than the rest of the site",
            "one list for the whole site",
            f"move {key} to group_vars/all; {INSTEAD[key]}",
        )
        for host in others
    ]


def _value_finding(
    name: str,
    said: str,
    hosts: Sequence[str],
    inventory: Inventory,
    shape: Mapping[str, Any],
    files: Sequence[str],
) -> Finding:
    everywhere = len(hosts) == len(inventory.hosts) > 1
    others = f" (and on {len(hosts) - 1} more hosts)" if len(hosts) > 1 and not everywhere else ""
    choices = f", one of {', '.join(map(str, shape['choices']))}" if "choices" in shape else ""
    return Finding(
        "inventory.value",
        SITE if everywhere else hosts[0],
        FAIL,
        f"{said}{others}",
        f"a value of type {shape.get('type', 'str')}{choices}",
        f"mend {name} in {listing(files) if files else 'the inventory'}",
    )


def _load(path: Path) -> Any:
    try:
        return yaml_load(path.read_text())
    except yaml.YAMLError as error:
        raise AnsibleActionFail(f"{path} cannot be read: {error}") from error


def read_inventory(
    variables: Mapping[str, Any],
    ignored: set[str],
    platform: tuple[str, ...],
    folders: Sequence[VarsFolder] = (),
) -> tuple[Inventory, list[Finding]]:
    """Hosts, groups, names of variables, and the few values that are checked."""
    hostvars = variables["hostvars"]
    groups = {
        str(name): [str(host) for host in hosts]
        for name, hosts in variables["groups"].items()
        if name not in ignored
    }
    names = groups.get("all", [])
    problems: list[Finding] = []
    values: dict[str, Any] = {}
    for key in VALUES:
        for host in names:
            found = _value(hostvars, host, key, problems)
            if found is not None:
                values[key] = found
                break
    hosts = []
    for host in names:
        address = (
            _value(hostvars, host, "mlops_address", problems)
            or _value(hostvars, host, "ansible_host", problems)
            or host
        )
        hosts.append(
            HostEntry(
                name=host,
                address=str(address),
                groups=tuple(sorted(name for name, members in groups.items() if host in members)),
                variables=frozenset(str(name) for name in hostvars[host]),
                local=_value(hostvars, host, "ansible_connection", problems) in LOCAL_CONNECTIONS
                or _is_loopback(str(address)),
                port=_port(_value(hostvars, host, "ansible_port", problems)),
            )
        )
    return (
        Inventory(
            hosts=tuple(hosts),
            groups=groups,
            platform=platform,
            values=values,
            group_files=_names(folders, "group_vars"),
            host_files=_names(folders, "host_vars"),
        ),
        list(dict.fromkeys(problems)),
    )


def _port(value: Any) -> int:
    try:
        return int(value or 22)
    except (TypeError, ValueError):  # Ansible says so when it connects
        return 22


def _value(hostvars: Any, host: str, key: str, problems: list[Finding]) -> Any:
    entry = hostvars[host]
    if key not in entry:
        return None
    try:
        return entry[key]
    except AnsibleError as error:
        problems.append(
            Finding(
                "inventory.template",
                SITE,
                FAIL,
                f"the value of {key} cannot be made out: {error}",
                "a value, or a template of variables that exist",
                f"mend {key}",
            )
        )
        return None


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _names(folders: Sequence[VarsFolder], kind: str) -> tuple[str, ...]:
    """Names of the groups or hosts that have files beside any source of the inventory."""
    found = {
        name for folder in folders if Path(folder.path).name == kind for name in owner_names(folder)
    }
    return tuple(sorted(found))
