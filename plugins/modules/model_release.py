#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_release
short_description: Bring an edge device to a signed model release, or back to an earlier one
version_added: 0.1.0
description:
  - Runs on the device. Fetches a release by digest from the artifact registry, verifies digest,
    signature and shape, and puts it in place whole or not at all.
  - Activates it by switching a symbolic link, has the model server load it without losing a
    request, and goes back to the release before if the server cannot serve it or its answers are
    not those of the trainer.
  - Files of the release that were damaged on the disk are fetched again. Nothing that is here is
    removed before what replaces it is complete and verified.
  - A run killed at any point leaves the device serving; the next run goes on where it ended, also
    in the middle of a file.
  - A device can have several models, each with a current and a previous release of its own.
  - Goes back to an older release by naming its digest and O(rollback), without the network if the
    device kept it. Releases carry a counter; one older than the newest that a device has had is
    refused without O(rollback).
  - What is served and was signed by a key that was revoked since is told in a warning.
  - Where to fetch from, the keys to trust and how many releases to keep is written on the device by
    the role C(model_serving). The command C(/opt/mlops/model_serving_app/mlops-release) on the
    device does the same without Ansible.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  digest:
    description:
      - Digest of the release's manifest, as the step publish of the pipeline prints it.
      - Without it, the releases that the device has are looked at again, and what is damaged of
        them on the disk is fetched anew. A device without a release is left as it is.
    type: str
  model:
    description:
      - Name of the model. Its releases are fetched from the repository of that name below the one
        that the role wrote down. A release of another model is refused.
      - Without it, the model is the one that a release on the device names, and a release that is
        not here is looked for in the repository that the role wrote down itself, where sites had
        their one model up to version 0.3.
    type: str
  state:
    description:
      - V(absent) removes O(model), its links and its releases from the device, and has the model
        server let go of it.
    type: str
    choices: [present, absent]
    default: present
  models:
    description:
      - Names of all models that the device is to have. Every other one is removed, as with
        O(state=absent), before anything else is done. An empty list removes all of them.
    type: list
    elements: str
  releases:
    description:
      - Digests of several releases by the names of their models, which are brought here one after
        the other. One that does not work does not keep the others from their turn; the task fails
        in the end. It stands in the place of O(digest), O(model) and O(models).
    type: dict
    version_added: 0.3.0
  rollback:
    description: Accept a release that is older than the newest one of its model that was here.
    type: bool
    default: false
  activate:
    description:
      - Serve the release. Without it, it is only fetched and verified, for an activation later.
    type: bool
    default: true
  timeout:
    description: Seconds to wait for the model server to answer and to load the model.
    type: int
    default: 60
  settings:
    description: File that the role wrote.
    type: path
    default: /etc/mlops/model_serving/release.json
attributes:
  check_mode:
    description:
      - Manifest and signature are read from the registry and judged; nothing is fetched.
    support: full
  diff_mode:
    description: Shows the digest before and after.
    support: full
"""

EXAMPLES = r"""
- name: Release a model to the device
  mlops.onprem.model_release:
    model: breast-cancer
    digest: sha256:29dee44eca6eb59f5165a13483c3d57dffbaf6a8e144ef2566cf02c77d075a80

- name: Release all models of the device
  mlops.onprem.model_release:
    releases:
      breast-cancer: sha256:29dee44eca6eb59f5165a13483c3d57dffbaf6a8e144ef2566cf02c77d075a80
      iris: sha256:1f0f1a9b4b7f9f2b5a2f0a5b6a3ad7c51f0f1a9b4b7f9f2b5a2f0a5b6a3ad7c5

- name: Go back to the release before
  mlops.onprem.model_release:
    model: breast-cancer
    digest: sha256:1f0f1a9b4b7f9f2b5a2f0a5b6a3ad7c51f0f1a9b4b7f9f2b5a2f0a5b6a3ad7c5
    rollback: true

- name: Fetch a release ahead of the maintenance window
  mlops.onprem.model_release:
    digest: sha256:29dee44eca6eb59f5165a13483c3d57dffbaf6a8e144ef2566cf02c77d075a80
    activate: false

- name: Fetch again what is damaged of the releases that the device has
  mlops.onprem.model_release:

- name: Remove a model from the device
  mlops.onprem.model_release:
    model: breast-cancer
    state: absent

- name: Remove every model but two
  mlops.onprem.model_release:
    models: [breast-cancer, iris]
"""

RETURN = r"""
mended:
  description: What was damaged and has been mended, as a sentence. Empty if nothing was.
  returned: success
  type: str
  sample: ""
digest:
  description: Digest of the release that is active now.
  returned: success
  type: str
  sample: sha256:29dee44eca6eb59f5165a13483c3d57dffbaf6a8e144ef2566cf02c77d075a80
