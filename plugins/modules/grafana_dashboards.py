#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: grafana_dashboards
short_description: Put dashboards into a folder of a Grafana that is not ours
version_added: 0.3.0
description:
  - Makes a folder of its own and puts dashboards there by Grafana's HTTP API, or takes them away.
  - A dashboard bears a tag with the hash of what was put there. What people change there stays
    until the dashboard itself changes; what bears no such tag is never touched.
  - Written by the documentation of the API for Grafana 9 to 12, and not tried on a server.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  url:
    description: Address of Grafana, with its path.
    type: str
    required: true
  token:
    description: Token of a service account with the role Editor.
    type: str
    default: ""
  user:
    description: Account to use instead of a token.
    type: str
    default: ""
  password:
    description: Password of the account.
    type: str
    default: ""
  ca_file:
    description: Certificates to trust. Empty for those of the machine.
    type: str
    default: ""
  folder:
    description: Title of the folder.
    type: str
    default: MLOps platform
  folder_uid:
    description: Name that Grafana knows the folder by, 1 to 40 letters, digits, C(_) and C(-).
    type: str
    default: mlops-onprem
  files:
    description: Files with dashboards as JSON, where the module runs.
    type: list
    elements: path
    default: []
  state:
    description:
      - V(present) brings the dashboards there, V(absent) takes away those that bear the tag, and
        the folder if nothing else is in it.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment: [mlops.onprem.previewed]
"""

EXAMPLES = r"""
- name: Put the dashboards into the company's Grafana
  mlops.onprem.grafana_dashboards:
    url: https://grafana.example.com
    token: "{{ vault_grafana_token }}"
    files: [/srv/dashboards/platform.json]
  delegate_to: localhost
"""

RETURN = r"""
done:
  description: What was put there or taken away, or would be.
  returned: success
  type: list
  elements: str
  sample: [the dashboard MLOps platform]
"""

import base64
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._monitoring import grafana

MOST_BYTES = 64 * 1024 * 1024
PAGE = 1000


class Grafana:
    """Its HTTP API."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._url = params["url"].rstrip("/")
        self._headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if params["token"]:
            self._headers["Authorization"] = f"Bearer {params['token']}"
        elif params["user"]:
            account = base64.b64encode(f"{params['user']}:{params['password']}".encode()).decode()
            self._headers["Authorization"] = f"Basic {account}"
        context = ssl.create_default_context(cafile=params["ca_file"] or None)
        self._open = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context)).open

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, missing: bool = False
    ) -> Any:
        """The answer; None where there is nothing and C(missing) allows for it."""
        request = urllib.request.Request(
            f"{self._url}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers=self._headers,
            method=method,
        )
        try:
            with self._open(request, timeout=30) as answer:
                return json.loads(answer.read(MOST_BYTES) or b"{}")
        except urllib.error.HTTPError as error:
            if error.code == 404 and missing:
                return None
            said = grafana.refusal(error.code, error.read(2000))
            raise grafana.GrafanaError(f"{method} {path} is answered with {said}.") from None
        except (OSError, ValueError) as error:
            raise grafana.GrafanaError(
                f"{method} {path} has no answer that can be read: {error};"
                " correct monitoring_existing_grafana_url."
            ) from None

    def inside(self, uid: str) -> list[dict[str, Any]]:
        """All that lies in a folder, dashboards and folders."""
        found: list[dict[str, Any]] = []
        while True:
            words = {"folderUIDs": uid, "limit": PAGE, "page": len(found) // PAGE + 1}
            page = self.ask("GET", f"/api/search?{urllib.parse.urlencode(words)}")
            found += page
            if len(page) < PAGE:
                return found


def steps_of(api: Grafana, params: Mapping[str, Any]) -> list[grafana.Step]:
    """What there is to do."""
    folder = {"uid": params["folder_uid"], "title": params["folder"]}
    # Whether it is a Grafana at all, and whether we may: an answer to everybody says neither.
    api.ask("GET", "/api/search?limit=1")
    there = api.ask("GET", f"/api/folders/{folder['uid']}", missing=True)
    inside = api.inside(folder["uid"]) if there is not None else []
    if params["state"] == "absent":
        return grafana.absent(folder, there, inside)
    wanted = []
    for path in params["files"]:
        with open(path, encoding="utf-8") as stream:
            wanted.append(json.load(stream))
    uids = [grafana.marked(one)["uid"] for one in wanted]
    kept = {uid: api.ask("GET", f"/api/dashboards/uid/{uid}", missing=True) for uid in uids}
    return grafana.present(folder, there, wanted, kept, inside)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "token": {"type": "str", "default": "", "no_log": True},
            "user": {"type": "str", "default": ""},
            "password": {"type": "str", "default": "", "no_log": True},
            "ca_file": {"type": "str", "default": ""},
            "folder": {"type": "str", "default": "MLOps platform"},
            "folder_uid": {"type": "str", "default": "mlops-onprem"},
            "files": {"type": "list", "elements": "path", "default": []},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    try:
        api = Grafana(module.params)
        steps = steps_of(api, module.params)
        if not module.check_mode:
            for step in steps:
                api.ask(step.method, step.path, step.body)
    except (grafana.GrafanaError, OSError, ValueError) as error:
        module.fail_json(msg=f"The Grafana at {module.params['url']}: {error}")
    gone = [step.what for step in steps if step.method == "DELETE"]
    new = [step.what for step in steps if step.method != "DELETE"]
    module.exit_json(
        changed=bool(steps),
        done=[step.what for step in steps],
        diff={
            "before": "".join(f"{what}\n" for what in gone),
            "after": "".join(f"{what}\n" for what in new),
        },
    )


if __name__ == "__main__":
    main()
