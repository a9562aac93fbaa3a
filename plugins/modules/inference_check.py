#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: inference_check
short_description: Ask devices the golden requests of a release and judge their answers
version_added: 0.1.0
description:
  - Runs on the controller. Asks each device over TLS through the Open Inference Protocol whether it
    serves the release, sends the golden requests, compares the answers with the trainer's own,
    and measures latency.
  - A device that does not answer or answers wrongly is a result, not an error; judge
    RV(devices[].ok).
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  devices:
    description: The devices.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the device.
        type: str
        required: true
      url:
        description: Address that its model server answers on, beginning with https.
        type: str
        required: true
  digest:
    description: Digest of the release that the devices must serve.
    type: str
    required: true
  model_name:
    description: Name of the model.
    type: str
    required: true
  model_version:
    description: Version of the model that the devices must name.
    type: str
    required: true
  golden:
    description: File with the golden answers of the release, as the step publish writes it.
    type: path
    required: true
  ca_file:
    description: Certificates to trust.
    type: path
    required: true
  requests:
    description: Requests by which the latency of a device is measured.
    type: int
    default: 60
  parallel:
    description: Devices asked at the same time. More is quicker and measures worse latencies.
    type: int
    default: 2
  timeout:
    description: Seconds to wait for each answer, all of it.
    type: int
    default: 10
extends_documentation_fragment: [mlops.onprem.read_only]
"""

EXAMPLES = r"""
- name: Ask a device the golden requests
  mlops.onprem.inference_check:
    devices:
      - name: edge1
        url: https://10.203.0.21
    digest: "{{ published.digest }}"
    model_name: "{{ published.model_name }}"
    model_version: "{{ published.model_version }}"
    golden: /srv/site/.state/pipeline/golden.json
    ca_file: /srv/site/.state/ca-bundle.crt
  delegate_to: localhost
"""

RETURN = r"""
devices:
  description: What was found on each device, in the order asked.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the device.
      type: str
      sample: edge1
    ok:
      description: Whether it serves the release and answers as the trainer does.
      type: bool
      sample: true
    error:
      description: What is wrong, a sentence.
      type: str
      sample: "edge1 does not answer at https://10.203.0.21: connection refused."
    answers:
      description: Golden answers compared.
      type: int
      sample: 16
    gap:
      description: Largest difference from the trainer's answers.
      type: float
      sample: 0.0000001
    tolerance:
      description: Largest difference accepted.
      type: float
      sample: 0.0001
    requests:
      description: Requests answered in all.
      type: int
      sample: 76
    p50_ms:
      description: Half of the requests were answered within this, in milliseconds.
      type: float
      sample: 3.1
    p95_ms:
      description: 95 % of the requests were answered within this, in milliseconds.
      type: float
      sample: 4.9
    seconds:
      description: How long the device was looked at.
      type: float
      sample: 0.4
