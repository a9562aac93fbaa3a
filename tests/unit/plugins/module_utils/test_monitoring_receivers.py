# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people write of mail servers and webhooks is what Alertmanager reads, or a sentence."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._monitoring import delivery, receivers

MAIL: dict[str, Any] = {
    "to": ["ops@example.com"],
    "from": "mlops@example.com",
    "server": "mail.lan",
}
SECRET = "hush-hush"


@pytest.mark.parametrize(
    ("more", "host", "starttls"),
    [
        ({}, "mail.lan:587", True),
        ({"security": "tls"}, "mail.lan:465", False),
        ({"security": "none"}, "mail.lan:25", False),
        ({"server": "fd00::1", "port": 2525}, "[fd00::1]:2525", True),
    ],
)
def test_a_mail_server_is_reached_as_it_is_meant(
    more: dict[str, Any], host: str, starttls: bool
) -> None:
    mail = receivers.mail_of({**MAIL, **more})
    assert mail is not None
    config = mail.config("/p")
    assert (config["smarthost"], config["require_tls"]) == (host, starttls)
    assert "auth_password_file" not in config


@pytest.mark.parametrize(
    ("mail", "said"),
    [
        ({**MAIL, "port": 465}, "security is starttls on port 465"),
        ({**MAIL, "security": "tls", "port": 2465}, "security is tls on port 2465"),
        ({**MAIL, "security": "ssl"}, "monitoring_alert_mail.security: must be one of"),
        ({**MAIL, "security": "none", "user": "u"}, "does not go over the network without TLS"),
        ({**MAIL, "to": []}, "monitoring_alert_mail.to: must have at least one address"),
        ({**MAIL, "to": ["ops"]}, "monitoring_alert_mail.to[0]: must be an address"),
        ({"to": ["a@b"], "server": "s"}, "monitoring_alert_mail.from: is missing"),
        ({**MAIL, "passwort": SECRET}, "has the unknown key 'passwort'"),
        ({**MAIL, "to": ["a@b.c\nBcc: x@y.z"]}, "monitoring_alert_mail.to[0]: must be an address"),
        ({**MAIL, "server": "mail:587"}, "server: is 'mail:587'; write mail alone, and port: 587"),
        ({**MAIL, "server": "smtp://mail"}, "server: must be a name or an address"),
        ({**MAIL, "port": 99999}, "port: must be a port from 1 to 65535, but is 99999"),
        ({**MAIL, "port": 0}, "port: must be a port from 1 to 65535"),
    ],
)
def test_a_mistake_in_the_mail_server_is_told(mail: object, said: str) -> None:
    (found,) = receivers.problems(mail, SECRET, [], "")
    assert said in found
    assert SECRET not in found


def test_mistakes_elsewhere_are_told_without_secrets() -> None:
    found = receivers.problems(
        {**MAIL, "user": "u"}, "", [{"url": f"ftp://x/{SECRET}"}], f"{SECRET}.lan"
    )
    assert [sentence.partition(" ")[0].partition(":")[0] for sentence in found] == [
        "monitoring_alert_mail.user",
        "monitoring_alert_webhooks[0].url",
        "monitoring_alert_heartbeat",
    ]
    assert SECRET not in "".join(found)


def test_what_was_written_for_alertmanager_itself_stays() -> None:
    own = {
        "name": "site",
        "webhook_configs": [{"url": "http://own/"}],
        "slack_configs": [{"api_url": "x"}],
    }
    hooks = [{"url": "https://a/", "token": SECRET}, {"url": "https://b/"}]
    made = receivers.configuration(own, MAIL, hooks, "", "/etc/m")
    site, beat = made["receivers"]
    assert [one["url"] for one in site["webhook_configs"]] == [
        "http://own/",
        "https://a/",
        "https://b/",
    ]
    assert site["slack_configs"] == own["slack_configs"]
    assert beat == {"name": "heartbeat"}
    assert SECRET not in str(made)
    assert receivers.secrets("", hooks) == {"webhook0.token": SECRET}
    assert receivers.deliveries(made) == {"webhook": 3, "slack": 1, "email": 1}


def test_the_ways_of_alerts_are_known() -> None:
    assert receivers.goes(MAIL, [{"url": "https://a/"}], "http://b:8080/x") == [
        ("monitoring_alert_mail", "mail.lan", 587),
        ("monitoring_alert_webhooks", "a", 443),
        ("monitoring_alert_heartbeat", "b", 8080),
    ]
    assert receivers.goes({"to": 1}, [], "") == []
    assert receivers.goes(None, None, None) == []


def test_only_attempts_that_ended_well_count() -> None:
    name = "alertmanager_notification_requests"
    before = delivery.counted(f'{name}_total{{integration="email"}} 2\n')
    after = delivery.counted(
        f'{name}_total{{integration="email"}} 4\n{name}_failed_total{{integration="email"}} 1\n'
        'alertmanager_notifications_total{integration="webhook"} 9\n'
    )
    assert delivery.missing(before, after, {"email": 1}) == []
    assert delivery.missing(before, after, {"email": 2, "webhook": 1}) == [
        "1 of 2 deliveries by email were taken; 1 attempts failed",
        "0 of 1 deliveries by webhook were taken; it was not tried yet",
    ]


@pytest.mark.parametrize(
    "url", ["https://h/ho ok", "https://h/a\nb", "h/y", "ftp://h/y", "https://"]
)
def test_an_address_that_nobody_can_post_to_is_told(url: str) -> None:
    found = receivers.problems({}, "", [{"url": url}], "")
    assert found == ["monitoring_alert_webhooks[0].url: must be a URL with http or https"]