before:
  description: Digest of the release that was active before, empty if there was none.
  returned: success
  type: str
  sample: sha256:1f0f1a9b4b7f9f2b5a2f0a5b6a3ad7c51f0f1a9b4b7f9f2b5a2f0a5b6a3ad7c5
model_name:
  description: Name of the model that is served.
  returned: success
  type: str
  sample: breast-cancer
model_version:
  description: Version of the model in the model registry.
  returned: success
  type: str
  sample: "3"
bytes:
  description: Bytes fetched by this run.
  returned: success
  type: int
  sample: 14352
releases:
  description: Digests of the releases of the model on the device, the one activated last first.
  returned: success
  type: list
  elements: str
  sample: ["sha256:29dee44eca6eb59f5165a13483c3d57dffbaf6a8e144ef2566cf02c77d075a80"]
models:
  description:
    - Digest of the active release by model, of those that were looked at. The values above are
      empty where that is not exactly one.
  returned: success
  type: dict
  sample: {breast-cancer: "sha256:29dee44eca6eb59f5165a13483c3d57dffbaf6a8e144ef2566cf02c77d075a80"}
outcomes:
  description:
    - By model of O(releases), what bringing it here came to. Has C(failed) and C(msg), or the
      values above, and C(seconds).
  returned: with O(releases)
  type: dict
  sample: {breast-cancer: {changed: true, failed: false, seconds: 0.9}}
removed:
  description: Names of the models that were removed.
  returned: success
  type: list
  elements: str
  sample: []
unverified:
  description: A sentence for each model whose release was not signed by a key that is trusted now.
  returned: success
  type: list
  elements: str
  sample: []
