# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mistakes in a receiver of alerts are told before anything is installed, without its secrets."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._site.receiver import mistakes, places

TOKEN = "https://hooks.example.com/T0/hush-hush"
MAIL = {"to": "a@example.com", "from": "b@example.com", "smarthost": "mail.example.com:587"}
GOOD: list[tuple[Any, list[tuple[str, int]]]] = [
    ({}, []),
    ({"webhook_configs": [{"url": TOKEN}]}, [("hooks.example.com", 443)]),
    ({"webhook_configs": [{"url": "http://10.0.0.9:8080/x"}]}, [("10.0.0.9", 8080)]),
    ({"webhook_configs": [{"url_file": "/etc/secret"}]}, []),
    ({"email_configs": [MAIL]}, [("mail.example.com", 587)]),
    ({"email_configs": [{**MAIL, "smarthost": "[fd00::1]:25"}]}, [("fd00::1", 25)]),
    (
        {"slack_configs": [{"api_url": TOKEN, "http_config": {"proxy_url": "http://p.lan:3128"}}]},
        [("p.lan", 3128)],
    ),
    ({"pagerduty_configs": [{"routing_key": "k"}]}, [("events.pagerduty.com", 443)]),
    ({"webhook_configs": [{"url": TOKEN}, {"url": TOKEN}]}, [("hooks.example.com", 443)]),
]
BAD: list[tuple[Any, str]] = [
    ({"email_configs": [{"to": "ops@example.com"}]}, "email_configs[0] lacks smarthost"),
    ({"email_configs": [{**MAIL, "smarthost": "mail.example.com"}]}, "must be host:port"),
    ({"webhook_configs": [{}]}, "webhook_configs[0] lacks url or url_file"),
    ({"webhook_configs": {"url": TOKEN}}, "webhook_configs must be a list"),
    ({"webhook_configs": []}, "at least one entry"),
    ({"webhook_configs": [{"url": "hooks.example.com/hush-hush"}]}, "must be a URL"),
    ({"webhook_config": [{"url": TOKEN}]}, "'webhook_config' is not known"),
    ({"slack_configs": [{"channel": "#ops"}]}, "lacks api_url or api_url_file"),
    ([{"url": TOKEN}], "must be a mapping"),
    ("ops@example.com", "must be a mapping"),
]


@pytest.mark.parametrize(("receiver", "there"), GOOD)
def test_a_good_one_says_where_it_goes(receiver: Any, there: list[tuple[str, int]]) -> None:
    assert mistakes(receiver) == []
    assert places(receiver) == there


@pytest.mark.parametrize(("receiver", "said"), BAD)
def test_a_mistake_names_the_variable_and_no_value(receiver: Any, said: str) -> None:
    found = " ".join(mistakes(receiver))
    assert said in found
    assert "monitoring_alert_receiver" in found
    assert "hush-hush" not in found
    assert isinstance(places(receiver), list)
