"""Who signs releases, what devices believe, and what the stream of events is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._site.handed import handed
from ansible_collections.mlops.onprem.plugins.module_utils._site.site import Site

GROUPS = {
    "all": ["ctl1", "db1", "store1", "edge1"],
    "control": ["ctl1"],
    "metadata_db": ["ctl1", "db1"],
    "edge": ["edge1"],
}


class Secrets:
    """Those of a site: whoever asks for one makes it."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, name: str, kind: str = "password") -> str:
        self.made.append(f"{name}: {kind}")
        return f"<{name}>"


def site(
    said: Mapping[str, Any], secrets: Secrets, groups: Mapping[str, list[str]] | None = None
) -> Site:
    return Site(
        table=(),
        provides={},
        groups={**GROUPS, **(groups or {})},
        value=lambda _host, name: said.get(name),
        secret=secrets,
        address=str,
        state=lambda name: {"workloads": {"days": [3]}} if name == "assessment.json" else None,
        public_half=lambda key: f"half of {key}",
    )


MADE = ["release_signing_key: private_key"]


@pytest.mark.parametrize(
    ("said", "key", "public", "made"),
    [
        ({}, "<release_signing_key>", "half of <release_signing_key>", MADE),
        ({"release_signing": {}}, "<release_signing_key>", "half of <release_signing_key>", MADE),
        ({"release_signing_key": "mine"}, "mine", "half of mine", []),
        ({"release_signing": {"kind": "pkcs11", "public_key": "token"}}, "", "token", []),
        ({"release_signing": {"kind": "pkcs11"}}, "", "", []),
    ],
    ids=["made", "nobody", "given", "token", "silent"],
)
def test_a_key_is_made_only_where_it_signs(
    said: dict[str, Any], key: str, public: str, made: list[str]
) -> None:
    secrets = Secrets()
    assert handed(site(said, secrets), "model_serving_public_key", "edge1") == public
    assert sorted(set(secrets.made)) == made
    assert handed(site(said, secrets), "signing_key", "edge1") == key
    assert sorted(set(secrets.made)) == made


@pytest.mark.parametrize(
    ("groups", "witness"),
    [
        ({"object_store": ["store1"]}, "store1"),
        ({"object_store": ["ctl1"]}, "db1"),
        ({"metadata_db": ["ctl1"], "gpu": ["gpu1"]}, "gpu1"),
        ({"metadata_db": ["ctl1"]}, "edge1"),
        ({"metadata_db": [], "edge": []}, "db1"),
        ({"metadata_db": [], "edge": [], "all": ["ctl1"]}, ""),
    ],
)
def test_the_witness_is_the_quietest_host_that_is_not_of_the_control_plane(
    groups: dict[str, list[str]], witness: str
) -> None:
    assert handed(site({}, Secrets(), groups), "audit_log_witness", "edge1") == witness


@pytest.mark.parametrize(
    ("said", "host", "url"),
    [
        ({}, "ctl1", "http://127.0.0.1:9090/prometheus"),
        ({"monitoring_prometheus_port": 91}, "ctl1", "http://127.0.0.1:91/prometheus"),
        ({"monitoring_mode": "existing"}, "ctl1", ""),
        ({}, "edge1", ""),
    ],
)
def test_alerts_are_read_where_the_platforms_own_prometheus_is(
    said: dict[str, Any], host: str, url: str
) -> None:
    assert handed(site(said, Secrets()), "audit_log_prometheus_url", host) == url


def test_the_schedulers_events_are_read_on_its_hosts() -> None:
    found = site({}, Secrets(), {"scheduler": ["db1"]})
    assert handed(found, "audit_log_slurm", "db1") is True
    assert handed(found, "audit_log_slurm", "ctl1") is False
    assert handed(site({}, Secrets()), "audit_log_slurm", "ctl1") is False


def test_the_gateway_is_told_the_plan_of_the_last_assessment() -> None:
    assert handed(site({}, Secrets()), "gateway_plan", "ctl1") == {"days": [3]}


@pytest.mark.parametrize(
    ("variable", "prefix", "ours"),
    [
        ("audit_log_prometheus_url", "audit_log_prometheus", "http://127.0.0.1:9090/prometheus"),
        (
            "gateway_metrics_write_url",
            "gateway_metrics_write",
            "http://127.0.0.1:9090/prometheus/api/v1/write",
        ),
    ],
)
def test_the_account_of_our_prometheus_is_shown_to_no_other(
    variable: str, prefix: str, ours: str
) -> None:
    def told(said: dict[str, Any]) -> tuple[str, str]:
        found = site(said, Secrets())
        user, password = (
            handed(found, f"{prefix}_{part}", "ctl1") for part in ("user", "password")
        )
        return str(user), str(password)

    account = told({})
    assert account[0] == "mlops"
    assert account[1]
    assert told({variable: ours}) == account
    assert told({"monitoring_prometheus_password": "given"}) == ("mlops", "given")
    assert told({variable: "https://prometheus.example.com/api"}) == ("", "")
    assert told({"monitoring_mode": "existing"}) == ("", "")
