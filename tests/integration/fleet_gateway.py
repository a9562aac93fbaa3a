# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's nginx for devices that fetch their orders, with the configuration of the roles.

nginx is the one of this machine, or Debian's taken out of its package without installing it. Only
paths, ports and the account differ from a real control host.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml
from ansible_collections.mlops.onprem.plugins.filter.nginx_revoked import nginx_revoked
from ansible_collections.mlops.onprem.plugins.filter.nginx_subject import nginx_subject

from tests import unpacked
from tests.patience import PATIENCE
from tests.unit.plugins.module_utils._trust.companies import Holder, authority, leaf

ROLES = Path(__file__).resolve().parents[2] / "roles"


class NoNginx(Exception):
    """There is no nginx here, and none to be had."""


def program() -> str:
    """nginx of this machine, or Debian's."""
    found = unpacked.program("nginx", ("nginx",), "nginx")
    if not found or subprocess.run([found, "-v"], check=False, capture_output=True).returncode:
        raise NoNginx("needs nginx, or apt-get to fetch it with")
    return found


RELAY_PASSWORD = "of the relay"
RELAY_SHOWN = base64.b64encode(f"mlops:{RELAY_PASSWORD}".encode()).decode()


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def rendered(template: Path, **settings: Any) -> str:
    """A template as its role has it, with the defaults that are plain values."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    environment.filters.update(bool=bool, dirname=os.path.dirname, to_json=json.dumps)
    environment.filters["mlops.onprem.nginx_subject"] = nginx_subject
    environment.filters["mlops.onprem.nginx_revoked"] = nginx_revoked
    values: dict[str, Any] = {}
    for page in ("defaults/main.yml", "vars/main.yml"):
        for name, value in yaml.safe_load((template.parents[1] / page).read_text()).items():
            if not (isinstance(value, str) and "{{" in value):
                values[name] = value
    return environment.from_string(template.read_text()).render({**values, **settings})


@dataclass(frozen=True)
class Gateway:
    """A gateway that runs: its port, its directories and the authority of the site."""

    port: int
    place: Path
    ca: Holder
    pid: int
    metrics: int

    @property
    def documents(self) -> Path:
        return self.place / "fleet"

    @property
    def written(self) -> Path:
        return self.place / "nginx/fleet"

    def publish(self, path: str, data: bytes) -> None:
        """Put a document where nginx hands it out, whole or not at all."""
        target = self.documents / path
        fresh = target.with_name(f".{target.name}.new")
        fresh.write_bytes(data)
        fresh.replace(target)


def configure(
    place: Path,
    ports: tuple[int, int],
    ca: Holder,
    relay: int = 0,
    revoked: Sequence[dict[str, str]] = (),
) -> str:
    """Write everything that nginx reads; the text of the main file.

    ``ports`` are those of the gateway and of the metrics, ``relay`` the one at which a relay takes
    what devices measure.
    """
    host = leaf(ca, ["localhost"])
    for name, text in (
        ("host.crt", host.pem),
        ("host.key", host.key),
        ("authority.crt", ca.pem),
    ):
        (place / name).write_text(text)
    for path in ("fleet/root", "fleet/channel", "fleet/issued", "sites.d", "metrics.d"):
        (place / path).mkdir(parents=True)
    for path in ("state", "enroll", "log"):
        (place / "nginx/fleet" / path).mkdir(parents=True)
    port, metrics = ports
    site = rendered(
        ROLES / "gateway/templates/fleet.conf.j2",
        gateway_fleet_port=f"127.0.0.1:{port}",
        gateway_metrics=bool(relay),
        gateway_metrics_relay_port=relay,
    )
    main = rendered(
        ROLES / "common/templates/nginx.conf.j2",
        common_nginx_status_port=free_port(),
        common_nginx_revoked=revoked,
        common_nginx_metrics_port=f"127.0.0.1:{metrics}",
        __common_nginx_metrics_clients=["ctl1", "ctl2"],
        __common_nginx_metrics_client_ca="/etc/mlops/tls/authority.crt",
    )
    for old, new in (
        ("/etc/mlops/nginx/", f"{place}/"),
        ("/etc/mlops/tls/", f"{place}/"),
        ("/var/lib/mlops/fleet", f"{place}/fleet"),
        ("/var/lib/mlops/nginx", f"{place}/nginx"),
        ("root /var/lib/mlops;", f"root {place};"),
        ("/run/mlops-nginx/", f"{place}/"),
        ("include /etc/nginx/mime.types;", "types { }"),
    ):
        site, main = site.replace(old, new), main.replace(old, new)
    (place / "status.account").write_text("return 401;\n")
    (place / "metrics_relay.account").write_text(
        f'proxy_set_header Authorization "Basic {RELAY_SHOWN}";\n'
    )
    (place / "sites.d/fleet.conf").write_text(site)
    return main


@contextmanager
def nginx_of(place: Path, port: int, text: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run nginx with a configuration, from the moment on that it listens."""
    nginx = program()
    (place / "nginx.conf").write_text(text)
    with (place / "stderr.log").open("wb") as errors:
        process = subprocess.Popen(
            [nginx, "-e", "stderr", "-c", str(place / "nginx.conf"), "-g", "daemon off;"],
            stderr=errors,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    break
            said = (place / "stderr.log").read_text()
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


@contextmanager
def running(
    place: Path,
    ca: Holder | None = None,
    relay: int = 0,
    revoked: Sequence[dict[str, str]] = (),
) -> Iterator[Gateway]:
    """Run the gateway on a port of loopback."""
    place.mkdir(exist_ok=True)
    place.chmod(0o755)
    port, metrics = free_port(), free_port()
    ca = ca or authority("Site")
    user = "user root;\n" if os.geteuid() == 0 else ""
    with nginx_of(
        place, port, user + configure(place, (port, metrics), ca, relay, revoked)
    ) as process:
        yield Gateway(port, place, ca, process.pid, metrics)
