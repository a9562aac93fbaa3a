# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: site
short_description: What the site hands to a variable of a role
version_added: 0.3.0
author:
  - The mlops.onprem developers (@mlops-onprem)
description:
  - Computes the default of a variable from the inventory and from what all roles provide, as they
    say in C(vars/provides.yml). The playbooks hand it over as C(__wired_<variable>); the role's
    default names that, so that a value in the inventory goes before it.
  - Whatever describes a service, such as its port, is read from the host that runs it.
options:
  _terms:
    description: Names of variables, such as V(monitoring_targets).
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show what the monitoring will measure
  ansible.builtin.debug:
    msg: "{{ lookup('mlops.onprem.site', 'monitoring_targets') }}"
"""

RETURN = r"""
_raw:
  description: The values, in the order of the names.
  type: list
  elements: raw
"""

import json
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError, AnsibleLookupError
from ansible.module_utils.common.yaml import yaml_load
from ansible.plugins.loader import lookup_loader
from ansible.plugins.lookup import LookupBase
from ansible_collections.mlops.onprem.plugins.filter.host_address import host_address
from ansible_collections.mlops.onprem.plugins.module_utils._demand.lost import (
    PLACE,
    lost_hosts,
    without,
)
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import ShapeError
from ansible_collections.mlops.onprem.plugins.module_utils._site.description import (
    Description,
    describe,
)
from ansible_collections.mlops.onprem.plugins.module_utils._site.errors import SiteError
from ansible_collections.mlops.onprem.plugins.module_utils._site.handed import handed
from ansible_collections.mlops.onprem.plugins.module_utils._site.site import Site
from ansible_collections.mlops.onprem.plugins.module_utils._trust import certificates
from ansible_collections.mlops.onprem.plugins.module_utils._trust.subjects import subject_of

STATE_DIRECTORY = "mlops_state_dir"
COLLECTION = Path(__file__).resolve().parents[2]


@cache
def description() -> Description:
    """What the collection itself says: the table, what roles provide, their defaults."""
    return describe(COLLECTION, lambda path: yaml_load(path.read_text(encoding="utf-8")))


class Values:
    """The variables of all hosts, as the host that asks is given them."""

    def __init__(self, variables: Mapping[str, Any], templar: Any, defaults: Mapping[str, Any]):
        self._asking = str(variables["inventory_hostname"])
        self._variables = variables
        self._hostvars = variables["hostvars"]
        self._templar = templar
        self._defaults = defaults
        self._seen: dict[str, Any] = {}

    def of(self, host: str, name: str) -> Any:
        """A variable as a role sees it on a host."""
        if host == self._asking:
            raw = self._variables.get(name)
            given = None if raw == self._defaults.get(name) else self._templar.template(raw)
            return self._plain_default(name) if given is None else given
        play = self._of_the_play(name)
        if play is not None:
            return self._templar.template(play)
        value = self._host(host).get(name)
        return self._plain_default(name) if value is None else value

    def fact(self, host: str, name: str) -> Any:
        """What was found out about a host."""
        known = self._variables if host == self._asking else self._host(host)
        return (known.get("ansible_facts") or {}).get(name)

    def address(self, host: str) -> str:
        """Where other hosts reach a host."""
        return host_address(self._host(host))

    def _host(self, host: str) -> Any:
        if host not in self._seen:
            self._seen[host] = self._hostvars[host]
        return self._seen[host]

    def _of_the_play(self, name: str) -> Any:
        """What the play says: neither of the asking host's inventory nor a default."""
        raw = self._variables.get(name)
        if raw is None or raw == self._defaults.get(name):
            return None
        return None if raw == self._hostvars.raw_get(self._asking).get(name) else raw

    def _plain_default(self, name: str) -> Any:
        """The role's default, unless it is itself computed."""
        value = self._defaults.get(name)
        return None if "{{" in str(value) else value


def subject(file: str) -> str:
    """The subject of a certificate; what is wrong with the file is a finding of its own."""
    if certificates.CRYPTOGRAPHY_ERROR is not None:
        return ""
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8")
        return subject_of(certificates.parse_certificates(text, file)[0])
    except (OSError, UnicodeDecodeError, certificates.TrustError):
        return ""


def public_half(key: str) -> str:
    """The public half of a private key, both as PEM."""
    if certificates.CRYPTOGRAPHY_ERROR is not None:
        raise AnsibleLookupError(
            "reading the key of the releases needs the Python package cryptography on the "
            "controller: pip install cryptography"
        ) from certificates.CRYPTOGRAPHY_ERROR
    return certificates.public_half(key, "release_signing_key")


def state(path: Path) -> Any:
    """What an earlier run, or an earlier task of this one, left there; None if there is nothing.

    Read each time, since tasks of a play write it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SiteError(
            f"{path}, which a run writes, cannot be read ({error}); bring back a copy of it, or "
            "delete it and run site.yml"
        ) from error


def _facts(variables: Mapping[str, Any]) -> Iterator[Any]:
    """The facts of the host that asks, which are at hand, and then of the others."""
    yield variables.get("ansible_facts")
    for host in variables["groups"].get("all", []):
        yield variables["hostvars"][host].get("ansible_facts")


def site_of_this_run(variables: Mapping[str, Any]) -> dict[str, Any]:
    """What was found out about the site in this very run; facts of another one may be cached."""
    for facts in _facts(variables):
        found = (facts or {}).get("mlops_site")
        if found and found.get("run") in (os.getpid(), os.getppid()):
            return {
                "identity": found["id"],
                "adopts": found["adopts"],
                "authority": found["authority"],
            }
    return {}


class LookupModule(LookupBase):  # type: ignore[misc]
    """Ansible's entry point."""

    def run(
        self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[Any]:
        variables = variables or {}
        self.set_options(var_options=variables, direct=kwargs)
        try:
            known = description()
            values = Values(variables, self._templar, known.defaults)
            lost = lost_hosts(self._declared(variables), variables["groups"]).hosts
            site = Site(
                table=known.table,
                provides=known.provides,
                groups=without(variables["groups"], lost) if lost else variables["groups"],
                lost=lost,
                inventory=variables["groups"],
                fact=values.fact,
                state=lambda name: state(self._state_directory(variables) / name),
                value=values.of,
                secret=lambda name, kind="password", length=32: self._secret(
                    variables, name, kind, length
                ),
                address=values.address,
                root=str(COLLECTION),
                subject=subject,
                public_half=public_half,
                **site_of_this_run(variables),
            )
            return [handed(site, str(term), str(variables["inventory_hostname"])) for term in terms]
        except (SiteError, ShapeError, certificates.TrustError) as error:
            raise AnsibleLookupError(f"{error}.") from error

    def _state_directory(self, variables: Mapping[str, Any]) -> Path:
        given = self._templar.template(variables.get(STATE_DIRECTORY))
        return Path(given or Path(variables.get("inventory_dir") or "", ".state"))

    def _declared(self, variables: Mapping[str, Any]) -> Any:
        """What the inventory declares lost; the check of the inventory tells what has no value."""
        try:
            return self._templar.template(variables.get(PLACE))
        except AnsibleError:
            return None

    def _secret(self, variables: dict[str, Any], name: str, kind: str, length: int) -> str:
        lookup = lookup_loader.get(
            "mlops.onprem.secret", loader=self._loader, templar=self._templar
        )
        return str(lookup.run([name], variables, kind=kind, length=length)[0])
