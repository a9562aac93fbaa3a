#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_look
short_description: Look once at the devices of a ring and at those still on the release before
version_added: 0.3.0
description:
  - Runs on the control host. Reads the metrics of each device where Prometheus reads them, with the
    certificate of the control host, sends each golden requests, and asks the site's Prometheus its
    own queries. Judges nothing and changes nothing.
  - What a device did not answer is a result, not an error.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  model:
    description: Name of the model.
    type: str
    required: true
  ring:
    description: The devices of the ring under judgement.
    type: list
    elements: dict
    default: []
    suboptions: &device
      name:
        description: Name of the device.
        type: str
        required: true
      serving:
        description: Address at which it answers predictions.
        type: str
        required: true
      metrics:
        description: Address of its metrics server.
        type: str
        required: true
      digest:
        description: Digest of the release that it is to answer from.
        type: str
        required: true
  control:
    description: Devices that are still on the release before.
    type: list
    elements: dict
    default: []
    suboptions: *device
  golden_directory:
    description:
      - Where M(mlops.onprem.model_release_info) keeps golden requests. Those of the release of
        the ring are sent. Without them none is sent.
    type: str
    default: ""
  probes:
    description: Golden requests sent to each device, at least one.
    type: int
    default: 1
  queries:
    description: The site's own queries to Prometheus by name.
    type: dict
    default: {}
  prometheus:
    description: C(url), C(user), C(password) and C(ca_file) of Prometheus.
    type: dict
    default: {}
  ca_file:
    description: Authorities that devices are verified with.
    type: path
    default: /etc/mlops/tls/ca.crt
  cert_file:
    description: Certificate of the control host.
    type: path
    default: /etc/mlops/tls/host.crt
  key_file:
    description: Its key.
    type: path
    default: /etc/mlops/tls/host.key
  timeout:
    description: Seconds that a device has for one answer.
    type: float
    default: 10
  parallel:
    description: Devices asked at the same time.
    type: int
    default: 16
extends_documentation_fragment: [mlops.onprem.read_only]
"""

EXAMPLES = r"""
- name: Look at the first ring
  mlops.onprem.rollout_look:
    model: defects
    ring:
      - name: edge1
        serving: https://10.203.0.21
        metrics: https://10.203.0.21:9443
        digest: sha256:29dee44eca6eb59f5165a13483c3d57dffbaf6a8e144ef2566cf02c77d075a80
    probes: 20
    golden_directory: /var/lib/mlops/rollout/defects
"""

RETURN = r"""
ring:
  description: What the devices of the ring have counted; C(host), C(digest), C(answered),
    C(requests), C(errors), C(latency), C(predictions), C(at).
  returned: success
  type: list
  elements: dict
control:
  description: The same of the devices on the release before.
  returned: success
  type: list
  elements: dict
queries:
  description: Answers of Prometheus by name of the query; null where there was none.
  returned: success
  type: dict
  sample: {queue: 3.0}
problems:
  description: A sentence by device, for those that did not answer as wanted.
  returned: success
  type: dict
  sample: {edge3: "it does not answer at https://10.203.0.23: connection refused."}
at:
  description: When it was looked, in seconds since 1970.
  returned: success
  type: float
  sample: 1764345600.5
