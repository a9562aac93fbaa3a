# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell Alertmanager that Prometheus is silent, since nobody else would.

    mlops_alert_watch.py ALERTMANAGER HOST GATEWAY USER PASSWORD_FILE

The alert Watchdog always fires. When Alertmanager does not have it any more (Prometheus ended, does
not evaluate its rules, or does not get through), the alert PrometheusDown is posted, and again at
each look; it ends by itself when nobody posts it. Standard library only.
"""

from __future__ import annotations

import base64
import json
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path

ALERT = "PrometheusDown"
GRACE = timedelta(minutes=3)
"""Alertmanager keeps no alerts over a restart; Prometheus sends again within a minute."""
LASTS = timedelta(minutes=2)
Ask = Callable[..., object]


def when(text: str) -> datetime:
    """A time as Alertmanager writes it, to the second."""
    return datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)


def alert(host: str, gateway: str, now: datetime) -> dict[str, object]:
    """What is posted."""
    return {
        "labels": {"alertname": ALERT, "severity": "critical", "host": host},
        "annotations": {
            "summary": f"Prometheus on {host} is silent",
            "description": "Alertmanager does not hear from it: no alert can be raised.",
            "runbook": f"On {host} run: journalctl -u mlops-prometheus -n 50.",
            "runbook_url": f"{gateway}/runbooks/{ALERT}.html",
        },
        "endsAt": (now + LASTS).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def silent(alerts: list[object], status: Mapping[str, str], now: datetime) -> bool:
    """Whether Prometheus would have been heard by now."""
    return not alerts and now - when(status["uptime"]) >= GRACE


def asker(url: str, user: str, password: str) -> Ask:
    """Asks the API of Alertmanager on this host; a proxy of the environment has no part in that."""
    opened = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
    account = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"

    def ask(path: str, told: object = None) -> object:
        request = urllib.request.Request(
            f"{url}/api/v2/{path}",
            data=None if told is None else json.dumps(told).encode(),
            headers={"Content-Type": "application/json", "Authorization": account},
        )
        with opened(request, timeout=10) as answer:
            said = answer.read()
        return json.loads(said) if said.strip() else None

    return ask


def look(ask: Ask, host: str, gateway: str, now: datetime) -> bool:
    """One look; whether the alert was posted."""
    wanted = urllib.parse.urlencode({"filter": 'alertname="Watchdog"'})
    alerts, status = ask(f"alerts?{wanted}"), ask("status")
    if not isinstance(alerts, list) or not isinstance(status, dict):
        raise ValueError("what answers is no Alertmanager")
    if not silent(alerts, status, now):
        return False
    ask("alerts", [alert(host, gateway, now)])
    return True


def main(url: str, host: str, gateway: str, user: str, password_file: str) -> int:
    """The program."""
    try:
        password = Path(password_file).read_text(encoding="utf-8").rstrip("\n")
        if look(asker(url, user, password), host, gateway, datetime.now(timezone.utc)):
            print("Prometheus is silent; Alertmanager was told.")
    except (OSError, ValueError, KeyError) as error:
        print(f"Alertmanager at {url} cannot be asked: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:6]))
