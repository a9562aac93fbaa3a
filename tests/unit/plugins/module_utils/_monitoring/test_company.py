"""Alertmanagers of the company, as Prometheus is told of them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._monitoring import company

HERE = "/etc/mlops/monitoring"


def test_each_is_told_with_its_secret_in_a_file_of_its_own() -> None:
    given = [
        {"url": "http://127.0.0.1:9093"},
        {"url": "https://alarms.lan/am/", "token": "hush", "ca_file": "/etc/ca.crt"},
        {"url": "https://[fd00::1]:9443", "user": "mlops", "password": "secret"},
    ]
    told = company.told(given, HERE)
    assert told["problems"] == []
    assert told["configuration"] == [
        {"scheme": "http", "static_configs": [{"targets": ["127.0.0.1:9093"]}]},
        {
            "scheme": "https",
            "static_configs": [{"targets": ["alarms.lan:443"]}],
            "path_prefix": "/am",
            "tls_config": {"ca_file": "/etc/ca.crt"},
            "authorization": {
                "type": "Bearer",
                "credentials_file": f"{HERE}/existing_alertmanager1.secret",
            },
        },
        {
            "scheme": "https",
            "static_configs": [{"targets": ["[fd00::1]:9443"]}],
            "basic_auth": {
                "username": "mlops",
                "password_file": f"{HERE}/existing_alertmanager2.secret",
            },
        },
    ]
    assert told["secrets"] == {
        "existing_alertmanager1.secret": "hush",
        "existing_alertmanager2.secret": "secret",
    }
    plain = {"user": "", "ca_file": "", "secret_file": ""}
    assert told["asked"] == [
        {**plain, "url": "http://127.0.0.1:9093"},
        {
            **plain,
            "url": "https://alarms.lan:443/am",
            "ca_file": "/etc/ca.crt",
            "secret_file": f"{HERE}/existing_alertmanager1.secret",
        },
        {
            **plain,
            "url": "https://[fd00::1]:9443",
            "user": "mlops",
            "secret_file": f"{HERE}/existing_alertmanager2.secret",
        },
    ]
    assert company.goes(given) == [
        (company.VARIABLE, "127.0.0.1", 9093),
        (company.VARIABLE, "alarms.lan", 443),
        (company.VARIABLE, "fd00::1", 9443),
    ]
    nothing: dict[str, Any] = {"problems": [], "configuration": [], "secrets": {}, "asked": []}
    assert company.told([], HERE) == nothing


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "alarms.lan"}, "must be a URL with http or https"),
        ({"url": "https://alarms.lan:port"}, "must be a URL with http or https"),
        ({"url": "https://a:hush@alarms.lan"}, "an account is user and password"),
        ({"url": "https://alarms.lan?x=1"}, "an address and a path alone"),
        ({"url": "http://alarms.lan", "token": "hush"}, "does not go over the network without TLS"),
        ({"url": "https://alarms.lan", "user": "a"}, "a user without a password"),
        (
            {"url": "https://alarms.lan", "user": "a", "password": "hush", "token": "hush"},
            "shows one of them",
        ),
        ({"url": "https://alarms.lan", "name": "x"}, "name"),
        ("https://alarms.lan", ""),
    ],
)
def test_what_cannot_be_right_is_refused_without_a_secret(given: Any, said: str) -> None:
    told = company.told([given], HERE)
    (problem,) = told["problems"]
    assert problem.startswith(company.VARIABLE)
    assert said in problem
    assert "hush" not in problem
    assert company.goes([given]) == []
