# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two of the ten troubles of ``make soak SOAK=troubles``, where hosts stand anyway.

A device is switched off and a scheduled training fails. Each is to be seen where the start page
looks, and to come as a mail to a mail server; both are undone, and both alerts end.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import testinfra
import tomllib
from aiosmtpd.controller import Controller

from tests.infra.outside import ROOT, SITE, address_of, ca_bundle, secret
from tests.soak.troubles import Mailbox, Trouble, strike

SERVER, DEVICE = "mol1", "mol2"
PORT = 2525  # of extensions/molecule/monitoring/vars.yml
TOPOLOGY = SITE.parent / "topology.toml"
JOB = "mlops-pipeline-tried"
# An alert waits for two minutes at most, and its mail for half a minute more.
WITHIN = 600


class Gateway:
    """The alerts as the start page asks for them."""

    def __init__(self) -> None:
        self._session = requests.Session()
        self._session.verify = ca_bundle()
        self._session.auth = ("admin", secret("gateway_admin_password"))
        self._session.trust_env = False
        self._url = f"https://{address_of(SERVER)}/alertmanager/api/v2/alerts"

    def alerts(self) -> list[dict[str, Any]]:
        answer = self._session.get(self._url, params={"active": "true"}, timeout=60)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found


@pytest.fixture(name="mailbox")
def _mailbox() -> Iterator[Mailbox]:
    """The company's mail server, on the controller as the hosts reach it."""
    box = Mailbox()
    server = Controller(box, hostname=str(gateway_of_the_network()), port=PORT)
    server.start()
    yield box
    server.stop()


def gateway_of_the_network() -> str:
    network = str(tomllib.loads(TOPOLOGY.read_text(encoding="utf-8"))["network"])
    return network.rpartition(".")[0] + ".1"


def lab(*words: str) -> None:
    command = [sys.executable, "extensions/lab/lab.py", words[0], f"--topology={TOPOLOGY}"]
    subprocess.run([*command, *words[1:]], check=True, capture_output=True, cwd=ROOT)


def container(host: str) -> str:
    project = tomllib.loads(TOPOLOGY.read_text(encoding="utf-8"))["project"]
    return f"mlops-{project}-{host}"


def test_two_troubles_are_seen_mailed_and_over(mailbox: Mailbox) -> None:
    control = testinfra.get_host(f"ssh://{SERVER}", ssh_config=str(SITE / ".state/ssh/config"))
    troubles = [
        Trouble(
            *("device off", "HostUnreachable", DEVICE, WITHIN),
            lambda: lab("podman", "stop", "--time", "30", container(DEVICE)),
            lambda: lab("restart", DEVICE),
        ),
        Trouble(
            *("failed job", "ScheduledTrainingFailed", SERVER, WITHIN),
            lambda: control.check_output(f"systemd-run --quiet --unit={JOB} /bin/false"),
            lambda: control.check_output(f"systemctl reset-failed {JOB}"),
        ),
    ]
    strike(Gateway(), troubles, mailbox)
    assert {one.name: one.against() for one in troubles} == {one.name: [] for one in troubles}
    # Who reads the mail is told of the one and the other, and not of what follows from it.
    assert not [mail for mail in mailbox.mails if "TargetDown" in mail.subject.split()]
