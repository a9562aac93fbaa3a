# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The platform beside a company's own services, on a host with strict rules."""

from __future__ import annotations

import pytest
from testinfra.host import Host

from tests.infra.outside import Client

COMPANY = ["nginx", "prometheus", "prometheus-node-exporter", "postgresql@17-main"]
OURS = [
    "mlops-nginx",
    "mlops-prometheus",
    "mlops-alertmanager",
    "mlops-node-exporter",
    "mlops-blackbox-exporter",
]


@pytest.mark.parametrize("name", COMPANY)
def test_the_companys_service_runs_enabled(host: Host, name: str) -> None:
    assert host.service(name).is_running
    assert host.service(name).is_enabled


def test_the_companys_services_have_answered_all_the_time(host: Host) -> None:
    assert not host.file("/run/company-watch/failures").exists
    assert int(host.check_output("cat /run/company-watch/rounds")) > 10


@pytest.mark.parametrize("name", OURS)
def test_the_platforms_service_runs_beside_it(host: Host, name: str) -> None:
    assert host.service(name).is_running
    assert host.service(name).is_enabled


def test_the_gateway_answers_beside_the_companys_web_server(host: Host) -> None:
    assert Client(host).ask("GET", "/healthz").text == "ok\n"


@pytest.mark.parametrize("name", ["prometheus-alertmanager", "prometheus-blackbox-exporter"])
def test_a_unit_whose_package_came_with_us_rests(host: Host, name: str) -> None:
    assert not host.service(name).is_running
    assert not host.service(name).is_enabled


def test_only_packages_that_came_with_us_are_in_the_ledger(host: Host) -> None:
    ledger = host.check_output("cat /var/lib/mlops/ledger.json")
    assert '"name": "prometheus-alertmanager"' in ledger
    for name in ("nginx", "nginx-common", "prometheus", "prometheus-node-exporter"):
        assert f'"name": "{name}"' not in ledger


def test_a_held_package_is_still_held(host: Host) -> None:
    assert host.check_output("apt-mark showhold").split() == ["nginx", "nginx-common"]


def test_a_service_can_use_an_application_in_spite_of_the_umask(host: Host) -> None:
    host.check_output("runuser -u nobody -- /opt/mlops/scenario/bin/python -c 'import flask'")


def test_what_the_platform_placed_can_be_read_where_it_should(host: Host) -> None:
    closed = host.check_output("find /etc/mlops /opt/mlops -maxdepth 1 -type d ! -perm -055")
    assert closed == ""
