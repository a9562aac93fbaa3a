# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our dashboards in a Grafana that is not ours: what is to be done, from what its API answers.

By the documentation of Grafana's HTTP API (folders, dashboards, search; versions 9 to 12), and not
tried on a server. A dashboard of ours bears a tag with the hash of what we put there, so that a
server which rewrites what it keeps, as newer ones do, makes no change of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MARK = "mlops-onprem-"
_UID = re.compile(r"[A-Za-z0-9_-]{1,40}")


class GrafanaError(Exception):
    """It cannot be done; the message is a sentence for people."""


@dataclass(frozen=True)
class Step:
    """One request that changes something, and what people are told of it."""

    method: str
    path: str
    body: Mapping[str, Any] | None
    what: str


def marked(dashboard: Mapping[str, Any]) -> dict[str, Any]:
    """The dashboard with its mark; numbers that only a server gives are left out.

    Raises:
        GrafanaError: It has no uid or no title that Grafana takes.
    """
    own = {key: value for key, value in dashboard.items() if key not in ("id", "version")}
    uid, title = own.get("uid"), own.get("title")
    if not isinstance(uid, str) or not _UID.fullmatch(uid) or not title:
        raise GrafanaError(
            f"Found a dashboard with the uid {uid!r} and the title {title!r}, wanted a title, and a"
            " uid of 1 to 40 letters, digits, _ and -."
        )
    tags = [tag for tag in own.get("tags") or [] if not str(tag).startswith(MARK)]
    text = json.dumps({**own, "tags": tags}, sort_keys=True, separators=(",", ":"))
    own["tags"] = [*tags, MARK + hashlib.sha256(text.encode()).hexdigest()[:12]]
    return own


def is_ours(found: Mapping[str, Any]) -> bool:
    """Whether a dashboard, or what a search says of one, bears our mark."""
    return any(str(tag).startswith(MARK) for tag in found.get("tags") or [])


def present(
    folder: Mapping[str, str],
    there: Mapping[str, Any] | None,
    wanted: Sequence[Mapping[str, Any]],
    kept: Mapping[str, Mapping[str, Any] | None],
    inside: Iterable[Mapping[str, Any]] = (),
) -> list[Step]:
    """What brings the folder and our dashboards there.

    ``folder`` has C(uid) and C(title); ``there`` is the answer about it, ``kept`` the answer about
    each of our uids, ``inside`` what the search finds in the folder. None: there is none.
    """
    steps = []
    if there is None:
        made = {"uid": folder["uid"], "title": folder["title"]}
        steps.append(Step("POST", "/api/folders", made, f"the folder {folder['title']}"))
    for own in map(marked, wanted):
        found = kept.get(own["uid"])
        if found is not None:
            _refuse_foreign(folder, own, found)
            if set(own["tags"]) <= set(found["dashboard"].get("tags") or []):
                continue
        body = {
            "dashboard": {**own, "id": None},
            "folderUid": folder["uid"],
            "message": "Written by mlops.onprem",
            "overwrite": found is not None,
        }
        steps.append(Step("POST", "/api/dashboards/db", body, f"the dashboard {own['title']}"))
    names = {str(one["uid"]) for one in wanted}
    gone = [one for one in inside if is_ours(one) and one.get("uid") not in names]
    return steps + [_deleted(one) for one in gone]


def _refuse_foreign(
    folder: Mapping[str, str], own: Mapping[str, Any], found: Mapping[str, Any]
) -> None:
    where = str((found.get("meta") or {}).get("folderUid") or "")
    if not is_ours(found["dashboard"]) or where != folder["uid"]:
        raise GrafanaError(
            f"Found a dashboard with the uid {own['uid']} in the folder {where or 'General'} that"
            f" was not put into {folder['uid']} by this collection; give it another uid, or delete"
            " it there, and run site.yml again."
        )


def absent(
    folder: Mapping[str, str],
    there: Mapping[str, Any] | None,
    inside: Sequence[Mapping[str, Any]],
) -> list[Step]:
    """What takes our dashboards away, and the folder where nobody else has put something."""
    if there is None:
        return []
    ours = [one for one in inside if is_ours(one)]
    steps = [_deleted(one) for one in ours]
    if len(ours) == len(inside):
        path = f"/api/folders/{folder['uid']}"
        steps.append(Step("DELETE", path, None, f"the folder {there.get('title')}"))
    return steps


def _deleted(one: Mapping[str, Any]) -> Step:
    return Step(
        "DELETE", f"/api/dashboards/uid/{one['uid']}", None, f"the dashboard {one.get('title')}"
    )


def refusal(status: int, answer: bytes) -> str:
    """What Grafana says when it refuses, and what mends it; a part of a sentence."""
    try:
        told = json.loads(answer)
        said = str(told.get("message") or told)[:200]
    except (ValueError, AttributeError):
        said = answer[:200].decode("utf-8", "replace")
    remedy = {
        401: "correct monitoring_existing_grafana_token, or the account",
        403: "give its service account the role Editor",
        404: "correct monitoring_existing_grafana_url",
        412: "rename what is there of the same name, and run site.yml again",
    }.get(status, "read Grafana's own log")
    return f"HTTP {status}: {said}; {remedy}"
