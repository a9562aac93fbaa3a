# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: alerts
short_description: Alert rules and runbooks as they are placed
version_added: 0.3.0
author:
  - The mlops.onprem developers (@mlops-onprem)
description:
  - Reads files with alert rules on the controller, and C(runbooks.yml) beside each of them where
    there is one.
options:
  _terms:
    description:
      - With V(rules), the files with the address of its runbook in the annotations of each alert.
      - With V(pages), the runbooks as pages.
      - With V(merged), one file C(rules.yml) with all of them and O(more), and the names of its
        rules as C(rules).
    type: list
    elements: str
    required: true
  files:
    description: Files with alert rules, by the name under which they are placed.
    type: dict
    required: true
  gateway:
    description: URL of the gateway, without path.
    type: str
    required: true
  more:
    description: Texts of further files with rules, which V(merged) puts first.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show the alert rules of a role
  ansible.builtin.debug:
    msg: >-
      {{ query('mlops.onprem.alerts', 'rules', files={'gateway': 'roles/gateway/files/alerts.yml'},
               gateway='https://ctl1') }}
"""

RETURN = r"""
_raw:
  description: Files, each with C(name) and C(content).
  type: list
  elements: dict
"""

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.module_utils.common.yaml import yaml_dump, yaml_load
from ansible.plugins.lookup import LookupBase
from ansible_collections.mlops.onprem.plugins.module_utils._findings.shape import ShapeError
from ansible_collections.mlops.onprem.plugins.module_utils._monitoring.rules import with_runbooks
from ansible_collections.mlops.onprem.plugins.module_utils._monitoring.runbooks import (
    Runbook,
    pages,
    parsed,
)


def runbooks(path: Path) -> tuple[Runbook, ...]:
    """The runbooks beside a file with rules; none for a file of the company's own."""
    beside = path.with_name("runbooks.yml")
    if not beside.is_file():
        return ()
    try:
        return parsed(yaml_load(beside.read_text(encoding="utf-8")))
    except ShapeError as error:
        raise AnsibleLookupError(f"{beside}: {error}") from error


def merged(texts: list[str]) -> dict[str, Any]:
    """One file with the groups of several, and the names of all rules."""
    groups = [group for text in texts for group in yaml_load(text.encode())["groups"]]
    names = [rule.get("alert") or rule["record"] for group in groups for rule in group["rules"]]
    content = yaml_dump({"groups": groups}, sort_keys=False, width=1000)
    head = "# Written by mlops.onprem for an existing Prometheus: add it to its rule_files.\n"
    return {"name": "rules.yml", "content": head + content, "rules": sorted(set(names))}


class LookupModule(LookupBase):  # type: ignore[misc]
    """Thin: reads, and hands on to what is pure."""

    def run(
        self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[dict[str, Any]]:
        self.set_options(var_options=variables, direct=kwargs)
        files = {str(name): Path(path) for name, path in self.get_option("files").items()}
        gateway = str(self.get_option("gateway"))
        found: list[dict[str, Any]] = []
        for term in terms:
            if term == "rules":
                found += [self._rules(name, path, gateway) for name, path in files.items()]
            elif term == "pages":
                books = [book for path in files.values() for book in runbooks(path)]
                found += [{"name": name, "content": page} for name, page in pages(books).items()]
            elif term == "merged":
                rows = [self._rules(name, path, gateway) for name, path in files.items()]
                found.append(merged([*self.get_option("more"), *(r["content"] for r in rows)]))
            else:
                raise AnsibleLookupError(f"found {term!r}, wanted rules, pages or merged")
        return found

    @staticmethod
    def _rules(name: str, path: Path, gateway: str) -> dict[str, str]:
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise AnsibleLookupError(
                f"the alert rules {name} of monitoring_rules cannot be read: {error}"
            ) from error
        known = {book.alert for book in runbooks(path)}
        return {"name": name, "content": with_runbooks(text, gateway, known)}