seconds:
  description: How long it took.
  returned: always
  type: float
  sample: 0.9
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import Interrupted
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.device import (
    Device,
    open_device,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.settings import (
    SETTINGS_FILE,
    Settings,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.module_utils._release.oci import check_digest
from ansible_collections.mlops.onprem.plugins.module_utils._release.web import WebTransport

ARGUMENTS = {
    "digest": {"type": "str"},
    "model": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "models": {"type": "list", "elements": "str"},
    "releases": {"type": "dict"},
    "rollback": {"type": "bool", "default": False},
    "activate": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 60},
    "settings": {"type": "path", "default": SETTINGS_FILE},
}


def report(before: str | None, after: str, releases: Sequence[str]) -> dict[str, Any]:
    """What is the same for a real run and for a predicted one, of one model."""
    return {
        "before": before or "",
        "digest": after,
        "releases": list(releases),
        "diff": {
            "before_header": "active release",
            "after_header": "active release",
            "before": f"{before or 'none'}\n",
            "after": f"{after or 'none'}\n",
        },
    }


# What is said of one of several releases; the task has its own.
OF_ONE = ("failed", "seconds")
NOTHING: dict[str, Any] = {
    "changed": False,
    "mended": "",
    "bytes": 0,
    "model_name": "",
    "model_version": "",
    **report(None, "", ()),
}


def predict(device: Device, digest: str, params: dict[str, Any]) -> dict[str, Any]:
    """Say what a real run would do, having judged the release."""
    activate = params["activate"]
    answers = device.look(patient=False)
    model = device.name_of(check_digest(digest), params["model"] or "")
    before = device.state(model, answers)
    release, wanted = device.foresee(digest, before, activate, params["rollback"])
    after = digest if activate else before.current or ""
    releases = before.releases if digest in before.releases else (digest, *before.releases)
    return {
        "changed": wanted.needed,
        "mended": wanted.mend,
        "bytes": 0,
        "model_name": release.model_name,
        "model_version": release.model_version,
        **report(before.current, after, releases),
    }


def apply(device: Device, digest: str, params: dict[str, Any]) -> dict[str, Any]:
    """Bring a model of the device to the release."""
    done = device.release(digest, params["activate"], params["model"] or "", params["rollback"])
    return {
        "changed": done.done.needed,
        "mended": done.done.mend,
        "bytes": done.moved,
        "model_name": done.after.served.model_name or done.after.model,
        "model_version": done.after.served.model_version,
        **report(done.before.current, done.after.current or "", done.after.releases),
    }


def remove(device: Device, params: dict[str, Any], check_mode: bool) -> list[str]:
    """Remove what is not to be here; return the names of the models."""
    absent, names = params["state"] == "absent", params["models"]
    if not absent and names is None:
        return []
    if check_mode:
        answers = device.look(patient=False)
        if absent:
            return [params["model"]] if device.has(params["model"], answers) else []
        return device.others(names, answers)
    if absent:
        return [params["model"]] if device.remove(params["model"]) else []
    return device.keep_only(names)


def mend(
    device: Device, params: dict[str, Any], check_mode: bool, gone: Sequence[str]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Look at every model that is here again; one that may not be served is told, not more."""
    work = predict if check_mode else apply
    found, problems = {}, []
    for model in device.store.models():
        digest = device.wanted(model)
        if model in gone or params["model"] not in (None, model) or digest is None:
            continue
        try:
            found[model] = work(device, digest, {**params, "model": model})
        except RegistryError as error:
            if not device.distrust(model):
                problems.append(str(error))
    return found, problems


def each(device: Device, params: dict[str, Any], check_mode: bool) -> dict[str, dict[str, Any]]:
    """Bring one model after the other to its release; what fails is told of that model alone."""
    outcomes: dict[str, dict[str, Any]] = {}
    for model, digest in params["releases"].items():
        started = time.monotonic()
        try:
            work = predict if check_mode else apply
            row = {**work(device, str(digest), {**params, "model": model}), "failed": False}
        except (RegistryError, OSError, Interrupted) as error:
            row = {**NOTHING, "failed": True, "msg": str(error)}
        outcomes[model] = {**row, "seconds": round(time.monotonic() - started, 3)}
    return outcomes


def together(found: dict[str, dict[str, Any]], removed: list[str]) -> dict[str, Any]:
    """One answer about several models."""
    rows = list(found.values())
    result = dict(rows[0]) if len(rows) == 1 else dict(NOTHING)
    result["models"] = {model: row["digest"] for model, row in found.items()}
    result["removed"] = removed
    result["changed"] = bool(removed) or any(row["changed"] for row in rows)
    if len(rows) > 1:
        result["bytes"] = sum(row["bytes"] for row in rows)
        result["mended"] = " ".join(row["mended"] for row in rows if row["mended"])
    result["diff"] = [row["diff"] for row in rows if len(rows) == 1 or row["changed"]] + [
        {"before_header": f"model {name}", "before": f"{name}\n", "after": ""} for name in removed
    ]
    return result


def run(device: Device, params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Do what was asked for; raises RegistryError with what did not work."""
    removed = remove(device, params, check_mode)
    found: dict[str, dict[str, Any]] = {}
    if params["releases"] is not None:
        outcomes = each(device, params, check_mode)
        found = {
            model: {key: value for key, value in row.items() if key not in OF_ONE}
            for model, row in outcomes.items()
            if not row["failed"]
        }
        return {**together(found, removed), "outcomes": outcomes}
    if params["digest"]:
        row = (predict if check_mode else apply)(device, params["digest"], params)
        found = {row["model_name"]: row}
    elif params["state"] == "present":
        found, problems = mend(device, params, check_mode, removed)
        if problems:
            raise RegistryError(" ".join(problems))
    return together(found, removed)


def uninstalled(params: dict[str, Any]) -> dict[str, Any]:
    """What check mode says of a device that has no model serving yet."""
    digest = params["digest"] or ""
    return {
        **NOTHING,
        **report(None, digest if params["activate"] else "", (digest,) if digest else ()),
        "changed": bool(digest),
        "models": {},
        "removed": [],
        "unverified": [],
        "msg": "Model serving is not installed here yet"
        + ("; the release would be activated." if digest else "."),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
        required_if=[("state", "absent", ("model",))],
        mutually_exclusive=[("releases", other) for other in ("digest", "model", "models")],
    )
    params = module.params
    started = time.monotonic()

    def seconds() -> float:
        return round(time.monotonic() - started, 3)

    several = params["models"] is not None or params["releases"] is not None
    if params["state"] == "absent" and (params["digest"] or several):
        module.fail_json(msg="Give state: absent a model, and no digest, models or releases.")
    path = Path(params["settings"])
    if not path.exists():
        if module.check_mode or params["state"] == "absent":
            module.exit_json(seconds=seconds(), **uninstalled(params))
        module.fail_json(
            msg=f"The file {path} is not there; apply the role model_serving to this device first.",
            seconds=seconds(),
        )
    try:
        settings = Settings.parse(path.read_bytes(), str(path))
        device = open_device(
            settings,
            WebTransport(settings.ca_file),
            WebTransport(timeout=float(params["timeout"])),
            time.sleep,
            float(params["timeout"]),
        )
        result = run(device, params, module.check_mode)
        if not module.check_mode:
            device.tell()
        unverified = [said for said in device.complaints().values() if said]
    except RegistryError as error:
        module.fail_json(msg=str(error), seconds=seconds())
    except (OSError, Interrupted) as error:
        module.fail_json(
            msg=f"The release {params['digest'] or 'of this device'} was not activated: {error}.",
            seconds=seconds(),
        )
    for sentence in unverified:
        module.warn(sentence)
    failures = [row["msg"] for row in result.get("outcomes", {}).values() if row["failed"]]
    if failures:
        module.fail_json(msg=" ".join(failures), seconds=seconds(), unverified=unverified, **result)
    module.exit_json(seconds=seconds(), unverified=unverified, **result)


if __name__ == "__main__":
    main()
