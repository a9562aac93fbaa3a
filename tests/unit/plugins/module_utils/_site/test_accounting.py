# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The accounting database: another server, of another kind, beside the metadata database."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._site.errors import SiteError
from ansible_collections.mlops.onprem.plugins.module_utils._site.handed import handed
from ansible_collections.mlops.onprem.plugins.module_utils._site.provides import parse_provides
from ansible_collections.mlops.onprem.plugins.module_utils._site.site import Site
from ansible_collections.mlops.onprem.plugins.module_utils._site.table import parse_table
from ansible_collections.mlops.onprem.plugins.module_utils._site.ways import ways

TABLE = parse_table(
    [
        {"role": "metadata_db", "group": "metadata_db", "otherwise": "control", "single": True},
        {"role": "object_store", "group": "object_store", "otherwise": "control", "single": True},
        {"role": "gateway", "group": "control"},
        {"role": "accounting_db", "group": "accounting_db", "otherwise": "scheduler"},
        {"role": "job_scheduler", "group": "scheduler"},
        {"role": "model_serving", "group": "edge"},
    ]
)
DATABASES = [
    {"name": "mlflow", "owner": "mlflow", "secret": "a", "connection_limit": 30},
    {
        "server": "accounting_db",
        "name": "slurm_acct_db",
        "owner": "slurm",
        "secret": "slurm_password",
        "connection_limit": 100,
        "tables": ["*_table"],
        "handed_as": {"job_scheduler_accounting_db": "slurm_acct_db"},
    },
]
GROUPS = {"all": ["ctl", "sch", "sql"], "control": ["ctl"], "scheduler": ["sch"]}
TOLD = {
    "host": "sql.example",
    "port": 3306,
    "database": "slurm_acct_db",
    "user": "slurm",
    "password": "<slurm_password>",
    "ca_file": "/etc/mlops/tls/ca.crt",
}
EXISTING = {"accounting_db_host": "db.company"}


def site(said: dict[str, Any] | None = None, **groups: list[str]) -> Site:
    return Site(
        table=TABLE,
        provides={
            **{row.role: parse_provides(row.role, {}) for row in TABLE},
            "gateway": parse_provides("gateway", {"port": "gateway_port"}),
            "object_store": parse_provides("object_store", {"port": "object_store_port"}),
            "job_scheduler": parse_provides("job_scheduler", {"databases": DATABASES}),
        },
        groups={**GROUPS, **groups},
        value=lambda _host, name: (said or {}).get(name),
        secret=lambda name, **_kind: f"<{name}>",
        address=lambda host: f"{host}.example",
        identity="7d0c1f5e88a94b21",
    )


def test_a_host_in_the_group_makes_it_the_platforms_own() -> None:
    own = site(accounting_db=["sql"])
    assert handed(own, "accounting_db_mode", "sql") == "managed"
    assert handed(own, "job_scheduler_accounting_db", "sch") == TOLD


def test_without_one_it_is_the_companys() -> None:
    theirs = site(EXISTING)
    assert handed(theirs, "accounting_db_mode", "sch") == "existing"
    told = handed(theirs, "job_scheduler_accounting_db", "sch")
    assert told == {**TOLD, "host": "db.company"}


def test_the_mode_that_the_inventory_says_goes_first() -> None:
    said = {**EXISTING, "accounting_db_mode": "existing", "accounting_db_port": 3307}
    theirs = site(said, accounting_db=["sql"])
    assert handed(theirs, "job_scheduler_accounting_db", "sch")["host"] == "db.company"
    assert handed(theirs, "job_scheduler_accounting_db", "sch")["port"] == 3307


def test_each_server_is_told_its_own_databases_only() -> None:
    both = site(EXISTING)
    assert [one["name"] for one in handed(both, "metadata_db_databases", "ctl")] == ["mlflow"]
    assert handed(both, "accounting_db_databases", "sch") == [
        {
            "name": "slurm_acct_db",
            "owner": "slurm",
            "password": "<slurm_password>",
            "connection_limit": 100,
            "tables": ["*_table"],
        }
    ]
    assert handed(both, "accounting_db_site_id", "sch") == "7d0c1f5e88a94b21"


def test_a_prefix_is_that_of_its_server() -> None:
    both = site({**EXISTING, "metadata_db_prefix": "ml_", "accounting_db_prefix": "hpc_"})
    told = handed(both, "job_scheduler_accounting_db", "sch")
    assert (told["database"], told["user"]) == ("hpc_slurm_acct_db", "hpc_slurm")
    assert handed(both, "metadata_db_databases", "ctl")[0]["name"] == "ml_mlflow"


def test_a_list_of_the_inventory_that_lacks_the_database_is_a_sentence() -> None:
    short = site({**EXISTING, "accounting_db_databases": []})
    with pytest.raises(SiteError, match="accounting_db_databases names no database slurm_acct_db"):
        handed(short, "job_scheduler_accounting_db", "sch")


def test_a_kind_of_server_that_is_not_known_is_a_sentence() -> None:
    wrong = [{**DATABASES[0], "server": "oracle"}]
    with pytest.raises(SiteError, match="'oracle' is not one of metadata_db, accounting_db"):
        parse_provides("job_scheduler", {"databases": wrong})


def places(found: Site, host: str) -> dict[str, dict[str, Any]]:
    return {way["what"]: way for way in ways(found, host)}


def test_the_scheduler_has_a_way_to_it_and_nobody_else() -> None:
    existing = {"monitoring_mode": "existing", **EXISTING}
    way = places(site(existing), "sch")["accounting database"]
    assert (way["address"], way["port"], way["there"]) == ("db.company", 3306, True)
    assert way["variable"] == "accounting_db_host"
    assert "accounting database" not in places(site(existing), "ctl")
    own = places(site({"monitoring_mode": "existing"}, accounting_db=["sql"]), "sch")
    assert own["accounting database"]["target"] == "sql"
