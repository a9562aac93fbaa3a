# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node exporter that is there already is read, and none of ours is installed beside it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.playing import played

ROOT = Path(__file__).resolve().parents[3]
ROLE = ROOT / "roles" / "monitoring"
OTHER = "http://127.0.0.1:19100/metrics"
LISTENERS = [
    {"port": 22},
    {"port": 9100, "unit": "mlops-node-exporter.service"},
    {"port": 19100, "unit": "prometheus-node-exporter.service"},
]
BROUGHT = {"there": LISTENERS}
CASES: dict[str, dict[str, Any]] = {
    "managed": {},
    "moved": {"monitoring_node_exporter_port": 9200},
    "existing": {"monitoring_node_exporter_mode": "existing"},
    "elsewhere": {
        "monitoring_node_exporter_mode": "existing",
        "monitoring_node_exporter_url": OTHER,
    },
    # An earlier run brought one, which answers at 9100.
    "changed": {"monitoring_node_exporter_mode": "existing", **BROUGHT},
    "beside": {
        "monitoring_node_exporter_mode": "existing",
        "monitoring_node_exporter_url": OTHER,
        **BROUGHT,
    },
}
SERVING = ROLE.parent / "model_serving"
SENDER = SERVING / "templates/metrics_sender.yml.j2"


def absent(tasks: str) -> str:
    """What the task that places files takes away, as an expression."""
    for task in yaml.safe_load((ROLE.parent / tasks).read_text()):
        if "absent" in task.get("mlops.onprem.host_files", {}):
            return str(task["mlops.onprem.host_files"]["absent"]).strip().strip("{}")
    raise AssertionError(tasks)


SEEN = (
    f"{{'absent': {absent('monitoring/tasks/configure.yml')}, "
    f"'absent_here': {absent('model_serving/tasks/sender.yml')}, "
    "'users': __monitoring_users | map(attribute='name'),"
    " 'found': __monitoring_findings_node,"
    " 'packages': __monitoring_packages | map(attribute='package'),"
    " 'passwords': [__monitoring_node_password, __model_serving_node_password],"
    f" 'sender': lookup('ansible.builtin.template', '{SENDER}'),"
    f" 'conf': lookup('ansible.builtin.template', '{ROLE}/templates/metrics.conf.j2')}}"
)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("exporter")
    common = {"ansible_python_interpreter": sys.executable}
    (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": CASES, "vars": common}}))
    # Defaults are the weakest there is, as those of a group that all are in.
    (folder / "group_vars/all").mkdir(parents=True)
    for role in (ROLE, SERVING):
        file = folder / f"group_vars/all/{role.name}.yml"
        file.write_text((role / "defaults/main.yml").read_text())
    (folder / "group_vars/all/set.yml").write_text("monitoring_exporters_password: given\n")
    copied = {
        "content": "{{ " + SEEN + " | to_json }}",
        "dest": f"{folder}/{{{{ inventory_hostname }}}}.json",
        "mode": "0600",
    }
    play = [
        {
            "hosts": "all",
            "gather_facts": False,
            "connection": "local",
            "vars_files": [str(role / "vars/main.yml") for role in (ROLE, SERVING)],
            "vars": {
                "monitoring_server": False,
                "__monitoring_there": {"findings": [{"found": ""}, {"found": ""}]},
            },
            "tasks": [
                {
                    "ansible.builtin.set_fact": {
                        "mlops_supply": {"listeners": "{{ there | default([]) }}"},
                        "cacheable": True,
                    }
                },
                {"ansible.builtin.copy": copied},
            ],
        }
    ]
    (folder / "play.json").write_text(json.dumps(play))
    played(folder)
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in CASES}


@pytest.mark.parametrize("case", CASES)
def test_ours_comes_only_where_none_is_there(rendered: dict[str, Any], case: str) -> None:
    managed = CASES[case].get("monitoring_node_exporter_mode") != "existing"
    seen = rendered[case]
    assert ("mlops-node-exporter" in seen["users"]) is managed
    assert ("prometheus-node-exporter" in seen["packages"]) is managed


