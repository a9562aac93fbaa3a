# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiver of alerts: what Alertmanager would refuse of it, and whom it talks to.

Alertmanager's own check runs on the host when the file is placed; it cannot be asked before it is
installed. The mistakes that people make are few: a key that does not exist, a missing server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .._findings.sentence import listing
from .._findings.shape import shown

VARIABLE = "monitoring_alert_receiver"


@dataclass(frozen=True)
class Kind:
    """A way to send alerts: what an entry must have, one of each group, and where it goes.

    ``goes`` names the key with the address; ``otherwise`` is the service where none is written.
    """

    needs: tuple[tuple[str, ...], ...] = ()
    goes: str = ""
    otherwise: str = ""


KINDS: Mapping[str, Kind] = {
    "email_configs": Kind((("to",), ("from",), ("smarthost",)), "smarthost"),
    "webhook_configs": Kind((("url", "url_file"),), "url"),
    "slack_configs": Kind((("api_url", "api_url_file"),), "api_url"),
    "msteams_configs": Kind((("webhook_url", "webhook_url_file"),), "webhook_url"),
    "msteamsv2_configs": Kind((("webhook_url", "webhook_url_file"),), "webhook_url"),
    "discord_configs": Kind((("webhook_url", "webhook_url_file"),), "webhook_url"),
    "rocketchat_configs": Kind(
        (("token", "token_file"), ("token_id", "token_id_file")),
        "api_url",
        "https://open.rocket.chat/",
    ),
    "pagerduty_configs": Kind(
        (("routing_key", "routing_key_file", "service_key", "service_key_file"),),
        "url",
        "https://events.pagerduty.com/v2/enqueue",
    ),
    "opsgenie_configs": Kind(
        (("api_key", "api_key_file"),), "api_url", "https://api.opsgenie.com/"
    ),
    "victorops_configs": Kind((("api_key", "api_key_file"), ("routing_key",)), "api_url"),
    "pushover_configs": Kind((("user_key", "user_key_file"), ("token", "token_file"))),
    "telegram_configs": Kind(
        (("bot_token", "bot_token_file"), ("chat_id", "chat_id_file")),
        "api_url",
        "https://api.telegram.org",
    ),
    "webex_configs": Kind((("room_id",), ("http_config",)), "api_url"),
    "wechat_configs": Kind((("api_secret", "api_secret_file"), ("corp_id",)), "api_url"),
    "sns_configs": Kind((("topic_arn", "phone_number", "target_arn"),), "api_url"),
    "jira_configs": Kind((("api_url",), ("project",), ("issue_type",)), "api_url"),
}
PORTS = {"http": 80, "https": 443}


def mistakes(receiver: object) -> list[str]:
    """What Alertmanager would refuse, each as a part of a sentence that begins with the place.

    Only names and places are told, never a value, which may be a secret.
    """
    if not isinstance(receiver, Mapping):
        return [f"{VARIABLE} must be a mapping such as {{webhook_configs: [{{url: …}}]}}"]
    found = []
    for key, entries in receiver.items():
        if (key, entries) == ("name", "site"):
            continue  # as it is named anyway
        if key not in KINDS:
            found.append(f"{VARIABLE}.{shown(key)} is not known; it may hold {listing(KINDS)}")
        elif not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
            found.append(f"{VARIABLE}.{key} must be a list with at least one entry")
        else:
            found += _mistakes(key, entries)
    return found


def _mistakes(key: str, entries: Sequence[object]) -> Iterator[str]:
    kind = KINDS[key]
    for at, entry in enumerate(entries):
        place = f"{VARIABLE}.{key}[{at}]"
        if not isinstance(entry, Mapping):
            yield f"{place} must be a mapping"
            continue
        for group in kind.needs:
            if not any(entry.get(name) not in (None, "") for name in group):
                yield f"{place} lacks {' or '.join(group)}"
        wrong = _wrong_place(key, entry)
        if wrong:
            yield f"{place}.{kind.goes} {wrong}"


def _wrong_place(key: str, entry: Mapping[str, Any]) -> str:
    """What is wrong with the address; an empty text if nothing is, or none is written."""
    kind = KINDS[key]
    value = entry.get(kind.goes) if kind.goes else None
    if value in (None, ""):
        return ""
    if key == "email_configs":
        name, colon, port = str(value).rpartition(":")
        right = colon and name and port
        return "" if right else "must be host:port, such as mail.example.com:587"
    return "" if _of_url(str(value)) else "must be a URL with http or https"


def places(receiver: object) -> list[tuple[str, int]]:
    """Where alerts are sent to, as far as it is written: addresses and ports.

    An entry with a proxy talks to that.
    """
    found: dict[tuple[str, int], None] = {}
    if not isinstance(receiver, Mapping):
        return []
    for key, entries in receiver.items():
        if key not in KINDS or not isinstance(entries, Sequence) or isinstance(entries, str):
            continue
        for entry in entries:
            place = _place(key, entry) if isinstance(entry, Mapping) else None
            if place:
                found[place] = None
    return list(found)


def _place(key: str, entry: Mapping[str, Any]) -> tuple[str, int] | None:
    kind = KINDS[key]
    http = entry.get("http_config")
    if isinstance(http, Mapping):
        if http.get("proxy_from_environment"):
            return None
        if http.get("proxy_url"):
            return _of_url(str(http["proxy_url"]))
    value = entry.get(kind.goes)
    if not value and not entry.get(f"{kind.goes}_file"):
        value = kind.otherwise
    if not value:
        return None
    if key == "email_configs":
        name, _colon, port = str(value).rpartition(":")
        return (name.strip("[]"), int(port)) if name and port.isdigit() else None
    return _of_url(str(value))


def _of_url(url: str) -> tuple[str, int] | None:
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.hostname, port) if parts.hostname and port and parts.scheme in PORTS else None
