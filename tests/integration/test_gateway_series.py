# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that outsiders make up at the gateway's own nginx become no series of the event stream."""

from __future__ import annotations

import http.client
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._audit.collector import Collector
from ansible_collections.mlops.onprem.plugins.module_utils._audit.store import Store

from tests.integration.fleet_gateway import ROLES, NoNginx, free_port, nginx_of, program, rendered
from tests.integration.test_gateway_rights import PEOPLE, Behind, ask, configuration, moved

NAMES = [person["name"] for person in PEOPLE]


def listening(place: Path, port: int, behind: int) -> str:
    """The gateway with what the event stream has nginx write down."""
    text = configuration(place, port, behind)
    (place / "nginx/audit").mkdir()
    (place / "nginx/audit").chmod(0o777)
    for template, target in {"site": "sites.d", "gateway": "gateway.d"}.items():
        own = rendered(ROLES / f"audit_log/templates/{template}.conf.j2")
        (place / target / "audit_log.conf").write_text(moved(own, place))
    # Where its root is not there, nginx writes no log whose name has a variable in it.
    (place / "gateway.d/root.conf").write_text(f"root {place};\n")
    return text


def collected(place: Path) -> list[str]:
    """The page for Prometheus after a look."""
    (place / "audit/events").mkdir(parents=True, exist_ok=True)
    (place / "inbox").mkdir(exist_ok=True)
    config: dict[str, Any] = {
        "inbox": str(place / "inbox"),
        "gateway_log": str(place / "nginx/audit"),
        "metrics": str(place / "metrics.prom"),
        "rollouts": str(place / "rollout"),
        "host": "ctl1",
        "people": NAMES,
        "services": ["admin"],
        "secret": "5ec",
        "device_seconds": 300,
        "retention_days": 30,
        "most_mib": 0,
        "witness_seconds": 600,
    }
    collector = Collector(config, Store(place / "audit"), time.time())
    collector.run()
    assert collector.problems == []
    return (place / "metrics.prom").read_text().splitlines()


def counts(page: list[str]) -> dict[str, int]:
    rows = [row.rpartition(" ") for row in page if not row.startswith("#")]
    return {name: int(value) for name, _space, value in rows}


def test_made_up_names_methods_and_paths_add_no_series(tmp_path: Path) -> None:
    try:
        program()
    except NoNginx as reason:
        pytest.skip(str(reason))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Behind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = free_port()
    tmp_path.chmod(0o755)
    try:
        with nginx_of(tmp_path, port, listening(tmp_path, port, server.server_address[1])):
            assert ask(port, "sam", "GET", "/prometheus/api/v1/alerts") == 200
            before = counts(collected(tmp_path))
            for number in range(8):
                word = f"made-up-{number}"
                assert ask(port, word, "GET", f"/prometheus/{word}") == 401
                ask(port, word, word.upper(), f"/{word}")
                ask(port, word, "POST", f"/alertmanager/{word}?{word}={word}")
            assert ask(port, "sam", "GET", "/prometheus/api/v1/alerts", password="guess") == 401
            after = counts(collected(tmp_path))
    except http.client.HTTPException as error:
        pytest.fail(f"the gateway closed a connection: {error}")
    finally:
        server.shutdown()
    assert set(after) == set(before)
    grown = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert grown == {
        'mlops_logins_denied_total{account="sam"}': 1,
        'mlops_logins_denied_total{account="unknown"}': 16,
    }
