# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which site the hosts are, and whether the secrets at hand are those it was made with."""

from __future__ import annotations

import json
import os
import uuid
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.yaml import yaml_load
from ansible.module_utils.parsing.convert_bool import BOOLEANS, boolean
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader
from ansible_collections.mlops.onprem.plugins.lookup.secret import PLUGIN, hold, secrets_place
from ansible_collections.mlops.onprem.plugins.module_utils._assess.inventory_checks import (
    SECRET_NAME,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import FAIL
from ansible_collections.mlops.onprem.plugins.module_utils._site.description import describe
from ansible_collections.mlops.onprem.plugins.module_utils._site.identity import (
    Carried,
    Kept,
    check_authority,
    check_secrets,
    decide,
    fingerprint,
    read_carried,
    read_remembered,
)
from ansible_collections.mlops.onprem.plugins.module_utils._site.people import PLACE as PEOPLE
from ansible_collections.mlops.onprem.plugins.module_utils._site.people import parse_people
from ansible_collections.mlops.onprem.plugins.module_utils._trust import certificates as trust

COLLECTION = Path(__file__).resolve().parents[2]
ARGUMENTS = {
    "hosts": {"type": "list", "elements": "str", "required": True},
    "site_id": {"type": "str", "default": ""},
    "rekey": {"type": "raw", "default": False},
    "directory": {"type": "path", "required": True},
    "secrets": {"type": "bool", "default": True},
    "hold": {"type": "bool", "default": False},
    "refuse": {"type": "bool", "default": False},
    "keep": {"type": "bool", "default": False},
}
OWN_FILE = "trust_ca_certificate_file"


class ActionModule(ActionBase):  # type: ignore[misc]
    """Ansible's entry point."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _VALID_ARGS = frozenset(ARGUMENTS)

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _checked, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        variables = task_vars or {}
        if args["hold"]:
            hold()
        kept = Kept(Secrets(self, variables), str(secrets_place(variables)), rekeyed(args["rekey"]))
        if args["keep"]:
            result.update(
                changed=False, findings=[], fingerprints=self._keep(args, variables, kept)
            )
        else:
            result.update(self._find_out(args, variables, kept))
        return result

    def _keep(
        self, args: Mapping[str, Any], variables: Mapping[str, Any], kept: Kept
    ) -> dict[str, str]:
        """Remember the site of this run; gives the fingerprints of its secrets."""
        found = (variables.get("ansible_facts") or {}).get("mlops_site") or {}
        if found.get("run") != os.getppid():
            raise AnsibleActionFail("This run has not found out which site this is.")
        if not self._task.check_mode:
            hostvars = variables["hostvars"]
            addresses = {host: address(hostvars[host], host) for host in args["hosts"]}
            write(Path(args["directory"], "site.json"), found["id"], found["adopts"], addresses)
        return {
            name: fingerprint(found["id"], name, value)
            for name in sorted(secret_names() | people_secrets(variables))
            if (value := kept.value(name))
        }

    def _find_out(
        self, args: Mapping[str, Any], variables: Mapping[str, Any], kept: Kept
    ) -> dict[str, Any]:
        """The site of the hosts, and what stands against it."""
        hostvars, everyone = variables["hostvars"], variables["groups"]["all"]
        carried = {}
        for host in args["hosts"]:
            said = (hostvars[host].get("ansible_facts") or {}).get("mlops_platform")
            if isinstance(said, Mapping):
                carried[host] = read_carried(said)
        decision = decide(
            carried,
            {host: address(hostvars[host], host) for host in everyone if host not in carried},
            read_remembered(read(Path(args["directory"], "site.json"))),
            args["site_id"],
            lambda: str(uuid.uuid4()),
            limited=bool(set(everyone) - set(args["hosts"])),
        )
        findings = list(decision.findings)
        own = not any(hostvars[host].get(OWN_FILE) for host in args["hosts"])
        if args["secrets"]:
            findings += check_secrets(
                decision.identity, carried, kept, own, people_secrets(variables)
            )
        if args["secrets"] and own:
            findings += check_authority(carried, lambda text: fits(text, kept), kept)
        against = [finding.sentence for finding in findings if finding.severity == FAIL]
        if args["refuse"] and against:
            raise AnsibleActionFail(" ".join(f"{said}." for said in against))
        return {
            "changed": False,
            "findings": [finding.as_dict() for finding in findings],
            "ansible_facts": {
                "mlops_site": {
                    "id": decision.identity,
                    "adopts": decision.adopts,
                    "authority": fitting(carried, kept) if own else "",
                    # The process that runs the playbook: facts of another run do not count.
                    "run": os.getppid(),
                }
            },
        }


class Secrets:
    """The secrets at hand by name: what the inventory says for any host, else what is kept."""

    def __init__(self, action: ActionBase, variables: Mapping[str, Any]) -> None:
        self._hostvars = variables["hostvars"]
        self._hosts = variables["groups"]["all"]
        self._variables = variables
        self._lookup = lookup_loader.get(PLUGIN, loader=action._loader, templar=action._templar)

    def __call__(self, name: str) -> str | None:
        for host in self._hosts:
            raw = self._hostvars.raw_get(host).get(name)
            if raw is not None and PLUGIN not in str(raw):
                given = self._hostvars[host].get(name)
                return str(given) if given not in (None, "") else None
        found = self._lookup.run([name], {**self._variables, name: None}, create=False)
        return str(found[0]) or None


def address(entry: Mapping[str, Any], host: str) -> str:
    """Where a host is reached, as it is remembered."""
    return str(entry.get("ansible_host") or host)


def rekeyed(value: object) -> frozenset[str] | bool:
    """What ``mlops_rekey`` says: all secrets, none, or some."""
    if isinstance(value, (list, tuple)):
        return frozenset(str(name) for name in value)
    if str(value).lower() in {str(known) for known in BOOLEANS}:
        return bool(boolean(value))
    return frozenset(str(value).replace(",", " ").split())


def fits(text: str, kept: Kept) -> bool:
    """Whether the key at hand is that of a certificate."""
    try:
        trust.load_authority(text, kept.value("trust_ca_key"), "the authority that a host trusts")
    except trust.TrustError:
        return False
    return True


def fitting(carried: Mapping[str, Carried], kept: Kept) -> str:
    """The certificate of the authority as most hosts trust it, if it is that of the key."""
    if not kept.value("trust_ca_key"):
        return ""
    seen = Counter(said.authority for said in carried.values() if said.authority)
    return next((text for text, _count in seen.most_common() if fits(text, kept)), "")


def secret_names() -> set[str]:
    """Every secret that the collection may create."""
    site = describe(COLLECTION, lambda path: yaml_load(path.read_text(encoding="utf-8")))
    names = set(site.secrets)
    for folder in ("roles/*/defaults", "roles/*/vars", "roles/*/tasks", "playbooks/vars"):
        for page in COLLECTION.glob(f"{folder}/*.yml"):
            names.update(SECRET_NAME.findall(page.read_text(encoding="utf-8")))
    return names


def people_secrets(variables: Mapping[str, Any]) -> frozenset[str]:
    """The names of the passwords of the people that the inventory names now.

    An entry that cannot be read is told by the assessment.
    """
    hostvars, hosts = variables["hostvars"], variables["groups"]["all"]
    given = next((hostvars[host][PEOPLE] for host in hosts if PEOPLE in hostvars[host]), None)
    people, _problems = parse_people(given)
    return frozenset(person.secret for person in people)


def read(path: Path) -> object:
    """What the controller remembers; nothing if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write(path: Path, identity: str, adopts: bool, addresses: Mapping[str, str]) -> None:
    """Remember the site, in one step."""
    old = read_remembered(read(path))
    known = old.addresses if old.identity == identity else {}
    page = {"id": identity, "adopts": adopts, "addresses": {**known, **addresses}}
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}-{os.getpid()}")
    fresh.write_text(json.dumps(page, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    fresh.replace(path)
