# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alert rules as they are placed: each alert with the address of its runbook.

The text is kept as it is written, with its comments; only a line is added to the annotations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container

from .runbooks import address

ALERT = re.compile(r"^\s*-\s+alert:\s*[\"']?(\w+)[\"']?\s*(?:#.*)?$")
ANNOTATIONS = re.compile(r"^(\s*)annotations:\s*(?:#.*)?$")


def with_runbooks(text: str, gateway: str, known: Container[str]) -> str:
    """The file with ``runbook_url`` for each alert that has a page; others are left as they are."""
    lines, alert = [], ""
    for line in text.splitlines(keepends=True):
        lines.append(line)
        begins = ALERT.match(line.rstrip("\n"))
        if begins:
            alert = begins[1]
        within = ANNOTATIONS.match(line.rstrip("\n"))
        if within and alert in known:
            url = json.dumps(address(gateway, alert))
            lines.append(f"{within[1]}  runbook_url: {url}\n")
            alert = ""
    return "".join(lines)