"""

import contextlib
import http.client
import json
import socket
import ssl
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks.bounded import Watch
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks.errors import CheckError
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks.golden import (
    SENT_WITH,
    Golden,
    compare,
    parse_golden,
)
from ansible_collections.mlops.onprem.plugins.module_utils._serving_checks.latency import percentile

MAX_ANSWER_BYTES = 4 * 1024 * 1024


class DeviceClient:
    """One connection to a device, kept open as a client of the model would."""

    def __init__(self, name: str, url: str, context: ssl.SSLContext, timeout: int) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise CheckError(f"The address of {name} is {url!r}, wanted https://host.")
        self._name, self._url = name, url
        self._timeout = timeout
        self._connection = http.client.HTTPSConnection(
            parts.hostname, parts.port or 443, timeout=timeout, context=context
        )
        self._watch = Watch(self._cut)

    def _cut(self) -> None:
        """End a request that takes too long, whatever the device still sends of it."""
        sock = self._connection.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Send one request; return the answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = SENT_WITH if data else {}
        try:
            with self._watch.limit(self._timeout):
                self._connection.request(method, path, body=data, headers=headers)
                answer = self._connection.getresponse()
                text = answer.read(MAX_ANSWER_BYTES + 1)
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise CheckError(
                f"The certificate of {self._name} at {self._url} is not accepted: "
                f"{error.verify_message}."
            ) from None
        except (OSError, http.client.HTTPException) as error:
            late = self._watch.expired
            self.close()
            if late:
                raise CheckError(
                    f"{self._name} did not answer {method} {path} within {self._timeout} seconds."
                ) from None
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise CheckError(
                f"{self._name} does not answer at {self._url}: {reason.lower()}."
            ) from None
        if len(text) > MAX_ANSWER_BYTES:
            self.close()
            raise CheckError(
                f"{self._name} answers {method} {path} with more than {MAX_ANSWER_BYTES >> 20} MiB."
            )
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = {}
        if answer.status != 200:
            reason = str(value.get("error") or "")[:400] if isinstance(value, dict) else None
            raise CheckError(
                f"{self._name} answers {method} {path} with HTTP {answer.status}"
                f"{': ' + reason if reason else ''}."
            )
        if not isinstance(value, dict):
            raise CheckError(f"{self._name} answers {method} {path} with something else than JSON.")
        return value

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def end(self) -> None:
        """Let go of the connection for good."""
        self._watch.end()
        self.close()


def served_digest(answer: dict[str, Any], model: str) -> Any:
    """Return the digest that a device serves of a model; None if it serves none.

    A server of an earlier version has one model, and names its digest alone.
    """
    models = answer.get("models")
    if not isinstance(models, dict):
        return answer.get("digest")
    one = models.get(model)
    return one.get("digest") if isinstance(one, dict) else None


def check_device(
    client: DeviceClient, name: str, golden: Golden, params: dict[str, Any]
) -> dict[str, Any]:
    """Ask one device everything; raise a sentence at the first thing that is wrong."""
    model, version, digest = params["model_name"], params["model_version"], params["digest"]
    served = served_digest(client.ask("GET", "/release"), model)
    if served != digest:
        raise CheckError(f"{name} serves the release {served} of {model}, wanted {digest}.")
    metadata = client.ask("GET", f"/v2/models/{model}")
    if version not in (metadata.get("versions") or []):
        raise CheckError(
            f"{name} says that it serves the versions {metadata.get('versions')} of {model}, "
            f"wanted {version}."
        )
    infer = f"/v2/models/{model}/infer"
    answers = [client.ask("POST", infer, case.request) for case in golden.cases]
    gap, problem = compare(golden, answers)
    if problem:
        raise CheckError(f"{name}: {problem}.")
    spent = []
    for number in range(params["requests"]):
        started = time.perf_counter()
        client.ask("POST", infer, golden.cases[number % len(golden.cases)].request)
        spent.append((time.perf_counter() - started) * 1000)
    return {
        "answers": len(answers),
        "gap": gap,
        "tolerance": golden.tolerance,
        "requests": len(answers) + len(spent),
        "p50_ms": round(percentile(spent, 0.5), 2),
        "p95_ms": round(percentile(spent, 0.95), 2),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "devices": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "url": {"type": "str", "required": True},
                },
            },
            "digest": {"type": "str", "required": True},
            "model_name": {"type": "str", "required": True},
            "model_version": {"type": "str", "required": True},
            "golden": {"type": "path", "required": True},
            "ca_file": {"type": "path", "required": True},
            "requests": {"type": "int", "default": 60},
            "parallel": {"type": "int", "default": 2},
            "timeout": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    params = module.params
    if params["requests"] < 1 or params["parallel"] < 1:
        module.fail_json(msg="The options requests and parallel must be 1 or more.")
    try:
        context = ssl.create_default_context(cafile=params["ca_file"])
    except (OSError, ssl.SSLError) as error:
        module.fail_json(msg=f"The file {params['ca_file']} cannot be read: {error}.")
    golden: Golden | None = None
    problem = ""
    try:
        golden = parse_golden(Path(params["golden"]).read_text(encoding="utf-8"))
    except OSError:
        problem = f"The golden answers are missing: there is no file {params['golden']}."
    except CheckError as error:
        problem = str(error)

    def look(device: dict[str, str]) -> dict[str, Any]:
        started = time.perf_counter()
        result: dict[str, Any] = {"name": device["name"], "ok": False}
        try:
            if golden is None:
                raise CheckError(problem)
            client = DeviceClient(device["name"], device["url"], context, params["timeout"])
            try:
                result.update(check_device(client, device["name"], golden, params), ok=True)
            finally:
                client.end()
        except CheckError as error:
            result["error"] = str(error)
        result["seconds"] = round(time.perf_counter() - started, 3)
        return result

    with ThreadPoolExecutor(params["parallel"]) as pool:
        devices = list(pool.map(look, params["devices"]))
    module.exit_json(changed=False, devices=devices)


if __name__ == "__main__":
    main()
