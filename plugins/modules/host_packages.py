#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
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
  - The packages are not marked as installed by an administrator; a setting of apt,
    C(/etc/apt/apt.conf.d/90mlops-ROLE), keeps them from being taken away as unused. So a mark that
    is made later tells that somebody else wants them, too.
  - Package lists are refreshed only if they are missing or do not know a package.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  site_id:
    description:
      - Identity of the site that the task is for, as the action plugin sends it. A host that says
        it belongs to another site is refused. Not for playbooks.
    type: str
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
      - Only applies to a unit whose own package was installed by the platform, and that was not
        in use before. Such a unit is stopped and disabled once, when its package comes; whoever
        enables it later keeps it. How it was found is recorded, and restored if the package stays
        when the role is removed.
    type: list
    elements: str
    default: []
  install_recommends:
    description: Also install what the packages recommend. Brings more than is asked for.
    type: bool
    default: false
  hold:
    description:
      - Packages, or patterns such as C(nvidia-*), that are kept from being upgraded by anybody but
        the platform, such as a driver that has to stay with its kernel. Those that are not
        installed are passed over; those that somebody else holds stay his. What the role held
        before and is not named is let go. Without it, holds are left as they are.
    type: list
    elements: str
  undo:
    description:
      - A transaction that fails is taken back, as by M(mlops.onprem.host_remove). For packages
        whose scripts may fail, such as modules of the kernel that are built on the host.
    type: bool
    default: false
  log:
    description:
      - Pattern of the log that a failing script writes, whose end is told with O(undo).
    type: str
    default: ""
  upgrade:
    description:
      - Packages that are there are brought to the newest version that apt knows, also those that
        are held. Only with O(undo); a failed upgrade goes back to the versions of before, as far as
        apt still has them.
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
held:
  description: Packages that were held or let go, as C(hold NAME) and C(unhold NAME).
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
owners:
  description:
    - Roles that want all of these packages and disabled units now. Each could make the same call
      without any change.
    - None where nothing of it is the platform's.
  returned: success
  type: list
  elements: str
  sample: [gateway, monitoring]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import finish
from ansible_collections.mlops.onprem.plugins.module_utils._findings.sentence import diff_in_words
from ansible_collections.mlops.onprem.plugins.module_utils._host import (
    apt,
    args,
    packages,
    packages_apply,
)
from ansible_collections.mlops.onprem.plugins.module_utils._host.system import Book


def attempted(
    params: dict[str, Any], book: Book, names: list[str], missing: tuple[str, ...]
) -> packages.Simulated:
    """Install what is missing, or bring everything to its newest version, or leave no trace."""
    role, nothing = params["role"], packages.Simulated((), (), ())
    wanted = tuple(names) if params["upgrade"] else missing
    words = packages.install_words(wanted, params["install_recommends"], params["upgrade"])
    foreseen = packages_apply.foresee(words, missing) if wanted else nothing
    if book.check or not (missing or foreseen.upgraded):
        return foreseen
    units = tuple(params["disable_units"])
    return packages_apply.attempt(book, packages_apply.Attempt(role, words, units, params["log"]))


def work(module: AnsibleModule) -> dict[str, Any]:
    params, check, role = module.params, module.check_mode, args.role_of(module.params)
    names = list(dict.fromkeys(params["name"]))
    plan = packages.Simulated((), (), ())
    with Book(check, site=params["site_id"]) as book:
        pending = (book.ledger.transaction or {}).get("packages", [])
        repaired = packages_apply.finish_interrupted(book, check)
        missing = packages.lacking(names, apt.states(names))
        words = packages.install_words(missing, params["install_recommends"])
        if params["undo"]:
            plan = attempted(params, book, names, missing)
            missing = (*missing, *plan.upgraded)
        elif missing and check:
            plan = packages_apply.foresee(words, missing)
        elif missing:
            plan = packages_apply.install(book, role, words, missing, params["disable_units"])
        elif not check:
            packages_apply.mark(book, role, [name for name in names if name in pending])
            apt.settle(book)
        book.write(packages.shared(book.ledger, role, names))
        marked = packages_apply.mark(book, role)
        brought = {*pending, *plan.new}
        disabled = packages_apply.disable(book, role, params["disable_units"], brought)
        keys = [("package", name) for name in names]
        keys += [("rested", name) for name in params["disable_units"]]
        owners = book.ledger.owners_of_all(keys)
        held = [] if params["hold"] is None else packages_apply.hold(book, role, params["hold"])
    return {
        "changed": bool(missing or disabled or repaired or marked or held),
        "installed": sorted(plan.new),
        "upgraded": sorted(plan.upgraded),
        "disabled": disabled,
        "held": held,
        "repaired": repaired,
        "owners": owners,
        "diff": diff_in_words("packages", sorted(plan.new)),
    }


def main() -> None:
    finish(
        AnsibleModule(
            argument_spec=dict(args.PACKAGES),
            supports_check_mode=True,
        ),
        work,
    )


if __name__ == "__main__":
    main()
