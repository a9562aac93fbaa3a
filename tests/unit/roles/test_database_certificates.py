# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What services are given to show to a database server that wants a client certificate."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.playing import played

ROOT = Path(__file__).resolve().parents[3]
BASE = {"host": "pg.example.com", "name": "mlflow", "user": "mlflow", "password": "p@ss"}
SHOWN = {**BASE, "client_certificate_file": "/pki/a.crt", "client_key_file": "/pki/a.key"}
CASES: dict[str, dict[str, Any]] = {
    "without": {
        "model_registry_database": BASE,
        "model_registry_auth_database": BASE,
        "monitoring_database": BASE,
    },
    "with": {
        "model_registry_database": SHOWN,
        "model_registry_auth_database": SHOWN,
        "monitoring_database": SHOWN,
    },
    "one": {
        "model_registry_database": SHOWN,
        "model_registry_auth_database": BASE,
        "monitoring_database": {**SHOWN, "sslmode": "verify-ca"},
    },
}
TEMPLATES = {
    "env": f"{ROOT}/roles/model_registry/templates/server.env.j2",
    "auth": f"{ROOT}/roles/model_registry/templates/auth.ini.j2",
    "exporter": f"{ROOT}/roles/monitoring/templates/postgres.env.j2",
}
SEEN = (
    "{'files': __model_registry_shown_files, 'measured': __monitoring_files_shown,"
    "'absent': __model_registry_shown_paths"
    " | difference(__model_registry_shown_files | map(attribute='path')),"
    + ",".join(
        f"'{name}': lookup('ansible.builtin.template', '{path}')"
        for name, path in TEMPLATES.items()
    )
    + "}"
)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("certificates")
    common = {
        "ansible_python_interpreter": sys.executable,
        "monitoring_server": True,
        "model_registry_admin_password": "x",
        "__model_registry_secret_key": "x",
        "model_registry_object_store": {"access_key": "a", "secret_key": "s"},
        "model_registry_default_permission": "READ",
    }
    (folder / "hosts.json").write_text(
        json.dumps({"all": {"hosts": CASES, "vars": common}}), encoding="utf-8"
    )
    play = [
        {
            "hosts": "all",
            "gather_facts": False,
            "connection": "local",
            "vars_files": [
                str(ROOT / "roles" / role / "vars/main.yml")
                for role in ("model_registry", "monitoring")
            ],
            "vars": {"__model_registry_secret_key": "x"},
            "tasks": [
                {
                    "ansible.builtin.copy": {
                        "content": "{{ " + SEEN + " | to_json }}",
                        "dest": f"{folder}/{{{{ inventory_hostname }}}}.json",
                        "mode": "0600",
                    }
                }
            ],
        }
    ]
    (folder / "play.json").write_text(json.dumps(play), encoding="utf-8")
    played(folder)
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in CASES}


def test_without_one_nothing_is_placed_and_what_was_is_taken_away(rendered: dict[str, Any]) -> None:
    seen = rendered["without"]
    assert seen["files"] == seen["measured"] == []
    assert len(seen["absent"]) == 4
    assert not any("sslcert" in seen[name] for name in TEMPLATES)


def test_a_key_is_for_the_user_of_the_service_alone(rendered: dict[str, Any]) -> None:
    for name, user in (("files", "mlops-mlflow"), ("measured", "mlops-postgres-exporter")):
        keys = [file for file in rendered["with"][name] if file["path"].endswith(".key")]
        assert keys
        for key in keys:
            assert (key["owner"], key["mode"], key["sensitive"]) == (user, "0400", True)
            assert key["source"] == "/pki/a.key"
    assert rendered["with"]["absent"] == []


def test_connections_name_the_files_that_are_placed(rendered: dict[str, Any]) -> None:
    seen = rendered["with"]
    placed = [file["path"] for file in seen["files"] + seen["measured"]]
    for name, base in (
        ("env", "/etc/mlops/model_registry/database"),
        ("auth", "/etc/mlops/model_registry/database_auth"),
        ("exporter", "/etc/mlops/monitoring/database"),
    ):
        assert f"&sslcert={base}.crt&sslkey={base}.key" in seen[name]
        assert {f"{base}.crt", f"{base}.key"} <= set(placed)


def test_each_database_shows_its_own(rendered: dict[str, Any]) -> None:
    seen = rendered["one"]
    assert "sslcert" in seen["env"]
    assert "sslcert" not in seen["auth"]
    assert len(seen["absent"]) == 2
    assert "sslmode=verify-ca" in seen["exporter"]
