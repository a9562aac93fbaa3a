"""Whatever describes a service is read from the host that runs it; lists are found by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.onprem.plugins.module_utils._site.description import describe
from ansible_collections.mlops.onprem.plugins.module_utils._site.errors import SiteError
from ansible_collections.mlops.onprem.plugins.module_utils._site.handed import HANDED, handed
from ansible_collections.mlops.onprem.plugins.module_utils._site.measured import checks
from ansible_collections.mlops.onprem.plugins.module_utils._site.provides import parse_provides
from ansible_collections.mlops.onprem.plugins.module_utils._site.site import Site
from ansible_collections.mlops.onprem.plugins.module_utils._site.table import parse_table

ROOT = Path(__file__).resolve().parents[5]
KNOWN = describe(ROOT, lambda path: yaml.safe_load(path.read_text(encoding="utf-8")))
GROUPS = {
    "all": ["store1", "ctl1", "ctl2", "edge1", "edge2"],
    "metadata_db": ["ctl1"],
    "object_store": ["store1"],
    "control": ["ctl1", "ctl2"],
    "edge": ["edge1", "edge2"],
    "ring_canary": ["edge1"],
}
Said = Mapping[str, Mapping[str, Any]]


def site(said: Said | None = None, groups: Mapping[str, list[str]] | None = None) -> Site:
    """A site whose hosts say C(said) in their inventory."""
    variables = said or {}

    def value(host: str, name: str) -> Any:
        if name in variables.get(host, {}):
            return variables[host][name]
        default = KNOWN.defaults.get(name)
        return None if "{{" in str(default) else default

    return Site(
        table=KNOWN.table,
        provides=KNOWN.provides,
        groups=GROUPS if groups is None else groups,
        value=value,
        secret=lambda name, **_kind: f"<{name}>",
        address=lambda host: f"{host}.example",
        root="/collection",
    )


def asked(name: str, said: Said | None = None, host: str = "edge1") -> Any:
    return handed(site(said), name, host)


@pytest.mark.parametrize("host", GROUPS["all"])
def test_every_host_is_told_the_same_gateway(host: str) -> None:
    said = {"ctl1": {"gateway_port": 8443}, host: {"gateway_port": 8443}} | {
        "edge2": {"gateway_port": 999}  # of no meaning there
    }
    assert asked("model_serving_registry", said, host)["url"] == "https://ctl1.example:8443"
    assert asked("monitoring_external_url", said, host) == "https://ctl1.example:8443"


PORTS = [
    ("ctl1", "gateway_port", "pipeline_mlflow", "https://ctl1.example:8443/mlflow"),
    ("ctl1", "gateway_port", "pipeline_registry", "https://ctl1.example:8443"),
    ("ctl1", "gateway_port", "pipeline_prometheus", "https://ctl1.example:8443/prometheus"),
]


@pytest.mark.parametrize(("host", "variable", "name", "url"), PORTS)
def test_a_port_set_where_it_belongs_reaches_who_asks(
    host: str, variable: str, name: str, url: str
) -> None:
    assert asked(name, {host: {variable: 8443}})["url"] == url


@pytest.mark.parametrize(
    "name",
    ["model_registry_object_store", "artifact_registry_object_store", "pipeline_object_store"],
)
def test_the_object_store_is_as_its_host_says(name: str) -> None:
    said = {"store1": {"object_store_port": 9000, "object_store_region": "eu-central-1"}}
    told = asked(name, said)
    assert told["endpoint"] == "https://store1.example:9000"
    assert told["region"] == "eu-central-1"


def test_the_mode_of_the_object_store_is_read_from_its_host() -> None:
    said = {
        "store1": {
            "object_store_mode": "existing",
            "object_store_endpoint": "https://s3.example.com",
            "object_store_access_key": "A",
            "object_store_secret_key": "S",
        }
    }
    told = asked("model_registry_object_store", said)
    assert (told["endpoint"], told["access_key"], told["secret_key"]) == (
        "https://s3.example.com",
        "A",
        "S",
    )
    assert "ceph" not in {target["job"] for target in asked("monitoring_targets", said)}
    probe = next(p for p in asked("monitoring_probes", said) if p["name"] == "object_store")
    assert probe["url"] == "https://s3.example.com"


def test_an_existing_object_store_without_keys_is_a_sentence() -> None:
    said = {"store1": {"object_store_mode": "existing"}}
    with pytest.raises(SiteError, match=r"object_store_access_key is not set while .*existing"):
        asked("model_registry_object_store", said)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({}, ("ctl1.example", 5432)),
        ({"metadata_db_port": 6432}, ("ctl1.example", 6432)),
        (
            {"metadata_db_mode": "existing", "metadata_db_host": "pg.example.com"},
            ("pg.example.com", 5432),
        ),
    ],
)
def test_the_database_is_as_its_host_says(said: dict[str, Any], told: tuple[str, int]) -> None:
    for name in ("model_registry_database", "monitoring_database"):
        found = asked(name, {"ctl1": said})
        assert (found["host"], found["port"]) == told


def test_services_show_the_certificate_of_their_role_to_an_existing_server() -> None:
    own = {"login": "mlflow", "certificate_file": "/pki/own.crt", "key_file": "/pki/own.key"}
    rest = {"certificate_file": "/pki/all.crt", "key_file": "/pki/all.key"}
    said = {"metadata_db_client_certificates": [rest, own], "metadata_db_sslmode": "verify-ca"}
    existing = {**said, "metadata_db_mode": "existing", "metadata_db_host": "pg.example.com"}
    for name, base in (
        ("model_registry_database", "/pki/own"),
        ("model_registry_auth_database", "/pki/own"),
        ("monitoring_database", "/pki/all"),
    ):
        found = asked(name, {"ctl1": existing})
        assert found["client_certificate_file"] == f"{base}.crt"
        assert found["client_key_file"] == f"{base}.key"
        assert found["sslmode"] == "verify-ca"
        managed = asked(name, {"ctl1": said})
        assert not {"client_certificate_file", "client_key_file", "sslmode"} & set(managed)
    only = {**existing, "metadata_db_client_certificates": [own]}
    assert "client_key_file" not in asked("monitoring_database", {"ctl1": only})


def test_a_metrics_port_is_that_of_each_host() -> None:
    targets = asked("monitoring_targets", {"edge1": {"common_nginx_metrics_port": 10443}})
    ports = {(t["job"], t["host"]): t["port"] for t in targets}
    assert ports["node", "edge1"] == ports["nginx", "edge1"] == 10443
    assert ports["node", "edge2"] == 9443
    assert asked("monitoring_metrics_port", {"ctl1": {"common_nginx_metrics_port": 1}}, "ctl1") == 1


def test_a_device_is_probed_and_asked_at_its_own_port() -> None:
    said = {"edge2": {"model_serving_port": 8443}}
    urls = {p["host"]: p["url"] for p in asked("monitoring_probes", said) if "edge" in p["host"]}
    assert urls == {
        "edge1": "https://edge1.example/v2/health/live",
        "edge2": "https://edge2.example:8443/v2/health/live",
    }
    assert asked("devices", said)[1] == {
        "name": "edge2",
        "url": "https://edge2.example:8443",
        "ring": "",
    }


def test_accounts_bear_the_names_that_the_inventory_gives_them() -> None:
    said = {
        "ctl1": {
            "artifact_registry_push_user": "ci",
            "artifact_registry_pull_user": "device",
            "artifact_registry_pull_password": "given",
        }
    }
    assert asked("pipeline_registry", said)["user"] == "ci"
    told = asked("model_serving_registry", said)
    assert (told["user"], told["password"]) == ("device", "given")
    assert asked("model_serving_registry")["password"] == "<artifact_registry_pull_password>"


def database(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "owner": f"{name}_owner", "password": f"{name}_password", **more}


def test_databases_are_found_by_name_wherever_they_stand() -> None:
    given = [
        database("other"),
        database("mlops_monitoring"),
        database("mlflow", connection_limit=60, extra_databases=["mlflow_auth"]),
    ]
    said = {"ctl1": {"metadata_db_databases": given}}
    told = asked("model_registry_auth_database", said)
    assert told == {
        "host": "ctl1.example",
        "port": 5432,
        "name": "mlflow_auth",
        "user": "mlflow_owner",
        "password": "mlflow_password",
        "connection_limit": 60,
    }
    assert asked("monitoring_database", said)["user"] == "mlops_monitoring_owner"


@pytest.mark.parametrize(
    ("variable", "name", "user"),
    [
        ("model_registry_database", "ml_mlflow", "ml_mlflow"),
        ("model_registry_auth_database", "ml_mlflow_auth", "ml_mlflow"),
        ("monitoring_database", "ml_mlops_monitoring", "ml_mlops_monitoring"),
    ],
)
def test_databases_are_told_with_the_prefix_that_they_are_made_with(
    variable: str, name: str, user: str
) -> None:
    said = {"ctl1": {"metadata_db_prefix": "ml_"}}
    told = asked(variable, said)
    assert (told["name"], told["user"]) == (name, user)
    made = [
        (database, entry["owner"])
        for entry in asked("metadata_db_databases", said)
        for database in (entry["name"], *entry["extra_databases"])
    ]
    assert (name, user) in made


def test_a_list_of_ones_own_has_full_names_whatever_the_prefix() -> None:
    said = {"ctl1": {"metadata_db_prefix": "ml_", "metadata_db_databases": [database("mlflow")]}}
    assert asked("model_registry_database", said)["name"] == "mlflow"


def test_a_list_that_lacks_a_database_is_a_sentence() -> None:
    said = {"ctl1": {"metadata_db_databases": [database("other")]}}
    with pytest.raises(SiteError, match="metadata_db_databases names no database mlflow; add it"):
        asked("model_registry_database", said)
    more = {"ctl1": {**said["ctl1"], "metadata_db_extra_databases": [database("mlflow")]}}
    assert asked("model_registry_database", more)["user"] == "mlflow_owner"


def test_accounts_are_found_by_name_wherever_they_stand() -> None:
    given = [
        {"name": "pipeline", "access_key": "P", "secret_key": "p", "buckets": ["data"]},
        {"name": "model_registry", "access_key": "M", "secret_key": "m", "buckets": ["models"]},
    ]
    said = {"store1": {"object_store_accounts": given}}
    told = asked("model_registry_object_store", said)
    assert (told["access_key"], told["bucket"]) == ("M", "models")
    assert asked("pipeline_object_store", said)["bucket"] == "data"
    with pytest.raises(SiteError, match="object_store_accounts names no account artifact_registry"):
        asked("artifact_registry_object_store", said)


EXISTING = {
    "object_store_mode": "existing",
    "object_store_endpoint": "https://s3.example.com",
    "object_store_access_key": "A",
    "object_store_secret_key": "S",
    "object_store_bucket_prefix": "acme-",
}


@pytest.mark.parametrize(
    ("variable", "bucket"),
    [
        ("model_registry_object_store", "acme-mlops-models"),
        ("pipeline_object_store", "acme-mlops-pipeline"),
        ("artifact_registry_object_store", "acme-mlops-artifacts"),
    ],
)
@pytest.mark.parametrize("extra", [{}, {"object_store_mode": "managed"}])
def test_buckets_are_told_with_the_prefix_that_they_are_made_with(
    variable: str, bucket: str, extra: dict[str, str]
) -> None:
    said = {"store1": {**EXISTING, **extra}}
    assert asked(variable, said)["bucket"] == bucket
    made = [name for entry in asked("object_store_accounts", said) for name in entry["buckets"]]
    assert bucket in made


@pytest.mark.parametrize(
    ("named", "bucket"),
    [(["mlops-models"], "mlops-models"), (["x", "acme-mlops-models"], "acme-mlops-models")],
)
def test_a_list_of_buckets_of_ones_own_goes_before_the_prefix(
    named: list[str], bucket: str
) -> None:
    entry = {"name": "model_registry", "access_key": "A", "secret_key": "S", "buckets": named}
    said = {"store1": {**EXISTING, "object_store_accounts": [entry]}}
    assert asked("model_registry_object_store", said)["bucket"] == bucket


def test_a_bucket_that_cannot_be_told_is_a_sentence() -> None:
    account = {
        "name": "model_registry",
        "access_key": "M",
        "secret_key": "m",
        "buckets": ["a", "b"],
    }
    with pytest.raises(SiteError, match=r"buckets a, b, but not mlops-models; name it there"):
        asked("model_registry_object_store", {"store1": {"object_store_accounts": [account]}})


def test_what_is_handed_to_a_list_leaves_out_what_is_appended() -> None:
    said = {"ctl1": {"metadata_db_extra_databases": [database("more")]}}
    assert [d["name"] for d in asked("metadata_db_databases", said)] == [
        "mlflow",
        "mlops_monitoring",
    ]


def test_pages_that_are_not_there_are_not_shown() -> None:
    assert [tile["name"] for tile in asked("gateway_services")] == [
        "Model registry",
        "Metrics",
        "Alerts",
        "Artifact registry",
    ]
    said = {"ctl1": {"monitoring_mode": "existing"}}
    assert [tile["name"] for tile in asked("gateway_services", said)] == [
        "Model registry",
        "Artifact registry",
    ]


def test_the_start_page_speaks_the_language_of_the_site() -> None:
    said = {host: {"mlops_language": "de"} for host in GROUPS["all"]}
    tiles = {tile["path"]: tile for tile in asked("gateway_services", said)}
    assert tiles["/prometheus/classic/graph"]["name"] == "Messwerte"
    assert set(tiles) == {tile["path"] for tile in asked("gateway_services")}
    english = {tile["about"] for tile in asked("gateway_services")}
    assert not {tile["about"] for tile in tiles.values()} & english, "not all of it is German"


def test_roles_are_asked_where_they_run() -> None:
    every = ["common", "trust", "monitoring"]
    assert asked("roles_to_ask", host="store1") == ["common", "trust", "object_store", "monitoring"]
    assert asked("roles_to_ask", host="edge1") == ["common", "trust", "model_serving", "monitoring"]
    table = yaml.safe_load((ROOT / "playbooks" / "vars" / "site.yml").read_text())["site_roles"]
    assert set(asked("roles_to_ask", host="ctl2")) == {
        *every,
        *(row["role"] for row in table if row["group"] == "control"),
    }


def test_a_service_that_exists_is_asked_about_on_the_first_control_host() -> None:
    groups = {**GROUPS, "metadata_db": [], "object_store": []}
    assert {"metadata_db", "object_store"} <= set(
        handed(site(groups=groups), "roles_to_ask", "ctl1")
    )
    assert not {"metadata_db", "object_store"} & set(
        handed(site(groups=groups), "roles_to_ask", "ctl2")
    )


def found_of(name: str, hosts: list[str], digest: str = "sha256:1") -> dict[str, Any]:
    """What the pipeline has found of a model."""
    return {
        "name": name,
        "hosts": hosts,
        "steps": {},
        "reused": False,
        "golden": f"{name}.json",
        "published": {"digest": digest, "model_name": name, "model_version": "1", "bytes": 5},
    }


def released(**by_model: dict[str, Any]) -> dict[str, Any]:
    """What a device registers of the releases of its models."""
    return {"outcomes": by_model}


def test_what_came_by_a_rollout_before_is_not_rolled_out_again() -> None:
    known = {**found_of("known", ["edge1"]), "by_rollout": False}
    fresh = {**found_of("fresh", ["edge1"], "sha256:b"), "by_rollout": True}
    nothing = {**found_of("nothing", ["edge1"]), "by_rollout": True, "published": {}}
    told = {"ctl1": {"__pipeline_found": {"known": known, "fresh": fresh, "nothing": nothing}}}
    assert asked("pipeline_published", told) == [{"name": "fresh", "digest": "sha256:b"}]


def test_devices_that_did_not_take_a_release_are_not_asked() -> None:
    def told(release: dict[str, Any]) -> dict[str, Any]:
        return {
            "ctl1": {"__pipeline_found": {"m": found_of("m", ["edge1", "edge2"])}},
            "edge1": {"__pipeline_release": release},
        }

    (one,) = asked("pipeline_asked", told(released(m={"changed": True})))
    assert [device["name"] for device in one["asked"]] == ["edge1"]
    (one,) = asked("pipeline_judged", told(released(m={"changed": True})))
    assert one["releases"]["edge2"] == {"skipped": True}
    assert one["release_bytes"] == 5
    # One whose rollout did not go well is not tried.
    (one,) = asked("pipeline_judged", told(released(another={"changed": True})))
    assert one["releases"]["edge1"] == {"skipped": True}
    for word in ("failed", "unreachable"):
        assert asked("pipeline_asked", told(released(m={word: True}))) == []
        # All of them, where the device was gone before.
        assert asked("pipeline_asked", told({word: True})) == []


def test_each_model_goes_to_its_own_devices() -> None:
    said: dict[str, Any] = {
        "ctl1": {
            "__pipeline_found": {
                "a": found_of("a", ["edge1", "edge2"]),
                "b": found_of("b", ["edge2"], "sha256:2"),
                "c": {**found_of("c", ["edge2"]), "published": {}},
            }
        },
        "edge1": {"__pipeline_release": released(a={"changed": True})},
        "edge2": {"__pipeline_release": released(a={"failed": True}, b={"changed": True})},
    }
    assert asked("pipeline_wanted", said, host="edge2") == [
        {"name": "a", "digest": "sha256:1"},
        {"name": "b", "digest": "sha256:2"},
    ]
    assert asked("pipeline_wanted", said, host="edge1") == [{"name": "a", "digest": "sha256:1"}]
    both = {
        one["name"]: [device["name"] for device in one["asked"]]
        for one in asked("pipeline_asked", said)
    }
    assert both == {"a": ["edge1"], "b": ["edge2"]}
    said["ctl1"]["__pipeline_answers"] = {
        "results": [
            {
                "__pipeline_one": {"name": "b"},
                "devices": [{"name": "edge2", "ok": True, "requests": 76}],
            }
        ]
    }
    (counted,) = asked("pipeline_counted", said)
    assert (counted["model_name"], counted["devices"]) == ("b", ["edge2"])
    assert counted["requests"] == 76


def test_alert_rules_come_from_the_roles_that_have_some() -> None:
    assert asked("monitoring_rules") == {
        "object_store": "/collection/roles/object_store/files/alerts.yml",
        "gateway": "/collection/roles/gateway/files/alerts.yml",
        "gpu_driver": "/collection/roles/gpu_driver/files/alerts.yml",
        "job_scheduler": "/collection/roles/job_scheduler/files/alerts.yml",
        "model_serving": "/collection/roles/model_serving/files/alerts.yml",
        "pipelines": "/collection/roles/pipelines/files/alerts.yml",
        "audit_log": "/collection/roles/audit_log/files/alerts.yml",
    }


def test_every_target_has_a_question_that_names_it() -> None:
    found = checks(
        "http://p/api/v1/query?query=",
        [{"job": "prometheus", "target": "127.0.0.1:9090"}],
        [{"job": "node", "host": "edge1", "address": "10.0.0.7", "port": 9444}],
        [{"name": "gateway", "host": "ctl1", "url": "https://a/healthz"}],
        {"host": "pg"},
    )
    assert [one["title"] for one in found] == [
        "metrics of prometheus on this host (127.0.0.1:9090)",
        "metrics of node on edge1 (10.0.0.7, port 9444)",
        "answer of gateway on ctl1 (https://a/healthz)",
        "metrics of the database pg (port 5432)",
    ]
    for one, where in zip(found, ("mlops-*", "9444 of edge1", "https://a/healthz", "5432 of pg")):
        assert where in one["remedy"]
        assert "__name__" not in one["otherwise"]
    assert found[1]["because"] == {
        "url": "http://p/api/v1/targets?state=active",
        "say": "lastError",
        "where": {"job": "node", "host": "edge1"},
    }
    assert found[1]["url"] == (
        "http://p/api/v1/query?query=up%7Bjob%3D%22node%22%2Chost%3D%22edge1%22%7D%3D%3D1"
    )


def test_an_inventory_without_control_is_a_sentence() -> None:
    with pytest.raises(SiteError, match="the group control has no host"):
        handed(site(groups={"all": []}), "monitoring_external_url", "x")


def test_an_unknown_name_is_a_sentence_that_lists_the_known() -> None:
    with pytest.raises(SiteError, match=r"computes no nothing; it computes .*monitoring_targets"):
        asked("nothing")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"metrics": [{"job": "x"}]},
            r"role x provides is wrong: metrics\[0\]\.series: is missing",
        ),
        ({"metric": []}, "has the unknown key 'metric'"),
        ({"probes": [{"name": "x", "through": "x", "url": 1}]}, "unknown key 'url'"),
        ([], "must be a mapping, but is a list"),
    ],
)
def test_a_role_that_says_it_wrong_is_told_where(given: object, sentence: str) -> None:
    with pytest.raises(SiteError, match=sentence):
        parse_provides("x", given)


def test_a_role_stands_in_the_table_once() -> None:
    with pytest.raises(SiteError, match="the role a stands 2 times in the table"):
        parse_table([{"role": "a", "group": "all"}, {"role": "a", "group": "edge"}])


@pytest.mark.parametrize(
    ("file", "reader"),
    [("", "ctl1"), ("/pki/ctl1.pem", "CN=ctl1,O=Example"), ("/pki/damaged.pem", "ctl1")],
)
def test_who_reads_metrics_is_named_as_its_certificate_names_it(file: str, reader: str) -> None:
    known = {"/pki/ctl1.pem": "CN=ctl1,O=Example"}
    said = {
        "ctl1": {"trust_host_certificate_file": file},
        "edge1": {"trust_host_certificate_file": "/x"},
    }
    here = replace(site(said), subject=lambda name: known.get(name, ""))
    assert handed(here, "common_nginx_metrics_clients", "edge1") == [reader]


MODELS = [
    {"name": "welds", "project": "sample/images", "memory_mib": 300, "targets": ["ring_canary"]},
    {"name": "sounds", "artifact": "models:/sounds@champion", "release_max_mib": 40},
]


def test_each_device_is_told_its_own_models() -> None:
    said = {"ctl1": {"mlops_models": MODELS}}
    welds = {"name": "welds", "memory_mib": 300, "release_max_mib": 100}
    sounds = {"name": "sounds", "memory_mib": 64, "release_max_mib": 40}
    assert asked("model_serving_models", said, "edge1") == [welds, sounds]
    assert asked("model_serving_models", said, "edge2") == [sounds]
    assert asked("model_serving_reconcile", said, "edge2") is True
    assert [(one["name"], one["hosts"]) for one in asked("models", said)] == [
        ("welds", ["edge1"]),
        ("sounds", ["edge1", "edge2"]),
    ]


def test_a_site_without_models_of_its_own_removes_none() -> None:
    assert asked("models") == asked("model_serving_models") == []
    assert asked("model_serving_reconcile") is False


def test_a_model_that_cannot_be_read_is_told_with_its_place() -> None:
    with pytest.raises(SiteError, match=r"mlops_models\[0\]\.targets\[0\]: the inventory has no"):
        asked("models", {"ctl1": {"mlops_models": [{**MODELS[0], "targets": ["line"]}]}})


def test_channels_are_measured_where_devices_fetch_their_orders() -> None:
    def fleet(said: Said) -> list[str]:
        found = asked("monitoring_targets", said)
        return [target["host"] for target in found if target["job"] == "fleet"]

    assert fleet({}) == []
    assert fleet({"edge2": {"rollout_transport": "pull"}}) == ["ctl1"]


PULLS: Said = {"edge2": {"rollout_transport": "pull"}}


def test_a_device_that_fetches_its_orders_writes_what_it_measures_and_is_not_scraped() -> None:
    assert asked("gateway_metrics_devices", PULLS) == ["edge2"]
    assert asked("gateway_metrics", PULLS, "ctl1") is True
    assert asked("model_serving_metrics", PULLS, "edge2") is True
    assert asked("model_serving_metrics", PULLS, "edge1") is False
    targets = asked("monitoring_targets", PULLS)
    assert [one for one in targets if one["host"] == "edge2"] == []
    assert {one["job"] for one in targets if one["host"] == "edge1"} >= {"node", "model_serving"}
    assert {"devices", "devices_relay", "fleet"} <= {one["job"] for one in targets}
    assert [one for one in asked("monitoring_probes", PULLS) if one["host"] == "edge2"] == []
    # It reads on itself what nginx shows to nobody else.
    assert asked("common_nginx_metrics_clients", PULLS, "edge2")[1:] == ["edge2"]
    assert len(asked("common_nginx_metrics_clients", PULLS, "edge1")) == 1
    assert asked("gateway_metrics_write_url", PULLS).endswith(":9090/prometheus/api/v1/write")
    theirs: Said = {**PULLS, "ctl1": {"monitoring_mode": "existing"}}
    assert asked("gateway_metrics_write_url", theirs) == ""


@pytest.mark.parametrize("said", [{}, {**PULLS, "ctl1": {"gateway_metrics": False}}])
def test_where_no_device_writes_all_of_them_are_scraped(said: Said) -> None:
    assert asked("gateway_metrics", said, "ctl1") is False
    assert asked("gateway_metrics_devices", said) == []
    assert asked("model_serving_metrics", said, "edge2") is False
    targets = asked("monitoring_targets", said)
    assert {one["job"] for one in targets if one["host"] == "edge2"} >= {"node", "model_serving"}
    assert not {"devices", "devices_relay"} & {one["job"] for one in targets}


def test_an_account_stores_no_more_than_the_inventory_lets_it() -> None:
    def quotas(said: dict[str, Any]) -> dict[str, Any]:
        told = asked("object_store_accounts", {"store1": said})
        return {one["name"]: one["quota_gib"] for one in told if "quota_gib" in one}

    assert quotas({}) == {}
    said = {"object_store_quotas": {"model_registry": 200, "pipeline": "50"}}
    assert quotas(said) == {"model_registry": 200, "pipeline": 50}
    # The company's endpoint has quotas of its own.
    assert quotas({**EXISTING, **said}) == {}


@pytest.mark.parametrize(
    ("quotas", "sentence"),
    [
        ({"mlflow": 5}, "names mlflow; the accounts of this site are .*model_registry"),
        ({"model_registry": "much"}, "wanted GiB by account"),
        ({"model_registry": -1}, "wanted GiB by account"),
        ({"model_registry": True}, "wanted GiB by account"),
        (["model_registry"], "wanted GiB by account"),
    ],
)
def test_a_quota_that_bounds_nothing_is_refused(quotas: Any, sentence: str) -> None:
    with pytest.raises(SiteError, match=sentence):
        asked("object_store_accounts", {"store1": {"object_store_quotas": quotas}})


@pytest.mark.parametrize("name", sorted(HANDED))
def test_what_is_handed_out_does_not_hang_on_the_order_of_all_hosts(name: str) -> None:
    """Ansible may tell that in another order each time; what is written must not change by it."""
    own = "artifact_registry_pull"
    said = {host: {f"{own}_user": host, f"{own}_password": f"of {host}"} for host in GROUPS["edge"]}

    def told(everyone: list[str]) -> str:
        try:
            return json.dumps(handed(site(said, {**GROUPS, "all": everyone}), name, "ctl1"))
        except SiteError as error:
            return str(error)

    assert told(GROUPS["all"]) == told(GROUPS["all"][::-1])
