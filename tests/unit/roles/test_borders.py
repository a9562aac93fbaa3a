# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may read metrics, and who is told of alerts: what follows from the variables of the roles."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.playing import played

ROOT = Path(__file__).resolve().parents[3]
OWN = "/etc/mlops/tls/authority.crt"
MAIL = {"email_configs": [{"to": "hush-hush@example.com"}]}
# Each is a host of one inventory, so that Ansible starts once.
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "extra": {"common_extra_nginx_metrics_clients": ["CN=p,O=Example"]},
    "company": {
        "common_extra_nginx_metrics_clients": ["CN=p,O=Example"],
        "common_nginx_metrics_client_ca_file": __file__,
        "monitoring_mode": "existing",
        "monitoring_server": True,
    },
    "forgotten": {"common_nginx_metrics_client_ca_file": __file__},
    "both": {
        "common_extra_nginx_metrics_clients": ["CN=p,O=Example"],
        "common_nginx_metrics_client_ca_file": __file__,
    },
    "nobody": {
        "common_nginx_metrics_client_ca_file": __file__,
        "monitoring_mode": "existing",
    },
    "missing": {"common_nginx_metrics_client_ca_file": "/no/such/file"},
    "mixed": {
        "common_extra_nginx_metrics_clients": ["CN=p,O=Example"],
        "trust_extra_ca_files": ["/pki/root.pem"],
    },
    "silent": {"monitoring_server": True},
    "authorities": {
        "monitoring_server": True,
        "monitoring_alert_mail": {"ca_file": "/etc/mail.pem", "to": ["a@example.com"]},
        "monitoring_alert_webhooks": [{"url": "https://w.lan", "ca_file": "/etc/hooks.pem"}],
        "monitoring_existing_alertmanagers": [{"url": "https://a.lan", "ca_file": "/etc/mail.pem"}],
        "monitoring_existing_ca_file": "/not/looked/at",
    },
    "elsewhere": {
        "monitoring_server": True,
        "monitoring_mode": "existing",
        "monitoring_existing_ca_file": "/etc/theirs.pem",
    },
    "wrong": {"monitoring_server": True, "monitoring_alert_receiver": MAIL},
    "told": {
        "monitoring_server": True,
        "monitoring_alert_receiver": {"webhook_configs": [{"url": "https://w.lan/hush-hush"}]},
    },
}
LOOKS = yaml.safe_load((ROOT / "roles/monitoring/tasks/preflight.yml").read_text())[0]["when"]
SHOWN = (
    "{'common': __common_findings, 'looked': looked | default(false), "
    "'asked': __monitoring_ask_files, "
    "'monitoring': __monitoring_findings_receiver, "
    f"'nginx': lookup('ansible.builtin.template', '{ROOT}/roles/common/templates/nginx.conf.j2')}}"
)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the roles' variables come to in each case."""
    folder = tmp_path_factory.mktemp("borders")
    roles = [ROOT / "roles" / name for name in ("common", "monitoring")]
    defaults = [str(role / "defaults/main.yml") for role in roles]
    fixed = [str(role / "vars/main.yml") for role in roles]
    hosts = {"all": {"hosts": CASES, "vars": {"ansible_python_interpreter": sys.executable}}}
    (folder / "hosts.json").write_text(json.dumps(hosts))
    play = [
        {
            "hosts": "all",
            "gather_facts": False,
            "connection": "local",
            "vars": {"common_nginx_metrics_clients": ["ctl1"], "monitoring_targets": []},
            "vars_files": fixed,
            "tasks": [
                {"ansible.builtin.set_fact": {"looked": True}, "when": LOOKS},
                {"ansible.builtin.set_fact": {"seen": "{{ " + SHOWN + " }}"}},
                # One file for all hosts: each task that runs a module costs each host a program.
                {
                    "ansible.builtin.copy": {
                        "content": "{{ dict(ansible_play_hosts | zip(ansible_play_hosts "
                        "| map('extract', hostvars, 'seen'))) | to_json }}",
                        "dest": f"{folder}/seen.json",
                        "mode": "0600",
                    },
                    "run_once": True,
                },
            ],
        }
    ]
    (folder / "play.json").write_text(json.dumps(play))
    # Defaults are the weakest there is, as those of a group that all are in.
    (folder / "group_vars/all").mkdir(parents=True)
    for number, file in enumerate(defaults):
        (folder / f"group_vars/all/{number}.yml").write_text(Path(file).read_text())
    played(folder)
    seen: dict[str, dict[str, Any]] = json.loads((folder / "seen.json").read_text())
    assert set(seen) == set(CASES)
    return seen


