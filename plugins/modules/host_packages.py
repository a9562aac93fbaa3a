#!/usr/bin/python
# Copyright: (c) 2026, The mlops.onprem developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_packages
short_description: Install Debian packages and remember what came with them
version_added: 0.1.0
description:
  - Installs packages in one C(apt-get) transaction and records in the host's ledger exactly those
    packages that the transaction brought, the users and groups that their scripts created, and
    the directories that would stay after a purge, so that M(mlops.onprem.host_remove) can take
    away all of it and nothing else.
  - Packages that were there before are never recorded and never removed.
  - Daemons that come with the transaction are not started. C(policy-rc.d) says so for the time of
    the transaction; a foreign one is put back afterwards, also after a killed run.
  - Waits for other users of dpkg and apt, and finishes an installation that was interrupted.
  - Package lists are refreshed only if they are missing or do not know a package.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  role:
    description:
      - Role for which the packages are installed. A package wanted by several roles stays until the
        last of them is removed.
    type: str
    required: true
  name:
    description: Packages to install.
    type: list
    elements: str
    required: true
  disable_units:
    description:
      - Packaged units that shall neither run nor be enabled, because the platform runs the program
        from a unit of its own.
      - Only applies if the package was installed by the platform.
    type: list
    elements: str
    default: []
  install_recommends:
    description: Also install what the packages recommend. Brings more than is asked for.
    type: bool
    default: false
extends_documentation_fragment: [mlops.onprem.previewed]
seealso:
  - module: mlops.onprem.host_remove
"""

EXAMPLES = r"""
- name: Install the packages of the monitoring role
  mlops.onprem.host_packages:
    role: monitoring
    name: [prometheus, prometheus-alertmanager]
    disable_units: [prometheus.service, prometheus-alertmanager.service]
"""

RETURN = r"""
installed:
  description: Packages that the transaction brought, with those they depend on.
  returned: success
  type: list
  elements: str
  sample: [prometheus, libjs-bootstrap4]
upgraded:
  description: Packages that had to be upgraded for it. They stay upgraded.
  returned: success
  type: list
  elements: str
disabled:
  description: Packaged units that were disabled.
  returned: success
  type: list
  elements: str
repaired:
  description: Whether an interrupted installation had to be finished first.
  returned: success
  type: bool
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import finish
from ansible_collections.mlops.onprem.plugins.module_utils._host import apt, packages
from ansible_collections.mlops.onprem.plugins.module_utils._host.args import ROLE, role_of
from ansible_collections.mlops.onprem.plugins.module_utils._host.errors import HostError
from ansible_collections.mlops.onprem.plugins.module_utils._host.system import (
    Book,
    must,
    properties,
)


def units_to_disable(units: list[str]) -> list[str]:
    wanted = []
    for unit in units:
        shown = properties(unit, "UnitFileState", "ActiveState")
        if shown.get("UnitFileState") in ("enabled", "enabled-runtime") or shown.get(
            "ActiveState"
        ) in ("active", "activating", "reloading"):
            wanted.append(unit)
    return wanted


def work(module: AnsibleModule) -> dict[str, Any]:
    owner, names = role_of(module.params), list(dict.fromkeys(module.params["name"]))
    check = module.check_mode
    with Book(check) as book:
        repaired = (book.ledger.transaction is not None) or apt.interrupted()
        if not check:
            repaired = apt.restore_policy() or repaired
            if repaired:
                apt.quiet_daemons()
                try:
                    apt.repair()
                finally:
                    apt.restore_policy()
        known = apt.states(names)
        missing = [name for name in names if known.get(name) != "installed"]
        plan = packages.Simulated((), (), ())
        if missing:
            plan = install(module, book, owner, missing)
        elif not check:
            apt.settle(book)
        # What another role of ours installed and this one wants too, belongs to both.
        ledger = book.ledger
        for name in names:
            if ledger.has("package", name):
                ledger = ledger.claim(owner, "package", name)
        book.write(ledger)
        disabled: list[str] = []
        if any(ledger.has("package", name) for name in names) and not (check and missing):
            disabled = units_to_disable(module.params["disable_units"])
        if disabled and not check:
            must(["systemctl", "disable", "--now", "--", *disabled], "disable packaged units")
    lines = "".join(f"{name}\n" for name in sorted(plan.new))
    return {
        "changed": bool(missing or disabled or repaired),
        "installed": sorted(plan.new),
        "upgraded": sorted(plan.upgraded),
        "disabled": disabled,
        "repaired": repaired,
        "diff": {
            "before": "",
            "after": lines,
            "before_header": "packages",
            "after_header": "packages",
        },
    }


def install(
    module: AnsibleModule, book: Book, owner: str, missing: list[str]
) -> packages.Simulated:
    words = ["install"]
    if not module.params["install_recommends"]:
        words.append("--no-install-recommends")
    words += ["--", *missing]
    if module.check_mode:
        # Refreshing the lists would be a change; without them the answer is what was asked for.
        ran = apt.apt("-s", *words)
        return (
            packages.simulated(ran.out)
            if ran.rc == 0
            else packages.Simulated(tuple(missing), (), ())
        )
    plan, refreshed = apt.simulate(words)
    if plan.removed:
        raise HostError(
            f"Installing {' '.join(missing)} would remove {' '.join(plan.removed)} from this host, "
            "which the platform did not install; remove it by hand, or place the role elsewhere."
        )
    apt.begin(book, owner, plan.new)
    apt.quiet_daemons()
    try:
        ran = apt.apt(*words)
        if ran.rc != 0 and packages.needs_lists(ran.said) and not refreshed:
            apt.refresh_lists()
            again, _refreshed = apt.simulate(words)
            ledger = book.ledger
            for name in again.new:
                ledger = ledger.claim(owner, "package", name)
            book.write(ledger)
            plan = again
            ran = apt.apt(*words)
        if ran.rc != 0:
            raise HostError(f"Packages could not be installed: {ran.said}")
    finally:
        apt.restore_policy()
    apt.settle(book)
    return plan


def main() -> None:
    finish(
        AnsibleModule(
            argument_spec={
                "role": ROLE,
                "name": {"type": "list", "elements": "str", "required": True},
                "disable_units": {"type": "list", "elements": "str", "default": []},
                "install_recommends": {"type": "bool", "default": False},
            },
            supports_check_mode=True,
        ),
        work,
    )


if __name__ == "__main__":
    main()