"""

import base64
import http.client
import json
import math
import ssl
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import Interrupted
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.module_utils._release.oci import hex_of
from ansible_collections.mlops.onprem.plugins.module_utils._release.web import WebTransport
from ansible_collections.mlops.onprem.plugins.module_utils._rollout import evidence
from ansible_collections.mlops.onprem.plugins.module_utils._rollout.shapes import Seen
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks.bounded import (
    read_answer,
)
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks.errors import CheckError
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks.golden import SENT_WITH
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks.looking import (
    Looked,
    look_at,
)

MAX_ANSWER_BYTES = 8 * 1024 * 1024
DEVICE = {
    name: {"type": "str", "required": True} for name in ("name", "serving", "metrics", "digest")
}
ARGUMENTS: dict[str, Any] = {
    "model": {"type": "str", "required": True},
    "ring": {"type": "list", "elements": "dict", "default": [], "options": DEVICE},
    "control": {"type": "list", "elements": "dict", "default": [], "options": DEVICE},
    "golden_directory": {"type": "str", "default": ""},
    "probes": {"type": "int", "default": 1},
    "queries": {"type": "dict", "default": {}},
    "prometheus": {"type": "dict", "default": {}, "no_log": True},
    "ca_file": {"type": "path", "default": "/etc/mlops/tls/ca.crt"},
    "cert_file": {"type": "path", "default": "/etc/mlops/tls/host.crt"},
    "key_file": {"type": "path", "default": "/etc/mlops/tls/host.key", "no_log": False},
    "timeout": {"type": "float", "default": 10.0},
    "parallel": {"type": "int", "default": 16},
}


class Connection:
    """One address of a device, over a connection that is kept as long as it holds."""

    def __init__(self, name: str, url: str, context: ssl.SSLContext, timeout: float) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise CheckError(f"the address of {name} is {url!r}, wanted https://host")
        self._url, self._timeout = url, timeout
        self._connection = http.client.HTTPSConnection(
            parts.hostname, parts.port or 443, timeout=timeout, context=context
        )

    def __call__(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        headers = SENT_WITH if body else {}
        try:
            self._connection.request(method, path, body=body, headers=headers)
            answer = self._connection.getresponse()
            return answer.status, read_answer(answer, self._url, MAX_ANSWER_BYTES, self._timeout)
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise CheckError(
                f"the certificate at {self._url} is not accepted: {error.verify_message}"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise CheckError(f"it does not answer at {self._url}: {reason.lower()}") from None

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()


def bodies_of(params: Mapping[str, Any]) -> list[bytes]:
    """The golden requests of the release of the ring, as they are sent."""
    digests = [device["digest"] for device in params["ring"]]
    if not params["golden_directory"] or not digests:
        return []
    path = Path(params["golden_directory"]) / f"golden-{hex_of(digests[0])[:16]}.json"
    if not path.exists():
        return []
    cases = json.loads(path.read_bytes()).get("cases") or []
    return [json.dumps(case["request"]).encode() for case in cases]


def look(
    device: Mapping[str, str],
    params: Mapping[str, Any],
    bodies: Sequence[bytes],
    context: ssl.SSLContext,
) -> tuple[Seen, str]:
    """Look at one device: its counters, and what is wrong with it."""
    name, digest = device["name"], device["digest"]
    try:
        serving = Connection(name, device["serving"], context, params["timeout"])
        metrics = Connection(name, device["metrics"], context, params["timeout"])
        try:
            found = look_at(serving, metrics, params["model"], digest, bodies, params["probes"])
        finally:
            serving.close()
            metrics.close()
    except CheckError as error:
        found = Looked(False, problem=str(error))
    seen = evidence.read_metrics(found.page, name, params["model"], digest, time.time())
    return replace(seen, answered=found.answered), found.problem


def ask_prometheus(params: Mapping[str, Any]) -> dict[str, float | None]:
    """The site's own queries: the first value of each, None where there is none."""
    given = params["prometheus"]
    found: dict[str, float | None] = dict.fromkeys(params["queries"])
    if not found or not given.get("url"):
        return found
    transport = WebTransport(given.get("ca_file") or params["ca_file"], timeout=params["timeout"])
    headers = {"accept": "application/json"}
    if given.get("user"):
        pair = f"{given['user']}:{given.get('password', '')}".encode()
        headers["authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    for name, query in params["queries"].items():
        address = f"{given['url'].rstrip('/')}/api/v1/query?" + urllib.parse.urlencode(
            {"query": query}
        )
        try:
            answer = transport("GET", address, headers)
            data = read_answer(answer, "Prometheus", MAX_ANSWER_BYTES, params["timeout"])
            found[name] = first_value(json.loads(data))
        except (CheckError, RegistryError, Interrupted, ValueError):
            found[name] = None
    return found


def first_value(answer: Any) -> float | None:
    """The value of an instant query: of its scalar, or of the first series of its vector."""
    data = answer.get("data") if isinstance(answer, Mapping) else None
    result = data.get("result") if isinstance(data, Mapping) else None
    if isinstance(result, list) and result and isinstance(result[0], Mapping):
        result = result[0].get("value")
    if not isinstance(result, list) or len(result) != 2:
        return None
    try:
        value = float(result[1])
    except (TypeError, ValueError):
        return None
    return None if math.isnan(value) else value


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    try:
        bodies = bodies_of(params)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        module.fail_json(
            msg=f"The golden requests in {params['golden_directory']} cannot be read: {error}."
        )
    try:
        context = ssl.create_default_context(cafile=params["ca_file"])
        context.load_cert_chain(params["cert_file"], params["key_file"])
    except (OSError, ssl.SSLError) as error:
        module.fail_json(
            msg=f"The certificate {params['cert_file']} of this host cannot be used: {error}; "
            "run site.yml, whose role trust makes it."
        )
    every = [*params["ring"], *params["control"]]
    with ThreadPoolExecutor(max(1, min(params["parallel"], len(every) or 1))) as pool:
        looked = list(pool.map(lambda one: look(one, params, bodies, context), every))
    edge = len(params["ring"])
    module.exit_json(
        changed=False,
        ring=[asdict(seen) for seen, _problem in looked[:edge]],
        control=[asdict(seen) for seen, _problem in looked[edge:]],
        queries=ask_prometheus(params),
        problems={seen.host: problem for seen, problem in looked if problem},
        at=time.time(),
    )


if __name__ == "__main__":
    main()