def finding(rows: list[dict[str, str]], name: str) -> dict[str, str]:
    (found,) = [row for row in rows if row["id"] == name]
    return found


def clients(conf: str) -> tuple[str, str]:
    """The authority of the clients that read metrics, and the lines that let them in."""
    lines = [line.strip() for line in conf.splitlines()]
    (authority,) = [line for line in lines if line.startswith("ssl_client_certificate")]
    return authority.split()[1].rstrip(";"), " ".join(
        line for line in lines if line.endswith('" 1;')
    )


def test_the_platform_s_own_authority_vouches(rendered: dict[str, Any]) -> None:
    authority, let_in = clients(rendered["plain"]["nginx"])
    assert (authority, "ctl1" in let_in) == (OWN, True)
    authority, let_in = clients(rendered["extra"]["nginx"])
    assert (authority, "ctl1" in let_in, "CN=p,O=Example" in let_in) == (OWN, True, True)


def test_none_of_our_names_counts_where_the_company_issues(rendered: dict[str, Any]) -> None:
    authority, let_in = clients(rendered["company"]["nginx"])
    assert authority == "/etc/mlops/nginx/metrics-clients.crt"
    assert "CN=p,O=Example" in let_in
    assert "ctl1" not in let_in


@pytest.mark.parametrize(
    ("case", "looked"), [("plain", False), ("silent", False), ("authorities", True)]
)
def test_a_host_is_looked_at_where_there_is_something_to_see(
    rendered: dict[str, Any], case: str, looked: bool
) -> None:
    """Ansible takes nothing but a boolean for a condition."""
    assert rendered[case]["looked"] is looked


@pytest.mark.parametrize(
    ("case", "name", "severity"),
    [
        ("plain", "common.metrics_clients", "pass"),
        ("extra", "common.metrics_clients", "pass"),
        ("mixed", "common.metrics_clients", "warn"),
        ("company", "common.metrics_clients", "pass"),
        ("company", "common.metrics_client_ca", "pass"),
        ("forgotten", "common.metrics_clients", "fail"),
        ("both", "common.metrics_clients", "fail"),
        ("nobody", "common.metrics_clients", "fail"),
        ("missing", "common.metrics_client_ca", "fail"),
    ],
)
def test_who_would_be_left_out_is_told(
    rendered: dict[str, Any], case: str, name: str, severity: str
) -> None:
    found = finding(rendered[case]["common"], name)
    assert found["severity"] == severity, found
    assert "common_nginx_metrics_client_ca_file" in found["remedy"]


@pytest.mark.parametrize(
    ("case", "severity", "word"),
    [
        ("silent", "warn", "sent to nobody"),
        ("told", "pass", "webhook_configs"),
        ("wrong", "fail", "email_configs[0] lacks"),
    ],
)
def test_a_receiver_is_asked_for_where_alerts_are_raised(
    rendered: dict[str, Any], case: str, severity: str, word: str
) -> None:
    found = finding(rendered[case]["monitoring"], "monitoring.alert_receiver")
    assert (found["severity"], word in found["found"]) == (severity, True), found
    assert "hush-hush" not in json.dumps(found)
    assert "monitoring_alert_receiver" in found["remedy"]


@pytest.mark.parametrize(
    ("case", "files"),
    [
        ("plain", []),
        ("silent", []),
        ("authorities", ["/etc/mail.pem", "/etc/hooks.pem"]),
        ("elsewhere", ["/etc/theirs.pem"]),
    ],
)
def test_files_of_authorities_on_the_host_are_asked_for(
    rendered: dict[str, Any], case: str, files: list[str]
) -> None:
    assert rendered[case]["asked"] == [
        {"file": path, "contains": "CERTIFICATE-----"} for path in files
    ]