@pytest.mark.parametrize("case", CASES)
def test_the_account_of_ours_goes_with_it(rendered: dict[str, Any], case: str) -> None:
    managed = CASES[case].get("monitoring_node_exporter_mode") != "existing"
    gone = {path for path in rendered[case]["absent"] if "node" in path}
    assert (len(gone), len(rendered[case]["absent_here"])) == ((0, 0) if managed else (3, 1))
    assert ("/etc/mlops/nginx/node_exporter.account" in gone) is not managed


@pytest.mark.parametrize("case", CASES)
def test_what_writes_a_devices_metrics_shows_the_account_of_ours(
    rendered: dict[str, Any], case: str
) -> None:
    managed = CASES[case].get("monitoring_node_exporter_mode") != "existing"
    jobs = {
        job["job_name"]: job for job in yaml.safe_load(rendered[case]["sender"])["scrape_configs"]
    }
    file = "/etc/mlops/model_serving/node_exporter.password"
    wanted = {"username": "mlops", "password_file": file} if managed else None
    assert jobs["node"].get("basic_auth") == wanted
    exporter, sender = rendered[case]["passwords"]
    assert exporter == sender


def test_each_host_has_a_password_of_its_own(rendered: dict[str, Any]) -> None:
    found = {row["passwords"][0] for row in rendered.values()}
    assert len(found) == len(CASES)
    assert {len(one) for one in found} == {64}  # bcrypt looks at 72 bytes


@pytest.mark.parametrize(
    ("case", "url"),
    [
        ("managed", "http://127.0.0.1:9100/metrics"),
        ("moved", "http://127.0.0.1:9200/metrics"),
        ("existing", "http://127.0.0.1:9100/metrics"),
        ("elsewhere", OTHER),
    ],
)
def test_the_one_that_is_there_is_read(rendered: dict[str, Any], case: str, url: str) -> None:
    assert f"proxy_pass {url};" in rendered[case]["conf"]
    # Whoever has the account of ours does not show it to a program of the company's.
    managed = CASES[case].get("monitoring_node_exporter_mode") != "existing"
    assert ("node_exporter.account" in rendered[case]["conf"]) is managed


def test_the_service_of_the_platform_is_only_run_where_it_is_its_own() -> None:
    tasks = yaml.safe_load((ROLE / "tasks/exporters.yml").read_text())
    (run,) = [
        task
        for task in tasks
        if task.get("mlops.onprem.host_service", {}).get("name") == "mlops-node-exporter"
    ]
    assert run["when"] == "__monitoring_node_managed"


@pytest.mark.parametrize(
    ("case", "severity"),
    [("existing", "pass"), ("elsewhere", "pass"), ("changed", "fail"), ("beside", "pass")],
)
def test_the_platform_s_own_is_not_taken_for_the_company_s(
    rendered: dict[str, Any], case: str, severity: str
) -> None:
    found = rendered[case]["found"][0]
    assert found["severity"] == severity
    if severity == "fail":
        assert found["found"] == (
            "what answers at http://127.0.0.1:9100/metrics is the exporter that the platform "
            "brought, which goes with mode existing"
        )
        assert "monitoring_node_exporter_url" in found["remedy"]


def test_ours_is_taken_away_where_the_company_s_is_read() -> None:
    tasks = yaml.safe_load((ROLE / "tasks/exporters.yml").read_text())
    (gone,) = [task for task in tasks if "mlops.onprem.host_remove" in task]
    assert gone["when"] == "not __monitoring_node_managed"
    (run,) = [
        task
        for task in tasks
        if task.get("mlops.onprem.host_service", {}).get("user") == "mlops-node-exporter"
    ]
    page = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    (package,) = page["__monitoring_packages_node"]
    assert gone["mlops.onprem.host_remove"] == {
        "role": "monitoring",
        "only": [run["mlops.onprem.host_service"]["name"], package["package"]],
    }
