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
  - Goes back to an older release by naming its digest, without the network if the device kept it.
  - Where to fetch from, the key to trust and how many releases to keep is written on the device by
    the role C(model_serving). The command C(/opt/mlops/model_serving_app/mlops-release) on the
    device does the same without Ansible.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  digest:
    description:
      - Digest of the release's manifest, as the step publish of the pipeline prints it.
      - Without it, the release that the device has is looked at again, and what is damaged of it on
        the disk is fetched anew. A device without a release is left as it is.
    type: str
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
    digest: sha256:29dee44eca6eb59f5165a13483c3d57dffbaf6a8e144ef2566cf02c77d075a80

- name: Fetch a release ahead of the maintenance window
  mlops.onprem.model_release:
    digest: sha256:29dee44eca6eb59f5165a13483c3d57dffbaf6a8e144ef2566cf02c77d075a80
    activate: false

- name: Fetch again what is damaged of the release that the device has
  mlops.onprem.model_release:
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
  description: Digests of the releases on the device, the one activated last first.
  returned: success
  type: list
  elements: str
  sample: ["sha256:29dee44eca6eb59f5165a13483c3d57dffbaf6a8e144ef2566cf02c77d075a80"]
seconds:
  description: How long it took.
  returned: always
  type: float
  sample: 0.9
"""

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._release.client import Interrupted
from ansible_collections.mlops.onprem.plugins.module_utils._release.device.device import (
    SETTINGS_FILE,
    Device,
    Served,
    Settings,
    State,
    open_device,
    plan,
)
from ansible_collections.mlops.onprem.plugins.module_utils._release.errors import RegistryError
from ansible_collections.mlops.onprem.plugins.module_utils._release.oci import check_digest
from ansible_collections.mlops.onprem.plugins.module_utils._release.web import WebTransport


def report(
    before: State, after_digest: str, activate: bool, releases: tuple[str, ...]
) -> dict[str, Any]:
    """Return what is the same for a real run and for a predicted one."""
    return {
        "before": before.current or "",
        "digest": after_digest,
        "releases": list(releases),
        "diff": {
            "before_header": "active release",
            "after_header": "active release",
            "before": f"{before.current or 'none'}\n",
            "after": f"{after_digest or 'none'}\n" if activate else f"{before.current or 'none'}\n",
        },
    }


def predict(device: Device, digest: str, activate: bool) -> dict[str, Any]:
    """Say what a real run would do, having judged the release."""
    before = device.state(patient=False)
    damage = device.damage(digest) if check_digest(digest) in before.releases else ""
    wanted = plan(before, digest, activate, damage=damage)
    if wanted.pull or wanted.mend:
        release, _manifest, _signature = device.inspect(digest)
    else:
        release = device.verify(digest)
    after = digest if activate else before.current or ""
    releases = before.releases if digest in before.releases else (digest, *before.releases)
    return {
        "changed": wanted.needed,
        "mended": wanted.mend,
        "bytes": 0,
        "model_name": release.model_name,
        "model_version": release.model_version,
        **report(before, after, activate, releases),
    }


def apply(device: Device, digest: str, activate: bool) -> dict[str, Any]:
    """Bring the device to the release."""
    before, after, done, moved = device.release(digest, activate)
    return {
        "changed": done.needed,
        "mended": done.mend,
        "bytes": moved,
        "model_name": after.served.model_name,
        "model_version": after.served.model_version,
        **report(before, after.current or "", activate, after.releases),
    }


NOTHING: dict[str, Any] = {
    "changed": False,
    "mended": "",
    "bytes": 0,
    "model_name": "",
    "model_version": "",
    **report(State(None, None, Served(None), ()), "", True, ()),
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "digest": {"type": "str"},
            "activate": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 60},
            "settings": {"type": "path", "default": SETTINGS_FILE},
        },
        supports_check_mode=True,
    )
    params = module.params
    started = time.monotonic()

    def seconds() -> float:
        return round(time.monotonic() - started, 3)

    path = Path(params["settings"])
    if not path.exists():
        if module.check_mode:
            none = State(None, None, Served(None), ())
            module.exit_json(
                changed=params["digest"] is not None,
                bytes=0,
                mended="",
                model_name="",
                model_version="",
                seconds=seconds(),
                msg="Model serving is not installed here yet"
                + ("; the release would be activated." if params["digest"] else "."),
                **report(
                    none,
                    params["digest"] or "",
                    params["activate"],
                    (params["digest"],) if params["digest"] else (),
                ),
            )
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
        work = predict if module.check_mode else apply
        digest = params["digest"] or device.current
        result = work(device, digest, params["activate"]) if digest else NOTHING
    except RegistryError as error:
        module.fail_json(msg=str(error), seconds=seconds())
    except (OSError, Interrupted) as error:
        module.fail_json(
            msg=f"The release {params['digest'] or 'of this device'} was not activated: {error}.",
            seconds=seconds(),
        )
    module.exit_json(seconds=seconds(), **result)


if __name__ == "__main__":
    main()
