# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of a user's own that go into SQL and YAML are quoted by rule, and not by luck."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
import pytest
import yaml

ROLES = Path(__file__).resolve().parents[3] / "roles"


def rendered(template: str, **values: Any) -> str:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        loader=jinja2.FileSystemLoader(ROLES),
    )
    environment.filters.update(
        to_json=json.dumps,
        combine=lambda one, other: {**one, **other},
        urlsplit=lambda url, part: getattr(urlsplit(url), part),
    )
    environment.filters["mlops.onprem.scram_verifier"] = lambda _password, _salt: "VERIFIER"
    environment.filters["mlops.onprem.mysql_password"] = lambda _password: "HASH"
    environment.filters["mlops.onprem.host_address"] = lambda _host: "10.0.0.1"
    return environment.get_template(template).render(values)


@pytest.mark.parametrize(
    ("name", "identifier", "literal", "nested"),
    [
        ("mlops", '"mlops"', "'mlops'", "'CREATE ROLE \"mlops\"'"),
        ("o'brien", '"o\'brien"', "'o''brien'", "'CREATE ROLE \"o''brien\"'"),
        ('a"b', '"a""b"', "'a\"b'", '\'CREATE ROLE "a""b"\''),
        (
            "x' ; DROP TABLE y --",
            '"x\' ; DROP TABLE y --"',
            "'x'' ; DROP TABLE y --'",
            "'CREATE ROLE \"x'' ; DROP TABLE y --\"'",
        ),
    ],
)
def test_the_administrator_of_postgresql(
    name: str, identifier: str, literal: str, nested: str
) -> None:
    text = rendered(
        "metadata_db/templates/admin.sql.j2",
        metadata_db_admin_user=name,
        metadata_db_admin_password="x",
        __metadata_db_site="site",
    )
    assert f"SELECT {nested}\n" in text
    assert f"WHERE rolname = {literal})" in text.replace("FROM pg_roles ", "")
    assert f"ALTER ROLE {identifier} LOGIN" in text
    assert f"GRANT pg_monitor TO {identifier} WITH" in text


@pytest.mark.parametrize(
    ("name", "quoted"),
    [("mlops", "'mlops'@'%'"), ("o'brien", "'o''brien'@'%'"), ("a\\", "'a\\\\'@'%'")],
)
def test_the_administrator_of_mariadb(name: str, quoted: str) -> None:
    text = rendered(
        "accounting_db/templates/admin.sql.j2",
        accounting_db_admin_user=name,
        accounting_db_admin_password="x",
        __accounting_db_databases=[{"name": "slurm_a`b"}],
    )
    assert text.count(quoted) == 5
    assert "ON `slurm\\_a``b`.* TO" in text


def scraped(**target: Any) -> list[dict[str, Any]]:
    text = rendered(
        "monitoring/templates/targets.yml.j2",
        prefix="",
        tls={"ca_file": "/ca.crt"},
        prober={"scheme": "http", "address": "127.0.0.1:9115", "path": "/probe"},
        inventory_hostname="ctl1",
        hostvars={"ctl1": {}},
        __monitoring_metrics_port=9443,
        __monitoring_targets=[target] if "job" in target else [],
        __monitoring_probes=[target] if "url" in target else [],
        __monitoring_certificates=[target] if "url" in target else [],
    )
    found: list[dict[str, Any]] = yaml.safe_load(text)
    return found


def test_a_target_of_ones_own() -> None:
    odd = 'a: "b" # {c}'
    _inventory, mine, *_probes = scraped(job=odd, host=odd, address='x"y')
    assert mine["job_name"] == odd
    (config,) = mine["static_configs"]
    assert config["targets"] == ['x"y:9443']
    assert config["labels"]["host"] == config["labels"]["instance"] == odd


@pytest.mark.parametrize("url", ['https://a.example/"q"#x', "https://[2001:db8::1]:8443/\\n: {"])
def test_an_address_of_ones_own(url: str) -> None:
    _inventory, answers, certificate = scraped(name="mine", host="h", url=url)
    assert answers["static_configs"][0]["targets"] == [url]
    parts = urlsplit(url)
    wanted = parts.netloc + ("" if parts.port else ":443")
    assert certificate["static_configs"][0]["targets"] == [wanted]
