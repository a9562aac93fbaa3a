# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether Alertmanager has handed something over, by its own counters.

``alertmanager_notification_requests_total`` counts attempts after they ended, and the same with
``failed`` those that the other side refused or did not answer (github.com/prometheus/alertmanager,
notify/notify.go). ``alertmanager_notifications_total`` counts before the first attempt and proves
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

LINE = re.compile(
    r"alertmanager_notification_requests_(failed_)?total\{([^}]*)\}\s+([0-9.e+]+)\s*", re.ASCII
)
INTEGRATION = re.compile(r'(?:^|,)integration="([^"]*)"')


@dataclass(frozen=True)
class Attempts:
    """How often something was tried to be handed over, and how often that failed."""

    tried: float = 0
    failed: float = 0

    @property
    def taken(self) -> float:
        return self.tried - self.failed


def counted(page: str) -> dict[str, Attempts]:
    """The attempts by integration, such as ``email``, from a page of metrics."""
    found: dict[str, Attempts] = {}
    for line in page.splitlines():
        match = LINE.fullmatch(line)
        name = INTEGRATION.search(match[2]) if match else None
        if match and name:
            old = found.get(name[1], Attempts())
            value = float(match[3])
            found[name[1]] = (
                Attempts(old.tried, old.failed + value)
                if match[1]
                else Attempts(old.tried + value, old.failed)
            )
    return found


def missing(
    before: Mapping[str, Attempts], after: Mapping[str, Attempts], wanted: Mapping[str, int]
) -> list[str]:
    """What has not been handed over yet, each as a sentence."""
    found = []
    for name, count in sorted(wanted.items()):
        old, new = before.get(name, Attempts()), after.get(name, Attempts())
        taken, failed = new.taken - old.taken, new.failed - old.failed
        if taken < count:
            why = f"; {failed:.0f} attempts failed" if failed > 0 else "; it was not tried yet"
            found.append(f"{taken:.0f} of {count} deliveries by {name} were taken{why}")
    return found


def alert(test: str, sender: str, site: str, runbook: str, ends: str) -> dict[str, object]:
    """The test alert as Alertmanager's API takes it; ``test`` tells it from every other."""
    return {
        "labels": {"alertname": "NotificationTest", "severity": "warning", "test": test},
        "annotations": {
            "summary": f"Test of the alerts of {site}",
            "description": f"Sent by {sender}. Nothing is wrong; that you read this is the result.",
            "runbook": "Tell whoever ran the test that it has arrived.",
            "runbook_url": runbook,
        },
        "endsAt": ends,
    }
